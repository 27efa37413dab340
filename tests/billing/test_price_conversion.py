"""List prices become ours never below what the package says; and how changes of prices are told."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from genai_prices.types import ModelPrice, Tier, TieredPrices
from hypothesis import given
from hypothesis import strategies as st

from billing import prices
from billing.management.commands.sync_prices import difference, lines_of
from billing.models import PriceVersion
from billing.price_list import Unlisted, encoded, rates_of
from billing.prices import SyncReport
from billing.pricing import Rates
from gateway_project.lib.money import NANO

KINDS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
}
AMOUNTS = st.integers(0, 10**12).map(lambda nano: Decimal(nano) / NANO) | st.decimals(0, 100, places=12)


@given(st.dictionaries(st.sampled_from(sorted(KINDS)), AMOUNTS, max_size=7))
def test_no_kind_is_ever_priced_below_the_list(given_prices: dict[str, Decimal]) -> None:
    try:
        rates = rates_of(ModelPrice(**given_prices))
    except Unlisted:
        return
    for name, usd in given_prices.items():
        assert rates.of(KINDS[name]) >= usd * NANO, name


def test_an_inexact_one_hour_write_is_not_priced_like_a_cheaper_five_minute_one() -> None:
    odd = Decimal("0.8333333333333")
    with pytest.raises(Unlisted, match="cache_write_1h"):
        rates_of(
            ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(4), cache_write_mtok=Decimal("0.5"), cache_write_1h_mtok=odd)
        )


@given(st.integers(1, 10**6), st.integers(0, 10**10), st.integers(0, 10**10), st.integers(0, 10**10))
def test_a_tier_holds_every_kind_from_its_threshold_on(above: int, base: int, upper: int, output: int) -> None:
    tiered = TieredPrices(base=Decimal(base) / NANO, tiers=[Tier(start=above, price=Decimal(upper) / NANO)])
    rates = rates_of(ModelPrice(input_mtok=tiered, output_mtok=Decimal(output) / NANO))
    assert (rates.for_input(above).input, rates.for_input(above + 1).input) == (base, upper)
    assert rates.for_input(above + 1).output == rates.output == output


# --- what the command tells --------------------------------------------------------------------
@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ({"input": 10**9}, {"input": 2 * 10**9}, "input $1 → $2"),
        ({"input": 10**9, "output": 5}, {"input": 10**9, "output": 6}, "output $0.000000005 → $0.000000006"),
        ({}, {"input": 1}, "input none → $0.000000001"),
        ({"input": 1, "cache_read": 2}, {"input": 1}, "cache_read $0.000000002 → none"),
        ({"input": 1}, {"input": 1, "tiers": [{"above": 5}]}, "tiers none → 1 entries"),
        ({"input": 1}, {"input": 1}, ""),
    ],
)
def test_a_change_names_each_kind_that_differs(old: dict[str, Any], new: dict[str, Any], told: str) -> None:
    assert difference(old, new) == told


def test_a_report_is_told_in_lines() -> None:
    moment = datetime(2026, 11, 20, 12, 5, tzinfo=UTC)
    report = SyncReport(
        "genai-prices 1", added=["a", "b"], changed=[("c/d", moment, {"input": 1}, {"input": 2})], unlisted={"e": "x"}
    )
    assert lines_of(report, dry_run=True) == [
        "c/d from 2026-11-20 12:05: input $0.000000001 → $0.000000002",
        "genai-prices 1: 2 new skus, 1 changed versions would be appended.",
        "1 models have no listing (not per token, or not exact).",
    ]
    assert lines_of(report, dry_run=False)[1].endswith("changed versions appended.")
    assert lines_of(SyncReport("genai-prices 1", up_to_date=True), dry_run=False) == [
        "Prices are those of genai-prices 1: nothing to do."
    ]


def test_an_argument_that_is_none_is_refused() -> None:
    with pytest.raises(CommandError, match="--wet-run"):
        call_command("sync_prices", "--wet-run")


@pytest.mark.django_db
def test_a_dry_run_as_json_tells_and_stores_nothing() -> None:
    before = PriceVersion.objects.count()
    out = io.StringIO()
    call_command("sync_prices", "--dry-run", "--json", stdout=out)
    report = json.loads(out.getvalue())
    assert set(report) == {"source", "up_to_date", "added", "changed", "unlisted"}
    assert all(reason for reason in report["unlisted"].values())
    assert PriceVersion.objects.count() == before


# --- declared prices ---------------------------------------------------------------------------
@pytest.mark.django_db
@pytest.mark.usefixtures("empty_catalogue")
def test_a_price_withdrawn_and_declared_again_is_created_anew() -> None:
    rates = Rates(input=1, output=2)
    outcomes = [prices.declare("model:x", rates=wanted, source="t") for wanted in (None, rates, rates, None, None, rates)]
    assert outcomes == ["unchanged", "created", "unchanged", "withdrawn", "unchanged", "created"]
    assert PriceVersion.objects.filter(sku="model:x").count() == 3


@pytest.mark.django_db
@pytest.mark.usefixtures("empty_catalogue")
def test_a_version_announced_for_later_does_not_hide_the_one_in_force() -> None:
    later = datetime(2099, 1, 1, tzinfo=UTC)
    PriceVersion.objects.create(sku="model:y", valid_from=later, source="t", rates=encoded(Rates(input=9, output=9)))
    assert prices.declare("model:y", rates=Rates(input=1, output=1), source="t") == "created"
    now = datetime.now(UTC)
    found = prices.price_for(["model:y"], at=now)
    assert found is not None
    assert (found.rates.input, found.valid_until) == (1, later)


@pytest.mark.parametrize("rates", [{}, "{}"])
def test_a_withdrawn_price_is_none_whichever_way_it_was_read(rates: Any) -> None:
    assert prices.price_from_row({"id": 1, "sku": "x", "rates": rates, "valid_until": None}) is None


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.none() | st.integers(0, 10**12))
def test_a_row_means_the_same_decoded_or_as_text(input_: int, output: int, cached: int | None) -> None:
    rates = Rates(input=input_, output=output, cache_read=cached)
    row = {"id": 1, "sku": "x", "valid_until": None}
    decoded, text = encoded(rates), json.dumps(encoded(rates))
    one, other = (prices.price_from_row({**row, "rates": given_rates}) for given_rates in (decoded, text))
    assert one == other
    assert one is not None
    assert one.rates == rates
