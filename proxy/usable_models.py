"""The declared models as one person sees them: which its keys may call, from which group, and what keeps it from the others.

Judged as the proxy judges a call of a key that the person makes in each of its groups: by the same rules and functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal, NamedTuple

import msgspec
from django.db import connection
from django.utils import timezone

from billing.prices import PRICES_SQL
from billing.pricing import Rates
from guardrails import compiling
from orgs.access import Node, Principal
from orgs.actor import Actor
from orgs.models import ApiKey, Membership, Organization
from proxy import capabilities, deployments, names, permits, retirement
from proxy.call import Call
from proxy.callers import Caller
from proxy.deployments import Model
from proxy.errors import ModelNotApproved, PermissionRefused
from proxy.models import ProviderKey
from proxy.names import Names
from proxy.protocols import chat_completions
from proxy.retirement import Retirement

_JSON = ("options", "timeout")

# "unkeyed": it may be called, and would fail: the installation has no key for its providers.
Verdict = Literal["usable", "partly", "unapproved", "refused", "unkeyed"]


class Offer(NamedTuple):
    """`why`, `ask` and `refusal` are of the first one; `places` are the groups whose keys may call it, where some may not."""

    model: Model
    verdict: Verdict
    why: str
    ask: str
    places: tuple[str, ...]
    providers: tuple[str, ...]
    rates: Rates | None
    retirement: Retirement | None
    refusal: PermissionRefused | None = None

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def capabilities(self) -> list[str]:
        """As people read them."""
        return [capabilities.CAPABILITIES[word] for word in capabilities.in_order(self.model.capabilities)]

    @property
    def highlights(self) -> list[str]:
        """Without what nearly every model can."""
        words = capabilities.in_order(self.model.capabilities - {"streaming", "parallel_tools"})
        return [capabilities.CAPABILITIES[word] for word in words]

    @property
    def unset_at(self) -> frozenset[str]:
        """Kinds of its providers, where it may be called and none of them has a key here; else none."""
        targets = [one.target for one in self.model.deployments]
        if not self.is_usable or not all(target.unset_variable for target in targets):
            return frozenset()
        return frozenset(target.kind for target in targets)

    def without_key(self) -> Offer:
        why = f"The gateway has no key for {' or '.join(self.providers)} yet, so a call of it would fail."
        return self._replace(verdict="unkeyed", why=why, ask="whoever runs this gateway sets one", places=(), refusal=None)

    @property
    def is_usable(self) -> bool:
        return self.verdict in {"usable", "partly"}


def offers_to(actor: Actor) -> list[Offer]:
    """Every declared model, by name. Two statements, and two more for each group the person belongs to."""
    now = timezone.now()
    calls = [Call(chat_completions.NAME, _caller(_principal(actor, one), now)) for one in actor.memberships]
    return _with_keys([offer_of(model, calls, today=now.date()) for model in _declared(now)], actor.organization)


def chat_offers_to_key(key: ApiKey) -> list[Offer]:
    """The declared models that this key may have a conversation with, by name."""
    now = timezone.now()
    call = Call(chat_completions.NAME, _caller(_principal_of_key(key), now))
    offers = [offer_of(model, [call], today=now.date()) for model in _declared(now) if model.kind == "chat"]
    return [offer for offer in _with_keys(offers, key.organization) if offer.is_usable]


def _with_keys(offers: Sequence[Offer], organization: Organization) -> list[Offer]:
    """Those that nobody has a key for, neither the installation nor the organisation, told apart."""
    if not any(offer.unset_at for offer in offers):
        return list(offers)
    own = set(ProviderKey.objects.filter(organization=organization, enabled=True).values_list("kind", flat=True))
    return [offer.without_key() if offer.unset_at and not offer.unset_at & own else offer for offer in offers]


def names_of(key: ApiKey) -> Names:
    """The presets and aliases that this key may call."""
    (row,) = _rows(names.NAMES_SQL, names.parameters(_principal_of_key(key)))
    return names.from_row(row)


def _declared(now: datetime) -> list[Model]:
    rows = [row | {name: _decoded(row[name]) for name in _JSON} for row in _rows(deployments.CATALOGUE_SQL)]
    models = deployments.assembled(rows, _rows(PRICES_SQL, {"skus": deployments.skus_of(rows), "at": now}))
    return sorted(models.values(), key=lambda model: model.name.lower())


def offer_of(model: Model, calls: Sequence[Call], *, today: date) -> Offer:
    """`calls`: one from each group of the person, asking for nothing in particular."""
    refusals = [permits.refusal_of(call, model) for call in calls]
    open_to = [call for call, refusal in zip(calls, refusals, strict=True) if refusal is None]
    first = next(filter(None, refusals), None)
    served = permits.deployments_for(open_to[0].caller, model) if open_to else model.deployments
    return Offer(
        model=model,
        verdict=_verdict(refusals, open_to),
        why="" if first is None else first.message,
        ask="" if first is None else str((first.detail or {}).get("ask", "")),
        places=tuple(call.principal.path[-1].name for call in open_to) if first else (),
        providers=tuple(dict.fromkeys(one.target.provider_name for one in served)),
        rates=served[0].price.rates if served[0].price else None,
        retirement=retirement.of(
            deprecated_on=model.deprecated_on, retires_on=model.retires_on, replaced_by=model.replaced_by, today=today
        ),
        refusal=first,
    )


def _verdict(refusals: Sequence[PermissionRefused | None], open_to: Sequence[Call]) -> Verdict:
    if open_to:
        return "usable" if len(open_to) == len(refusals) else "partly"
    return "unapproved" if all(isinstance(refusal, ModelNotApproved) for refusal in refusals) else "refused"


def _principal(actor: Actor, membership: Membership) -> Principal:
    """Of a key that the person might make in this group: no key of its own yet, no application."""
    organization = actor.organization
    return Principal(
        organization_id=organization.pk,
        organization_name=organization.name,
        time_zone=organization.time_zone,
        attribution_required=False,
        path=tuple(Node(group.pk, group.level, group.name) for group in membership.group.path()),
        member_id=actor.user.pk,
        member_name=str(actor.user),
        key_id=0,
        key_name="",
        application_id=None,
        application_name="",
        environment="",
        features=(),
        expires_at=None,
        approval_since=organization.approval_since,
        zdr_only=organization.zdr_only,
    )


def _principal_of_key(key: ApiKey) -> Principal:
    organization = key.organization
    return Principal(
        organization_id=organization.pk,
        organization_name=organization.name,
        time_zone=organization.time_zone,
        attribution_required=organization.attribution_required,
        path=tuple(Node(group.pk, group.level, group.name) for group in key.group.path()),
        member_id=key.member_id,
        member_name=str(key.member or ""),
        key_id=key.pk,
        key_name=key.name,
        application_id=key.application_id,
        application_name=key.application.name if key.application else "",
        environment=key.environment,
        features=tuple(key.features),
        expires_at=key.expires_at,
        approval_since=organization.approval_since,
        zdr_only=organization.zdr_only,
    )


def _caller(principal: Principal, now: datetime) -> Caller:
    """With the rules that apply; no call is made, so what was spent does not matter."""
    groups = [node.id for node in principal.path]
    subject = {"organization": principal.organization_id, "groups": groups, "member": principal.member_id}
    bound = msgspec.convert(
        _rows(compiling.BOUND_SQL, {**subject, "key": principal.key_id, "application": principal.application_id}),
        list[compiling.Bound],
    )
    approved = [row["model"] for row in _rows(compiling.APPROVED_SQL, subject)]
    limits = compiling.compiled(principal, bound, approved=approved, generation="", pool_nano_usd=0, now=now)
    return Caller("", "", principal, limits)


def _rows(query: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


def _decoded(value: Any) -> Any:
    """JSON columns come as text through Django's own connection."""
    return msgspec.json.decode(value) if isinstance(value, str) else value
