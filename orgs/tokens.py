"""The text of a personal access token, `gh_pat_<public id>_<secret>`, and what one may be made for.

A token acts as its person, with that person's rights at that moment, and only in its scopes: "<resource>:read" or
"<resource>:write", which includes reading.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from orgs.keys import KeyText, new_key_text

PREFIX = "gh_pat"
TEXT = re.compile(r"gh_pat_([a-z0-9]{12})_[A-Za-z0-9]{43}")
RESOURCES = (
    "organizations", "groups", "members", "invites", "roles", "keys", "applications",
    "policies", "requests", "simulations", "usage", "ledger", "credit", "audit",
)  # fmt: skip
# Where people call a resource otherwise than programs do.
LABELS = {"organizations": "Organisations", "invites": "Invitations"}
# What nothing can be written to.
READ_ONLY = frozenset({"usage", "ledger", "credit", "audit"})
SCOPES = tuple(
    f"{resource}:{access}"
    for resource in RESOURCES
    for access in ("read", "write")
    if access == "read" or resource not in READ_ONLY
)

# Of every resource the most that its access allows; writing includes reading.
WHOLE = {
    "read": frozenset(f"{resource}:read" for resource in RESOURCES),
    "write": frozenset(f"{resource}:{'read' if resource in READ_ONLY else 'write'}" for resource in RESOURCES),
}


def label(resource: str) -> str:
    return LABELS.get(resource, resource.capitalize())


def shown(scopes: list[str]) -> list[str]:
    """As a list of tokens tells them: one for everything in one."""
    whole = next((access for access, every in WHOLE.items() if every == set(scopes)), "")
    return [f"everything:{whole}"] if whole else scopes


class TokenText(NamedTuple):
    public_id: str
    text: str
    last_four: str


def new_token_text() -> TokenText:
    made: KeyText = new_key_text()
    return TokenText(made.public_id, f"{PREFIX}_{made.public_id}_{made.secret}", made.last_four)


def allows(scopes: list[str], *, resource: str, write: bool) -> bool:
    return f"{resource}:write" in scopes or (not write and f"{resource}:read" in scopes)
