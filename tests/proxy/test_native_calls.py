"""Calls of Chat Completions that Google's and Amazon's own protocols answer, by the official SDK through the front door."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from django.db import transaction
from pytest_django.plugin import DjangoDbBlocker

from gateway_project.lib.money import exact_usd
from orgs import epoch
from orgs.models import Organization
from proxy import catalogue
from proxy.models import Model, Provider
from tests.gateways import Gateway
from tests.house import MESSAGES, House
from tests.proxy import event_streams
from tests.upstream import Script, Upstream, stream

GEMINI, BEDROCK = "native-gemini", "native-bedrock"
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}
    for name in ("weather", "clock")
]
INPUT, CACHED, OUTPUT = 1_000, 100, 4_000  # nano-dollars a token


@pytest.fixture(scope="module")
def models(declared: None, scripted_provider: Upstream, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """A model at each of the two, both answered by the scripted provider."""
    host = scripted_provider.url.removesuffix("/v1")
    price = {"input": 1.0, "cached_input": 0.1, "output": 4.0}
    with django_db_blocker.unblock():
        catalogue.load(
            {
                "providers": [
                    {"name": GEMINI, "kind": "gemini", "base_url": f"{host}/v1beta", "api_key": "AIza-of-this-test"},
                    {
                        "name": BEDROCK,
                        "kind": "bedrock",
                        "base_url": host,
                        "api_key": "AKIDTEST:secret-of-this-test",
                        "options": {"region": "us-east-1"},
                    },
                ],
                "models": [
                    {"name": name, "max_output_tokens": 4096, "price": price, "deployments": [{"provider": name, "model": model}]}
                    for name, model in ((GEMINI, "gemini-3-flash"), (BEDROCK, "anthropic.claude-opus-5-v1:0"))
                ],
            }
        )
    yield
    with django_db_blocker.unblock(), transaction.atomic():
        Model.objects.filter(name__in=[GEMINI, BEDROCK]).delete()
        Provider.objects.filter(name__in=[GEMINI, BEDROCK]).delete()
        epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))


@pytest.fixture
def native(models: None, house: House) -> House:
    """A house that also has them."""
    return house


def gemini_stream(*events: dict[str, Any], **script: Any) -> Script:
    return stream(*(b"data: " + json.dumps(event).encode() + b"\r\n\r\n" for event in events), **script)


def parts(*given: dict[str, Any], finish: str | None = None, **members: Any) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": list(given)}} | ({"finishReason": finish} if finish else {})
    return {"candidates": [candidate], "modelVersion": "gemini-3-flash", "responseId": "r", **members}


def amazon_stream(*events: tuple[str, Any], after: bytes = b"") -> Script:
    parts = (event_streams.events(*events) + after,)
    return Script(headers={"content-type": "application/vnd.amazon.eventstream"}, parts=parts)


def calls_of(chunks: list[Any]) -> dict[int, dict[str, str]]:
    """By index: id, name and arguments, as a client puts them together."""
    calls: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        for call in chunk.choices[0].delta.tool_calls or () if chunk.choices else ():
            known = calls.setdefault(call.index, {"id": "", "name": "", "arguments": ""})
            known["id"] += call.id or ""
            known["name"] += call.function.name or ""
            known["arguments"] += call.function.arguments or ""
    return calls


def finish_of(chunks: list[Any]) -> list[str]:
    return [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]


def test_a_task_with_tools_is_done_by_gemini(gateway: Gateway, native: House, upstream: Upstream) -> None:
    client = native.client(gateway.url)
    usage = {"promptTokenCount": 100, "cachedContentTokenCount": 60, "candidatesTokenCount": 8, "thoughtsTokenCount": 12}
    upstream.then(
        gemini_stream(
            parts({"text": "Let me see.", "thought": True}),
            parts(
                {"functionCall": {"name": "weather", "args": {"city": "Zürich"}}, "thoughtSignature": "c2lnbmVk"},
                {"functionCall": {"name": "clock", "args": {}}},
            ),
            parts({"text": ""}, finish="STOP", usageMetadata=usage | {"totalTokenCount": 120}),
        ),
        gemini_stream(parts({"text": "Sunny, "}), parts({"text": "noon."}, finish="STOP", usageMetadata=usage)),
    )

    asked = client.chat.completions.create(
        model=GEMINI, messages=MESSAGES, tools=TOOLS, stream=True, stream_options={"include_usage": True}, reasoning_effort="low"
    )
    chunks = list(asked)
    calls = calls_of(chunks)
    assert [(call["name"], json.loads(call["arguments"])) for call in calls.values()] == [
        ("weather", {"city": "Zürich"}),
        ("clock", {}),
    ]
    assert calls[0]["id"] != calls[1]["id"]
    assert finish_of(chunks) == ["tool_calls"]
    told: Any = chunks[-1].to_dict()["usage"]
    assert (told["prompt_tokens"], told["completion_tokens"], told["total_tokens"]) == (100, 20, 120)
    assert (told["prompt_tokens_details"]["cached_tokens"], told["completion_tokens_details"]["reasoning_tokens"]) == (60, 12)

    said = [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": call["arguments"]},
            **({"extra_content": {"google": {"thought_signature": "c2lnbmVk"}}} if at == 0 else {}),
        }
        for at, call in calls.items()
    ]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": f"{call['name']} says"} for call in calls.values()]
    history: list[Any] = [*MESSAGES, {"role": "assistant", "content": None, "tool_calls": said}, *results]
    answered = list(client.chat.completions.create(model=GEMINI, messages=history, tools=TOOLS, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in answered) == "Sunny, noon."
    assert finish_of(answered) == ["stop"]

    first, second = upstream.received
    assert first.target == "/v1beta/models/gemini-3-flash:streamGenerateContent?alt=sse"
    assert first.headers["x-goog-api-key"] == "AIza-of-this-test"
    assert first.json["generationConfig"]["thinkingConfig"] == {"thinkingLevel": "LOW"}
    _, model_turn, user_turn = second.json["contents"]
    assert model_turn["parts"][0]["thoughtSignature"] == "c2lnbmVk"
    assert [part["functionResponse"]["name"] for part in user_turn["parts"]] == ["weather", "clock"]
    rows = native.rows()
    by_hand = 40 * INPUT + 60 * CACHED + 20 * OUTPUT
    assert [(row.status, row.charged_nano_usd, row.usage_estimated) for row in rows] == [("ok", by_hand, False)] * 2
    assert (rows[0].reasoning_tokens, rows[0].finish_reason) == (12, "tool_calls")
    assert native.held() == {}


def test_a_whole_answer_of_gemini(gateway: Gateway, native: House, upstream: Upstream) -> None:
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 2, "totalTokenCount": 12}
    upstream.then(Script(parts=(json.dumps(parts({"text": "Hello"}, finish="STOP", usageMetadata=usage), indent=2).encode(),)))

    got = native.client(gateway.url).chat.completions.with_raw_response.create(model=GEMINI, messages=MESSAGES)

    answer = got.parse()
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Hello", "stop")
    assert got.headers["x-gatehouse-cost-usd"] == exact_usd(10 * INPUT + 2 * OUTPUT)


def test_a_task_with_tools_is_done_by_bedrock(gateway: Gateway, native: House, upstream: Upstream) -> None:
    usage = {"inputTokens": 40, "outputTokens": 20, "totalTokens": 120, "cacheReadInputTokens": 60, "cacheWriteInputTokens": 0}
    start = {"toolUse": {"toolUseId": "tooluse_1", "name": "weather"}}
    upstream.then(
        amazon_stream(
            ("messageStart", {"role": "assistant"}),
            ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "One moment."}}),
            ("contentBlockStop", {"contentBlockIndex": 0}),
            ("contentBlockStart", {"contentBlockIndex": 1, "start": start}),
            ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '{"city":'}}}),
            ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '"Zürich"}'}}}),
            ("contentBlockStop", {"contentBlockIndex": 1}),
            ("messageStop", {"stopReason": "tool_use"}),
            ("metadata", {"usage": usage, "metrics": {"latencyMs": 3}}),
        )
    )

    chunks = list(native.client(gateway.url).chat.completions.create(model=BEDROCK, messages=MESSAGES, tools=TOOLS, stream=True))

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "One moment."
    assert calls_of(chunks) == {0: {"id": "tooluse_1", "name": "weather", "arguments": '{"city":"Zürich"}'}}
    assert finish_of(chunks) == ["tool_calls"]
    received = upstream.received[-1]
    assert received.target == "/model/anthropic.claude-opus-5-v1:0/converse-stream"
    assert received.headers["accept"] == "application/vnd.amazon.eventstream"
    assert received.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDTEST/")
    assert [tool["toolSpec"]["name"] for tool in received.json["toolConfig"]["tools"]] == ["weather", "clock"]
    (row,) = native.rows()
    assert row.charged_nano_usd == 40 * INPUT + 60 * CACHED + 20 * OUTPUT
    assert (row.status, row.usage_estimated, row.finish_reason) == ("ok", False, "tool_calls")


def test_files_that_agents_read_reach_bedrock_in_a_conversation_that_it_takes(
    gateway: Gateway, native: House, upstream: Upstream
) -> None:
    output = {"message": {"role": "assistant", "content": [{"text": "Two reports."}]}}
    usage = {"inputTokens": 10, "outputTokens": 2, "totalTokens": 12}
    upstream.then(Script(parts=(json.dumps({"output": output, "stopReason": "end_turn", "usage": usage}).encode(),)))
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}}
    messages: Any = [
        {"role": "assistant", "content": "What shall I read?"},
        {"role": "user", "content": [pdf, {"type": "text", "text": "\n"}, pdf]},
    ]

    got = native.anthropic_client(gateway.url).messages.create(model=BEDROCK, max_tokens=100, messages=messages)

    assert got.to_dict()["content"] == [{"type": "text", "text": "Two reports."}]
    sent = upstream.received[-1].json["messages"]
    assert [turn["role"] for turn in sent] == ["user", "assistant", "user"]
    assert [next(iter(block)) for block in sent[2]["content"]] == ["text", "document", "document"]
    assert [block["document"]["name"] for block in sent[2]["content"][1:]] == ["Document", "Document 2"]


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_of_an_agent_s_plug_ins_reach_bedrock_however_long_their_names_are(
    gateway: Gateway, native: House, upstream: Upstream, streamed: bool
) -> None:
    """`Member must have length less than or equal to 64`: https://github.com/awslabs/agent-plugins/issues/131"""
    name = "mcp__plugin_deploy-on-aws_awsknowledge__aws___get_regional_availability"
    alias = "mcp__plugin_deploy-on-aws_awsknowledge__aws___get_regio_c38b3ff2"
    usage = {"inputTokens": 10, "outputTokens": 2, "totalTokens": 12}
    call = {"toolUse": {"toolUseId": "t", "name": alias}}
    whole = {"output": {"message": {"content": [{"toolUse": {**call["toolUse"], "input": {}}}]}}, "stopReason": "tool_use"}
    stream_of = (
        ("contentBlockStart", {"contentBlockIndex": 0, "start": call}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "tool_use"}),
        ("metadata", {"usage": usage}),
    )
    script = amazon_stream(*stream_of) if streamed else Script(parts=(json.dumps(whole | {"usage": usage}).encode(),))
    upstream.then(script)
    asked: Any = {"model": BEDROCK, "max_tokens": 100, "messages": MESSAGES, "tools": [{"name": name, "input_schema": {}}]}

    client = native.anthropic_client(gateway.url)
    if streamed:
        with client.messages.stream(**asked) as events:
            message = events.get_final_message()
    else:
        message = client.messages.create(**asked)

    assert [(block.type, getattr(block, "name", "")) for block in message.content] == [("tool_use", name)]
    assert [tool["toolSpec"]["name"] for tool in upstream.received[-1].json["toolConfig"]["tools"]] == [alias]


