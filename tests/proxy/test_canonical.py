import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.canonical import Usage, text_tokens

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


@pytest.mark.parametrize(("size", "tokens"), [(0, 0), (1, 1), (3, 1), (4, 2), (3000, 1000)])
def test_text_is_bounded_by_a_token_for_three_bytes(size: int, tokens: int) -> None:
    assert text_tokens(size) == tokens
