"""Simulations: asked for, sent to a worker, cancelled, run again, deleted; each audited. Nothing here changes what is spent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from functools import partial
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from django.db import transaction
from django.http import Http404
from django.utils import timezone
from kombu.exceptions import OperationalError

from gateway_project.lib.rows import sole
from guardrails import windows
from guardrails.models import Policy
from guardrails.models import Rule as PolicyRule
from guardrails.policy_selectors import policies_visible_to
from orgs.actor import Actor
from orgs.audit import Value, audit
from orgs.errors import NotAllowed, Refused
from orgs.models import Application, Group, Organization
from orgs.permissions import Permission
from orgs.selectors import tree_visible_to
from orgs.services.changes import clean_name
from proxy import tasks
from proxy.models import Simulation
from proxy.simulating import rows, spans
from proxy.simulating.proposal import Limit, Proposal, Rule, Target
from proxy.simulating.wording import words

# Each takes a worker for a minute: others must have their turn.
MOST_UNFINISHED = 3
MOST_TARGETS = 500
# So few days with calls show little of what limits would do.
FEW_DAYS = 3
FIRST_YEAR = 2000
NO_WORKER = "It could not be handed to a background worker: the message broker did not answer. Run it again in a moment."
REPLAYED_LIMITS = ("budget", "rpm", "tpm", "rpd", "parallel", "max_tokens")
REPLAYED_RULES = ("models", "blocked_models", "providers", "members")
# Of a policy's parts, what the ledger cannot tell; keys and seats judge no call.
ADDRESSES = "allowed addresses (from where a call came is not kept)"
DEGRADING = "the cheaper model near the cap (what it would have written nobody knows)"
Span = Simulation.Span


class Wanted(NamedTuple):
    """What somebody asks to try. Either `policy`, or `limits` and `rules`."""

    name: str
    policy: Policy | None
    limits: tuple[Limit, ...]
    rules: tuple[Rule, ...]
    targets: tuple[Target, ...]
    span: str
    period: spans.Span


def guarded_groups(actor: Actor) -> list[Group]:
    """The groups whose limits the actor may set, in the order of the tree."""
    groups = tree_visible_to(actor, Permission.MANAGE_GUARDRAILS)
    return [group for group in groups if actor.can(Permission.MANAGE_GUARDRAILS, group)]


def visible_to(actor: Actor) -> Any:
    """Simulations of subjects whose limits the actor may set, newest first."""
    found = (
        Simulation.objects.filter(organization=actor.organization)
        .select_related("created_by", "organization")
        .order_by("-created_at", "-pk")
    )
    if actor.can_everywhere(Permission.MANAGE_GUARDRAILS):
        return found
    return found.filter(group_ids__contained_by=[group.pk for group in guarded_groups(actor)])


def access_simulation_by_id(actor: Actor, simulation_id: int) -> Simulation:
    """Raises Http404."""
    found: Simulation | None = sole(visible_to(actor).filter(pk=simulation_id))
    if found is None:
        raise Http404("no such simulation")
    return found


def start(wanted: Wanted, *, by: Actor) -> Simulation:
    """Raises Refused, NotAllowed."""
    proposal = _proposal(wanted, by=by)
    groups = _required(wanted.targets, by=by)
    if wanted.period.ends_at - wanted.period.starts_at > spans.LONGEST:
        raise Refused(f"At most {spans.LONGEST.days} days at once.", field="first")
    with transaction.atomic():
        _lock(by.organization)
        _refuse_too_many(by.organization)
        made = Simulation.objects.create(
            organization=by.organization,
            name=clean_name(wanted.name),
            policy=wanted.policy,
            proposal=msgspec.to_builtins(proposal),
            group_ids=sorted(groups),
            span=wanted.span,
            starts_at=wanted.period.starts_at,
            ends_at=wanted.period.ends_at,
            created_by=by.user,
        )
        audit("simulation.started", by=by, target=made, after=_facts(made))
        _send(made)
    return made


def start_again(simulation: Simulation, *, by: Actor) -> None:
    """With the policy as it is now, and the month as it is now. Raises Refused."""
    with transaction.atomic():
        _lock(by.organization)
        fresh = _fresh(simulation, by=by)
        before = _facts(fresh)
        if fresh.is_unfinished:
            raise Refused("It has not ended yet.")
        _refuse_too_many(by.organization)
        if fresh.policy is not None:
            targets = msgspec.convert(fresh.proposal, Proposal).targets
            fresh.proposal = msgspec.to_builtins(_of_policy(fresh.policy, targets, by=by))
        fresh.starts_at, fresh.ends_at = period_of(fresh.span, organization=by.organization) or (fresh.starts_at, fresh.ends_at)
        fresh.status, fresh.run, fresh.progress, fresh.calls = Simulation.Status.QUEUED, fresh.run + 1, 0, 0
        fresh.result, fresh.error, fresh.started_at, fresh.finished_at = {}, "", None, None
        fresh.created_at = timezone.now()
        fresh.save()
        audit("simulation.run_again", by=by, target=fresh, before=before, after=_facts(fresh))
        _send(fresh)


def cancel(simulation: Simulation, *, by: Actor) -> bool:
    """Its worker stops within a second or so. False where it had ended already. Raises Refused."""
    with transaction.atomic():
        fresh = _fresh(simulation, by=by)
        if not fresh.is_unfinished:
            return False
        before = {"status": fresh.status}
        fresh.status, fresh.finished_at = Simulation.Status.CANCELLED, timezone.now()
        fresh.save(update_fields=["status", "finished_at"])
        audit("simulation.cancelled", by=by, target=fresh, before=before, after={"status": fresh.status})
    return True


def delete(simulation: Simulation, *, by: Actor) -> None:
    """With its result; the worker of one that runs stops. Raises Refused."""
    with transaction.atomic():
        fresh = _fresh(simulation, by=by)
        audit("simulation.deleted", by=by, target=fresh, before=_facts(fresh))
        fresh.delete()


def period_of(span: str, *, organization: Organization) -> spans.Span | None:
    """None for one whose days are typed."""
    calendar, now = windows.Calendar.of(organization), timezone.now()
    if span == Span.LAST_MONTH:
        return spans.last_month(now=now, calendar=calendar)
    return spans.this_month(now=now, calendar=calendar) if span == Span.THIS_MONTH else None


def span_to_begin_with(organization: Organization) -> Span:
    """The month before this one; the month so far where the one before has calls on few days only, as of a new installation."""
    calendar = windows.Calendar.of(organization)
    month = spans.last_month(now=timezone.now(), calendar=calendar)
    days = windows.starts_between(*month, "day", calendar)
    with_calls = rows.days_with_calls(rows.Period(organization.pk, *month), starts=days)
    return Span.LAST_MONTH if with_calls > FEW_DAYS else Span.THIS_MONTH


def period_between(first: date, last: date, *, organization: Organization) -> spans.Span:
    """Days by the organisation's calendar, both included. Raises Refused."""
    if first > timezone.localdate(timezone=ZoneInfo(organization.time_zone)):
        raise Refused("This day is still to come.", field="first")
    if first.year < FIRST_YEAR:
        raise Refused(f"Nothing was called before {FIRST_YEAR}.", field="first")
    if last < first:
        raise Refused("This is before the first day.", field="last")
    if (last - first).days >= spans.LONGEST.days:
        raise Refused(f"At most {spans.LONGEST.days} days at once.", field="last")
    return spans.days(first, last, calendar=windows.Calendar.of(organization))


