"""View as: an admin looks at the console as a member below it sees it.

Guarantees: read-only, since every unsafe method is refused meanwhile, in the organisation (orgs/doors.py) and everywhere else
(LookingMiddleware); never as somebody of the same or a higher role, judged anew at every request; in one organisation, for an
hour at most; start and end are audited, in the name of whoever looks. Other organisations and the pages of the account are
seen with the viewer's own eyes, and say so.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from django.contrib.sessions.backends.base import SessionBase
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from orgs.actor import Actor
from orgs.audit import audit, audit_as
from orgs.errors import Refused
from orgs.models import Group, Organization, User
from orgs.origin import NOWHERE, Origin, origin_of
from orgs.permissions import MEMBER, Permission

# In the session: whom one looks as, where, and until when.
VIEWING = "viewing_as"
LONGEST = timedelta(hours=1)
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class OnlyLooking(Exception):
    """A change was asked for while somebody looks as another."""


class Look(NamedTuple):
    """Who looks, and as whom: both act in the organisation that is looked at."""

    viewer: Actor
    other: Actor


def look(request: HttpRequest) -> Look | None:
    """Whether whoever is signed in looks as somebody, whatever page it is; asked once a request.

    What may be no longer, or was begun too long ago, ends here.
    """
    if not hasattr(request, "look"):
        request.look = _look(request)  # type: ignore[attr-defined]
    found: Look | None = request.look  # type: ignore[attr-defined]
    return found


def _look(request: HttpRequest) -> Look | None:
    kept, by = request.session.get(VIEWING), request.user
    if not kept or not isinstance(by, User):  # who does not look is asked for nothing
        return None
    origin = origin_of(request)
    organization = Organization.objects.filter(pk=kept["organization"]).first()
    user = User.objects.filter(pk=kept["user"]).first()
    if organization and user and timezone.now() < datetime.fromisoformat(kept["until"]):
        viewer, other = (Actor.load(one, organization=organization, ip=origin.ip, agent=origin.agent) for one in (by, user))
        if may_view_as(viewer, other):
            return Look(viewer, other)
    end(request.session, by=by, origin=origin)
    return None


def refuse_change(method: str | None, *, looks: Look | None) -> None:
    """Raises OnlyLooking."""
    if looks is not None and method not in SAFE_METHODS:
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
