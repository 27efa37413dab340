"""Policies: named sets of limits, rules and switches, made here and bound to what they govern in `bindings`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypedDict, Unpack

from gateway_project.lib.money import MOST_NANO_USD, display_usd
from guardrails import entries
from guardrails.models import Limit, Policy, Rule
from guardrails.subjects import nodes_governed
from orgs.actor import LINEAGE, Actor
from orgs.audit import Value, audit
from orgs.errors import NotAllowed, Refused
from orgs.models import AuditEvent, Group, Organization, User
from orgs.permissions import Permission
from orgs.services.changes import NAME_LENGTH, alike, changing, clean_name

# PostgreSQL's bigint: the sum of a counter and a worst case stays below it.
MAX_BUDGET_NANO_USD = MOST_NANO_USD
MAX_RPM = 1_000_000
MAX_COUNT = 10**12
MOST = {Limit.Kind.BUDGET: MAX_BUDGET_NANO_USD, Limit.Kind.RPM: MAX_RPM}
DESCRIPTION_LENGTH = 300
# In the audit trail, before the name of a budget that counts calls on own provider keys.
OWN_KEYS_IN = "own keys in"
MODEL_LENGTH = 200
MAX_TOKENS = 2**31 - 1


class LimitSpec(NamedTuple):
    """`value`: nano-dollars of a budget, else a count. `counts_byok`: a budget counts calls on own provider keys, too."""

    kind: str
    window: str
    value: int
    counts_byok: bool = False


class Switches(TypedDict, total=False):
    """How a policy's budgets are applied; None: as the next policy on the way up says. See `models.Policy`."""

    clamp: bool | None
    clamp_least_tokens: int | None
    observed_holds: bool | None
    degrade_percent: int | None
    degrade_model: str


class Changes(Switches, total=False):
    """What a policy may be changed in. Limits and rules are given whole: what is not among them goes."""

    name: str
    description: str
    limits: Iterable[LimitSpec]
    rules: entries.Entries


class Contents(Switches):
    """All that a policy says."""

    name: str
    description: str
    limits: Iterable[LimitSpec]
    rules: entries.Entries


SWITCHES = ("clamp", "clamp_least_tokens", "observed_holds", "degrade_percent", "degrade_model")


def create_policy(
    organization: Organization,
    *,
    name: str,
    limits: Iterable[LimitSpec],
    by: Actor,
    description: str = "",
    rules: entries.Entries | None = None,
    kept: Iterable[str] = (),
    **switches: Unpack[Switches],
) -> Policy:
    """It binds nobody yet. `rules`: entries by kind; `kept`: see `entries.clean`. Raises Refused, NotAllowed."""
    specs = list(limits)
    with changing(organization):
        if by.organization != organization or not by.can_anywhere(Permission.MANAGE_GUARDRAILS):
            raise NotAllowed(Permission.MANAGE_GUARDRAILS)
        wanted = _cleaned({"name": name, "description": description, **switches}, organization)
        policy = Policy.objects.create(organization=organization, **wanted)
        write_limits(policy, specs)
        write_rules(policy, entries.clean(rules or {}, organization=organization, kept=kept))
        audit("policy.created", by=by, target=policy, after=facts(policy))
    return policy


def change_policy(policy: Policy, *, by: Actor, **wanted: Unpack[Changes]) -> Policy:
    """What is not given stays. It counts on the next call; what was spent stays spent. Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = changeable(policy, by=by)
        before = facts(fresh)
        columns = {name: value for name, value in wanted.items() if name not in ("limits", "rules")}
        for column, value in _cleaned(columns, by.organization, policy=fresh).items():
            setattr(fresh, column, value)
        fresh.save()
        if "limits" in wanted:
            write_limits(fresh, list(wanted["limits"]))
        if "rules" in wanted:
            write_rules(fresh, entries.clean(wanted["rules"], organization=by.organization, kept=_people_in(fresh)))
        _audit_difference(fresh, before, by=by)
    return fresh


def copy_policy(policy: Policy, *, by: Actor) -> Policy:
    """The same limits, rules and switches under another name, bound to nobody. Raises Refused, NotAllowed."""
    fresh = Policy.objects.get(pk=policy.pk)
    if fresh.organization_id != by.organization.pk or fresh.dedicated:
        raise Refused("This policy cannot be copied.")
    return create_policy(
        by.organization,
        name=_free_name(fresh),
        description=fresh.description,
        limits=[LimitSpec(limit.kind, limit.window, limit.value, limit.counts_byok) for limit in fresh.limits.order_by("pk")],
        rules={rule.kind: rule.entries for rule in fresh.rules.all()},
        kept=_people_in(fresh),
        by=by,
        clamp=fresh.clamp,
        clamp_least_tokens=fresh.clamp_least_tokens,
        observed_holds=fresh.observed_holds,
        degrade_percent=fresh.degrade_percent,
        degrade_model=fresh.degrade_model,
    )


def delete_policy(policy: Policy, *, by: Actor, confirmed: bool = False) -> None:
    """With its bindings and exceptions. One that governs something goes only `confirmed`. Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = changeable(policy, by=by)
        bound = [str(binding.subject) for binding in fresh.bindings.select_related("group", "member", "api_key", "application")]
        if bound and not confirmed:
            raise Refused(f"{fresh} governs {', '.join(sorted(bound)[:5])}{' and more' if len(bound) > 5 else ''}.")
        audit("policy.deleted", by=by, target=fresh, before={**facts(fresh), "bound to": sorted(bound)})
        fresh.delete()