def test_what_openai_s_callers_always_say_is_no_error_of_bedrock_s(gateway: Gateway, native: House, upstream: Upstream) -> None:
    """`temperature` is deprecated for this model: https://github.com/NousResearch/hermes-agent/issues/36151"""
    output = {"message": {"role": "assistant", "content": [{"text": "Hello"}]}}
    usage = {"inputTokens": 10, "outputTokens": 2, "totalTokens": 12}
    upstream.then(Script(parts=(json.dumps({"output": output, "stopReason": "end_turn", "usage": usage}).encode(),)))

    got = native.client(gateway.url).chat.completions.with_raw_response.create(
        model=BEDROCK, messages=MESSAGES, temperature=0.2, top_p=0.9, reasoning_effort="none"
    )

    assert got.parse().choices[0].message.content == "Hello"
    assert got.headers["x-gatehouse-ignored"] == "temperature, top_p"
    sent = upstream.received[-1].json
    assert "inferenceConfig" not in sent
    assert sent["additionalModelRequestFields"] == {"thinking": {"type": "disabled"}}


def refused(status: int, body: bytes) -> Script:
    return Script(status=status, parts=(body,))


WRONG_KEY = b'{"error":{"code":400,"message":"Bad key AIza-of-this-test","details":[{"reason":"API_KEY_INVALID"}]}}'
TOO_LONG = b'{"error":{"code":400,"message":"Too long.","status":"INVALID_ARGUMENT"}}'
OVERLOADED = {"error": {"code": 503, "message": "Overloaded.", "status": "UNAVAILABLE"}}
NO_STREAM = Script(headers={"content-type": "application/vnd.amazon.eventstream"}, parts=(b"<html>" * 50,))


