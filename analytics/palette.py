"""The command palette: one field that finds pages, keys, members, groups, applications, models and calls.

Guarantees: it finds nothing that its own page would not show to the same actor; a page of hits costs at most six statements.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlencode

from django.db.models import Q
from django.urls import reverse

from analytics.filters import calls_beginning_with
from analytics.selectors import calls_visible_to
from guardrails.pages import key_url
from guardrails.selectors import Narrowed, narrowed_keys
from orgs import navigation
from orgs.actor import Actor
from orgs.models import Application, Membership
from orgs.permissions import Permission
from orgs.selectors import groups_visible_to, members_visible_to, within
from proxy.models import Model

MOST = 5
# Shorter words find nearly everything.
SHORTEST = 2


class Hit(NamedTuple):
    label: str
    hint: str
    url: str
    icon: str


class Section(NamedTuple):
    title: str
    hits: list[Hit]


def found(actor: Actor, *, search: str) -> list[Section]:
    """Sections with hits only, in the order in which people mostly look for them."""
    sections = [Section("Pages", _pages(actor, search))]
    if len(search) >= SHORTEST:
        sections += [
            Section("API keys", _keys(actor, search)),
            Section("Members", _members(actor, search)),
            Section("Groups", _groups(actor, search)),
            Section("Applications", _applications(actor, search)),
            Section("Models", _models(actor, search)),
            Section("Calls", _calls(actor, search)),
        ]
    return [section for section in sections if section.hits]


def _pages(actor: Actor, search: str) -> list[Hit]:
    wanted = search.lower()
    links = navigation.links(actor, path="")
    return [Hit(link.label, link.section, link.url, link.icon) for link in links if wanted in link.label.lower()]


def _keys(actor: Actor, search: str) -> list[Hit]:
    keys = narrowed_keys(actor, Narrowed(search=search))[:MOST]
    return [Hit(key.name, f"{key.prefix} · {key.member or key.application or ''}", key_url(key), "key") for key in keys]


def _members(actor: Actor, search: str) -> list[Hit]:
    named = Q(user__name__icontains=search) | Q(user__email__icontains=search)
    memberships = members_visible_to(actor).filter(named)[: MOST * 3]
    people = {membership.user: membership for membership in memberships}
    return [
        Hit(user.display_name, f"{user.email} · {membership.group.name}", _member_url(actor, membership), "user")
        for user, membership in list(people.items())[:MOST]
    ]


def _groups(actor: Actor, search: str) -> list[Hit]:
    groups = groups_visible_to(actor).filter(name__icontains=search)[:MOST]
    return [
        Hit(group.name, " / ".join(node.name for node in group.path()[:-1]), _usage(actor, group=group.pk), "sitemap")
        for group in groups
    ]


def _applications(actor: Actor, search: str) -> list[Hit]:
    visible = within(actor.scope(Permission.VIEW_USAGE), field="group")
    applications = Application.objects.filter(visible, organization=actor.organization, archived_at=None)
    named = applications.filter(Q(name__icontains=search) | Q(slug__icontains=search)).select_related("group").order_by("name")
    return [Hit(one.name, one.group.name, _usage(actor, application=one.pk), "apps") for one in named[:MOST]]


def _models(actor: Actor, search: str) -> list[Hit]:
    models = Model.objects.filter(enabled=True, deployments__provider__enabled=True, name__icontains=search).distinct()
    page = reverse("catalogue:model", kwargs={"org": actor.organization.slug})
    return [
        Hit(model.name, model.get_kind_display(), f"{page}?{urlencode({'name': model.name})}", "cpu")
        for model in models.order_by("name")[:MOST]
    ]


def _calls(actor: Actor, search: str) -> list[Hit]:
    ids = calls_beginning_with(search)
    if ids is None:
        return []
    calls = calls_visible_to(actor).filter(pk__gte=ids[0], pk__lte=ids[1]).select_related("api_key").order_by("-pk")[:MOST]
    slug = actor.organization.slug
    return [
        Hit(
            str(call.call_id),
            f"{call.requested_model} · {call.api_key.name}",
            reverse("analytics:call", kwargs={"org": slug, "call_id": call.call_id}),
            "activity",
        )
        for call in calls
    ]


def _member_url(actor: Actor, membership: Membership) -> str:
    """Its page, where one manages it; its usage for who may see that alone."""
    person = membership.user_id
    if not actor.can(Permission.MANAGE_MEMBERS, membership.group):
        return _usage(actor, member=person)
    return reverse("members:member", kwargs={"org": actor.organization.slug, "person_id": person})


def _usage(actor: Actor, **narrowed: int) -> str:
    """The overview of this one alone."""
    return f"{reverse('analytics:overview', kwargs={'org': actor.organization.slug})}?{urlencode(narrowed)}"
