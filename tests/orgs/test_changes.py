"""Every change is announced to the proxy: the organisation's epoch is another one afterwards, and nobody else's is."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from gateway_project.lib import redis
from orgs import epoch
from orgs.errors import NotAllowed, Refused
from orgs.models import ApiKey, Membership, Organization, RoleGrant
from orgs.permissions import RoleName
from orgs.services.applications import create_application
from orgs.services.groups import change_group, create_group
from orgs.services.keys import create_api_key, disable_key, edit_key, enable_key, end_old_text, rename_key, revoke_key, rotate_key
from orgs.services.members import add_member, grant_role, resume_member, revoke_role, suspend_member
from orgs.services.organizations import change_settings
from tests.actors import World, make_world

# In an order in which each can be made after the ones before.
CHANGES: list[Callable[[World], object]] = [
    lambda world: create_group(world.sales, name="more", by=world.actor("alice")),
    lambda world: change_group(world.sales, name="sales two", by=world.actor("alice")),
    lambda world: add_member(world.mia, group=world.sales, by=world.actor("alice")),
    lambda world: grant_role(world.mia, role=RoleName.AUDITOR, group=world.sales, by=world.actor("alice")),
    lambda world: revoke_role(RoleGrant.objects.get(user=world.mia, group=world.sales), by=world.actor("alice")),
    lambda world: suspend_member(Membership.objects.get(user=world.mia, group=world.gateway), by=world.actor("sam")),
    lambda world: resume_member(Membership.objects.get(user=world.mia, group=world.gateway), by=world.actor("sam")),
    lambda world: create_application(world.sales, name="CRM", by=world.actor("alice")),
    lambda world: create_api_key(world.gateway, name="two", member=world.mia, by=world.actor("mia")),
    lambda world: rename_key(world.key, name="one", by=world.actor("mia")),
    lambda world: edit_key(world.key, name="two", by=world.actor("mia")),
    lambda world: rotate_key(world.key, by=world.actor("mia"), old_until=timezone.now() + timedelta(hours=1)),
    lambda world: end_old_text(world.key, by=world.actor("mia")),
    lambda world: disable_key(world.key, by=world.actor("mia")),
    lambda world: enable_key(world.key, by=world.actor("mia")),
    lambda world: revoke_key(ApiKey.objects.get(pk=world.key.pk), by=world.actor("mia")),
    lambda world: change_settings(world.acme, attribution_required=True, by=world.actor("alice")),
]


def epoch_of(organization: Organization) -> bytes | str | None:
    return redis.client().get(epoch.keys(organization.pk)[0])


def marks_of(organization: Organization) -> int:
    """Marks of transactions that are not committed, those that earlier tests rolled back included."""
    return int(redis.client().hlen(epoch.keys(organization.pk)[1]))


def test_each_change_sets_a_fresh_epoch_of_its_organisation_only(committed_db: None) -> None:
    world = make_world()
    marks = marks_of(world.acme)
    elsewhere, seen = epoch_of(world.other), {epoch_of(world.acme)}
    assert elsewhere is not None
    for number, change in enumerate(CHANGES, start=1):
        change(world)
        seen.add(epoch_of(world.acme))
        assert len(seen) == number + 1, change
    assert epoch_of(world.other) == elsewhere
    assert marks_of(world.acme) == marks


def test_a_refused_change_leaves_no_mark(committed_db: None) -> None:
    """A mark keeps every worker from caching for a minute: bad input in a form must not do that."""
    world = make_world()
    before = epoch_of(world.acme), marks_of(world.acme)
    with pytest.raises(Refused):
        create_group(world.core, name="too deep", by=world.actor("alice"))
    with pytest.raises(NotAllowed):
        create_group(world.core, name="mine", by=world.actor("mia"))
    assert (epoch_of(world.acme), marks_of(world.acme)) == before


def test_until_the_commit_the_organisation_is_marked(committed_db: None) -> None:
    world = make_world()
    marks = marks_of(world.acme)
    with transaction.atomic():
        create_group(world.sales, name="more", by=world.actor("alice"))
        assert marks_of(world.acme) == marks + 1
    assert marks_of(world.acme) == marks
