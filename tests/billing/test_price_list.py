"""The package's prices as ours: exact or not at all."""

from datetime import UTC, date, datetime, time
from decimal import Decimal

import genai_prices
import pytest
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from billing import price_list
from billing.price_list import BEGINNING, Unlisted, rates_of, timeline_of
from billing.pricing import Price, Rates, bill
from proxy.canonical.usage import Usage
from tests.examples import some


def model(prices: ModelPrice | list[ConditionalPrice]) -> ModelInfo:
    return ModelInfo(id="m", match=ClauseEquals("m"), prices=prices)


def flat(input_usd: str, output_usd: str) -> ModelPrice:
    return ModelPrice(input_mtok=Decimal(input_usd), output_mtok=Decimal(output_usd))


def test_dollars_per_million_become_nano_dollars_per_million() -> None:
    assert rates_of(flat("0.25", "2")) == Rates(input=250_000_000, output=2_000_000_000)


def test_a_figure_finer_than_a_nano_dollar_is_refused_with_its_kind() -> None:
    with pytest.raises(Unlisted, match=r"output: .*0\.27999999999999997.* more than nine decimals"):
        rates_of(flat("0.1", "0.27999999999999997"))


def test_an_inexact_write_price_is_left_out_where_it_falls_back_to_a_dearer_one() -> None:
    price = ModelPrice(input_mtok=Decimal("0.3"), output_mtok=Decimal(1), cache_write_mtok=Decimal("0.0833333333333333"))
    assert rates_of(price).cache_write_5m is None
    assert rates_of(price).of("cache_write_5m") == 300_000_000


def test_an_inexact_write_price_dearer_than_input_is_refused() -> None:
    price = ModelPrice(input_mtok=Decimal("0.3"), output_mtok=Decimal(1), cache_write_mtok=Decimal("0.3333333333333333"))
    with pytest.raises(Unlisted, match="cache_write_5m"):
        rates_of(price)


@pytest.mark.parametrize("price", [ModelPrice(), ModelPrice(audio_hours=Decimal(1)), ModelPrice(input_mchars=Decimal(15))])
def test_what_is_not_priced_per_token_is_not_listed_as_free(price: ModelPrice) -> None:
    with pytest.raises(Unlisted, match="no price per input token"):
        rates_of(price)


def test_a_model_without_an_output_price_has_its_output_priced_like_input() -> None:
    assert rates_of(ModelPrice(input_mtok=Decimal("0.02"))).output == 20_000_000


def test_fees_per_thousand_become_fees_each() -> None:
    rates = rates_of(
        ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(1), requests_kcount=Decimal(12), web_searches_kcount=Decimal(10))
    )
    assert (rates.request, rates.units) == (12_000_000, {"web_search": 10_000_000})


def test_kinds_with_and_without_tiers_meet_in_one_tier() -> None:
    tiered = TieredPrices(base=Decimal(3), tiers=[Tier(start=200_000, price=Decimal(6))])
    rates = rates_of(ModelPrice(input_mtok=tiered, output_mtok=Decimal(15)))
    assert rates.tiers[0].above == 200_000
    assert (rates.input, rates.tiers[0].input, rates.tiers[0].output) == (3_000_000_000, 6_000_000_000, 15_000_000_000)


def test_each_dated_price_begins_at_midnight_utc() -> None:
    dated = [
        ConditionalPrice(prices=flat("10", "40")),
        ConditionalPrice(StartDateConstraint(date(2025, 6, 10)), prices=flat("2", "8")),
    ]
    timeline = timeline_of(model(dated))
    assert [(moment, rates.input) for moment, rates in timeline] == [
        (BEGINNING, 10_000_000_000),
        (datetime(2025, 6, 10, tzinfo=UTC), 2_000_000_000),
    ]


def test_a_price_by_time_of_day_is_kept_at_its_dearest() -> None:
    by_hour = [
        ConditionalPrice(prices=flat("0.135", "0.55")),
        ConditionalPrice(TimeOfDateConstraint(time(0, 30, tzinfo=UTC), time(16, 30, tzinfo=UTC)), prices=flat("0.27", "0.5")),
    ]
    assert timeline_of(model(by_hour)) == [(BEGINNING, Rates(input=270_000_000, output=550_000_000))]


def test_the_names_of_providers_are_ours() -> None:
    skus = price_list.read().timelines.keys()
    assert {"openai/gpt-5-mini", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-pro"} <= skus
    assert {sku.split("/")[0] for sku in skus} >= {"xai", "moonshot", "bedrock", "mistral", "groq", "together", "openrouter"}
    assert not {sku for sku in skus if sku.startswith(("google/", "x-ai/", "moonshotai/", "aws/"))}


def test_most_of_the_package_is_listed_and_the_rest_has_a_reason() -> None:
    listed = price_list.read()
    assert len(listed.timelines) > 2_000
    assert listed.unlisted["openai/whisper-1"] == "no price per input token"


@pytest.mark.parametrize(
    ("asked", "listed"),
    [
        ("openai/gpt-5-mini-2025-08-07", "openai/gpt-5-mini"),
        ("anthropic/claude-sonnet-4-5-20250929", "anthropic/claude-sonnet-4-5"),
        ("vertex/gemini-2.5-pro", "gemini/gemini-2.5-pro"),
    ],
)
def test_a_name_the_list_does_not_spell_out_is_matched_by_rule(asked: str, listed: str) -> None:
    assert price_list.match(asked) == price_list.read().timelines[listed]


@pytest.mark.parametrize("asked", ["openai/no-such-model", "sandbox/echo", "openai-compatible/gpt-5-mini", "openai/whisper-1"])
def test_what_nothing_matches_has_no_list_price(asked: str) -> None:
    assert price_list.match(asked) is None


@settings(deadline=None, max_examples=some(40))
@given(
    sku=st.sampled_from(["anthropic/claude-sonnet-4-5", "openai/gpt-5.4", "gemini/gemini-2.5-pro", "openai/gpt-4o"]),
    uncached=st.integers(0, 400_000),
    cached=st.integers(0, 400_000),
    output=st.integers(0, 100_000),
)
def test_our_bill_is_the_packages_own_to_the_last_nano_dollar(sku: str, uncached: int, cached: int, output: int) -> None:
    at = datetime(2026, 11, 20, tzinfo=UTC)
    rates = next(rates for moment, rates in reversed(price_list.match(sku) or []) if moment <= at)
    ours = bill(Price(version_id=1, sku=sku, rates=rates), Usage(input_uncached=uncached, cache_read=cached, output=output))
    kind, name = sku.split("/")
    theirs = genai_prices.calc_price(
        genai_prices.Usage(input_tokens=uncached + cached, cache_read_tokens=cached, output_tokens=output),
        name,
        provider_id=price_list.PROVIDER_OF_KIND.get(kind, kind),
        genai_request_timestamp=at,
    )
    assert abs(ours.total - theirs.total_price * 10**9) <= Decimal("1.5")
