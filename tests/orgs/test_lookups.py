"""Absent, another organisation's, and out of reach: one and the same 404."""

from collections.abc import Callable
from typing import Any

import pytest
from django.http import Http404
from pytest_django import DjangoAssertNumQueries

from orgs.actor import Actor
from orgs.lookups import access_application_by_id, access_group_by_id, access_key_by_id, access_member_by_id
from orgs.models import Membership
from orgs.permissions import Permission
from orgs.services.members import suspend_member
from tests.actors import World

P = Permission
Lookup = Callable[[Actor, int, Permission], Any]


def found(world: World, lookup: Lookup, thing_id: int, permission: Permission) -> set[str]:
    """Who gets it."""
    names = set()
    for name in ("alice", "lena", "sam", "mia", "noah", "charlie"):
        try:
            assert lookup(world.actor(name), thing_id, permission).pk == thing_id
            names.add(name)
        except Http404:
            continue
    return names


def test_a_group_is_found_by_those_who_may(world: World) -> None:
    assert found(world, access_group_by_id, world.platform.pk, P.MANAGE_KEYS) == {"alice", "lena", "sam"}
    assert found(world, access_group_by_id, world.platform.pk, P.MANAGE_GUARDRAILS) == {"alice", "lena"}
    assert found(world, access_group_by_id, world.gateway.pk, P.VIEW_OWN) == {"mia"}
    assert found(world, access_group_by_id, world.other.root.pk, P.VIEW_USAGE) == {"charlie"}


def test_an_application_is_found_by_those_who_may(world: World) -> None:
    assert found(world, access_application_by_id, world.assistant.pk, P.MANAGE_APPLICATIONS) == {"alice", "lena", "sam"}
    assert found(world, access_application_by_id, world.assistant.pk, P.VIEW_OWN) == {"sam"}


def test_a_member_always_finds_its_own_key(world: World) -> None:
    for permission in (P.VIEW_USAGE, P.MANAGE_KEYS):
        assert found(world, access_key_by_id, world.key.pk, permission) == {"alice", "lena", "sam", "mia"}
    for permission in (P.VIEW_OWN, P.MANAGE_OWN_KEYS):
        assert found(world, access_key_by_id, world.key.pk, permission) == {"mia"}


def test_owning_a_key_gives_no_other_power_over_it(world: World) -> None:
    assert found(world, access_key_by_id, world.key.pk, P.MANAGE_GUARDRAILS) == {"alice", "lena", "sam"}


def test_a_suspended_member_finds_nothing(world: World) -> None:
    suspend_member(world.actor("mia").memberships[0], by=world.actor("sam"))
    assert "mia" not in found(world, access_key_by_id, world.key.pk, P.VIEW_OWN)


def test_a_member_is_found_by_its_admins_and_itself(world: World) -> None:
    mia = Membership.objects.get(user=world.mia, organization=world.acme)
    assert found(world, access_member_by_id, mia.pk, P.VIEW_USAGE) == {"alice", "lena", "sam", "mia"}
    assert found(world, access_member_by_id, mia.pk, P.MANAGE_MEMBERS) == {"alice", "lena", "sam"}


@pytest.mark.parametrize("lookup", [access_group_by_id, access_application_by_id, access_key_by_id, access_member_by_id])
def test_what_does_not_exist_is_not_found(world: World, lookup: Lookup) -> None:
    for thing_id in (0, -1, 2**31, 2**63, 10**30):
        with pytest.raises(Http404):
            lookup(world.actor("alice"), thing_id, P.VIEW_USAGE)


def test_absent_and_not_yours_sound_the_same(world: World) -> None:
    messages = set()
    for thing_id in (world.other.root.pk, 2**40):
        with pytest.raises(Http404) as missing:
            access_group_by_id(world.actor("alice"), thing_id, P.VIEW_USAGE)
        messages.add(str(missing.value))
    assert len(messages) == 1


def test_what_is_loaded_knows_its_path(world: World, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    actor = world.actor("lena")
    with django_assert_num_queries(1):
        key = access_key_by_id(actor, world.key.pk, P.MANAGE_KEYS)
        assert [group.name for group in key.group.path()[1:]] == ["engineering", "platform", "gateway"]
        assert str(key.member) == "Mia"
