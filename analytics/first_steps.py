"""What a new organisation does first, each step judged by what is there, so that it checks itself off."""

from __future__ import annotations

from typing import NamedTuple

from django.db import connection
from django.urls import reverse

from billing import credits
from orgs.actor import Actor
from orgs.models import Organization
from orgs.permissions import Permission


class Step(NamedTuple):
    """`url`: '' where nothing leads on but a question."""

    title: str
    text: str
    url: str
    icon: str
    is_done: bool


_STATE_SQL = """
SELECT EXISTS (SELECT FROM orgs_group WHERE organization_id = %(organization)s AND level > 0),
       EXISTS (SELECT FROM orgs_membership WHERE organization_id = %(organization)s OFFSET 1)
           OR EXISTS (SELECT FROM orgs_invitation WHERE organization_id = %(organization)s),
       EXISTS (SELECT FROM orgs_apikey WHERE organization_id = %(organization)s),
       EXISTS (SELECT FROM proxy_providerkey WHERE organization_id = %(organization)s AND enabled),
       EXISTS (SELECT FROM billing_usagerecord WHERE organization_id = %(organization)s AND status = 'ok'),
       EXISTS (
           SELECT FROM guardrails_binding b JOIN guardrails_limit l ON l.policy_id = b.policy_id
           WHERE b.organization_id = %(organization)s AND l.kind = 'budget'
       )
"""
# Title, text, name of the page, icon. The page of credit is the operator's.
_STEPS = (
    ("Create groups", "Departments, teams, projects: each with budgets and admins of its own.", "groups:tree", "sitemap"),
    ("Invite people", "By link, by e-mail or from a file.", "members:list", "users"),
    ("Make an API key", "It names whose calls they are.", "guardrails:keys", "key"),
    ("Get credit", "Calls are paid from it.", "", "coins"),
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


def first_steps(actor: Actor) -> list[Step]:
    """In three statements; two fewer where the organisation calls on provider keys of its own, which need no credit."""
    organization = actor.organization
    with connection.cursor() as cursor:
        cursor.execute(_STATE_SQL, {"organization": organization.pk})
        done = cursor.fetchone()
    found = [
        Step(title, text, reverse(name, kwargs={"org": organization.slug}) if name else "", icon, is_done)
        for (title, text, name, icon), is_done in zip(_STEPS, done, strict=True)
    ]
    return [step if step.url else _credit(step, actor) for step in found]


def _credit(step: Step, actor: Actor) -> Step:
    """`is_done` so far: whether there is a provider key of the organisation's own."""
    if step.is_done:
        return step._replace(text="Calls on your own provider keys need none.")
    if credits.available(actor.organization) > 0:
        return step._replace(is_done=True)
    empty = "There is none: calls are refused until there is, unless they go to a provider key of your own."
    if not actor.user.is_staff:
        return step._replace(text=f"{empty} Whoever runs this gateway adds it: ask them.")
    return step._replace(text=empty, url=reverse("platform:credit", args=[actor.organization.pk]))
