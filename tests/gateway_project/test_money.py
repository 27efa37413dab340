"""Nano-dollars: nothing is lost on the way in or out, and nothing that is no amount comes in."""

from decimal import ROUND_HALF_UP, Decimal, localcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway_project.lib.money import MAX_USD, MILLION, NANO, BadAmount, cost_of, display_usd, exact_usd, limit_usd, parse_usd

MOST = int(MAX_USD) * NANO
AMOUNTS = st.integers(-MOST, MOST)
DISPLAYED = st.integers(-MOST, MOST) | st.integers(-2 * NANO, 2 * NANO) | st.integers(-100_000, 100_000)


@given(nano=AMOUNTS)
@example(nano=0)
@example(nano=10 * NANO)
@example(nano=-1)
def test_every_digit_survives_the_way_out_and_in(nano: int) -> None:
    assert parse_usd(exact_usd(nano)) == nano


@given(nano=AMOUNTS)
def test_exact_text_is_the_decimal_without_exponent_and_idle_zeros(nano: int) -> None:
    text = exact_usd(nano)
    assert Decimal(text) == Decimal(nano).scaleb(-9)
    assert "E" not in text.upper()
    assert not text.endswith(".")
    assert not ("." in text and text.endswith("0"))


@pytest.mark.parametrize(
    ("nano", "text"),
    [(0, "0"), (1, "0.000000001"), (1500, "0.0000015"), (2 * NANO, "2"), (100 * NANO, "100"), (-1_250_000_000, "-1.25")],
)
def test_exact_amounts_by_hand(nano: int, text: str) -> None:
    assert exact_usd(nano) == text


@pytest.mark.parametrize(
    ("given_", "nano"),
    [
        ("1", NANO),
        ("0.25", 250_000_000),
        ("1e-9", 1),
        ("1E3", 1000 * NANO),
        ("-0", 0),
        ("0.1000000000000", 100_000_000),
        (7, 7 * NANO),
        (Decimal("2.50"), 2_500_000_000),
        (str(MAX_USD), MOST),
    ],
)
def test_text_integers_and_decimals_come_in(given_: str | int | Decimal, nano: int) -> None:
    assert parse_usd(given_) == nano


@pytest.mark.parametrize("text", ["", "abc", "1,5", "$1", "1 2", "--1", "0x10", "1.2.3"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(BadAmount, match="not an amount"):
        parse_usd(text)


@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "-Infinity", "9000000000.000000001", "-1e10", "1e40", "1e9999999"])
def test_what_no_ledger_can_hold_is_out_of_range(text: str) -> None:
    with pytest.raises(BadAmount, match="out of range"):
        parse_usd(text)


@pytest.mark.parametrize(
    "text", ["0.0000000001", "1.0000000015", "1e-10", "1e-9999999", "8999999999.9999999999", "1.000000000000000000000000000001"]
)
def test_a_tenth_decimal_is_refused_not_rounded(text: str) -> None:
    with pytest.raises(BadAmount, match="nine decimals"):
        parse_usd(text)


def test_the_limit_is_exact_however_many_digits_are_given() -> None:
    with pytest.raises(BadAmount):
        parse_usd("9000000000." + "0" * 30 + "1")


@pytest.mark.parametrize("amount", [0.1, 1.0, float("nan"), True, False])
def test_floats_and_truth_values_are_refused_by_name(amount: float) -> None:
    with pytest.raises(BadAmount, match=type(amount).__name__):
        parse_usd(amount)  # type: ignore[arg-type]


def test_nothing_at_all_is_refused() -> None:
    with pytest.raises(BadAmount):
        parse_usd(None)  # type: ignore[arg-type]


@given(text=st.text(max_size=12) | st.from_regex(r"[-+]?[0-9.]{0,12}([eE][-+]?[0-9]{1,9})?", fullmatch=True))
def test_any_text_is_an_amount_or_refused(text: str) -> None:
    try:
        nano = parse_usd(text)
    except BadAmount:
        return
    assert abs(nano) <= MOST
    assert Decimal(text) == Decimal(nano).scaleb(-9)


@given(nano=st.integers(-MOST, MOST))
def test_the_surrounding_precision_changes_nothing(nano: int) -> None:
    text = exact_usd(nano)
    with localcontext() as context:
        context.prec = 28
        assert parse_usd(Decimal(text)) == parse_usd(text) == nano


@given(nano=DISPLAYED)
def test_people_read_an_amount_within_half_a_last_digit(nano: int) -> None:
    text = display_usd(nano)
    if text[0] in "<>":
        assert 0 < abs(nano) < 50_000
        return
    shown = Decimal(text.replace("$", "").replace(",", ""))
    step = Decimal("0.01") if abs(nano) >= NANO or nano == 0 else Decimal("0.0001")
    assert abs(shown - Decimal(nano) / NANO) <= step / 2


@given(nano=st.integers(1, MOST))
def test_what_was_spent_is_never_shown_as_nothing(nano: int) -> None:
    for text in (display_usd(nano), display_usd(-nano)):
        assert text[0] in "<>" or any(digit in text for digit in "123456789")


@given(one=DISPLAYED, other=DISPLAYED)
def test_a_negative_amount_is_its_positive_with_a_sign(one: int, other: int) -> None:
    for nano in (abs(one), abs(other)):
        text = display_usd(nano)
        if text.startswith("$") and nano:
            assert display_usd(-nano) == "-" + text


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "$0.00"),
        (49_999, "<$0.0001"),
        (-49_999, ">-$0.0001"),
        (50_000, "$0.0001"),
        (-50_000, "-$0.0001"),
        (123_456_000, "$0.1235"),
        (NANO, "$1.00"),
        (1_004_999_999, "$1.00"),
        (1_005_000_000, "$1.01"),
        (1_234_560_000_000, "$1,234.56"),
        (-1_234_560_000_000, "-$1,234.56"),
    ],
)
def test_amounts_for_people_by_hand(nano: int, text: str) -> None:
    assert display_usd(nano) == text


@given(units=st.integers(0, 10**12), price=st.integers(0, 10**13))
def test_a_cost_is_rounded_half_up_once(units: int, price: int) -> None:
    exact = (Decimal(units * price).scaleb(-6)).quantize(Decimal(1), ROUND_HALF_UP)
    assert cost_of(units, price) == int(exact)


@given(units=st.integers(0, 10**9), more=st.integers(0, 10**9), price=st.integers(0, 10**12))
def test_more_units_never_cost_less_and_splitting_saves_at_most_a_rounding(units: int, more: int, price: int) -> None:
    whole, parts = cost_of(units + more, price), cost_of(units, price) + cost_of(more, price)
    assert whole >= cost_of(units, price)
    assert abs(whole - parts) <= 1


@pytest.mark.parametrize(
    ("units", "price", "nano"), [(1, 499_999, 0), (1, 500_000, 1), (3, MILLION, 3), (MILLION, 7, 7), (0, 10**9, 0)]
)
def test_costs_by_hand(units: int, price: int, nano: int) -> None:
    assert cost_of(units, price) == nano


@pytest.mark.parametrize(
    ("nano", "shown"),
    [
        (10_000_000, "$0.01"),
        (100_000_000, "$0.10"),
        (10 * NANO, "$10.00"),
        (1_234 * NANO + 560_000_000, "$1,234.56"),
        (0, "$0.00"),
        (-100_000_000, "-$0.10"),
        (1_500_000, "$0.0015"),
        (15_000_000, "$0.0150"),
    ],
)
def test_what_somebody_set_shows_whole_cents_with_two_decimals(nano: int, shown: str) -> None:
    assert limit_usd(nano) == shown
