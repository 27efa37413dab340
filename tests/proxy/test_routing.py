"""From what was asked to where it may go, and the most it can cost there."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import UNBOUNDED, Rates, bill
from proxy import routing
from proxy.canonical.request import Request
from proxy.canonical.usage import Usage
from proxy.choosing import Choice
from proxy.deployments import Catalogue, Deployment, Model
from proxy.errors import BadRequest, ModelNotFound, ModelUnpriced
from proxy.protocols import chat_completions, responses
from proxy.protocols.counts import USUAL_SEARCHES
from proxy.providers import registry
from proxy.providers.base import Timeouts
from proxy.routing import DEFAULT_MAX_OUTPUT, LEAST_OUTPUT, USUAL_OUTPUT, Bounds, Plan
from tests.proxy.calls import body, deployment, model

CHEAP = Rates(input=10**9, output=4 * 10**9)
OPENAI = registry.provider("openai")
DEAR = Rates(input=5 * 10**9, output=3 * 10**9)


def request(**members: Any) -> Request:
    return chat_completions.parse(body(**members))


def catalogue(*deployments: Deployment, **fields: Any) -> Catalogue:
    return Catalogue("e", {"scripted": model(*deployments, name="scripted", **fields)}, float("inf"))


def plan(*deployments: Deployment, max_output_tokens: int | None = 4096, **members: Any) -> Plan:
    return planned(model(*deployments, max_output_tokens=max_output_tokens), request(**members))


def planned(found: Model, asked: Request, **bounds: Any) -> Plan:
    choices = [Choice(one, "order") for one in found.deployments]
    return routing.plan(found, asked, choices=choices, bounds=Bounds(**bounds))


def test_searches_that_a_provider_may_make_are_held_and_stay_within_what_a_budget_affords() -> None:
    searching = msgspec.structs.replace(CHEAP, units={"web_search": 10_000_000})
    tools = [{"type": "openrouter:web_search"}]
    plain, dear = plan(deployment(rates=CHEAP), tools=tools), plan(deployment(rates=searching), tools=tools)
    assert dear.worst_case == plain.worst_case + USUAL_SEARCHES * 10_000_000
    assert routing.affordable(dear, request(tools=tools), amount=dear.worst_case) == routing.affordable(
        plain, request(tools=tools), amount=plain.worst_case
    )


def test_pictures_that_another_model_may_draw_are_held_and_stay_within_what_a_budget_affords() -> None:
    found = model(deployment(rates=msgspec.structs.replace(CHEAP, image_input=10**10, image_output=4 * 10**10)))
    found = msgspec.structs.replace(
        found, deployments=tuple(msgspec.structs.replace(one, provider=OPENAI) for one in found.deployments)
    )
    tools: Any = [{"type": "image_generation"}]
    one, three = (responses.parse(body(tools=tools, max_tool_calls=number, input="Hi")) for number in (1, 3))
    dear = planned(found, three)
    assert dear.worst_case == planned(found, one).worst_case + 2 * 6_700 * 40_000
    assert routing.affordable(dear, three, amount=dear.worst_case) >= dear.output_cap
    assert routing.affordable(dear, three, amount=dear.worst_case - 4_096 * 40_000) < 2


def test_a_model_that_draws_itself_needs_no_price_for_another() -> None:
    asked = responses.parse(body(tools=[{"type": "image_generation"}], input="Hi"))
    assert planned(model(deployment(rates=CHEAP)), asked)
    with pytest.raises(BadRequest, match="no price for pictures"):
        planned(model(msgspec.structs.replace(deployment(rates=CHEAP), provider=OPENAI)), asked)


def test_an_unknown_model_is_not_found_and_its_name_is_cut() -> None:
    with pytest.raises(ModelNotFound) as caught:
        routing.find(catalogue(), "x" * 5000)
    assert len(caught.value.message) < 200
    assert caught.value.param == "model"


@pytest.mark.parametrize(
    ("name", "meant"), [("scriptde", True), ("scripted-1", True), ("Scripted", True), ("sonnet", False), ("", False)]
)
def test_a_slip_of_the_pen_is_told_what_was_meant(name: str, meant: bool) -> None:
    with pytest.raises(ModelNotFound) as caught:
        routing.find(catalogue(), name)
    assert ("Did you mean 'scripted'?" in caught.value.message) == meant


def test_a_model_of_another_kind_is_refused() -> None:
    found = catalogue()
    found.models["scripted"] = msgspec.structs.replace(found.models["scripted"], kind="embedding")
    with pytest.raises(BadRequest, match="for embedding, not for chat"):
        routing.find(found, "scripted")


@pytest.mark.parametrize("tier", ["priority", "fast", "ultrafast", "Fast", "PRIORITY", "batch", "x" * 500])
def test_a_tier_with_a_price_of_its_own_is_refused(tier: str) -> None:
    with pytest.raises(BadRequest, match=tier[:40]) as refused:
        plan(service_tier=tier)
    assert len(refused.value.message) < 200


@pytest.mark.parametrize("tier", ["auto", "AUTO", "default", "Flex", "flex", "standard_only", "", None])
def test_a_tier_that_costs_no_more_than_the_list_says_is_not(tier: str | None) -> None:
    assert plan(service_tier=tier)


def test_a_model_of_which_any_deployment_has_no_price_is_refused() -> None:
    """A fallback to it could cost anything."""
    with pytest.raises(ModelUnpriced):
        plan(deployment(), msgspec.structs.replace(deployment(id=2), price=None))


@pytest.mark.parametrize(
    ("members", "models_own", "cap", "written", "may_be_clamped"),
    [
        ({"max_tokens": 100}, 4096, 100, None, False),
        ({"max_completion_tokens": 100}, None, 100, None, False),
        ({"max_tokens": 100, "max_completion_tokens": 300}, 4096, 300, None, False),
        ({}, 4096, 4096, None, True),
        ({}, None, DEFAULT_MAX_OUTPUT, DEFAULT_MAX_OUTPUT, True),
    ],
)
def test_the_output_is_bounded_by_caller_model_or_gateway(
    members: dict[str, Any], models_own: int | None, cap: int, written: int | None, may_be_clamped: bool
) -> None:
    found = plan(max_output_tokens=models_own, **members)
    assert (found.output_cap, found.max_tokens, found.least is not None) == (cap, written, may_be_clamped)


@pytest.mark.parametrize(
    ("members", "maximum", "window", "cap", "written"),
    [
        ({"max_tokens": 2**31}, 4096, None, 4096, 4096),
        ({"max_completion_tokens": 2**53}, 4096, 9000, 4096, 4096),
        ({"max_tokens": 2**31 - 1}, None, 9000, 9000, 9000),
        ({"max_tokens": 4097}, 4096, None, 4096, 4096),
        ({"max_tokens": 4096}, 4096, None, 4096, None),
        ({"max_tokens": 2**31}, None, None, 2**31 - 1, None),
    ],
)
def test_more_than_the_model_can_write_is_held_and_asked_for_as_all_it_can(
    members: dict[str, Any], maximum: int | None, window: int | None, cap: int, written: int | None
) -> None:
    found = planned(model(deployment(), max_output_tokens=maximum, context_window=window), request(**members))
    assert (found.output_cap, found.max_tokens, found.least) == (cap, written, None)


def test_the_worst_case_is_that_of_the_dearest_deployment_and_of_every_choice() -> None:
    asked = request(max_tokens=100, n=3)
    tokens = asked.input_tokens_estimate
    # Half a nano-dollar for each part that may round up: three kinds of input, one of output.
    by_hand = {"cheap": tokens * 1_000 + 300 * 4_000, "dear": tokens * 5_000 + 300 * 3_000}
    assert by_hand["cheap"] > by_hand["dear"]
    both = plan(deployment(rates=CHEAP), deployment(rates=DEAR, id=2), max_tokens=100, n=3)
    assert by_hand["cheap"] <= both.worst_case <= by_hand["cheap"] + 3
    assert both.worst_case == plan(deployment(rates=CHEAP), max_tokens=100, n=3).worst_case


def test_the_least_is_the_cost_of_a_very_short_answer() -> None:
    found = plan(deployment(rates=CHEAP))
    assert found.least == plan(deployment(rates=CHEAP), max_tokens=LEAST_OUTPUT).worst_case
    assert plan(deployment(rates=CHEAP), max_output_tokens=5).least == plan(deployment(rates=CHEAP), max_tokens=5).worst_case


@given(
    st.integers(0, 10**11),
    st.integers(0, 10**11),
    st.integers(1, 4),
    st.integers(1, 10_000),
    st.integers(0, 10_000),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_no_answer_within_its_cap_costs_more_than_was_reserved(
    input_price: int, output_price: int, n: int, cap: int, other_price: int, input_part: float, cached: float
) -> None:
    rates = Rates(input=input_price, output=output_price, cache_read=other_price * 10**6)
    found = plan(deployment(rates=rates), max_tokens=cap, n=n)
    tokens = int(request(n=n).input_tokens_estimate * input_part)
    read = int(tokens * cached)
    price = found.deployments[0].price
    assert price is not None

    usage = Usage(input_uncached=tokens - read, cache_read=read, output=found.output_cap * n)

    assert bill(price, usage).total <= found.worst_case


@pytest.mark.parametrize(
    "part",
    [
        {"type": "video_url", "video_url": {"url": "https://example.com/v.mp4"}},
        {"type": "file", "file": {"file_data": "https://example.com/a.mp3"}},
    ],
)
def test_a_film_or_a_file_costs_no_more_than_was_reserved_though_what_is_heard_in_it_has_its_own_price(
    part: dict[str, Any],
) -> None:
    rates = Rates(input=300_000_000, audio_input=1_000_000_000, output=2_500_000_000)
    found = plan(deployment(rates=rates), max_tokens=100, messages=[{"role": "user", "content": [part]}])
    heard = (
        b'{"choices":[],"usage":{"prompt_tokens":90000,"completion_tokens":100,"prompt_tokens_details":{"audio_tokens":60000}}}'
    )
    usage, price = chat_completions.read_reply(heard).usage, found.deployments[0].price
    assert usage is not None
    assert price is not None

    assert usage.audio_input == 60_000
    assert bill(price, usage).total == 69_250_000 <= found.worst_case


@given(st.integers(1, 10**11), st.integers(1, 10**11), st.integers(1, 4), st.integers(0, 10**15))
def test_the_affordable_cap_never_costs_more_than_what_was_reserved(
    input_price: int, output_price: int, n: int, amount: int
) -> None:
    deployments = (
        deployment(rates=Rates(input=input_price, output=output_price)),
        deployment(rates=Rates(input=output_price, output=input_price), id=2),
    )
    asked = request(n=n)
    found = planned(model(*deployments), asked)

    cap = routing.affordable(found, asked, amount=amount)

    if cap >= 0:
        assert routing.most(found.deployments, asked, output=cap) <= amount
        assert cap == UNBOUNDED or routing.most(found.deployments, asked, output=cap + 1) > amount
    else:
        assert routing.most(found.deployments, asked, output=0) > amount


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({}, True),
        ({"modalities": ["text", "audio"]}, False),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]}, False),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": ""}}]}]}, False),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]}, False),
        ({"messages": [{"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": "https://x/a"}}]}]}, False),
        ({"messages": [{"role": "user", "content": ["x", {"type": "text", "text": "y"}]}]}, True),
        ({"messages": [{"role": "assistant", "content": [{"type": "refusal", "refusal": "No"}]}]}, True),
    ],
)
def test_only_what_can_hold_nothing_else_is_text(members: dict[str, Any], text: bool) -> None:
    assert request(**members).text_only is text


def test_the_order_and_its_reasons_are_kept() -> None:
    choices = [Choice(deployment(id=2), "cheapest"), Choice(deployment(id=1), "circuit open")]
    found = routing.plan(model(), request(), choices=choices, bounds=Bounds())
    assert [one.id for one in found.deployments] == [2, 1]
    assert found.reasons == ("cheapest", "circuit open")


def test_the_whole_call_is_bounded_by_the_time_of_the_model_asked_for() -> None:
    def patient(seconds: float, **fields: Any) -> Deployment:
        found = deployment(**fields)
        return msgspec.structs.replace(found, target=msgspec.structs.replace(found.target, timeouts=Timeouts(total=seconds)))

    assert plan(patient(9, offered="other", id=2), patient(5)).total_seconds == 5
    assert plan(patient(9, offered="other", id=2)).total_seconds == 9


@pytest.mark.parametrize(
    ("bounds", "members", "cap", "written", "observed"),
    [
        ({"most": 500}, {}, 500, 500, False),
        ({"most": 500}, {"max_tokens": 200}, 200, None, False),
        ({"usual": 300}, {}, 300, 300, True),
        ({"usual": 300}, {"max_tokens": 900}, 300, 300, True),
        ({"usual": 300}, {"max_tokens": 200}, 200, None, False),
        ({"usual": 300, "most": 100}, {}, 100, 100, False),
        ({"usual": 9000}, {}, 4096, None, False),
    ],
)
def test_policies_bound_the_output_and_the_hold(
    bounds: dict[str, int], members: dict[str, Any], cap: int, written: int | None, observed: bool
) -> None:
    found = planned(model(), request(**members), **bounds)

    assert (found.output_cap, found.max_tokens, found.observed) == (cap, written, observed)
    assert found.worst_case == plan(max_tokens=cap).worst_case


@pytest.mark.parametrize(("least", "shortest"), [(None, None), (50, 50), (9000, 4096)])
def test_the_least_useful_answer_is_what_the_policy_says(least: int | None, shortest: int | None) -> None:
    found = planned(model(), request(), least=least)
    assert found.least == (None if shortest is None else plan(max_tokens=shortest).worst_case)


@pytest.mark.parametrize(
    ("members", "rate", "counted"),
    [
        ({}, None, USUAL_OUTPUT),
        ({"max_tokens": 5}, None, 5),
        ({"max_tokens": 3000}, 200, 3000),
        ({}, 200, 200 - request().input_tokens_estimate),
        ({}, 1, 0),
        ({"n": 2}, None, 2 * USUAL_OUTPUT),
    ],
)
def test_a_guess_of_the_answer_is_never_more_than_a_minute_allows(
    members: dict[str, Any], rate: int | None, counted: int
) -> None:
    asked = request(**members)
    assert planned(model(), asked, tokens=rate).tokens == asked.input_tokens_estimate + counted


@pytest.mark.parametrize("member", [b'"service_tier":"\\ud800"', b'"prompt_cache_key":"\\ud800"'])
def test_half_a_character_in_a_member_that_is_read_is_no_fault_of_ours(member: bytes) -> None:
    asked = chat_completions.parse(b'{"model":"m","messages":[{"role":"user","content":"x"}],' + member + b"}")
    assert routing._decoded(asked, member.split(b'"')[1].decode()) == "\N{REPLACEMENT CHARACTER}"
