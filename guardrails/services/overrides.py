"""Exceptions to one limit for one subject: so much more until a date, or what was spent in the running window forgiven."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Q, Sum
from django.utils import timezone

from gateway_project.lib.money import display_usd
from guardrails import spending, windows
from guardrails.models import Binding, Limit, Override
from guardrails.services.bindings import require_guardrails_of
from guardrails.services.policies import MAX_COUNT, MOST
from guardrails.subjects import Subject, column_of, counter_of, nodes_of
from orgs.actor import Actor
from orgs.audit import Value, audit
from orgs.errors import Refused
from orgs.models import ApiKey, Organization, User
from orgs.services.changes import changing, clean_line

REASON_LENGTH = 300
LATEST_YEAR = 2100


def add_override(
    limit: Limit,
    *,
    subject: Subject,
    amount: int,
    until: datetime,
    by: Actor,
    reason: str = "",
    starts_at: datetime | None = None,
) -> Override:
    """`amount` more, nano-dollars of a budget, else a count, until then. Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = _limit_of(limit, subject, by=by)
        now = timezone.now()
        _refuse_amount(amount, kind=Limit.Kind(fresh.kind))
        if not max(now, starts_at or now) < until or until.year >= LATEST_YEAR:
            raise Refused("Choose a day that is still to come.", field="until")
        return _written(fresh, subject, Override.Kind.EXTRA, amount, until, reason, starts_at or now, by=by)


def reset_usage(limit: Limit, *, subject: Subject, by: Actor, reason: str = "") -> Override:
    """A budget counts anew from here to the end of its window. The ledger stays as it is. Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = _limit_of(limit, subject, by=by)
        if fresh.kind != Limit.Kind.BUDGET:
            raise Refused("Only what a budget has counted can be reset.")
        now = timezone.now()
        amount, until = spent_now(fresh, subject=subject, organization=by.organization, now=now)
        amount -= _forgiven(fresh, subject, now=now)
        if amount <= 0:
            raise Refused("Nothing was spent in this window: there is nothing to reset.")
        return _written(fresh, subject, Override.Kind.RESET, amount, until, reason, now, by=by)


def end_override(override: Override, *, by: Actor) -> Override:
    """Raises Refused, NotAllowed."""
    return _set_end(override, timezone.now(), by=by)


def resume_override(override: Override, *, by: Actor) -> Override:
    """One that was ended before its time counts again. Raises Refused, NotAllowed."""
    return _set_end(override, None, by=by)


def running(now: datetime) -> Q:
    """Those that count now, or are still to begin."""
    return Q(revoked_at=None) & (Q(until=None) | Q(until__gt=now))


def spent_now(limit: Limit, *, subject: Subject, organization: Organization, now: datetime) -> tuple[int, datetime | None]:
    """What a budget's running window counts for this subject, and when the window ends."""
    kind: windows.Kind = next((kind for kind in windows.BOUNDED if kind == limit.window), "total")
    window = windows.containing(now, kind, windows.Calendar.of(organization))
    asked = spending.Asked(counter_of(subject), window.starts_at, limit.counts_byok)
    return spending.spent(organization.pk, [asked])[asked], window.ends_at


def reaches(limit: Limit, subject: Subject, *, organization: Organization) -> bool:
    """Whether the limit's policy is bound to the subject, or a default that may come to it."""
    bound = Q(reach=Binding.Reach.SELF, **{column_of(subject): subject})
    if isinstance(subject, User | ApiKey):
        reach = Binding.Reach.MEMBERS if isinstance(subject, User) else Binding.Reach.KEYS
        above = {pk for node in nodes_of(subject, organization=organization) for pk in node.lineage()}
        bound |= Q(reach=reach, group__in=above)
    return Binding.objects.filter(bound, policy=limit.policy_id, organization=organization).exists()


