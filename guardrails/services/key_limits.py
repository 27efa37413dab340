"""A key's own limits and rules: a dedicated policy that is edited on the key's page.

Every limit on a key's path must pass, so what a member sets on its own key can only restrict. What someone else set on
it stays a ceiling: the member may go below it, not above; may narrow a list of what is allowed, not widen it; and takes
nothing from a list of what is blocked.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypedDict, Unpack

from guardrails import entries, patterns
from guardrails.models import Binding, Policy
from guardrails.selectors import (
    NO_LIMITS,
    WINDOWS,
    KeyLimits,
    KeyRules,
    dedicated_policy,
    own_limits,
    own_rules,
)
from guardrails.services.policies import LimitSpec, refuse_bad_limits, write_limits, write_rules
from orgs.actor import Actor
from orgs.audit import Value, audit
from orgs.errors import Refused
from orgs.models import ApiKey, Application, AuditEvent, Group, User
from orgs.permissions import Permission
from orgs.services.changes import changing
from orgs.services.keys import changing_key, create_api_key

KEY_LIMITS_SET = "key.limits_set"
WORDS = {
    "daily_nano_usd": "daily budget",
    "weekly_nano_usd": "weekly budget",
    "monthly_nano_usd": "monthly budget",
    "total_nano_usd": "total budget",
    "rpm": "requests per minute",
    "tpm": "tokens per minute",
    "rpd": "requests per day",
    "parallel": "parallel calls",
    "max_tokens": "output tokens per call",
}


class LimitFields(TypedDict, total=False):
    """The fields of KeyLimits."""

    daily_nano_usd: int | None
    weekly_nano_usd: int | None
    monthly_nano_usd: int | None
    total_nano_usd: int | None
    rpm: int | None
    tpm: int | None
    rpd: int | None
    parallel: int | None
    max_tokens: int | None


class KeyAttributes(TypedDict, total=False):
    """What orgs.services.keys.create_api_key takes besides the group and who makes it."""

    member: User | None
    application: Application | None
    environment: str
    features: Iterable[str]
    expires_at: datetime | None


def create_limited_key(
    group: Group,
    *,
    name: str,
    by: Actor,
    limits: KeyLimits = NO_LIMITS,
    rules: entries.Entries | None = None,
    **attributes: Unpack[KeyAttributes],
) -> tuple[ApiKey, str]:
    """A key and its limits in one step: no call can be made with it before they hold. Raises Refused, NotAllowed."""
    _refuse_out_of_range(limits)
    with changing(by.organization):
        key, text = create_api_key(group, name=name, by=by, **attributes)
        _replace_limits(key, limits, _cleaned_rules(rules or {}, by=by), by=by)
    return key, text


def set_key_limits(key: ApiKey, *, by: Actor, rules: entries.Entries | None = None, **limits: Unpack[LimitFields]) -> KeyLimits:
    """The key's own limits (the fields of KeyLimits), all at once; missing or None: no such limit. What was spent stays spent.

    `rules`: entries by kind, all at once (the fields of KeyRules); None: they stay. Raises Refused, NotAllowed.
    """
    wanted = KeyLimits(**limits)
    _refuse_out_of_range(wanted)
    with changing_key(key, by=by) as fresh:
        lists = own_rules(fresh) if rules is None else _cleaned_rules(rules, by=by)
        _replace_limits(fresh, wanted, lists, by=by)
    return wanted


def _cleaned_rules(rules: entries.Entries, *, by: Actor) -> KeyRules:
    cleaned = entries.clean({kind: rules.get(kind, ()) for kind in KeyRules._fields}, organization=by.organization)
    return KeyRules(**{kind: tuple(found) for kind, found in cleaned.items()})


def _replace_limits(key: ApiKey, limits: KeyLimits, rules: KeyRules, *, by: Actor) -> None:
    before, rules_before = own_limits(key), own_rules(key)
    if (limits, rules) == (before, rules_before):
        return
    if not by.can(Permission.MANAGE_KEYS, key.group):
        _refuse_above_ceiling(key, limits, rules)
    policy = dedicated_policy(key)
    if policy is None:
        policy = Policy.objects.create(organization=by.organization, name=f"Limits of {key.name}"[:120], dedicated=True)
        Binding.objects.create(policy=policy, organization=by.organization, api_key=key)
    write_limits(policy, specs_of(limits))
    write_rules(policy, {kind: list(found) for kind, found in rules._asdict().items() if found})
    audit(KEY_LIMITS_SET, by=by, target=key, before=_facts(before, rules_before), after=_facts(limits, rules))


def may_raise(key: ApiKey, *, by: Actor) -> bool:
    """Whether `by` may lift the key's own limits, as long as nobody set them for its member."""
    return by.can_with_key(Permission.MANAGE_KEYS, key) and (by.can(Permission.MANAGE_KEYS, key.group) or not _ceiling_of(key))


def _ceiling_of(key: ApiKey) -> dict[str, Any]:
    """The latest limits that anyone but the key's member set."""
    set_by_others = AuditEvent.objects.filter(
        organization=key.organization_id, action=KEY_LIMITS_SET, object_type="apikey", object_id=str(key.pk)
    ).exclude(actor=key.member_id)
    return set_by_others.order_by("-at", "-pk").values_list("after", flat=True).first() or {}


def _refuse_above_ceiling(key: ApiKey, limits: KeyLimits, rules: KeyRules) -> None:
    """They bind the member, however it has changed them since."""
    ceiling = _ceiling_of(key)
    for field, wanted in limits._asdict().items():
        highest = ceiling.get(field)
        if highest is not None and (wanted is None or wanted > highest):
            raise Refused(
                f"An admin has set the {WORDS[field]} of this key: you can lower it, not raise or remove it.", field=field
            )
    _refuse_wider_lists(rules, KeyRules(*(tuple(ceiling.get(kind) or ()) for kind in KeyRules._fields)))


def _refuse_wider_lists(rules: KeyRules, ceiling: KeyRules) -> None:
    if ceiling.models and not (rules.models and patterns.all_covered(rules.models, by=ceiling.models)):
        raise Refused("An admin has set the allowed models of this key: you can narrow the list, not widen it.", field="models")
    if not patterns.all_covered(ceiling.blocked_models, by=rules.blocked_models):
        raise Refused("An admin has blocked models for this key: you can add more, not take one away.", field="blocked_models")
    if ceiling.addresses and not (rules.addresses and patterns.all_inside(rules.addresses, of=ceiling.addresses)):
        raise Refused(
            "An admin has set the allowed addresses of this key: you can narrow the list, not widen it.", field="addresses"
        )


def specs_of(limits: KeyLimits) -> list[LimitSpec]:
    return [LimitSpec(*WINDOWS[field], value) for field, value in _set(limits).items()]


def _refuse_out_of_range(limits: KeyLimits) -> None:
    for field, value in _set(limits).items():
        try:
            refuse_bad_limits([LimitSpec(*WINDOWS[field], value)])
        except Refused as refused:
            raise Refused(refused.message, field=field) from refused


def _set(limits: KeyLimits) -> dict[str, int]:
    return {field: value for field, value in limits._asdict().items() if value is not None}


def _facts(limits: KeyLimits, rules: KeyRules) -> dict[str, Value]:
    """Every limit, so that the trail says which are none; lists where there are any."""
    return {**limits._asdict(), **{kind: list(found) for kind, found in rules._asdict().items() if found}}
