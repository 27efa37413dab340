"""One run of a simulation, from queued to its result. Progress is told, and a cancelled run noticed, about twice a second."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import msgspec
import structlog
from billiard.exceptions import SoftTimeLimitExceeded
from django.utils import timezone

from guardrails import windows
from proxy.models import Simulation
from proxy.simulating import names, rows
from proxy.simulating.proposal import Proposal
from proxy.simulating.replay import Replay, kinds_of_budgets
from proxy.simulating.result import Result, shaped

TOLD_EVERY_SECONDS = 0.5
# Rows replayed between two looks at the clock.
SLICE = 2_000
TOO_LONG = "It took more than nine minutes. Choose a shorter period."
BROKEN = "Something went wrong on our side. It is in the worker's log; run the simulation again, or choose another period."

log = structlog.get_logger(__name__)


class NoLongerWanted(Exception):
    """The run was cancelled, deleted or replaced by another."""


def run(simulation_id: int, *, number: int) -> None:
    """Run `number` of a simulation; nothing where it is not waited for any more. Its own failures are kept with it."""
    simulation = Simulation.objects.select_related("organization").filter(pk=simulation_id, run=number).first()
    if simulation is None or not _changed(simulation, status=Simulation.Status.RUNNING, progress=0, started_at=timezone.now()):
        return
    try:
        result = _replayed(simulation)
        _changed(simulation, status=Simulation.Status.DONE, progress=100, finished_at=timezone.now(), result=result)
    except NoLongerWanted:
        log.info("simulation no longer wanted", simulation=simulation_id)
    except SoftTimeLimitExceeded:
        _fail(simulation, TOO_LONG)
    except Exception:
        log.exception("simulation failed", simulation=simulation_id)
        _fail(simulation, BROKEN)


def _replayed(simulation: Simulation) -> Result:
    calendar = windows.Calendar.of(simulation.organization)
    proposal = msgspec.convert(simulation.proposal, Proposal)
    period = rows.Period(simulation.organization_id, simulation.starts_at, simulation.ends_at)
    calls = rows.count(period)
    if not _changed(simulation, calls=calls):
        raise NoLongerWanted
    replay = Replay(proposal, calendar=calendar)
    for path, second, charged, own in rows.spent_before(period, kinds=kinds_of_budgets(proposal), calendar=calendar):
        replay.count(path, recorded=second, charged=charged, own=own)
    _judge_all(simulation, replay, period, calls=calls)
    until = min(simulation.ends_at, datetime.now(UTC))
    days = windows.starts_between(simulation.starts_at, until, "day", calendar)
    return names.filled_in(shaped(replay.tally, days=(int(day.timestamp()) for day in days)), simulation.organization)


def _judge_all(simulation: Simulation, replay: Replay, period: rows.Period, *, calls: int) -> None:
    judged, told = 0, time.monotonic()
    for page in rows.pages(period, with_providers=replay.asks_providers):
        remaining = iter(page)
        while part := list(islice(remaining, SLICE)):
            replay.judge(part)
            judged += len(part)
            if time.monotonic() - told >= TOLD_EVERY_SECONDS:
                told = time.monotonic()
                # Calls recorded meanwhile may come on top of those counted.
                if not _changed(simulation, progress=min(judged * 100 // max(calls, 1), 99)):
                    raise NoLongerWanted


def _fail(simulation: Simulation, why: str) -> None:
    _changed(simulation, status=Simulation.Status.FAILED, error=why, finished_at=timezone.now())


def _changed(simulation: Simulation, **fields: Any) -> bool:
    """False where the run is not wanted any more: cancelled, deleted, or another one began."""
    wanted = Simulation.objects.filter(pk=simulation.pk, run=simulation.run, status__in=Simulation.UNFINISHED)
    return wanted.update(**fields) == 1
