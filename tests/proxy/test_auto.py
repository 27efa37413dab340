"""What `auto` chooses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.auto import LEANINGS, Candidate, choose, few

TWO = [Candidate("small", 1), Candidate("large", 9)]
needs = st.floats(0, 1)
candidates = st.lists(
    st.builds(Candidate, st.uuids().map(str), st.integers(0, 100), st.sampled_from(["", "", "takes no pictures"])), max_size=6
)


def test_a_simple_request_goes_to_the_weak_model_and_a_hard_one_to_the_strong() -> None:
    assert [found.model for need in (0.1, 0.9) if (found := choose("auto", need, TWO))] == ["small", "large"]


def test_leanings_move_the_border() -> None:
    at = {leaning: choose(leaning, 0.6, TWO) for leaning in LEANINGS}
    assert {leaning: found and found.model for leaning, found in at.items()} == {
        "auto": "large",
        "auto:cheap": "small",
        "auto:best": "large",
    }


def test_the_decision_says_why_not_the_others() -> None:
    found = choose(
        "auto", 0.4, [Candidate("tiny", 0, "takes no pictures"), Candidate("a", 1), Candidate("b", 2), Candidate("c", 3)]
    )
    assert found is not None
    assert (found.model, dict(found.alternatives)) == (
        "b",
        {"tiny": "takes no pictures", "a": "weaker than the request needs", "c": "dearer than the request needs"},
    )


@given(st.sampled_from(LEANINGS), needs, candidates)
def test_only_what_can_serve_the_call_is_chosen_and_nothing_is_left_out(
    leaning: str, need: float, given: list[Candidate]
) -> None:
    found = choose(leaning, need, given)  # type: ignore[arg-type]
    able = [candidate.model for candidate in given if not candidate.why_not]
    if found is None:
        assert not able
    else:
        assert found.model in able
        assert {found.model, *(name for name, _ in found.alternatives)} == {candidate.model for candidate in given}
        assert all(why for _, why in found.alternatives)


@given(st.sampled_from(LEANINGS), needs, needs, candidates)
def test_who_needs_more_never_gets_less(leaning: str, one: float, other: float, given: list[Candidate]) -> None:
    order = [candidate.model for candidate in given]
    low, high = (choose(leaning, need, given) for need in sorted((one, other)))  # type: ignore[arg-type]
    if low and high:
        assert order.index(low.model) <= order.index(high.model)


@given(candidates)
def test_a_few_stand_for_all(given: list[Candidate]) -> None:
    found = few(given)
    able = [candidate for candidate in given if not candidate.why_not]
    assert len(found) == min(3, len(able))
    assert all(one in able for one in found)
    if able:
        assert found[0].price == min(one.price for one in able)
        assert found[-1].price == max(one.price for one in able)