@pytest.mark.parametrize(
    ("model", "script", "status"),
    [
        (GEMINI, refused(400, WRONG_KEY), 502),
        (GEMINI, refused(400, TOO_LONG), 400),
        (GEMINI, gemini_stream(OVERLOADED), 503),
        (GEMINI, gemini_stream(), 502),
        (GEMINI, gemini_stream(parts(finish="MALFORMED_FUNCTION_CALL")), 502),
        (BEDROCK, refused(403, b'{"message":"The security token AKIDTEST is invalid."}'), 502),
        (BEDROCK, amazon_stream(after=event_streams.exception("throttlingException", "Slow down.")), 503),
        (BEDROCK, NO_STREAM, 502),
    ],
)
def test_what_fails_before_the_first_word_is_an_error_and_free(
    gateway: Gateway, native: House, upstream: Upstream, model: str, script: Script, status: int
) -> None:
    upstream.then(script)

    with pytest.raises(openai.APIStatusError) as raised:
        native.client(gateway.url).chat.completions.create(model=model, messages=MESSAGES, stream=True)

    assert raised.value.status_code == status
    assert "of-this-test" not in str(raised.value)
    assert "AKIDTEST" not in str(raised.value)
    assert native.nothing_held()
    (row,) = native.rows()
    assert (row.status, row.charged_nano_usd) == ("failed", 0)


