"""Prepaid credit in double entry."""

import threading
from typing import Any

import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.db.models import Sum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import buckets, credits, tasks
from billing.models import CreditEntry, CreditTransaction
from gateway_project.lib import redis
from orgs import epoch
from orgs.models import Organization, User
from tests.billing import rows
from tests.examples import some

DOLLAR = 1_000_000_000


@pytest.fixture
def acme(db: None) -> Organization:
    return rows.new_organization()


def entries(organization: Organization) -> list[tuple[str, int]]:
    return list(CreditEntry.objects.filter(organization=organization).order_by("id").values_list("account", "amount_nano_usd"))


def assert_every_movement_sums_to_zero(organization: Organization) -> None:
    sums = CreditTransaction.objects.filter(organization=organization).annotate(total=Sum("entries__amount_nano_usd"))
    assert {movement.total for movement in sums} <= {0}


def test_a_top_up_moves_money_from_funding_into_the_pool(acme: Organization) -> None:
    alice = User.objects.create_user("alice@acme.example")
    movement = credits.top_up(acme, amount_nano_usd=50 * DOLLAR, by=alice, reference="invoice 1", note="first")
    assert entries(acme) == [("pool", 50 * DOLLAR), ("funding", -50 * DOLLAR)]
    assert (movement.kind, movement.created_by, movement.note) == ("top_up", alice, "first")
    assert (credits.balance(acme), credits.funded(acme), credits.available(acme)) == (50 * DOLLAR,) * 3


def test_the_same_reference_twice_is_one_movement(acme: Organization) -> None:
    first = credits.top_up(acme, amount_nano_usd=DOLLAR, reference="payment 7")
    assert credits.top_up(acme, amount_nano_usd=DOLLAR, reference="payment 7") == first
    assert credits.balance(acme) == DOLLAR


def test_a_reference_is_the_organisations_own(acme: Organization) -> None:
    other = rows.new_organization()
    credits.top_up(acme, amount_nano_usd=DOLLAR, reference="payment 7")
    credits.top_up(other, amount_nano_usd=2 * DOLLAR, reference="payment 7")
    assert (credits.balance(acme), credits.balance(other)) == (DOLLAR, 2 * DOLLAR)


def test_a_reference_cannot_stand_for_two_different_movements(acme: Organization) -> None:
    credits.top_up(acme, amount_nano_usd=DOLLAR, reference="payment 7")
    with pytest.raises(credits.ReferenceTaken, match="payment 7"):
        credits.top_up(acme, amount_nano_usd=2 * DOLLAR, reference="payment 7")
    with pytest.raises(credits.ReferenceTaken):
        credits.adjust(acme, amount_nano_usd=DOLLAR, reference="payment 7", note="again")


@pytest.mark.parametrize("amount", [0, -1])
def test_a_movement_needs_an_amount(acme: Organization, amount: int) -> None:
    for move in (credits.top_up, credits.refund):
        with pytest.raises(credits.NotPositive):
            move(acme, amount_nano_usd=amount, reference="payment 7")


def test_a_refund_takes_unspent_credit_back_out(acme: Organization) -> None:
    credits.top_up(acme, amount_nano_usd=10 * DOLLAR, reference="in")
    rows.insert(acme.id, charged=4 * DOLLAR)
    with pytest.raises(credits.NotEnoughCredit):
        credits.refund(acme, amount_nano_usd=6 * DOLLAR + 1, reference="out")
    credits.refund(acme, amount_nano_usd=6 * DOLLAR, reference="out")
    assert (credits.funded(acme), credits.available(acme)) == (4 * DOLLAR, 0)


def test_an_adjustment_goes_both_ways(acme: Organization) -> None:
    credits.adjust(acme, amount_nano_usd=3 * DOLLAR, reference="goodwill", note="outage")
    credits.adjust(acme, amount_nano_usd=-DOLLAR, reference="correction", note="too much")
    assert credits.funded(acme) == 2 * DOLLAR
    assert_every_movement_sums_to_zero(acme)


