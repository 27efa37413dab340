"""The whole matrix: who may do what, at its own node, below, beside and above it."""

import pytest
from pytest_django import DjangoAssertNumQueries

from orgs.actor import Actor
from orgs.errors import NotAllowed
from orgs.models import AuditEvent, Organization, RoleGrant
from orgs.permissions import AT_AND_BELOW, BELOW_ONLY, MEMBER, Permission, RoleName, allowed, roles_with
from orgs.services.freezing import freeze_organization
from orgs.services.groups import change_group, create_group
from orgs.services.members import add_member, grant_role, resume_member, suspend_member
from tests.actors import World, operator

P = Permission
NOTHING: frozenset[Permission] = frozenset()
# What is about the company's own money and contracts.
UPPER = frozenset({P.TOP_UP, P.MANAGE_PROVIDER_KEYS})
OWN = frozenset({P.VIEW_OWN, P.MANAGE_OWN_KEYS})
ADMIN_HERE = frozenset(
    {P.VIEW_USAGE, P.MANAGE_MEMBERS, P.MANAGE_KEYS, P.MANAGE_APPLICATIONS, P.MANAGE_ROUTING, P.VIEW_BILLING, P.VIEW_AUDIT}
)
ADMIN_BELOW = ADMIN_HERE | {P.MANAGE_GROUPS, P.MANAGE_GUARDRAILS, P.MANAGE_SETTINGS, P.GRANT_ROLES}

MATRIX = {
    "alice": {
        "root": ADMIN_BELOW | UPPER | OWN,
        "engineering": ADMIN_BELOW | UPPER,
        "core": ADMIN_BELOW | UPPER,
        "field": ADMIN_BELOW | UPPER,
        "elsewhere": NOTHING,
    },
    "lena": {
        "root": NOTHING,
        "engineering": ADMIN_HERE | UPPER | OWN,
        "platform": ADMIN_BELOW | UPPER,
        "core": ADMIN_BELOW | UPPER,
        "sales": NOTHING,
        "field": NOTHING,
        "elsewhere": NOTHING,
    },
    "sam": {
        "root": NOTHING,
        "engineering": NOTHING,
        "platform": ADMIN_HERE | OWN,
        "gateway": ADMIN_BELOW,
        "core": ADMIN_BELOW,
        "sales": NOTHING,
        "elsewhere": NOTHING,
    },
    "mia": {"root": NOTHING, "platform": NOTHING, "gateway": OWN, "core": NOTHING, "field": NOTHING, "elsewhere": NOTHING},
    "noah": {"sales": NOTHING, "field": OWN, "gateway": NOTHING},
    "charlie": {"elsewhere": ADMIN_BELOW | UPPER | OWN, "root": NOTHING, "gateway": NOTHING},
}


@pytest.mark.parametrize("name", MATRIX)
def test_a_role_reaches_its_own_subtree_only(world: World, name: str) -> None:
    actor = world.actor(name)
    assert {node: actor.permissions_at(world.group(node)) for node in MATRIX[name]} == MATRIX[name]


def test_a_person_of_two_organisations_acts_in_one_at_a_time(world: World) -> None:
    add_member(world.charlie, group=world.engineering, by=world.actor("alice"))
    assert Actor.load(world.charlie, organization=world.acme).permissions_at(world.engineering) == OWN
    assert Actor.load(world.charlie, organization=world.acme).permissions_at(world.other.root) == NOTHING


def test_several_grants_are_judged_each_on_its_own(world: World) -> None:
    grant_role(world.sam, role=RoleName.FINANCE, group=world.root, by=world.actor("alice"))
    sam = world.actor("sam")
    assert sam.permissions_at(world.group("field")) == {P.VIEW_USAGE, P.VIEW_BILLING}
    assert sam.permissions_at(world.group("gateway")) == ADMIN_BELOW
    assert not sam.can(P.MANAGE_GUARDRAILS, world.group("platform"))


def test_two_admin_grants_on_one_path_add_up_and_do_not_multiply(world: World) -> None:
    grant_role(world.sam, role=RoleName.ADMIN, group=world.core, by=world.actor("alice"))
    assert world.actor("sam").permissions_at(world.group("core")) == ADMIN_BELOW
    grant_role(world.mia, role=RoleName.ADMIN, group=world.core, by=world.actor("alice"))
    assert world.actor("mia").permissions_at(world.group("core")) == ADMIN_HERE


