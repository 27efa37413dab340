"""What a run comes to: the figures, and the table that is printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from gateway_project.lib.money import exact_usd
from tests.torture.checker import Verdict
from tests.torture.history import Finding, History

SHOWN = 5  # findings of each kind


def figures(history: History, verdict: Verdict, *, seconds: float, changes: Counter[str]) -> dict[str, Any]:
    outcomes = Counter(call.outcome for call in history.calls)
    broken = Counter(one.kind for one in history.disturbances)
    codes = Counter(call.code or str(call.status) for call in history.calls if call.outcome in ("refused", "failed"))
    days = {history.window("day", row.recorded) for row in history.rows if row.charged}
    return {
        "calls": len(history.calls),
        "answered": outcomes["complete"],
        "callers who left": outcomes["left"],
        "connections that broke": outcomes["broken"],
        "streams that were cut": outcomes["cut"],
        "refused or failed": dict(codes.most_common()),
        "limits and keys": dict(changes.most_common()),
        "kills": broken["kill"],
        "flushes": broken["flush"],
        "restarts with lost writes": broken["restart"],
        "PostgreSQL stops": broken["stop"],
        "/readyz without PostgreSQL": dict(history.readiness.most_common()),
        "answered without PostgreSQL": answered_before_recorded(history),
        "rollovers": max(0, len(days) - 1),
        "charged USD": exact_usd(sum(row.charged for row in history.rows)),
        "slack of input estimates USD": exact_usd(verdict.slack_nano_usd),
        "overshoot USD": exact_usd(sum(finding.nano_usd for finding in verdict.overshoot)),
        **{name: len(found) for name, found in verdict.findings.items() if name != "overshoot"},
        "duration s": round(seconds, 1),
    }


def answered_before_recorded(history: History) -> int:
    """Complete answers whose row was on a disk only as they went out: PostgreSQL was away."""
    recorded = {row.call_id: row.recorded for row in history.rows}
    return sum(call.outcome == "complete" and recorded.get(call.call_id, 0.0) > call.ended for call in history.calls)


def timeline(history: History) -> list[str]:
    """What broke when, and which keys were closed: what a finding is read against."""
    told = [
        (one.began, f"{one.kind}{'' if one.worker is None else f' of worker {one.worker}'}, until {_time(one.ended)}")
        for one in history.disturbances
    ]
    told += [(one.acknowledged, f"key {one.key} closed") for one in history.closings]
    return [f"{_time(at)}  {what}" for at, what in sorted(told)]


def text(found: dict[str, Any], verdict: Verdict, *, rollover: str, when: Sequence[str] = ()) -> str:
    shown = {**found, "rollovers": f"{found['rollovers']} {rollover}"}
    width = max(map(len, shown))
    lines = [f"{name:<{width}}  {_words(value)}" for name, value in shown.items()]
    for name, findings in verdict.findings.items():
        worst = sorted(findings, reverse=True)[:SHOWN]
        lines += [f"  {name}: {_money(finding)}{finding.sentence}" for finding in worst]
    if not verdict.sound:
        lines += [f"    {line}" for line in when]
    return "\n".join([*lines, "All of it is exact." if verdict.sound else "NOT EXACT."])


def _money(finding: Finding) -> str:
    return f"{exact_usd(finding.nano_usd)} USD: " if finding.nano_usd else ""


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S.%f}"[:-3]


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count:,}" for name, count in value.items()) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)
