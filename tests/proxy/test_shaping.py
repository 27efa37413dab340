"""What budgets do to a call short of refusing it: a shorter answer, a cheaper model, a smaller hold, an early end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway_project.lib.money import NANO
from orgs.services.changes import changing
from tests.gateways import Gateway
from tests.house import MESSAGES, House, eventually, raw
from tests.proxy.calls import body
from tests.upstream import DONE, Upstream, answer, frame, frames, stream, usage_of

CENT = NANO // 100


# --- clamped -----------------------------------------------------------------------------------
def test_with_the_switch_off_a_call_is_refused_instead_of_shortened(gateway: Gateway, house: House, upstream: Upstream) -> None:
    house.policy(("budget", "month", CENT), clamp=False)

    got = raw(gateway.url, house.key_text, body())

    assert (got.status_code, got.json()["error"]["code"]) == (403, "budget_exceeded")
    assert upstream.received == []


def test_the_nearest_policy_that_says_anything_about_it_decides(gateway: Gateway, house: House) -> None:
    house.policy(("budget", "month", CENT), clamp=False, to={"group": house.world.root})
    assert raw(gateway.url, house.key_text, body()).status_code == 403

    house.policy(clamp=True, to={"member": house.world.mia})
    assert "x-gatehouse-max-tokens" in raw(gateway.url, house.key_text, body()).headers


@pytest.mark.parametrize(("least", "status"), [(2000, 200), (3000, 403)])
def test_an_answer_is_never_shortened_below_the_least_useful_length(
    gateway: Gateway, house: House, upstream: Upstream, least: int, status: int
) -> None:
    """A cent pays for somewhat less than 2,500 tokens."""
    house.policy(("budget", "month", CENT), clamp_least_tokens=least)

    got = raw(gateway.url, house.key_text, body())

    assert got.status_code == status
    if status == 200:
        clamped = int(got.headers["x-gatehouse-max-tokens"])
        assert 2400 < clamped < 2500
        assert upstream.received[-1].json["max_tokens"] == clamped
        assert house.row_of(got.headers["x-request-id"]).decision["clamped_to"] == clamped


# --- degraded ----------------------------------------------------------------------------------
def near_cap(house: House, gateway: Gateway, upstream: Upstream, model: str, **settings: Any) -> None:
    """Nine tenths of ten cents are spent, and from half on calls go to `model`."""
    upstream.then(answer(usage=(10, 900)))
    house.client(gateway.url).chat.completions.create(model="output-only", messages=MESSAGES, max_tokens=900)
    house.policy(("budget", "month", NANO // 10), degrade_percent=50, degrade_model=model, **settings)


def test_near_its_cap_a_budget_sends_calls_to_the_cheaper_model(gateway: Gateway, house: House, upstream: Upstream) -> None:
    near_cap(house, gateway, upstream, "scripted")

    got = raw(gateway.url, house.key_text, body(model="output-only", max_tokens=500))

    assert got.status_code == 200
    assert upstream.received[-1].json["model"] == "scripted"
    assert (got.headers["x-gatehouse-model"], got.headers["x-gatehouse-degraded-from"]) == ("scripted", "output-only")
    row = house.row_of(got.headers["x-request-id"])
    assert (row.requested_model, row.served_model, row.charged_nano_usd) == ("output-only", "scripted", 18_000)
    degraded = row.decision["degraded"]
    assert (degraded["from"], degraded["to"], degraded["level"], degraded["window"]) == (
        "output-only", "scripted", "key", "month",
    )  # fmt: skip
    assert house.nothing_held()


def test_far_from_its_cap_it_sends_them_nowhere(gateway: Gateway, house: House, upstream: Upstream) -> None:
    house.policy(("budget", "month", NANO), degrade_percent=50, degrade_model="scripted")

    got = raw(gateway.url, house.key_text, body(model="output-only", max_tokens=500))

    assert "x-gatehouse-degraded-from" not in got.headers
    assert upstream.received[-1].json["model"] == "output-only"


def test_a_stream_is_degraded_as_well(gateway: Gateway, house: House, upstream: Upstream) -> None:
    near_cap(house, gateway, upstream, "scripted")

    got = raw(gateway.url, house.key_text, body(model="output-only", max_tokens=500, stream=True))

    assert got.headers["x-gatehouse-degraded-from"] == "output-only"
    assert got.content.endswith(DONE)


@pytest.mark.parametrize("model", ["no-such-model", "unpriced", "output-only", "pair"])
def test_where_the_cheaper_model_cannot_be_had_the_call_stays_as_it_is(
    gateway: Gateway, house: House, upstream: Upstream, model: str
) -> None:
    """It is unknown, has no price, is the very model that was asked for, or is blocked."""
    house.policy(rules={"blocked_models": ["pair"]}, to={"group": house.world.root})
    near_cap(house, gateway, upstream, model)

    stays = raw(gateway.url, house.key_text, body(model="output-only", max_tokens=50))
    refused = raw(gateway.url, house.key_text, body(model="output-only", max_tokens=500))

    assert stays.status_code == 200
    assert "x-gatehouse-degraded-from" not in stays.headers
    assert "degraded" not in house.row_of(stays.headers["x-request-id"]).decision
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "budget_exceeded")


def test_a_cheaper_model_that_is_too_dear_is_refused_all_the_same(gateway: Gateway, house: House, upstream: Upstream) -> None:
    near_cap(house, gateway, upstream, "scripted")

    got = raw(gateway.url, house.key_text, body(model="output-only", max_tokens=4000))

    assert (got.status_code, got.json()["error"]["code"]) == (403, "budget_exceeded")
    assert house.nothing_held()


# --- observed ----------------------------------------------------------------------------------
def past_answers(gateway: Gateway, house: House, upstream: Upstream, *outputs: int, finish: str = "stop") -> None:
    upstream.then(*(answer(usage=(10, output), finish=finish) for output in outputs))
    for _ in outputs:
        assert raw(gateway.url, house.key_text, body(model="output-only")).status_code == 200


def test_what_is_held_is_what_answers_usually_need(gateway: Gateway, house: House, upstream: Upstream) -> None:
    """Nineteen answers in twenty had at most 190 tokens."""
    past_answers(gateway, house, upstream, *range(10, 210, 10))
    house.policy(("budget", "month", NANO), observed_holds=True)
    upstream.on("output-only", answer(usage=(10, 50)))

    got = raw(gateway.url, house.key_text, body(model="output-only"))

    assert (got.headers["x-gatehouse-max-tokens"], got.headers["x-gatehouse-hold"]) == ("190", "observed")
    assert upstream.received[-1].json["max_tokens"] == 190
    row = house.row_of(got.headers["x-request-id"])
    assert (row.decision["observed_cap"], row.reserved_nano_usd) == (190, 190 * NANO // 10_000)


def test_too_few_answers_tell_nothing(gateway: Gateway, house: House, upstream: Upstream) -> None:
    past_answers(gateway, house, upstream, *range(10, 200, 10))
    house.policy(observed_holds=True)

    got = raw(gateway.url, house.key_text, body(model="output-only"))

    assert "x-gatehouse-hold" not in got.headers
    assert "max_tokens" not in upstream.received[-1].json


def test_who_asks_for_less_than_usual_gets_that(gateway: Gateway, house: House, upstream: Upstream) -> None:
    past_answers(gateway, house, upstream, *[100] * 20)
    house.policy(observed_holds=True)

    got = raw(gateway.url, house.key_text, body(model="output-only", max_tokens=60))

    assert "x-gatehouse-hold" not in got.headers
    assert upstream.received[-1].json["max_tokens"] == 60


def test_where_many_answers_were_cut_short_the_next_holds_are_larger(
    gateway: Gateway, second_gateway: Gateway, house: House, upstream: Upstream
) -> None:
    """Counted as they are, answers that end at the hold could only ever make it smaller."""
    past_answers(gateway, house, upstream, *[40] * 20)
    house.policy(observed_holds=True)
    past_answers(gateway, house, upstream, 40, 40, finish="length")

    # This worker has not looked yet; what the other one has read counts there for a minute.
    got = raw(second_gateway.url, house.key_text, body(model="output-only"))

    assert got.headers["x-gatehouse-max-tokens"] == "80"


def test_answers_of_a_cheaper_model_say_nothing_of_the_one_asked_for(gateway: Gateway, house: House, upstream: Upstream) -> None:
    near = house.policy(("budget", "month", NANO), degrade_percent=1, degrade_model="scripted")
    past_answers(gateway, house, upstream, *[100] * 20)
    with changing(house.organization):
        near.delete()
    house.policy(observed_holds=True)

    assert "x-gatehouse-hold" not in raw(gateway.url, house.key_text, body(model="output-only")).headers


# --- used up -----------------------------------------------------------------------------------
LONG: list[bytes | float] = [frame({"role": "assistant", "content": ""})]
for _ in range(40):
    LONG += [frame({"content": "word " * 100}), 0.02]


@pytest.mark.parametrize("include_usage", [False, True])
def test_a_provider_that_does_not_listen_is_cut_where_the_hold_is_used_up(
    gateway: Gateway, house: House, upstream: Upstream, include_usage: bool
) -> None:
    """Told to write 20 tokens it writes 4,000 words, and would go on for ever."""
    upstream.on("output-only", stream(*LONG, ending="hang"))
    options = {"stream_options": {"include_usage": True}} if include_usage else {}

    chunks = list(
        house.client(gateway.url).chat.completions.create(
            model="output-only",
            messages=MESSAGES,
            max_tokens=20,
            stream=True,
            **options,  # type: ignore[call-overload]
        )
    )

    assert upstream.received[-1].gone.wait(5)
    told = [chunk for chunk in chunks if chunk.choices]
    assert told[-1].choices[0].finish_reason == "length"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in told)
    assert 20 * 16 < len(text) < 2000
    assert (chunks[-1].usage is not None) is include_usage
    (row,) = eventually(house.rows)
    held = 20 * NANO // 10_000
    assert (row.status, row.error_code, row.finish_reason, row.http_status) == ("cut", "hold_used_up", "length", 200)
    assert (row.reserved_nano_usd, row.charged_nano_usd) == (held, held)
    assert row.absorbed_nano_usd == row.list_nano_usd - held > 0
    assert house.counter("org") == {"spent": held, "held": 0}


def test_an_observed_hold_that_a_stream_would_pass_ends_it_and_header_and_row_say_why(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    """Answers usually have 30 tokens, so no more is held; the provider is told so, and writes 4,000 words."""
    past_answers(gateway, house, upstream, *[30] * 20)
    house.policy(("budget", "month", NANO), observed_holds=True)
    held, before = 30 * NANO // 10_000, house.counter("org")["spent"]
    upstream.on("output-only", stream(*LONG, ending="hang"))

    got = raw(gateway.url, house.key_text, body(model="output-only", stream=True))

    assert upstream.received[-1].json["max_tokens"] == 30
    assert upstream.received[-1].gone.wait(5)
    assert (got.headers["x-gatehouse-hold"], got.headers["x-gatehouse-max-tokens"]) == ("observed", "30")
    assert got.content.endswith(DONE)
    last = json.loads(got.text.split("data: ")[-2])
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "length"}]
    row = house.row_of(got.headers["x-request-id"])
    assert (row.status, row.error_code, row.finish_reason) == ("cut", "hold_used_up", "length")
    assert row.decision["observed_cap"] == 30
    assert row.output_tokens > 30, "what it wrote is told"
    assert (row.reserved_nano_usd, row.charged_nano_usd, row.absorbed_nano_usd) == (held, held, row.list_nano_usd - held)
    assert house.nothing_held()
    assert house.counter("org") == {"spent": before + held, "held": 0}


def test_a_cut_stream_ends_in_good_order_for_each_choice(gateway: Gateway, house: House, upstream: Upstream) -> None:
    second = [frame({"content": "word " * 100}, index=1) for _ in range(40)]
    upstream.on("output-only", stream(frame({"content": "x"}), frame({}, finish="stop"), *second, ending="hang"))

    got = raw(gateway.url, house.key_text, body(model="output-only", max_tokens=20, n=2, stream=True))

    assert got.content.endswith(b"\n\n" + DONE)
    last = json.loads(got.text.split("data: ")[-2])
    assert last["choices"] == [{"index": 1, "delta": {}, "finish_reason": "length"}]


def test_a_provider_that_sends_too_much_at_once_is_cut_before_it_sends_more(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    """All of it comes with the first chunk, and no other."""
    upstream.on("output-only", stream(b"".join([frame({"content": "word " * 100})] * 40), ending="hang"))

    got = raw(gateway.url, house.key_text, body(model="output-only", max_tokens=20, stream=True))

    assert upstream.received[-1].gone.wait(5)
    assert got.content.endswith(DONE)
    (row,) = eventually(house.rows)
    assert (row.status, row.finish_reason, row.charged_nano_usd) == ("cut", "length", 20 * NANO // 10_000)


def test_a_provider_that_counts_aloud_is_cut_by_its_own_count(gateway: Gateway, house: House, upstream: Upstream) -> None:
    """Some send what was used so far with every chunk: 30 tokens, although the text is short."""
    counted = [frame({"content": "ab"}, usage=usage_of(10, used)) for used in (10, 20, 30)]
    upstream.on("output-only", stream(*counted, 0.2, frame({"content": "more"}), ending="hang"))

    got = raw(gateway.url, house.key_text, body(model="output-only", max_tokens=20, stream=True))

    assert got.content.endswith(DONE)
    (row,) = eventually(house.rows)
    assert (row.status, row.output_tokens, row.usage_estimated) == ("cut", 30, False)
    assert (row.charged_nano_usd, row.absorbed_nano_usd) == (20 * NANO // 10_000, 10 * NANO // 10_000)


@pytest.mark.parametrize("text", ["-" * 400, " " * 128 + "x", "Donaudampfschifffahrtsgesellschaft"])
def test_long_tokens_of_a_short_answer_are_no_reason_to_cut_it(
    gateway: Gateway, house: House, upstream: Upstream, text: str
) -> None:
    upstream.on("scripted", stream(*frames(text, usage=(10, 4), finish="length")))

    got = raw(gateway.url, house.key_text, body(max_tokens=4, stream=True))

    assert text in got.text
    (row,) = eventually(house.rows)
    assert (row.status, row.output_tokens) == ("ok", 4)


def test_an_answer_that_was_already_complete_is_not_cut(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("output-only", stream(frame({"content": "w" * 5000}, finish="stop"), frame(usage=usage_of(10, 20)), DONE))

    got = raw(gateway.url, house.key_text, body(model="output-only", max_tokens=20, stream=True))

    assert '"stop"' in got.text
    (row,) = eventually(house.rows)
    assert (row.status, row.charged_nano_usd) == ("ok", 20 * NANO // 10_000)


def test_a_caller_is_never_told_the_code_of_a_used_up_hold(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("output-only", stream(*LONG, ending="hang"))

    got = raw(gateway.url, house.key_text, body(model="output-only", max_tokens=20, stream=True))

    assert got.status_code == 200
    assert "hold_used_up" not in got.text