def test_what_is_below_a_node_can_be_asked_before_it_exists(world: World) -> None:
    sam = world.actor("sam")
    assert not sam.can(P.MANAGE_GROUPS, world.platform)
    assert sam.can_below(P.MANAGE_GROUPS, world.platform)
    assert not sam.can_below(P.MANAGE_GROUPS, world.engineering)
    assert not sam.can_below(P.MANAGE_GROUPS, world.other.root)


def test_anywhere_means_on_some_node_of_the_tree(world: World) -> None:
    assert world.actor("sam").can_anywhere(P.MANAGE_GUARDRAILS)
    assert not any(world.actor("sam").can_anywhere(permission) for permission in UPPER)
    assert world.actor("mia").can_anywhere(P.MANAGE_OWN_KEYS)
    assert not world.actor("mia").can_anywhere(P.VIEW_USAGE)


def test_an_admin_of_the_last_level_has_nothing_below(world: World) -> None:
    grant_role(world.mia, role=RoleName.ADMIN, group=world.core, by=world.actor("alice"))
    assert not world.actor("mia").can_anywhere(P.MANAGE_GUARDRAILS)
    assert world.actor("mia").can_anywhere(P.MANAGE_KEYS)


def test_the_scope_is_the_top_nodes(world: World) -> None:
    def scope(name: str, permission: Permission) -> list[str]:
        return [group.name for group in world.actor(name).scope(permission)]

    assert scope("alice", P.MANAGE_SETTINGS) == [world.acme.name]
    assert scope("lena", P.VIEW_USAGE) == ["engineering"]
    assert scope("lena", P.MANAGE_GUARDRAILS) == ["platform"]
    assert scope("sam", P.TOP_UP) == []
    assert scope("mia", P.VIEW_USAGE) == []
    assert scope("mia", P.VIEW_OWN) == []


def test_a_scope_never_names_a_node_below_another(world: World) -> None:
    for node in (world.core, world.field, world.gateway):
        grant_role(world.sam, role=RoleName.ADMIN, group=node, by=world.actor("alice"))
    assert {group.name for group in world.actor("sam").scope(P.MANAGE_KEYS)} == {"platform", "field"}
    assert {group.name for group in world.actor("sam").scope(P.MANAGE_GUARDRAILS)} == {"gateway"}


@pytest.mark.parametrize(
    ("name", "label"),
    [("alice", "Super Admin"), ("lena", "L1 Admin"), ("sam", "Sub-admin"), ("mia", "Member"), ("charlie", "Super Admin")],
)
def test_the_highest_grant_names_the_role(world: World, name: str, label: str) -> None:
    assert world.actor(name).role_label == label


def test_an_admin_grant_counts_more_than_finance_higher_up(world: World) -> None:
    grant_role(world.sam, role=RoleName.FINANCE, group=world.root, by=world.actor("alice"))
    grant_role(world.mia, role=RoleName.AUDITOR, group=world.root, by=world.actor("alice"))
    assert world.actor("sam").role_label == "Sub-admin"
    assert world.actor("mia").role_label == "Auditor"


def test_one_owns_ones_personal_account(world: World) -> None:
    own = Organization.objects.get(kind="personal", memberships__user=world.mia)
    assert Actor.load(world.mia, organization=own).role_label == "Owner"


def test_a_command_may_do_everything_in_its_organisation_and_is_nobody(world: World) -> None:
    actor = Actor.of_command("manage.py test", organization=world.acme)
    assert actor.permissions_at(world.core) == set(Permission) - MEMBER == actor.permissions_at(world.root)
    assert actor.permissions_at(world.other.root) == frozenset()
    assert (actor.account, actor.origin.agent, actor.belongs) == (None, "manage.py test", False)
    assert world.actor("mia").account == world.mia
    change_group(world.sales, kind="team", by=actor)
    event = AuditEvent.objects.filter(organization=world.acme).latest("sequence")
    assert (event.action, event.actor, event.agent, event.ip) == ("group.changed", None, "manage.py test", None)


def test_a_command_may_do_nothing_in_a_frozen_organisation(world: World) -> None:
    freeze_organization(world.acme, reason="Unpaid", by=operator())
    world.acme.refresh_from_db()
    actor = Actor.of_command("manage.py test", organization=world.acme)
    assert actor.permissions_at(world.root) == frozenset()
    with pytest.raises(NotAllowed):
        change_group(world.sales, kind="team", by=actor)


