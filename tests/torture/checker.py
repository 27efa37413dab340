"""The judge: from what clients saw and what the ledger holds, never from the engine's own counters.

Overshoot      What was charged in a window never exceeds the limit. Where the limit changed: of the calls recorded by a moment
               the last one admitted was admitted with all others charged or held, so their sum must fit a limit that was in
               force between its own beginning and that moment.
Phantom        A refusal for money is legitimate if spent, plus the worst case of every call that may have held anything at some
               moment of the request, plus its own worst case, exceeds a limit in force then. If even that leaves room, it is not.
Lost row       A complete answer without its one `ok` row, or with one that charges less than usage × price.
Double charge  A call id with two rows, more than usage × price, or a charged row that no client's call explains.
Unsettled hold Anything still held when nothing runs.
Differing      A counter that does not show the ledger's sum when nothing runs.
Closed key     A call that began, or was admitted and charged, after its key had been closed; a stream that went on (closed.py).
Not done       Something the run was asked to do and did not: it proves less than it says (ordered.py).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from tests.torture.closed import served
from tests.torture.history import Budget, Call, Finding, History, Row, Window
from tests.torture.holding import Holds
from tests.torture.ordered import not_done

# A request may be read by a worker that starts after its client has left.
LATE_SECONDS = 15.0


@dataclass(slots=True)
class Verdict:
    overshoot: list[Finding] = field(default_factory=list)
    phantom: list[Finding] = field(default_factory=list)
    lost: list[Finding] = field(default_factory=list)
    double: list[Finding] = field(default_factory=list)
    unsettled: list[Finding] = field(default_factory=list)
    differing: list[Finding] = field(default_factory=list)
    closed: list[Finding] = field(default_factory=list)
    not_done: list[Finding] = field(default_factory=list)
    # What calls of models that charge for input cost beyond what was held: the error of the estimate, no failure.
    slack_nano_usd: int = 0

    @property
    def findings(self) -> dict[str, list[Finding]]:
        return {
            "overshoot": self.overshoot,
            "phantom refusals": self.phantom,
            "lost rows": self.lost,
            "double charges": self.double,
            "unsettled holds": self.unsettled,
            "differing counters": self.differing,
            "closed keys served": self.closed,
            "not done": self.not_done,
        }

    @property
    def sound(self) -> bool:
        return not any(self.findings.values())


def judge(history: History) -> Verdict:
    rows = {row.call_id: row for row in history.rows}
    verdict = Verdict(slack_nano_usd=sum(map(_slack, history.rows)))
    spending = Spending(history)
    for budget in history.budgets:
        verdict.overshoot += _overshoot(budget, history, spending)
    verdict.phantom = _phantoms(history, rows, spending)
    verdict.lost = [finding for call in history.calls for finding in _lost(call, rows)]
    verdict.double = _doubles(history, rows)
    verdict.unsettled = [
        Finding(card.held, f"{card.node}, {card.window}: {card.held} held when nothing ran (key {card.key})")
        for card in history.cards
        if card.held
    ]
    verdict.differing = _differing(history, spending)
    verdict.closed = served(history)
    verdict.not_done = not_done(history)
    return verdict


class Spent(NamedTuple):
    """The rows of one subject in one window by their moment, with the sum of charges up to each."""

    rows: list[Row]
    moments: list[float]
    sums: list[int]

    def until(self, moment: float) -> int:
        """Recorded at that moment or before."""
        count = bisect_right(self.moments, moment)
        return self.sums[count - 1] if count else 0


NOTHING = Spent([], [], [])


class Spending:
    """The ledger's sums by subject and window."""

    def __init__(self, history: History) -> None:
        self._by_window: dict[tuple[str, Window, str], Spent] = {}
        wanted: defaultdict[str, set[Window]] = defaultdict(set)
        for budget in history.budgets:
            wanted[budget.subject].add(budget.window)
        found: defaultdict[tuple[str, Window, str], list[Row]] = defaultdict(list)
        for row in sorted(history.rows, key=lambda row: row.recorded):
            for subject in row.subjects:
                for kind in wanted[subject]:
                    found[subject, kind, history.window(kind, row.recorded)].append(row)
        for name, rows in found.items():
            sums = list(accumulate(row.charged for row in rows))
            self._by_window[name] = Spent(rows, [row.recorded for row in rows], sums)

    def windows(self, budget: Budget) -> list[tuple[str, Spent]]:
        return [
            (window, spent)
            for (subject, kind, window), spent in self._by_window.items()
            if (subject, kind) == (budget.subject, budget.window)
        ]

    def of(self, budget: Budget, window: str) -> Spent:
        return self._by_window.get((budget.subject, budget.window, window), NOTHING)


def _slack(row: Row) -> int:
    return max(0, row.charged - row.reserved) if row.estimated else 0


