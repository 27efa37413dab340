"""What a provider that speaks Responses is asked on behalf of callers of other protocols."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from proxy.canonical.conversation import Conversation, File, Image, Message, Reasoning, Text, Thinking, Tool, ToolResult, ToolUse
from proxy.errors import BadRequest
from proxy.protocols import responses
from proxy.protocols.base import Quirks

HELLO = Message("user", (Text("Hi"),))


def written(*messages: Message, max_tokens: int | None = None, stream: bool = False, **members: Any) -> dict[str, Any]:
    said = Conversation(messages=messages or (HELLO,), **members)
    found: dict[str, Any] = json.loads(
        responses.write_request(said, model="up", stream=stream, max_tokens=max_tokens, quirks=Quirks()).body
    )
    return found


def test_little_is_said_where_little_was_asked() -> None:
    content = [{"type": "input_text", "text": "Hi"}]
    assert written() == {"model": "up", "input": [{"type": "message", "role": "user", "content": content}], "store": False}
    assert written(stream=True)["stream"] is True


@pytest.mark.parametrize(
    ("own", "clamp", "sent"), [(None, None, None), (500, None, 500), (500, 20, 20), (None, 20, 20), (1, None, 16)]
)
def test_the_bound_is_the_clamp_or_the_callers_own_and_never_below_what_openai_takes(
    own: int | None, clamp: int | None, sent: int | None
) -> None:
    assert written(max_tokens=clamp).get("max_output_tokens") == clamp
    said = Conversation(messages=(HELLO,), max_tokens=own)
    got = json.loads(responses.write_request(said, model="up", stream=False, max_tokens=clamp, quirks=Quirks()).body)
    assert got.get("max_output_tokens") == sent


@pytest.mark.parametrize(("members", "param"), [({"stop": ("END",)}, "stop"), ({"n": 2}, "n")])
def test_what_the_protocol_lacks_is_refused(members: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as raised:
        written(**members)
    assert raised.value.param == param


@pytest.mark.parametrize(
    ("model", "tools", "is_taken"),
    [
        ("gpt-6.1-sol", (Tool("look"),), True),
        ("gpt-6.1-sol", (), False),
        ("gpt-5", (Tool("look"),), False),
    ],
)
def test_stop_sequences_are_left_out_by_name_where_the_gateway_chose_this_protocol(
    model: str, tools: tuple[Tool, ...], is_taken: bool
) -> None:
    asked = Conversation(messages=(HELLO,), tools=tools, stop=("END",), top_k=4)
    given: Any = {"model": model, "stream": False, "max_tokens": None, "quirks": Quirks()}
    if not is_taken:
        with pytest.raises(BadRequest):
            responses.write_request(asked, **given)
        return
    request = responses.write_request(asked, **given)
    assert (request.unsaid, "END" in request.body.decode()) == (("stop", "top_k"), False)


def test_thinking_goes_back_where_this_provider_signed_it_and_nowhere_else() -> None:
    own = Thinking("Hm", signature="oai1.rs_7.opaque.with.dots")
    others = (Thinking("Ho"), Thinking("Ha", signature="anthropic"), Thinking(redacted="blob"))
    items = written(HELLO, Message("assistant", (own, *others, ToolUse("c", "look", "{}"))))["input"][1:]
    assert items == [
        {
            "type": "reasoning",
            "id": "rs_7",
            "summary": [{"type": "summary_text", "text": "Hm"}],
            "encrypted_content": "opaque.with.dots",
        },
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
    ]


def test_who_thinks_gives_its_thinking_back() -> None:
    assert written(reasoning=Reasoning("high"))["include"] == ["reasoning.encrypted_content"]
    assert "include" not in written(reasoning=Reasoning("none"))
    assert "include" not in written()


@pytest.mark.parametrize(("tokens", "effort"), [(1024, "low"), (4096, "low"), (10_000, "medium"), (31_999, "high")])
def test_a_bound_on_thinking_becomes_an_effort(tokens: int, effort: str) -> None:
    assert written(reasoning=Reasoning(budget_tokens=tokens, visible=True))["reasoning"] == {"effort": effort, "summary": "auto"}


def test_results_with_pictures_and_errors() -> None:
    picture = Image(media_type="image/png", data="iVBO")
    results = (
        ToolResult("a", (Text("one"), Text("two"))),
        ToolResult("b", (Text("It broke."),), is_error=True),
        ToolResult("c", (Text("see"), picture)),
        ToolResult("d"),
    )
    items = written(HELLO, Message("tool", results))["input"][1:]
    assert [item["call_id"] for item in items] == ["a", "b", "c", "d"]
    shown = {"type": "input_image", "image_url": "data:image/png;base64,iVBO", "detail": "auto"}
    assert [item["output"] for item in items] == [
        "one\ntwo",
        "Error: It broke.",
        [{"type": "input_text", "text": "see"}, shown],
        "",
    ]


def test_files_by_id_address_or_content() -> None:
    files = (File(file_id="file_1"), File(url="https://x/a.pdf"), File(media_type="application/pdf", data="JVBE"))
    content = written(Message("user", files))["input"][0]["content"]
    assert content == [
        {"type": "input_file", "file_id": "file_1"},
        {"type": "input_file", "file_url": "https://x/a.pdf"},
        {"type": "input_file", "filename": "file", "file_data": "data:application/pdf;base64,JVBE"},
    ]


def test_a_schema_keeps_its_order_and_strictness_is_always_said() -> None:
    said = Conversation(messages=(HELLO,), tools=(Tool("look", parameters=Raw(b'{"z":1,"a":{"y":2,"b":3}}')), Tool("bare")))
    raw = responses.write_request(said, model="up", stream=False, max_tokens=None, quirks=Quirks()).body
    assert b'"parameters":{"z":1,"a":{"y":2,"b":3}},"strict":false' in raw
    assert json.loads(raw)["tools"][1]["parameters"] == {"type": "object", "properties": {}}
