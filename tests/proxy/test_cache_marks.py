"""Cache breakpoints of Claude models wherever they run: the caller's own are carried, automatic ones move no byte."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from proxy.canonical.conversation import CacheMark, Conversation, Message, Text, Thinking, Tool, ToolResult, ToolUse
from proxy.canonical.usage import Usage
from proxy.exchange import Exchange
from proxy.protocols import cache_marks, chat_completions, converse, messages
from proxy.protocols.base import Quirks
from proxy.providers import registry
from proxy.recording import completed
from tests.proxy.calls import deployment, held, planned_call
from tests.proxy.messages_wire import asked

LONG = "word " * (cache_marks.LEAST_BYTES // 5)
MARK, HOUR = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
CLAUDE, OTHER = "anthropic/claude-sonnet-4.5", "openai/gpt-5"
OPENROUTER = registry.provider("openrouter").configured({"auto_cache": True}).quirks
BEDROCK = registry.provider("bedrock").configured({"region": "us-east-1", "auto_cache": True}).quirks
TOOLS = [{"type": "function", "function": {"name": name}} for name in "ab"]
ASK = [{"role": "system", "content": LONG}, {"role": "user", "content": "Hi"}]


def unmarked(value: Any) -> Any:
    """Without marks, and with a list of one text as that text, which says the same."""
    if isinstance(value, dict):
        return {name: unmarked(inner) for name, inner in value.items() if name != "cache_control"}
    if isinstance(value, list):
        inner = [unmarked(one) for one in value]
        return inner[0]["text"] if len(inner) == 1 and isinstance(inner[0], dict) and inner[0].get("type") == "text" else inner
    return value


def passed(model: str = CLAUDE, quirks: Quirks = OPENROUTER, **members: Any) -> Any:
    request = chat_completions.parse(json.dumps({"model": "m", "messages": ASK, **members}).encode())
    return json.loads(chat_completions.pass_through(request, model=model, quirks=quirks))


# --- OpenRouter --------------------------------------------------------------------------------
def test_the_last_tool_the_system_prompt_and_the_last_message_are_marked() -> None:
    body = passed(tools=TOOLS)
    assert body["messages"][0]["content"] == [{"type": "text", "text": LONG, "cache_control": MARK}]
    assert body["messages"][1]["content"] == [{"type": "text", "text": "Hi", "cache_control": MARK}]
    assert [tool.get("cache_control") for tool in body["tools"]] == [None, MARK]
    assert unmarked(body) == unmarked(passed(quirks=Quirks(), tools=TOOLS))


@pytest.mark.parametrize(
    "last",
    [
        {"role": "tool", "tool_call_id": "c", "content": "r"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ],
)
def test_results_of_tools_and_lists_take_the_mark_on_their_last_text(last: dict[str, Any]) -> None:
    body = passed(messages=[*ASK, last])
    assert body["messages"][-1]["content"][-1]["cache_control"] == MARK
    assert unmarked(body["messages"]) == unmarked([*ASK, last])


@pytest.mark.parametrize(
    ("model", "quirks", "members"),
    [
        (OTHER, OPENROUTER, {}),
        (CLAUDE, registry.provider("openrouter").quirks, {}),
        (CLAUDE, OPENROUTER, {"messages": ASK[1:]}),
        (
            CLAUDE,
            OPENROUTER,
            {"messages": [*ASK, {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": MARK}]}]},
        ),
        (CLAUDE, registry.provider("openai").configured({"auto_cache": True}).quirks, {}),
    ],
)
def test_nothing_is_marked_elsewhere(model: str, quirks: Quirks, members: dict[str, Any]) -> None:
    plain = Quirks(max_tokens_field=quirks.max_tokens_field)
    assert passed(model, quirks, **members) == passed(model, plain, **members)


@pytest.mark.parametrize(
    "last",
    [{"role": "assistant", "content": None}, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}],
)
def test_what_takes_no_mark_gets_none(last: dict[str, Any]) -> None:
    assert passed(messages=[*ASK, last])["messages"][-1] == last


def test_a_call_of_another_protocol_is_marked_too() -> None:
    conversation = Conversation(messages=(Message("system", (Text(LONG),)), Message("user", (Text("Hi"),))))
    given: Any = {"model": CLAUDE, "stream": False, "max_tokens": None}
    body = json.loads(chat_completions.write_request(conversation, **given, quirks=OPENROUTER).body)
    assert [message["content"][-1]["cache_control"] for message in body["messages"]] == [MARK, MARK]


def test_a_callers_own_marks_are_carried_to_who_takes_them() -> None:
    result = {"type": "tool_result", "tool_use_id": "c", "content": "r", "cache_control": HOUR}
    request = asked(
        system=[{"type": "text", "text": "s", "cache_control": HOUR}],
        tools=[{"name": "f", "input_schema": {}, "cache_control": MARK}],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "q", "cache_control": MARK}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "t", "cache_control": MARK},
                    {"type": "tool_use", "id": "c", "name": "f", "input": {}},
                ],
            },
            {"role": "user", "content": [result]},
        ],
    )
    given: Any = {"model": CLAUDE, "stream": False, "max_tokens": None}
    written = chat_completions.write_request(
        messages.conversation(request), **given, quirks=registry.provider("openrouter").quirks
    )
    body = json.loads(written.body)
    assert [message["content"][0].get("cache_control") for message in body["messages"]] == [HOUR, MARK, MARK, HOUR]
    assert body["tools"][0]["cache_control"] == MARK
    assert written.unsaid == ()

    plain = chat_completions.write_request(messages.conversation(request), **given, quirks=Quirks())
    assert b"cache_control" not in plain.body
    assert plain.unsaid == ("cache_control",)


def test_a_mark_that_has_no_place_is_named() -> None:
    said = (ToolUse("c", "f", "{}", cache=CacheMark()),)
    conversation = Conversation(messages=(Message("assistant", said), Message("tool", (ToolResult("c"),))))
    given: Any = {"model": CLAUDE, "stream": False, "max_tokens": None}
    assert chat_completions.write_request(conversation, **given, quirks=OPENROUTER).unsaid == ("cache_control",)


@pytest.mark.parametrize(("ttl", "written"), [("1h", (0, 90)), ("5m", (90, 0))])
def test_what_was_written_is_priced_by_the_life_that_was_asked_for(ttl: str, written: tuple[int, int]) -> None:
    """OpenRouter counts what went into the cache, and does not say for how long."""
    place = msgspec.structs.replace(deployment(provider="openrouter"), provider=registry.provider("openrouter"))
    mark = {"type": "ephemeral", "ttl": ttl}
    call = planned_call(place, messages=[{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": mark}]}])
    call.held, call.served_by = held(), place
    Exchange(call, place).body()
    row = completed(
        call, Usage(input_uncached=10, cache_write_5m=90, output=1), text_length=1, finish_reason="stop", has_output=True
    )
    assert (row.cache_write_5m_tokens, row.cache_write_1h_tokens) == written


# --- Bedrock -----------------------------------------------------------------------------------
SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
POINT = {"cachePoint": {"type": "default"}}


def bedrock(*messages: Message, model: str = SONNET, quirks: Quirks = BEDROCK, **settings: Any) -> Any:
    conversation = Conversation(messages=messages, tools=(Tool("f"),), **settings)
    given: Any = {"model": model, "stream": False, "max_tokens": None}
    return json.loads(converse.write_request(conversation, **given, quirks=quirks).body)


def test_bedrock_gets_points_behind_tools_system_prompt_and_last_message() -> None:
    said = (Message("system", (Text(LONG),)), Message("user", (Text("Hi"),)))
    body = bedrock(*said)
    assert [blocks[-1] for blocks in (body["toolConfig"]["tools"], body["system"], body["messages"][-1]["content"])] == [
        POINT
    ] * 3
    for blocks in (body["toolConfig"]["tools"], body["system"], body["messages"][-1]["content"]):
        blocks.pop()
    assert body == bedrock(*said, quirks=Quirks())


@pytest.mark.parametrize(
    ("model", "quirks", "text"),
    [
        ("amazon.nova-pro-v1:0", BEDROCK, Text(LONG)),
        ("anthropic.claude-3-haiku-20240307-v1:0", BEDROCK, Text(LONG)),
        (SONNET, registry.provider("bedrock").quirks, Text(LONG)),
        (SONNET, BEDROCK, Text("short")),
        (SONNET, BEDROCK, Text(LONG, CacheMark())),
    ],
)
def test_bedrock_gets_none_elsewhere(model: str, quirks: Quirks, text: Text) -> None:
    said = (Message("system", (text,)), Message("user", (Text("Hi"),)))
    assert bedrock(*said, model=model, quirks=quirks) == bedrock(*said, model=model, quirks=Quirks())


def test_no_point_follows_thought() -> None:
    said = (Message("user", (Text(LONG),)), Message("assistant", (Thinking("t", "sealed"),)))
    assert bedrock(*said)["messages"][-1]["content"] == bedrock(*said, quirks=Quirks())["messages"][-1]["content"]


@pytest.mark.parametrize(("kind", "offers"), [("anthropic", True), ("bedrock", True), ("openrouter", True), ("groq", False)])
def test_automatic_breakpoints_are_offered_where_claude_may_run(kind: str, offers: bool) -> None:
    assert registry.provider(kind).configured({"region": "us-east-1", "auto_cache": True}).quirks.auto_cache is offers
    assert not registry.provider(kind).configured({"region": "us-east-1"}).quirks.auto_cache