def test_a_suspended_member_has_no_rights(world: World) -> None:
    membership = world.actor("sam").memberships[0]
    suspend_member(membership, by=world.actor("lena"))
    sam = world.actor("sam")
    assert sam.belongs
    assert not any(sam.can_anywhere(permission) for permission in Permission)
    assert not any(sam.permissions_at(world.group(node)) for node in ("platform", "gateway", "core"))
    resume_member(membership, by=world.actor("lena"))
    assert world.actor("sam").can(P.MANAGE_KEYS, world.platform)


def test_a_suspension_reaches_the_subtree_and_no_further(world: World) -> None:
    alice = world.actor("alice")
    add_member(world.mia, group=world.platform, by=alice)
    add_member(world.mia, group=world.sales, by=alice)
    grant_role(world.mia, role=RoleName.ADMIN, group=world.core, by=alice)
    at_platform = next(found for found in world.actor("mia").memberships if found.group_id == world.platform.pk)
    suspend_member(at_platform, by=alice)
    mia = world.actor("mia")
    assert mia.permissions_at(world.group("gateway")) == mia.permissions_at(world.group("core")) == NOTHING
    assert mia.permissions_at(world.group("sales")) == OWN


def test_a_grant_without_any_membership_left_gives_nothing(world: World) -> None:
    RoleGrant.objects.create(user=world.charlie, organization=world.acme, group=world.root, role=RoleName.ADMIN)
    assert not Actor.load(world.charlie, organization=world.acme).can_anywhere(P.VIEW_USAGE)


def test_a_node_read_before_an_insertion_is_judged_as_before(world: World) -> None:
    """`lft` and `rght` of what is in memory are stale after it; who may do what must not hang on them."""
    sam, stale = world.actor("sam"), world.group("field")
    create_group(world.engineering, name="a new first child", by=world.actor("alice"))
    for name in ("gateway", "core"):
        assert sam.permissions_at(world.group(name)) == ADMIN_BELOW
    assert sam.permissions_at(stale) == sam.permissions_at(world.group("sales")) == NOTHING


def test_an_actor_is_loaded_in_two_queries(world: World, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    groups = {name: world.group(name) for name in ("root", "field")}
    with django_assert_num_queries(2):
        sam = world.actor("sam")
        sam.role_label, sam.can_anywhere(P.MANAGE_KEYS), sam.can(P.VIEW_USAGE, groups["root"])


@pytest.mark.parametrize("level", range(5))
@pytest.mark.parametrize("role", RoleName)
def test_no_role_gives_more_at_its_own_node_than_below_it(role: RoleName, level: int) -> None:
    here, below = (allowed(role, granted_level=level, distance=distance) for distance in (0, 1))
    assert here <= below
    assert here & UPPER == (UPPER if role is RoleName.ADMIN and level <= 1 else NOTHING)
    assert (here == below) == (level == 0 or not BELOW_ONLY[role])


def test_a_role_at_a_node_where_one_does_not_belong_counts_there_and_costs_one_query_more(
    world: World, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    grant_role(world.mia, role=RoleName.FINANCE, group=world.field, by=world.actor("alice"))
    grant_role(world.mia, role=RoleName.FINANCE, group=world.engineering, by=world.actor("alice"))
    with django_assert_num_queries(3):
        mia = Actor.load(world.mia, organization=world.acme)
        assert {grant.group.lineage()[-1]: len(grant.group.path()) for grant in mia.grants} == {
            world.field.pk: 3,
            world.engineering.pk: 2,
        }
    assert mia.can(P.VIEW_BILLING, world.field)
    assert mia.can(P.VIEW_BILLING, world.core)
    assert not mia.can(P.VIEW_BILLING, world.sales)
    with django_assert_num_queries(0):
        assert [group.pk for group in mia.scope(P.VIEW_BILLING)]


def test_every_permission_can_be_had_and_has_a_name() -> None:
    for permission in Permission:
        assert permission in MEMBER or roles_with(permission), permission
        assert permission.label[0].isupper()
        assert "_" not in permission.label
    assert roles_with(P.VIEW_BILLING) == [RoleName.ADMIN, RoleName.FINANCE, RoleName.AUDITOR]
    assert not any(AT_AND_BELOW[role] & BELOW_ONLY[role] for role in RoleName)
