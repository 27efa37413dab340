"""What a simulation tries: a policy and whom it would apply to. Pure; stored as JSON with the simulation."""

from __future__ import annotations

from typing import Literal

import msgspec

from guardrails import windows

LimitKind = Literal["budget", "rpm", "tpm", "rpd", "parallel", "max_tokens"]
RuleKind = Literal["models", "blocked_models", "providers", "members"]
TargetKind = Literal["group", "members", "keys", "application"]


class Limit(msgspec.Struct, frozen=True):
    """`value`: nano-dollars of a budget, else a count. `window`: of a budget; "day", "minute", "now" and "call" of the others.

    `counts_byok`: a budget counts calls on own provider keys, too.
    """

    kind: LimitKind
    window: windows.Kind | Literal["minute", "now", "call"]
    value: int
    counts_byok: bool = False


class Rule(msgspec.Struct, frozen=True):
    """An empty list restricts nothing. Members are ids of users, as text."""

    kind: RuleKind
    entries: tuple[str, ...]


class Target(msgspec.Struct, frozen=True):
    """Whom it applies to: a group (the root is the organisation), each member or each key below a group, an application."""

    kind: TargetKind
    id: int


class Proposal(msgspec.Struct, frozen=True):
    """A limit or rule is known by its number: limits first, in their order, then rules. `left_out`: what cannot be replayed."""

    limits: tuple[Limit, ...]
    rules: tuple[Rule, ...]
    targets: tuple[Target, ...]
    left_out: tuple[str, ...] = ()
