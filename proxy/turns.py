"""Which deployment of a plan is tried next, and what is told once none is left.

1. In the order of the plan, each at most once.
2. One whose circuit is half-open has its turn only in the one call of all workers that probes it; else it comes last.
3. One whose minute is used up is passed over, and written down as skipped.
4. After a prompt that was too long, only models with a larger context window are tried.
5. A circuit alone refuses no call: whoever has nothing else tries what is open.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from billing.ledger import Attempt
from proxy.call import Call
from proxy.deployments import Deployment
from proxy.errors import TOO_LONG, AttemptFailed, ProviderFailed, ProviderOverloaded, ProxyError, as_proxy_error
from proxy.health import board, quotas
from proxy.health.quotas import Reservation, UsedUp
from proxy.routing import Plan


class Turn(NamedTuple):
    """`probes`: this call alone may try the deployment, whose circuit was open."""

    deployment: Deployment
    probes: bool = False
    reservation: Reservation | None = None


class Turns:
    def __init__(self, call: Call, plan: Plan) -> None:
        self._call = call
        self._tokens = plan.tokens
        self._left = deque(plan.deployments)
        self._last: deque[Deployment] = deque()
        self._too_long_for: list[Deployment] = []
        self._failure: AttemptFailed | None = None
        self._used_up: list[UsedUp] = []

    async def next(self) -> Turn | None:
        """None where no deployment is left to try."""
        while self._left:
            deployment = self._left.popleft()
            if self._too_long_for and not self._may_be_long_enough(deployment):
                continue
            probes = board.current().circuit(deployment) == "half-open"
            if probes and not await board.current().takes_probe(deployment):
                self._last.append(deployment)
                continue
            turn = await self._with_quota(deployment, probes=probes)
            if turn is not None:
                return turn
        while self._last:
            turn = await self._with_quota(self._last.popleft(), probes=False)
            if turn is not None:
                return turn
        return None

    async def _with_quota(self, deployment: Deployment, *, probes: bool) -> Turn | None:
        if deployment.rpm is None and deployment.tpm is None:
            return Turn(deployment, probes)
        try:
            return Turn(deployment, probes, await quotas.reserve(deployment, tokens=self._tokens))
        except UsedUp as used_up:
            self._used_up.append(used_up)
            self._call.attempts.append(_passed_over(self._call, deployment, "quota"))
        except BaseException:
            if probes:
                board.current().release(deployment)
            raise
        if probes:
            board.current().release(deployment)
        return None

    def _may_be_long_enough(self, deployment: Deployment) -> bool:
        return all(_is_larger(deployment, than=other) for other in self._too_long_for)

    def failed(self, failure: AttemptFailed, *, at: Deployment) -> bool:
        """Whether another deployment may do better."""
        # What could not be said there tells less than what another answered.
        self._failure = failure if failure.kind != "untranslatable" else self._failure or failure
        if failure.retryable:
            return True
        if _was_too_long(failure, at, tokens=self._call.asked.most_input):
            self._too_long_for.append(at)
            return True
        return False

    def error(self) -> ProxyError:
        """What the caller is told: the last failure, else what kept the call from being sent."""
        if self._failure is not None:
            return as_proxy_error(self._failure)
        if self._used_up:
            return ProviderOverloaded(
                "Every deployment has used up what its provider grants a minute.",
                retry_after=min(one.retry_after for one in self._used_up),
            )
        return ProviderFailed("No deployment could be tried.")


def _passed_over(call: Call, deployment: Deployment, why: str) -> Attempt:
    """A try that was not made: nothing was sent."""
    return Attempt(
        call_id=call.id,
        number=len(call.attempts) + 1,
        deployment_id=deployment.id,
        provider=deployment.target.provider_name,
        model=deployment.target.model,
        status="skipped",
        http_status=None,
        error=why,
        latency_ms=0,
    )


def _was_too_long(failure: AttemptFailed, deployment: Deployment, *, tokens: int) -> bool:
    """By the provider's code; those that have none for it refuse a prompt that we too take for longer than the window."""
    if failure.kind != "bad_request":
        return False
    return failure.code == TOO_LONG or (deployment.context_window is not None and tokens > deployment.context_window)


def _is_larger(deployment: Deployment, *, than: Deployment) -> bool:
    """An unknown window may be larger, that of the same model is not."""
    if deployment.model == than.model:
        return False
    return deployment.context_window is None or than.context_window is None or deployment.context_window > than.context_window
