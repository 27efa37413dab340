"""Where a person is signed in, and ending it: a session that is ended is refused at its next request."""

from __future__ import annotations

from datetime import timedelta

from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from orgs import user_agents
from orgs.audit import audit_as
from orgs.models import User
from orgs.origin import Origin

# How exact "last used" is: a session is written that often at most.
SEEN_EVERY = timedelta(minutes=10)


def sessions_of(user: User) -> QuerySet[UserSession]:
    """Those that live, the one used last first."""
    live = Session.objects.filter(expire_date__gt=timezone.now())
    sessions: QuerySet[UserSession] = UserSession.objects.filter(user=user, session_key__in=live.values("session_key"))
    return sessions.order_by("-last_seen_at", "-pk")


@transaction.atomic
def end_session(session: UserSession, *, by: User, origin: Origin) -> None:
    _end([session])
    browser = user_agents.named(session.user_agent)
    audit_as(by, "session.ended", organization=None, origin=origin, target=by, before={"browser": browser, "ip": session.ip})


@transaction.atomic
def end_sessions(user: User, *, but: str | None = None, origin: Origin) -> int:
    """All of them, or all `but` the one of this key; how many that were."""
    ended = end_all(user, but=but)
    if ended:
        audit_as(user, "session.all_ended", organization=None, origin=origin, target=user, before={"sessions": ended})
    return ended


def end_all(user: User, *, but: str | None = None) -> int:
    """Part of a change that says who did it. How many were live; rows of those that had ended by themselves go with them."""
    live = sessions_of(user).exclude(session_key=but or "").count()
    _end(list(UserSession.objects.filter(user=user).exclude(session_key=but or "")))
    return live


def _end(sessions: list[UserSession]) -> None:
    Session.objects.filter(session_key__in=[session.session_key for session in sessions]).delete()
    UserSession.objects.filter(pk__in=[session.pk for session in sessions]).delete()
