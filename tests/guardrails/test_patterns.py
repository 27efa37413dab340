"""Patterns of names and networks: what two of them mean together."""

from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails import patterns

SYMBOLS = st.text("ab*?", max_size=5)
# Every name of at most five letters: enough to decide any two such patterns.
NAMES = ["".join(letters) for length in range(7) for letters in product("ab", repeat=length)]
BYTES = st.integers(0, 255)
NETWORKS = st.builds(lambda high, low, bits: f"{high}.{low}.0.0/{bits}", BYTES, BYTES, st.integers(0, 16))


def fitting(pattern: str) -> set[str]:
    return {name for name in NAMES if fnmatchcase(name, pattern)}


@given(SYMBOLS, SYMBOLS)
def test_overlap_is_a_common_name(one: str, other: str) -> None:
    assert patterns.overlap(one, other) == patterns.overlap(other, one)
    common = fitting(one) & fitting(other)
    if common:
        assert patterns.overlap(one, other)
    elif len(one.replace("*", "")) + len(other.replace("*", "")) <= 6:
        assert not patterns.overlap(one, other)


@given(SYMBOLS, SYMBOLS)
def test_what_is_covered_lies_within(wide: str, narrow: str) -> None:
    if patterns.covers(wide, narrow):
        assert fitting(narrow) <= fitting(wide)


@given(SYMBOLS)
def test_a_pattern_covers_and_meets_itself(pattern: str) -> None:
    assert patterns.covers(pattern, pattern)
    assert patterns.covers("*", pattern)
    assert patterns.overlap(pattern, pattern)


@given(st.text("ab", max_size=5), SYMBOLS)
def test_a_plain_name_is_covered_exactly_where_it_fits(name: str, wide: str) -> None:
    assert patterns.covers(wide, name) == patterns.overlap(wide, name) == fnmatchcase(name, wide)


@pytest.mark.parametrize(
    ("wide", "narrow", "covered"),
    [
        ("gpt-*", "GPT-5*", True),
        ("gpt-*", "gpt-?-mini", True),
        ("gpt-?", "gpt-*", False),
        ("gpt-5", "gpt-*", False),
        ("*", "", True),
        ("?", "", False),
        ("*-mini", "*", False),
    ],
)
def test_what_covers_what(wide: str, narrow: str, covered: bool) -> None:
    assert patterns.covers(wide, narrow) is covered


def test_long_patterns_take_no_time() -> None:
    assert not patterns.overlap("a*" * 100 + "b", "a?" * 100 + "c")
    assert not patterns.covers("a*" * 100 + "b", "a*" * 100 + "c")


def test_every_entry_must_be_covered_by_one() -> None:
    assert patterns.all_covered(["gpt-5", "claude-5"], by=["gpt-*", "claude-*"])
    assert not patterns.all_covered(["gpt-5", "llama"], by=["gpt-*", "claude-*"])
    assert patterns.all_covered([], by=[])


def test_lists_that_share_nothing() -> None:
    assert patterns.shared([["gpt-*", "x"], ["*-mini"]])
    assert not patterns.shared([["gpt-*"], ["claude-*", "llama-*"]])
    assert patterns.shared([["gpt-*"]])
    assert patterns.shared([])


@given(st.lists(st.lists(NETWORKS, min_size=1, max_size=3), min_size=1, max_size=3), BYTES, BYTES)
def test_an_address_in_every_list_is_shared(lists: list[list[str]], high: int, low: int) -> None:
    candidates = [
        ip_address(f"{high}.{low}.0.1"),
        *(ip_network(entry, strict=False)[0] for entries in lists for entry in entries),
    ]
    found = any(
        all(any(address in ip_network(entry, strict=False) for entry in entries) for entries in lists) for address in candidates
    )
    # The first address of the innermost network is in all of them: the candidates decide it.
    assert patterns.shared_addresses(lists) == found


def test_networks_of_two_kinds_share_nothing() -> None:
    assert not patterns.shared_addresses([["0.0.0.0/0"], ["::/0"]])
    assert patterns.shared_addresses([])
    assert patterns.all_inside(["2001:db8::7"], of=["10.0.0.0/8", "2001:db8::/32"])
    assert not patterns.all_inside(["::1", "10.0.0.1"], of=["10.0.0.0/8"])
