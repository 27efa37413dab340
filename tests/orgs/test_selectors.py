from collections.abc import Iterable

import pytest
from pytest_django import DjangoAssertNumQueries

from orgs.actor import Actor
from orgs.models import ApiKey, Group, Membership, Organization, User
from orgs.permissions import Permission, RoleName
from orgs.selectors import (
    bindable_applications,
    granters,
    groups_visible_to,
    home_organization,
    key_homes,
    keys_visible_to,
    linked,
    members_visible_to,
    memberships_of,
    open_tree,
    organizations_among,
    organizations_of,
    roles_at,
    tree_visible_to,
    within,
)
from orgs.services.applications import create_application
from orgs.services.groups import archive_group, create_group
from orgs.services.keys import create_api_key
from orgs.services.members import add_member, grant_role, suspend_member
from orgs.services.organizations import create_organization
from tests.actors import World


def names(groups: Iterable[Group]) -> list[str]:
    return ["root" if group.parent is None else group.name for group in groups]


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("alice", ["root", "engineering", "platform", "gateway", "core", "sales", "field"]),
        ("lena", ["engineering", "platform", "gateway", "core"]),
        ("sam", ["platform", "gateway", "core"]),
        ("mia", ["gateway"]),
        ("noah", ["field"]),
        ("charlie", ["root"]),
    ],
)
def test_groups_are_seen_by_subtree_in_the_order_of_the_tree(world: World, name: str, groups: list[str]) -> None:
    assert names(groups_visible_to(world.actor(name))) == groups
    assert all(group.organization == world.actor(name).organization for group in groups_visible_to(world.actor(name)))


def test_a_permission_of_the_nodes_below_leaves_the_own_one_out(world: World) -> None:
    below = Group.objects.filter(within(world.actor("lena").scope(Permission.MANAGE_GUARDRAILS)))
    assert {group.name for group in below} == {"platform", "gateway", "core"}


def test_within_reaches_every_level_and_nothing_beside(world: World) -> None:
    create_group(world.engineering, name="beside platform", by=world.actor("alice"))
    assert {group.pk for group in Group.objects.filter(within([world.platform]))} == {
        world.platform.pk,
        world.gateway.pk,
        world.core.pk,
    }
    assert Group.objects.filter(within([world.root])).count() == 8
    assert not Group.objects.filter(within([])).exists()
    assert list(ApiKey.objects.filter(within([world.engineering], field="group"))) == [world.key]


def test_within_a_root_is_all_of_its_organisation_and_nothing_of_another(world: World) -> None:
    """Which takes no walk up the tree; with a group of another tree beside it both ways are one."""
    both = [world.root, world.other.root]
    assert set(Group.objects.filter(within(both))) == {*world.acme.groups.all(), *world.other.groups.all()}
    assert set(Group.objects.filter(within([world.other.root, world.platform]))) == {
        *world.other.groups.all(),
        *Group.objects.filter(within([world.platform])),
    }
    assert list(ApiKey.objects.filter(within([world.root], field="group"))) == [world.key]
    assert not ApiKey.objects.filter(within([world.other.root], field="group")).exists()
    assert not ApiKey.objects.filter(within([world.root], field="application__group")).exists(), "a key without an application"
    own = ApiKey.objects.filter(organization=world.acme)
    assert list(own.filter(~within([world.root], field="application__group"))) == [world.key]


