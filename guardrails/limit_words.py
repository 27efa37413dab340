"""How pages name limits and rules: their title, the unit of their figures, and where they stand."""

from __future__ import annotations

from guardrails.limits import WINDOW_WORDS

KINDS = {
    "budget": "Budget",
    "rpm": "Requests per minute",
    "tpm": "Tokens per minute",
    "rpd": "Requests per day",
    "parallel": "Parallel calls",
    "max_tokens": "Output tokens per call",
    "keys": "API keys",
    "seats": "Members",
    "models": "Allowed models",
    "blocked_models": "Blocked models",
    "providers": "Allowed providers",
    "addresses": "Allowed addresses",
    "members": "Allowed members",
    "attribution": "Attribution",
    "approval": "Approval of new models",
    "zdr_only": "Zero data retention",
    "expiry": "Valid until",
    "key": "The key itself",
}
LEVELS = {"key": "Key", "application": "Application", "member": "Member", "group": "Group", "organization": "Organisation"}
# What a count of each kind is of, after its number.
NOUNS = {
    "rpm": "requests",
    "rpd": "requests",
    "tpm": "tokens",
    "parallel": "calls",
    "max_tokens": "tokens",
    "keys": "keys",
    "seats": "members",
}


def title(kind: str, window: str) -> str:
    """A budget is told apart from others by its window, each other kind by its name alone."""
    return f"Budget {WINDOW_WORDS.get(window, window)}" if kind == "budget" else KINDS.get(kind, kind.replace("_", " "))


def unit(kind: str) -> str:
    """As the limit meter takes it: usd for nano-dollars, tokens, or count."""
    return {"budget": "usd", "tpm": "tokens", "max_tokens": "tokens"}.get(kind, "count")


def level(name: str) -> str:
    return LEVELS.get(name, name.capitalize())
