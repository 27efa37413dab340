"""Changes of limits: one object's own (a dedicated policy), and policies bound to what they govern.

Every limit on a key's path must pass, so a limit that a member sets on its own key can only restrict. What someone
else set on it stays a ceiling: the member may go below it, not above.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple, TypedDict, Unpack

from guardrails.models import Binding, Limit, Policy
from guardrails.selectors import NO_LIMITS, WINDOWS, KeyLimits, dedicated_policy, own_limits
from orgs.actor import LINEAGE, Actor
from orgs.audit import Value, audit
from orgs.errors import NotAllowed, Refused
from orgs.models import ApiKey, Application, AuditEvent, Group, Membership, Organization, User
from orgs.permissions import Permission
from orgs.services.changes import changing, clean_name
from orgs.services.keys import create_api_key

Subject = Group | User | ApiKey | Application

KEY_LIMITS_SET = "key.limits_set"
# PostgreSQL's bigint: the sum of a counter and a worst case stays below it.
MAX_BUDGET_NANO_USD = 4 * 10**18
MAX_RPM = 1_000_000
WORDS = {
    "daily_nano_usd": "daily budget",
    "monthly_nano_usd": "monthly budget",
    "total_nano_usd": "total budget",
    "rpm": "requests per minute",
}


class LimitSpec(NamedTuple):
    """`value`: nano-dollars of a budget, requests of a rate."""

    kind: str
    window: str
    value: int


class KeyAttributes(TypedDict, total=False):
    """What orgs.services.keys.create_api_key takes besides the group and who makes it."""

    member: User | None
    application: Application | None
    environment: str
    features: Iterable[str]
    expires_at: datetime | None


def create_limited_key(
    group: Group, *, name: str, by: Actor, limits: KeyLimits = NO_LIMITS, **attributes: Unpack[KeyAttributes]
) -> tuple[ApiKey, str]:
    """A key and its limits in one step: no call can be made with it before they hold. Raises Refused, NotAllowed."""
    _refuse_out_of_range(_specs(limits))
    with changing(by.organization):
        key, text = create_api_key(group, name=name, by=by, **attributes)
        if limits != NO_LIMITS:
            _replace_limits(key, limits, by=by)
    return key, text


def set_key_limits(
    key: ApiKey,
    *,
    by: Actor,
    daily_nano_usd: int | None = None,
    monthly_nano_usd: int | None = None,
    total_nano_usd: int | None = None,
    rpm: int | None = None,
) -> KeyLimits:
    """The key's own limits, all at once; None: no such limit. What was spent stays spent. Raises Refused, NotAllowed."""
    limits = KeyLimits(daily_nano_usd, monthly_nano_usd, total_nano_usd, rpm)
    with changing(by.organization):
        fresh = ApiKey.objects.select_related(LINEAGE).get(pk=key.pk)
        if not by.can_with_key(Permission.MANAGE_KEYS, fresh):
            raise NotAllowed(Permission.MANAGE_KEYS, group=fresh.group)
        if fresh.revoked_at:
            raise Refused("This key was deleted.")
        _replace_limits(fresh, limits, by=by)
    return limits


def create_policy(organization: Organization, *, name: str, limits: Iterable[LimitSpec], by: Actor) -> Policy:
    """A named set of limits that binds nobody yet. Raises Refused, NotAllowed."""
    specs = list(limits)
    with changing(organization):
        if by.organization != organization or not by.can_anywhere(Permission.MANAGE_GUARDRAILS):
            raise NotAllowed(Permission.MANAGE_GUARDRAILS)
        policy = Policy.objects.create(organization=organization, name=clean_name(name))
        _write_limits(policy, specs)
        after: dict[str, Value] = {f"{spec.kind} {spec.window}": spec.value for spec in specs}
        audit("policy.created", by=by, target=policy, after=after)
    return policy


