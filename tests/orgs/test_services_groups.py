from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import IntegrityError, connection, connections, transaction

from orgs.errors import NotAllowed, Refused
from orgs.models import AuditEvent, Group
from orgs.services.groups import create_group, rename_group
from tests.actors import World, make_world


def test_a_group_is_made_below_its_parent(world: World) -> None:
    made = create_group(world.platform, name=" Research  lab ", kind="department", by=world.actor("sam"))
    assert (made.name, made.kind, made.level, made.parent_id) == ("Research lab", "department", 3, world.platform.pk)
    event = AuditEvent.objects.get(object_id=str(made.pk), action="group.created")
    assert (event.actor, event.organization, event.after) == (
        world.sam,
        world.acme,
        {"name": made.name, "parent": world.platform.pk},
    )


def test_a_fifth_level_is_refused_with_a_reason(world: World) -> None:
    with pytest.raises(Refused, match="4 levels below the organisation; core is already on the last one") as refused:
        create_group(world.core, name="too deep", by=world.actor("alice"))
    assert refused.value.field == "parent"
    assert not world.acme.groups.filter(name="too deep").exists()


def test_the_database_refuses_a_fifth_level_too(world: World) -> None:
    core = world.group("core")
    with pytest.raises(IntegrityError, match="group_at_most_four_levels_below_the_root"), transaction.atomic():
        _insert(world.acme.pk, parent=core.pk, level=5, tree_id=core.tree_id)


def test_the_database_refuses_a_second_root(world: World) -> None:
    with pytest.raises(IntegrityError, match="one_root_group_per_organization"), transaction.atomic():
        _insert(world.acme.pk, parent=None, level=0, tree_id=world.acme.pk)


def test_the_database_refuses_a_group_in_another_tenants_tree(world: World) -> None:
    with pytest.raises(IntegrityError, match="group_tree_is_its_organization"), transaction.atomic():
        _insert(world.acme.pk, parent=world.root.pk, level=1, tree_id=world.other.pk)


def _insert(organization: int, *, parent: int | None, level: int, tree_id: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO orgs_group (organization_id, parent_id, name, kind, level, lft, rght, tree_id, created_at) "
            "VALUES (%s, %s, 'raw', '', %s, 1, 2, %s, now())",
            (organization, parent, level, tree_id),
        )


@pytest.mark.parametrize(
    ("name", "parent"), [("lena", "root"), ("lena", "sales"), ("sam", "engineering"), ("mia", "gateway"), ("alice", "elsewhere")]
)
def test_a_group_cannot_be_made_outside_ones_subtree(world: World, name: str, parent: str) -> None:
    before = Group.objects.count()
    with pytest.raises(NotAllowed):
        create_group(world.group(parent), name="mine", by=world.actor(name))
    assert Group.objects.count() == before


def test_nothing_is_made_below_an_archived_group(world: World) -> None:
    Group.objects.filter(pk=world.sales.pk).update(archived_at="2026-01-01T00:00:00Z")
    with pytest.raises(Refused, match="sales is archived"):
        create_group(world.sales, name="new", by=world.actor("alice"))


def test_a_renamed_group_keeps_its_subtree(world: World) -> None:
    rename_group(world.engineering, name="zeppelins", by=world.actor("alice"))
    assert [group.name for group in world.group("core").path()[1:]] == ["zeppelins", "platform", "gateway", "core"]
    assert [group.name for group in Group.objects.filter(parent=world.root)] == ["sales", "zeppelins"]
    assert_sound_tree(world.acme.pk)
    event = AuditEvent.objects.get(organization=world.acme, action="group.renamed")
    assert (event.before, event.after) == ({"name": "engineering"}, {"name": "zeppelins"})


@pytest.mark.parametrize(("name", "group"), [("lena", "engineering"), ("sam", "platform"), ("sam", "sales"), ("mia", "gateway")])
def test_ones_own_node_is_named_by_the_admin_above(world: World, name: str, group: str) -> None:
    with pytest.raises(NotAllowed):
        rename_group(world.group(group), name="Mine", by=world.actor(name))


def test_the_root_is_renamed_with_the_organisation(world: World) -> None:
    with pytest.raises(Refused, match="organisation's settings"):
        rename_group(world.root, name="Other", by=world.actor("alice"))


def test_a_stale_parent_does_no_harm(world: World) -> None:
    """The parent in hand was read before other insertions moved it."""
    stale = world.group("sales")
    for name in ("a", "b", "c"):
        create_group(world.engineering, name=name, by=world.actor("alice"))
    create_group(stale, name="d", by=world.actor("alice"))
    assert_sound_tree(world.acme.pk)


def test_groups_made_at_the_same_moment_leave_a_sound_tree(committed_db: None) -> None:
    world = make_world()
    parents = ("root", "engineering", "platform", "gateway", "sales", "field")

    def make(number: int) -> None:
        try:
            create_group(world.group(parents[number % len(parents)]), name=f"group {number}", by=world.actor("alice"))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(24)))
    assert Group.objects.filter(organization=world.acme).count() == 7 + 24
    assert_sound_tree(world.acme.pk)


def assert_sound_tree(organization: int) -> None:
    """What `lft` and `rght` say is what the parents say."""
    groups = list(Group.objects.filter(organization=organization))
    assert sorted(edge for group in groups for edge in (group.lft, group.rght)) == list(range(1, 2 * len(groups) + 1))
    for group in groups:
        nested = {other.pk for other in groups if other.lft <= group.lft and other.rght >= group.rght}
        assert nested == set(group.lineage())
        assert group.level == len(nested) - 1
