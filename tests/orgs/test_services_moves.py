"""Moving a group: who may, what is refused with which words, and a tree that stays sound whatever is moved where."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import IntegrityError, connections, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from orgs.errors import NotAllowed, Refused
from orgs.models import MAX_LEVEL, AuditEvent, Group
from orgs.permissions import UPPER_ONLY, Permission, RoleName
from orgs.services.applications import change_application
from orgs.services.groups import archive_group, create_group
from orgs.services.keys import create_api_key
from orgs.services.members import grant_role
from orgs.services.moves import height, move_group
from orgs.services.roles import create_role
from tests.actors import World, make_world
from tests.examples import some
from tests.orgs.test_services_groups import assert_sound_tree


def test_a_group_moves_with_all_that_is_below_it(world: World) -> None:
    move_group(world.gateway, to=world.sales, by=world.actor("alice"))
    assert [node.name for node in world.group("core").path()[1:]] == ["sales", "gateway", "core"]
    assert (world.group("gateway").level, world.group("core").level) == (2, 3)
    assert_sound_tree(world.acme.pk)
    event = AuditEvent.objects.get(organization=world.acme, action="group.moved")
    assert event.before == {"parent": world.platform.pk, "path": f"{world.acme.name} / engineering / platform"}
    assert event.after == {"parent": world.sales.pk, "path": f"{world.acme.name} / sales"}


def test_brothers_stay_in_the_order_of_their_names(world: World) -> None:
    move_group(world.field, to=world.root, by=world.actor("alice"))
    names = Group.objects.filter(parent=world.root).order_by("lft").values_list("name", flat=True)
    assert list(names) == ["engineering", "field", "sales"]


def test_where_it_is_already_nothing_happens(world: World) -> None:
    move_group(world.field, to=world.sales, by=world.actor("alice"))
    assert not AuditEvent.objects.filter(organization=world.acme, action="group.moved").exists()


@pytest.mark.parametrize(
    ("group", "to", "words"),
    [
        ("platform", "field", "field is on level 2, so platform with the 2 levels below it would reach level 5"),
        ("sales", "core", "core is on level 4, so sales with the 1 level below it would reach level 6"),
        ("field", "core", "so field would reach level 5"),
        ("engineering", "gateway", "into itself or below itself"),
        ("engineering", "engineering", "into itself or below itself"),
        ("root", "sales", "The organisation itself cannot be moved"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(world: World, group: str, to: str, words: str) -> None:
    with pytest.raises(Refused, match=words) as refused:
        move_group(world.group(group), to=world.group(to), by=world.actor("alice"))
    assert refused.value.field == "to"
    assert_sound_tree(world.acme.pk)


def test_the_database_refuses_a_subtree_that_would_be_too_deep(world: World) -> None:
    """Whoever goes past the service."""
    platform = world.group("platform")
    platform.parent = world.group("field")
    with pytest.raises(IntegrityError, match="group_at_most_four_levels_below_the_root"), transaction.atomic():
        platform.save()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("name", "group", "to"),
    [
        ("lena", "gateway", "sales"),
        ("lena", "engineering", "sales"),
        ("lena", "field", "engineering"),
        ("sam", "platform", "engineering"),
        ("sam", "gateway", "engineering"),
        ("mia", "core", "gateway"),
        ("alice", "sales", "elsewhere"),
        ("charlie", "sales", "elsewhere"),
    ],
)
def test_both_places_must_be_ones_own(world: World, name: str, group: str, to: str) -> None:
    with pytest.raises(NotAllowed):
        move_group(world.group(group), to=world.group(to), by=world.actor(name))
    assert_sound_tree(world.acme.pk)


def test_an_admin_moves_within_its_own_subtree(world: World) -> None:
    move_group(world.core, to=world.engineering, by=world.actor("lena"))
    move_group(world.core, to=world.platform, by=world.actor("lena"))
    move_group(world.core, to=world.gateway, by=world.actor("sam"))
    assert_sound_tree(world.acme.pk)


def test_a_move_gives_nobody_more_than_whoever_moves_may_give(world: World) -> None:
    """Roles of the new place reach what is moved there; those of the group itself count for more on an upper level."""
    alice = world.actor("alice")
    mover = create_role(world.root, name="Mover", permissions=[Permission.MANAGE_GROUPS, Permission.VIEW_USAGE], by=alice)
    grant_role(world.noah, role=mover, group=world.root, by=alice)
    move_group(world.gateway, to=world.sales, by=world.actor("noah"))
    move_group(world.gateway, to=world.platform, by=alice)
    grant_role(world.noah, role=RoleName.ADMIN, group=world.sales, by=alice)
    with pytest.raises(NotAllowed):
        move_group(world.gateway, to=world.sales, by=world.actor("noah"))
    with pytest.raises(NotAllowed) as missing:
        move_group(world.platform, to=world.root, by=world.actor("noah"))
    assert missing.value.permission in UPPER_ONLY
    assert not world.actor("noah").can(Permission.MANAGE_KEYS, world.group("gateway"))
    move_group(world.platform, to=world.root, by=alice)
    assert world.actor("sam").role_label == "L1 Admin"


@pytest.mark.parametrize("archived", ["gateway", "platform", "sales"])
def test_what_is_archived_neither_moves_nor_takes_anything_in(world: World, archived: str) -> None:
    archive_group(world.group(archived), by=world.actor("alice"))
    with pytest.raises(Refused, match=f"{archived}.* archived"):
        move_group(world.gateway, to=world.sales, by=world.actor("alice"))


def test_a_key_does_not_lose_the_application_that_it_names(world: World) -> None:
    mia, alice = world.actor("mia"), world.actor("alice")
    create_api_key(world.gateway, name="app key", member=mia.user, application=world.assistant, by=mia)
    with pytest.raises(Refused, match=r"1 API key below gateway names an application .* “Assistant” of platform"):
        move_group(world.gateway, to=world.sales, by=alice)
    change_application(world.assistant, group=world.gateway, by=alice)
    move_group(world.gateway, to=world.sales, by=alice)
    assert world.group("core").path()[1] == world.sales


def test_an_application_moves_along_with_its_group(world: World) -> None:
    sam = world.actor("sam")
    create_api_key(world.platform, name="nightly", application=world.assistant, by=sam)
    move_group(world.platform, to=world.sales, by=world.actor("alice"))
    assert_sound_tree(world.acme.pk)


def test_whatever_is_moved_where_the_tree_stays_sound(world: World) -> None:
    """Against a plain model of parents: the same moves pass, the others are refused."""
    groups, alice = _grown(world), world.actor("alice")

    @given(moves=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=4, max_size=8))
    @settings(max_examples=some(6))
    def moved(moves: list[tuple[int, int]]) -> None:
        with transaction.atomic():
            parents: dict[int, int | None] = {group.pk: group.parent_id for group in groups}
            for group, to in ((groups[which], groups[where]) for which, where in moves):
                if _fits(parents, group.pk, to.pk):
                    move_group(group, to=to, by=alice)
                    parents[group.pk] = to.pk
                else:
                    with pytest.raises(Refused):
                        move_group(group, to=to, by=alice)
            assert dict(world.acme.groups.values_list("pk", "parent_id")) == parents
            assert set(world.acme.groups.values_list("tree_id", flat=True)) == {world.acme.pk}
            assert_sound_tree(world.acme.pk)
            transaction.set_rollback(True)

    moved()


def _grown(world: World) -> list[Group]:
    made = [create_group(world.group("sales"), name=name, by=world.actor("alice")) for name in "abc"]
    names = ("root", "engineering", "platform", "gateway", "core", "sales", "field")
    return [*(world.group(name) for name in names), *made]


def _fits(parents: dict[int, int | None], group: int, to: int) -> bool:
    def path(node: int) -> list[int]:
        above = parents[node]
        return [*(path(above) if above else []), node]

    below = max(len(path(node)) for node in parents if group in path(node)) - len(path(group))
    return parents[group] is not None and group not in path(to) and len(path(to)) + below <= MAX_LEVEL


def test_moves_at_the_same_moment_leave_a_sound_tree(committed_db: None) -> None:
    world = make_world()
    pairs = [("gateway", "sales"), ("field", "engineering"), ("sales", "platform"), ("core", "root"), ("gateway", "platform")]

    def move(pair: tuple[str, str]) -> Any:
        try:
            move_group(world.group(pair[0]), to=world.group(pair[1]), by=world.actor("alice"))
        except Refused as refused:
            return refused
        finally:
            connections.close_all()

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(move, pairs))
    assert_sound_tree(world.acme.pk)


def test_the_height_is_the_levels_below(world: World) -> None:
    assert [height(world.group(name)) for name in ("root", "engineering", "gateway", "core", "sales")] == [4, 3, 1, 0, 1]
