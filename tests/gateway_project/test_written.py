"""Queries whose SQL is written once."""

import gc
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import DatabaseError, connection, connections
from django.db.backends.postgresql.compiler import SQLCompiler
from django.db.models import QuerySet
from django.db.transaction import TransactionManagementError, atomic, set_rollback
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from gateway_project.lib.written import Written
from orgs.actor import LINEAGE
from orgs.models import Group, Membership, User
from tests.actors import World, make_world

GROUP: Written[Group] = Written(lambda pk: Group.objects.filter(pk=pk), int)


def test_each_call_finds_what_the_query_finds_with_its_values(world: World) -> None:
    there: Written[Membership] = Written(
        lambda user, slug: Membership.objects.filter(user=user, organization__slug=slug, suspended_at=None), int, str
    )
    for person in (world.mia, world.lena, world.charlie, world.mia):
        for slug in (world.acme.slug, world.other.slug, "x' OR 'a' = 'a", "%s"):
            expected = set(Membership.objects.filter(user=person, organization__slug=slug))
            assert set(there(person.pk, slug)) == expected
    assert there(world.mia.pk, world.acme.slug) != there(world.lena.pk, world.acme.slug)


def test_the_query_is_asked_once(world: World) -> None:
    asked = []

    def query(pk: int) -> QuerySet[Group]:
        asked.append(pk)
        found: QuerySet[Group] = Group.objects.filter(pk=pk)
        return found

    written = Written(query, int)
    assert [written.get(group.pk) for group in (world.gateway, world.core)] == [world.gateway, world.core]
    assert len(asked) == 1


