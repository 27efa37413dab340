"""Calls of Messages through the front door, by the official SDK as it comes: to its own kind of provider, and to others."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx
import pydantic
import pytest
from django.db import transaction

from billing.pricing import BESIDE
from gateway_project.lib.money import exact_usd
from orgs import epoch
from orgs.models import Organization
from proxy.canonical.usage import Usage
from proxy.models import Model
from tests.gateways import Gateway
from tests.house import CLAUDE_RATES, RATES, House, build, declare, eventually, reprice
from tests.proxy import responses_wire
from tests.proxy.messages_wire import FULL, answer, event, start, streamed, text
from tests.upstream import HTML, RESET, Script, Upstream, frame, refuse, stream
from tests.upstream import answer as chat_answer
from tests.upstream import frames as chat_frames

ASK: list[Any] = [{"role": "user", "content": "Tell me about the gate."}]
TOOLS: list[Any] = [
    {"name": "look", "description": "Looks.", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}
]


def raw(
    gateway: Gateway, key: str, *, path: str = "/v1/messages", headers: dict[str, str] | None = None, **members: Any
) -> httpx.Response:
    body = {"model": "claude-scripted", "max_tokens": 100, "messages": ASK, **members}
    return httpx.post(
        f"{gateway.url}{path}", json=body, headers={"x-api-key": key, **(headers or {})}, timeout=30, trust_env=False
    )


# --- without usage -----------------------------------------------------------------------------
@pytest.mark.parametrize("streamed_too", [False, True])
def test_a_provider_that_counts_nothing_is_told_by_the_estimate_that_is_charged(
    gateway: Gateway, house: House, upstream: Upstream, streamed_too: bool
) -> None:
    words = ["Hello ", "x" * 395]
    upstream.on("scripted", stream(*chat_frames(*words, usage=None)) if streamed_too else chat_answer("".join(words), usage=None))
    client = house.anthropic_client(gateway.url)
    if streamed_too:
        with client.messages.stream(model="scripted", max_tokens=500, messages=ASK) as told:
            usage, call_id = told.get_final_message().usage, told.response.headers["request-id"]
    else:
        got = client.messages.with_raw_response.create(model="scripted", max_tokens=500, messages=ASK)
        usage, call_id = got.parse().usage, got.headers["request-id"]

    row = house.row_of(call_id)
    assert (row.usage_estimated, row.output_tokens, row.input_tokens > 0) == (True, 101, True)
    assert (usage.output_tokens, usage.input_tokens) == (row.output_tokens, row.input_tokens)
    assert row.charged_nano_usd > 0


def test_so_it_is_in_responses(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("scripted", chat_answer("x" * 400, usage=None))
    got = house.client(gateway.url).responses.with_raw_response.create(model="scripted", input="Tell me about the gate.")
    usage, row = got.parse().usage, house.row_of(got.headers["x-request-id"])
    assert usage is not None
    assert (usage.output_tokens, usage.input_tokens) == (row.output_tokens, row.input_tokens) == (100, row.input_tokens)


# --- native ------------------------------------------------------------------------------------
@pytest.mark.parametrize("summary", [30, 10**6])
def test_what_shortening_a_conversation_took_is_charged_as_far_as_it_was_held_for(
    gateway: Gateway, house: House, upstream: Upstream, summary: int
) -> None:
    usage = {"input_tokens": 20, "output_tokens": 7}
    shortening = {"type": "compaction", "input_tokens": 25, "output_tokens": summary}
    told = answer({"type": "text", "text": "Hello"}, usage={**usage, "iterations": [shortening, {"type": "message", **usage}]})
    edits = {"edits": [{"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": 20}}]}
    upstream.on("claude-scripted", told)
    got = raw(gateway, house.key_text, headers={"anthropic-beta": "compact-2026-01-12"}, context_management=edits)

    row = house.row_of(got.headers["request-id"])
    rates = CLAUDE_RATES
    alone, beside = 20 * rates.input + 7 * rates.output, 25 * rates.input + summary * rates.output
    assert row.list_nano_usd * 10**6 == alone + beside
    assert row.charged_nano_usd == min(row.list_nano_usd, row.reserved_nano_usd)
    assert row.absorbed_nano_usd == row.list_nano_usd - row.charged_nano_usd
    assert (row.absorbed_nano_usd > 0) is (summary > 30)
    assert got.headers["x-gatehouse-cost-usd"] == exact_usd(row.charged_nano_usd)
    assert row.cost_parts[BESIDE] * 10**6 == beside


def test_a_message_is_answered_recorded_and_charged(gateway: Gateway, house: House, upstream: Upstream) -> None:
    usage = {
        "input_tokens": 100,
        "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 3},
    }
    upstream.on("claude-scripted", answer({"type": "text", "text": "Hello"}, usage=usage))

    got = house.anthropic_client(gateway.url).messages.with_raw_response.create(
        model="claude-scripted", max_tokens=100, messages=ASK, extra_headers={"anthropic-beta": "x-2026-01-01"}
    )

    message = got.parse()
    assert message.content[0].type == "text"
    assert (message.content[0].text, message.stop_reason, message.id) == ("Hello", "end_turn", "msg_upstream")
    received = upstream.received[-1]
    assert (received.path, received.json) == ("/v1/messages", {"model": "claude-scripted", "max_tokens": 100, "messages": ASK})
    assert received.headers["anthropic-version"] == anthropic._constants.ANTHROPIC_API_VERSION
    assert received.headers["anthropic-beta"] == "x-2026-01-01"
    assert house.key_text not in str(received.headers)
    row = house.row_of(got.headers["request-id"])
    assert (row.status, row.protocol, row.finish_reason) == ("ok", "messages", "stop")
    assert (row.input_tokens, row.cache_read_tokens, row.cache_write_5m_tokens, row.cache_write_1h_tokens) == (100, 1000, 10, 20)
    assert (row.output_tokens, row.reasoning_tokens, row.usage_estimated) == (7, 3, False)
    by_hand = 100 * 1_000 + 1000 * 100 + 10 * 1_250 + 20 * 2_000 + 7 * 4_000
    assert row.charged_nano_usd == by_hand
    assert house.held() == {}


def test_a_stream_passes_byte_for_byte_and_is_charged(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("claude-scripted", stream(*FULL))

    got = raw(
        gateway, house.key_text, path="/v1/messages?beta=true", stream=True, thinking={"type": "enabled", "budget_tokens": 50}
    )

    assert got.content == b"".join(FULL)
    assert got.headers["content-type"].startswith("text/event-stream")
    row = house.row_of(got.headers["request-id"])
    assert (row.input_tokens, row.cache_read_tokens, row.cache_write_5m_tokens, row.output_tokens) == (10, 7, 5, 30)
    assert (row.finish_reason, row.streamed) == ("tool_calls", True)


def test_the_sdk_puts_a_stream_together(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("claude-scripted", stream(*FULL))
    with house.anthropic_client(gateway.url).messages.stream(
        model="claude-scripted", max_tokens=100, messages=ASK, tools=TOOLS
    ) as got:
        message = got.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "redacted_thinking", "text", "tool_use", "tool_use"]
    assert (message.stop_reason, message.usage.output_tokens) == ("tool_use", 30)


def test_thought_comes_back_unchanged_on_the_next_turn(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("claude-scripted", stream(*FULL))
    client = house.anthropic_client(gateway.url)
    with client.messages.stream(model="claude-scripted", max_tokens=2000, messages=ASK, tools=TOOLS) as got:
        said = [block.model_dump(exclude_none=True) for block in got.get_final_message().content]
    upstream.on("claude-scripted", answer())
    results: list[Any] = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "r"} for block in said if block["type"] == "tool_use"
    ]
    turns: list[Any] = [*ASK, {"role": "assistant", "content": said}, {"role": "user", "content": results}]

    client.messages.create(
        model="claude-scripted",
        max_tokens=2000,
        messages=turns,
        tools=TOOLS,
        thinking={"type": "enabled", "budget_tokens": 1024},
    )

    assert upstream.received[-1].json["messages"][1]["content"] == said
    assert said[0] == {"type": "thinking", "thinking": "Let me see \u2028", "signature": "c2lnbmVk"}


def test_a_long_prompt_is_marked_for_the_cache_where_the_operator_wants_it(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    upstream.on("claude-scripted", answer())
    house.anthropic_client(gateway.url).messages.create(
        model="claude-scripted", max_tokens=9, messages=ASK, system="word " * 4000
    )
    assert upstream.received[-1].json["system"][0]["cache_control"] == {"type": "ephemeral"}


def test_a_stream_that_breaks_off_is_an_error_and_costs_nothing(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("claude-scripted", stream(start(), *text(0, "Hello")))
    with pytest.raises(anthropic.APIStatusError) as raised:
        list(
            house.anthropic_client(gateway.url).messages.create(
                model="claude-scripted", max_tokens=100, messages=ASK, stream=True
            )
        )
    assert raised.value.type == "api_error"
    row = house.row_of(raised.value.request_id or "")
    assert (row.status, row.charged_nano_usd, row.usage_estimated) == ("failed", 0, True)
    assert row.absorbed_nano_usd == 10 * 1_000 + 2 * 4_000


def test_an_error_in_the_stream_is_told_in_it(gateway: Gateway, house: House, upstream: Upstream) -> None:
    error = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    upstream.on("claude-scripted", stream(start(), *text(0, "Hel")[:-1], error))
    with pytest.raises(anthropic.APIStatusError) as raised:
        list(
            house.anthropic_client(gateway.url).messages.create(
                model="claude-scripted", max_tokens=100, messages=ASK, stream=True
            )
        )
    assert (raised.value.type, raised.value.error_code) == ("overloaded_error", "provider_overloaded")


def test_a_provider_that_does_not_listen_is_cut_as_at_the_maximum_length(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    upstream.on("claude-scripted", stream(start(), *text(0, *["word "] * 4000)[:-1], ending="hang"))
    with house.anthropic_client(gateway.url).messages.stream(model="claude-scripted", max_tokens=5, messages=ASK) as got:
        message = got.get_final_message()
    assert message.stop_reason == "max_tokens"
    assert message.usage.input_tokens == 10
    assert eventually(lambda: house.rows())[-1].error_code == "hold_used_up"


# --- counting ----------------------------------------------------------------------------------
def test_the_provider_counts_the_tokens_of_its_models(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.then(Script(parts=(b'{"input_tokens": 77}',)))
    counted = house.anthropic_client(gateway.url).messages.count_tokens(model="claude-scripted", messages=ASK, tools=TOOLS)
    assert counted.input_tokens == 77
    received = upstream.received[-1]
    assert (received.path, received.json.keys()) == ("/v1/messages/count_tokens", {"model", "messages", "tools"})
    assert house.rows() == []


@pytest.mark.parametrize("script", [RESET, HTML, refuse(404), refuse(429), Script(parts=(b"{}",))])
def test_where_it_does_not_the_gateway_guesses(gateway: Gateway, house: House, upstream: Upstream, script: Script) -> None:
    upstream.then(script)
    assert 5 <= house.anthropic_client(gateway.url).messages.count_tokens(model="claude-scripted", messages=ASK).input_tokens < 60


def test_tokens_are_counted_for_models_of_any_provider(gateway: Gateway, house: House, upstream: Upstream) -> None:
    client = house.anthropic_client(gateway.url)
    few, many = (
        client.messages.count_tokens(model="scripted", messages=ASK, system=s).input_tokens for s in ("x", "word " * 500)
    )
    assert few < 60
    assert 450 < many < 900
    assert upstream.received == []
    with pytest.raises(anthropic.NotFoundError):
        client.messages.count_tokens(model="nobody", messages=ASK)


@pytest.mark.parametrize("members", [{"compaction": {"type": "enabled"}}, {"compaction": False}])
def test_a_guess_counts_once_what_was_sent(gateway: Gateway, house: House, members: dict[str, Any]) -> None:
    client = house.anthropic_client(gateway.url)
    plain = client.messages.count_tokens(model="scripted", messages=ASK)
    assert client.messages.count_tokens(model="scripted", messages=ASK, extra_body=members) == plain


def test_a_prompt_that_the_provider_refuses_is_refused(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.then(refuse(400, "messages.0: no"))
    with pytest.raises(anthropic.BadRequestError, match=r"messages\.0: no"):
        house.anthropic_client(gateway.url).messages.count_tokens(model="claude-scripted", messages=ASK)


# --- to a provider of another protocol ---------------------------------------------------------
def test_a_message_is_answered_by_a_provider_that_speaks_otherwise(gateway: Gateway, house: House, upstream: Upstream) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 40}}
    upstream.on("scripted", chat_answer("Hello", usage=usage))
    message = house.anthropic_client(gateway.url).messages.create(
        model="scripted", max_tokens=100, messages=ASK, system="Be brief."
    )
    assert message.id.startswith("msg_")
    assert message.content[0].type == "text"
    assert (message.content[0].text, message.stop_reason) == ("Hello", "end_turn")
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens, message.usage.output_tokens) == (60, 40, 2)
    assert upstream.received[-1].json["messages"][0] == {"role": "system", "content": "Be brief."}


def test_a_task_with_tools_is_done_by_a_provider_that_speaks_otherwise(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    calls = [
        {"index": at, "id": f"call_{at}", "type": "function", "function": {"name": "look", "arguments": f'{{"at":"{at}"}}'}}
        for at in (0, 1)
    ]
    usage = {"prompt_tokens": 10, "completion_tokens": 20}
    upstream.on(
        "scripted", stream(frame({"tool_calls": calls}), frame({}, finish="tool_calls"), frame(usage=usage), b"data: [DONE]\n\n")
    )
    client = house.anthropic_client(gateway.url)
    with client.messages.stream(model="scripted", max_tokens=100, messages=ASK, tools=TOOLS) as got:
        first = got.get_final_message()
    used = [block for block in first.content if block.type == "tool_use"]
    assert [(block.id, block.input) for block in used] == [("call_0", {"at": "0"}), ("call_1", {"at": "1"})]
    assert (first.stop_reason, first.usage.input_tokens, first.usage.output_tokens) == ("tool_use", 10, 20)

    upstream.on("scripted", stream(*chat_frames("Do", "ne", usage=(30, 2))))
    results: list[Any] = [{"type": "tool_result", "tool_use_id": block.id, "content": f"saw {block.id}"} for block in used]
    turns: list[Any] = [*ASK, first.to_param(), {"role": "user", "content": results}]
    with client.messages.stream(model="scripted", max_tokens=100, messages=turns, tools=TOOLS) as got:
        assert "".join(got.text_stream) == "Done"
    sent = upstream.received[-1].json["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool"]
    assert [message["content"] for message in sent[2:]] == ["saw call_0", "saw call_1"]
    assert [row.output_tokens for row in house.rows()] == [20, 2]


def test_the_sandbox_answers_in_this_protocol_too(gateway: Gateway, house: House) -> None:
    client = house.anthropic_client(gateway.url)
    whole = client.messages.create(model="sandbox-instant", max_tokens=20, messages=ASK)
    with client.messages.stream(model="sandbox-instant", max_tokens=20, messages=ASK) as got:
        assert got.get_final_text() == whole.content[0].text  # type: ignore[union-attr]
    assert whole.usage.input_tokens > 0


def test_other_callers_reach_a_provider_of_this_protocol(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("claude-scripted", stream(*FULL))
    chunks = list(
        house.client(gateway.url).chat.completions.create(
            model="claude-scripted", messages=ASK, stream=True, stream_options={"include_usage": True}, n=1, seed=7
        )
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "I'll look, Zürich \U0001f600"
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (22, 30)
    # The model's own maximum: this protocol wants one.
    assert upstream.received[-1].json["max_tokens"] == 4096
    assert "seed" not in upstream.received[-1].json
    assert upstream.received[-1].headers["anthropic-version"] == "2023-06-01"


@pytest.mark.parametrize(
    ("members", "said", "ignored"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 31_999}}, "high", "thinking"),
        ({"output_config": {"effort": "low"}}, "low", "thinking"),
        ({"thinking": {"type": "disabled"}}, None, None),
    ],
)
def test_an_agent_that_asks_every_model_to_think_is_answered_by_one_that_cannot(
    gateway: Gateway, house: House, upstream: Upstream, members: dict[str, Any], said: str | None, ignored: str | None
) -> None:
    """`Unrecognized request argument supplied: reasoning_effort`"""
    for name, abilities in (("thinks", ["tools", "reasoning"]), ("plain", ["tools"]), ("unknown", [])):
        reprice(name, RATES["scripted"])
        with transaction.atomic():
            Model.objects.filter(name=name).update(capabilities=abilities)
            epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))
        upstream.on(name, chat_answer("Hello"))
    ask = house.anthropic_client(gateway.url).messages.with_raw_response

    got = {
        name: ask.create(model=name, max_tokens=4000, messages=ASK, **members).headers.get("x-gatehouse-ignored")
        for name in ("thinks", "unknown", "plain")
    }

    assert got == {"thinks": None, "unknown": None, "plain": ignored}
    assert [sent.json.get("reasoning_effort") for sent in upstream.received[-3:]] == [said, said, None]


def test_an_agent_s_tools_reach_models_that_call_them_in_responses_only(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    """`Function tools with reasoning_effort are not supported for gpt-5.6-sol in /v1/chat/completions`"""
    declare("gpt-6.1-sol", kind="openai", url=upstream.url)
    said = responses_wire.response(
        responses_wire.thought("Hm", sealed="E", number=0), responses_wire.called("look", '{"at":"Zürich"}', number=1)
    )
    upstream.then(Script(parts=(json.dumps(said).encode(),)))

    got = house.anthropic_client(gateway.url).messages.with_raw_response.create(
        model="gpt-6.1-sol",
        max_tokens=4000,
        messages=ASK,
        tools=TOOLS,
        thinking={"type": "enabled", "budget_tokens": 2048},
        extra_body={"temperature": 1},
    )

    message = got.parse()
    assert [block.type for block in message.content] == ["thinking", "tool_use"]
    assert message.stop_reason == "tool_use"
    received = upstream.received[-1]
    assert (received.path, received.json["reasoning"]["effort"]) == ("/v1/responses", "low")
    assert [tool["name"] for tool in received.json["tools"]] == ["look"]
    assert "temperature" not in received.json
    assert got.headers["x-gatehouse-ignored"] == "temperature"


def test_an_agent_s_stop_sequences_are_no_reason_to_refuse_its_tools(gateway: Gateway, house: House, upstream: Upstream) -> None:
    """`Unsupported parameter: 'stop' is not supported with this model.`, in Chat Completions too"""
    declare("gpt-6.1-sol", kind="openai", url=upstream.url)
    upstream.then(Script(parts=(json.dumps(responses_wire.response(responses_wire.called("look", "{}"))).encode(),)))

    got = house.anthropic_client(gateway.url).messages.with_raw_response.create(
        model="gpt-6.1-sol", max_tokens=4000, messages=ASK, tools=TOOLS, stop_sequences=["END"]
    )

    assert [block.type for block in got.parse().content] == ["tool_use"]
    assert (upstream.received[-1].path, "stop" in upstream.received[-1].json) == ("/v1/responses", False)
    assert got.headers["x-gatehouse-ignored"] == "stop_sequences"


class Rating(pydantic.BaseModel):
    stars: int = pydantic.Field(ge=1, le=5)
    words: list[str] = pydantic.Field(max_length=3)


def test_a_form_of_the_official_sdk_is_one_that_claude_is_held_to(gateway: Gateway, house: House, upstream: Upstream) -> None:
    """Bounds of numbers and lists are a 400 at Anthropic: https://github.com/BerriAI/litellm/pull/20813"""
    upstream.on("claude-scripted", answer({"type": "text", "text": '{"stars":4,"words":["sound"]}'}))

    got = house.client(gateway.url).chat.completions.parse(model="claude-scripted", messages=ASK, response_format=Rating)

    assert got.choices[0].message.parsed == Rating(stars=4, words=["sound"])
    schema = upstream.received[-1].json["output_config"]["format"]["schema"]
    assert schema["properties"]["stars"] == {"type": "integer", "title": "Stars", "description": '{"maximum":5,"minimum":1}'}
    assert schema["properties"]["words"]["description"] == '{"maxItems":3}'
    assert (schema["required"], schema["additionalProperties"]) == (["stars", "words"], False)


