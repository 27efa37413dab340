"""What the pages of members show, put together for their templates: filters, rows, words and links."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.http import QueryDict
from django.urls import reverse

from gateway_project.lib.queries import id_in, search_in
from orgs.actor import Actor
from orgs.models import AuditEvent, Group, Membership, Role, RoleGrant
from orgs.people import STATUSES, PeoplePage, Person, Wanted
from orgs.permissions import RoleName
from orgs.powers import outranked

MEMBER_WORDS = {"member": "Member only", **{role.value: role.value.title() for role in RoleName}}
EVENT_WORDS = {
    "member.added": "was added",
    "member.invited": "joined by invitation",
    "member.joined_by_sso": "joined by single sign-on",
    "member.moved": "was moved",
    "member.suspended": "was suspended",
    "member.resumed": "was resumed",
    "member.removed": "was removed",
    "member.left": "left",
    "role.granted": "was granted a role",
    "role.revoked": "lost a role",
}
# What one does oneself: by an invitation, or by leaving.
OWN_EVENTS = ("member.invited", "member.joined_by_sso", "member.left", "role.granted")


class MembershipRow(NamedTuple):
    """`why_not`: why the actor may not suspend, move or remove it; empty where it may."""

    membership: Membership
    path: str
    why_not: str


class GrantRow(NamedTuple):
    grant: RoleGrant
    path: str
    why_not: str


class HistoryRow(NamedTuple):
    """`by`: who did it; empty where nobody else did."""

    event: AuditEvent
    words: str
    by: str


def members_wanted(query: QueryDict, *, groups: Iterable[Group], roles: Iterable[Role]) -> Wanted:
    """What the URL asks for; what means nothing is left out."""
    offered = {"member", *RoleName, *(f"role-{role.pk}" for role in roles)}
    group = id_in(query.get("group"))
    return Wanted(
        search=search_in(query.get("q"), 120),
        group=group if any(group == known.pk for known in groups) else None,
        role=role if (role := query.get("role", "")) in offered else "",
        status=status if (status := query.get("status", "")) in STATUSES else "",
        after=id_in(query.get("after")),
        before=id_in(query.get("before")),
    )


def member_filters(wanted: Wanted, *, groups: Iterable[Group], roles: Iterable[Role]) -> dict[str, Any]:
    """What the filter bar shows."""
    return {
        "search": wanted.search,
        "selects": [
            ("group", "Group", wanted.group, [("", "All groups"), *((group.pk, group.words()) for group in groups)]),
            (
                "role",
                "Role",
                wanted.role,
                [("", "Any role"), *MEMBER_WORDS.items(), *((f"role-{role.pk}", role.name) for role in roles)],
            ),
            ("status", "Status", wanted.status, [("", "Any status"), *STATUSES.items()]),
        ],
        "active": any((wanted.search, wanted.group, wanted.role, wanted.status)),
    }


def page_urls(query: QueryDict, page: PeoplePage) -> dict[str, str]:
    """`newer_url` leads to the names before, `older_url` to those after; empty at an end; filters stay."""
    kept = {name: value for name, value in query.items() if name not in ("before", "after") and value}
    newer = f"?{urlencode(kept | {'before': page.previous})}" if page.previous else ""
    older = f"?{urlencode(kept | {'after': page.following})}" if page.following else ""
    return {"newer_url": newer, "older_url": older, "newer_label": "Previous", "older_label": "Next"}


def person_url(person_id: int, *, org: str) -> str:
    return reverse("members:member", kwargs={"org": org, "person_id": person_id})


def membership_rows(person: Person, *, actor: Actor) -> list[MembershipRow]:
    rows = []
    for membership in person.memberships:
        inside = (grant for grant in person.grants if membership.group.contains(grant.group))
        missing = next(filter(None, (outranked(grant, by=actor) for grant in inside)), None)
        why = f"An admin above {missing.group} decides about this membership: it carries a role there." if missing else ""
        rows.append(MembershipRow(membership, membership.group.words(), why))
    return rows


def grant_rows(person: Person, *, actor: Actor) -> list[GrantRow]:
    rows = []
    for grant in person.grants:
        missing = outranked(grant, by=actor)
        why = f"It needs “{missing.permission.label.lower()}” at {missing.group}." if missing else ""
        rows.append(GrantRow(grant, grant.group.words(), why))
    return rows


def history_rows(events: Iterable[AuditEvent]) -> list[HistoryRow]:
    rows = []
    for event in events:
        facts = event.before | event.after
        by_oneself = event.actor_id is not None and facts.get("user") == event.actor_id and event.action in OWN_EVENTS
        rows.append(HistoryRow(event, _event_words(event), "" if by_oneself or event.actor is None else str(event.actor)))
    return rows


def _event_words(event: AuditEvent) -> str:
    words = EVENT_WORDS.get(event.action, event.action)
    return f"{words} by the invitation" if event.action == "role.granted" and "invitation" in event.after else words
