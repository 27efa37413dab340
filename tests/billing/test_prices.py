"""Prices as rows: appended, never rewritten, found by sku and moment."""

import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from billing import price_list, prices
from billing.models import PriceVersion
from billing.price_list import BEGINNING, Timeline, encoded
from billing.pricing import Rates
from gateway_project.lib import redis
from orgs import epoch
from orgs.models import Organization

CHEAP = Rates(input=100, output=200)
DEAR = Rates(input=300, output=600)
NOW = datetime(2026, 11, 20, tzinfo=UTC)
DAY, MOMENT = timedelta(days=1), timedelta(microseconds=1)

moments = st.integers(-5, 5).map(lambda days: NOW + days * DAY)
some_rates = st.integers(0, 2).map(lambda number: Rates(input=number, output=number))
timelines = st.dictionaries(moments, some_rates, max_size=5).map(lambda found: sorted(found.items()))


def append(sku: str, rates: Rates, *, valid_from: datetime = BEGINNING, source: str = "test") -> PriceVersion:
    return PriceVersion.objects.create(sku=sku, valid_from=valid_from, source=source, rates=encoded(rates))


def seeded(sku: str, rates: Rates) -> PriceVersion:
    return append(sku, rates, source="genai-prices 0.0.1 r1")


def in_force(timeline: Timeline, moment: datetime) -> Rates | None:
    return next((rates for begins, rates in reversed(timeline) if begins <= moment), None)


@pytest.mark.django_db
def test_the_price_in_force_is_the_last_that_has_begun() -> None:
    append("t/m", CHEAP)
    later = append("t/m", DEAR, valid_from=NOW)
    before = prices.price_for(["t/m"], at=NOW - timedelta(microseconds=1))
    after = prices.price_for(["t/m"], at=NOW)
    assert before is not None
    assert after is not None
    assert (before.rates, before.valid_until) == (CHEAP, NOW)
    assert (after.rates, after.version_id, after.valid_until) == (DEAR, later.id, None)


@pytest.mark.django_db
def test_the_first_sku_with_a_price_wins() -> None:
    append("t/listed", CHEAP)
    skus = prices.skus_for(model="mine", kind="t", upstream_model="listed")
    found = prices.price_for(skus, at=NOW)
    assert found is not None
    assert found.sku == "t/listed"
    append("model:mine", DEAR)
    found = prices.price_for(skus, at=NOW)
    assert found is not None
    assert found.sku == "model:mine"


@pytest.mark.django_db
def test_a_sku_without_a_price_has_none() -> None:
    append("t/later", CHEAP, valid_from=NOW + DAY)
    assert prices.price_for(["t/unknown", "t/later"], at=NOW) is None


@pytest.mark.django_db
@pytest.mark.usefixtures("empty_catalogue")
def test_declaring_a_price_appends_only_what_is_new() -> None:
    def declare(rates: Rates | None) -> str:
        return prices.declare("model:mine", rates=rates, source="test")

    outcomes = [declare(None), declare(CHEAP), declare(CHEAP), declare(DEAR), declare(None), declare(None), declare(DEAR)]
    assert outcomes == ["unchanged", "created", "unchanged", "changed", "withdrawn", "unchanged", "created"]
    assert PriceVersion.objects.filter(sku="model:mine").count() == 4


@pytest.mark.django_db
def test_what_is_declared_last_counts_though_a_clock_ahead_has_declared_before() -> None:
    """Two hosts load catalogues, the first by a clock that is ahead: its price must not come back when its moment comes."""
    ahead = timezone.now() + timedelta(minutes=5)
    append("model:mine", CHEAP, valid_from=ahead)
    assert prices.declare("model:mine", rates=CHEAP, source="test") == "unchanged"
    assert prices.declare("model:mine", rates=DEAR, source="test") == "changed"
    for later in (timedelta(seconds=1), DAY):
        found = prices.price_for(["model:mine"], at=ahead + later)
        assert found is not None
        assert (found.rates, found.valid_until) == (DEAR, None)
    assert prices.declare("model:mine", rates=None, source="test") == "withdrawn"
    assert prices.price_for(["model:mine"], at=ahead + DAY) is None


@pytest.mark.django_db
def test_the_moment_at_which_versions_meet_belongs_to_one_of_them() -> None:
    """Versions never overlap, whatever order they are written in: each moment has the one that began last."""
    begins = [NOW + 2 * DAY, NOW, NOW + DAY]
    for number, moment in enumerate(begins):
        append("t/m", Rates(input=number, output=1), valid_from=moment)
    known = [prices.price_for(["t/m"], at=moment + by) for moment in sorted(begins) for by in (-MOMENT, timedelta(), MOMENT)]
    assert [price and price.rates.input for price in known] == [None, 1, 1, 1, 2, 2, 2, 0, 0]
    assert [price and price.valid_until for price in known] == [None, *[NOW + DAY] * 3, *[NOW + 2 * DAY] * 3, None, None]


@pytest.mark.django_db
def test_a_withdrawn_price_gives_way_to_the_list() -> None:
    append("t/m", CHEAP)
    prices.declare("model:mine", rates=DEAR, source="test")
    prices.declare("model:mine", rates=None, source="test")
    found = prices.price_for(["model:mine", "t/m"], at=timezone.now())
    assert found is not None
    assert found.sku == "t/m"