@pytest.mark.parametrize(
    ("model", "script"),
    [
        (GEMINI, gemini_stream(parts({"text": "Hel"}), {"error": {"code": 500, "message": "Oh.", "status": "INTERNAL"}})),
        (GEMINI, gemini_stream(parts({"text": "Hel"}), ending="reset")),
        (GEMINI, gemini_stream(parts({"text": "Hel"}))),
        (GEMINI, gemini_stream(parts({"text": "Hel"}), parts(finish="MALFORMED_RESPONSE"))),
        (
            BEDROCK,
            amazon_stream(
                ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hel"}}),
                after=event_streams.exception("modelStreamErrorException", "The model failed."),
            ),
        ),
    ],
)
def test_what_fails_on_the_way_is_told_in_the_stream_and_free(
    gateway: Gateway, native: House, upstream: Upstream, model: str, script: Script
) -> None:
    upstream.then(script)
    client = native.client(gateway.url)

    with pytest.raises(openai.APIError):  # where the first word came with the failure, before the stream
        list(client.chat.completions.create(model=model, messages=MESSAGES, stream=True))

    assert native.nothing_held()
    (row,) = native.rows()
    assert (row.status, row.charged_nano_usd) == ("failed", 0)


@pytest.mark.parametrize("through", ["chat", "messages"])
def test_words_before_a_call_that_the_model_failed_to_make_are_charged(
    gateway: Gateway, native: House, upstream: Upstream, through: str
) -> None:
    """Who makes them fail by tools of its own would else be served for nothing."""
    counted = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
    said, failed = gemini_stream(parts({"text": "Hel"}), parts(finish="UNEXPECTED_TOOL_CALL", usageMetadata=counted)).parts
    upstream.then(stream(said, 0.3, failed))

    asked: Any = {"model": GEMINI, "max_tokens": 100, "messages": MESSAGES, "stream": True}
    openais, anthropics = native.client(gateway.url).chat.completions, native.anthropic_client(gateway.url).messages
    events = openais.create(**asked) if through == "chat" else anthropics.create(**asked)
    with pytest.raises((openai.APIError, anthropic.APIError), match="failed to call a tool"):
        list(events)

    assert native.nothing_held()
    (row,) = native.rows()
    assert (row.status, row.error_code, row.input_tokens, row.output_tokens) == ("cut", "provider_error", 10, 5)
    assert row.charged_nano_usd == row.list_nano_usd == sum(row.cost_parts.values()) > 0
    assert row.absorbed_nano_usd == 0


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("finish", ["MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE"])
def test_what_a_provider_counts_of_an_answer_that_is_none_is_absorbed(
    gateway: Gateway, native: House, upstream: Upstream, finish: str, streamed: bool
) -> None:
    failed = parts(finish=finish, usageMetadata={"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15})
    upstream.then(gemini_stream(failed) if streamed else Script(parts=(json.dumps(failed).encode(),)))

    with pytest.raises(openai.APIStatusError, match="failed to call a tool"):
        native.client(gateway.url).chat.completions.create(model=GEMINI, messages=MESSAGES, stream=streamed)

    assert native.nothing_held()
    (row,) = native.rows()
    assert (row.status, row.charged_nano_usd, row.list_nano_usd) == ("failed", 0, 0)
    assert (row.input_tokens, row.output_tokens, row.absorbed_nano_usd) == (10, 5, 10 * INPUT + 5 * OUTPUT)


def test_an_address_of_a_picture_is_not_fetched_for_them(gateway: Gateway, native: House, upstream: Upstream) -> None:
    picture = {"type": "image_url", "image_url": {"url": f"{upstream.url}/secret.png"}}
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]}]
    for model in (GEMINI, BEDROCK):
        with pytest.raises(openai.BadRequestError, match="fetches no addresses"):
            native.client(gateway.url).chat.completions.create(model=model, messages=messages)
    assert upstream.received == []
    assert native.nothing_held()


def test_what_a_provider_has_no_word_for_is_named_to_the_caller_and_on_the_row(
    gateway: Gateway, native: House, upstream: Upstream
) -> None:
    whole = {
        "output": {"message": {"content": [{"text": "Hi"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 1, "outputTokens": 1},
    }
    upstream.then(Script(parts=(json.dumps(whole).encode(),)))
    chat = native.client(gateway.url).chat.completions.with_raw_response

    got = chat.create(model=BEDROCK, messages=MESSAGES, seed=7, extra_body={"min_p": 0.1, "my secret": "x"})
    assert got.headers["x-gatehouse-ignored"] == "seed, min_p, other"
    (row,) = native.rows()
    assert row.decision["ignored"] == ["seed", "min_p", "other"]

    with pytest.raises(openai.BadRequestError) as refused:
        chat.create(model=BEDROCK, messages=MESSAGES, logprobs=True)
    assert refused.value.param == "logprobs"
