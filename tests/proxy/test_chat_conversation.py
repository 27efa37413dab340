"""Chat Completions requests read into conversations, and written from them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from msgspec import Raw

from proxy.canonical.conversation import (
    Audio,
    CacheMark,
    Conversation,
    File,
    Format,
    Image,
    Message,
    Reasoning,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from proxy.errors import BadRequest
from proxy.protocols import chat_completions
from proxy.protocols.base import Quirks
from tests.proxy.conversations import conversations

ASK = [{"role": "user", "content": "Hello"}]


def read(**members: Any) -> Conversation:
    body = json.dumps({"model": "m", "messages": ASK, **members}).encode()
    return chat_completions.conversation(chat_completions.parse(body))


def said(*messages: dict[str, Any]) -> tuple[Message, ...]:
    return read(messages=list(messages)).messages


def written(conversation: Conversation, *, stream: bool = False, max_tokens: int | None = None, **quirks: Any) -> Any:
    body = chat_completions.write_request(
        conversation, model="up", stream=stream, max_tokens=max_tokens, quirks=Quirks(**quirks)
    ).body
    return json.loads(body)


@given(conversations())
def test_what_is_written_is_read_the_same(conversation: Conversation) -> None:
    body = chat_completions.write_request(conversation, model="up", stream=False, max_tokens=None, quirks=Quirks()).body
    assert chat_completions.conversation(chat_completions.parse(body)) == conversation


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({"role": "user", "content": "hi"}, (Text("hi"),)),
        ({"role": "user", "content": ["a", {"type": "text", "text": "b"}]}, (Text("a"), Text("b"))),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}}]},
            (Image(url="https://x/y.png", detail="low"),),
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/webp;base64,QUJD"}}]},
            (Image("image/webp", "QUJD"),),
        ),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}}]},
            (Audio("wav", "QUJD"),),
        ),
        (
            {
                "role": "user",
                "content": [{"type": "file", "file": {"file_data": "data:application/pdf;base64,QUJD", "filename": "a.pdf"}}],
            },
            (File("application/pdf", "QUJD", name="a.pdf"),),
        ),
        (
            {
                "role": "system",
                "content": [{"type": "text", "text": "long", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
            },
            (Text("long", CacheMark("1h")),),
        ),
        (
            {"role": "assistant", "content": None, "refusal": "no"},
            (Refusal("no"),),
        ),
        (
            {"role": "assistant", "content": "so", "reasoning_content": "hm"},
            (Thinking("hm"), Text("so")),
        ),
        (
            {
                "role": "assistant",
                "content": "so",
                "reasoning_content": "hm",
                "thinking_blocks": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "redacted_thinking", "data": "xx"},
                ],
            },
            (Thinking("hm", "s"), Thinking(redacted="xx"), Text("so")),
        ),
        (
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "f", "arguments": ""},
                        "extra_content": {"google": {"thought_signature": "sig"}},
                    }
                ],
            },
            (ToolUse("c1", "f", "{}", "sig"),),
        ),
        ({"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}, (ToolUse("f", "f", "{}"),)),
        ({"role": "tool", "tool_call_id": "c1", "content": "18°"}, (ToolResult("c1", (Text("18°"),)),)),
        ({"role": "function", "name": "f", "content": "18°"}, (ToolResult("f", (Text("18°"),)),)),
    ],
)
def test_every_kind_of_part_is_understood(message: dict[str, Any], parts: tuple[Any, ...]) -> None:
    assert said(*ASK, message)[-1].parts == parts


def test_developers_speak_as_the_system_does() -> None:
    assert [message.role for message in said({"role": "developer", "content": "a"}, *ASK)] == ["system", "user"]


def allowed(*tools: dict[str, Any], mode: str = "auto") -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, "messages[0].content[0]"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0]"),
        ({"tools": [{"type": "function", "function": {"name": 1}}]}, "tools[0].function.name"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"tool_choice": allowed({"type": "mcp", "server_label": "deepwiki"})}, "tool_choice"),
        ({"tool_choice": allowed({"type": "function", "function": {"name": "g"}})}, "tool_choice"),
        ({"tool_choice": allowed()}, "tool_choice"),
        (
            {"tool_choice": allowed({"type": "function", "function": {"name": "f"}}, mode="none")},
            "tool_choice.allowed_tools.mode",
        ),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"reasoning_effort": "heroic"}, "reasoning_effort"),
        ({"top_k": "many"}, "top_k"),
    ],
)
def test_what_cannot_be_said_elsewhere_is_refused_by_name(members: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as raised:
        read(**members)
    assert raised.value.param == param


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_a_choice_among_some_tools_offers_no_other(mode: str) -> None:
    """Exact in every protocol: a tool that is not declared cannot be called."""
    tools = [{"type": "function", "function": {"name": name}} for name in ("f", "g", "h")]
    some = [{"type": "function", "function": {"name": name}} for name in ("h", "f")]
    conversation = read(tools=tools, tool_choice=allowed(*some, mode=mode))
    assert [tool.name for tool in conversation.tools] == ["f", "h"]
    assert conversation.tool_choice == ToolChoice(mode)  # type: ignore[arg-type]


def test_the_rest_of_a_request_is_understood() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}}
    conversation = read(
        tools=[tool],
        tool_choice={"type": "function", "function": {"name": "f"}},
        parallel_tool_calls=False,
        max_completion_tokens=9,
        stop="END",
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        reasoning_effort="low",
        seed=None,
        logit_bias=None,
        user="u",
    )
    assert conversation == Conversation(
        messages=(Message("user", (Text("Hello"),)),),
        tools=(Tool("f", "d", Raw(b'{"type": "object"}'), True),),
        tool_choice=ToolChoice("tool", "f"),
        parallel_tools=False,
        max_tokens=9,
        stop=("END",),
        format=Format("schema", "n", Raw(b'{"type": "object"}')),
        reasoning=Reasoning("low"),
        user="u",
    )


def test_pictures_of_a_tool_follow_in_a_message_of_their_own_and_its_errors_say_so() -> None:
    results = (
        ToolResult("c1", (Text("seen"), Image("image/png", "QUJD"))),
        ToolResult("c2", (Text("broken"),), is_error=True),
    )
    body = written(Conversation(messages=(Message("tool", results),)))
    assert [message["role"] for message in body["messages"]] == ["tool", "tool", "user"]
    assert [message["content"] for message in body["messages"][:2]] == ["seen", "Error: broken"]
    assert body["messages"][2]["content"][0]["image_url"]["url"] == "data:image/png;base64,QUJD"


@pytest.mark.parametrize(("returns", "kept"), [(True, ["before", "now", ""]), (False, [])])
def test_thought_goes_back_with_the_tool_call_it_led_to_and_to_who_wants_it(returns: bool, kept: list[str]) -> None:
    def turn(thought: str) -> tuple[Message, Message]:
        return Message("assistant", (Thinking(thought), ToolUse("c", "f", "{}"))), Message("tool", (ToolResult("c"),))

    asked, said = Message("user", (Text("?"),)), Message("assistant", (Thinking("idle"), Text("!")))
    history = (asked, *turn("before"), said, asked, *turn("now"), *turn(""))
    body = written(Conversation(messages=history), returns_reasoning=returns)
    assert [message["reasoning_content"] for message in body["messages"] if "reasoning_content" in message] == kept


@pytest.mark.parametrize(("own", "cap", "sent"), [(9, None, 9), (9, 5, 5), (None, 7, 7), (None, None, None)])
def test_the_cap_that_was_reserved_for_is_sent(own: int | None, cap: int | None, sent: int | None) -> None:
    conversation = Conversation(messages=(Message("user", (Text("?"),)),), max_tokens=own)
    assert written(conversation, max_tokens=cap, max_tokens_field="max_completion_tokens").get("max_completion_tokens") == sent


def test_a_stream_is_asked_for_its_usage() -> None:
    conversation = Conversation(messages=(Message("user", (Text("?"),)),))
    assert written(conversation, stream=True)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in written(conversation, stream=True, force_usage=False)


@pytest.mark.parametrize(("budget", "effort"), [(1024, "low"), (4096, "medium"), (31_999, "high"), (None, None)])
def test_a_budget_of_thought_becomes_an_effort(budget: int | None, effort: str | None) -> None:
    conversation = Conversation(messages=(Message("user", (Text("?"),)),), reasoning=Reasoning(budget_tokens=budget))
    assert written(conversation).get("reasoning_effort") == effort


def test_a_schema_becomes_plain_json_where_schemas_are_not_taken() -> None:
    conversation = Conversation(messages=(Message("user", (Text("?"),)),), format=Format("schema", "n", Raw(b"{}")))
    assert written(conversation, schema_formats=False)["response_format"] == {"type": "json_object"}


def test_files_by_address_cannot_be_sent() -> None:
    with pytest.raises(BadRequest):
        written(Conversation(messages=(Message("user", (File(url="https://x/a.pdf"),)),)))