def test_funding_changes_reach_every_worker(acme: Organization, django_capture_on_commit_callbacks: Any) -> None:
    epoch_key, dirty_key = epoch.keys(acme.id)
    redis.client().delete(epoch_key, dirty_key)
    with django_capture_on_commit_callbacks() as callbacks:
        credits.top_up(acme, amount_nano_usd=DOLLAR, reference="payment 7")
    assert redis.client().hlen(dirty_key) == 1
    for callback in callbacks:
        callback()
    assert redis.client().hlen(dirty_key) == 0
    assert redis.client().exists(epoch_key)


@pytest.mark.parametrize("statement", ["UPDATE billing_creditentry SET amount_nano_usd = 0", "DELETE FROM billing_creditentry"])
def test_the_database_refuses_to_rewrite_the_books(acme: Organization, statement: str) -> None:
    credits.top_up(acme, amount_nano_usd=DOLLAR, reference="payment 7")
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


def test_usage_is_booked_once_and_leaves_the_limit_alone(committed_db: None) -> None:
    acme = rows.new_organization()
    credits.top_up(acme, amount_nano_usd=10 * DOLLAR, reference="in")
    rows.insert(acme.id, charged=3 * DOLLAR)
    rows.insert(acme.id, charged=0, list=2 * DOLLAR)
    rows.close_everything()
    tasks.book_usage()
    tasks.book_usage()
    assert entries(acme)[2:] == [("pool", -3 * DOLLAR), ("usage", 3 * DOLLAR)]
    assert (credits.balance(acme), credits.funded(acme), credits.available(acme)) == (7 * DOLLAR, 10 * DOLLAR, 7 * DOLLAR)


def test_only_what_was_added_since_is_booked(committed_db: None) -> None:
    acme = rows.new_organization()
    for amount in (5, 7, -2):
        rows.insert(acme.id, charged=amount, status="adjustment" if amount < 0 else "ok")
        rows.close_everything()
        credits.book_usage()
    assert [amount for account, amount in entries(acme) if account == "usage"] == [5, 7, -2]
    assert_every_movement_sums_to_zero(acme)


def test_rows_above_the_watermark_are_not_booked_yet(committed_db: None) -> None:
    acme = rows.new_organization()
    with rows.other_connection() as slow:
        rows.insert(acme.id, into=slow, charged=5)
        rows.insert(acme.id, charged=7)
        buckets.close_spend_buckets()
        credits.book_usage()
        assert entries(acme) == []
        slow.commit()
    rows.close_everything()
    credits.book_usage()
    assert credits.balance(acme) == -12


def test_bookings_at_the_same_time_book_once(committed_db: None) -> None:
    acme = rows.new_organization()
    rows.insert(acme.id, charged=5)
    rows.close_everything()

    def book() -> None:
        credits.book_usage()
        connections.close_all()

    threads = [threading.Thread(target=book) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert entries(acme) == [("pool", -5), ("usage", 5)]


def test_refunds_at_the_same_time_never_take_more_than_there_is(committed_db: None) -> None:
    acme = rows.new_organization()
    credits.top_up(acme, amount_nano_usd=10, reference="in")
    refused: list[str] = []

    def refund(reference: str) -> None:
        try:
            credits.refund(acme, amount_nano_usd=6, reference=reference)
        except credits.NotEnoughCredit:
            refused.append(reference)
        connections.close_all()

    threads = [threading.Thread(target=refund, args=(f"out {number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(refused), credits.funded(acme)) == (2, 4)


@settings(max_examples=some(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.tuples(st.sampled_from(["top_up", "adjust"]), st.integers(1, 10**15)), min_size=1, max_size=6))
def test_the_pool_is_the_sum_of_its_movements(acme: Organization, moves: list[tuple[str, int]]) -> None:
    before = credits.funded(acme)
    count = CreditTransaction.objects.filter(organization=acme).count()
    for number, (kind, amount) in enumerate(moves):
        if kind == "top_up":
            credits.top_up(acme, amount_nano_usd=amount, reference=f"{count} {number}")
        else:
            credits.adjust(acme, amount_nano_usd=-amount, reference=f"{count} {number}", note="less")
    assert credits.funded(acme) - before == sum(amount if kind == "top_up" else -amount for kind, amount in moves)
    assert_every_movement_sums_to_zero(acme)
