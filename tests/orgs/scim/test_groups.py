"""Groups of a directory: who is in them, and what being in them gives once they are linked to the tree."""

from __future__ import annotations

from typing import Any

import pytest

from orgs.actor import Actor
from orgs.errors import NotAllowed, Refused
from orgs.models import ApiKey, AuditEvent, Group, Membership, Role, User
from orgs.permissions import Permission, RoleName
from orgs.powers import AnyRole
from orgs.scim_models import DirectoryGroup, DirectoryUser
from orgs.services.freezing import freeze_person
from orgs.services.keys import create_api_key
from orgs.services.members import add_member, grant_role
from orgs.services.moves import move_group
from orgs.services.provisioning import link_group
from orgs.services.roles import create_role, delete_role
from tests.actors import World, operator
from tests.orgs.scim.directory import GROUP, Caller, connect, domain_of, nodes_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def scim(world: World) -> Caller:
    return connect(world, group=world.sales)


def person(world: World, scim: Caller, name: str) -> tuple[str, User]:
    made = scim.user(f"{name}@{domain_of(world.acme)}")
    return made["id"], User.objects.get(email=f"{name}@{domain_of(world.acme)}")


def link(world: World, made: Any, node: Group | None, role: AnyRole | None = None) -> None:
    link_group(DirectoryGroup.objects.get(pk=made["id"]), group=node, role=role, by=world.actor("alice"))


def members(scim: Caller, made: Any) -> list[str]:
    return [one["value"] for one in scim("GET", f"Groups/{made['id']}").json.get("members", [])]


def test_a_group_says_who_is_in_it_and_a_person_in_which_groups(world: World, scim: Caller) -> None:
    ada, _ = person(world, scim, "ada")
    made = scim.group("Engineers", ada, externalId="g1")
    assert (made.status, made["displayName"], made["externalId"], made["schemas"]) == (201, "Engineers", "g1", [GROUP])
    assert [one["value"] for one in made["members"]] == [ada]
    assert scim("GET", f"Users/{ada}")["groups"] == [{"value": made["id"], "display": "Engineers"}]
    assert scim("GET", f"Groups/{made['id']}").json == made.json
    assert scim.group("ENGINEERS").error == (409, "uniqueness")


def test_a_linked_group_gives_membership_and_role_and_takes_them_back(world: World, scim: Caller) -> None:
    ada, user = person(world, scim, "ada")
    made = scim.group("Engineers", ada)
    assert nodes_of(user, world.acme) == {"sales": True}
    link(world, made, world.engineering, RoleName.AUDITOR)
    assert nodes_of(user, world.acme) == {"sales": True, "engineering": True}
    assert list(user.grants.values_list("group__name", "role")) == [("engineering", "auditor")]
    key, _ = create_api_key(world.engineering, name="Ada's", member=user, by=world.actor("alice"))

    scim.patch(f"Groups/{made['id']}", {"op": "remove", "path": f'members[value eq "{ada}"]'})

    assert (nodes_of(user, world.acme), user.grants.count()) == ({"sales": True}, 0)
    assert ApiKey.objects.get(pk=key.pk).revoked_at
    scim.patch(f"Groups/{made['id']}", {"op": "Add", "path": "members", "value": [{"value": ada}]})
    assert nodes_of(user, world.acme) == {"sales": True, "engineering": True}
    link(world, made, None)
    assert nodes_of(user, world.acme) == {"sales": True}


def test_a_role_that_is_taken_back_stops_keys_that_only_it_let_be_there(world: World, scim: Caller) -> None:
    ada, user = person(world, scim, "ada")
    made = scim.group("Engineers", ada)
    link(world, made, world.engineering, RoleName.ADMIN)
    actor = Actor.load(user, organization=world.acme)
    below, home = (create_api_key(group, name="Ada's", member=user, by=actor)[0] for group in (world.core, world.engineering))
    link(world, made, world.engineering)
    below.refresh_from_db()
    home.refresh_from_db()
    assert (below.disabled_at is not None, below.disabled_by, home.disabled_at) == (True, None, None)


def test_nothing_is_given_in_or_below_what_was_archived_since(world: World, scim: Caller) -> None:
    made = scim.group("Engineers")
    link(world, made, world.platform, RoleName.AUDITOR)
    Group.objects.filter(pk=world.engineering.pk).update(archived_at="2026-01-01T00:00:00Z")
    ada, user = person(world, scim, "ada")
    scim.patch(f"Groups/{made['id']}", {"op": "add", "path": "members", "value": [{"value": ada}]})
    assert (members(scim, made), nodes_of(user, world.acme), user.grants.count()) == ([ada], {"sales": True}, 0)


def test_what_a_person_had_before_no_directory_takes(world: World, scim: Caller) -> None:
    made = scim.group("Engineers", scim.user(world.lena.email)["id"])
    link(world, made, world.engineering, RoleName.ADMIN)
    assert scim("DELETE", f"Groups/{made['id']}").status == 204
    assert nodes_of(world.lena, world.acme) == {"engineering": True, "sales": True}
    assert world.lena.grants.filter(group=world.engineering, role=RoleName.ADMIN).exists()


