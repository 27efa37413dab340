"""Aliases and presets as pages show them, cut to what the actor may see: what holds for its keys, and what it manages."""

from __future__ import annotations

from django.db.models import Q, QuerySet
from django.http import Http404

from gateway_project.lib.rows import sole
from orgs.actor import LINEAGE, Actor
from orgs.models import Group
from orgs.permissions import Permission
from orgs.selectors import open_tree, within
from proxy.models import Alias, Preset


def aliases_visible_to(actor: Actor) -> QuerySet[Alias]:
    """By name, those of higher groups first."""
    found = Alias.objects.filter(_visible(actor), organization=actor.organization)
    return found.select_related("created_by", LINEAGE).order_by("name", "group__level", "pk")


def presets_visible_to(actor: Actor) -> QuerySet[Preset]:
    """By name, those of higher groups first; archived ones included."""
    found = Preset.objects.filter(_visible(actor), organization=actor.organization)
    return found.select_related("created_by", LINEAGE).order_by("name", "group__level", "pk")


def access_alias_by_id(actor: Actor, alias_id: int) -> Alias:
    """Raises Http404."""
    found = sole(aliases_visible_to(actor).filter(pk=alias_id))
    if found is None:
        raise Http404("no such alias")
    return found


def access_preset_by_id(actor: Actor, preset_id: int) -> Preset:
    """Archived ones only where it may be brought back. Raises Http404."""
    found = sole(presets_visible_to(actor).filter(pk=preset_id))
    if found is None or (found.archived_at and not actor.can(Permission.MANAGE_ROUTING, found.group)):
        raise Http404("no such preset")
    return found


def homes_of_names(actor: Actor) -> list[Group]:
    """Where the actor may give names, in the order of the tree."""
    return [group for group in open_tree(actor, Permission.MANAGE_ROUTING) if actor.can(Permission.MANAGE_ROUTING, group)]


def _visible(actor: Actor) -> Q:
    """On the path of a membership or of a subtree that it manages, or inside one."""
    scope = actor.scope(Permission.MANAGE_ROUTING)
    ends = [membership.group for membership in actor.memberships] + scope
    return Q(group__in={group_id for group in ends for group_id in group.lineage()}) | within(scope, field="group")