def test_a_form_that_claude_cannot_be_held_to_is_told_as_an_instruction(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    upstream.on("claude-scripted", answer({"type": "text", "text": '{"a":1}'}))
    form: Any = {"name": "counts", "schema": {"type": "object", "additionalProperties": {"type": "integer"}}}
    tool: Any = {"name": "f", "strict": True, "parameters": {"type": "object", "properties": {"any": {}}}}

    got = house.client(gateway.url).chat.completions.with_raw_response.create(
        model="claude-scripted",
        messages=ASK,
        response_format={"type": "json_schema", "json_schema": form},
        tools=[{"type": "function", "function": tool}],
    )

    sent = upstream.received[-1].json
    assert "output_config" not in sent
    assert sent["system"][-1]["text"].endswith('{"type":"object","additionalProperties":{"type":"integer"}}')
    assert sent["tools"] == [{"name": "f", "input_schema": tool["parameters"]}]
    assert got.headers["x-gatehouse-ignored"] == "strict"


# --- errors ------------------------------------------------------------------------------------
def refused(house: House, gateway: Gateway, *, key: str | None = None, **members: Any) -> anthropic.APIStatusError:
    with pytest.raises(anthropic.APIStatusError) as raised:
        house.anthropic_client(gateway.url, key).messages.create(
            **{"model": "claude-scripted", "max_tokens": 100, "messages": ASK, **members}
        )
    error = raised.value
    assert error.request_id == error.response.headers["x-request-id"]
    body: Any = error.body
    assert body["type"] == "error"
    assert body["error"]["gatehouse"]["code"] == error.error_code or error.status_code == 400
    return error


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"key": "gh_sk_aaaaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"}, anthropic.AuthenticationError),
        ({"model": "nobody"}, anthropic.NotFoundError),
        ({"messages": []}, anthropic.BadRequestError),
        ({"max_tokens": -5}, anthropic.BadRequestError),
        ({"model": "scripted", "tools": [{"type": "web_search_20250305", "name": "web_search"}]}, anthropic.BadRequestError),
        ({"model": "dead"}, anthropic.InternalServerError),
    ],
)
def test_each_error_is_the_class_that_the_sdk_has_for_it(
    gateway: Gateway, house: House, members: dict[str, Any], error: type[anthropic.APIStatusError]
) -> None:
    assert type(refused(house, gateway, **members)) is error


