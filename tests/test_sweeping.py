"""Tables that tests have filled with what they took back are small again for the next file."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.gateways import database_url_of_tests
from tests.sweeping import LEAST_BYTES, Sweeper

FILL = "INSERT INTO django_session SELECT 's' || n, repeat('x', 1000), now() FROM generate_series(1, %s) n"


@pytest.fixture
def sweeper(committed_db: None) -> Iterator[Sweeper]:
    sweeper = Sweeper(database_url_of_tests())
    with psycopg.connect(database_url_of_tests(), autocommit=True) as connection:
        connection.execute("VACUUM django_session")
    sweeper.sweep()
    yield sweeper
    sweeper.close()


@pytest.fixture
def other(committed_db: None) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url_of_tests()) as connection:
        yield connection


def fill_and_take_back(other: psycopg.Connection, rows: int) -> None:
    other.execute(FILL, [rows])
    other.rollback()


def size(other: psycopg.Connection) -> int:
    (found,) = other.execute("SELECT pg_relation_size('django_session')").fetchone() or (0,)
    other.rollback()
    return int(found)


def test_what_was_taken_back_is_swept_away(sweeper: Sweeper, other: psycopg.Connection) -> None:
    fill_and_take_back(other, 2000)
    before = size(other)
    assert before > 2_000_000
    assert "django_session" in sweeper.sweep()
    assert size(other) < before / 4
    assert "django_session" not in sweeper.sweep()


def test_little_is_left_where_it_is(sweeper: Sweeper, other: psycopg.Connection) -> None:
    fill_and_take_back(other, LEAST_BYTES // 2000)
    assert "django_session" not in sweeper.sweep()


def test_a_table_that_is_locked_waits_for_the_next_time(sweeper: Sweeper, other: psycopg.Connection) -> None:
    fill_and_take_back(other, 2000)
    other.execute("LOCK django_session")
    assert "django_session" not in sweeper.sweep()
    other.rollback()
    assert "django_session" in sweeper.sweep()


def test_whoever_ended_its_session_keeps_it_from_sweeping_once(sweeper: Sweeper, other: psycopg.Connection) -> None:
    fill_and_take_back(other, 2000)
    ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%%pg_relation_size(oid)%%' AND pid <> %s"
    other.execute(ends, [other.info.backend_pid])
    other.rollback()
    assert "django_session" not in sweeper.sweep()
    assert "django_session" in sweeper.sweep()
