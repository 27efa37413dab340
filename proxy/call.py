"""One call as it grows: what is known of it so far. Its stages fill it in, recording reads it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import Raw

from billing.ledger import Attempt
from billing.pricing import Price
from gateway_project.lib import ids
from guardrails.admission import Admitted
from guardrails.limits import Limit
from orgs.access import Principal
from proxy.auto import Decision
from proxy.callers import Caller
from proxy.canonical.request import Request
from proxy.canonical.usage import Usage
from proxy.deployments import Deployment
from proxy.errors import ProxyError
from proxy.health.quotas import Reservation
from proxy.routing import Plan


class Claim(msgspec.Struct, frozen=True):
    """What stands for one call in proxy.idempotency: whose key, and digests of the idempotency key and of what was asked."""

    api_key_id: int
    key_digest: bytes
    body_digest: bytes


@dataclass(slots=True)
class Call:
    """Times are `time.monotonic()` seconds except `began_at` (aware UTC)."""

    protocol: str
    caller: Caller
    feature_asked: str = ""
    address: str = ""
    session_asked: str = ""
    zdr_asked: bool = False
    id: UUID = field(default_factory=ids.new_call_id)
    started: float = field(default_factory=time.monotonic)
    feature: str = ""
    # As it was read, and as it is sent once a preset has been applied (proxy/steering.py).
    original: Request | None = None
    # Set where the caller gave an idempotency key, and this is the call that runs under it.
    claim: Claim | None = None
    request: Request | None = None
    preset: str = ""
    # The model's name, aliases resolved; what `auto` decided; the price that savings are told against.
    target: str = ""
    decision: Decision | None = None
    baseline: Price | None = None
    plan: Plan | None = None
    held: Admitted | None = None
    max_tokens: int | None = None
    # The budget near whose cap this call was sent to a cheaper model.
    degraded: Limit | None = None
    # No budget or pool would pay for the operator's deployments: only those with own provider keys are left.
    own_only: bool = False
    # Why the gateway ends the answer before the provider does.
    cut: ProxyError | None = None
    served_by: Deployment | None = None
    # What was counted there though it was no answer.
    wasted: Usage | None = None
    # What the provider that was asked last has not been told of the call: names, as the caller writes them.
    ignored: tuple[str, ...] = ()
    # It was told to keep what it caches for an hour, and does not report for how long it did.
    caches_for_an_hour: bool = False
    first_token: float | None = None
    # When what is measured as the speed of the answer began: of a stream its first frame, else the attempt.
    answer_began: float | None = None
    # What the deployment that serves the call has set apart for it.
    reservation: Reservation | None = None
    attempts: list[Attempt] = field(default_factory=list)
    # The call whose kept response this one goes on from, and what it says itself, without that history.
    continues: UUID | None = None
    said: list[Raw] = field(default_factory=list)

    @property
    def principal(self) -> Principal:
        return self.caller.principal

    @property
    def asked(self) -> Request:
        """The request, once it has been read."""
        if self.request is None:
            raise RuntimeError("the request has not been read yet")
        return self.request

    @property
    def planned(self) -> Plan:
        if self.plan is None:
            raise RuntimeError("the call has not been planned yet")
        return self.plan

    @property
    def began_at(self) -> datetime:
        return ids.time_of(self.id)

    @property
    def model(self) -> str:
        """The model that the call goes to: the one asked for, unless a policy sent it elsewhere."""
        if self.degraded is not None:
            return self.degraded.degrade_model
        return self.decision.model if self.decision is not None else self.target or self.asked.model

    @property
    def most_output(self) -> int:
        """Tokens that the provider was told to write at most, over all choices."""
        return self.asked.n * (self.max_tokens or self.planned.output_cap)

    @property
    def served_model(self) -> str:
        """The name in the catalogue of the model that answers: the one it goes to, unless it fell back to another."""
        return (self.served_by.model if self.served_by is not None else "") or self.planned.model.name

    @property
    def route_reason(self) -> str:
        """Why it went to the deployment that served it, or would have gone to the first."""
        plan = self.planned
        if self.served_by is None or self.served_by not in plan.deployments:
            return plan.reasons[0]
        if any(
            attempt.status in ("failed", "skipped") and attempt.deployment_id != self.served_by.id for attempt in self.attempts
        ):
            return "fallback"
        return plan.reasons[plan.deployments.index(self.served_by)]

    @property
    def tries(self) -> int:
        """How many deployments were really sent to."""
        return sum(attempt.status != "skipped" for attempt in self.attempts)

    def cap_at(self, deployment: Deployment) -> int | None:
        """The output cap to write into the request; None where the caller's own or the model's applies."""
        if deployment.model == self.planned.model.name or self.asked.output_bound is not None:
            return self.max_tokens
        # Another model's maximum is neither what was asked for nor what was reserved.
        cap = self.max_tokens or self.planned.output_cap
        return min(cap, deployment.max_output_tokens or cap)

    @property
    def unguarded(self) -> bool:
        return self.held is not None and self.held.unguarded

    @property
    def clamped(self) -> bool:
        return self.held is not None and self.held.clamped

    @property
    def seconds_left(self) -> float:
        """Of the bound on the whole call, fallbacks and streaming included."""
        return self.planned.total_seconds - (time.monotonic() - self.started)

    def elapsed_ms(self, since: float | None = None) -> int:
        return round((time.monotonic() - (self.started if since is None else since)) * 1000)

    def first_token_ms(self) -> int | None:
        return None if self.first_token is None else round((self.first_token - self.started) * 1000)