def test_limits_are_told_in_its_classes(gateway: Gateway, house: House) -> None:
    house.policy(("budget", "month", 0))
    assert isinstance(error := refused(house, gateway), anthropic.PermissionDeniedError)
    assert (error.type, error.error_code, error.response.headers["x-should-retry"]) == (
        "permission_error",
        "budget_exceeded",
        "false",
    )


def test_rates_are_told_with_the_time_to_wait(gateway: Gateway, house: House) -> None:
    house.policy(("rpm", "minute", 0))
    assert isinstance(error := refused(house, gateway), anthropic.RateLimitError)
    assert error.type == "rate_limit_error"
    assert int(error.response.headers["retry-after"]) >= 1


def test_an_empty_credit_is_a_matter_of_billing(gateway: Gateway, house: House) -> None:
    poor = build(credit_usd=0)
    error = refused(poor, gateway, model="output-only", max_tokens=4_000)
    poor.close()
    assert isinstance(error, anthropic.PaymentRequiredError)
    assert (error.type, error.error_code) == ("billing_error", "insufficient_credits")


@pytest.mark.parametrize(
    ("script", "status", "type"),
    [
        (refuse(401, "invalid x-api-key"), 502, "api_error"),
        (refuse(529, "Overloaded"), 503, "overloaded_error"),
        (refuse(500), 502, "api_error"),
        (HTML, 502, "api_error"),
        (RESET, 502, "api_error"),
        (Script(parts=(b"{}",)), 502, "api_error"),
    ],
)
def test_a_provider_that_fails_is_told_apart_from_the_caller(
    gateway: Gateway, house: House, upstream: Upstream, script: Script, status: int, type: str
) -> None:
    upstream.then(script)
    error = refused(house, gateway)
    assert (error.status_code, error.type) == (status, type)
    assert house.row_of(error.request_id or "").charged_nano_usd == 0


