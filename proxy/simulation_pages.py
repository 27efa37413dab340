"""What the pages say of a simulation: its limits in words, its result as tiles, chart and tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from gateway_project.lib import formatting
from gateway_project.lib.money import display_usd, exact_usd
from orgs.models import Organization
from proxy.models import Simulation
from proxy.simulating import names
from proxy.simulating.proposal import Proposal, Target
from proxy.simulating.result import Day, Figures, Result
from proxy.simulating.wording import words
from proxy.simulation_results import LEVELS

# Colours of the chart (--gh-chart-…): what passes, what is refused.
PASSED, REFUSED = 1, 5


class Listed(NamedTuple):
    simulation: Simulation
    period: str
    outcome: str
    avoided: int | None


class Subject(NamedTuple):
    name: str
    level: str


class Line(NamedTuple):
    """A row of any of the tables. `at`: when; `window` in words; `percent`: of the largest."""

    subject: Subject
    limit: str
    calls: int
    nano_usd: int
    at: datetime
    window: str = ""
    call_id: str = ""
    model: str = ""
    percent: int = 0


class Cause(NamedTuple):
    """A limit or rule and what it refused."""

    label: str
    calls: int
    nano_usd: int
    percent: int


class Tile(NamedTuple):
    """A card of templates/components/kpi.html."""

    label: str
    value: str
    sub: str
    title: str = ""
    values: tuple[int, ...] = ()


def listed(simulation: Simulation) -> Listed:
    zone = ZoneInfo(simulation.organization.time_zone)
    if simulation.status != Simulation.Status.DONE:
        return Listed(simulation, _period(simulation, zone), simulation.error, None)
    calls, avoided = simulation.result["refused"]
    outcome = f"{calls:,} of {calls + simulation.result['passed'][0]:,} calls refused" if calls else "Nobody refused"
    return Listed(simulation, _period(simulation, zone), outcome, avoided)


def shown(simulation: Simulation, organization: Organization) -> dict[str, Any]:
    """What was asked, and the result where there is one."""
    proposal = msgspec.convert(simulation.proposal, Proposal)
    zone = ZoneInfo(organization.time_zone)
    page: dict[str, Any] = {
        "limits": words(proposal),
        "left_out": proposal.left_out,
        "targets": _targets(proposal.targets, organization),
        "period": _period(simulation, zone),
        "seconds": _seconds(simulation),
    }
    if simulation.status == Simulation.Status.DONE:
        page |= _outcome(msgspec.convert(simulation.result, Result), words(proposal), proposal, zone)
    return page


def _targets(targets: tuple[Target, ...], organization: Organization) -> list[str]:
    found = names.of_subjects({f"{'a' if one.kind == 'application' else 'g'}{one.id}" for one in targets}, organization)
    kinds = {"group": "", "application": "", "members": "each member below ", "keys": "each key below "}
    return [f"{kinds[one.kind]}{found[f'a{one.id}' if one.kind == 'application' else f'g{one.id}']}" for one in targets]


def _period(simulation: Simulation, zone: ZoneInfo) -> str:
    first = simulation.starts_at.astimezone(zone)
    last = datetime.fromtimestamp(simulation.ends_at.timestamp() - 1, tz=zone)
    if first.date() == last.date():
        return formatting.day_words(first)
    return f"{first:%b} {first.day}{'' if first.year == last.year else f', {first.year}'} – {formatting.day_words(last)}"


def _seconds(simulation: Simulation) -> str:
    if simulation.started_at is None or simulation.finished_at is None:
        return ""
    return formatting.duration(round((simulation.finished_at - simulation.started_at).total_seconds() * 1000))


def _outcome(result: Result, labels: list[str], proposal: Proposal, zone: ZoneInfo) -> dict[str, Any]:
    subjects = [
        Line(
            _subject(one["subject"], result), labels[one["number"]], one["calls"], one["nano_usd"], _moment(one["at"], zone),
            percent=_share(one["nano_usd"] or one["calls"], result["subjects"][0]["nano_usd"] or result["subjects"][0]["calls"]),
        )
        for one in result["subjects"]
    ]  # fmt: skip
    return {
        "result": result,
        "governed": result["passed"][0] + result["refused"][0],
        "tiles": _tiles(result, zone),
        "chart": _chart(result["days"], zone),
        "causes": _causes(result, labels),
        "subjects": subjects,
        "more_subjects": result.get("subject_line_count", result["subject_count"]) - len(subjects),
        "firsts": [
            Line(
                _subject(one["subject"], result), labels[one["number"]], one["calls"], one["nano_usd"],
                _moment(one["at"], zone), window=_window(one["number"], one["window"], proposal, zone), call_id=one["call_id"],
            )
            for one in result["firsts"]
        ],
        "more_firsts": result["first_count"] - len(result["firsts"]),
        "sample": [
            Line(
                _subject(one["subject"], result), labels[one["number"]], 1, one["nano_usd"], _moment(one["at"], zone),
                call_id=one["call_id"], model=one["model"],
            )
            for one in result["sample"]
        ],
    }  # fmt: skip


def _tiles(result: Result, zone: ZoneInfo) -> list[Tile]:
    (calls, avoided), (passed, spent) = result["refused"], result["passed"]
    by_day = [day["refused"] for day in result["days"]]
    first = _moment(result["firsts"][0]["at"], zone) if result["firsts"] else None
    return [
        Tile(
            "Calls refused",
            f"{calls:,}",
            f"{formatting.percent(calls, calls + passed)} of {formatting.compact(calls + passed)} calls under what was tried",
            values=tuple(day[0] for day in by_day),
        ),
        Tile(
            "Spend avoided",
            display_usd(avoided),
            f"{formatting.percent(avoided, avoided + spent)} of {display_usd(avoided + spent)}",
            title=f"${exact_usd(avoided)}",
            values=tuple(day[1] for day in by_day),
        ),
        Tile(
            "Refused at least once",
            f"{result['subject_count']:,}",
            "subject" if result["subject_count"] == 1 else "subjects",
        ),
        Tile("First refusal", f"{first:%b} {first.day}" if first else "–", f"at {first:%H:%M:%S}" if first else "none at all"),
    ]


def _chart(days: list[Day], zone: ZoneInfo) -> dict[str, Any]:
    """Spend by day for templates/components/chart_card.html; calls where nothing had a price."""
    costs = any(day["passed"][1] or day["refused"][1] for day in days)
    which = 1 if costs else 0
    local = [datetime.fromtimestamp(day["starts"], tz=zone) for day in days]
    return {
        "id": "simulated",
        "title": "Spend by day" if costs else "Calls by day",
        "kind": "bar",
        "unit": "usd" if costs else "count",
        "stacked": True,
        "labels": [f"{day:%b} {day.day}" for day in local],
        "series": [
            {"name": "Let through", "values": [day["passed"][which] for day in days], "colour": PASSED},
            {"name": "Refused", "values": [day["refused"][which] for day in days], "colour": REFUSED},
        ],
    }


def _causes(result: Result, labels: list[str]) -> list[Cause]:
    """Every limit, those that refused nothing too."""
    found = {one["number"]: one for one in result["limits"]}
    nothing: Figures = [0, 0]
    figures = [[found[n]["calls"], found[n]["nano_usd"]] if n in found else nothing for n in range(len(labels))]
    most = max((calls for calls, _ in figures), default=0)
    return [Cause(label, calls, nano, _share(calls, most)) for label, (calls, nano) in zip(labels, figures, strict=True)]


def _share(part: int, whole: int) -> int:
    return part * 100 // whole if whole else 0


def _subject(name: str, result: Result) -> Subject:
    return Subject(result["names"].get(name, name), LEVELS[name[0]])


def _moment(milliseconds: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC).astimezone(zone)


def _window(number: int, start: int, proposal: Proposal, zone: ZoneInfo) -> str:
    """Of the limit of this number, the window that began in this second."""
    if not start:
        return "in total" if number < len(proposal.limits) and proposal.limits[number].kind == "budget" else "the whole period"
    first = datetime.fromtimestamp(start, tz=zone)
    kind = proposal.limits[number].window if proposal.limits[number].kind == "budget" else "day"
    day = f"{first:%b} {first.day}"
    return {"day": day, "month": f"{first:%B %Y}"}.get(kind, f"{kind} from {day}, {first.year}")
