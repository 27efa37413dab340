"""View as: an admin looks at the console as a member below it sees it.

Guarantees: read-only, since the door refuses every unsafe method meanwhile (orgs/doors.py); never as somebody of the same
or a higher role, judged anew at every request; in one organisation, for an hour at most; start and end are audited, in the
name of whoever looks. Keys, e-mail addresses and sessions of the account itself stay the viewer's own.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.contrib.sessions.backends.base import SessionBase
from django.db import transaction
from django.utils import timezone

from orgs.actor import Actor
from orgs.audit import audit, audit_as
from orgs.errors import Refused
from orgs.models import Group, Organization, User
from orgs.origin import NOWHERE, Origin
from orgs.permissions import MEMBER, Permission

# In the session: whom one looks as, where, and until when.
VIEWING = "viewing_as"
LONGEST = timedelta(hours=1)
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class OnlyLooking(Exception):
    """A change was asked for while somebody looks as another."""


def refuse_change(method: str | None, *, viewer: Actor | None) -> None:
    """Raises OnlyLooking."""
    if viewer is not None and method not in SAFE_METHODS:
        raise OnlyLooking("You are looking at the console as somebody else, and can change nothing. Stop looking first.")


def may_view_as(by: Actor, other: Actor) -> bool:
    """Where the other belongs, `by` manages members; where it holds a role, `by` grants roles and may do all of it and more.

    What everybody may do with things of its own counts for nobody as a role.
    """
    return (
        other.user != by.user
        and bool(other.memberships)
        and all(by.can(Permission.MANAGE_MEMBERS, membership.group) for membership in other.memberships)
        and all(
            by.can(Permission.GRANT_ROLES, grant.group)
            and other.permissions_at(grant.group) - MEMBER < by.permissions_at(grant.group)
            for grant in other.grants
        )
    )


def start(session: SessionBase, user: User, *, by: Actor) -> None:
    """Raises Refused."""
    other = Actor.load(user, organization=by.organization)
    if not may_view_as(by, other):
        raise Refused(f"You can look as people below your own role only, and {user} is none.")
    end(session, by=by.user, origin=by.origin)  # looking around in another organisation
    until = timezone.now() + LONGEST
    with transaction.atomic():
        audit("view_as.started", by=by, target=user, after={"until": until.isoformat()}, group=other.memberships[0].group)
    session[VIEWING] = {"organization": by.organization.pk, "user": user.pk, "until": until.isoformat()}


def end(session: SessionBase, *, by: User, origin: Origin = NOWHERE) -> Organization | None:
    """The organisation one looked around in; None if one did not."""
    kept = session.pop(VIEWING, None)
    organization = kept and Organization.objects.filter(pk=kept["organization"]).first()
    user = kept and User.objects.filter(pk=kept["user"]).first()
    if organization and user:
        where = Group.objects.filter(organization=organization, memberships__user=user).first()
        with transaction.atomic():
            audit_as(by, "view_as.ended", organization=organization, origin=origin, target=user, group=where)
    return organization or None


def viewed(session: SessionBase, *, by: Actor) -> Actor | None:
    """As whom `by` looks at its organisation now. What may be no longer, or was begun too long ago, ends here."""
    kept = session.get(VIEWING)
    if not kept or kept["organization"] != by.organization.pk:
        return None
    user = User.objects.filter(pk=kept["user"]).first()
    other = user and Actor.load(user, organization=by.organization, ip=by.ip, agent=by.agent)
    if other and timezone.now() < datetime.fromisoformat(kept["until"]) and may_view_as(by, other):
        return other
    end(session, by=by.user, origin=by.origin)
    return None
