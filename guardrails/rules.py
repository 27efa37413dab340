"""Rules that need no counter: which models, providers, addresses and members, and how budgets are applied.

Pure. Lists of what is allowed intersect along the path: a thing must be in every list there is. What any list blocks
is blocked, whatever allows it. An empty list restricts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Literal

import msgspec

Kind = Literal["models", "blocked_models", "providers", "addresses", "members"]
# What a budget does where no policy on the path says otherwise.
DEFAULT_CLAMP_LEAST_TOKENS = 16


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One list, and who set it: `level` and `node` of the subject it is bound to."""

    kind: Kind
    entries: tuple[str, ...]
    level: str
    node: str
    policy: str

    def names(self, wanted: str) -> bool:
        """Whether a model or provider is in the list; `*` and `?` stand for any characters, case does not count."""
        wanted = wanted.lower()
        return any(fnmatchcase(wanted, entry.lower()) for entry in self.entries)


class Approval(msgspec.Struct, frozen=True):
    """Models first offered after `since_ms` may be called only where one of the requests for them was approved."""

    since_ms: int
    approved: frozenset[str] = frozenset()


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """All rules on a path, most specific first, and the switches in force."""

    rules: tuple[Rule, ...] = ()
    clamp: bool = True
    clamp_least_tokens: int = DEFAULT_CLAMP_LEAST_TOKENS
    observed_holds: bool = False
    approval: Approval | None = None

    def of(self, kind: Kind) -> Iterable[Rule]:
        return [rule for rule in self.rules if rule.kind == kind and rule.entries] if self.rules else ()

    def against_model(self, model: str) -> Rule | None:
        """The rule that keeps this model from being called.

        A model may be called as `<provider>/<its own name>`, too: what is blocked by its own name is blocked there as well.
        What is allowed by its own name is not, since another name may be another provider.
        """
        own = model.partition("/")[2]
        blocking = next((rule for rule in self.of("blocked_models") if rule.names(model) or (own and rule.names(own))), None)
        return blocking or next((rule for rule in self.of("models") if not rule.names(model)), None)

    def needs_approval(self, model: str, *, first_offered_ms: float) -> bool:
        approval = self.approval
        return approval is not None and first_offered_ms > approval.since_ms and model not in approval.approved

    def against_provider(self, provider: str) -> Rule | None:
        return next((rule for rule in self.of("providers") if not rule.names(provider)), None)

    def against_address(self, address: str) -> Rule | None:
        """An address that nobody knows is in no list."""
        return next((rule for rule in self.of("addresses") if not _within(address, rule.entries)), None)

    def against_member(self, member_id: int | None) -> Rule | None:
        """A key of an application has no member: lists of members do not concern it."""
        if member_id is None:
            return None
        return next((rule for rule in self.of("members") if str(member_id) not in rule.entries), None)


def _within(address: str, networks: tuple[str, ...]) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    same = {found, getattr(found, "ipv4_mapped", None) or found}
    return any(one in network for network in _networks(networks) for one in same)


@lru_cache(maxsize=1024)
def _networks(entries: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(entry, strict=False) for entry in entries)
