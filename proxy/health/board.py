"""What this worker knows of the deployments it uses, and what it has seen and not yet told the others.

Guarantees: deciding and noting cost no round trip. What was noted goes out in one command a few times a second, at once
where a circuit may have changed, and the same command brings back what all workers know together. Where Redis is away
what was noted is lost, and what was known last goes on to count; a worker that knows nothing takes everything for healthy.
Does not guarantee that all workers see a circuit change at the same moment: until the next report some still try it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from gateway_project.lib import lifespan, redis
from gateway_project.lib.loops import PerLoop
from proxy import background, metrics
from proxy.deployments import Deployment
from proxy.errors import AttemptFailed
from proxy.health import keys, refused, reports, state
from proxy.health.reports import Report
from proxy.health.state import UNKNOWN, Circuit, Health

REPORT_SECONDS = 0.25
# What was read so long ago is read again, behind the call that asks.
STALE_SECONDS = 2.0
# A deployment that no call thought of for so long is no longer read.
FORGET_SECONDS = 60.0
# How long a worker that did not get the probe waits before it asks again.
PROBED_SECONDS = 1.0
# Beyond the time in which an answer must begin.
PROBE_MARGIN_SECONDS = 5.0

log = structlog.get_logger(__name__)

_REPORT = redis.Script(Path(__file__).with_name("lua") / "report.lua")


class Board:
    """The board of one event loop. Times are seconds of `time.monotonic()`."""

    def __init__(self) -> None:
        self._known: dict[str, Health] = {}
        self._thought_of: dict[str, tuple[Deployment, float]] = {}
        self._reports: dict[str, Report] = {}
        self._probed_until: dict[str, float] = {}
        self._read_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._telling: asyncio.Task[None] | None = None
        lifespan.on_shutdown(self.close)

    # --- deciding ------------------------------------------------------------------------------
    def health(self, deployment: Deployment) -> Health:
        now = time.monotonic()
        name = deployment.health_name
        self._thought_of[name] = (deployment, now)
        known = self._known.get(name)
        if known is None or now - self._read_at > STALE_SECONDS:
            self._report_soon()
        return known or UNKNOWN

    def circuit(self, deployment: Deployment) -> Circuit:
        return self.health(deployment).circuit(time.monotonic()) if deployment.circuit_breaker else "closed"

    async def takes_probe(self, deployment: Deployment) -> bool:
        """Whether this call is the one, among all workers, that may try a half-open deployment in its turn.

        Whoever gets it tells how the attempt ended, or `release`s it; if that never comes, it is free again by itself.
        """
        name = deployment.health_name
        if time.monotonic() < self._probed_until.get(name, 0.0):
            return False
        timeouts = deployment.target.timeouts
        milliseconds = round(1000 * (timeouts.connect + timeouts.first_byte + PROBE_MARGIN_SECONDS))
        try:
            won = await redis.scripts().command("SET", keys.probe(name), "1", "NX", "PX", milliseconds)
        except redis.RedisUnavailable:
            won = None
        if won is None:
            self._probed_until[name] = time.monotonic() + PROBED_SECONDS
        return won is not None

    # --- noting --------------------------------------------------------------------------------
    def succeeded(self, deployment: Deployment, *, began: float, first_token_ms: float | None = None) -> None:
        """An attempt answered: whole, or with its first frame."""
        self._report(deployment).success(began=began, first_token_ms=first_token_ms)
        self._report_soon(at_once=self._is_open(deployment))

    def failed(self, deployment: Deployment, failure: AttemptFailed, *, began: float) -> None:
        """Nothing is noted where it was the caller's fault."""
        if not reports.counts(failure):
            return
        target = deployment.target
        metrics.FAILURES.labels(target.provider_name, target.model, failure.kind).inc()
        if failure.kind == "auth" and deployment.own_key_id is None:
            metrics.KEY_REFUSALS.labels(target.provider_name).inc()
        if failure.kind == "auth" and not self._is_open(deployment):
            # The operator's to mend, or the tenant's whose own key it is: every call goes elsewhere or fails until then.
            log.error("provider.key_refused", provider=target.provider_name, model=target.model)
        self._report(deployment).failure(failure, began=began)
        opens = failure.kind in reports.AT_ONCE and deployment.circuit_breaker
        if opens and not self._is_open(deployment):
            known = self._known.get(deployment.health_name, UNKNOWN)
            until = time.monotonic() + reports.pause_ms(failure) / 1000
            self._know(deployment, msgspec.structs.replace(known, probe_at=until, opened_by=failure.kind))
        self._report_soon(at_once=opens or self._is_open(deployment))

    def answered(self, deployment: Deployment, *, tokens: int, seconds: float) -> None:
        """How fast a complete answer came. Too short ones say nothing about speed."""
        if tokens > 1 and seconds > 0:
            self._report(deployment).answered(tokens=tokens, seconds=seconds)
            self._report_soon()

    def corrected(self, deployment: Deployment, *, second: int, tokens: int) -> None:
        """A reservation of tokens was wrong by so many (proxy/health/quotas.py)."""
        if tokens:
            self._report(deployment).correct(second=second, tokens=tokens)
            self._report_soon()

    def release(self, deployment: Deployment) -> None:
        """The probe is over, however it ended."""
        self._report(deployment).probe_over = True
        self._report_soon(at_once=True)

    def _report(self, deployment: Deployment) -> Report:
        name = deployment.health_name
        self._thought_of[name] = (deployment, time.monotonic())
        found = self._reports.get(name)
        if found is None:
            found = self._reports[name] = Report()
        return found

    def _is_open(self, deployment: Deployment) -> bool:
        return self._known.get(deployment.health_name, UNKNOWN).probe_at is not None

    # --- telling -------------------------------------------------------------------------------
    def _report_soon(self, *, at_once: bool = False) -> None:
        if self._timer is not None and at_once:
            self._timer.cancel()
            self._timer = None
        if self._timer is None and self._telling is None:
            # Even at once is after the present step: what one call notes in a row goes out together.
            self._timer = asyncio.get_running_loop().call_later(0 if at_once else REPORT_SECONDS, self._start)

    def _start(self) -> None:
        self._timer = None
        self._telling = background.run(self._tell(), of="tell the other workers about deployments")

    async def _tell(self) -> None:
        try:
            await self.exchange()
        finally:
            self._telling = None
            if self._reports:
                self._report_soon()

    async def exchange(self) -> None:
        """Tells what was noted and reads what all know. Lost where Redis is away."""
        noted, self._reports = self._reports, {}
        now = time.monotonic()
        self._forget(now)
        used = [deployment for deployment, _ in self._thought_of.values()]
        if not used:
            return
        names = [deployment.health_name for deployment in used]
        words = [
            noted.get(name, Report()).words(
                of=name, served_by=refused.served_by(deployment), now=now, may_open=deployment.circuit_breaker
            )
            for name, deployment in zip(names, used, strict=True)
        ]
        of_each = [key for name in names for key in (keys.state(name), keys.probe(name), keys.quota(name))]
        self._read_at = now
        try:
            replies: Sequence[Sequence[int | bytes]] = await redis.scripts().run(
                _REPORT,
                [*of_each, keys.REFUSED, keys.WORKED],
                [msgspec.msgpack.encode(words), reports.BUCKET_MS, reports.BUCKETS],
            )
        except redis.RedisUnavailable:
            return
        read_at = time.monotonic()
        for deployment, reply in zip(used, replies, strict=True):
            self._know(deployment, state.from_reply(reply, now=read_at))

    def _know(self, deployment: Deployment, known: Health) -> None:
        self._known[deployment.health_name] = known
        target = deployment.target
        metrics.circuit(target.provider_name, target.model, known.circuit(time.monotonic()))

    def _forget(self, now: float) -> None:
        over = [name for name, (_, since) in self._thought_of.items() if now - since > FORGET_SECONDS]
        for name in over:
            del self._thought_of[name]
            self._known.pop(name, None)
            self._probed_until.pop(name, None)

    async def close(self) -> None:
        """At an orderly end the others learn the last of it; a probe under way is free again."""
        if self._timer is not None:
            self._timer.cancel()
        if self._telling is not None:
            await asyncio.wait([self._telling])
        if self._reports:
            await self.exchange()


# The board of the running event loop.
current = PerLoop(Board)
