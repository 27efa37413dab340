"""Numbers in files: each decimal text is what it says, and nothing else is a number."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_project.lib import decimals

zeros = st.sampled_from(["", "0", "000"])
signs = st.sampled_from(["", "+", "-"])


@given(st.integers(0, 10**20), zeros, signs)
def test_a_whole_number_is_what_its_digits_say(number: int, zeros: str, sign: str) -> None:
    wanted = -number if sign == "-" else number
    for text in (f"{sign}{zeros}{number}", f"{sign}{zeros}{number:_}"):
        assert decimals.whole(text) == decimals.exact(text) == wanted


@given(st.decimals(0, 10**10, places=9), zeros, signs, st.integers(-20, 20))
def test_a_decimal_number_is_what_its_digits_say(number: Decimal, zeros: str, sign: str, power: int) -> None:
    wanted = number.copy_negate() if sign == "-" else number
    assert decimals.exact(f"{sign}{zeros}{number:f}") == wanted
    assert decimals.exact(f"{sign}{zeros}{number:f}e{power}") == wanted.scaleb(power)


@given(st.text("0123456789_+-.:xobeE ", max_size=8))
def test_what_is_read_has_decimal_digits_and_python_agrees(text: str) -> None:
    for read, means in ((decimals.whole, int), (decimals.exact, Decimal)):
        try:
            found = read(text)
        except decimals.NoNumber:
            continue
        assert found == means(text)
        assert not set(text) & set(":xob ")


@pytest.mark.parametrize(
    "text", ["", "0x10", "0o10", "0b1", "1:30", "1__0", "_1", "1_", "1 0", "1,5", "NaN", ".inf", "١٢", "9" * 41, "."]
)
def test_anything_else_is_no_number(text: str) -> None:
    for read in (decimals.whole, decimals.exact):
        with pytest.raises(decimals.NoNumber):
            read(text)
