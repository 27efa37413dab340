"""Limits and rules in words. Pure."""

from __future__ import annotations

from gateway_project.lib.money import limit_usd
from proxy.simulating.proposal import Limit, Proposal, Rule

RULES = {
    "models": "allowed models",
    "blocked_models": "blocked models",
    "providers": "allowed providers",
    "members": "allowed members",
}
COUNTS = {
    "rpm": "requests per minute",
    "tpm": "tokens per minute",
    "rpd": "requests per day",
    "parallel": "calls at the same time",
    "max_tokens": "output tokens per call",
}
SHOWN_ENTRIES = 6


def words(proposal: Proposal) -> list[str]:
    """Each limit and rule by its number."""
    return [*(_limit(limit) for limit in proposal.limits), *(_rule(rule) for rule in proposal.rules)]


def title(proposal: Proposal, *, longest: int) -> str:
    """What it is called where nobody names it."""
    found = ", ".join(words(proposal))
    found = found[:1].upper() + found[1:]
    return found if len(found) <= longest else f"{found[: longest - 1].rstrip(', ')}…"


def _limit(limit: Limit) -> str:
    if limit.kind == "budget":
        own = ", own keys count" if limit.counts_byok else ""
        return f"{limit_usd(limit.value)} {'in total' if limit.window == 'total' else f'per {limit.window}'}{own}"
    return f"{limit.value:,} {COUNTS[limit.kind]}"


def _rule(rule: Rule) -> str:
    if rule.kind == "members":
        return f"{len(rule.entries)} {RULES[rule.kind]}"
    more = len(rule.entries) - SHOWN_ENTRIES
    return f"{RULES[rule.kind]}: {', '.join(rule.entries[:SHOWN_ENTRIES])}{f' and {more} more' if more > 0 else ''}"
