"""The operator's brake: a person or an organisation that may do nothing, from its next call and its next page on.

Freezing changes no right and deletes nothing: keys, memberships and roles are as they were once it is undone. Sessions are
ended for good. It is recorded in the trail of every organisation it touches; what the operator gives as the reason stands
only where the operator's decision is about: other tenants of a frozen person do not read it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from orgs.actor import Actor
from orgs.audit import audit
from orgs.errors import Refused
from orgs.models import AuditHead, Organization, User
from orgs.origin import NOWHERE, Origin
from orgs.services.changes import changing
from orgs.services.organizations import create_personal_account
from orgs.services.sessions import end_all

REASON_LENGTH = 200


@dataclass(frozen=True)
class Operator:
    """Who runs the installation. Raises PermissionDenied for anybody else."""

    user: User
    origin: Origin = NOWHERE

    def __post_init__(self) -> None:
        if not (self.user.is_staff and self.user.is_active):
            raise PermissionDenied("Only an operator of this installation may do this.")

    def acting_in(self, organization: Organization) -> Actor:
        """For the audit trail: an operator has no rights of its own inside."""
        return Actor(
            self.user, organization, memberships=(), grants=(), belongs=False, ip=self.origin.ip, agent=self.origin.agent
        )


def freeze_person(person: User, *, reason: str, by: Operator) -> None:
    """Ends the sessions, and stops the keys everywhere. Their personal account is frozen and thawed with them."""
    reason = _clean(reason)
    if person == by.user:
        raise Refused("You cannot freeze your own account.")
    with _changing_person(person) as (fresh, organizations):
        if fresh.frozen_at:
            return
        now = timezone.now()
        _set_frozen(fresh, at=now, reason=reason)
        end_all(fresh)
        for organization in organizations:
            personal = organization.kind == Organization.Kind.PERSONAL
            if personal:
                _set_frozen(organization, at=now, reason=reason)
            audit("person.frozen", by=by.acting_in(organization), target=fresh, after={"reason": reason} if personal else {})


def unfreeze_person(person: User, *, by: Operator) -> None:
    """Their keys work again; they sign in anew."""
    with _changing_person(person) as (fresh, organizations):
        if not fresh.frozen_at:
            return
        _set_frozen(fresh, at=None)
        for organization in organizations:
            if organization.kind == Organization.Kind.PERSONAL:
                _set_frozen(organization, at=None)
            audit("person.unfrozen", by=by.acting_in(organization), target=fresh)


def freeze_organization(organization: Organization, *, reason: str, by: Operator) -> None:
    """Every key and page of it is refused. Its people stay as they are elsewhere."""
    reason = _clean(reason)
    _refuse_personal(organization)
    with changing(organization):
        organization.refresh_from_db()
        if not organization.frozen_at:
            _set_frozen(organization, at=timezone.now(), reason=reason)
            audit("organization.frozen", by=by.acting_in(organization), target=organization, after={"reason": reason})


def unfreeze_organization(organization: Organization, *, by: Operator) -> None:
    _refuse_personal(organization)
    with changing(organization):
        organization.refresh_from_db()
        if organization.frozen_at:
            _set_frozen(organization, at=None)
            audit("organization.unfrozen", by=by.acting_in(organization), target=organization)


@contextmanager
def _changing_person(person: User) -> Iterator[tuple[User, list[Organization]]]:
    """Holds the person and every organisation where it is a member or has keys, as they are now.

    Organisations first, in the order of their ids: that is everybody's order of locks (orgs/README.md). The lock of the
    person is the one that keeps new keys and memberships out, so what was added before it was held is looked for again.
    """
    # Everyone has one from their first page on; whose trail would tell of a person without?
    create_personal_account(person)
    with transaction.atomic(), ExitStack() as stack:
        organizations = _organizations_of(person)
        for organization in organizations:
            stack.enter_context(changing(organization))
        # The heads before the person, too: whoever is denied something holds a head first, and the person by the event's row.
        list(AuditHead.objects.select_for_update().filter(pk__in=[one.pk for one in organizations]).order_by("pk"))
        fresh = User.objects.select_for_update().get(pk=person.pk)
        now = _organizations_of(person)
        if now != organizations:
            raise Refused(f"{person} has just joined another organisation: try again.")
        yield fresh, now


def _organizations_of(person: User) -> list[Organization]:
    theirs = Q(memberships__user=person) | Q(api_keys__member=person)
    return list(Organization.objects.filter(theirs).distinct().order_by("pk"))


def _set_frozen(what: User | Organization, *, at: datetime | None, reason: str = "") -> None:
    what.frozen_at, what.frozen_reason = at, reason
    fields = ["frozen_at", "frozen_reason"]
    if isinstance(what, User):
        # What Django asks at every request of a session, allauth at every sign-in, and the proxy of every key.
        what.is_active = at is None
        fields.append("is_active")
    what.save(update_fields=fields)


def _refuse_personal(organization: Organization) -> None:
    if organization.kind == Organization.Kind.PERSONAL:
        raise Refused("A personal account is frozen and unfrozen with its person.")


def _clean(reason: str) -> str:
    reason = " ".join(reason.split())
    if not reason or len(reason) > REASON_LENGTH or not reason.isprintable():
        raise Refused(f"Give a reason of 1 to {REASON_LENGTH} visible characters.", field="reason")
    return reason