def _limit_of(limit: Limit, subject: Subject, *, by: Actor) -> Limit:
    require_guardrails_of(subject, by=by)
    fresh = Limit.objects.filter(pk=limit.pk, policy__organization=by.organization).select_related("policy").first()
    if fresh is None:
        raise Refused("There is no such limit any more.")
    if not reaches(fresh, subject, organization=by.organization):
        raise Refused(f"{fresh.policy} does not govern {subject}.", field="subject")
    return fresh


def _refuse_amount(amount: int, *, kind: Limit.Kind) -> None:
    most = MOST.get(kind, MAX_COUNT)
    if amount <= 0:
        raise Refused("Give more than zero.", field="amount")
    if amount > most:
        raise Refused(f"At most {display_usd(most) if kind == Limit.Kind.BUDGET else f'{most:,}'} more.", field="amount")


def _forgiven(limit: Limit, subject: Subject, *, now: datetime) -> int:
    """Of the running window: a reset of one that a change of the calendar has ended forgives nothing any more."""
    own = limit.overrides.filter(running(now), kind=Override.Kind.RESET, starts_at__lte=now, **{column_of(subject): subject})
    kind: windows.Kind = next((kind for kind in windows.BOUNDED if kind == limit.window), "total")
    starts_at = windows.containing(now, kind, windows.Calendar.of(limit.policy.organization)).starts_at
    if starts_at is not None:
        own = own.filter(starts_at__gte=starts_at)
    return own.aggregate(total=Sum("amount"))["total"] or 0


def _refuse_forgiving_twice(override: Override, *, by: Actor) -> None:
    """Another reset since has forgiven the same spending."""
    now, limit, subject = timezone.now(), override.limit, override.subject
    spent, _ = spent_now(limit, subject=subject, organization=by.organization, now=now)
    if override.amount > spent - _forgiven(limit, subject, now=now):
        raise Refused("What this reset forgave was reset again since.")


def _written(
    limit: Limit,
    subject: Subject,
    kind: Override.Kind,
    amount: int,
    until: datetime | None,
    reason: str,
    starts_at: datetime,
    *,
    by: Actor,
) -> Override:
    override = Override(
        organization=by.organization,
        limit=limit,
        kind=kind,
        amount=amount,
        starts_at=starts_at,
        until=until,
        reason=clean_line(reason, field="reason", length=REASON_LENGTH),
        created_by=by.user,
    )
    setattr(override, column_of(subject), subject)
    override.save()
    action = "policy.usage_reset" if kind == Override.Kind.RESET else "policy.override_added"
    audit(action, by=by, target=limit.policy, after=_facts(override), group=override.node)
    return override


def _set_end(override: Override, revoked_at: datetime | None, *, by: Actor) -> Override:
    with changing(by.organization):
        own = Override.objects.filter(pk=override.pk, organization=by.organization)
        fresh = own.select_related("limit__policy", "group", "member", "api_key__group", "application__group").first()
        if fresh is None:
            raise Refused("There is no such exception any more.")
        require_guardrails_of(fresh.subject, by=by)
        if fresh.until is not None and fresh.until <= timezone.now():
            raise Refused("This exception is over.")
        if revoked_at is None and fresh.revoked_at and fresh.kind == Override.Kind.RESET:
            _refuse_forgiving_twice(fresh, by=by)
        if (fresh.revoked_at is None) != (revoked_at is None):
            fresh.revoked_at = revoked_at
            fresh.save(update_fields=["revoked_at"])
            action = "policy.override_ended" if revoked_at else "policy.override_resumed"
            audit(action, by=by, target=fresh.limit.policy, before=_facts(fresh), group=fresh.node)
    return fresh


def _facts(override: Override) -> dict[str, Value]:
    subject = override.subject
    return {
        "limit": f"{override.limit.kind} {override.limit.window}",
        "kind": override.kind,
        "amount": override.amount,
        "until": override.until.isoformat() if override.until else None,
        "subject": column_of(subject),
        "id": subject.pk,
        "name": str(subject),
        "reason": override.reason,
    }