def _overshoot(budget: Budget, history: History, spending: Spending) -> list[Finding]:
    """The worst moment of each window."""
    began = {call.call_id: call.began for call in history.calls if call.call_id}
    findings = []
    for window, spent in spending.windows(budget):
        worst = Finding(0, "")
        latest, slack = 0.0, 0
        for row, total in zip(spent.rows, spent.sums, strict=True):
            if not row.charged:
                continue
            slack += _slack(row)
            latest = max(latest, row.admitted, began.get(row.call_id, 0.0))
            limit = max(budget.in_force(min(latest, row.recorded), row.recorded), default=0)
            if total - slack - limit > worst.nano_usd:
                worst = Finding(total - slack - limit, f"{budget.node}, {budget.window} {window}: {total} charged of {limit}")
        findings += [worst] if worst.nano_usd else []
    return findings


def _phantoms(history: History, rows: dict[str, Row], spending: Spending) -> list[Finding]:
    budgets = {(budget.node, budget.window): budget for budget in history.budgets}
    holds = Holds(history, rows)
    findings = []
    for call in history.calls:
        if call.refusal is None:
            continue
        budget = budgets.get((call.refusal.node, call.refusal.window))
        if budget is None:
            findings.append(Finding(call.worst, f"call {call.number}: refused by a budget nobody set, {call.refusal}"))
            continue
        room = _room(call, budget, history, spending, holds)
        if room >= 0:
            findings.append(
                Finding(call.worst, f"call {call.number} at {call.began:.3f}: refused by {call.refusal} with {room} to spare")
            )
    return findings


def _room(call: Call, budget: Budget, history: History, spending: Spending, holds: Holds) -> int:
    """What was left after this call, by the accounting most generous to the refusal."""
    limit = min(budget.in_force(call.began, call.ended), default=0)
    windows = {history.window(budget.window, call.began), history.window(budget.window, call.ended)}
    running = holds.between(budget.subject, call.began, call.ended)
    held = sum(hold.worst for hold in running)
    # What a call that may still have held something has charged by then is counted as held already.
    charged = dict.fromkeys(windows, 0)
    for hold in running:
        if hold.row is not None and hold.row.recorded <= call.ended:
            window = history.window(budget.window, hold.row.recorded)
            charged[window] = charged.get(window, 0) + min(hold.row.charged, hold.worst)
    spent = max(spending.of(budget, window).until(call.ended) - charged[window] for window in windows)
    return limit - spent - held - call.worst


def _lost(call: Call, rows: dict[str, Row]) -> list[Finding]:
    if call.outcome != "complete":
        return []
    row = rows.get(call.call_id)
    if row is None:
        return [Finding(call.full, f"{call.told}, and no row")]
    if row.status != "ok" or row.charged < call.full:
        return [Finding(call.full - row.charged, f"{call.told} for {call.full}: row {row.status} {row.charged}")]
    return []


def _doubles(history: History, rows: dict[str, Row]) -> list[Finding]:
    findings = [
        Finding(rows[call_id].charged, f"{call_id}: {count} rows")
        for call_id, count in Counter(row.call_id for row in history.rows).items()
        if count > 1
    ]
    known = {call.call_id: call for call in history.calls if call.call_id}
    unknown = []
    for row in rows.values():
        call = known.get(row.call_id)
        if call is None:
            unknown += [row] if row.charged else []
        elif row.charged > (most := may_be_charged(call)):
            findings.append(Finding(row.charged - most, f"{call.told}: row {row.status} {row.charged}, at most {most}"))
    nameless = [call for call in history.calls if not call.call_id and may_be_charged(call)]
    return findings + [
        Finding(row.charged, f"{row.call_id} ({row.status}, key {row.key}): charged, and no client's call explains it")
        for row in unexplained(unknown, nameless)
    ]


def may_be_charged(call: Call) -> int:
    """The most the table "who pays for what" allows."""
    if call.outcome in ("refused", "failed"):
        return 0
    return call.full if call.outcome == "complete" else call.partial


def unexplained(rows: list[Row], calls: list[Call]) -> list[Row]:
    """Rows left over when each is given to a call of its own, as many as can be (Kuhn's augmenting paths)."""
    by_key: defaultdict[str, list[Call]] = defaultdict(list)
    for call in calls:
        by_key[call.key].append(call)
    taken: dict[int, Row] = {}

    def give(row: Row, tried: set[int]) -> bool:
        for call in by_key[row.key]:
            if call.number in tried or not _explains(call, row):
                continue
            tried.add(call.number)
            if call.number not in taken or give(taken[call.number], tried):
                taken[call.number] = row
                return True
        return False

    return [row for row in rows if not give(row, set())]


def _explains(call: Call, row: Row) -> bool:
    return (
        call.began <= row.admitted + 0.002 and row.admitted <= call.ended + LATE_SECONDS and row.charged <= may_be_charged(call)
    )


def _differing(history: History, spending: Spending) -> list[Finding]:
    budgets = {(budget.node, budget.window): budget for budget in history.budgets}
    findings = {}
    for card in history.cards:
        budget = budgets.get((card.node, card.window))
        spent = spending.of(budget, history.window(card.window, card.at)).until(card.at) if budget else card.spent
        if card.spent != spent:
            sentence = f"{card.node}, {card.window}: {card.spent} shown, {spent} in the ledger"
            findings[card.node, card.window] = Finding(abs(card.spent - spent), sentence)
    return list(findings.values())
