"""Tools of namespaces, and those without a schema, at providers that know functions only."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.canonical.answer import Answer, Choice, Finished, Started, ToolDelta, ToolStarted
from proxy.canonical.conversation import Conversation, ToolChoice, ToolUse
from proxy.canonical.request import Request
from proxy.errors import BadRequest
from proxy.protocols import responses

CALL = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
LOOK_UP = {"type": "function", "name": "look_up", "description": "d", "parameters": {"type": "object"}}
SPACE = {"type": "namespace", "name": "crm", "description": "Customers.", "tools": [LOOK_UP, {"type": "custom", "name": "note"}]}


def asked(*tools: dict[str, Any], **members: Any) -> Request:
    body = {"model": "m", "input": "Hi", "tools": list(tools), "stream": True, **members}
    return responses.parse(json.dumps(body).encode())


def read(*tools: dict[str, Any], **members: Any) -> Conversation:
    return responses.conversation(asked(*tools, **members))


def items(request: Request, *calls: ToolUse) -> list[dict[str, Any]]:
    answer = Answer((Choice(calls, "tool_calls"),))
    found: list[dict[str, Any]] = json.loads(responses.render_answer(answer, request=request, call_id=CALL))["output"]
    return found


def test_tools_of_a_namespace_are_functions_by_a_joined_name() -> None:
    assert [tool.name for tool in read(LOOK_UP, SPACE).tools] == ["look_up", "crm__look_up", "crm__note"]
    assert "tools" in asked(SPACE).needs


def test_what_the_model_calls_is_told_by_namespace_and_name() -> None:
    found = items(
        asked(LOOK_UP, SPACE),
        ToolUse("a", "crm__look_up", "{}"),
        ToolUse("b", "crm__note", '{"input":"hello"}'),
        ToolUse("c", "look_up", "{}"),
        ToolUse("d", "made__up", "{}"),
    )
    told = [(item["type"], item.get("namespace"), item["name"]) for item in found]
    assert told == [
        ("function_call", "crm", "look_up"),
        ("custom_tool_call", "crm", "note"),
        ("function_call", None, "look_up"),
        ("function_call", None, "made__up"),
    ]
    assert found[1]["input"] == "hello"


def test_a_stream_tells_it_the_same_way() -> None:
    renderer = responses.renderer(asked(SPACE), call_id=CALL)
    deltas = (Started(), ToolStarted(0, "a", "crm__look_up"), ToolDelta(0, "{}"), Finished("tool_calls"))
    stream = renderer.feed(deltas) + renderer.end(None)
    events = [json.loads(line[6:]) for line in stream.decode().splitlines() if line.startswith("data: ")]
    added = next(event["item"] for event in events if event["type"] == "response.output_item.added")
    assert (added["namespace"], added["name"]) == ("crm", "look_up")
    assert events[-1]["response"]["output"][0]["namespace"] == "crm"


def test_calls_of_earlier_turns_come_back_by_their_joined_names() -> None:
    history = [
        {"type": "function_call", "call_id": "a", "namespace": "crm", "name": "look_up", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "42"},
    ]
    uses = [part for message in read(SPACE, input=history).messages for part in message.parts if isinstance(part, ToolUse)]
    assert [use.name for use in uses] == ["crm__look_up"]


def test_one_of_a_namespace_can_be_chosen() -> None:
    chosen = {"type": "function", "namespace": "crm", "name": "look_up"}
    assert read(SPACE, tool_choice=chosen).tool_choice == ToolChoice("tool", "crm__look_up")
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [chosen]}
    assert [tool.name for tool in read(LOOK_UP, SPACE, tool_choice=allowed).tools] == ["crm__look_up"]


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"type": "web_search"}, "tools[0].type"),
        ({"type": "namespace", "tools": [LOOK_UP]}, "tools[0].name"),
        ({**SPACE, "tools": [{"type": "function"}]}, "tools[0].tools[0].name"),
        ({**SPACE, "tools": [SPACE]}, "tools[0].tools[0].type"),
    ],
)
def test_what_cannot_be_said_elsewhere_is_named(tool: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as raised:
        read(tool)
    assert raised.value.param == param


@pytest.mark.parametrize(
    "members",
    [
        {"tools": [{"type": "web_search"}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://x/a.pdf"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
    ],
)
def test_what_only_the_provider_sees_is_reserved_for_and_is_nothing_that_was_sent(members: dict[str, Any]) -> None:
    request = responses.parse(json.dumps({"model": "m", "input": "Hi", **members}).encode())
    assert request.most_input >= 25_000 > 200 > request.input_tokens_estimate
    assert request.text_only == ("tools" in members)


def test_prompts_that_the_gateways_own_account_keeps_are_not_offered() -> None:
    with pytest.raises(BadRequest) as raised:
        responses.parse(b'{"model":"m","input":"Hi","prompt":{"id":"pmpt_1"}}')
    assert raised.value.param == "prompt"
