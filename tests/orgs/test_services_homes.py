"""A key that only a role let be where it is stops with that role, at its next call; with another reason to be it goes on."""

from __future__ import annotations

import pytest

from orgs.access import KeyRefused
from orgs.errors import NotAllowed
from orgs.models import ApiKey, AuditEvent, Group, RoleGrant
from orgs.permissions import Permission, RoleName
from orgs.services.keys import create_api_key, disable_key, enable_key
from orgs.services.members import add_member, grant_role, revoke_role
from orgs.services.roles import change_role, create_role
from tests.actors import World, make_world, signed_in
from tests.orgs.test_services_key_rotation import principals_of, refusal_of


def key_of_sam(world: World, group: Group) -> ApiKey:
    key, _ = create_api_key(group, name=f"In {group.name}", member=world.sam, by=world.actor("sam"))
    return key


def works(key: ApiKey) -> bool:
    return ApiKey.objects.get(pk=key.pk).disabled_at is None


def role_of(world: World, name: str) -> RoleGrant:
    return RoleGrant.objects.get(organization=world.acme, user=getattr(world, name))


def test_keys_below_the_own_group_stop_with_the_role_at_the_next_call(committed_db: None) -> None:
    world = make_world()
    below, text = create_api_key(world.gateway, name="Below", member=world.sam, by=world.actor("sam"))
    home, home_text = create_api_key(world.platform, name="Home", member=world.sam, by=world.actor("sam"))
    assert [one.key_id for one in principals_of(text, home_text)] == [below.pk, home.pk]
    assert revoke_role(role_of(world, "sam"), by=world.actor("lena")) == [below]
    refusal: KeyRefused = refusal_of(text)
    assert refusal.code == "key_disabled"
    assert [one.key_id for one in principals_of(home_text)] == [home.pk]
    event = AuditEvent.objects.get(organization=world.acme, action="key.disabled")
    assert (event.actor, event.object_id) == (world.lena, str(below.pk))
    with pytest.raises(NotAllowed):
        enable_key(below, by=world.actor("sam"))
    enable_key(below, by=world.actor("lena"))
    assert works(below)


@pytest.mark.parametrize("reason", ["membership", "role above", "role there", "none", "a role without keys"])
def test_another_reason_to_be_there_keeps_it_going(world: World, reason: str) -> None:
    alice, key = world.actor("alice"), key_of_sam(world, world.core)
    if reason == "membership":
        add_member(world.sam, group=world.core, by=alice)
    elif reason.startswith("role"):
        grant_role(world.sam, role=RoleName.ADMIN, group=world.engineering if "above" in reason else world.core, by=alice)
    elif reason != "none":
        grant_role(world.sam, role=RoleName.AUDITOR, group=world.engineering, by=alice)
    revoke_role(world.sam.grants.get(role=RoleName.ADMIN, group=world.platform), by=alice)
    assert works(key) == (reason not in ("none", "a role without keys"))


def test_what_the_member_itself_disabled_is_not_its_own_to_enable_any_more(world: World) -> None:
    key = key_of_sam(world, world.gateway)
    disable_key(key, by=world.actor("sam"))
    revoke_role(role_of(world, "sam"), by=world.actor("lena"))
    with pytest.raises(NotAllowed):
        enable_key(key, by=world.actor("sam"))


def test_who_ends_its_own_role_cannot_enable_what_stopped_with_it(world: World) -> None:
    grant_role(world.lena, role=RoleName.ADMIN, group=world.root, by=world.actor("alice"))
    key, _ = create_api_key(world.sales, name="Mine", member=world.alice, by=world.actor("alice"))
    revoke_role(role_of(world, "alice"), by=world.actor("alice"))
    assert not works(key)
    with pytest.raises(NotAllowed):
        enable_key(key, by=world.actor("alice"))


def test_keys_of_others_and_service_keys_made_by_an_admin_stay(world: World) -> None:
    """A member's key is its member's, a service key its application's: whoever made them may have gone long ago."""
    sam = world.actor("sam")
    service, _ = create_api_key(world.platform, name="Service", application=world.assistant, by=sam)
    theirs, _ = create_api_key(world.gateway, name="Hers", member=world.mia, by=sam)
    assert revoke_role(role_of(world, "sam"), by=world.actor("lena")) == []
    assert works(service)
    assert works(theirs)


@pytest.mark.parametrize("named", [{Permission.MANAGE_KEYS}, {Permission.VIEW_USAGE}])
def test_a_role_that_no_longer_names_keys_stops_those_of_its_holders(world: World, named: set[Permission]) -> None:
    alice = world.actor("alice")
    role = create_role(world.root, name="Keys", permissions=[Permission.MANAGE_KEYS], by=alice)
    grant_role(world.noah, role=role, group=world.engineering, by=alice)
    key, _ = create_api_key(world.core, name="There", member=world.noah, by=world.actor("noah"))
    change_role(role, name="Keys", permissions=named, description="Changed", by=alice)
    assert works(key) == (Permission.MANAGE_KEYS in named)


def test_the_page_names_what_stopped(world: World) -> None:
    for group in (world.gateway, world.core):
        key_of_sam(world, group)
    address = f"/o/{world.acme.slug}/members/grants/{role_of(world, 'sam').pk}/end/"
    page = signed_in(world, "lena").post(address, follow=True).content.decode()
    assert "the API keys “In gateway” in gateway, “In core” in core." in page
