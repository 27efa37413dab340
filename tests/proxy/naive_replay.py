"""What a simulation must say, computed the slow way: every sum anew for every call, over all that was let through before it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from guardrails import windows
from proxy.simulating.proposal import Limit, Proposal


class Call(NamedTuple):
    """`at` in milliseconds, `recorded` in seconds; `groups` from the root down. `is_call`: False for an adjusting entry."""

    at: int
    recorded: int
    charged: int
    tokens: int
    output: int
    groups: tuple[int, ...]
    member: int | None
    key: int
    application: int | None
    model: str = "small"
    is_call: bool = True
    own: int = 0
    number: int = 0
    # Milliseconds; None: nobody knows.
    ran: int | None = 0
    # Those that could have taken it, first to last.
    providers: tuple[str, ...] = ("main",)

    @property
    def ended(self) -> int:
        return self.recorded * 1000 if self.ran is None else self.at + self.ran

    @property
    def id(self) -> UUID:
        return UUID(int=self.at << 80 | 7 << 76 | 2 << 62 | self.number)


Refusal = tuple[UUID, int, str]


class Naive:
    """`refusals`: (id, number of the limit or rule, subject), in order."""

    def __init__(self, proposal: Proposal, calendar: windows.Calendar, history: list[Call]) -> None:
        self.proposal, self.calendar = proposal, calendar
        self.counted = list(history)
        self.began = len(history)
        self.refusals: list[Refusal] = []

    def replay(self, calls: list[Call]) -> list[Refusal]:
        for call in sorted(calls, key=lambda call: call.id):
            refusal = self.against(call) if call.is_call else None
            if refusal is None:
                self.counted.append(call)
            else:
                self.refusals.append((call.id, *refusal))
        return self.refusals

    def against(self, call: Call) -> tuple[int, str] | None:
        subjects = governing(call, self.proposal)
        limits = [(number, limit, subject) for subject in subjects for number, limit in enumerate(self.proposal.limits)]
        bounds = (
            (number, subject) for number, limit, subject in limits if limit.kind == "max_tokens" and call.output > limit.value
        )
        found = self.by_rules(call, subjects) or next(bounds, None) or self.by_providers(call, subjects)
        if found is not None:
            return found
        short = []
        for number, limit, subject in limits:
            if limit.kind == "budget" and (limit.counts_byok or not call.own):
                room = limit.value - self.spent(limit, subject, call)
                if room < call.charged + call.own:
                    short.append((room, number, subject))
        if short:
            least = min(room for room, _, _ in short)
            return next((number, subject) for room, number, subject in short if room == least)
        for number, limit, subject in limits:
            if limit.kind in ("rpm", "tpm", "rpd", "parallel") and self.rate(limit, subject, call) > limit.value:
                return number, subject
        return None

    def by_rules(self, call: Call, subjects: list[str]) -> tuple[int, str] | None:
        first = len(self.proposal.limits)
        rules = [(first + index, rule, subject) for subject in subjects for index, rule in enumerate(self.proposal.rules)]
        for number, rule, subject in rules:
            if rule.kind == "members" and rule.entries and call.member is not None and str(call.member) not in rule.entries:
                return number, subject
        for number, rule, subject in rules:
            if rule.kind == "blocked_models" and call.model in rule.entries:
                return number, subject
        for number, rule, subject in rules:
            if rule.kind == "models" and rule.entries and call.model not in rule.entries:
                return number, subject
        return None

    def by_providers(self, call: Call, subjects: list[str]) -> tuple[int, str] | None:
        first = len(self.proposal.limits)
        rules = [
            (first + index, rule, subject)
            for subject in subjects
            for index, rule in enumerate(self.proposal.rules)
            if rule.kind == "providers" and rule.entries
        ]
        left = [provider for provider in call.providers if all(provider in rule.entries for _, rule, _ in rules)]
        if left or not call.providers:
            return None
        return next((number, subject) for number, rule, subject in rules if call.providers[0] not in rule.entries)

    def spent(self, limit: Limit, subject: str, call: Call) -> int:
        window = self.window(call.recorded, limit.window)
        return sum(
            other.charged + (other.own if limit.counts_byok else 0)
            for other in self.counted
            if subject in subjects_of(other) and self.window(other.recorded, limit.window) == window
        )

    def rate(self, limit: Limit, subject: str, call: Call) -> int:
        """With the call itself. What was made before the period counts in no rate."""
        others = [other for other in self.counted[self.began :] if other.is_call and subject in subjects_of(other)]
        if limit.kind == "rpd":
            day = self.window(call.at // 1000, "day")
            return 1 + sum(1 for other in others if self.window(other.at // 1000, "day") == day)
        if limit.kind == "parallel":
            return 1 + sum(1 for other in others if other.ended > call.at and subject in governing(other, self.proposal))
        recent = [
            other for other in others if other.at // 1000 > call.at // 1000 - 60 and subject in governing(other, self.proposal)
        ]
        return call.tokens + sum(other.tokens for other in recent) if limit.kind == "tpm" else 1 + len(recent)

    def window(self, second: int, kind: str) -> datetime | None:
        return windows.containing(datetime.fromtimestamp(second, tz=UTC), kind, self.calendar).starts_at  # type: ignore[arg-type]


def subjects_of(call: Call) -> list[str]:
    """Most specific first."""
    named = [("k", call.key), ("a", call.application), ("m", call.member), *(("g", group) for group in call.groups[:0:-1])]
    return [f"{letter}{number}" for letter, number in named if number is not None] + ["org"]


def governing(call: Call, proposal: Proposal) -> list[str]:
    """The subjects of a call that the proposal applies to, most specific first."""
    found = []
    for subject in subjects_of(call):
        for target in proposal.targets:
            applies = {
                "group": subject == ("org" if target.id == call.groups[0] else f"g{target.id}"),
                "members": subject[0] == "m" and target.id in call.groups,
                "keys": subject[0] == "k" and target.id in call.groups,
                "application": subject == f"a{target.id}",
            }[target.kind]
            if applies:
                found.append(subject)
                break
    return found
