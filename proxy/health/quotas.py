"""What a provider grants a deployment per minute, shared by all workers: one team's batch job cannot use up what others need
without anybody noticing before the provider does.

One atomic step before an attempt takes its request and estimated tokens from the minute; what was really used is told
with the next report. Only deployments with a quota cost this step. Where Redis is away nothing is counted: the provider counts.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from gateway_project.lib import redis
from proxy.deployments import Deployment
from proxy.health import board, keys

_RESERVE = redis.Script(Path(__file__).with_name("lua") / "reserve.lua")


class Reservation(msgspec.Struct, frozen=True):
    """Taken from a deployment's minute. `second`: of Redis's clock; `tokens`: 0 where they are not bounded."""

    deployment: Deployment
    second: int
    tokens: int


class UsedUp(Exception):
    """The minute is full. `retry_after` in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"full for {retry_after:g} seconds")
        self.retry_after = retry_after


async def reserve(deployment: Deployment, *, tokens: int) -> Reservation | None:
    """None where the deployment has no quota, or nobody can count. Raises UsedUp."""
    if deployment.rpm is None and deployment.tpm is None:
        return None
    bounds = ["" if bound is None else bound for bound in (deployment.rpm, deployment.tpm)]
    try:
        taken, figure = await redis.scripts().run(_RESERVE, [keys.quota(deployment.health_name)], [*bounds, tokens])
    except redis.RedisUnavailable:
        return None
    if not taken:
        raise UsedUp(figure / 1000)
    return Reservation(deployment, figure, 0 if deployment.tpm is None else min(tokens, deployment.tpm))


def settle(reservation: Reservation, *, tokens: int) -> None:
    """What the attempt used in the end; 0 where it failed."""
    if reservation.deployment.tpm is not None:
        correction = tokens - reservation.tokens
        board.current().corrected(reservation.deployment, second=reservation.second, tokens=correction)
