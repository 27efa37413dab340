"""Messages requests read into conversations, for models whose providers speak otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from proxy.canonical.conversation import (
    CacheMark,
    Conversation,
    File,
    Format,
    Image,
    Message,
    Reasoning,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from proxy.errors import BadRequest
from proxy.protocols import messages
from tests.proxy.messages_wire import asked, body


def read(**members: Any) -> Conversation:
    return messages.conversation(asked(**members))


def said(*blocks: Any, role: str = "user") -> tuple[Message, ...]:
    return read(messages=[{"role": role, "content": list(blocks)}]).messages


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ({"type": "text", "text": "a"}, Text("a")),
        ({"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, Text("a", CacheMark())),
        ({"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}}, Text("a", CacheMark("1h"))),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
            Image("image/png", "QUJD"),
        ),
        ({"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}, Image(url="https://x/y.png")),
        (
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "QUJD"}, "title": "T"},
            File("application/pdf", "QUJD", name="T"),
        ),
        ({"type": "document", "source": {"type": "url", "url": "https://x/a.pdf"}}, File(url="https://x/a.pdf")),
        (
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "body"},
                "title": "T",
                "context": "C",
            },
            Text("T\n\nC\n\nbody"),
        ),
        ({"type": "document", "source": {"type": "content", "content": "body"}}, Text("body")),
        (
            {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "body"}]}},
            Text("body"),
        ),
        (
            {"type": "search_result", "source": "https://x", "title": "T", "content": [{"type": "text", "text": "found"}]},
            Text("T\nhttps://x\n\nfound"),
        ),
        ({"type": "thinking", "thinking": "hm", "signature": "sig"}, Thinking("hm", "sig")),
        ({"type": "thinking", "thinking": "hm", "signature": ""}, Thinking("hm")),
        ({"type": "redacted_thinking", "data": "xx"}, Thinking(redacted="xx")),
        ({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}, ToolUse("toolu_1", "f", '{"a": 1}')),
        ({"type": "tool_use", "id": "toolu_1", "name": "f"}, ToolUse("toolu_1", "f", "{}")),
        ({"type": "tool_result", "tool_use_id": "t"}, ToolResult("t")),
        ({"type": "tool_result", "tool_use_id": "t", "content": "r", "is_error": True}, ToolResult("t", (Text("r"),), True)),
        (
            {
                "type": "tool_result",
                "tool_use_id": "t",
                "content": [
                    {"type": "text", "text": "r"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
                ],
                "cache_control": {"type": "ephemeral"},
            },
            ToolResult("t", (Text("r"), Image("image/png", "QUJD")), cache=CacheMark()),
        ),
    ],
)
def test_every_kind_of_block_is_understood(block: dict[str, Any], part: Any) -> None:
    assert said(block)[0].parts == (part,)


def test_results_of_tools_stand_apart_from_what_the_user_says() -> None:
    found = said(
        {"type": "tool_result", "tool_use_id": "a", "content": "1"},
        {"type": "tool_result", "tool_use_id": "b", "content": "2"},
        {"type": "text", "text": "and?"},
    )
    assert [message.role for message in found] == ["tool", "user"]
    assert [part.tool_use_id for part in found[0].parts if isinstance(part, ToolResult)] == ["a", "b"]


@pytest.mark.parametrize("system", ["Be brief.", [{"type": "text", "text": "Be brief."}]])
def test_the_system_prompt_comes_first(system: Any) -> None:
    assert read(system=system).messages[0] == Message("system", (Text("Be brief."),))


def test_the_rest_of_a_request_is_understood() -> None:
    conversation = read(
        tools=[{"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": True, "cache_control": {}}],
        tool_choice={"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        stop_sequences=["END"],
        metadata={"user_id": "u"},
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        context_management={"edits": []},
        service_tier="auto",
        stream=True,
    )
    assert conversation == Conversation(
        messages=(Message("user", (Text("Tell me about the gate."),)),),
        tools=(Tool("f", "d", Raw(b'{"type": "object"}'), True, CacheMark()),),
        tool_choice=ToolChoice("tool", "f"),
        parallel_tools=False,
        max_tokens=100,
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        stop=("END",),
        format=Format("schema", schema=Raw(b'{"type": "object"}')),
        reasoning=Reasoning("low"),
        user="u",
        unsaid=("context_management",),
    )


@pytest.mark.parametrize(
    ("members", "reasoning"),
    [
        ({}, None),
        ({"thinking": {"type": "disabled"}}, None),
        ({"thinking": {"type": "between_tools"}}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, Reasoning(None, 2000, True)),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000, "display": "omitted"}}, Reasoning(None, 2000)),
        ({"thinking": {"type": "adaptive"}}, Reasoning("medium", visible=True)),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, Reasoning("max", visible=True)),
        ({"output_config": {"effort": "low"}}, Reasoning("low")),
    ],
)
def test_thinking_is_understood(members: dict[str, Any], reasoning: Reasoning | None) -> None:
    assert read(**members).reasoning == reasoning


@pytest.mark.parametrize(
    ("choice", "read_choice"),
    [("auto", ToolChoice("auto")), ("any", ToolChoice("required")), ("none", ToolChoice("none"))],
)
def test_choices_of_tools(choice: str, read_choice: ToolChoice) -> None:
    assert read(tool_choice={"type": choice}).tool_choice == read_choice


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
        ({"tools": [{"name": 7}]}, "tools[0].name"),
        ({"tool_choice": {"type": "perhaps"}}, "tool_choice.type"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format"),
        ({"output_config": {"effort": "heroic"}}, "output_config.effort"),
        ({"mcp_servers": [{"url": "https://x"}]}, "mcp_servers"),
        ({"container": "c-1"}, "container"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_k": "many"}, "top_k"),
    ],
)
def test_what_lives_at_anthropic_only_is_refused_by_name(members: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as raised:
        read(**members)
    assert raised.value.param == param


@pytest.mark.parametrize(
    "block",
    [
        {"type": "hologram"},
        {"type": "image", "source": {"type": "file", "file_id": "f"}},
        {"type": "document", "source": {"type": "file", "file_id": "f"}},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
        {"type": "container_upload", "file_id": "f"},
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "tool_reference", "tool_name": "x"}]},
    ],
)
def test_blocks_that_only_anthropic_knows_are_refused_by_their_place(block: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as raised:
        said(block)
    assert (raised.value.param or "").startswith("messages[0].content[0]")


def test_half_a_character_is_replaced() -> None:
    request = messages.parse(body().replace(b"gate", b"g\\ud83dte"))
    assert messages.conversation(request).messages[0].parts == (Text("Tell me about the g\N{REPLACEMENT CHARACTER}te."),)
