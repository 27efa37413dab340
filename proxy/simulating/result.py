"""A replay's tally as what is kept: plain JSON, bounded, with the names that subjects had when it ran. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NotRequired, TypedDict

from proxy.simulating.tally import Sum, Tally

TOP_SUBJECTS = 20
MOST_FIRSTS = 200

Figures = list[int]


class Refusing(TypedDict):
    """One limit or rule by its number: calls refused, nano-dollars avoided."""

    number: int
    calls: int
    nano_usd: int


class RefusedSubject(TypedDict):
    """By one limit or rule: a subject that several refused stands there several times. `at`: the first time, in milliseconds."""

    subject: str
    calls: int
    nano_usd: int
    at: int
    number: int


class FirstRefusal(TypedDict):
    """`window`: its start in seconds; 0 where there is none."""

    number: int
    subject: str
    window: int
    at: int
    call_id: str
    calls: int
    nano_usd: int


class SampledCall(TypedDict):
    call_id: str
    at: int
    number: int
    subject: str
    model: str
    nano_usd: int


class Day(TypedDict):
    """`starts` in seconds; (calls, nano-dollars) of what was let through and what was refused."""

    starts: int
    passed: Figures
    refused: Figures


class Result(TypedDict):
    """What templates and pages read. `passed` and `refused` are (calls, nano-dollars) of everything the policy governs.

    Earlier results have one line for each subject, of the limit that refused it most, and no `subject_line_count`.
    """

    passed: Figures
    refused: Figures
    limits: list[Refusing]
    subjects: list[RefusedSubject]
    subject_count: int
    subject_line_count: NotRequired[int]
    days: list[Day]
    firsts: list[FirstRefusal]
    first_count: int
    sample: list[SampledCall]
    names: dict[str, str]


def shaped(tally: Tally, *, days: Iterable[int]) -> Result:
    """`days`: starts of all days of the period, in seconds. Names are still to be filled in."""
    subjects = sorted(tally.by_subject.items(), key=lambda one: (-one[1].nano_usd, -one[1].calls, one[0]))
    firsts = sorted(tally.firsts.items(), key=lambda one: (one[1].at, one[0]))
    return {
        "passed": _figures(tally.passed),
        "refused": _figures(tally.refused),
        "limits": [{"number": n, "calls": one.calls, "nano_usd": one.nano_usd} for n, one in sorted(tally.by_number.items())],
        "subjects": [_subject(tally, *which, one) for which, one in subjects[:TOP_SUBJECTS]],
        "subject_count": len({name for name, _ in tally.by_subject}),
        "subject_line_count": len(subjects),
        "days": [_day(tally, start) for start in sorted({*days, *tally.by_day})],
        "firsts": [
            {
                "number": number,
                "subject": subject,
                "window": window,
                "at": first.at,
                "call_id": str(first.call_id),
                "calls": first.sum.calls,
                "nano_usd": first.sum.nano_usd,
            }
            for (number, subject, window), first in firsts[:MOST_FIRSTS]
        ],
        "first_count": len(firsts),
        "sample": [
            {
                "call_id": str(call.call_id),
                "at": -call.before,
                "number": call.number,
                "subject": call.subject,
                "model": call.model,
                "nano_usd": call.nano_usd,
            }
            for call in sorted(tally.dearest, reverse=True)
        ],
        "names": {},
    }


def subjects_named(result: Result) -> set[str]:
    """Every subject that the result speaks of."""
    return {one["subject"] for one in (*result["subjects"], *result["firsts"], *result["sample"])}


def _figures(one: Sum) -> Figures:
    return [one.calls, one.nano_usd]


def _subject(tally: Tally, name: str, number: int, refused: Sum) -> RefusedSubject:
    at = min(first.at for (by, subject, _), first in tally.firsts.items() if (by, subject) == (number, name))
    return {"subject": name, "calls": refused.calls, "nano_usd": refused.nano_usd, "at": at, "number": number}


def _day(tally: Tally, start: int) -> Day:
    passed, refused = tally.by_day.get(start, (Sum(), Sum()))
    return {"starts": start, "passed": _figures(passed), "refused": _figures(refused)}
