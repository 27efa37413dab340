"""What a new organisation does first, each step judged by what is there, so that it checks itself off."""

from __future__ import annotations

from typing import NamedTuple

from django.db import connection

from orgs.actor import Actor
from orgs.models import Organization
from orgs.permissions import Permission


class Step(NamedTuple):
    """`url_name` takes the organisation's slug as `org`."""

    title: str
    text: str
    url_name: str
    icon: str
    is_done: bool


_STATE_SQL = """
SELECT EXISTS (SELECT FROM orgs_group WHERE organization_id = %(organization)s AND level > 0),
       EXISTS (SELECT FROM orgs_membership WHERE organization_id = %(organization)s OFFSET 1)
           OR EXISTS (SELECT FROM orgs_invitation WHERE organization_id = %(organization)s),
       EXISTS (SELECT FROM orgs_apikey WHERE organization_id = %(organization)s),
       EXISTS (SELECT FROM billing_usagerecord WHERE organization_id = %(organization)s AND status = 'ok'),
       EXISTS (
           SELECT FROM guardrails_binding b JOIN guardrails_limit l ON l.policy_id = b.policy_id
           WHERE b.organization_id = %(organization)s AND l.kind = 'budget'
       )
"""
_STEPS = (
    ("Create groups", "Departments, teams, projects: each with budgets and admins of its own.", "groups:tree", "sitemap"),
    ("Invite people", "By link, by e-mail or from a file.", "members:list", "users"),
    ("Make an API key", "It names whose calls they are.", "guardrails:keys", "key"),
    (
        "Make the first call",
        "From a program, or in the playground. Done once a model has answered.",
        "playground:page",
        "player-play",
    ),
    ("Set a budget", "For a group, a member, a key or an application.", "policies:policies", "wallet"),
)


def shows_first_steps(actor: Actor) -> bool:
    """To whoever may take all of them, in a company, until somebody closes the list."""
    company = actor.organization.kind == Organization.Kind.COMPANY
    return company and actor.organization.first_steps_closed_at is None and actor.can_everywhere(Permission.MANAGE_SETTINGS)


def first_steps(organization: Organization) -> list[Step]:
    """In one statement."""
    with connection.cursor() as cursor:
        cursor.execute(_STATE_SQL, {"organization": organization.pk})
        done = cursor.fetchone()
    return [Step(*step, is_done) for step, is_done in zip(_STEPS, done, strict=True)]