def bind(policy: Policy, *, subject: Subject, by: Actor) -> Binding:
    """Each subject of a policy has its own counter. The root group stands for the organisation. Raises Refused, NotAllowed."""
    with changing(by.organization):
        for node in _nodes_of(subject, by=by):
            by.require(Permission.MANAGE_GUARDRAILS, node)
        if policy.organization_id != by.organization.pk or policy.dedicated:
            raise Refused("This policy cannot be bound here.")
        found: dict[str, Any] = {"policy": policy, "organization": by.organization, _column(subject): subject}
        binding, created = Binding.objects.get_or_create(**found)
        if created:
            audit(
                "policy.bound", by=by, target=policy, after={"subject": _column(subject), "id": subject.pk, "name": str(subject)}
            )
    return binding


def _replace_limits(key: ApiKey, limits: KeyLimits, *, by: Actor) -> None:
    before = own_limits(key)
    if limits == before:
        return
    if not by.can(Permission.MANAGE_KEYS, key.group):
        _refuse_above_ceiling(key, limits)
    policy = dedicated_policy(key)
    if policy is None:
        policy = Policy.objects.create(organization=by.organization, name=f"Limits of {key.name}"[:120], dedicated=True)
        Binding.objects.create(policy=policy, organization=by.organization, api_key=key)
    policy.limits.all().delete()
    _write_limits(policy, _specs(limits))
    audit(KEY_LIMITS_SET, by=by, target=key, before=_facts(before), after=_facts(limits))


def _refuse_above_ceiling(key: ApiKey, limits: KeyLimits) -> None:
    """The latest limits that anyone but the key's member set bind the member, however it has changed them since."""
    set_by_others = AuditEvent.objects.filter(
        organization=key.organization_id, action=KEY_LIMITS_SET, object_type="apikey", object_id=str(key.pk)
    ).exclude(actor=key.member_id)
    ceiling = set_by_others.order_by("-at", "-pk").values_list("after", flat=True).first() or {}
    for field, wanted in limits._asdict().items():
        highest = ceiling.get(field)
        if highest is not None and (wanted is None or wanted > highest):
            raise Refused(
                f"An admin has set the {WORDS[field]} of this key: you can lower it, not raise or remove it.", field=field
            )


def _specs(limits: KeyLimits) -> list[LimitSpec]:
    return [LimitSpec(*WINDOWS[field], value) for field, value in _set(limits).items()]


def _refuse_out_of_range(specs: Iterable[LimitSpec]) -> None:
    for spec in specs:
        most = MAX_RPM if spec.kind == Limit.Kind.RPM else MAX_BUDGET_NANO_USD
        if not 0 <= spec.value <= most:
            raise Refused("This limit is out of range.", field=_field(spec))


def _write_limits(policy: Policy, specs: list[LimitSpec]) -> None:
    _refuse_out_of_range(specs)
    Limit.objects.bulk_create([Limit(policy=policy, kind=spec.kind, window=spec.window, value=spec.value) for spec in specs])


def _field(spec: LimitSpec) -> str | None:
    return next((field for field, window in WINDOWS.items() if window == (spec.kind, spec.window)), None)


def _set(limits: KeyLimits) -> dict[str, int]:
    return {field: value for field, value in limits._asdict().items() if value is not None}


def _facts(limits: KeyLimits) -> dict[str, Value]:
    return dict(limits._asdict())


def _nodes_of(subject: Subject, *, by: Actor) -> list[Group]:
    """Where the permission is needed: a member's budget counts all its keys, so at every node it belongs to."""
    if isinstance(subject, Group):
        return [subject]
    if isinstance(subject, User):
        members = Membership.objects.filter(user=subject, organization=by.organization).select_related(LINEAGE)
        nodes = [member.group for member in members]
        if not nodes:
            raise Refused(f"{subject} is not a member of {by.organization}.", field="member")
        return nodes
    return [subject.group]


def _column(subject: Subject) -> str:
    return {Group: "group", User: "member", ApiKey: "api_key", Application: "application"}[type(subject)]
