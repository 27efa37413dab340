"""Amounts in the sentence of a refusal."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gateway_project.lib.money import NANO, exact_usd
from proxy.sentences import Figures, short

AMOUNT = st.integers(0, 3 * NANO) | st.integers(0, 10**15) | st.integers(0, 10**6)


def read(text: str) -> Decimal:
    assert text.startswith("$")
    return Decimal(text[1:].replace(",", ""))


@pytest.mark.parametrize(
    ("exact", "told"),
    [
        ((5 * NANO, 48_440_123_456, 0, 100_060_002), ("$5", "$48.44", "$0", "$0.1001")),
        ((NANO, NANO * 3 // 2, 0, 1), ("$1", "$1.50", "$0", "$0.000000001")),
        ((NANO, NANO * 3 // 2, 0, 8_002), ("$1", "$1.50", "$0", "$0.0000081")),
        ((NANO, NANO * 3 // 2, 0, 1_601_602), ("$1", "$1.50", "$0", "$0.0017")),
        # With two decimals it would be spent already.
        ((1_234 * NANO, 1_233_996_000_000, 0, 10**7), ("$1,234", "$1,233.996", "$0", "$0.01")),
        # With four decimals it would be spent already.
        ((NANO, 999_960_000, 0, 40_001), ("$1", "$0.99996", "$0", "$0.0000401")),
        ((NANO, 0, 1, NANO), ("$1", "$0", "$0.000000001", "$1")),
    ],
)
def test_as_few_digits_as_say_the_same(exact: tuple[int, int, int, int], told: tuple[str, ...]) -> None:
    assert short(Figures(*exact)) == told


@example(limit=5 * NANO, spent=5 * NANO - 1, held=0, needed=2)
@given(limit=AMOUNT, spent=AMOUNT, held=AMOUNT, needed=AMOUNT)
def test_a_refusal_never_contradicts_itself(limit: int, spent: int, held: int, needed: int) -> None:
    assume(spent + held + needed > limit)
    told = short(Figures(limit, spent, held, needed))
    shown = [read(text) for text in told]
    assert shown[1] + shown[2] + shown[3] > shown[0]
    assert (shown[1] >= shown[0]) is (spent >= limit)
    assert (shown[1] + shown[2] >= shown[0]) is (spent + held >= limit)
    assert shown[3] >= Decimal(exact_usd(needed))
    for text, amount in zip(told, (limit, spent, held, needed), strict=True):
        assert abs(read(text) - Decimal(exact_usd(amount))) <= Decimal("0.01")
        assert (read(text) == 0) is (amount == 0)