def _proposal(wanted: Wanted, *, by: Actor) -> Proposal:
    if wanted.policy is not None:
        return _of_policy(wanted.policy, wanted.targets, by=by)
    if not wanted.limits and not wanted.rules:
        raise Refused("Set at least one limit, or choose a policy.")
    return Proposal(wanted.limits, wanted.rules, wanted.targets)


def _of_policy(policy: Policy, targets: tuple[Target, ...], *, by: Actor) -> Proposal:
    if not policies_visible_to(by).filter(pk=policy.pk).exists():
        raise Refused("You may not see this policy, or it is gone.", field="policy")
    limits, rules = list(policy.limits.order_by("pk")), list(policy.rules.order_by("pk"))
    proposal = Proposal(
        tuple(
            msgspec.convert({name: getattr(limit, name) for name in Limit.__struct_fields__}, Limit)
            for limit in limits
            if limit.kind in REPLAYED_LIMITS
        ),
        tuple(
            msgspec.convert({"kind": rule.kind, "entries": rule.entries}, Rule)
            for rule in rules
            if rule.kind in REPLAYED_RULES and rule.entries
        ),
        targets,
        tuple(_left_out(policy, rules)),
    )
    if not proposal.limits and not proposal.rules:
        raise Refused("This policy has nothing that the ledger could be replayed against.", field="policy")
    return proposal


