"""Values of a URL: what makes no sense is left out."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_project.lib.queries import id_in, ids_in, search_in, text_in, uuid_in


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7),
        ("0", 0),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("-7", None),
        ("", None),
        (None, None),
        ("7.0", None),
        ("٣", None),
        ("9" * 19, None),
        ("9" * 5000, None),
    ],
)
def test_ids(text: str | None, number: int | None) -> None:
    assert id_in(text) == number


@given(st.text())
def test_an_id_is_a_number_that_a_row_can_have_or_nothing(text: str) -> None:
    number = id_in(text)
    assert number is None or (0 <= number < 2**63 and str(number) == text.lstrip("0").rjust(1, "0"))


def test_several_ids_are_those_among_the_first() -> None:
    assert ids_in(["7", "x", "8", "9"], most=3) == [7, 8]


def test_texts() -> None:
    assert text_in(" gpt ", 10) == "gpt"
    assert text_in("a\x00b", 10) == ""
    assert text_in("x" * 11, 10) == ""
    assert [search_in(text, 3) for text in (" gpt ", "x" * 11, "a\x00b", None)] == ["gpt", "xxx", "", ""]
    assert uuid_in("01a1f996-90a0-7000-8852-10aa9b5e519a") == UUID("01a1f996-90a0-7000-8852-10aa9b5e519a")
    assert uuid_in("nonsense") is None


@given(st.text(), st.integers(0, 50))
def test_text_is_short_printable_and_without_spaces_at_its_ends(text: str, length: int) -> None:
    read = text_in(text, length)
    assert len(read) <= length
    assert read == read.strip()
    assert read.isprintable()