@pytest.mark.parametrize("name", ["alice", "lena", "sam", "mia", "noah", "charlie"])
@pytest.mark.parametrize("permission", [Permission.VIEW_USAGE, Permission.MANAGE_KEYS, Permission.MANAGE_GUARDRAILS])
def test_the_tree_is_what_is_visible_with_its_paths_in_one_statement(
    world: World, name: str, permission: Permission, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    actor = world.actor(name)
    expected = groups_visible_to(actor, permission=permission)
    paths = [[node.pk for node in group.path()] for group in expected]
    actor.scope(permission)
    with django_assert_num_queries(1 + _statements_of_scope(actor, permission)):
        found = tree_visible_to(actor, permission)
        assert [group.lineage() for group in found] == paths
        assert [group.path()[0].organization_id for group in found] == [actor.organization.pk] * len(found)


def _statements_of_scope(actor: Actor, permission: Permission) -> int:
    """Where a grant reaches the nodes below its own only, these are read."""
    return int(any(permission in grant.allows(distance=1) - grant.allows(distance=0) for grant in actor.grants))


def test_a_tree_that_moved_between_two_statements_still_has_its_paths(world: World) -> None:
    """A parent that is on no path known here is read when it is asked for."""
    only = Group.objects.filter(pk=world.core.pk)
    [core] = linked(only, below=[])
    assert core.lineage() == Group.objects.get(pk=world.core.pk).lineage()


def test_an_archived_group_takes_what_lies_below_it_out_of_the_open_tree(world: World) -> None:
    archive_group(world.platform, by=world.actor("alice"))
    actor = world.actor("alice")
    assert names(open_tree(actor, Permission.MANAGE_KEYS)) == ["root", "engineering", "sales", "field"]
    assert [group.pk for group in open_tree(actor, Permission.MANAGE_KEYS)] == [group.pk for group in key_homes(actor)]
    assert names(open_tree(world.actor("sam"), Permission.MANAGE_KEYS)) == []


def test_keys_are_seen_by_subtree_and_ones_own_always(world: World) -> None:
    alice = world.actor("alice")
    sales, _ = create_api_key(world.sales, name="alice's", member=world.alice, by=alice)
    service, _ = create_api_key(world.platform, name="service", application=world.assistant, by=alice)

    def seen(name: str) -> list[ApiKey]:
        return list(keys_visible_to(world.actor(name)))

    assert seen("alice") == [service, sales, world.key]
    assert seen("lena") == seen("sam") == [service, world.key]
    assert seen("mia") == [world.key]
    assert seen("noah") == seen("charlie") == []


def test_members_are_seen_by_subtree_and_oneself_always(world: World) -> None:
    def seen(name: str) -> list[str]:
        return [membership.user.name for membership in members_visible_to(world.actor(name))]

    assert seen("alice") == ["Alice", "Lena", "Mia", "Noah", "Sam"]
    assert seen("sam") == ["Mia", "Sam"]
    assert seen("mia") == ["Mia"]


def test_a_suspended_member_sees_nothing(world: World) -> None:
    suspend_member(Membership.objects.get(user=world.mia, organization=world.acme), by=world.actor("sam"))
    mia = world.actor("mia")
    assert not groups_visible_to(mia).exists()
    assert not keys_visible_to(mia).exists()
    assert not members_visible_to(mia).exists()
    assert world.acme not in organizations_of(world.mia)


def test_a_list_costs_one_query_however_long_it_is(world: World, django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    mia = world.actor("mia")
    for number in range(5):
        create_api_key(world.gateway, name=f"key {number}", member=world.mia, by=mia)
    lena = world.actor("lena")
    with django_assert_max_num_queries(1):
        assert len([(str(key.member), key.group.path()) for key in keys_visible_to(lena)]) == 6
    with django_assert_max_num_queries(1):
        assert len([(member.user.email, member.group.path()) for member in members_visible_to(lena)]) == 3


def test_keys_find_a_home_where_one_belongs_or_manages_keys(world: World) -> None:
    assert names(key_homes(world.actor("mia"))) == ["gateway"]
    assert names(key_homes(world.actor("sam"))) == ["platform", "gateway", "core"]
    Group.objects.filter(pk=world.core.pk).update(archived_at="2026-01-01T00:00:00Z")
    assert names(key_homes(world.actor("sam"))) == ["platform", "gateway"]


def test_finance_sees_and_makes_no_keys(world: World) -> None:
    grant_role(world.noah, role=RoleName.FINANCE, group=world.root, by=world.actor("alice"))
    noah = world.actor("noah")
    assert list(keys_visible_to(noah)) == [world.key]
    assert names(key_homes(noah)) == ["field"]


def test_applications_on_the_path_can_be_bound(world: World) -> None:
    alice = world.actor("alice")
    top = create_application(world.root, name="Top", by=alice)
    beside = create_application(world.sales, name="Beside", by=alice)
    below = create_application(world.core, name="Below", by=alice)
    assert list(bindable_applications(world.gateway)) == [world.assistant, top]
    assert list(bindable_applications(world.field)) == [beside, top]
    assert below in bindable_applications(world.core)
    world.acme.applications.filter(pk=top.pk).update(archived_at="2026-01-01T00:00:00Z")
    assert list(bindable_applications(world.gateway)) == [world.assistant]


def test_granters_are_named_nearest_first(world: World) -> None:
    def at(group: Group) -> list[str]:
        return [grant.user.name for grant in granters(group)]

    assert at(world.gateway) == ["Sam", "Lena", "Alice"]
    assert at(world.platform) == ["Lena", "Alice"]
    assert at(world.root) == ["Alice"]
    grant_role(world.mia, role=RoleName.FINANCE, group=world.sales, by=world.actor("alice"))
    assert at(world.field) == ["Alice"]


def test_nobody_is_sent_to_an_admin_who_is_frozen(world: World) -> None:
    User.objects.filter(pk=world.sam.pk).update(is_active=False)
    assert [grant.user for grant in granters(world.gateway)] == [world.lena, world.alice]


def test_the_grants_of_a_node_are_those_made_at_it(world: World) -> None:
    assert [grant.user for grant in roles_at(world.platform)] == [world.sam]
    assert list(roles_at(world.gateway)) == []


def test_organisations_are_listed_companies_first(world: World) -> None:
    create_organization("Zeta", owner=world.mia)
    kinds = [(found.kind, found.name) for found in organizations_of(world.mia)]
    assert kinds == [("company", world.acme.name), ("company", "Zeta"), ("personal", "Mia")]


def test_a_member_of_two_nodes_sees_its_organisation_once(world: World) -> None:
    add_member(world.mia, group=world.field, by=world.actor("alice"))
    assert list(organizations_of(world.mia)).count(world.acme) == 1


@pytest.mark.parametrize("name", ["alice", "mia", "charlie", "noah"])
def test_organisations_are_the_same_by_memberships_that_have_been_read(
    world: World, name: str, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    person = getattr(world, name)
    create_organization("émile & co", owner=person)
    create_organization("Émile & co", owner=person)
    add_member(world.mia, group=world.field, by=world.actor("alice"))
    suspend_member(Membership.objects.get(user=world.noah, organization=world.acme), by=world.actor("alice"))
    suspend_member(Membership.objects.get(user=world.mia, group=world.field), by=world.actor("alice"))
    expected = list(organizations_of(person))
    with django_assert_max_num_queries(1):
        found = organizations_among(memberships_of(person))
    assert found == expected
    assert len(found) >= 2


def test_home_is_the_organisation_used_last_else_a_company_else_the_personal_account(world: World) -> None:
    own = Organization.objects.get(kind="personal", memberships__user=world.mia)
    assert home_organization(world.mia, last_slug=None) == world.acme
    assert home_organization(world.mia, last_slug=own.slug) == own
    assert home_organization(world.mia, last_slug=world.other.slug) == world.acme
    Membership.objects.filter(user=world.mia, organization=world.acme).delete()
    assert home_organization(world.mia, last_slug=world.acme.slug) == own
    Membership.objects.filter(user=world.noah).delete()
    assert home_organization(world.noah, last_slug=None) is None