def _left_out(policy: Policy, rules: list[PolicyRule]) -> Iterator[str]:
    if any(rule.kind == "addresses" and rule.entries for rule in rules):
        yield ADDRESSES
    if policy.degrade_model:
        yield DEGRADING


def _required(targets: Iterable[Target], *, by: Actor) -> set[int]:
    """The groups at which the actor must be allowed to set limits, and is. What is not there is as what may not be touched."""
    wanted = list(targets)
    if not wanted:
        raise Refused("Choose at least one: the organisation, a group, its members or keys, or an application.")
    if len(wanted) > MOST_TARGETS:
        raise Refused(f"At most {MOST_TARGETS} at once.")
    ids = [target.id for target in wanted if target.kind == "application"]
    homes = dict(Application.objects.filter(organization=by.organization, pk__in=ids).values_list("pk", "group_id"))
    needed = {homes.get(target.id, 0) if target.kind == "application" else target.id for target in wanted}
    if not needed <= {group.pk for group in guarded_groups(by)}:
        raise NotAllowed(Permission.MANAGE_GUARDRAILS)
    return needed


def _lock(organization: Organization) -> None:
    """Of two who ask at once, one counts after the other."""
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)


def _fresh(simulation: Simulation, *, by: Actor) -> Simulation:
    """As it is now, locked against its worker. Raises Refused where it is gone, or out of reach."""
    found: Simulation | None = visible_to(by).select_for_update(of=("self",)).filter(pk=simulation.pk).first()
    if found is None:
        raise Refused("There is no such simulation any more.")
    return found


def _facts(simulation: Simulation) -> dict[str, Value]:
    """For the audit trail: what is tried, on how many, over which days."""
    proposal = msgspec.convert(simulation.proposal, Proposal)
    return {
        "name": simulation.name,
        "policy": simulation.policy.name if simulation.policy else None,
        "tries": words(proposal),
        "targets": [f"{target.kind} {target.id}" for target in proposal.targets],
        "from": simulation.starts_at.isoformat(),
        "to": simulation.ends_at.isoformat(),
        "run": simulation.run,
        "status": simulation.status,
    }


def _refuse_too_many(organization: Organization) -> None:
    if Simulation.objects.filter(organization=organization, status__in=Simulation.UNFINISHED).count() >= MOST_UNFINISHED:
        raise Refused(f"{MOST_UNFINISHED} simulations have not ended yet. Wait for one, or cancel one.")


def _send(simulation: Simulation) -> None:
    transaction.on_commit(partial(_hand_over, simulation.pk, simulation.run))


def _hand_over(simulation_id: int, number: int) -> None:
    try:
        tasks.simulate.apply_async((simulation_id, number), retry=False)
    except OperationalError:
        waiting = Simulation.objects.filter(pk=simulation_id, run=number, status=Simulation.Status.QUEUED)
        waiting.update(status=Simulation.Status.FAILED, error=NO_WORKER, finished_at=timezone.now())
