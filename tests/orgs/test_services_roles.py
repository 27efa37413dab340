"""Roles of an organisation's own: who makes and grants them, what they give, and what never happens by way of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orgs.actor import Actor
from orgs.errors import NotAllowed, Refused
from orgs.models import AuditEvent, Role, RoleGrant
from orgs.permissions import COUNTS_BELOW, MEMBER, UPPER_ONLY, Permission, RoleName, counted
from orgs.role_words import AREAS, areas
from orgs.selectors import granters, roles_visible_to
from orgs.services.members import add_member, grant_role, revoke_role, suspend_member
from orgs.services.roles import GRANTABLE, change_role, copy_role, create_role, delete_role
from tests.actors import World
from tests.examples import some

P = Permission


def make(world: World, *permissions: Permission, group: str = "root", by: str = "alice", name: str = "Lead") -> Role:
    return create_role(world.group(group), name=name, permissions=permissions, by=world.actor(by))


def test_a_custom_role_gives_what_it_names_at_its_node_and_below(world: World) -> None:
    role = make(world, P.VIEW_USAGE, P.MANAGE_KEYS)
    grant_role(world.mia, role=role, group=world.platform, by=world.actor("alice"))
    mia = world.actor("mia")
    assert mia.permissions_at(world.group("platform")) == {P.VIEW_USAGE, P.MANAGE_KEYS}
    assert mia.permissions_at(world.group("core")) == {P.VIEW_USAGE, P.MANAGE_KEYS}
    assert mia.permissions_at(world.group("engineering")) == mia.permissions_at(world.group("sales")) == frozenset()
    assert mia.role_label == "Lead"


def test_what_belongs_to_the_admin_above_counts_below_the_node_only(world: World) -> None:
    role = make(world, P.VIEW_USAGE, P.MANAGE_GUARDRAILS, P.TOP_UP)
    grant_role(world.mia, role=role, group=world.platform, by=world.actor("alice"))
    assert world.actor("mia").permissions_at(world.group("platform")) == {P.VIEW_USAGE}
    assert world.actor("mia").permissions_at(world.group("gateway")) >= {P.VIEW_USAGE, P.MANAGE_GUARDRAILS}
    assert not world.actor("mia").can_anywhere(P.TOP_UP)
    grant_role(world.noah, role=role, group=world.root, by=world.actor("alice"))
    assert world.actor("noah").permissions_at(world.group("root")) == {P.VIEW_USAGE, P.MANAGE_GUARDRAILS, P.TOP_UP}
    assert world.actor("noah").can_everywhere(P.MANAGE_GUARDRAILS)


def test_grants_at_the_root_and_at_a_node_are_judged_apart(world: World) -> None:
    watch, keys = make(world, P.VIEW_USAGE, name="Watch"), make(world, P.MANAGE_KEYS, P.MANAGE_SETTINGS, name="Keys")
    alice = world.actor("alice")
    grant_role(world.mia, role=watch, group=world.root, by=alice)
    grant_role(world.mia, role=keys, group=world.gateway, by=alice)
    mia = world.actor("mia")
    assert mia.permissions_at(world.group("field")) == {P.VIEW_USAGE}
    assert mia.permissions_at(world.group("gateway")) == {P.VIEW_USAGE, P.MANAGE_KEYS, *MEMBER}
    assert mia.permissions_at(world.group("core")) == {P.VIEW_USAGE, P.MANAGE_KEYS, P.MANAGE_SETTINGS}
    assert not mia.can_everywhere(P.MANAGE_SETTINGS)


@settings(max_examples=some(40))
@given(named=st.frozensets(st.sampled_from(sorted(GRANTABLE))), level=st.integers(0, 4))
def test_a_role_never_gives_more_than_it_names_nor_more_at_its_node_than_below(named: frozenset[Permission], level: int) -> None:
    here, below = (counted(named, granted_level=level, distance=distance) for distance in (0, 1))
    assert here <= below <= named
    assert level == 0 or not here & COUNTS_BELOW
    assert level <= 1 or not below & UPPER_ONLY


def test_a_change_counts_on_the_next_request(world: World) -> None:
    role = make(world, P.VIEW_USAGE)
    grant_role(world.mia, role=role, group=world.platform, by=world.actor("alice"))
    change_role(role, name="Lead", permissions=[P.VIEW_AUDIT], by=world.actor("alice"))
    assert world.actor("mia").permissions_at(world.group("platform")) == {P.VIEW_AUDIT}
    event = AuditEvent.objects.get(action="role.changed", organization=world.acme)
    assert (event.before["permissions"], event.after["permissions"]) == (["view_usage"], ["view_audit"])


@pytest.mark.parametrize(
    ("by", "group", "permission"), [("lena", "platform", P.MANAGE_SETTINGS), ("sam", "gateway", P.GRANT_ROLES)]
)
def test_an_admin_makes_roles_below_itself_of_what_it_may_do_there(world: World, by: str, group: str, permission: P) -> None:
    role = make(world, permission, group=group, by=by)
    assert role.group == world.group(group)


@pytest.mark.parametrize(
    ("by", "group", "permission"),
    [
        ("sam", "platform", P.VIEW_USAGE),  # its own node is the admin's above
        ("sam", "gateway", P.TOP_UP),  # which it may not do itself
        ("lena", "root", P.VIEW_USAGE),
        ("lena", "sales", P.VIEW_USAGE),
        ("mia", "gateway", P.VIEW_USAGE),
        ("charlie", "gateway", P.VIEW_USAGE),
    ],
)
def test_nobody_makes_a_role_of_more_than_it_may_do_there(world: World, by: str, group: str, permission: P) -> None:
    with pytest.raises(NotAllowed):
        make(world, permission, group=group, by=by)
    assert not Role.objects.filter(organization=world.acme).exists()


def people_lead(world: World) -> Actor:
    """Mia may grant roles everywhere, and do little else."""
    grant_role(world.mia, role=make(world, P.MANAGE_MEMBERS, P.GRANT_ROLES), group=world.root, by=world.actor("alice"))
    return world.actor("mia")


@pytest.mark.parametrize("role", RoleName)
def test_who_may_grant_roles_grants_none_that_allows_more(world: World, role: RoleName) -> None:
    with pytest.raises(NotAllowed):
        grant_role(world.mia, role=role, group=world.field, by=people_lead(world))


def test_a_custom_role_with_more_is_not_granted_either_nor_ended(world: World) -> None:
    strong = make(world, P.MANAGE_KEYS, name="Strong")
    held = grant_role(world.noah, role=strong, group=world.field, by=world.actor("alice"))
    mia = people_lead(world)
    for attempt in (
        lambda: grant_role(world.sam, role=strong, group=world.field, by=mia),
        lambda: revoke_role(held, by=mia),
        lambda: change_role(strong, name="Strong", permissions=[P.MANAGE_MEMBERS], by=mia),
        lambda: delete_role(strong, by=mia),
        lambda: copy_role(strong, by=mia),
    ):
        with pytest.raises(NotAllowed):
            attempt()
    assert RoleGrant.objects.filter(pk=held.pk).exists()


def test_who_may_grant_roles_does_not_end_a_super_admin_by_suspension(world: World) -> None:
    lead = people_lead(world)
    with pytest.raises(NotAllowed):
        suspend_member(world.actor("alice").memberships[0], by=lead)
    with pytest.raises(NotAllowed):
        revoke_role(world.actor("alice").grants[0], by=lead)


def test_the_last_membership_carries_every_grant(world: World) -> None:
    """Without a live membership there are no rights: so suspending it takes power over all of them."""
    grant_role(world.mia, role=RoleName.FINANCE, group=world.root, by=world.actor("alice"))
    membership = world.actor("mia").memberships[0]
    with pytest.raises(NotAllowed):
        suspend_member(membership, by=world.actor("sam"))
    add_member(world.mia, group=world.sales, by=world.actor("alice"))
    suspend_member(membership, by=world.actor("sam"))
    assert world.actor("mia").can(P.VIEW_BILLING, world.group("field"))


def test_a_role_is_granted_at_its_home_and_below_only(world: World) -> None:
    role = make(world, P.VIEW_USAGE, group="engineering")
    grant_role(world.mia, role=role, group=world.engineering, by=world.actor("alice"))
    with pytest.raises(Refused, match="engineering and below"):
        grant_role(world.mia, role=role, group=world.sales, by=world.actor("alice"))
    with pytest.raises(Refused, match="already has this role"):
        grant_role(world.mia, role=role, group=world.engineering, by=world.actor("alice"))


def test_two_custom_roles_fit_at_one_node(world: World) -> None:
    for name in ("One", "Two"):
        grant_role(world.mia, role=make(world, P.VIEW_USAGE, name=name), group=world.gateway, by=world.actor("alice"))
    assert {grant.label for grant in world.actor("mia").grants} == {"One", "Two"}


def test_a_role_somebody_holds_is_not_deleted(world: World) -> None:
    role = make(world, P.VIEW_USAGE)
    grant = grant_role(world.mia, role=role, group=world.platform, by=world.actor("alice"))
    with pytest.raises(Refused, match="1 person holds this role"):
        delete_role(role, by=world.actor("alice"))
    revoke_role(grant, by=world.actor("alice"))
    delete_role(role, by=world.actor("alice"))
    with pytest.raises(Refused, match="was deleted"):
        grant_role(world.mia, role=role, group=world.platform, by=world.actor("alice"))
    with pytest.raises(Refused, match="was deleted"):
        change_role(role, name="Lead", permissions=[P.VIEW_USAGE], by=world.actor("alice"))


def test_names_are_taken_once_in_an_organisation(world: World) -> None:
    role = make(world, P.VIEW_USAGE)
    for name in ("lead", "Finance", "super ADMIN", "", "x" * 61):
        with pytest.raises(Refused) as refused:
            make(world, P.VIEW_USAGE, name=name)
        assert refused.value.field == "name"
    assert copy_role(role, by=world.actor("alice")).name == "Lead copy"
    assert copy_role(role, by=world.actor("alice")).name == "Lead copy 2"
    assert create_role(world.other.root, name="Lead", permissions=[P.VIEW_USAGE], by=world.actor("charlie"))


@pytest.mark.parametrize("permissions", [[], [P.VIEW_OWN], [P.VIEW_USAGE, P.MANAGE_OWN_KEYS]])
def test_a_role_names_something_that_can_be_granted(world: World, permissions: list[Permission]) -> None:
    with pytest.raises(Refused) as refused:
        make(world, *permissions)
    assert refused.value.field == "permissions"


def test_a_permission_that_is_gone_gives_nothing(world: World) -> None:
    role = make(world, P.VIEW_USAGE)
    Role.objects.filter(pk=role.pk).update(permissions=["view_usage", "of_another_time"])
    grant_role(world.mia, role=Role.objects.get(pk=role.pk), group=world.platform, by=world.actor("alice"))
    assert world.actor("mia").permissions_at(world.group("platform")) == {P.VIEW_USAGE}


def test_roles_at_home_above_and_below_are_seen_those_beside_are_not(world: World) -> None:
    for name, group in (("top", "root"), ("here", "platform"), ("inner", "core"), ("beside", "sales")):
        make(world, P.VIEW_USAGE, name=name, group=group)
    assert {role.name for role in roles_visible_to(world.actor("sam"))} == {"top", "here", "inner"}
    assert not roles_visible_to(world.actor("charlie")).exists()


def test_whoever_may_grant_by_a_custom_role_is_named_in_a_refusal(world: World) -> None:
    people_lead(world)
    assert {grant.user for grant in granters(world.group("field"))} == {world.alice, world.mia}


def test_every_permission_that_can_be_granted_stands_in_the_matrix_once() -> None:
    lines = [line.permission for lines in areas().values() for line in lines]
    assert sorted(lines) == sorted(GRANTABLE)
    assert {permission for area in AREAS.values() for permission in area} <= GRANTABLE


@pytest.mark.parametrize(
    ("name", "other"), [("Groß", "GROẞ"), ("KELVIN", "\N{KELVIN SIGN}elvin"), ("Ångström", "A\u030angstro\u0308m")]
)
def test_names_that_the_database_takes_for_one_are_refused_in_words(world: World, name: str, other: str) -> None:
    alice = world.actor("alice")
    create_role(world.root, name=name, permissions=[Permission.VIEW_USAGE], by=alice)
    with pytest.raises(Refused, match="There is a role") as refused:
        create_role(world.root, name=other, permissions=[Permission.VIEW_USAGE], by=alice)
    assert refused.value.field == "name"
