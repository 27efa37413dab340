"""What is read of a request's text: the stem, its options, its words, and never more than a window of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.complexity.reading import CUE, WINDOW, read

QUESTION = "Which planet is red?\nA. Venus\nB. Mars\nC. The moon,\nwhich is none\nD. Saturn\nAnswer:"


def test_a_question_is_taken_apart_from_its_options() -> None:
    reading = read(QUESTION)
    assert reading.stem == "Which planet is red?"
    assert reading.options == ["Venus", "Mars", "The moon,\nwhich is none", "Saturn"]
    assert reading.option_words == [["venus"], ["mars"], ["the", "moon", "which", "is", "none"], ["saturn"]]
    assert reading.words == ["which", "planet", "is", "red"]
    assert reading.written[0] == "Which"
    assert reading.length == len(QUESTION)


@pytest.mark.parametrize(
    "options",
    [
        "A. one\nB. two",
        "(A) one\n(B) two",
        "A) one\nB) two",
        "A: one\n  B: two",
        "\tA. one\n\tB. two\n",
    ],
)
def test_options_are_found_however_they_are_lettered(options: str) -> None:
    assert read(f"How many?\n{options}").options == ["one", "two"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n ",
        "A. Smith wrote to me.",
        "Plan A. or plan B. is fine",
        "B. two\nC. three",
        "A. one\nC. three",
        "1. one\n2. two",
    ],
)
def test_what_only_looks_like_options_belongs_to_the_stem(text: str) -> None:
    reading = read(text)
    assert reading.options == []
    assert reading.stem == text.strip()


def test_only_the_last_list_of_options_is_what_is_asked() -> None:
    examples = "1 + 1?\nA. 2\nB. 3\nAnswer: A\n\n2 + 2?\nA. 5\nB. 4\n"
    reading = read(examples + CUE)
    assert reading.options == ["5", "4"]
    assert reading.stem.endswith("2 + 2?")


def test_sentences_are_those_of_the_stem() -> None:
    reading = read("Tom has 3.5 apples. He eats one! How many\nare left?")
    assert reading.sentences == ["Tom has 3.5 apples.", "He eats one!", "How many", "are left?"]


def test_of_a_long_text_both_ends_are_looked_at() -> None:
    text = "beginning " + "middle " * WINDOW + "end"
    reading = read(text)
    assert reading.length == len(text)
    assert len(reading.seen) <= WINDOW + 1
    assert reading.words[0] == "beginning"
    assert reading.words[-1] == "end"


def test_a_text_that_fits_is_read_whole() -> None:
    assert read("a" * WINDOW).seen == "a" * WINDOW


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=3 * WINDOW))
def test_any_text_can_be_read(text: str) -> None:
    reading = read(text)
    assert reading.length == len(text)
    assert len(reading.written) == len(reading.words) == reading.counts.total()
    assert len(reading.options) == len(reading.option_words) != 1
    assert all(option in reading.seen for option in reading.options)


@given(st.text(max_size=200).filter(str.strip))
def test_the_cue_at_the_end_changes_nothing_but_the_length(text: str) -> None:
    assert read(f"{text}\n{CUE}").words == read(text).words or text.rstrip().endswith(CUE)
