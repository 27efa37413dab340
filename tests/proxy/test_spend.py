"""Guardrails' question answered from billing's books: spent by subject, spent before a window, and what was funded."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing import buckets, credits
from gateway_project.lib import database
from gateway_project.lib.money import NANO
from guardrails.loading import Spend
from proxy import spend
from tests.billing import rows
from tests.coroutines import as_worker
from tests.house import House, build

pytestmark = pytest.mark.usefixtures("committed_db")
MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def ask(organization_id: int, starts_by_subject: dict[str, list[int]]) -> Spend:
    found: Spend = as_worker(spend.SOURCE.spend(organization_id=organization_id, starts_by_subject=starts_by_subject))
    return found


@pytest.mark.parametrize("closed", [False, True])
def test_each_subject_has_its_lifetime_and_what_it_spent_before_each_start(closed: bool) -> None:
    acme = rows.new_organization().pk
    today, yesterday, earlier = (milliseconds(MIDNIGHT - timedelta(days=days)) for days in (0, 1, 5))
    rows.insert(acme, charged=100, api_key_id=9_000_051, recorded_at=MIDNIGHT - timedelta(days=3))
    rows.insert(acme, charged=20, api_key_id=9_000_051, recorded_at=MIDNIGHT - timedelta(microseconds=1))
    rows.insert(acme, charged=3, api_key_id=9_000_051, recorded_at=MIDNIGHT)
    rows.insert(acme, charged=9_100_000 * NANO + 1, api_key_id=9_000_052, recorded_at=MIDNIGHT)
    if closed:
        rows.close_everything()

    found = ask(acme, {"k9000051": [earlier, yesterday, today], "org": [today], "k9000053": [today], "pool": []})

    assert found.spent == {"k9000051": 123, "org": 9_100_000 * NANO + 124, "k9000053": 0, "pool": 9_100_000 * NANO + 124}
    assert found.before == {
        ("k9000051", earlier): 0,
        ("k9000051", yesterday): 100,
        ("k9000051", today): 120,
        ("org", today): 120,
        ("k9000053", today): 0,
    }


def test_list_cost_that_nobody_was_charged_does_not_count() -> None:
    acme = rows.new_organization().pk
    rows.insert(acme, charged=0, list=500)
    assert ask(acme, {"org": []}).spent == {"org": 0}


def test_another_organisations_rows_do_not_count() -> None:
    acme, other = rows.new_organization().pk, rows.new_organization().pk
    rows.insert(other, charged=500, api_key_id=9_000_061)
    assert ask(acme, {"org": [], "k9000061": []}).spent == {"org": 0, "k9000061": 0}


def test_the_snapshot_tells_which_transactions_are_in_the_figures() -> None:
    acme = rows.new_organization().pk
    with rows.other_connection() as running:
        rows.insert(acme, into=running, charged=70)
        transaction_id = running.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()[0]  # type: ignore[index]
        during = ask(acme, {"org": []})
    after = ask(acme, {"org": []})

    assert (during.spent, after.spent) == ({"org": 0}, {"org": 70})
    assert [seen(transaction_id, found.snapshot) for found in (during, after)] == [False, True]


def seen(transaction_id: int, snapshot: str) -> bool:
    query = "SELECT pg_visible_in_snapshot(%s::text::xid8, %s::pg_snapshot) AS seen"
    work: Coroutine[Any, Any, list[dict[str, Any]]] = database.rows(query, (str(transaction_id), snapshot))
    return bool(as_worker(work)[0]["seen"])


def test_a_start_that_no_bucket_begins_at_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="quarter of an hour"):
        ask(1, {"org": [milliseconds(MIDNIGHT) + 60_000]})


def test_nobody_asked_for_is_nobody_found() -> None:
    assert ask(1, {}).spent == {}


@pytest.fixture
def rich() -> House:
    return build(credit_usd=100)


def funded(house: House) -> int:
    return int(as_worker(spend.funded(house.organization.pk)))


def test_funded_is_all_credit_ever_given_whatever_was_used(rich: House) -> None:
    acme, alice = rich.organization, rich.world.alice
    assert funded(rich) == credits.funded(acme) == 100 * NANO
    credits.top_up(acme, amount_nano_usd=9_100_000 * NANO + 1, reference="more", by=alice)
    credits.refund(acme, amount_nano_usd=30 * NANO, reference="back", by=alice)
    assert funded(rich) == credits.funded(acme)

    rows.insert(acme.pk, charged=5 * NANO)
    buckets.close_spend_buckets()
    before = funded(rich)
    credits.book_usage()
    assert funded(rich) == before == credits.funded(acme)


def test_an_organisation_without_credit_has_none() -> None:
    assert as_worker(spend.funded(rows.new_organization().pk)) == 0