@pytest.mark.django_db
@pytest.mark.parametrize("statement", ["UPDATE billing_priceversion SET rates = '{}'", "DELETE FROM billing_priceversion"])
def test_the_database_refuses_to_rewrite_a_price(statement: str) -> None:
    append("t/m", CHEAP)
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.mark.django_db
@pytest.mark.usefixtures("empty_catalogue")
def test_the_first_synchronisation_seeds_every_listed_price() -> None:
    report = prices.sync()
    listed = price_list.read().timelines
    assert set(report.added) == set(listed)
    assert PriceVersion.objects.count() == sum(map(len, listed.values()))
    found = prices.price_for(["openai/o3"], at=datetime(2025, 5, 1, tzinfo=UTC))
    assert found is not None
    assert found.rates.input == 10_000_000_000


@pytest.mark.django_db
def test_a_second_synchronisation_changes_nothing_even_where_it_compares_all() -> None:
    prices.sync()
    rows = PriceVersion.objects.count()
    assert prices.sync().up_to_date
    compared = prices.sync(dry_run=True)
    assert (compared.up_to_date, compared.added, compared.changed) == (False, [], [])
    assert PriceVersion.objects.count() == rows


@pytest.mark.django_db
@pytest.mark.usefixtures("empty_catalogue")
def test_a_changed_list_price_begins_now_and_leaves_the_past() -> None:
    old = seeded("openai/gpt-5-mini", DEAR)
    report = prices.sync()
    assert [change[0] for change in report.changed] == ["openai/gpt-5-mini"]
    now = timezone.now()
    past = prices.price_for(["openai/gpt-5-mini"], at=now - DAY)
    present = prices.price_for(["openai/gpt-5-mini"], at=now)
    assert past is not None
    assert present is not None
    assert past.version_id == old.id
    assert present.rates.input == 250_000_000


@pytest.mark.django_db
@pytest.mark.usefixtures("empty_catalogue")
def test_a_dry_run_writes_nothing() -> None:
    assert prices.sync(dry_run=True).added
    assert not PriceVersion.objects.exists()


@pytest.mark.django_db
def test_dated_names_are_adopted_with_the_price_they_match() -> None:
    unpriced = prices.adopt(["openai/gpt-5-mini-2025-08-07", "openai/gpt-5-mini", "sandbox/echo"])
    assert unpriced == ["sandbox/echo"]
    found = prices.price_for(["openai/gpt-5-mini-2025-08-07"], at=timezone.now())
    assert found is not None
    assert found.rates.input == 250_000_000


@pytest.mark.django_db
@pytest.mark.usefixtures("empty_catalogue")
def test_an_adopted_name_follows_later_changes_of_the_list() -> None:
    seeded("openai/gpt-5-mini-2025-08-07", DEAR)
    assert "openai/gpt-5-mini-2025-08-07" in [change[0] for change in prices.sync().changed]


@pytest.mark.django_db
@pytest.mark.usefixtures("empty_catalogue")
def test_an_operators_price_is_left_alone() -> None:
    append("openai/gpt-5-mini", DEAR, source="operator")
    prices.sync()
    found = prices.price_for(["openai/gpt-5-mini"], at=timezone.now())
    assert found is not None
    assert found.rates == DEAR


@pytest.mark.django_db
@pytest.mark.usefixtures("empty_catalogue")
def test_new_prices_reach_running_workers(django_capture_on_commit_callbacks: object) -> None:
    organization = Organization.objects.create(name="Acme", slug="acme-prices")
    before = redis.client().get(epoch.keys(epoch.CATALOGUE)[0])
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
        prices.sync()
    assert redis.client().get(epoch.keys(epoch.CATALOGUE)[0]) != before
    assert redis.client().exists(epoch.keys(organization.id)[0])


@pytest.mark.django_db
@pytest.mark.usefixtures("empty_catalogue")
def test_the_command_shows_what_changed() -> None:
    seeded("openai/gpt-5-mini", Rates(input=300_000_000, output=2_000_000_000))
    out = io.StringIO()
    call_command("sync_prices", "--dry-run", stdout=out)
    assert "openai/gpt-5-mini from " in out.getvalue()
    assert "input $0.3 → $0.25" in out.getvalue()
    assert "would be appended" in out.getvalue()


@pytest.mark.django_db
@pytest.mark.usefixtures("empty_catalogue")
def test_the_command_reports_as_json() -> None:
    out = io.StringIO()
    call_command("sync_prices", "--json", stdout=out)
    assert len(json.loads(out.getvalue())["added"]) > 2_000
    out = io.StringIO()
    call_command("sync_prices", stdout=out)
    assert "nothing to do" in out.getvalue()


@given(existing=timelines, wanted=timelines)
def test_what_is_appended_makes_present_and_future_right_and_leaves_the_past(existing: Timeline, wanted: Timeline) -> None:
    appended = prices.missing_versions(existing, wanted=wanted, now=NOW)
    assert not {moment for moment, _ in appended} & {moment for moment, _ in existing}
    together = sorted([*existing, *appended])
    for day in range(6):
        moment = NOW + day * DAY + timedelta(hours=1)
        if (right := in_force(wanted, moment)) is not None:
            assert in_force(together, moment) == right
    if existing:
        assert all(moment >= NOW for moment, _ in appended)
        assert prices.missing_versions(together, wanted=wanted, now=NOW + timedelta(hours=1)) == []
