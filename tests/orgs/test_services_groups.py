from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import IntegrityError, connection, connections, transaction

from orgs.actor import ABOVE
from orgs.errors import NotAllowed, Refused
from orgs.models import AuditEvent, Group
from orgs.services.groups import archive_group, change_group, create_group, restore_group
from tests.actors import World, make_world


def test_a_group_is_made_below_its_parent(world: World) -> None:
    made = create_group(world.platform, name=" Research  lab ", kind="department", by=world.actor("sam"))
    assert (made.name, made.kind, made.level, made.parent_id) == ("Research lab", "department", 3, world.platform.pk)
    event = AuditEvent.objects.get(object_id=str(made.pk), action="group.created")
    assert (event.actor, event.organization, event.after) == (
        world.sam,
        world.acme,
        {"name": made.name, "kind": "department", "parent": world.platform.pk},
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


def test_whoever_owns_it_and_what_pays_for_it_is_kept_and_audited(world: World) -> None:
    alice = world.actor("alice")
    made = create_group(world.sales, name="Partners", cost_center=" CC  4711 ", owner=world.noah, by=alice)
    assert (made.cost_center, made.owner) == ("CC 4711", world.noah)
    change_group(made, kind=" team ", cost_center="", owner=None, by=alice)
    made.refresh_from_db()
    assert (made.name, made.kind, made.cost_center, made.owner) == ("Partners", "team", "", None)
    event = AuditEvent.objects.get(organization=world.acme, action="group.changed")
    assert event.before == {"kind": "", "cost_center": "CC 4711", "owner": world.noah.pk}
    assert event.after == {"kind": "team", "cost_center": "", "owner": None}


def test_what_is_the_same_is_no_change(world: World) -> None:
    change_group(world.sales, name="sales", kind="", by=world.actor("alice"))
    assert not AuditEvent.objects.filter(organization=world.acme, action="group.changed").exists()


@pytest.mark.parametrize(
    ("field", "value"), [("name", ""), ("name", "x" * 121), ("kind", "x" * 41), ("cost_center", "x" * 61), ("kind", "a\x00")]
)
def test_bad_words_are_refused_by_their_field(world: World, field: str, value: str) -> None:
    with pytest.raises(Refused) as refused:
        change_group(world.sales, by=world.actor("alice"), **{field: value})  # type: ignore[arg-type]
    assert refused.value.field == field
    assert world.group("sales").name == "sales"


@pytest.mark.parametrize("stranger", ["charlie", "suspended"])
def test_only_an_active_member_owns_anything(world: World, stranger: str) -> None:
    world.acme.memberships.filter(user=world.noah).update(suspended_at="2026-01-01T00:00:00Z")
    owner = world.charlie if stranger == "charlie" else world.noah
    with pytest.raises(Refused, match="not an active member") as refused:
        create_group(world.sales, name="new", owner=owner, by=world.actor("alice"))
    assert refused.value.field == "owner"


@pytest.mark.parametrize(("archived", "words"), [("sales", "sales is archived"), ("root", "sales lies in Acme")])
def test_nothing_is_made_in_or_below_an_archived_group(world: World, archived: str, words: str) -> None:
    Group.objects.filter(pk=getattr(world, archived).pk).update(archived_at="2026-01-01T00:00:00Z")
    with pytest.raises(Refused, match=words):
        create_group(world.sales, name="new", by=world.actor("alice"))


def test_an_archived_group_comes_back_once_what_is_above_it_has(world: World) -> None:
    alice = world.actor("alice")
    archive_group(world.field, by=alice)
    archive_group(world.sales, by=alice)
    with pytest.raises(Refused, match="sales is archived"):
        restore_group(world.field, by=alice)
    restore_group(world.sales, by=alice)
    assert world.group("field").closed_by == world.field
    restore_group(world.field, by=alice)
    restore_group(world.field, by=alice)
    assert world.group("field").closed_by is None
    found = AuditEvent.objects.filter(organization=world.acme, action__in=["group.archived", "group.restored"])
    assert [event.object_label for event in found.order_by("pk")] == ["field", "sales", "sales", "field"]


def test_the_organisation_itself_is_not_archived(world: World) -> None:
    with pytest.raises(Refused, match="cannot be archived"):
        archive_group(world.root, by=world.actor("alice"))


@pytest.mark.parametrize(("name", "group"), [("sam", "platform"), ("lena", "engineering"), ("sam", "sales"), ("mia", "gateway")])
def test_ones_own_node_is_archived_by_the_admin_above(world: World, name: str, group: str) -> None:
    for change in (archive_group, restore_group):
        with pytest.raises(NotAllowed):
            change(world.group(group), by=world.actor(name))


def test_a_renamed_group_keeps_its_subtree(world: World) -> None:
    change_group(world.engineering, name="zeppelins", by=world.actor("alice"))
    assert [group.name for group in world.group("core").path()[1:]] == ["zeppelins", "platform", "gateway", "core"]
    assert [group.name for group in Group.objects.filter(parent=world.root)] == ["sales", "zeppelins"]
    assert_sound_tree(world.acme.pk)
    event = AuditEvent.objects.get(organization=world.acme, action="group.changed")
    assert (event.before, event.after) == ({"name": "engineering"}, {"name": "zeppelins"})


@pytest.mark.parametrize(("name", "group"), [("lena", "engineering"), ("sam", "platform"), ("sam", "sales"), ("mia", "gateway")])
def test_ones_own_node_is_named_by_the_admin_above(world: World, name: str, group: str) -> None:
    with pytest.raises(NotAllowed):
        change_group(world.group(group), name="Mine", by=world.actor(name))


def test_the_root_is_renamed_with_the_organisation(world: World) -> None:
    with pytest.raises(Refused, match="organisation's settings"):
        change_group(world.root, name="Other", by=world.actor("alice"))


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
    groups = list(Group.objects.filter(organization=organization).select_related(ABOVE))
    assert sorted(edge for group in groups for edge in (group.lft, group.rght)) == list(range(1, 2 * len(groups) + 1))
    for group in groups:
        nested = {other.pk for other in groups if other.lft <= group.lft and other.rght >= group.rght}
        assert nested == set(group.lineage())
        assert group.level == len(nested) - 1