def changeable(policy: Policy, *, by: Actor) -> Policy:
    """As it is now, if `by` may change it (see `require_change`). Raises Refused, NotAllowed."""
    fresh = Policy.objects.filter(pk=policy.pk, organization=by.organization, dedicated=False).first()
    if fresh is None:
        raise Refused("There is no such policy any more.")
    require_change(fresh, by=by)
    return fresh


def require_change(policy: Policy, *, by: Actor) -> None:
    """Everything that it governs must be `by`'s to manage. What governs nobody is whose it was made by: others may be about
    to bind it. Whoever manages guardrails of the whole organisation may change any. Raises NotAllowed."""
    if by.organization.pk == policy.organization_id and by.can_everywhere(Permission.MANAGE_GUARDRAILS):
        return
    nodes = nodes_governed(policy)
    for node in nodes:
        by.require(Permission.MANAGE_GUARDRAILS, node)
    if not by.can_anywhere(Permission.MANAGE_GUARDRAILS) or not (nodes or maker_of(policy) == by.user):
        raise NotAllowed(Permission.MANAGE_GUARDRAILS)


def may_change(policy: Policy, *, by: Actor) -> bool:
    try:
        require_change(policy, by=by)
    except NotAllowed:
        return False
    return True


def maker_of(policy: Policy) -> User | None:
    """By the audit trail, which no one rewrites. None: a command, or an account that is gone."""
    made = AuditEvent.objects.filter(
        organization=policy.organization_id, object_type="policy", object_id=str(policy.pk), action="policy.created"
    )
    event = made.select_related("actor").first()
    return event.actor if event else None


def governed_last(policy: Policy) -> Group:
    """Of one that governs nobody: the group of what it was bound to last, by the audit trail; else the root."""
    bound = AuditEvent.objects.filter(
        organization=policy.organization_id, object_type="policy", object_id=str(policy.pk), action__startswith="policy."
    )
    event = bound.filter(group__isnull=False).select_related(LINEAGE).order_by("-pk").first()
    return event.group if event and event.group else policy.organization.root


def write_limits(policy: Policy, specs: list[LimitSpec]) -> None:
    """Those that stay keep their rows, and with them the exceptions made to them. Raises Refused."""
    refuse_bad_limits(specs)
    wanted = {(spec.kind, spec.window): spec for spec in specs}
    for limit in policy.limits.all():
        spec = wanted.pop((limit.kind, limit.window), None)
        if spec is None:
            limit.delete()
        elif spec != LimitSpec(limit.kind, limit.window, limit.value, limit.counts_byok):
            Limit.objects.filter(pk=limit.pk).update(value=spec.value, counts_byok=spec.counts_byok)
    Limit.objects.bulk_create([Limit(policy=policy, **spec._asdict()) for spec in wanted.values()])


def write_rules(policy: Policy, cleaned: Mapping[str, list[str]]) -> None:
    policy.rules.exclude(kind__in=cleaned).delete()
    for kind, found in cleaned.items():
        Rule.objects.update_or_create(policy=policy, kind=kind, defaults={"entries": found})


def _people_in(policy: Policy) -> list[str]:
    """The ids in its list of members."""
    return [entry for rule in policy.rules.filter(kind=Rule.Kind.MEMBERS) for entry in rule.entries]


