"""People found by their id alone, by SQL that is written once."""

import pytest
from django.contrib.auth.models import Group as Staff
from django.db.models import Model
from pytest_django import DjangoAssertNumQueries

from orgs.models import User
from tests.actors import World


def test_one_is_found_by_its_id(world: World, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(2):
        assert [User.objects.get(pk=person.pk).email for person in (world.mia, world.sam)] == [world.mia.email, world.sam.email]
    with pytest.raises(User.DoesNotExist):
        User.objects.get(pk=-1)


def test_what_else_is_asked_counts(world: World) -> None:
    assert User.objects.get(pk=world.mia.pk, email=world.mia.email) == world.mia
    assert User.objects.get(pk=str(world.mia.pk)) == world.mia
    with pytest.raises(User.DoesNotExist):
        User.objects.get(pk=world.mia.pk, email=world.sam.email)


def test_among_those_of_something_only_they_are_found(world: World) -> None:
    staff = Staff.objects.create(name="Staff")
    staff.user_set.add(world.mia)
    assert staff.user_set.get(pk=world.mia.pk) == world.mia
    with pytest.raises(User.DoesNotExist):
        staff.user_set.get(pk=world.sam.pk)


def test_a_person_in_hand_stays_as_it_is(world: World) -> None:
    found: Model = User.objects.get(pk=world.mia.pk)
    User.objects.filter(pk=world.mia.pk).update(name="Another")
    assert User.objects.get(pk=world.mia.pk).name == "Another"
    assert str(found) == "Mia"
