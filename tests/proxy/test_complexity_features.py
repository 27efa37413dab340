"""What is told of a text: each feature moves with what it is named after, and none with the subject."""

from __future__ import annotations

from math import isfinite, log, log10

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.complexity.features import CLASSES, STEPS, UNITS, Features, extract
from proxy.complexity.reading import read

OPTIONS = "\nA. {}\nB. {}\nC. {}\nD. {}\nAnswer:"


def features(text: str) -> Features:
    return extract(read(text))


def with_options(*options: str, stem: str = "What follows from it?") -> Features:
    return features(stem + OPTIONS.format(*options))


@pytest.mark.parametrize(
    ("name", "plain", "marked"),
    [
        ("characters", "Why?", "Why is that so?"),
        ("stem_words", "Why?", "Why is that so?"),
        ("sentences", "He came, he saw.", "He came. He saw."),
        ("sentence_words", "He came. He saw.", "He came and then he saw."),
        ("context", "How many are left?", "There are ten. How many are left?"),
        ("last_sentence", "It is. So?", "It is. So what follows from that?"),
        ("lines", "one two", "one\ntwo"),
        ("quoted_share", "He said so.", f'He said "{"so " * 20}" once.'),
        ("numbers", "He has some.", "He has 3 and 3."),
        ("distinct_numbers", "He has 3 and 3.", "He has 3 and 4."),
        ("largest_number", "He has 3.", "He has 3,000."),
        ("decimals", "He has 3.", "He has 3.5"),
        ("digit_share", "He has 3 of them.", "He has 333333 of them."),
        ("symbols", "x is y", "x = y"),
        ("symbol_share", "x is y", "x = y + 1"),
        ("letters_alone", "every xs is some ys", "every x is some y"),
        ("comma_share", "one and two and three", "one, two, and three"),
        ("bracket_share", "f of x", "f(x)"),
        ("colon_share", "first this and then that", "first: this; then that"),
        ("percent", "half of it", "50% of it"),
        ("word_length", "a short word", "extraordinarily complicated terminology"),
        ("long_words", "a short word", "a complicated word"),
        ("longest_words", "a complicated word", "an extraordinarily long word"),
        ("short_words", "complicated words", "the is of"),
        ("variety", "the the the the", "each word is new"),
        ("past", "they walk and talk", "they walked and talked"),
        ("excluded", "Which of these is a fish?", "Which of these is NOT a fish?"),
        ("excluded", "Which of these is a fish?", "All of these are fish except"),
        ("gap", "It is called", "It is called ____"),
        ("ends_as_question", "Tell me.", "Tell me?"),
        ("ends_open", "It is called that.", "It is called"),
        ("opens_as_question", "Tell me what it is.", "What is it?"),
        ("how_many", "Count them.", "How many are there?"),
        ("why", "Is it so?", "Why is it so?"),
        ("statement", "One is greater.", "Statement 1 is that one is greater."),
        ("definition", "It is a large fish.", "A large fish is known as"),
        ("dated", "It happened then.", "It happened in 1848"),
        ("dated", "It happened then.", "It happened in that century"),
        ("names", "then she came", "then Mary came"),
        ("names_again", "so Mary saw Jane", "so Mary saw Mary"),
    ],
)
def test_a_text_that_has_more_of_it_has_a_higher_value(name: str, plain: str, marked: str) -> None:
    assert features(marked)[name] > features(plain)[name]


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_words_are_counted_by_what_they_do_in_a_sentence(name: str) -> None:
    for word in CLASSES[name]:
        assert features(f"Zebras {word.upper()} graze")[name] > features("Zebras zzz graze")[name] == 0


def test_classes_are_of_lower_case_words_that_can_be_read() -> None:
    for name, words in CLASSES.items():
        assert words
        assert [word for word in words if read(word).words != [word]] == [], name


