"""The arithmetic of prices, by hand and by search."""

from decimal import ROUND_HALF_UP, Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import BESIDE, UNBOUNDED, CacheWrites, Price, Rates, Tier, affordable_output, bill, cache_saving, worst_case
from proxy.canonical.usage import Usage

SONNET = Rates(
    input=3_000_000_000,
    cache_read=300_000_000,
    cache_write_5m=3_750_000_000,
    cache_write_1h=6_000_000_000,
    output=15_000_000_000,
    tiers=(
        Tier(
            above=200_000,
            input=6_000_000_000,
            cache_read=600_000_000,
            cache_write_5m=7_500_000_000,
            cache_write_1h=12_000_000_000,
            output=22_500_000_000,
        ),
    ),
)
WRITES: tuple[CacheWrites, ...] = ("none", "short", "any")
FLAT = Rates(input=250_000_000, output=2_000_000_000)
DEAREST = 100_000_000_000


def few_or_many(drawn: int, few: int, many: int) -> int:
    """Half of what is drawn are few. One draw for both: an example has dozens of them."""
    return drawn // 2 % (many + 1) if drawn % 2 else drawn // 2 % (few + 1)


tokens = st.integers(0, 2 * 3_000_000 + 1).map(lambda drawn: few_or_many(drawn, 40, 3_000_000))
unit_prices = st.integers(0, 2 * DEAREST + 1).map(lambda drawn: few_or_many(drawn, 3, DEAREST))
own_price = st.integers(0, 6 * DEAREST + 5).map(lambda drawn: few_or_many(drawn // 3, 3, DEAREST) if drawn % 3 else None)
kinds = {
    "input": unit_prices,
    "output": unit_prices,
    "cache_read": own_price,
    "cache_write_5m": own_price,
    "cache_write_1h": own_price,
    "audio_input": own_price,
    "image_input": own_price,
    "audio_output": own_price,
    "image_output": own_price,
}
tiers = st.lists(st.builds(Tier, above=st.integers(0, 500_000), **kinds), max_size=3, unique_by=lambda tier: tier.above).map(
    lambda found: tuple(sorted(found, key=lambda tier: tier.above))
)
all_rates = st.builds(Rates, request=st.integers(0, 10_000_000), tiers=tiers, **kinds)
usages = st.builds(
    Usage,
    input_uncached=tokens,
    cache_read=tokens,
    cache_write_5m=tokens,
    cache_write_1h=tokens,
    audio_input=tokens,
    image_input=tokens,
    output=tokens,
    audio_output=tokens,
    image_output=tokens,
)


def priced(rates: Rates) -> Price:
    return Price(version_id=7, sku="test/model", rates=rates)


def test_each_kind_costs_its_own_price() -> None:
    usage = Usage(input_uncached=1_000, cache_read=2_000, cache_write_5m=300, cache_write_1h=40, output=500, reasoning=200)
    cost = bill(priced(SONNET), usage)
    assert cost.parts == {
        "input": 3_000_000,
        "cache_read": 600_000,
        "cache_write_5m": 1_125_000,
        "cache_write_1h": 240_000,
        "output": 7_500_000,
    }
    assert cost.total == 12_465_000


def test_reasoning_is_part_of_the_output_and_is_not_billed_again() -> None:
    assert bill(priced(FLAT), Usage(output=100, reasoning=90)).total == bill(priced(FLAT), Usage(output=100)).total


def test_what_was_read_beside_the_answer_has_the_tier_of_its_own_size_and_no_fee_of_its_own() -> None:
    """As Claude's own example: 180,000 tokens are read to shorten a conversation to 23,000."""
    shortening = Usage(input_uncached=180_000, output=3_500)
    usage = Usage(input_uncached=23_000, output=1_000, beside=(shortening, Usage(input_uncached=200_001)))
    cost = bill(priced(msgspec.structs.replace(SONNET, request=7)), usage)
    parts = {"input": 69_000_000, "output": 15_000_000, BESIDE: 540_000_000 + 52_500_000 + 1_200_006_000, "request": 7}
    assert (cost.parts, cost.total) == (parts, sum(parts.values()))
    assert cost.unit_prices == {"input": 3_000_000_000, "output": 15_000_000_000, "request": 7}


def test_the_unit_prices_used_stand_beside_the_parts() -> None:
    cost = bill(priced(SONNET), Usage(input_uncached=1, output=1))
    assert cost.unit_prices == {"input": 3_000_000_000, "output": 15_000_000_000}


@pytest.mark.parametrize(("units", "price", "nano"), [(1, 499_999, 0), (1, 500_000, 1), (3, 500_000, 2), (1, 1, 0)])
def test_a_part_is_rounded_half_up_once(units: int, price: int, nano: int) -> None:
    assert bill(priced(Rates(input=price, output=0)), Usage(input_uncached=units)).total == nano


def test_cached_tokens_without_a_price_of_their_own_cost_as_much_as_input() -> None:
    usage = Usage(cache_read=1_000_000, cache_write_5m=1_000_000, cache_write_1h=1_000_000)
    assert bill(priced(FLAT), usage).parts == dict.fromkeys(("cache_read", "cache_write_5m", "cache_write_1h"), 250_000_000)


@pytest.mark.parametrize(
    ("five_minutes", "an_hour"),
    [(125, 200), (220, 220), (100, 100), (40, 40)],
    ids=["as Claude is priced", "dearer already", "no dearer than input", "cheaper than input"],
)
def test_a_one_hour_write_without_a_price_costs_twice_the_input_where_short_ones_cost_more(
    five_minutes: int, an_hour: int
) -> None:
    rates = Rates(input=100, cache_write_5m=five_minutes, output=500)
    assert bill(priced(rates), Usage(cache_write_1h=1_000_000)).total == an_hour


def test_audio_and_images_without_a_price_cost_as_much_as_their_side() -> None:
    million = 1_000_000
    usage = Usage(audio_input=million, image_input=million, audio_output=million, image_output=million)
    assert bill(priced(Rates(input=3, output=8)), usage).parts == {
        "audio_input": 3,
        "image_input": 3,
        "audio_output": 8,
        "image_output": 8,
    }


def test_a_free_cache_read_stays_free() -> None:
    assert bill(priced(Rates(input=100, cache_read=0, output=0)), Usage(cache_read=5_000_000)).total == 0


def test_a_tier_begins_above_its_threshold_and_counts_cached_tokens() -> None:
    at = bill(priced(SONNET), Usage(input_uncached=100_000, cache_read=100_000, output=1_000))
    above = bill(priced(SONNET), Usage(input_uncached=100_000, cache_read=100_001, output=1_000))
    assert at.parts == {"input": 300_000_000, "cache_read": 30_000_000, "output": 15_000_000}
    assert above.parts == {"input": 600_000_000, "cache_read": 60_000_600, "output": 22_500_000}


def test_a_flat_fee_is_added_once_per_call() -> None:
    rates = Rates(input=1_000_000_000, output=1_000_000_000, request=12_000_000)
    cost = bill(priced(rates), Usage(input_uncached=10, output=10))
    assert cost.parts == {"input": 10_000, "output": 10_000, "request": 12_000_000}
    assert cost.unit_prices["request"] == 12_000_000


def test_the_worst_case_takes_the_dearest_kind_and_tier_it_could_meet() -> None:
    assert worst_case(priced(SONNET), input_tokens=200_000, output_tokens=1_000) == 1_200_000_000 + 3 + 15_000_000 + 1
    assert worst_case(priced(SONNET), input_tokens=200_001, output_tokens=1_000) == 2_400_012_000 + 3 + 22_500_000 + 1


def test_the_worst_case_of_text_does_not_fear_the_price_of_audio() -> None:
    price = priced(Rates(input=1_000_000, audio_input=50_000_000, output=0))
    assert worst_case(price, input_tokens=1_000, output_tokens=0) == 50_003
    assert worst_case(price, input_tokens=1_000, output_tokens=0, text_only=True) == 1_002


def test_the_worst_case_of_text_fears_the_pictures_of_a_model_that_draws_unasked() -> None:
    price = priced(Rates(input=300_000, output=2_500_000, image_output=30_000_000))
    drawn = bill(price, Usage(output=10, image_output=1_290)).total
    held = worst_case(price, input_tokens=0, output_tokens=1_300, text_only=True)
    assert drawn <= held == 39_000 + 1
    assert affordable_output(price, budget=held, input_tokens=0, text_only=True) == 1_300


def test_a_cheaper_upper_tier_does_not_lower_the_worst_case() -> None:
    price = priced(Rates(input=10_000_000, output=0, tiers=(Tier(above=100, input=1_000_000, output=0),)))
    assert worst_case(price, input_tokens=150, output_tokens=0) == 1_003


def test_what_costs_nothing_holds_nothing_and_affords_everything() -> None:
    free = priced(Rates(input=0, output=0))
    assert worst_case(free, input_tokens=10**6, output_tokens=10**6) == 0
    assert affordable_output(free, budget=0, input_tokens=10**6) == UNBOUNDED


def test_nothing_is_affordable_where_the_input_alone_is_too_dear() -> None:
    assert affordable_output(priced(FLAT), budget=100, input_tokens=1_000) == -1


def test_choices_multiply_the_output_alone() -> None:
    one = worst_case(priced(FLAT), input_tokens=1_000, output_tokens=0)
    three = worst_case(priced(FLAT), input_tokens=1_000, output_tokens=100, n=3)
    assert three - one == 3 * 100 * 2_000 + 1


@given(rates=all_rates, usage=usages)
def test_the_total_is_the_sum_of_parts_each_rounded_half_up(rates: Rates, usage: Usage) -> None:
    cost = bill(priced(rates), usage)
    assert cost.total == sum(cost.parts.values())
    counted = {kind: getattr(usage, "input_uncached" if kind == "input" else kind) for kind in kinds}
    for kind, nano in cost.parts.items():
        if kind != "request":
            exact = Decimal(counted[kind]) * cost.unit_prices[kind] / 1_000_000
            assert nano == exact.quantize(Decimal(1), ROUND_HALF_UP)


@given(rates=all_rates, usage=usages)
def test_a_cache_saves_what_the_same_tokens_would_have_cost_more_as_fresh_input(rates: Rates, usage: Usage) -> None:
    fresh = usage.input_uncached + usage.cache_read + usage.cache_write_5m + usage.cache_write_1h
    plain = msgspec.structs.replace(usage, input_uncached=fresh, cache_read=0, cache_write_5m=0, cache_write_1h=0)
    cost = bill(priced(rates), usage)
    assert cache_saving(priced(rates), usage, cost) == bill(priced(rates), plain).total - cost.total


@given(rates=all_rates, usage=usages, spare_input=tokens, spare_output=tokens, n=st.integers(1, 4))
def test_no_call_costs_more_than_its_worst_case(rates: Rates, usage: Usage, spare_input: int, spare_output: int, n: int) -> None:
    cap = -(-usage.output_total // n) + spare_output
    bound = worst_case(priced(rates), input_tokens=usage.input_total + spare_input, output_tokens=cap, n=n)
    assert bill(priced(rates), usage).total <= bound


@given(rates=all_rates, usage=usages)
def test_no_text_call_costs_more_than_the_worst_case_of_text(rates: Rates, usage: Usage) -> None:
    text = msgspec.structs.replace(usage, audio_input=0, image_input=0, audio_output=0)
    if rates.image_output is None:
        text = msgspec.structs.replace(text, image_output=0)
    bound = worst_case(priced(rates), input_tokens=text.input_total, output_tokens=text.output_total, text_only=True)
    assert bill(priced(rates), text).total <= bound


@given(st.dictionaries(st.sampled_from(["second", "minute", "second_720p", "second_1080p"]), unit_prices), st.integers(0, 600))
def test_a_film_costs_what_its_resolution_does_else_what_all_others_do(units: dict[str, int], seconds: int) -> None:
    rates = Rates(input=0, output=0, units=units)
    usage = Usage(units={"second": seconds})
    if "second_720p" in units:
        assert bill(priced(rates.at_resolution("720p")), usage).total == seconds * units["second_720p"]
    else:
        assert rates.at_resolution("720p") is rates
    assert rates.at_resolution("480p") is rates


@given(rates=all_rates, usage=usages, text_only=st.booleans())
def test_what_cannot_be_written_to_a_cache_is_not_feared_and_nothing_else_is_less(
    rates: Rates, usage: Usage, text_only: bool
) -> None:
    price, bounds = priced(rates), []
    if text_only:
        usage = msgspec.structs.replace(usage, audio_input=0, image_input=0, audio_output=0, image_output=0)
    unwritten: list[tuple[CacheWrites, dict[str, int]]] = [
        ("any", {}),
        ("short", {"cache_write_1h": 0}),
        ("none", {"cache_write_1h": 0, "cache_write_5m": 0}),
    ]
    for writes, none_of in unwritten:
        left = msgspec.structs.replace(usage, input_uncached=usage.input_uncached + usage.input_total, **none_of)
        bounds.append(
            worst_case(price, input_tokens=left.input_total, output_tokens=left.output_total, text_only=text_only, writes=writes)
        )
        assert bill(price, left).total <= bounds[-1]
    assert bounds == sorted(bounds, reverse=True) or usage.cache_write_5m + usage.cache_write_1h


def test_a_call_that_writes_no_cache_holds_no_more_than_fresh_input_costs() -> None:
    held = {writes: worst_case(priced(SONNET), input_tokens=1_000, output_tokens=0, writes=writes) for writes in WRITES}
    assert held == {"none": 3_000_000 + 2, "short": 3_750_000 + 2, "any": 6_000_000 + 3}
    for writes in WRITES:
        assert affordable_output(priced(SONNET), budget=held[writes] + 1, input_tokens=1_000, writes=writes) == 0


@given(rates=all_rates, low=tokens, more=tokens, cap=tokens, more_cap=tokens)
def test_the_worst_case_never_falls_as_tokens_rise(rates: Rates, low: int, more: int, cap: int, more_cap: int) -> None:
    small = worst_case(priced(rates), input_tokens=low, output_tokens=cap)
    assert small <= worst_case(priced(rates), input_tokens=low + more, output_tokens=cap + more_cap)


@given(
    rates=all_rates,
    budget=st.one_of(st.integers(0, 100), st.integers(0, 10**14)),
    input_tokens=tokens,
    n=st.integers(1, 8),
    text_only=st.booleans(),
    writes=st.sampled_from(WRITES),
)
def test_the_affordable_output_is_the_exact_inverse_of_the_worst_case(
    rates: Rates, budget: int, input_tokens: int, n: int, text_only: bool, writes: CacheWrites
) -> None:
    price = priced(rates)

    def worst(cap: int) -> int:
        return worst_case(price, input_tokens=input_tokens, output_tokens=cap, n=n, text_only=text_only, writes=writes)

    cap = affordable_output(price, budget=budget, input_tokens=input_tokens, n=n, text_only=text_only, writes=writes)
    if cap >= 0:
        assert worst(cap) <= budget
    if cap < UNBOUNDED:
        assert worst(cap + 1) > budget


@given(rates=all_rates)
def test_rates_survive_the_database_as_json(rates: Rates) -> None:
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(rates)), Rates) == rates