def test_two_groups_may_give_the_same_node(world: World, scim: Caller) -> None:
    ada, user = person(world, scim, "ada")
    first, second = scim.group("First", ada), scim.group("Second", ada)
    for made in (first, second):
        link(world, made, world.engineering)
    scim("DELETE", f"Groups/{first['id']}")
    assert nodes_of(user, world.acme) == {"sales": True, "engineering": True}
    scim("DELETE", f"Groups/{second['id']}")
    assert nodes_of(user, world.acme) == {"sales": True}


@pytest.mark.parametrize(
    ("operations", "left"),
    [
        ([{"op": "Add", "path": "members", "value": [{"value": "{2}"}]}], "012"),  # Entra
        ([{"op": "Remove", "path": "members", "value": [{"value": "{0}"}]}], "1"),  # Entra
        ([{"op": "remove", "path": 'members[value eq "{0}"]'}], "1"),
        ([{"op": "replace", "path": "members", "value": [{"value": "{2}", "display": "x"}]}], "2"),  # Okta
        ([{"op": "replace", "value": {"id": "{g}", "displayName": "Renamed"}}], "01"),  # Okta
        ([{"op": "remove", "path": "members"}], ""),
        (
            [{"op": "remove", "path": 'members[value eq "{0}"]'}, {"op": "add", "path": "members", "value": [{"value": "{2}"}]}],
            "12",
        ),
        ([{"op": "add", "path": "members", "value": [{"value": "{0}"}, {"value": "{0}"}]}], "01"),
    ],
)
def test_members_are_patched_as_okta_and_entra_do(
    world: World, scim: Caller, operations: list[dict[str, Any]], left: str
) -> None:
    people = [person(world, scim, f"person{number}")[0] for number in range(3)]
    made = scim.group("Engineers", *people[:2])

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: filled(one) for name, one in value.items()}
        if isinstance(value, list):
            return [filled(one) for one in value]
        for number, one in enumerate(people):
            value = value.replace(f"{{{number}}}", one)
        return value.replace("{g}", made["id"])

    answer = scim.patch(f"Groups/{made['id']}", *filled(operations))
    assert answer.status == 200
    assert members(scim, made) == [people[int(number)] for number in left]


def test_a_put_replaces_name_and_members(world: World, scim: Caller) -> None:
    ada, _ = person(world, scim, "ada")
    made = scim.group("Engineers", ada)
    put = scim("PUT", f"Groups/{made['id']}", {"schemas": [GROUP], "displayName": "Builders"})
    assert (put.status, put["displayName"], members(scim, made)) == (200, "Builders", [])


def test_an_unknown_member_or_a_taken_name_changes_nothing(world: World, scim: Caller) -> None:
    ada, _ = person(world, scim, "ada")
    made = scim.group("Engineers", ada)
    scim.group("Taken")
    add = {"op": "add", "path": "members", "value": [{"value": "999999"}]}
    assert scim.patch(f"Groups/{made['id']}", {"op": "replace", "path": "displayName", "value": "New"}, add).error == (
        400,
        "invalidValue",
    )
    taken = scim.patch(f"Groups/{made['id']}", {"op": "replace", "path": "displayName", "value": "taken"})
    assert taken.error == (409, "uniqueness")
    assert scim("GET", f"Groups/{made['id']}").json == made.json


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ('displayName eq "engineers"', 1),
        ('externalId eq "g1" and displayName sw "Eng"', 1),
        ('members.value eq "{ada}"', 1),
        ('members eq "0"', 0),
    ],
)
def test_groups_are_found_with_or_without_their_members(world: World, scim: Caller, wanted: str, found: int) -> None:
    ada, _ = person(world, scim, "ada")
    scim.group("Engineers", ada, externalId="g1")
    scim.group("Others")
    answer = scim("GET", "Groups", filter=wanted.format(ada=ada), excludedAttributes="members")
    assert answer["totalResults"] == found
    assert all("members" not in one for one in answer.json.get("Resources", []))


def test_a_deactivated_person_gets_what_a_group_gives_when_active_again(world: World, scim: Caller) -> None:
    ada, user = person(world, scim, "ada")
    made = scim.group("Engineers")
    link(world, made, world.engineering)
    scim.patch(f"Users/{ada}", {"op": "replace", "path": "active", "value": False})
    scim.patch(f"Groups/{made['id']}", {"op": "add", "path": "members", "value": [{"value": ada}]})
    assert nodes_of(user, world.acme) == {"sales": False, "engineering": False}
    scim.patch(f"Users/{ada}", {"op": "replace", "path": "active", "value": True})
    assert nodes_of(user, world.acme) == {"sales": True, "engineering": True}


