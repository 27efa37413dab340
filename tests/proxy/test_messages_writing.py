"""Conversations written as Messages requests: what that protocol wants and refuses."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
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
from proxy.protocols import claude_models, converse_makers, messages
from proxy.protocols.base import Quirks
from tests.proxy.conversations import conversations

USER = Message("user", (Text("?"),))
BUDGET, ADAPTIVE = "claude-sonnet-4-5", "claude-opus-5-5"
TOOL = Tool("f", "d", Raw(b'{"type":"object"}'))
USED = (Message("assistant", (ToolUse("c", "f", "{}"),)), Message("tool", (ToolResult("c", (Text("r"),)),)))


def written(
    *said: Message, model: str = ADAPTIVE, max_tokens: int | None = None, quirks: Quirks | None = None, **members: Any
) -> Any:
    conversation = Conversation(messages=said or (USER,), **members)
    body = messages.write_request(conversation, model=model, stream=False, max_tokens=max_tokens, quirks=quirks or Quirks()).body
    return json.loads(body)


# --- round trip --------------------------------------------------------------------------------
def sayable(conversation: Conversation) -> Conversation:
    """As far as this protocol can say it: system first, neighbours of one role together, no blank text, no name of a format."""

    def parts(message: Message) -> tuple[Any, ...]:
        shown = [part for part in message.parts if not (isinstance(part, Text) and not part.text.strip())]
        return tuple(
            msgspec.structs.replace(part, parts=tuple(inner for inner in part.parts if getattr(inner, "text", "x").strip()))
            if isinstance(part, ToolResult)
            else part
            for part in shown
        )

    kept = [Message(message.role, parts(message)) for message in conversation.messages]
    system = tuple(part for message in kept if message.role == "system" for part in message.parts)
    rest = [message for message in kept if message.role != "system" and message.parts]
    merged = tuple(
        Message(role, tuple(part for message in run for part in message.parts))
        for role, run in groupby(rest, key=lambda message: message.role)
    )
    return msgspec.structs.replace(
        conversation,
        messages=(*((Message("system", system),) if system else ()), *merged),
        format=Format("schema", schema=conversation.format.schema) if conversation.format else None,
        max_tokens=conversation.max_tokens or 4096,
    )


@given(conversations())
def test_what_is_written_is_read_the_same(conversation: Conversation) -> None:
    assume(all(text.strip() for text in conversation.stop))
    expected = sayable(conversation)
    spoken = [message.role for message in expected.messages if message.role != "system"]
    assume(spoken and spoken[0] == "user" and spoken[-1] != "assistant")
    # Thought goes with no temperature, and not with every choice of tools: tested apart.
    expected = msgspec.structs.replace(expected, reasoning=None)
    body = messages.write_request(expected, model=BUDGET, stream=False, max_tokens=None, quirks=Quirks()).body
    assert messages.conversation(messages.parse(body)) == expected


@given(conversations(), st.sampled_from([BUDGET, ADAPTIVE, "claude-3-haiku-20240307", "other-model"]))
def test_whatever_is_written_is_what_the_protocol_allows(conversation: Conversation, model: str) -> None:
    assume(all(text.strip() for text in conversation.stop))
    try:
        body = messages.write_request(conversation, model=model, stream=True, max_tokens=None, quirks=Quirks()).body
    except BadRequest:
        assume(False)
    sent = json.loads(body)
    roles = [message["role"] for message in sent["messages"]]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"] * (len(roles) % 2)
    for message in sent["messages"]:
        kinds = [block["type"] for block in message["content"]]
        assert kinds == sorted(kinds, key=lambda kind: kind != "tool_result")
        assert all(block["text"].strip() for block in message["content"] if block["type"] == "text")
    thinking = sent.get("thinking", {})
    assert thinking.get("budget_tokens", 1024) in range(1024, max(1025, sent["max_tokens"]))
    assert thinking.get("type") not in ("enabled", "adaptive") or "temperature" not in sent
    assert None not in sent.values()
    assert (sent["stream"], sent["model"]) == (True, model)


# --- messages ----------------------------------------------------------------------------------
def test_all_results_of_a_turn_come_first_in_one_message() -> None:
    calls = Message("assistant", (ToolUse("a", "f", "{}"), ToolUse("b", "f", '{"x": 1}')))
    results = [Message("tool", (ToolResult(id, (Text(id),)),)) for id in ("a", "b")]
    sent = written(USER, calls, results[0], Message("user", (Text("and?"),)), results[1], tools=(TOOL,))["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert [block["type"] for block in sent[2]["content"]] == ["tool_result", "tool_result", "text"]
    assert [block.get("tool_use_id") for block in sent[2]["content"]] == ["a", "b", None]
    assert [block["input"] for block in sent[1]["content"]] == [{}, {"x": 1}]


def test_system_prompts_from_anywhere_stand_beside_the_messages() -> None:
    sent = written(Message("system", (Text("a"),)), USER, Message("system", (Text("b", CacheMark("1h")),)), USER)
    assert [block["text"] for block in sent["system"]] == ["a", "b"]
    assert sent["system"][1]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert [len(message["content"]) for message in sent["messages"]] == [2]


def test_a_system_prompt_alone_is_asked_as_a_question() -> None:
    sent = written(Message("system", (Text("Count."),)))
    assert sent["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Count."}]}]
    assert "system" not in sent


def test_the_user_begins_and_the_assistants_own_words_end_without_white_space() -> None:
    said = (Message("assistant", (Text("Hi"),)), USER, Message("assistant", (Text("The answer is  "),)))
    sent = written(*said, model=BUDGET)["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user", "assistant"]
    assert sent[-1]["content"] == [{"type": "text", "text": "The answer is"}]
    # Models that do not go on from their own words are asked to.
    assert [message["role"] for message in written(*said)["messages"]] == ["user", "assistant", "user", "assistant", "user"]


@pytest.mark.parametrize("said", [(), (Message("user", (Text(" \n"),)),), (Message("assistant", (Thinking("unsigned"),)),)])
def test_a_conversation_without_content_is_refused(said: tuple[Message, ...]) -> None:
    conversation = Conversation(messages=said)
    with pytest.raises(BadRequest):
        messages.write_request(conversation, model=ADAPTIVE, stream=False, max_tokens=None, quirks=Quirks())


def test_ids_are_made_valid_and_each_is_used_once() -> None:
    def turn(id: str) -> tuple[Message, Message]:
        return Message("assistant", (ToolUse(id, "f", "{}"),)), Message("tool", (ToolResult(id),))

    sent = written(USER, *turn("call:0"), *turn("call:0"), *turn("call_0"), *turn(""))["messages"]
    used = [block["id"] for message in sent for block in message["content"] if block["type"] == "tool_use"]
    answered = [block["tool_use_id"] for message in sent for block in message["content"] if block["type"] == "tool_result"]
    assert used == answered == ["call_0", "call_0_2", "call_0_3", "toolu"]


def test_many_calls_of_one_id_are_counted_on() -> None:
    """Trying every number for every call would take as many steps as half the square of them."""
    calls = [ToolUse(id, "f", "{}") for id in ("toolu_2", *[""] * 20_000, "toolu_2")]
    used = [block["id"] for block in written(USER, Message("assistant", tuple(calls)))["messages"][1]["content"]]
    assert used[:4] == ["toolu_2", "toolu", "toolu_3", "toolu_4"]
    assert used[-2:] == ["toolu_20001", "toolu_2_2"]
    assert len(set(used)) == len(calls)


def test_arguments_that_are_no_object_become_one() -> None:
    sent = written(USER, Message("assistant", (ToolUse("c", "f", '{"a":'),)), Message("tool", (ToolResult("c"),)))
    assert sent["messages"][1]["content"][0]["input"] == {"unreadable_arguments": '{"a":'}


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (Image("image/jpg", "QUJD"), {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "QUJD"}}),
        (Image(url="https://x/y.png"), {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}),
        (
            File("application/pdf", "QUJD", name="a.pdf"),
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "QUJD"}, "title": "a.pdf"},
        ),
        (File(url="https://x/a.pdf"), {"type": "document", "source": {"type": "url", "url": "https://x/a.pdf"}}),
        (
            File("text/markdown", "w7w="),
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "ü"}},
        ),
        (Refusal("no"), {"type": "text", "text": "no"}),
        (Text("a", CacheMark()), {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}),
        (Thinking("hm", "sig"), {"type": "thinking", "thinking": "hm", "signature": "sig"}),
        (Thinking(redacted="xx"), {"type": "redacted_thinking", "data": "xx"}),
    ],
)
def test_every_kind_of_part_can_be_said(part: Any, block: dict[str, Any]) -> None:
    assert written(USER, Message("assistant", (part, Text("so"))), USER)["messages"][1]["content"][0] == block


def test_results_of_tools_show_pictures_and_errors() -> None:
    result = ToolResult("c", (Text("seen"), Image("image/png", "QUJD"), Text("")), is_error=True, cache=CacheMark())
    block = written(USER, USED[0], Message("tool", (result,)))["messages"][2]["content"][0]
    assert [inner["type"] for inner in block["content"]] == ["text", "image"]
    assert (block["is_error"], block["cache_control"]) == (True, {"type": "ephemeral"})


def test_thought_of_other_providers_is_left_out() -> None:
    assert [
        block["type"]
        for block in written(USER, Message("assistant", (Thinking("x"), Thinking("y", "oai1.c2ln"), Text("a"))), USER)[
            "messages"
        ][1]["content"]
    ] == ["text"]


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"stop": ("\n",)}, "stop"),
        ({"messages": (Message("user", (Audio("wav", "QUJD"),)),)}, "messages"),
        ({"messages": (Message("user", (File(file_id="file-1"),)),)}, "messages"),
        ({"messages": (Message("user", (File("application/zip", "QUJD"),)),)}, "messages"),
        ({"messages": (Message("user", (File("text/plain", "%%%"),)),)}, "messages"),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(members: dict[str, Any], param: str) -> None:
    conversation = Conversation(**{"messages": (USER,), **members})
    with pytest.raises(BadRequest) as raised:
        messages.write_request(conversation, model=ADAPTIVE, stream=False, max_tokens=None, quirks=Quirks())
    assert raised.value.param == param


def test_what_has_no_meaning_there_is_dropped() -> None:
    dropped: dict[str, Any] = {
        "seed": 1,
        "logit_bias": Raw(b"{}"),
        "frequency_penalty": 1.0,
        "presence_penalty": 1.0,
        "verbosity": "low",
    }
    assert written(**dropped) == written()


# --- tools -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        (None, {"type": "object", "properties": {}}),
        (b"{}", {"type": "object", "properties": {}}),
        (b"null", {"type": "object", "properties": {}}),
        (b'{"properties":{"a":{}}}', {"type": "object", "properties": {"a": {}}}),
        (b'{"type":"object","x":1}', {"type": "object", "x": 1}),
    ],
)
def test_every_tool_has_a_schema_of_an_object(schema: bytes | None, sent: dict[str, Any]) -> None:
    tool = Tool("f", parameters=Raw(schema) if schema is not None else None)
    assert written(tools=(tool,))["tools"] == [{"name": "f", "input_schema": sent}]


def test_a_schemas_bytes_are_kept() -> None:
    tool = Tool("f", parameters=Raw(b'{ "type":"object",  "b":1, "a":2 }'))
    body = messages.write_request(
        Conversation(messages=(USER,), tools=(tool,)), model=ADAPTIVE, stream=False, max_tokens=None, quirks=Quirks()
    ).body
    assert b'{ "type":"object",  "b":1, "a":2 }' in body


@pytest.mark.parametrize(("model", "strict"), [(ADAPTIVE, True), ("claude-3-7-sonnet-latest", None), ("other", None)])
def test_strict_tools_are_asked_of_who_knows_them(model: str, strict: bool | None) -> None:
    closed = Raw(b'{"type":"object","properties":{},"additionalProperties":false}')
    tool = msgspec.structs.replace(TOOL, parameters=closed, strict=True, cache=CacheMark())
    sent = written(tools=(tool,), model=model)["tools"][0]
    assert (sent.get("strict"), sent["cache_control"]) == (strict, {"type": "ephemeral"})


@pytest.mark.parametrize(
    ("choice", "parallel", "sent"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("auto"), None, {"type": "auto"}),
        (ToolChoice("required"), False, {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice("none"), False, {"type": "none"}),
        (ToolChoice("tool", "f"), None, {"type": "tool", "name": "f"}),
    ],
)
def test_choices_of_tools(choice: ToolChoice | None, parallel: bool | None, sent: Any) -> None:
    asked: Any = {"tools": (TOOL,), "tool_choice": choice, "parallel_tools": parallel}
    assert written(**asked, model="claude-opus-5").get("tool_choice") == sent
    assert "tool_choice" not in written(tool_choice=choice, parallel_tools=parallel)


@pytest.mark.parametrize("choice", [ToolChoice("required"), ToolChoice("tool", "f")])
@pytest.mark.parametrize("model", ["claude-opus-5-5", "claude-sonnet-5-5", "claude-fable-5-1"])
def test_models_that_cannot_be_made_to_call_leave_it_to_others(choice: ToolChoice, model: str) -> None:
    """`tool_choice: type "tool" and "any" are not supported for this model.`"""
    with pytest.raises(BadRequest) as refused:
        written(tools=(TOOL,), tool_choice=choice, model=model)
    assert refused.value.param == "tool_choice"
    for other in ("claude-haiku-5-5", "claude-fable-5", "claude-opus-5", "claude-sonnet-5", "other-model"):
        assert "tool_choice" in written(tools=(TOOL,), tool_choice=choice, model=other)


# --- thinking, sampling, formats ---------------------------------------------------------------
@pytest.mark.parametrize(
    ("reasoning", "model", "cap", "thinking", "effort"),
    [
        (Reasoning("high"), ADAPTIVE, None, {"type": "adaptive"}, "high"),
        (Reasoning("xhigh", visible=True), ADAPTIVE, None, {"type": "adaptive", "display": "summarized"}, "xhigh"),
        (Reasoning("max"), "claude-opus-4-6", None, {"type": "adaptive"}, "high"),
        (Reasoning("minimal"), ADAPTIVE, None, {"type": "adaptive"}, "low"),
        (Reasoning(budget_tokens=8000), ADAPTIVE, None, {"type": "adaptive"}, "medium"),
        (Reasoning(budget_tokens=99_000), ADAPTIVE, None, {"type": "adaptive"}, "max"),
        (Reasoning("none"), ADAPTIVE, None, None, "low"),
        (Reasoning("none"), "claude-opus-4-8", None, None, None),
        (Reasoning("none"), "claude-opus-5", None, {"type": "disabled"}, None),
        (Reasoning("none"), "claude-sonnet-5-5", None, {"type": "between_tools"}, None),
        (Reasoning("none"), "claude-haiku-5-5", None, {"type": "disabled"}, None),
        (Reasoning("none"), "claude-fable-5-1", None, None, "low"),
        (Reasoning("none"), BUDGET, None, {"type": "disabled"}, None),
        (Reasoning("high"), BUDGET, 64_000, {"type": "enabled", "budget_tokens": 16_384}, None),
        (Reasoning("high"), BUDGET, 10_000, {"type": "enabled", "budget_tokens": 8000}, None),
        (Reasoning(budget_tokens=5000), BUDGET, 10_000, {"type": "enabled", "budget_tokens": 5000}, None),
        (Reasoning("low"), BUDGET, 1200, None, None),
        (Reasoning("low"), "other-model", 9000, {"type": "enabled", "budget_tokens": 2048}, None),
        (Reasoning("high"), "claude-3-5-haiku-latest", 9000, None, None),
        (None, ADAPTIVE, 9000, None, None),
    ],
)
def test_effort_becomes_what_the_model_takes(reasoning: Any, model: str, cap: int | None, thinking: Any, effort: Any) -> None:
    sent = written(reasoning=reasoning, model=model, max_tokens=cap)
    assert sent.get("thinking") == thinking
    assert sent.get("output_config", {}).get("effort") == effort


@pytest.mark.parametrize(
    ("said", "thinks"),
    [
        ((USER,), True),
        ((USER, *USED), False),
        ((USER, Message("assistant", (Thinking("x"), ToolUse("c", "f", "{}"))), USED[1]), False),
        ((USER, Message("assistant", (Thinking("x", "sig"), ToolUse("c", "f", "{}"))), USED[1]), True),
        ((USER, Message("assistant", (Thinking(redacted="xx"), ToolUse("c", "f", "{}"))), USED[1]), True),
        ((USER, *USED, Message("assistant", (Text("so"),)), USER), True),
        ((USER, Message("assistant", (Text("It is"),))), False),
    ],
)
def test_thinking_by_tokens_is_off_where_the_turn_began_without_it(said: tuple[Message, ...], thinks: bool) -> None:
    assert (written(*said, reasoning=Reasoning("low"), model=BUDGET)["thinking"]["type"] == "enabled") == thinks
    assert written(*said, reasoning=Reasoning("low"))["thinking"] == {"type": "adaptive"}


@pytest.mark.parametrize("choice", [ToolChoice("required"), ToolChoice("tool", "f")])
def test_thinking_by_tokens_is_off_where_a_tool_is_forced(choice: ToolChoice) -> None:
    members: dict[str, Any] = {"reasoning": Reasoning("low"), "tools": (TOOL,), "tool_choice": choice}
    assert written(**members, model=BUDGET)["thinking"] == {"type": "disabled"}
    assert written(**members, model="claude-opus-5")["thinking"] == {"type": "adaptive"}


@pytest.mark.parametrize(
    ("model", "thinks"),
    [
        ("claude-sonnet-4-5", False),
        ("claude-opus-4-6", False),
        ("claude-sonnet-4-6", False),
        ("claude-opus-4-7", False),
        ("claude-opus-4-8", True),
        ("claude-sonnet-5", True),
        ("claude-fable-5", True),
    ],
)
def test_both_services_have_a_model_think_that_must_call_a_tool_only_where_it_may(model: str, thinks: bool) -> None:
    """`Thinking may not be enabled when tool_choice forces tool use.`"""
    members: dict[str, Any] = {"reasoning": Reasoning("high"), "tools": (TOOL,), "tool_choice": ToolChoice("required")}
    sent = written(**members, model=model)
    on_amazon = converse_makers.of_maker(Conversation(messages=(USER,), **members), model=f"global.anthropic.{model}", cap=32_000)

    assert (sent.get("thinking", {}).get("type") == "adaptive") is thinks
    assert ("thinking" in on_amazon.fields) is thinks
    assert sent["tool_choice"] == {"type": "any"}


@pytest.mark.parametrize(
    ("members", "model", "sent"),
    [
        ({"temperature": 1.7}, BUDGET, {"temperature": 1.0}),
        ({"temperature": 0.2, "top_p": 0.9, "top_k": 5}, BUDGET, {"temperature": 0.2, "top_k": 5}),
        ({"top_p": 0.9}, BUDGET, {"top_p": 0.9}),
        ({"temperature": 0.2, "top_p": 0.9, "top_k": 5}, ADAPTIVE, {}),
        ({"temperature": 0.2, "top_p": 0.9, "reasoning": Reasoning("low")}, BUDGET, {}),
        ({"top_p": 0.95, "reasoning": Reasoning("low")}, BUDGET, {"top_p": 0.95}),
        ({"temperature": 0.2}, "other-model", {"temperature": 0.2}),
    ],
)
def test_sampling_is_what_the_model_takes(members: dict[str, Any], model: str, sent: dict[str, Any]) -> None:
    body = written(**members, model=model)
    assert {name: body[name] for name in ("temperature", "top_p", "top_k") if name in body} == sent


def test_a_schema_is_a_format_and_plain_json_an_instruction() -> None:
    closed, schema = Raw(b'{"type": "object", "properties": {}, "additionalProperties": false}'), Raw(b'{"type":"object"}')
    held = written(format=Format("schema", "n", closed))["output_config"]["format"]
    assert held == {"type": "json_schema", "schema": json.loads(bytes(closed))}
    (told,) = written(format=Format("schema", "n", schema))["system"]
    assert told["text"].endswith('{"type":"object"}')
    taken_at_its_word = written(format=Format("schema", "n", schema), model="no-model-of-theirs")["output_config"]["format"]
    assert taken_at_its_word["schema"] == {"type": "object"}
    (told,) = written(format=Format("json"))["system"]
    assert "JSON" in told["text"]
    (told,) = written(format=Format("schema", "n", schema), quirks=Quirks(schema_formats=False))["system"]
    assert told["text"].endswith('{"type":"object"}')


@pytest.mark.parametrize(("own", "clamp", "sent"), [(9, None, 9), (9, 5, 5), (5, 9, 5), (None, 7, 7), (None, None, 4096)])
def test_every_request_bounds_its_answer(own: int | None, clamp: int | None, sent: int) -> None:
    conversation = Conversation(messages=(USER,), max_tokens=own)
    body = messages.write_request(conversation, model=ADAPTIVE, stream=False, max_tokens=clamp, quirks=Quirks()).body
    assert json.loads(body)["max_tokens"] == sent


def test_who_asks_is_told_where_it_fits() -> None:
    assert written(user="u-1")["metadata"] == {"user_id": "u-1"}
    assert "metadata" not in written(user="u" * 300)


def test_automatic_breakpoints_are_set_where_the_operator_wants_them() -> None:
    long = Message("user", (Text("x" * 20_000),))
    assert "cache_control" in written(long, quirks=Quirks(auto_cache=True))["messages"][-1]["content"][-1]
    assert "cache_control" not in written(long)["messages"][-1]["content"][-1]


# --- models ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("model", "version", "thinking", "sampling"),
    [
        ("claude-2.1", (2, 1), "none", True),
        ("claude-3-haiku-20240307", (3, 0), "none", True),
        ("claude-3-5-sonnet-20241022", (3, 5), "none", True),
        ("claude-3-7-sonnet-latest", (3, 7), "budget", True),
        ("claude-opus-4-20250514", (4, 0), "budget", True),
        ("anthropic.claude-opus-4-1-20250805-v1:0", (4, 1), "budget", True),
        ("claude-sonnet-4-5@20250929", (4, 5), "budget", True),
        ("claude-haiku-4-5", (4, 5), "budget", True),
        ("anthropic/claude-opus-4.6", (4, 6), "adaptive", True),
        ("claude-opus-4-7", (4, 7), "adaptive", False),
        ("global.anthropic.claude-fable-5-1", (5, 1), "adaptive", False),
        ("claude-opus-5", (5, 0), "adaptive", False),
        ("claude-mythos-preview", (99, 0), "adaptive", False),
        ("kimi-k2", None, "budget", True),
    ],
)
def test_a_claude_is_known_by_its_name(model: str, version: Any, thinking: str, sampling: bool) -> None:
    assert claude_models.version(model) == version
    assert claude_models.thinking(model) == thinking
    assert claude_models.takes_sampling(model) == sampling
