"""Calls that might have been: a day of a workload, as the ledger would have recorded it.

Decided by the seed alone: the same organisation, day and count give the same rows. Every call is billed with the price
in force that day by the arithmetic that bills real calls. A budget "in total" is respected: what would pass it is refused.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from billing.ledger import Attempt, Row
from billing.pricing import Price, bill, cache_saving, worst_case
from gateway_project.demo import trace
from gateway_project.demo.workloads import OUTAGE, REASONING, SPEEDS, WORKLOADS, Workload
from gateway_project.lib.ids import call_id_at
from gateway_project.lib.money import exact_usd
from proxy.canonical.usage import Usage
from proxy.names import PRESET

PROVIDER = "sandbox"
# Shares of all calls.
FAILED, CANCELLED, MISTYPED = 0.006, 0.012, 0.002
# What a failure is recorded as: status and code told to the caller, what the one attempt met.
FAILURES = (
    (503, "provider_overloaded", "overloaded", 503),
    (502, "provider_error", "status", 500),
    (504, "provider_timeout", "timeout", None),
)
CACHE_BLOCK = 128
MAX_OUTPUT = 4_096


class PastRow(Row, kw_only=True):
    recorded_at: datetime


class PastCall(NamedTuple):
    row: PastRow
    attempts: list[Attempt]


class Rate(NamedTuple):
    """Requests per minute that a policy allows a key."""

    policy: str
    value: int


class Origin(NamedTuple):
    """Whose calls these are: the columns of a row that its key decides, and the features to choose from."""

    columns: Mapping[str, Any]
    features: tuple[str, ...]
    rate: Rate | None = None


class Served(NamedTuple):
    model: str
    deployment_id: int
    upstream_model: str
    price: Price


class Room:
    """What is left of a budget that never resets, by application."""

    def __init__(self, *, application_id: int, limit: int, node: str, policy: str) -> None:
        self.application_id = application_id
        self.limit = limit
        self.node = node
        self.policy = policy
        self.spent = 0

    def refusal(self, needed: int) -> dict[str, Any]:
        money = {"limit": exact_usd(self.limit), "spent": exact_usd(self.spent), "held": "0", "needed": exact_usd(needed)}
        return {**money, **_refused_by("application", self.node, self.policy, "total")}


class Day:
    """One local day. `served` maps each model's name to what served it, at that day's price.

    `presets`: name of each → its model. `baseline`: the model that savings are told against.
    """

    def __init__(
        self,
        day: date,
        *,
        until: date,
        zone: ZoneInfo,
        mark: str,
        origins: Mapping[str, Origin],
        served: Mapping[str, Served],
        presets: Mapping[str, str],
        baseline: str,
        rooms: list[Room],
        seed: str,
    ) -> None:
        self.day = day
        self.zone = zone
        self.mark = mark
        self.origins = origins
        self.served = served
        self.presets = presets
        self.baseline = served[baseline].price if baseline in served else None
        self.rooms = {room.application_id: room for room in rooms}
        self.outage = until - timedelta(days=OUTAGE.days_before) == day
        self.random = random.Random(f"{seed} {day}")  # noqa: S311 - nothing secret, and the same again every time

    def calls(self, count: int, *, before: datetime) -> Iterator[PastCall]:
        """In the order of their admission."""
        workloads = [workload for workload in WORKLOADS if workload.key in self.origins]
        weights = [workload.weight(self.day) for workload in workloads]
        chosen = self.random.choices(workloads, weights, k=count)
        for moment, workload in sorted((self._moment(workload), workload) for workload in chosen):
            call = self._call(workload, moment)
            if moment < before and call.row.recorded_at < before:
                self._spend(call.row)
                yield call

    def _moment(self, workload: Workload) -> datetime:
        hour = self.random.choices(range(24), workload.rhythm.hours)[0]
        within = timedelta(hours=hour, milliseconds=self.random.randrange(3_600_000))
        local = datetime.combine(self.day, time(), tzinfo=self.zone) + within
        return local.astimezone(UTC)

    def _call(self, workload: Workload, moment: datetime) -> PastCall:
        origin = self.origins[workload.key]
        models = [name for name in workload.models if name in self.served]
        name = self.random.choices(models, [workload.models[model] for model in models])[0]
        served, usage = self.served[name], self._usage(workload, name)
        streamed = self.random.random() < workload.streamed
        row = PastRow(
            call_id=call_id_at(moment, random_bits=self.random.getrandbits(74)),
            admitted_at=moment,
            recorded_at=moment,
            **origin.columns,
            feature=self._feature(origin),
            protocol="chat_completions",
            streamed=streamed,
            requested_model=name,
            route_reason=self.mark,
            status="ok",
            http_status=200,
        )
        if self.presets.get(workload.preset) == name:
            row.requested_model, row.preset = f"{PRESET}{workload.preset}", workload.preset
        return self._ended(PastCall(row, []), workload=workload, origin=origin, served=served, usage=usage)

    def _feature(self, origin: Origin) -> str:
        return self.random.choices(origin.features, range(len(origin.features), 0, -1))[0] if origin.features else ""

    def _usage(self, workload: Workload, model: str) -> Usage:
        sizes = trace.sizes(workload.trace)
        drawn = [sizes[self.random.randrange(len(sizes))] for _ in range(workload.context_scale)]
        tokens, output = sum(size for size, _ in drawn), max(1, drawn[0][1])
        cached = 0
        if self.random.random() < workload.cached:
            cached = int(tokens * self.random.uniform(0.4, 0.9)) // CACHE_BLOCK * CACHE_BLOCK
        return Usage(
            input_uncached=tokens - cached,
            cache_read=cached,
            output=output,
            reasoning=output // 2 if model in REASONING else 0,
        )

    def _ended(self, call: PastCall, *, workload: Workload, origin: Origin, served: Served, usage: Usage) -> PastCall:
        row, chance = call.row, self.random.random()
        if chance < MISTYPED:
            row.requested_model, row.preset = f"{row.requested_model}-latest", ""
            return self._refused(call, 404, "model_not_found")
        # As proxy.recording keeps it of what is refused.
        asked = {"call": {"input_tokens": usage.input_total * 4 // 3, "max_tokens": MAX_OUTPUT, "n": 1}}
        if origin.rate is not None and chance < MISTYPED + workload.rate_limited:
            figures = {"limit": origin.rate.value, "spent": origin.rate.value, "held": 0}
            decision = {**asked, **figures, **_refused_by("key", workload.key, origin.rate.policy, "minute")}
            return self._refused(call, 429, "rate_limit_exceeded", decision)
        row.reserved_nano_usd = worst_case(
            served.price, input_tokens=usage.input_total * 4 // 3, output_tokens=MAX_OUTPUT, text_only=True
        )
        room = self.rooms.get(row.application_id or 0)
        if room is not None and room.spent + row.reserved_nano_usd > room.limit:
            return self._refused(call, 403, "budget_exceeded", asked | room.refusal(row.reserved_nano_usd))
        row.provider, row.served_model, row.deployment_id = PROVIDER, served.upstream_model, served.deployment_id
        if self.random.random() < self._failing(row, served.model):
            return self._failed(call)
        return self._answered(call, served, usage)

    def _failing(self, row: PastRow, model: str) -> float:
        hour = row.admitted_at.astimezone(self.zone).hour
        struck = self.outage and model == OUTAGE.model and hour in OUTAGE.hours
        return OUTAGE.share if struck else FAILED

    def _refused(self, call: PastCall, http_status: int, code: str, decision: dict[str, Any] | None = None) -> PastCall:
        row = call.row
        row.status, row.http_status, row.error_code, row.decision = "refused", http_status, code, decision or {}
        return self._timed(call, latency_ms=self.random.randint(1, 6))

    def _failed(self, call: PastCall) -> PastCall:
        row = call.row
        row.http_status, row.error_code, kind, upstream_status = self.random.choices(FAILURES, (5, 3, 1))[0]
        row.status = "failed"
        latency = 60_000 if kind == "timeout" else self.random.randint(80, 2_500)
        return self._timed(self._tried(call, "failed", upstream_status, kind, latency), latency_ms=latency)

    def _answered(self, call: PastCall, served: Served, usage: Usage) -> PastCall:
        row, speed = call.row, SPEEDS[served.model]
        if row.streamed and self.random.random() < CANCELLED:
            row.status, row.http_status = "cancelled", 499
            usage = Usage(usage.input_uncached, usage.cache_read, output=max(1, usage.output // 3))
        else:
            row.finish_reason = "length" if self.random.random() < 0.03 else "stop"
        _bill(row, served.price, usage, baseline=self.baseline)
        # Latencies have a long tail: their logarithm is what is distributed normally.
        first = round(speed.first_token_ms * math.exp(self.random.gauss(0, 0.35)))
        whole = first + round(usage.output * 1000 / speed.tokens_per_second * math.exp(self.random.gauss(0, 0.15)))
        row.first_token_ms = first if row.streamed else None
        status = "ok" if row.status == "ok" else "cancelled"
        return self._timed(self._tried(call, status, 200, "", whole), latency_ms=whole)

    def _tried(self, call: PastCall, status: str, http_status: int | None, error: str, latency_ms: int) -> PastCall:
        row = call.row
        row.attempt_count = 1
        attempt = Attempt(row.call_id, 1, row.deployment_id, PROVIDER, row.served_model, status, http_status, error, latency_ms)
        return call._replace(attempts=[attempt])

    def _timed(self, call: PastCall, *, latency_ms: int) -> PastCall:
        call.row.latency_ms = latency_ms
        call.row.recorded_at = call.row.admitted_at + timedelta(milliseconds=latency_ms)
        return call

    def _spend(self, row: PastRow) -> None:
        room = self.rooms.get(row.application_id or 0)
        if room is not None:
            room.spent += row.charged_nano_usd


def _refused_by(level: str, node: str, policy: str, window: str) -> dict[str, Any]:
    """What proxy.refusals tells of a limit, its figures aside."""
    ask = "an admin above this level can raise the limit"
    return {"level": level, "node": node, "policy": policy, "window": window, "resets_at": None, "ask": ask}


def _bill(row: PastRow, price: Price, usage: Usage, *, baseline: Price | None) -> None:
    cost = bill(price, usage)
    row.input_tokens, row.cache_read_tokens = usage.input_uncached, usage.cache_read
    row.output_tokens, row.reasoning_tokens = usage.output, usage.reasoning
    row.price_version_id, row.unit_prices, row.cost_parts = price.version_id, cost.unit_prices, cost.parts
    row.charged_nano_usd = row.list_nano_usd = cost.total
    row.cache_saving_nano_usd = cache_saving(price, usage, cost)
    row.baseline_nano_usd = None if baseline is None else bill(baseline, usage).total
