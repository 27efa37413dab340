"""A period of the ledger, call by call, under limits that were not there. Pure: rows come in, refusals go out.

The same rules as admission (guardrails/lua/admit.lua), with what history knows in place of what an admission knows:

* A budget holds where spent so far + what the call cost stays within it. An admission reckons with the worst case
  instead, so near a limit it refuses a little earlier, or clamps.
* What a call on an own provider key cost counts in budgets that say so, and no other judges it.
* A call counts in the budget window in which it was recorded. Requests per day, rates and the order of calls go by the
  time of admission, which the call's id holds.
* A call that would have been refused was never made: it counts in no later sum.
* Rates are the last 60 one-second buckets. They start at nothing.
* A call ran for as long as its row says; one whose row does not, until it was recorded. Calls at the same time are counted
  from the period's beginning on, too.
* Providers are allowed where one of those is that could have taken the call then. That another answers changes no cost here.
* Rules on models and members come first, then the bound on output, providers, the budget with least room, and rates with calls
  at the same time; on a tie the most specific.
* A member's budget counts all of the member's calls, but judges only those below the group that was named.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from heapq import heappop, heappush
from typing import NamedTuple
from uuid import UUID

from guardrails import windows
from guardrails.rules import Rule, Rules
from proxy.simulating.proposal import Limit, Proposal
from proxy.simulating.tally import Tally

# Groups of levels 0 to 4, member, key, application.
Path = tuple[int | None, ...]
# Call id; second it was recorded in; nano-dollars charged; all tokens; output tokens; False for an adjusting entry; model;
# nano-dollars that it cost on an own provider key; milliseconds it ran; providers that could have taken it, one a line, where
# the proposal asks for them; *Path.
Row = tuple[UUID, int, int, int, int, bool, str, int, int | None, str, *Path]
MEMBER, KEY, APPLICATION = 5, 6, 7
WHOLE = 0
RATES = ("rpm", "tpm", "rpd", "parallel")
KINDS: tuple[windows.Kind, ...] = (*windows.BOUNDED, "total")


class Windows:
    """Starts of the windows of one kind, as seconds; those met are remembered."""

    __slots__ = ("_calendar", "_ends", "_from", "_kind", "_starts", "_until")

    def __init__(self, kind: windows.Kind, calendar: windows.Calendar) -> None:
        self._kind, self._calendar = kind, calendar
        self._starts: list[int] = []
        self._ends: list[int] = []
        # In total there is one window.
        self._from, self._until = (WHOLE, 1 << 62) if kind == "total" else (0, 0)

    def start(self, second: int) -> int:
        if self._from <= second < self._until:
            return self._from
        at = bisect_right(self._starts, second)
        if at and second < self._ends[at - 1]:
            self._from, self._until = self._starts[at - 1], self._ends[at - 1]
            return self._from
        found = windows.containing(datetime.fromtimestamp(second, tz=UTC), self._kind, self._calendar)
        if found.starts_at is None or found.ends_at is None:
            raise ValueError("every window but the one in total has bounds")
        self._from, self._until = int(found.starts_at.timestamp()), int(found.ends_at.timestamp())
        self._starts.insert(at, self._from)
        self._ends.insert(at, self._until)
        return self._from


class Recent:
    """A sum over the last 60 seconds, in one-second buckets. Seconds never go back."""

    __slots__ = ("_buckets", "_sum")

    def __init__(self) -> None:
        self._buckets: deque[list[int]] = deque()
        self._sum = 0

    def seen(self, second: int) -> int:
        buckets = self._buckets
        while buckets and buckets[0][0] <= second - 60:
            self._sum -= buckets.popleft()[1]
        return self._sum

    def add(self, second: int, amount: int) -> None:
        if self._buckets and self._buckets[-1][0] == second:
            self._buckets[-1][1] += amount
        else:
            self._buckets.append([second, amount])
        self._sum += amount


class Running:
    """Calls at the same time. Moments, in milliseconds, never go back."""

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        self._ends: list[int] = []

    def seen(self, at: int) -> int:
        while self._ends and self._ends[0] <= at:
            heappop(self._ends)
        return len(self._ends)

    def add(self, ends: int) -> None:
        heappush(self._ends, ends)


class Verdict(NamedTuple):
    """Number of the limit or rule, and the subject that it applies to."""

    number: int
    subject: str


class Budget(NamedTuple):
    """`is_wide`: it counts what calls on own provider keys cost, too."""

    verdict: Verdict
    value: int
    windows: Windows
    sums: dict[int, int]
    is_wide: bool


class Rate(NamedTuple):
    """Exactly one of `recent` (rpm, tpm), `days` (requests per day) and `running` (calls at the same time) is there."""

    verdict: Verdict
    value: int
    recent: Recent | None = None
    days: dict[int, int] | None = None
    running: Running | None = None
    of_tokens: bool = False


class Lane(NamedTuple):
    """Everything that calls with one path are judged by and counted in. `models` and `providers` remember what rules say of
    those met; no `providers`: every one is allowed."""

    budgets: list[Budget]
    rates: list[Rate]
    bound: tuple[int, Verdict] | None
    rules: Rules
    member_id: int | None
    models: dict[str, Verdict | None]
    providers: dict[str, Verdict | None] | None
    spends: list[tuple[Windows, dict[int, int], bool]]
    days: list[dict[int, int]]
    recents: list[tuple[Recent, bool]]
    runnings: list[Running]
    governed: bool


def kinds_of_budgets(proposal: Proposal) -> list[windows.Kind]:
    found = {limit.window for limit in proposal.limits if limit.kind == "budget"}
    return [kind for kind in KINDS if kind in found]


class Replay:
    """Feed it history with `count`, then rows in the order of their ids with `judge`; `tally` holds the outcome."""

    def __init__(self, proposal: Proposal, *, calendar: windows.Calendar) -> None:
        self.proposal = proposal
        kinds = kinds_of_budgets(proposal)
        self._windows: dict[str, Windows] = {kind: Windows(kind, calendar) for kind in kinds}
        self._days = Windows("day", calendar)
        self._sorts = {(limit.window, limit.counts_byok) for limit in proposal.limits if limit.kind == "budget"}
        self._spent: dict[tuple[str, str, bool], dict[int, int]] = {}
        self._called: dict[str, dict[int, int]] = {}
        self._recent: dict[tuple[str, str], Recent] = {}
        self._running: dict[str, Running] = {}
        self._lanes: dict[Path, Lane] = {}
        self.asks_providers = any(rule.kind == "providers" and rule.entries for rule in proposal.rules)
        self.tally = Tally()

    def count(self, path: Path, *, recorded: int, charged: int, own: int = 0) -> None:
        """Spend from before the period; `recorded` in seconds."""
        _spend(self._lane(path), recorded, charged, own)

    def judge(self, rows: Iterable[Row]) -> None:
        for row in rows:
            path = row[10:]
            lane = self._lanes.get(path) or self._lane(path)
            if not row[5]:
                self.count(path, recorded=row[1], charged=row[2], own=row[7])
                continue
            at = row[0].int >> 80
            second = at // 1000
            if lane.governed:
                day = self._days.start(second)
                verdict = _against(lane, row, at, day)
                if verdict is not None:
                    self.tally.refuse(row, at=at, day=day, verdict=verdict, window=self._window(verdict, row[1], day))
                    continue
                self.tally.let_through(row[2], day=day)
            self._add(lane, row, at)

    def _add(self, lane: Lane, row: Row, at: int) -> None:
        second = at // 1000
        _spend(lane, row[1], row[2], row[7])
        for days in lane.days:
            start = self._days.start(second)
            days[start] = days.get(start, 0) + 1
        for recent, of_tokens in lane.recents:
            recent.add(second, row[3] if of_tokens else 1)
        for running in lane.runnings:
            running.add(row[1] * 1000 if row[8] is None else at + row[8])

    def _window(self, verdict: Verdict, recorded: int, day: int) -> int:
        """Start of the window that the limit was judged in; a day for rates, the whole for what has no window."""
        limits = self.proposal.limits
        if verdict.number >= len(limits) or limits[verdict.number].kind == "max_tokens":
            return WHOLE
        limit = limits[verdict.number]
        return self._windows[limit.window].start(recorded) if limit.kind == "budget" else day

    def _lane(self, path: Path) -> Lane:
        lane = self._lanes.get(path)
        if lane is None:
            lane = self._lanes[path] = self._built(path)
        return lane

    def _built(self, path: Path) -> Lane:
        subjects = self._subjects(path)
        governing = [name for name, governs in subjects if governs]
        limits = [(Verdict(number, name), limit) for name in governing for number, limit in enumerate(self.proposal.limits)]
        rates = [self._rate(verdict, limit) for verdict, limit in limits if limit.kind in RATES]
        has_days = any(limit.kind == "rpd" for limit in self.proposal.limits)
        return Lane(
            budgets=[self._budget(verdict, limit) for verdict, limit in limits if limit.kind == "budget"],
            rates=rates,
            bound=next(((limit.value, verdict) for verdict, limit in limits if limit.kind == "max_tokens"), None),
            rules=self._rules(governing),
            member_id=path[MEMBER],
            models={},
            providers={} if self.asks_providers else None,
            spends=[
                (self._windows[kind], self._sums(name, kind, is_wide), is_wide)
                for name, _ in subjects
                for kind, is_wide in self._sorts
            ],
            days=[self._called.setdefault(name, {}) for name, _ in subjects] if has_days else [],
            recents=[(rate.recent, rate.of_tokens) for rate in rates if rate.recent is not None],
            runnings=[rate.running for rate in rates if rate.running is not None],
            governed=bool(governing),
        )

    def _subjects(self, path: Path) -> list[tuple[str, bool]]:
        """Those with counters on this path, most specific first, and whether calls with this path are judged by them."""
        targets: dict[str, set[int | None]] = {"group": set(), "members": set(), "keys": set(), "application": set()}
        for target in self.proposal.targets:
            targets[target.kind].add(target.id)
        groups = {group for group in path[:MEMBER] if group is not None}
        found = []
        if path[KEY] is not None and targets["keys"]:
            found.append((f"k{path[KEY]}", bool(groups & targets["keys"])))
        if path[APPLICATION] in targets["application"]:
            found.append((f"a{path[APPLICATION]}", True))
        if path[MEMBER] is not None and targets["members"]:
            found.append((f"m{path[MEMBER]}", bool(groups & targets["members"])))
        found += [(f"g{path[level]}", True) for level in range(4, 0, -1) if path[level] in targets["group"]]
        return [*found, ("org", True)] if path[0] in targets["group"] else found

    def _sums(self, subject: str, window: str, is_wide: bool) -> dict[int, int]:
        return self._spent.setdefault((subject, window, is_wide), {})

    def _budget(self, verdict: Verdict, limit: Limit) -> Budget:
        is_wide = limit.counts_byok
        sums = self._sums(verdict.subject, limit.window, is_wide)
        return Budget(verdict, limit.value, self._windows[limit.window], sums, is_wide)

    def _rate(self, verdict: Verdict, limit: Limit) -> Rate:
        if limit.kind == "rpd":
            return Rate(verdict, limit.value, days=self._called.setdefault(verdict.subject, {}))
        if limit.kind == "parallel":
            return Rate(verdict, limit.value, running=self._running.setdefault(verdict.subject, Running()))
        recent = self._recent.setdefault((verdict.subject, limit.kind), Recent())
        return Rate(verdict, limit.value, recent, of_tokens=limit.kind == "tpm")

    def _rules(self, governing: list[str]) -> Rules:
        """The node of each says the verdict: "<number> <subject>"."""
        first = len(self.proposal.limits)
        return Rules(
            rules=tuple(
                Rule(kind=rule.kind, entries=rule.entries, level="", node=f"{first + index} {name}", policy="")
                for name in governing
                for index, rule in enumerate(self.proposal.rules)
            )
        )


def _spend(lane: Lane, recorded: int, charged: int, own: int) -> None:
    for window, sums, is_wide in lane.spends:
        start = window.start(recorded)
        sums[start] = sums.get(start, 0) + (charged + own if is_wide else charged)


def _against(lane: Lane, row: Row, at: int, day: int) -> Verdict | None:
    """What refuses the call."""
    model = row[6]
    if model not in lane.models:
        lane.models[model] = _verdict(lane.rules.against_member(lane.member_id) or lane.rules.against_model(model))
    ruled_out = lane.models[model]
    if ruled_out is not None:
        return ruled_out
    if lane.bound is not None and row[4] > lane.bound[0]:
        return lane.bound[1]
    if lane.providers is not None and (unserved := _unserved(lane, lane.providers, row[9])) is not None:
        return unserved
    return _short_budget(lane, row) or _full_rate(lane, row, at, day)


def _unserved(lane: Lane, known: dict[str, Verdict | None], providers: str) -> Verdict | None:
    """What is said of the first where none of the providers is allowed. Of a call that reached none nobody knows."""
    if providers not in known:
        found = [lane.rules.against_provider(provider) for provider in providers.split("\n") if provider]
        known[providers] = _verdict(found[0]) if found and all(found) else None
    return known[providers]


def _verdict(rule: Rule | None) -> Verdict | None:
    if rule is None:
        return None
    number, _, subject = rule.node.partition(" ")
    return Verdict(int(number), subject)


def _short_budget(lane: Lane, row: Row) -> Verdict | None:
    """The one with the least room."""
    short, least = None, 0
    for verdict, value, window, sums, is_wide in lane.budgets:
        if row[7] and not is_wide:
            continue
        room = value - sums.get(window.start(row[1]), 0)
        if room < row[2] + row[7] and (short is None or room < least):
            short, least = verdict, room
    return short


def _full_rate(lane: Lane, row: Row, at: int, day: int) -> Verdict | None:
    for verdict, value, recent, days, running, of_tokens in lane.rates:
        if recent is not None:
            seen = recent.seen(at // 1000)
        else:
            seen = running.seen(at) if running is not None else (days or {}).get(day, 0)
        if seen + (row[3] if of_tokens else 1) > value:
            return verdict
    return None
