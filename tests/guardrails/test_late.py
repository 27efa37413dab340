"""Rows without a call behind them reach the counters exactly once, whatever else happens to the counters."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from billing import buckets
from gateway_project.lib import redis
from guardrails import counters, late
from guardrails.late import LateRows
from guardrails.loading import BEGIN_LOAD, LOAD, Spend
from orgs.models import Organization
from tests.billing.rows import insert, new_organization
from tests.examples import some
from tests.guardrails.books import announced

LAST_MONTHS = timedelta(days=40)
MEMBER = 9_000_002
SUBJECTS = ("org", f"m{MEMBER}", "pool")


def read(organization_id: int, *, subjects: Collection[str], starts: Sequence[int]) -> Spend:
    moments = {datetime.fromtimestamp(start / 1000, tz=UTC): start for start in starts}
    sums = buckets.spend_sums(organization_id, subjects=subjects, starts=moments)
    return Spend(
        snapshot=sums.snapshot,
        spent={subject: spend.charged for subject, spend in sums.lifetime.items()},
        before={(subject, moments[start]): spend.charged for (subject, start), spend in sums.before.items()},
    )


class Reading(NamedTuple):
    """What the ledger said, and by which moment the load goes."""

    began: list[bytes]
    spend: Spend


class Books:
    """An organisation, its ledger and its counters."""

    def __init__(self) -> None:
        self.organization: Organization = new_organization()
        self.late: list[LateRows] = []

    def write(self, charged: int, *, days_ago: int = 0) -> None:
        """One committed row, as an import writes it: nobody held anything for it."""
        recorded_at = datetime.now(UTC) - timedelta(days=days_ago)
        call_id = insert(self.organization.pk, charged=charged, member_id=MEMBER, recorded_at=recorded_at)
        with connection.cursor() as cursor:
            cursor.execute("SELECT transaction_id FROM billing_usagerecord WHERE call_id = %s", [call_id])
            (transaction_id,) = cursor.fetchone()
        recorded_ms = int(recorded_at.timestamp() * 1000)
        self.late += [LateRows(subject, transaction_id, recorded_ms, charged) for subject in SUBJECTS]

    def tell(self) -> int:
        return late.count(self.organization, rows=self.late, read=read)

    def spend(self) -> Spend:
        return read(self.organization.pk, subjects=SUBJECTS, starts=self.starts)

    @property
    def starts(self) -> list[int]:
        return late.window_starts(self.organization)

    def read(self) -> Reading:
        """The first half of a load, as an admission that finds the counters missing makes it."""
        begin = redis.client().register_script(BEGIN_LOAD.source)
        return Reading(begin(keys=list(map(self.key, SUBJECTS))), self.spend())

    def load(self, reading: Reading | None = None) -> None:
        """The second half; `reading` may be a while old."""
        began, spend = reading or self.read()
        script = redis.client().register_script(LOAD.source)
        for subject, moment in zip(SUBJECTS, began, strict=True):
            before = [word for start in self.starts for word in spend.baseline(subject, start)]
            script(keys=[self.key(subject)], args=[moment, *spend.totals(subject), *before])

    def forget(self) -> None:
        """Redis lost everything."""
        redis.client().delete(*map(self.key, SUBJECTS))

    def key(self, subject: str) -> str:
        return counters.counter(self.organization.pk, announced(self.organization.pk), subject)

    def figures(self, subject: str = "org") -> dict[str, int]:
        """Spent in all, and before each running window."""
        found: dict[Any, Any] = redis.client().hgetall(self.key(subject))
        return {field.decode(): int(value) for field, value in found.items() if field == b"spent" or field.startswith(b"b:")}

    def expected(self, subject: str = "org") -> dict[str, int]:
        spend = self.spend()
        return {"spent": spend.spent[subject], **{f"b:{start}": spend.before[subject, start] for start in self.starts}}

    def agree(self) -> bool:
        return all(self.figures(subject) == self.expected(subject) for subject in SUBJECTS)


@pytest.fixture
def books(committed_db: None) -> Books:
    return Books()


def test_a_counter_loaded_before_the_rows_gets_them_added(books: Books) -> None:
    books.write(5)
    books.load()
    books.late.clear()
    books.write(7)
    assert books.figures()["spent"] == 5
    assert books.tell() == len(SUBJECTS)
    assert books.figures()["spent"] == 12
    assert books.agree()


def test_a_counter_loaded_after_the_rows_has_them(books: Books) -> None:
    books.write(7)
    books.load()
    assert books.tell() == 0
    assert books.agree()


def test_a_missing_counter_is_loaded(books: Books) -> None:
    books.write(7)
    announced(books.organization.pk)
    assert books.tell() == 0
    assert books.figures()["spent"] == 7
    assert books.agree()


def test_telling_twice_adds_once(books: Books) -> None:
    books.load()
    books.write(7)
    assert books.tell() == len(SUBJECTS)
    assert books.tell() == 0
    assert books.agree()


def test_old_rows_do_not_count_in_the_running_windows(books: Books) -> None:
    books.load()
    books.write(7, days_ago=LAST_MONTHS.days)
    old = books.late[-1].recorded_ms
    books.write(2)
    books.tell()
    figures = books.figures()
    assert figures["spent"] == 9
    assert [figures[f"b:{start}"] for start in books.starts] == [7 if old < start else 0 for start in books.starts]
    assert books.agree()


def test_a_load_that_began_before_the_rows_comes_too_late(books: Books) -> None:
    """The race that deleting the counter would lose: read before the commit, written after the counter was told."""
    stale = books.read()
    books.write(7, days_ago=LAST_MONTHS.days)
    books.tell()
    books.load(stale)
    assert books.agree()


def test_what_is_held_stays_held(books: Books) -> None:
    books.load()
    redis.client().hincrby(books.key("org"), "held", 1_000)
    books.write(7)
    books.tell()
    assert redis.client().hget(books.key("org"), "held") == b"1000"


def test_one_transaction_in_several_windows_is_one(books: Books) -> None:
    """Each sum of a transaction counts, in one telling; a second telling finds the transaction known."""
    books.load()
    books.write(7)
    first = books.late[0]
    old = int((datetime.now(UTC) - LAST_MONTHS).timestamp() * 1000)
    sums = [first, first._replace(recorded_ms=old, charged=2)]
    assert late.count(books.organization, rows=sums, read=read) == 2
    assert late.count(books.organization, rows=sums, read=read) == 0
    figures = books.figures()
    assert figures["spent"] == 9
    assert [figures[f"b:{start}"] for start in books.starts] == [2 if old < start else 0 for start in books.starts]


def test_nothing_to_tell_touches_nothing(books: Books) -> None:
    assert books.tell() == 0
    assert redis.client().exists(*map(books.key, SUBJECTS)) == 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 2**53), st.sampled_from([0, 1, 40])),
        st.sampled_from([("tell",), ("load",), ("read",), ("late load",), ("forget",)]),
    ),
    max_size=12,
)


@pytest.mark.usefixtures("committed_db")
@settings(max_examples=some(20), deadline=None)
@given(steps=STEPS)
def test_after_telling_counters_are_the_ledger_whatever_came_before(steps: list[tuple[str, ...]]) -> None:
    books, stale = Books(), None
    for step, *arguments in steps:
        match step:
            case "write":
                books.write(int(arguments[0]), days_ago=int(arguments[1]))
            case "tell":
                books.tell()
            case "load":
                books.load()
            case "read":
                stale = books.read()
            case "late load" if stale is not None:
                books.load(stale)
            case "forget":
                books.forget()
    books.load()
    books.tell()
    assert books.agree(), steps
