"""The command palette: one field that finds pages, keys, members, groups, applications, policies, models and calls.

Guarantees: it finds nothing that its own page would not show to the same actor; a page of hits costs at most seven statements.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlencode

from django.db.models import Q
from django.urls import reverse

from analytics.filters import calls_beginning_with
from analytics.selectors import calls_visible_to
from guardrails.pages import key_url
from guardrails.policy_pages import policy_url
from guardrails.policy_selectors import policies_visible_to
from guardrails.selectors import Narrowed, narrowed_keys
from orgs import navigation
from orgs.actor import Actor
from orgs.models import Group, Membership
from orgs.permissions import Permission
from orgs.selectors import groups_visible_to, members_visible_to
from orgs.tree import applications_seen
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
            Section("Policies", _policies(actor, search)),
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
        Hit(group.name, " / ".join(node.name for node in group.path()[:-1]), _group_url(actor, group), "sitemap")
        for group in groups
    ]


def _applications(actor: Actor, search: str) -> list[Hit]:
    named = Q(name__icontains=search) | Q(slug__icontains=search)
    applications = applications_seen(actor).filter(named, archived_at=None)[:MOST]
    return [
        Hit(one.name, one.group.name, _page(actor, "applications:application", application_id=one.pk), "apps")
        for one in applications
    ]


def _policies(actor: Actor, search: str) -> list[Hit]:
    """Whoever sees nothing beyond itself has no page of a policy."""
    if not actor.can_anywhere(Permission.VIEW_USAGE):
        return []
    policies = policies_visible_to(actor).filter(name__icontains=search).prefetch_related(None)[:MOST]
    return [Hit(one.name, "Guardrails", policy_url(one, org=actor.organization.slug), "shield-check") for one in policies]


def _models(actor: Actor, search: str) -> list[Hit]:
    models = Model.objects.filter(enabled=True, deployments__provider__enabled=True, name__icontains=search).distinct()
    page = _page(actor, "catalogue:model")
    return [
        Hit(model.name, model.get_kind_display(), f"{page}?{urlencode({'name': model.name})}", "cpu")
        for model in models.order_by("name")[:MOST]
    ]


def _calls(actor: Actor, search: str) -> list[Hit]:
    ids = calls_beginning_with(search)
    if ids is None:
        return []
    calls = calls_visible_to(actor).filter(pk__gte=ids[0], pk__lte=ids[1]).select_related("api_key").order_by("-pk")[:MOST]
    return [
        Hit(
            str(call.call_id),
            f"{call.requested_model} · {call.api_key.name}",
            _page(actor, "analytics:call", call_id=call.call_id),
            "activity",
        )
        for call in calls
    ]


def _member_url(actor: Actor, membership: Membership) -> str:
    """Its page, where one manages it; its usage for who may see that alone."""
    person = membership.user_id
    if not actor.can(Permission.MANAGE_MEMBERS, membership.group):
        return _usage(actor, member=person)
    return _page(actor, "members:member", person_id=person)


def _group_url(actor: Actor, group: Group) -> str:
    """A member sees its own group's usage as far as that is its own, and no page of the group."""
    may_see = actor.can(Permission.VIEW_USAGE, group)
    return _page(actor, "groups:group", group_id=group.pk) if may_see else _usage(actor, group=group.pk)


def _page(actor: Actor, name: str, **ids: object) -> str:
    return reverse(name, kwargs={"org": actor.organization.slug, **ids})


def _usage(actor: Actor, **narrowed: int) -> str:
    """The overview of this one alone."""
    return f"{_page(actor, 'analytics:overview')}?{urlencode(narrowed)}"
