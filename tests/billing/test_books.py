"""Ledger, buckets and books agree, in whatever order calls end, buckets close and credit moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import Sum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import buckets, credits, partitions, tasks
from billing.buckets import Spend, sums_from_rows
from billing.models import CreditEntry, CreditTransaction
from orgs.models import Organization
from tests.billing import rows
from tests.examples import some

DOLLAR = 10**9
QUARTER = timedelta(minutes=15)
BASE = datetime(2026, 11, 20, 12, tzinfo=UTC)

STEPS = st.lists(
    st.tuples(st.sampled_from(["top_up", "adjust", "refund", "call", "call", "close", "book"]), st.integers(1, 10**13)),
    min_size=1,
    max_size=12,
)


def take(organization: Organization, number: int, what: str, amount: int) -> None:
    match what:
        case "top_up":
            credits.top_up(organization, amount_nano_usd=amount, reference=f"top up {number}")
        case "adjust":
            signed = amount if amount % 2 else -amount
            credits.adjust(organization, amount_nano_usd=signed, reference=f"adjust {number}", note="x")
        case "refund":
            if (left := min(amount, credits.available(organization))) > 0:
                credits.refund(organization, amount_nano_usd=left, reference=f"refund {number}")
        case "call":
            rows.insert(organization.pk, charged=amount)
        case "close":
            tasks.close_spend_buckets()
        case "book":
            tasks.book_usage()


@settings(max_examples=some(12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_what_is_left_is_what_came_in_less_what_was_used(committed_db: None, steps: list[tuple[str, int]]) -> None:
    organization = rows.new_organization()
    for number, (what, amount) in enumerate(steps):
        before = credits.available(organization)
        funded = credits.funded(organization)
        take(organization, number, what, amount)
        if what in ("close", "book"):  # bookkeeping changes no decision
            assert (credits.available(organization), credits.funded(organization)) == (before, funded)
    spent = sum(amount for what, amount in steps if what == "call")
    assert credits.available(organization) == credits.funded(organization) - spent

    rows.close_everything()
    tasks.book_usage()
    tasks.book_usage()

    assert credits.balance(organization) == credits.available(organization)
    entries = CreditEntry.objects.filter(organization=organization)
    assert (entries.aggregate(total=Sum("amount_nano_usd"))["total"] or 0) == 0
    usage = entries.filter(account="usage").aggregate(total=Sum("amount_nano_usd"))["total"] or 0
    assert usage == spent
    movements = CreditTransaction.objects.filter(organization=organization).annotate(total=Sum("entries__amount_nano_usd"))
    assert {movement.total for movement in movements} <= {0}


def test_a_refund_of_all_that_is_left_leaves_nothing_and_another_nano_dollar_is_refused(db: None) -> None:
    organization = rows.new_organization()
    credits.top_up(organization, amount_nano_usd=5 * DOLLAR, reference="in")
    rows.insert(organization.pk, charged=2 * DOLLAR - 1)
    with pytest.raises(credits.NotEnoughCredit):
        credits.refund(organization, amount_nano_usd=3 * DOLLAR + 2, reference="out")
    credits.refund(organization, amount_nano_usd=3 * DOLLAR + 1, reference="out")
    assert credits.available(organization) == 0
    with pytest.raises(credits.NotEnoughCredit):
        credits.refund(organization, amount_nano_usd=1, reference="more")


def test_a_refund_told_twice_is_paid_once_even_when_nothing_is_left(db: None) -> None:
    organization = rows.new_organization()
    credits.top_up(organization, amount_nano_usd=DOLLAR, reference="in")
    first = credits.refund(organization, amount_nano_usd=DOLLAR, reference="out")
    assert credits.refund(organization, amount_nano_usd=DOLLAR, reference="out") == first
    assert credits.funded(organization) == 0


def test_a_correction_may_take_the_pool_below_zero_and_says_so(db: None) -> None:
    organization = rows.new_organization()
    credits.adjust(organization, amount_nano_usd=-DOLLAR, reference="fine", note="chargeback")
    assert (credits.balance(organization), credits.available(organization)) == (-DOLLAR, -DOLLAR)


@pytest.mark.parametrize("move", ["top_up", "refund", "adjust"])
def test_a_reference_belongs_to_one_kind_of_movement(db: None, move: str) -> None:
    organization = rows.new_organization()
    credits.top_up(organization, amount_nano_usd=9 * DOLLAR, reference="start")
    take_one: dict[str, Any] = {"amount_nano_usd": DOLLAR, "reference": "r"}
    notes = {"note": "x"} if move == "adjust" else {}
    getattr(credits, move)(organization, **take_one, **notes)
    for other in {"top_up", "refund", "adjust"} - {move}:
        with pytest.raises(credits.ReferenceTaken):
            getattr(credits, other)(organization, **take_one, **({"note": "x"} if other == "adjust" else {}))


# --- sums before and after moments, made of segments --------------------------------------------
CHARGES = st.lists(st.tuples(st.sampled_from(["org", "k1", "pool"]), st.integers(-8, 8), st.integers(0, 10**15)), max_size=25)


@given(charges=CHARGES, starts=st.sets(st.integers(-6, 6), max_size=4))
def test_sums_before_each_start_are_those_of_the_rows_before_it(charges: list[tuple[str, int, int]], starts: set[int]) -> None:
    """`width_bucket` counts the starts at or before a row; what the statement groups by that is added up again here."""
    ascending = [BASE + QUARTER * start for start in sorted(starts)]
    grouped: dict[tuple[str, int], int] = {}
    for subject, at, amount in charges:
        segment = sum(start <= BASE + QUARTER * at for start in ascending)
        grouped[subject, segment] = grouped.get((subject, segment), 0) + amount
    answer = [
        {"subject": subject, "segment": segment, "charged": amount, "list": 2 * amount, "own": 3 * amount, "snapshot": "1:1:"}
        for (subject, segment), amount in grouped.items()
    ]
    silent = [{"subject": "a9", "segment": None, "charged": None, "list": None, "own": None, "snapshot": "1:1:"}]

    sums = sums_from_rows([*answer, *silent], starts=reversed(ascending))

    for subject in {subject for subject, _, _ in charges}:
        assert sums.lifetime[subject].charged == sum(amount for name, _, amount in charges if name == subject)
        for start in ascending:
            before = sum(amount for name, at, amount in charges if name == subject and BASE + QUARTER * at < start)
            assert sums.before[subject, start] == Spend(before, 2 * before, 3 * before)
    assert sums.lifetime["a9"] == Spend()
    assert all(sums.before["a9", start] == Spend() for start in ascending)


def test_no_rows_are_no_sums() -> None:
    assert sums_from_rows([], starts=[]) == buckets.SpendSums("", {}, {})


@pytest.mark.parametrize("minute", [0, 15, 30, 45])
def test_a_start_may_lie_on_any_quarter_so_days_of_every_zone_can_begin_there(minute: int) -> None:
    start = BASE.replace(minute=minute)
    found = buckets.spend_parameters(1, subjects=["b", "a", "a"], starts=[start, start])
    assert (found["subjects"], found["starts"]) == (["a", "b"], [start])
    with pytest.raises(ValueError, match="quarter"):
        buckets.spend_parameters(1, subjects=[], starts=[start + timedelta(seconds=1)])


# --- partitions --------------------------------------------------------------------------------
def months() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'billing_usagerecord'::regclass")
        return {name for (name,) in cursor.fetchall()}


@pytest.mark.parametrize(
    ("around", "made"),
    [
        (datetime(2031, 12, 31, 23, 59, tzinfo=UTC), ("2031_11", "2031_12", "2032_01", "2032_02")),
        (datetime(2032, 1, 31, 12, tzinfo=UTC), ("2031_12", "2032_01", "2032_02", "2032_03")),
        (datetime(2033, 3, 1, 0, 30, tzinfo=UTC), ("2033_02", "2033_03", "2033_04", "2033_05")),
    ],
)
def test_partitions_are_made_across_the_year_and_at_the_end_of_long_months(
    db: None, around: datetime, made: tuple[str, ...]
) -> None:
    before = months()
    partitions.ensure_partitions(around=around)
    new = sorted(months() - before)
    assert [name[-7:].replace("p", "_") for name in new] == list(made)
    partitions.ensure_partitions(around=around)
    assert sorted(months() - before) == new


def test_a_row_of_each_month_made_finds_its_partition(db: None) -> None:
    around = datetime(2034, 6, 15, tzinfo=UTC)
    partitions.ensure_partitions(around=around)
    organization = rows.new_organization()
    for days in (-40, 0, 30, 60):
        rows.insert(organization.pk, recorded_at=around + timedelta(days=days), charged=1)
    assert buckets.spend_sums(organization.pk, subjects=["org"]).lifetime["org"].charged == 4
