"""Call ids are UUIDv7: time comes first, in Python and in PostgreSQL alike."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from uuid import RFC_4122, UUID

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_project.lib.ids import call_id_at, first_id_at, new_call_id, time_of
from tests.examples import some

MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))  # noqa: DTZ001
MILLISECONDS = st.integers(0, 7_000_000_000_000)
BITS = st.integers(0, 2**74 - 1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def at(milliseconds: int) -> datetime:
    return EPOCH + milliseconds * MILLISECOND


def test_a_new_id_is_a_version_7_of_now() -> None:
    before = time.time_ns() // 1_000_000
    call_id = new_call_id()
    after = time.time_ns() // 1_000_000
    assert (call_id.version, call_id.variant) == (7, RFC_4122)
    assert before <= call_id.int >> 80 <= after


def test_ids_of_one_moment_differ() -> None:
    assert len({new_call_id() for _ in range(2_000)}) == 2_000


@given(moment=MOMENTS, bits=BITS)
def test_an_id_of_the_past_is_well_formed_and_tells_its_millisecond(moment: datetime, bits: int) -> None:
    call_id = call_id_at(moment, random_bits=bits)
    assert (call_id.version, call_id.variant) == (7, RFC_4122)
    assert timedelta(0) <= moment - time_of(call_id) < MILLISECOND


@given(milliseconds=MILLISECONDS)
def test_a_whole_millisecond_comes_back_exactly(milliseconds: int) -> None:
    assert time_of(first_id_at(at(milliseconds))) == at(milliseconds)


@given(milliseconds=MILLISECONDS, one=BITS, other=BITS)
def test_different_bits_make_different_ids(milliseconds: int, one: int, other: int) -> None:
    first, second = (call_id_at(at(milliseconds), random_bits=bits) for bits in (one, other))
    assert (first == second) == (one == other)


@given(milliseconds=MILLISECONDS, later=st.integers(1, 10**9), one=BITS, other=BITS)
def test_an_earlier_id_is_smaller_as_number_text_and_bytes(milliseconds: int, later: int, one: int, other: int) -> None:
    first, second = call_id_at(at(milliseconds), random_bits=one), call_id_at(at(milliseconds + later), random_bits=other)
    assert first < second
    assert str(first) < str(second)
    assert first.bytes < second.bytes


@given(milliseconds=st.integers(1, 7_000_000_000_000), bits=BITS)
def test_the_bound_of_a_moment_parts_what_came_before_from_what_came_since(milliseconds: int, bits: int) -> None:
    bound = first_id_at(at(milliseconds))
    assert call_id_at(at(milliseconds), random_bits=bits) >= bound
    assert call_id_at(at(milliseconds - 1), random_bits=bits) < bound


@given(moment=MOMENTS, hours=st.integers(-12, 14))
def test_the_time_zone_a_moment_is_told_in_does_not_matter(moment: datetime, hours: int) -> None:
    assert first_id_at(moment.astimezone(timezone(timedelta(hours=hours)))) == first_id_at(moment)


def test_the_example_of_the_standard() -> None:
    """RFC 9562, appendix A.6: Tuesday, February 22, 2022 2:22:22.00 PM GMT-05:00."""
    moment = datetime(2022, 2, 22, 14, 22, 22, tzinfo=timezone(timedelta(hours=-5)))
    call_id = call_id_at(moment, random_bits=0xCC3 << 62 | 0x18C4DC0C0C07398F)
    assert call_id == UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")
    assert time_of(call_id) == moment


@pytest.mark.django_db
@settings(max_examples=some(20), deadline=None)
@given(milliseconds=st.lists(MILLISECONDS, min_size=20, max_size=20))
def test_postgresql_draws_the_same_bounds(milliseconds: list[int]) -> None:
    moments = [at(number) for number in milliseconds]
    with connection.cursor() as cursor:
        cursor.execute("SELECT billing_first_call_id(moment) FROM unnest(%s::timestamptz[]) AS moment", [moments])
        assert [row[0] for row in cursor.fetchall()] == [first_id_at(moment) for moment in moments]


@pytest.mark.django_db
def test_postgresql_sorts_ids_as_python_does() -> None:
    ids = [call_id_at(at(1_760_000_000_000 + number % 7), random_bits=number << 60) for number in range(50)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM unnest(%s::uuid[]) AS id ORDER BY id", [ids])
        assert [row[0] for row in cursor.fetchall()] == sorted(ids)