def test_what_it_joins_is_read_with_the_row(world: World, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    written: Written[Membership] = Written(lambda user: Membership.objects.filter(user=user).select_related("user", LINEAGE), int)
    with django_assert_num_queries(1):
        [membership] = written(world.sam.pk)
        assert (membership.user, membership.group.words()) == (world.sam, "engineering / platform")
    membership.suspended_at = membership.created_at
    membership.save()
    assert written.get(world.sam.pk).suspended_at == membership.created_at


def test_nothing_equals_none_or_a_number_that_no_column_holds(world: World) -> None:
    root: Written[Group] = Written(lambda parent: Group.objects.filter(parent=parent), int)
    for value in (None, 2**63, -(2**64), 10**30):
        assert root(value) == []
        assert GROUP.sole(value) is None
        with pytest.raises(Group.DoesNotExist):
            GROUP.get(value)
    assert GROUP.sole(2**63 - 1) is None


def test_a_thread_asks_over_its_own_connection(world: World) -> None:
    """Which sees nothing of this one's transaction."""

    def elsewhere() -> Group | None:
        try:
            return GROUP.sole(world.root.pk)
        finally:
            connections.close_all()

    assert GROUP.sole(world.root.pk) == world.root
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(elsewhere).result(30) is None
    assert GROUP.sole(world.root.pk) == world.root


def test_rows_are_locked_in_a_transaction_only(world: World) -> None:
    """Also by the calls that Django does not write for: elsewhere the lock would be gone with the statement."""
    locked: Written[Group] = Written(lambda pk: Group.objects.select_for_update().filter(pk=pk), int)

    def elsewhere() -> list[Group]:
        try:
            return locked(world.root.pk)
        finally:
            connections.close_all()

    assert locked(world.root.pk) == [world.root]
    with ThreadPoolExecutor(1) as threads, pytest.raises(TransactionManagementError, match="outside of a transaction"):
        threads.submit(elsewhere).result(30)


KEPT: Written[Group] = Written(lambda pk: Group.objects.filter(pk=pk, level__lt=77), int)


def planned() -> list[int]:
    """How often this connection has run the statement of KEPT, as PostgreSQL says that keeps it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT generic_plans + custom_plans FROM pg_prepared_statements WHERE statement LIKE %s", ['%."level" < 77 %']
        )
        return [count for (count,) in cursor.fetchall()]


def test_postgresql_keeps_the_statement_whatever_is_rolled_back(world: World) -> None:
    KEPT.get(world.root.pk)
    [before] = planned()
    with atomic():
        assert KEPT.get(world.core.pk) == world.core
        set_rollback(True)
    assert KEPT.get(world.root.pk) == world.root
    assert planned() == [before + 2]


def test_keeping_it_is_no_statement_of_the_page(world: World, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    new: Written[Group] = Written(lambda parent: Group.objects.filter(parent=parent).order_by("pk"), int)
    for _ in range(2):
        with django_assert_num_queries(1):
            assert new(world.root.pk) == [world.engineering, world.sales]


def test_another_connection_keeps_its_own(committed_db: None) -> None:
    world = make_world()
    for _ in range(2):
        assert KEPT.get(world.core.pk) == world.core
        assert len(planned()) == 1
        connection.close()


@pytest.mark.parametrize("lost", ["DEALLOCATE ALL", "DISCARD ALL"])
def test_a_connection_that_has_lost_it_ends_with_the_page(committed_db: None, lost: str) -> None:
    world = make_world()
    assert KEPT.get(world.core.pk) == world.core
    with connection.cursor() as cursor:
        cursor.execute(lost)
    with pytest.raises(DatabaseError, match="does not exist"):
        KEPT.get(world.core.pk)
    connection.close_if_unusable_or_obsolete()
    assert KEPT.get(world.core.pk) == world.core


def test_so_does_one_whose_column_is_of_another_type_since(committed_db: None) -> None:
    world = make_world()
    length = Group._meta.get_field("name").max_length or 0
    with connection.cursor() as cursor:
        assert KEPT.get(world.core.pk) == world.core
        cursor.execute(f"ALTER TABLE orgs_group ALTER name TYPE varchar({length + 1})")
        try:
            with pytest.raises(DatabaseError, match="must not change result type"):
                KEPT.get(world.core.pk)
            connection.close_if_unusable_or_obsolete()
            assert KEPT.get(world.core.pk) == world.core
        finally:
            with connection.cursor() as another:
                another.execute(f"ALTER TABLE orgs_group ALTER name TYPE varchar({length})")
            connection.close()


def test_its_name_says_what_it_is(world: World) -> None:
    """Of two processes neither runs the other's for its own, whatever stands between them and PostgreSQL."""

    def name(written: Written[Group]) -> str:
        with CaptureQueriesContext(connection) as asked:
            written(world.core.pk)
        return asked[0]["sql"].partition("(")[0]

    same = [name(Written(lambda pk: Group.objects.filter(pk=pk), int)) for _ in range(2)]
    other = name(Written(lambda pk: Group.objects.filter(pk=pk, level__lt=3), int))
    third = name(Written(lambda pk: Group.objects.filter(pk=pk, level__lt=4), int))
    assert same[0] == same[1]
    assert len({same[0], other, third}) == 3


def test_constants_of_the_query_hold_and_what_they_hold_is_no_sql(world: World) -> None:
    odd = "100% 'of' \\ \"it\" $1 %s {}"
    Group.objects.filter(pk=world.core.pk).update(name=odd)
    written: Written[Group] = Written(lambda above: Group.objects.filter(parent=above, name=odd, level__in=[4, 5])[:7], int)
    assert written(world.gateway.pk) == [world.core]
    assert written(world.platform.pk) == []


def test_a_query_may_do_without_values(world: World) -> None:
    roots: Written[Group] = Written(lambda: Group.objects.filter(parent=None).order_by("-pk")[:1])
    assert roots.get().level == 0


def test_in_a_broken_transaction_it_is_told_as_of_every_query(world: World) -> None:
    new: Written[Group] = Written(lambda pk: Group.objects.filter(pk=pk), int)
    with atomic():
        set_rollback(True)
        for written in (new, GROUP):
            with pytest.raises(TransactionManagementError, match="until the end of the 'atomic' block"):
                written.sole(world.root.pk)


def test_a_call_leaves_nothing_for_the_collector_of_cycles(world: World) -> None:
    assert GROUP.sole(world.root.pk) == world.root
    gc.collect()
    gc.disable()
    try:
        before = _compilers()
        GROUP.sole(world.root.pk)
        assert _compilers() == before > 0
    finally:
        gc.enable()


def _compilers() -> int:
    """By their very class: to be asked for it, what is lazy would have to be made."""
    return sum(type(one) is SQLCompiler for one in gc.get_objects())


def test_a_value_that_the_query_does_not_compare_with_is_a_mistake(db: None) -> None:
    forgetful: Written[User] = Written(lambda pk, email: User.objects.filter(pk=pk), int, str)
    with pytest.raises(TypeError, match="none of its parameters"):
        forgetful(1, "x")
