"""What a score is worth: APGR and saving, on outcomes small enough to count by hand."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.complexity.curve import apgr, strong_share
from proxy.complexity.outcomes import Outcome

BOTH, STRONG, WEAK, NEITHER = Outcome(True, True), Outcome(False, True), Outcome(True, False), Outcome(False, False)


def test_the_gain_is_what_the_strong_model_adds() -> None:
    assert [outcome.gain for outcome in (BOTH, STRONG, WEAK, NEITHER)] == [0, 1, -1, 0]


@pytest.mark.parametrize(
    ("scores", "recovered"),
    [
        # The one question that gains goes first, last, or in the middle of four.
        ([4, 3, 2, 1], 7 / 8),
        ([1, 4, 3, 2], 1 / 8),
        ([3, 4, 2, 1], 5 / 8),
    ],
)
def test_the_gap_is_recovered_sooner_the_better_the_score(scores: list[float], recovered: float) -> None:
    assert apgr([STRONG, BOTH, NEITHER, BOTH], scores) == recovered


def test_a_perfect_score_also_spares_the_strong_model_where_it_is_worse() -> None:
    assert apgr([STRONG, STRONG, WEAK], [3, 2, 1]) > 1


def test_scores_that_say_nothing_recover_half_on_average() -> None:
    source = random.Random(5)  # noqa: S311 - the same draws every time
    outcomes = [source.choice((BOTH, STRONG, STRONG, NEITHER)) for _ in range(4000)]
    assert abs(apgr(outcomes, [source.random() for _ in outcomes]) - 0.5) < 0.03


def test_equal_scores_count_as_they_stand() -> None:
    assert apgr([STRONG, BOTH], [1, 1]) == 0.75
    assert apgr([BOTH, STRONG], [1, 1]) == 0.25


def test_without_a_gap_there_is_none_to_recover() -> None:
    with pytest.raises(ZeroDivisionError):
        apgr([BOTH, NEITHER], [1, 2])


def test_the_saving_ends_where_the_mix_is_good_enough() -> None:
    outcomes = [STRONG, STRONG, BOTH, BOTH, BOTH]
    assert strong_share(outcomes, [5, 4, 3, 2, 1], of_strong=0.8) == 1 / 5
    assert strong_share(outcomes, [5, 4, 3, 2, 1], of_strong=1.0) == 2 / 5
    assert strong_share(outcomes, [1, 2, 3, 4, 5], of_strong=1.0) == 1.0


def test_a_weak_model_that_is_good_enough_needs_no_strong_one() -> None:
    assert strong_share([BOTH, WEAK, STRONG], [1, 2, 3]) == 0


kinds = st.sampled_from([BOTH, STRONG, WEAK, NEITHER])


@given(st.lists(st.tuples(kinds, st.integers(0, 5)), min_size=1, max_size=60))
def test_the_figures_agree_with_a_count_of_every_mix(drawn: list[tuple[Outcome, int]]) -> None:
    outcomes, scores = [outcome for outcome, _ in drawn], [float(value) for _, value in drawn]
    weak, strong = sum(outcome.weak for outcome in outcomes), sum(outcome.strong for outcome in outcomes)
    order = sorted(range(len(drawn)), key=lambda at: (-scores[at], at))
    right = [
        sum(outcomes[at].strong if rank < calls else outcomes[at].weak for rank, at in enumerate(order))
        for calls in range(len(drawn) + 1)
    ]
    if strong != weak:
        area = sum((a + b) / 2 for a, b in pairwise(right)) / len(drawn)
        assert apgr(outcomes, scores) == pytest.approx((area - weak) / (strong - weak))
    enough = [calls for calls, number in enumerate(right) if number >= 0.95 * strong]
    assert strong_share(outcomes, scores) == min(enough) / len(drawn)
