import json
import time
import timeit
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.canonical.estimate import UNIT, WEIGHTS, text_tokens
from proxy.canonical.usage import Usage
from proxy.protocols.chat_completions import parse

counts = st.integers(min_value=0, max_value=10**9)


@given(counts, counts, counts, counts, counts, counts)
def test_the_total_is_every_kind_once_and_reasoning_never(
    uncached: int, read: int, write_5m: int, write_1h: int, output: int, reasoning: int
) -> None:
    usage = Usage(uncached, read, write_5m, write_1h, output, reasoning)
    assert usage.input_total == uncached + read + write_5m + write_1h
    assert usage.output_total == output
    assert usage.total == usage.input_total + usage.output_total


def test_audio_and_pictures_are_kinds_of_their_own() -> None:
    usage = Usage(1, 2, 3, 4, 5, audio_input=10, audio_output=20, image_input=30, image_output=40)
    assert (usage.input_total, usage.output_total, usage.total) == (50, 65, 115)


def test_nothing_reported_is_zero_and_not_an_estimate() -> None:
    assert Usage().total == 0
    assert Usage().estimated is False


def test_usage_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Usage().output = 1  # type: ignore[misc]


# --- estimate of input tokens ------------------------------------------------------------------
# What `gateway_project.bench.estimate.record` wrote: prompts of every kind with their tokens under seven vocabularies.
RECORDED = Path(__file__).with_name("measured_prompts.jsonl")
texts = st.text(max_size=300).map(lambda text: json.dumps(text, ensure_ascii=False).encode("utf-8", "replace"))


def recorded() -> tuple[list[str], dict[str, list[tuple[int, list[int]]]]]:
    """The families, and kind → the estimate of each prompt with its tokens by family."""
    families, *lines = (json.loads(line) for line in RECORDED.read_text().splitlines())
    kinds: dict[str, list[tuple[int, list[int]]]] = {}
    for kind, body, tokens in lines:
        kinds.setdefault(kind, []).append((parse(body.encode()).input_tokens_estimate, tokens))
    return families, kinds


def test_of_every_kind_of_text_hardly_a_prompt_is_estimated_too_low_under_any_vocabulary() -> None:
    families, kinds = recorded()
    assert len(families) == 7
    assert len(kinds) == 16
    for kind, prompts in kinds.items():
        judged = [estimate >= real for estimate, tokens in prompts for real in tokens]
        assert len(prompts) == 40, kind
        assert sum(judged) >= 0.99 * len(judged), kind


def test_what_is_missing_is_below_a_thousandth_of_all_tokens_under_every_vocabulary() -> None:
    families, kinds = recorded()
    for number, family in enumerate(families):
        pairs = [(estimate, tokens[number]) for prompts in kinds.values() for estimate, tokens in prompts]
        assert sum(max(0, real - estimate) for estimate, real in pairs) < 0.001 * sum(real for _, real in pairs), family


def test_ordinary_text_is_not_held_far_beyond_its_tokens() -> None:
    _, kinds = recorded()
    for kind in ("English", "Python", "Markdown", "JSON", "tools", "base64"):
        assert median(estimate / max(tokens) for estimate, tokens in kinds[kind]) < 1.9, kind


@given(texts)
def test_a_text_weighs_what_its_bytes_weigh(text: bytes) -> None:
    bare = text.replace(b"\\u", b"  ")
    assert text_tokens(bare) == -(-sum(WEIGHTS[byte] for byte in bare) // UNIT)


@given(texts, texts)
def test_more_text_is_never_fewer_tokens_and_parts_make_up_the_whole(first: bytes, second: bytes) -> None:
    first, second = (text.replace(b"\\u", b"  ") for text in (first, second))
    whole, parts = text_tokens(first + second), text_tokens(first) + text_tokens(second)
    assert whole >= max(text_tokens(first), text_tokens(second))
    assert parts - 1 <= whole <= parts


@given(st.binary(max_size=400), st.lists(st.text(max_size=20), max_size=3))
def test_nothing_makes_it_negative_or_fail(text: bytes, without: list[str]) -> None:
    assert text_tokens(text, without=without) >= 0


@given(st.text(alphabet=st.characters(min_codepoint=0x80, exclude_categories=["Cs"]), max_size=100))
def test_escaped_letters_count_as_the_letters(text: str) -> None:
    assert text_tokens(json.dumps(text).encode()) == text_tokens(json.dumps(text, ensure_ascii=False).encode())


@pytest.mark.parametrize("text", [b'"\\ud83d"', b'"C:\\\\users\\\\u12"', b"\\u", '"\\u00e4 ä"'.encode()])
def test_halves_of_escapes_and_what_only_looks_like_one_are_counted_somehow(text: bytes) -> None:
    assert 1 <= text_tokens(text) <= 2 * len(text)


@pytest.mark.parametrize("data", ["data:image/png;base64,AB/C" * 50, "x", 'a"b' * 200])
def test_inline_data_counts_nothing_however_it_is_written(data: str) -> None:
    frame, plain = b'{"text":"hello","url":%s}', text_tokens(b'{"text":"hello","url":""}')
    for written in (json.dumps(data), json.dumps(data).replace("/", "\\/")):
        left = text_tokens(frame % written.encode(), without=[data])
        assert plain - 1 <= left <= plain + written.count("\\")


def test_two_pictures_that_begin_alike_are_both_taken_out() -> None:
    first, second = ("data:image/png;base64," + "A" * 5000 + end for end in ("one", "two"))
    text = json.dumps([first, second]).encode()
    assert text_tokens(text, without=[second, first]) == text_tokens(text, without=[first, second]) == text_tokens(b'["", ""]')


@pytest.mark.parametrize("step", [1, -1])
def test_any_number_of_pictures_is_taken_out_in_whatever_order(step: int) -> None:
    """To copy the text for each of them, or to search all of it, would take as many steps as their square."""
    pictures = [f"data:image/png;base64,{at:08}" for at in range(60_000)]
    text, rest = (json.dumps(said).encode() for said in (pictures, [""] * len(pictures)))
    assert text_tokens(text, without=pictures[::step]) == text_tokens(rest)


def test_long_texts_are_added_up_without_overflow() -> None:
    dearest = bytes([WEIGHTS.index(max(WEIGHTS))])
    assert text_tokens(dearest * 1_000_000) == -(-1_000_000 * max(WEIGHTS) // UNIT)


def test_time_grows_with_the_length_and_not_with_its_square() -> None:
    def seconds(kilobytes: int) -> float:
        text = b"The quick brown fox, 12\\n" * (kilobytes * 40)
        return min(timeit.repeat(lambda: text_tokens(text), number=1, repeat=5, timer=time.process_time))

    assert seconds(4000) < 100 * max(seconds(250), 0.0002)