@pytest.mark.parametrize(
    ("method", "path", "status", "type"),
    [
        ("GET", "/v1/messages", 405, "invalid_request_error"),
        ("POST", "/v1/messages/nothing", 404, "not_found_error"),
        ("POST", "/v1/v1/messages", 404, "not_found_error"),
        ("POST", "/messages", 404, "not_found_error"),
        ("GET", "/v1/messages/count_tokens", 405, "invalid_request_error"),
    ],
)
def test_wrong_addresses_are_told_in_its_shape(
    gateway: Gateway, house: House, method: str, path: str, status: int, type: str
) -> None:
    got = httpx.request(method, f"{gateway.url}{path}", headers={"x-api-key": house.key_text}, trust_env=False)
    assert (got.status_code, got.json()["error"]["type"]) == (status, type)
    assert got.json()["request_id"] == got.headers["request-id"]


def test_a_key_is_taken_from_either_header(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("claude-scripted", answer())
    assert raw(gateway, house.key_text).status_code == 200
    assert raw(gateway, "", headers={"authorization": f"Bearer {house.key_text}"}).status_code == 200
    assert raw(gateway, "").status_code == 401


def test_its_rates_are_told_under_its_own_names(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("claude-scripted", answer())
    house.policy(("rpm", "minute", 9), ("tpm", "minute", 90_000))
    headers = raw(gateway, house.key_text).headers
    assert (headers["anthropic-ratelimit-requests-limit"], headers["anthropic-ratelimit-requests-remaining"]) == ("9", "8")
    assert headers["anthropic-ratelimit-tokens-limit"] == "90000"


def test_no_word_of_a_prompt_reaches_the_ledger(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("claude-scripted", answer({"type": "text", "text": "canary-answer"}))
    got = raw(gateway, house.key_text, messages=[{"role": "user", "content": "canary-question"}])
    assert got.status_code == 200
    assert "canary" not in json.dumps(house.row_of(got.headers["request-id"]).__dict__, default=str)


def test_usage_is_what_the_sdk_reads(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("claude-scripted", streamed("Hel", "lo"))
    with house.anthropic_client(gateway.url).messages.stream(model="claude-scripted", max_tokens=100, messages=ASK) as got:
        used = got.get_final_message().usage
    assert Usage(used.input_tokens, output=used.output_tokens) == Usage(10, output=2)


def test_the_sdk_lists_the_models_that_its_key_may_call(gateway: Gateway, house: House) -> None:
    client = house.anthropic_client(gateway.url)
    names = {model.id for model in client.models.list(limit=1000)}
    assert {"claude-scripted", "scripted"} <= names
    assert client.models.retrieve("claude-scripted").type == "model"
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("nobody")
