"""What a policy governs: groups, members, keys, applications; and defaults for the members or keys below a group."""

from __future__ import annotations

from typing import Any

from guardrails.models import Binding, Policy
from guardrails.services.policies import governed_last, maker_of
from guardrails.subjects import Subject, column_of, nodes_of
from orgs.actor import Actor
from orgs.audit import Value, audit
from orgs.errors import NotAllowed, Refused
from orgs.models import ApiKey, Group
from orgs.permissions import Permission
from orgs.services.changes import changing, refuse_archived

Reach = Binding.Reach


def bind(policy: Policy, *, subject: Subject, by: Actor, reach: str = Reach.SELF) -> Binding:
    """Each subject of a policy has its own counter. The root group stands for the organisation.

    With the reach `members` or `keys` the policy goes to each member or key below the group that has none of its own.
    Raises Refused, NotAllowed.
    """
    with changing(by.organization):
        _require(policy, subject, reach, by=by)
        found: dict[str, Any] = {
            "policy": policy,
            "organization": by.organization,
            column_of(subject): subject,
            "reach": reach,
        }
        binding, created = Binding.objects.get_or_create(**found)
        if created:
            audit("policy.bound", by=by, target=policy, after=_facts(binding), group=binding.node)
    return binding


def may_bind(policy: Policy, *, subject: Subject, by: Actor, reach: str = Reach.SELF) -> bool:
    """To say so before it is offered."""
    try:
        _require(policy, subject, reach, by=by)
    except (Refused, NotAllowed):
        return False
    return True


def unbind(binding: Binding, *, by: Actor) -> None:
    """The exceptions made for this subject stay, and count again should it be bound again. Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = Binding.objects.filter(pk=binding.pk, organization=by.organization, policy__dedicated=False).first()
        if fresh is None:
            raise Refused("This is not bound any more.")
        require_guardrails_of(fresh.subject, by=by)
        audit("policy.unbound", by=by, target=fresh.policy, before=_facts(fresh), group=fresh.node)
        fresh.delete()


def require_guardrails_of(subject: Subject, *, by: Actor) -> None:
    """A member's limits count all its keys, so they need the permission at every node it belongs to. Raises as `bind`."""
    nodes = nodes_of(subject, organization=by.organization)
    if not nodes:
        raise Refused(f"{subject} is not a member of {by.organization}.", field="member")
    for node in nodes:
        by.require(Permission.MANAGE_GUARDRAILS, node)


def _require(policy: Policy, subject: Subject, reach: str, *, by: Actor) -> None:
    require_guardrails_of(subject, by=by)
    _refuse_unfit(policy, subject, reach, by=by)
    _refuse_from_beside(policy, subject, by=by)


def _refuse_unfit(policy: Policy, subject: Subject, reach: str, *, by: Actor) -> None:
    if not Policy.objects.filter(pk=policy.pk, organization=by.organization, dedicated=False).exists():
        raise Refused("This policy cannot be bound here.")
    if reach not in Reach.values or (reach != Reach.SELF and not isinstance(subject, Group)):
        raise Refused("Only a group has members and keys below it.", field="reach")
    if isinstance(subject, Group):
        refuse_archived(subject, field="subject")
    gone = subject.revoked_at if isinstance(subject, ApiKey) else getattr(subject, "archived_at", None)
    if gone:
        raise Refused(f"{subject} is {'deleted' if isinstance(subject, ApiKey) else 'archived'}.", field="subject")


def _refuse_from_beside(policy: Policy, subject: Subject, *, by: Actor) -> None:
    """What governs nobody is bound where its maker stands above, or by who stands above its maker.

    Whoever binds it first has the say over it from then on, so somebody beside would take it from its maker; and where its
    maker manages guardrails no more, from the place that it governed last. Raises Refused.
    """
    if policy.bindings.exists():
        return
    maker = maker_of(policy)
    if maker is not None and maker == by.user:
        return
    makers = Actor.load(maker, organization=by.organization) if maker else None
    scope = list(makers.scope(Permission.MANAGE_GUARDRAILS)) if makers else []
    if all(by.can(Permission.MANAGE_GUARDRAILS, node) for node in scope or [governed_last(policy)]):
        return
    if makers is None or not scope:
        raise Refused(
            f"“{policy}” governs nobody, and who made it manages no guardrails any more. Whoever manages those of"
            f" {governed_last(policy)} may bind it. Copy it, and bind the copy."
        )
    if not all(makers.can(Permission.MANAGE_GUARDRAILS, node) for node in nodes_of(subject, organization=by.organization)):
        raise Refused(f"“{policy}” governs nobody yet and was made by {maker}, for another place. Copy it, and bind the copy.")


def _facts(binding: Binding) -> dict[str, Value]:
    subject = binding.subject
    found: dict[str, Value] = {"subject": column_of(subject), "id": subject.pk, "name": str(subject)}
    return found if binding.reach == Reach.SELF else found | {"reach": binding.reach}
