"""Responses through the front door, by the official SDK: passed on to providers that speak them, translated for the others."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import openai
import pytest
from django.db import transaction
from pydantic import BaseModel

from billing import prices
from gateway_project.lib.money import exact_usd
from orgs import epoch
from orgs.models import Organization
from tests.gateways import Gateway
from tests.house import MESSAGES, RATES, House, declare, eventually, leave, raw
from tests.proxy.responses_wire import (
    Members,
    assembled,
    called,
    events_in,
    failed,
    frame,
    frames_of,
    incomplete,
    response,
    said,
    sound_response,
    thought,
)
from tests.upstream import Script, Upstream, answer, frames, refuse, stream
from tests.upstream import frame as chunk

# Of tests.proxy.responses_wire.USAGE at the price of "scripted": six tokens fresh or written, four cached, seven out.
COST = 6 * 1_000 + 4 * 100 + 7 * 4_000
LOOK: Any = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}, "strict": True}


def body(**members: Any) -> bytes:
    return json.dumps({"model": "native", "input": "Tell me about the gate.", **members}).encode()


def whole(told: Members) -> Script:
    return Script(parts=(json.dumps(told).encode(),))


@pytest.fixture
def native(house: House, upstream: Upstream) -> str:
    """A model whose provider speaks Responses."""
    declare("native", kind="openai", url=upstream.url)
    return "native"


# --- same protocol on both sides ---------------------------------------------------------------
DRAWING: dict[str, Any] = {"tools": [{"type": "image_generation", "model": "gpt-image-1.5"}]}


def test_a_tool_that_has_another_model_draw_is_refused_where_that_has_no_price(
    gateway: Gateway, house: House, upstream: Upstream, native: str
) -> None:
    got = raw(gateway.url, house.key_text, body(**DRAWING), path="/v1/responses")
    error = got.json()["error"]
    assert (got.status_code, error["type"], error["param"]) == (400, "invalid_request_error", "tools")
    assert "no price for pictures" in error["message"]
    assert upstream.received == []
    assert house.nothing_held()


def test_what_another_model_draws_is_held_for_and_charged_at_its_own_rates(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    declare("drawing", kind="openai", url=upstream.url)
    with transaction.atomic():
        rates = msgspec.structs.replace(RATES["scripted"], image_input=10 * 10**9, image_output=40 * 10**9)
        prices.declare("model:drawing", rates=rates, source="test")
        epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))
    drew = {"image_gen": {"input_tokens": 50, "output_tokens": 4160, "total_tokens": 4210}}
    upstream.on("drawing", whole({**response(said("Here.")), "tool_usage": drew}))

    got = raw(gateway.url, house.key_text, body(model="drawing", max_tool_calls=1, **DRAWING), path="/v1/responses")

    assert got.status_code == 200, got.text
    row = house.row_of(got.headers["x-request-id"])
    assert row.charged_nano_usd == row.list_nano_usd == COST + 50 * 10_000 + 4160 * 40_000
    assert house.nothing_held()


def test_who_leaves_a_response_pays_for_the_pictures_that_were_drawn(gateway: Gateway, house: House, upstream: Upstream) -> None:
    """By their quality: what they took in tokens is told at the end."""
    declare("drawing", kind="openai", url=upstream.url)
    with transaction.atomic():
        rates = msgspec.structs.replace(RATES["scripted"], image_input=10 * 10**9, image_output=40 * 10**9)
        prices.declare("model:drawing", rates=rates, source="test")
        epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))
    drawn = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "quality": "low", "result": "AAAA"}
    told = frames_of(response(drawn, said("Here.", number=1)))
    upstream.on("drawing", stream(*told[:-1], 20.0, told[-1]))

    asked = body(model="drawing", max_tool_calls=1, stream=True, **DRAWING)
    leave(gateway.url, house.key_text, asked, path="/v1/responses", after="Here.")

    assert house.nothing_held()
    (row,) = eventually(house.rows)
    assert (row.status, row.usage_estimated) == ("cancelled", True)
    assert row.charged_nano_usd == row.input_tokens * 1_000 + row.output_tokens * 4_000 + 408 * 40_000


def test_a_response_passes_byte_for_byte_and_is_charged(gateway: Gateway, house: House, upstream: Upstream, native: str) -> None:
    sent = json.dumps(response(said("Hello \u2028 Zürich"), odd=[1.50, {"x": None}]), ensure_ascii=False, indent=1).encode()
    upstream.on("native", Script(parts=(sent,)))

    got = raw(gateway.url, house.key_text, body(tools=[{"type": "web_search"}]), path="/v1/responses")

    assert got.content == sent
    assert got.headers["x-gatehouse-cost-usd"] == exact_usd(COST)
    (received,) = upstream.received
    assert received.path == "/v1/responses"
    assert received.json == {
        "model": "native", "input": "Tell me about the gate.", "tools": [{"type": "web_search"}], "store": False,
    }  # fmt: skip
    row = house.row_of(got.headers["x-request-id"])
    assert (row.status, row.protocol, row.charged_nano_usd, row.finish_reason) == ("ok", "responses", COST, "stop")
    assert (row.input_tokens, row.cache_read_tokens, row.cache_write_5m_tokens) == (5, 4, 1)
    assert (row.output_tokens, row.reasoning_tokens) == (7, 3)
    assert house.held() == {}


@pytest.mark.parametrize("streamed", [False, True])
def test_searches_that_openai_makes_are_charged_where_they_have_a_price(
    gateway: Gateway, house: House, upstream: Upstream, streamed: bool
) -> None:
    rates = msgspec.structs.replace(RATES["scripted"], units={"web_search": 10_000_000})
    declare("searching", kind="openai", url=upstream.url)
    with transaction.atomic():
        prices.declare("model:searching", rates=rates, source="test")
        epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))
    search = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "gates"}}
    told = response(search, {**search, "id": "ws_2"}, said("Hello", number=2))
    upstream.on("searching", stream(*frames_of(told)) if streamed else whole(told))

    asked = body(model="searching", tools=[{"type": "web_search"}], stream=streamed)
    got = raw(gateway.url, house.key_text, asked, path="/v1/responses")

    assert got.status_code == 200
    row = house.row_of(got.headers["x-request-id"])
    assert (row.charged_nano_usd, row.absorbed_nano_usd, row.units) == (COST + 2 * 10_000_000, 0, {"web_search": 2})
    assert row.cost_parts["web_search"] == 2 * 10_000_000
    assert house.held() == {}


def test_a_stream_passes_byte_for_byte_and_is_charged(gateway: Gateway, house: House, upstream: Upstream, native: str) -> None:
    sent = frames_of(response(thought("Hm", sealed="x", number=0), said("Hello", number=1), called("look", "{}", number=2)))
    upstream.on("native", stream(*sent))

    got = raw(gateway.url, house.key_text, body(stream=True), path="/v1/responses")

    assert got.content == b"".join(sent)
    (row,) = house.rows()
    assert (row.status, row.streamed, row.charged_nano_usd, row.finish_reason) == ("ok", True, COST, "tool_calls")


def test_the_sdk_streams_parses_and_hears_the_end(gateway: Gateway, house: House, upstream: Upstream, native: str) -> None:
    class Gate(BaseModel):
        name: str

    upstream.on("native", whole(response(said('{"name": "North"}'))))
    client = house.client(gateway.url)
    parsed = client.responses.parse(model="native", input="Which gate?", text_format=Gate)
    assert parsed.output_parsed == Gate(name="North")

    upstream.on("native", stream(*frames_of(response(said("Hello")))))
    with client.responses.stream(model="native", input="Hi") as events:
        assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "Hello"
    assert events.get_final_response().output_text == "Hello"


def test_usage_of_an_answer_that_was_cut_is_charged_too(gateway: Gateway, house: House, upstream: Upstream, native: str) -> None:
    upstream.then(whole(incomplete(said("Hel"))), stream(*frames_of(incomplete(said("Hel")))))

    raw(gateway.url, house.key_text, body(), path="/v1/responses")
    raw(gateway.url, house.key_text, body(stream=True), path="/v1/responses")

    assert [(row.charged_nano_usd, row.finish_reason) for row in house.rows()] == [(COST, "length")] * 2


def test_a_response_that_failed_is_a_failure_and_free(gateway: Gateway, house: House, upstream: Upstream, native: str) -> None:
    upstream.then(whole(failed("server_error", "It broke.")))

    got = raw(gateway.url, house.key_text, body(), path="/v1/responses")

    assert got.status_code == 502
    assert got.json()["error"]["code"] == "provider_error"
    assert house.row_of(got.headers["x-request-id"]).charged_nano_usd == 0


def test_a_stream_that_breaks_is_ended_by_an_error_and_a_failed_response(
    gateway: Gateway, house: House, upstream: Upstream, native: str
) -> None:
    begun = frames_of(response(said("Hello")))[:5]
    upstream.on("native", stream(*begun, 0.05, ending="reset"))

    got = raw(gateway.url, house.key_text, body(stream=True), path="/v1/responses")

    events = events_in(got.content)
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert events[-1]["response"]["id"] == "resp_upstream"
    with pytest.raises(openai.APIError) as raised:
        list(house.client(gateway.url).responses.create(model="native", input="Hi", stream=True))
    assert raised.value.code == "provider_error"


def test_what_the_provider_says_of_its_own_failure_reaches_the_caller(
    gateway: Gateway, house: House, upstream: Upstream, native: str
) -> None:
    broken = frame({"type": "response.failed", "response": failed("server_error", "The model fell over.")}, 3)
    upstream.on("native", stream(*frames_of(response(said("Hello")))[:3], 0.05, broken))

    got = raw(gateway.url, house.key_text, body(stream=True), path="/v1/responses")

    events = events_in(got.content)
    assert events[-1]["type"] == "response.failed"
    assert "The model fell over." in events[-1]["response"]["error"]["message"]


def test_errors_have_openais_shape(gateway: Gateway, house: House, upstream: Upstream, native: str) -> None:
    client = house.client(gateway.url)
    upstream.on("native", refuse(400, "Too long.", code="context_length_exceeded"))
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(model="native", input="Hi")
    assert raised.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="no-such-model", input="Hi")
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(model="native", input="Hi", background=True)
    assert raised.value.param == "background"
    house.limit("budget", 0)
    with pytest.raises(openai.PermissionDeniedError):
        client.responses.create(model="native", input="Hi")


# --- translated --------------------------------------------------------------------------------
def test_a_response_of_a_chat_model(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("scripted", answer("Hello", usage=(10, 2)))

    got = house.client(gateway.url).responses.with_raw_response.create(
        model="scripted", input="Hi", instructions="Be brief.", max_output_tokens=50, metadata={"a": "b"}
    )

    parsed = got.parse()
    sound_response(json.loads(got.text))
    assert (parsed.output_text, parsed.status, parsed.instructions, parsed.metadata) == (
        "Hello", "completed", "Be brief.", {"a": "b"},
    )  # fmt: skip
    assert parsed.usage is not None
    assert (parsed.usage.input_tokens, parsed.usage.output_tokens, parsed.usage.total_tokens) == (10, 2, 12)
    (received,) = upstream.received
    assert received.path == "/v1/chat/completions"
    assert [message["role"] for message in received.json["messages"]] == ["system", "user"]
    assert received.json["max_tokens"] == 50
    assert house.row_of(got.headers["x-request-id"]).protocol == "responses"


def test_a_stream_of_a_chat_model(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("scripted", stream(*frames("Hel", "lo")))

    got = raw(gateway.url, house.key_text, body(model="scripted", stream=True), path="/v1/responses")

    told = assembled(events_in(got.content))
    assert told["output"][0]["content"][0]["text"] == "Hello"
    assert told["usage"]["total_tokens"] == 12
    (row,) = house.rows()
    assert (row.status, row.charged_nano_usd) == ("ok", 10 * 1_000 + 2 * 4_000)
    with house.client(gateway.url).responses.stream(model="scripted", input="Hi") as events:
        events.until_done()
    assert events.get_final_response().output_text == "Hello"


def test_a_chat_model_answers_in_the_shape_that_was_asked_for(gateway: Gateway, house: House, upstream: Upstream) -> None:
    class Gate(BaseModel):
        name: str

    upstream.on("scripted", answer('{"name": "North"}'))

    parsed = house.client(gateway.url).responses.parse(model="scripted", input="Which gate?", text_format=Gate)

    assert parsed.output_parsed == Gate(name="North")
    form = upstream.received[-1].json["response_format"]
    assert (form["type"], form["json_schema"]["name"], form["json_schema"]["strict"]) == ("json_schema", "Gate", True)


def test_an_agent_calls_a_tool_and_goes_on(gateway: Gateway, house: House, upstream: Upstream) -> None:
    """As Codex does it: nothing kept, thinking asked for, calls answered in the next request."""
    wants = {"index": 0, "id": "call_7", "type": "function", "function": {"name": "look", "arguments": ""}}
    upstream.then(
        stream(
            chunk({"role": "assistant", "reasoning_content": "I must look."}),
            chunk({"tool_calls": [wants]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"at":'}}]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"gate"}'}}]}),
            *frames(finish="tool_calls")[1:],
        )
    )
    settings: Any = {"model": "scripted", "tools": [LOOK], "store": False, "include": ["reasoning.encrypted_content"]}
    client = house.client(gateway.url)
    with client.responses.stream(input="Is it open?", **settings) as events:
        first = events.get_final_response()
    assert [item.type for item in first.output] == ["reasoning", "function_call"]

    history: list[Any] = [
        {"role": "user", "content": "Is it open?"},
        *[item.model_dump(exclude_none=True) for item in first.output],
    ]
    result: Any = {"type": "function_call_output", "call_id": "call_7", "output": "open"}
    client.responses.create(input=[*history, result], **settings)

    asked = upstream.received[-1].json["messages"]
    assert [message["role"] for message in asked] == ["user", "assistant", "tool"]
    (call,) = asked[1]["tool_calls"]
    assert (call["id"], call["function"]) == ("call_7", {"name": "look", "arguments": '{"at":"gate"}'})
    assert (asked[2]["tool_call_id"], asked[2]["content"]) == ("call_7", "open")


def test_openais_own_tools_are_refused_where_another_provider_serves(gateway: Gateway, house: House, upstream: Upstream) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        house.client(gateway.url).responses.create(model="scripted", input="Hi", tools=[{"type": "web_search"}])
    assert raised.value.param == "tools[0].type"
    assert upstream.received == []


def test_a_chat_caller_reaches_a_model_that_only_speaks_responses(gateway: Gateway, house: House, upstream: Upstream) -> None:
    declare("only-responses", kind="openai", url=upstream.url, protocols=["responses"])
    client = house.client(gateway.url)
    upstream.then(whole(response(said("Hello"))), stream(*frames_of(response(said("Hello"), called("look", '{"a":1}')))))

    whole_answer = client.chat.completions.create(model="only-responses", messages=MESSAGES)
    chunks = list(client.chat.completions.create(model="only-responses", messages=MESSAGES, stream=True))

    assert whole_answer.choices[0].message.content == "Hello"
    assert "".join(piece.choices[0].delta.content or "" for piece in chunks) == "Hello"
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert [received.path for received in upstream.received] == ["/v1/responses"] * 2
    assert [row.charged_nano_usd for row in house.rows()] == [COST, COST]


# --- Azure -------------------------------------------------------------------------------------
def test_azure_takes_both_protocols_at_its_own_addresses(gateway: Gateway, house: House, upstream: Upstream) -> None:
    declare("gpt-azure", kind="azure", url=upstream.url.removesuffix("/v1"), api_version="2025-04-01-preview")
    client = house.client(gateway.url)
    upstream.then(answer("Hello"), whole(response(said("Hello"))))

    assert client.chat.completions.create(model="gpt-azure", messages=MESSAGES).choices[0].message.content == "Hello"
    assert client.responses.create(model="gpt-azure", input="Hi").output_text == "Hello"

    chat, native = upstream.received
    assert chat.path == "/openai/deployments/gpt-azure/chat/completions"
    assert native.path == "/openai/responses"
    for received in (chat, native):
        assert received.headers["api-key"] == "key-of-gpt-azure"
        assert "authorization" not in received.headers