def refuse_bad_limits(specs: Iterable[LimitSpec]) -> None:
    """`field` of the refusal is `<kind> <window>`. Raises Refused."""
    seen = set()
    for spec in specs:
        field = f"{spec.kind} {spec.window}"
        if spec.window not in Limit.WINDOWS.get(spec.kind, ()):
            raise Refused("There is no such limit.", field=field)
        if field in seen:
            raise Refused("A policy has one limit of each kind.", field=field)
        if spec.counts_byok and spec.kind != Limit.Kind.BUDGET:
            raise Refused("Only a budget can count what own provider keys cost.", field=field)
        most = MOST.get(Limit.Kind(spec.kind), MAX_COUNT)
        if not 0 <= spec.value <= most:
            bounds = f"$0 to {display_usd(most)}" if spec.kind == Limit.Kind.BUDGET else f"0 to {most:,}"
            raise Refused(f"This limit is out of range: {bounds}.", field=field)
        seen.add(field)


def facts(policy: Policy) -> dict[str, Value]:
    """For the audit trail: limits by kind and window, rules by kind, what is set of the rest."""
    found: dict[str, Value] = {"name": policy.name}
    limits = list(policy.limits.order_by("pk"))
    found |= {f"{limit.kind} {limit.window}": limit.value for limit in limits}
    found |= {f"{OWN_KEYS_IN} {limit.kind} {limit.window}": True for limit in limits if limit.counts_byok}
    found |= {rule.kind: rule.entries for rule in policy.rules.order_by("pk")}
    plain = {name: getattr(policy, name) for name in ("description", *SWITCHES)}
    return found | {name: value for name, value in plain.items() if value not in (None, "")}


def _audit_difference(policy: Policy, before: Mapping[str, Value], *, by: Actor) -> None:
    after = facts(policy)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if changed:
        audit(
            "policy.changed",
            by=by,
            target=policy,
            before={name: before[name] for name in changed if name in before},
            after={name: after[name] for name in changed if name in after},
        )


def _cleaned(wanted: Mapping[str, Any], organization: Organization, *, policy: Policy | None = None) -> dict[str, Any]:
    cleaned = dict(wanted)
    if "name" in cleaned:
        cleaned["name"] = clean_name(cleaned["name"])
        _refuse_taken(cleaned["name"], organization, policy)
    if "description" in cleaned:
        cleaned["description"] = " ".join(cleaned["description"].split())
        if len(cleaned["description"]) > DESCRIPTION_LENGTH:
            raise Refused(f"A description has at most {DESCRIPTION_LENGTH} characters.", field="description")
    least = cleaned.get("clamp_least_tokens")
    if least is not None and not 1 <= least <= MAX_TOKENS:
        raise Refused("Give a number of tokens from 1 on.", field="clamp_least_tokens")
    _clean_degrading(cleaned, policy)
    return cleaned


def _clean_degrading(cleaned: dict[str, Any], policy: Policy | None) -> None:
    percent = cleaned.get("degrade_percent", policy.degrade_percent if policy else None)
    model = cleaned.get("degrade_model", policy.degrade_model if policy else "").strip()
    if "degrade_model" in cleaned:
        cleaned["degrade_model"] = model
    if percent is not None and not 1 <= percent <= 100:
        raise Refused("Give a share from 1 to 100 per cent.", field="degrade_percent")
    if model and (not entries.NAME.fullmatch(model) or "*" in model or "?" in model):
        raise Refused("Give the name of one model.", field="degrade_model")
    if percent is not None and not model:
        raise Refused("Name the model that calls go to.", field="degrade_model")
    if percent is None and model:
        raise Refused("From which share of a budget on?", field="degrade_percent")


def _refuse_taken(name: str, organization: Organization, policy: Policy | None) -> None:
    same = alike(Policy.objects.filter(organization=organization, dedicated=False), "name", name)
    if (same.exclude(pk=policy.pk) if policy else same).exists():
        raise Refused("There is a policy of this name already.", field="name")


def _free_name(policy: Policy) -> str:
    taken = {
        name.lower()
        for name in Policy.objects.filter(organization=policy.organization_id, dedicated=False).values_list("name", flat=True)
    }
    endings = ("copy", *(f"copy {number}" for number in range(2, len(taken) + 3)))
    names = (f"{policy.name[: NAME_LENGTH - len(ending) - 3]} ({ending})" for ending in endings)
    return next(name for name in names if name.lower() not in taken)
