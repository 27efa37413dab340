"""The mix holds every kind of call, is the same for the same seed, and asks for nothing that a judge could not price."""

from __future__ import annotations

import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.torture import mix
from tests.torture.company import MODELS, cost, worst

NAMES = tuple(MODELS)


@given(st.integers(), st.integers(0, 50_000))
def test_a_call_is_the_same_for_the_same_seed(seed: int, number: int) -> None:
    assert mix.ask(number, seed=seed) == mix.ask(number, seed=seed)


@given(st.integers(0, 5_000))
def test_no_answer_costs_more_than_may_be_held_for_it(number: int) -> None:
    asked = mix.ask(number, seed=3)
    body = asked.script.request(model=NAMES[asked.model], max_tokens=asked.max_tokens, stream=asked.stream)
    model = NAMES[asked.model]

    full = cost(model, input_tokens=asked.script.input_tokens, output_tokens=asked.script.output_tokens)
    assert full <= worst(model, max_tokens=asked.max_tokens, bytes_sent=len(body))
    # What is counted by the length of the text is less than what the provider would report.
    assert len(asked.script.text) / 4 <= asked.script.output_tokens


def test_every_kind_occurs() -> None:
    asked = [mix.ask(number, seed=1) for number in range(2_000)]

    assert {one.script.ending for one in asked} == {"ok", "status", "reset", "hang", "cut", "error", "stall"}
    assert {one.leave.when for one in asked} == {"never", "sent", "headers", "deltas"}
    plain = Counter(one.stream for one in asked if one.script.ending == "ok" and one.leave.when == "never")
    assert min(plain.values()) > 400
    assert {one.model for one in asked} == {0, 1}
    exact = sum(one.max_tokens == one.script.output_tokens for one in asked)
    assert 800 < exact < 1_300


def test_the_prompt_is_the_script() -> None:
    asked = mix.ask(5, seed=1)
    body = json.loads(asked.script.request(model="m", max_tokens=9, stream=True))

    assert (body["model"], body["max_tokens"], body["stream"]) == ("m", 9, True)
    assert json.loads(body["messages"][0]["content"])["number"] == 5


def test_prices_by_hand() -> None:
    assert cost("torture-output", input_tokens=1_000, output_tokens=1_000) == 100_000_000
    assert cost("torture-input", input_tokens=1_000, output_tokens=1_000) == 101_000_000
    assert worst("torture-output", max_tokens=1_000, bytes_sent=500) == 100_000_000