@pytest.mark.parametrize(
    ("name", "plain", "marked"),
    [
        ("option_length", ("a", "b", "c", "d"), ("a whole sentence", "b", "c", "d")),
        ("option_longest", ("aa", "bb", "cc", "dd"), ("a", "b", "c", "ddddd")),
        ("option_spread", ("aa", "bb", "cc", "dd"), ("a", "b", "c", "ddddd")),
        ("option_spread_share", ("aa", "bb", "cc", "dd"), ("a", "b", "c", "ddddd")),
        ("option_numeric", ("one", "two", "three", "four"), ("-1", "$2", "3 apples", "four")),
        ("option_digits", ("one", "two", "three", "four"), ("x1", "two", "three", "four")),
        ("option_combined", ("I", "II", "III", "IV"), ("I only", "II only", "I and II", "III and IV")),
        ("option_combined", ("True", "False", "so", "not"), ("True, True", "False, False", "so", "not")),
        ("option_all_of", ("one", "two", "three", "four"), ("one", "two", "three", "All of the above")),
        ("option_reason", ("he won", "he lost", "x", "y"), ("he won because", "he lost", "x", "y")),
        ("option_verdict", ("he won", "he lost", "x", "y"), ("Yes, he won", "No, he lost", "x", "y")),
        ("option_denial", ("he won", "he lost", "x", "y"), ("he did not win", "he didn't lose", "x", "y")),
        ("option_one_word", ("he won", "he lost", "x y", "y z"), ("won", "lost", "x y", "y z")),
        ("option_likeness", ("a b", "c d", "e f", "g h"), ("a b", "a c", "a d", "a e")),
        ("option_echo", ("one", "two", "three", "four"), ("follows", "from", "three", "four")),
        ("option_same_start", ("he won", "she lost", "x y", "y z"), ("he won", "he lost", "x y", "y z")),
        ("option_direction", ("he won", "she lost", "x", "y"), ("it increases", "it falls", "x", "y")),
    ],
)
def test_options_are_compared(name: str, plain: tuple[str, ...], marked: tuple[str, ...]) -> None:
    assert with_options(*marked)[name] > with_options(*plain)[name]


def test_a_text_without_options_tells_nothing_of_them() -> None:
    assert [name for name in features("What is it?") if name.startswith("option_")] == []
    assert len([name for name in with_options("1", "2", "3", "4") if name.startswith("option_")]) == 16


@pytest.mark.parametrize(
    ("name", "plain", "marked"),
    [
        ("told_steps", "He has 3 pens and 4 cups.", "He has 3 pens, then 4 cups."),
        ("told_steps", "He has 3, then 4, of the pens.", "He has 3, then 4, then the remaining pens."),
        ("told_units", "He has 3 pens and 4 cups.", "He has 3 pens for 4 hours."),
        ("told_units", "It takes 3 hours and 1 hour more.", "It takes 3 hours and 1 day more."),
        ("told_units", "It costs 3 or 4.", "It costs $3 or $4."),
        ("told_names", "then she has 3 and he has 4", "then Mary has 3 and he has 4"),
    ],
)
def test_a_problem_is_told_by_its_steps_its_units_and_its_names(name: str, plain: str, marked: str) -> None:
    assert features(marked)[name] > features(plain)[name]


def test_each_step_unit_and_name_is_counted_by_what_it_is() -> None:
    for word in STEPS:
        assert features(f"Of 3 and 4 {word} more")["told_steps"] == log(2)
    for unit in UNITS:
        assert features(f"Of 3 and 4 {' '.join(unit)} more")["told_units"] == log(2)
    assert features("so Mary saw 3, and Mary saw 4, and Jane none")["told_names"] == log(3)


@pytest.mark.parametrize(
    "text", ["Then he left before the rest.", "Then 3 of them left.", "Of 3 and 4, then?" + OPTIONS.format(*"1234")]
)
def test_what_tells_no_problem_has_nothing_of_one(text: str) -> None:
    assert [name for name in features(text) if name.startswith("told_")] == []


def test_counts_and_lengths_are_logarithms() -> None:
    found = features("He has 999 of 9.")
    assert found["characters"] == log(1 + 16)
    assert found["numbers"] == log(1 + 2)
    assert found["largest_number"] == log10(1000)


@pytest.mark.parametrize("text", ["9" * 5000, "1" + ",000" * 400, "٣ ٤", "²³", "1e999", "1.2.3.4.5"])
def test_odd_numbers_are_numbers(text: str) -> None:
    assert all(isfinite(value) for value in features(text).values())


def test_the_subject_is_not_told() -> None:
    assert features("Which bone heals faster?") == features("Which bank lends faster?")


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=6000))
def test_any_text_has_every_feature_and_all_are_finite(text: str) -> None:
    found = features(text)
    assert found.keys() >= features("").keys()
    assert all(isfinite(value) and value >= 0 for value in found.values())


@given(st.lists(st.text(min_size=1, max_size=80).filter(lambda text: text.strip() and "\n" not in text), min_size=4, max_size=4))
def test_any_options_can_be_compared(options: list[str]) -> None:
    assert all(isfinite(value) for value in with_options(*options).values())
