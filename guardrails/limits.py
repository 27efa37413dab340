"""The limits that apply to one key: every subject on its path, every policy bound to any of them.

A subject is what has a counter: `org`, `g<id>` (groups of level 1–4), `m<id>` (the member, all keys),
`k<id>` (the key), `a<id>` (the application) and `pool` (the organisation's prepaid credit). Every call
counts on every subject of its path, limited or not, so a limit set tomorrow knows today's spending.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from guardrails import counters
from guardrails.rules import Rules
from orgs.access import Principal

ORGANIZATION = "org"
POOL = "pool"

Kind = Literal["budget", "rpm", "tpm", "rpd", "parallel", "max_tokens"]
# What the scripts call the kinds that they judge; a budget that counts calls on own provider keys is a kind of its own there.
LETTERS = {"budget": "b", "rpm": "r", "tpm": "t", "rpd": "d", "parallel": "p"}
WIDE_BUDGET = "w"
# With a limit from here on sums are taken in two limbs there: five amounts might exceed what a double holds exactly.
LARGE = 4 * 10**15
RATES = ("rpm", "tpm")
WINDOW_WORDS = {
    "day": "today",
    "week": "this week",
    "month": "this month",
    "quarter": "this quarter",
    "year": "this year",
    "total": "in total",
    "minute": "per minute",
    "now": "at the same time",
    "call": "per call",
}


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One limit. `value`: nano-dollars of a budget, else a count, with what overrides add.

    `subject` indexes `Limits.subjects`. `starts_ms` and `ends_ms` bound its window; `until_ms` is when `value` changes
    by itself, at the end of the window at the latest. `forgiven` is the part of `value` that a reset added.
    `keep`: where less than this would be left after a call, calls go to `degrade_model`. `counts_byok`: a budget counts
    what calls on the organisation's own provider keys cost by the list, too.
    """

    id: int
    kind: Kind
    window: str
    value: int
    subject: int
    level: str
    node: str
    policy: str
    starts_ms: int = 0
    ends_ms: int = 0
    until_ms: int = 0
    forgiven: int = 0
    keep: int | None = None
    degrade_model: str = ""
    counts_byok: bool = False

    @property
    def is_pool(self) -> bool:
        return self.level == "credit pool"

    @property
    def shown_value(self) -> int:
        """What people know it by: a reset starts counting anew, it does not raise the limit."""
        return self.value - self.forgiven


class Limits(msgspec.Struct, frozen=True):
    """Compiled for one key at one moment; `limits` most specific first.

    What the scripts read of it at every call is made once: names of the counters and rates, in the order of
    `subjects`, the positions of subjects whose tokens or running calls are counted, and the limits packed.
    """

    organization_id: int
    generation: str
    subjects: tuple[str, ...]
    limits: tuple[Limit, ...]
    rules: Rules = Rules()
    judged: tuple[Limit, ...] = ()
    counter_keys: tuple[bytes, ...] = ()
    rate_keys: tuple[bytes, ...] = ()
    counted: str = ""
    packed: bytes = b""
    # When the first of them changes by itself; 0: never.
    until_ms: int = 0

    def __post_init__(self) -> None:
        judged = tuple(limit for limit in self.limits if limit.kind in LETTERS)
        # Rates are few: where no limit is one, their names need not travel.
        rated = self.subjects if any(limit.kind in RATES for limit in judged) else ()
        names = counters.counters(self.organization_id, self.generation, self.subjects)
        rates = counters.rates(self.organization_id, self.generation, rated)
        positions = (",".join(_positions(judged, kind)) for kind in ("tpm", "parallel"))
        for name, value in (
            ("judged", judged),
            ("counter_keys", tuple(key.encode() for key in names)),
            ("rate_keys", tuple(key.encode() for key in rates)),
            ("counted", "|".join(positions)),
            ("packed", b"".join(map(msgspec.msgpack.encode, script_words(judged, len(self.subjects))))),
            ("until_ms", min((limit.until_ms for limit in self.limits if limit.until_ms > 0), default=0)),
        ):
            msgspec.structs.force_setattr(self, name, value)

    @property
    def max_tokens(self) -> Limit | None:
        """The tightest bound on the output of one call."""
        bounds = [limit for limit in self.limits if limit.kind == "max_tokens"]
        return min(bounds, key=lambda limit: limit.value, default=None)

    def is_over(self, now_ms: float) -> bool:
        """Whether some of it has changed by the passing of time alone."""
        return 0 < self.until_ms <= now_ms


def script_words(judged: Sequence[Limit], subjects: int) -> list[str | int | bool]:
    """The limits as lua/admit.lua reads them, with the names of the fields that each of so many subjects counts them in."""
    changing = [limit for limit in judged if limit.until_ms]
    starts = max((limit.starts_ms for limit in changing), default=0)
    ends = min((limit.until_ms for limit in changing), default=0)
    large = any(abs(limit.value) >= LARGE for limit in judged)
    fields: list[list[str]] = [[] for _ in range(subjects)]
    words = [word for limit in judged for word in _words(limit, fields[limit.subject], large=large)]
    names: list[str | int] = []
    for of_one in fields:
        names += [len(of_one), *of_one]
    return [starts, ends, large, len(judged), *words, *names]


def _words(limit: Limit, fields: list[str], *, large: bool) -> tuple[str | int | bool, ...]:
    counted = _fields(limit)
    if counted and counted[0] not in fields:
        fields += counted
    amount = str if large and limit.kind == "budget" else int
    return (
        WIDE_BUDGET if limit.counts_byok else LETTERS[limit.kind],
        limit.subject + 1,
        amount(limit.value),
        False if limit.keep is None else amount(limit.value - limit.keep),
        fields.index(counted[0]) + 1 if counted else 0,
    )


def _fields(limit: Limit) -> tuple[str, ...]:
    """Of the subject's counter (lua/load.lua): what a budget's window began with, how many calls a day has seen or run now."""
    if limit.kind == "rpd":
        return (f"q:{limit.starts_ms}",)
    if limit.kind == "parallel":
        return ("live",)
    if limit.kind == "budget" and limit.starts_ms:
        return (f"b:{limit.starts_ms}", f"o:{limit.starts_ms}")
    return ()


def _positions(limits: tuple[Limit, ...], kind: str) -> list[str]:
    return [str(position) for position in sorted({limit.subject + 1 for limit in limits if limit.kind == kind})]


class Subject(msgspec.Struct, frozen=True):
    name: str
    level: str
    node: str


def path_subjects(principal: Principal) -> list[Subject]:
    """Most specific first: key, application, member, groups upwards, organisation, credit pool."""
    subjects = [Subject(f"k{principal.key_id}", "key", principal.key_name)]
    if principal.application_id is not None:
        subjects.append(Subject(f"a{principal.application_id}", "application", principal.application_name))
    if principal.member_id is not None:
        subjects.append(Subject(f"m{principal.member_id}", "member", principal.member_name))
    subjects += [Subject(f"g{node.id}", "group", node.name) for node in reversed(principal.path) if node.level > 0]
    subjects.append(Subject(ORGANIZATION, "organization", principal.organization_name))
    subjects.append(Subject(POOL, "credit pool", principal.organization_name))
    return subjects