def test_a_link_needs_the_whole_organisations_settings(world: World, scim: Caller) -> None:
    row = DirectoryGroup.objects.get(pk=scim.group("Engineers")["id"])
    with pytest.raises(NotAllowed) as missing:
        link_group(row, group=world.platform, role=None, by=world.actor("lena"))
    assert missing.value.permission in {Permission.GRANT_ROLES, Permission.MANAGE_SETTINGS}
    alice = world.actor("alice")
    with pytest.raises(Refused, match="of this organisation"):
        link_group(row, group=world.other.root, role=None, by=alice)
    with pytest.raises(Refused, match="A role needs"):
        link_group(row, group=None, role=RoleName.ADMIN, by=alice)


def named(world: World, at: Group) -> Role:
    return create_role(at, name="Key keeper", permissions=[Permission.MANAGE_KEYS], by=world.actor("alice"))


def test_a_linked_group_gives_a_role_of_the_organisations_own_and_takes_it_back(world: World, scim: Caller) -> None:
    ada, user = person(world, scim, "ada")
    made, role = scim.group("Engineers", ada), named(world, world.engineering)
    link(world, made, world.platform, role)
    assert list(user.grants.values_list("group__name", "role", "custom_role")) == [("platform", "", role.pk)]
    assert Actor.load(user, organization=world.acme).can(Permission.MANAGE_KEYS, world.gateway)
    event = AuditEvent.objects.get(organization=world.acme, action="provisioning.group_linked")
    assert event.after["role"] == "Key keeper"
    with pytest.raises(Refused, match="1 person holds"):
        delete_role(role, by=world.actor("alice"))
    scim.patch(f"Groups/{made['id']}", {"op": "remove", "path": f'members[value eq "{ada}"]'})
    assert not user.grants.exists()
    with pytest.raises(Refused, match="“Engineers” of the directory gets this role"):
        delete_role(role, by=world.actor("alice"))
    # Another role in its place, a shipped one, and back to none.
    scim.patch(f"Groups/{made['id']}", {"op": "add", "path": "members", "value": [{"value": ada}]})
    link(world, made, world.platform, RoleName.AUDITOR)
    assert (user.grants.get().role, user.grants.get().custom_role) == ("auditor", None)
    link(world, made, world.platform)
    assert not user.grants.exists()
    delete_role(role, by=world.actor("alice"))


def test_a_role_given_by_an_admin_is_not_taken_by_the_directory(world: World, scim: Caller) -> None:
    ada, user = person(world, scim, "ada")
    made, role = scim.group("Engineers", ada), named(world, world.engineering)
    grant_role(user, role=role, group=world.platform, by=world.actor("alice"))
    link(world, made, world.platform, role)
    link(world, made, None)
    assert list(user.grants.values_list("custom_role", flat=True)) == [role.pk]


def test_a_role_reaches_no_node_beside_its_home(world: World, scim: Caller) -> None:
    """Neither by a link, nor by a node that was moved away after it was linked."""
    made, role = scim.group("Engineers"), named(world, world.platform)
    with pytest.raises(Refused, match="can be granted at platform and below"):
        link(world, made, world.field, role)
    foreign = create_role(world.other.root, name="Theirs", permissions=[Permission.MANAGE_KEYS], by=world.actor("charlie"))
    with pytest.raises(Refused, match="was deleted"):
        link(world, made, world.platform, foreign)
    link(world, made, world.gateway, role)
    move_group(world.gateway, to=world.sales, by=world.actor("alice"))
    ada, user = person(world, scim, "ada")
    scim.patch(f"Groups/{made['id']}", {"op": "add", "path": "members", "value": [{"value": ada}]})
    assert (nodes_of(user, world.acme), user.grants.count()) == ({"sales": True, "gateway": True}, 0)


def test_a_link_never_leaves_the_organisation_without_a_super_admin(world: World, scim: Caller) -> None:
    """The directory's own Super Admins are whom it may take, the last one is not."""
    made = scim.group("Admins", person(world, scim, "ada")[0])
    link(world, made, world.root, RoleName.ADMIN)
    freeze_person(world.alice, reason="gone", by=operator())
    assert scim("DELETE", f"Groups/{made['id']}").error == (400, "invalidValue")
    assert members(scim, made) == [str(DirectoryUser.objects.get(organization=world.acme).pk)]


def test_a_membership_by_hand_is_not_doubled(world: World, scim: Caller) -> None:
    ada, user = person(world, scim, "ada")
    add_member(user, group=world.engineering, by=world.actor("alice"))
    made = scim.group("Engineers", ada)
    link(world, made, world.engineering)
    scim("DELETE", f"Groups/{made['id']}")
    assert Membership.objects.filter(user=user, group=world.engineering).count() == 1


def test_letters_without_a_capital_are_told_apart_as_the_database_does(world: World, scim: Caller) -> None:
    assert scim.group("Straße").status == 201
    assert scim.group("STRAẞE").error == (409, "uniqueness")
    emails = [{"value": f"{name}@{domain_of(world.acme)}"} for name in ("one", "two")]
    assert scim.user("groß", emails=emails[:1]).status == 201
    assert scim.user("GROẞ", emails=emails[1:]).error == (409, "uniqueness")
