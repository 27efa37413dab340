"""What callers of Responses are told of an answer from elsewhere: as one body, and as a stream of numbered events."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from proxy.canonical.answer import (
    Answer,
    Choice,
    Delta,
    Finished,
    LogprobsDelta,
    RefusalDelta,
    SignatureDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStarted,
)
from proxy.canonical.conversation import Message, Refusal, Text, Thinking, ToolResult, ToolUse
from proxy.canonical.request import Request
from proxy.canonical.usage import Usage
from proxy.protocols import responses
from proxy.protocols.responses_items import conversation, unseal
from tests.proxy.responses_wire import Members, assembled, events_in, sound_response

CALL_ID = "01a1f9eb-0000-7184-97ad-1a1e75ffc990"
USED = Usage(input_uncached=5, cache_read=4, cache_write_5m=1, cache_write_1h=2, output=7, reasoning=3)


def asked(**members: Any) -> Request:
    return responses.parse(json.dumps({"model": "asked-model", "input": "Hi", **members}).encode())


def whole(choice: Choice, request: Request | None = None) -> Members:
    answer = Answer((choice,), USED, "msg_theirs", "their-model")
    return sound_response(json.loads(responses.render_answer(answer, request=request or asked(), call_id=CALL_ID)))


def streamed(*deltas: Delta, usage: Usage | None = USED, together: bool = False, request: Request | None = None) -> Members:
    renderer = responses.renderer(request or asked(), call_id=CALL_ID)
    pieces = [deltas] if together else [(delta,) for delta in deltas]
    stream = b"".join(renderer.feed(piece) for piece in pieces) + renderer.end(usage)
    return assembled(events_in(stream))


def deltas_of(choice: Choice, *, cut: int = 2) -> list[Delta]:
    """As a provider would stream it, calls of tools written at once."""
    deltas: list[Delta] = [Started("msg_theirs", "their-model")]
    waiting: list[Delta] = []
    calls = 0
    for part in choice.parts:
        if isinstance(part, ToolUse):
            deltas.append(ToolStarted(calls, part.id, part.name, part.signature))
            waiting += [ToolDelta(calls, piece) for piece in pieces(part.arguments, cut)]
            calls += 1
            continue
        match part:
            case Text():
                deltas += [TextDelta(piece) for piece in pieces(part.text, cut)]
            case Refusal():
                deltas += [RefusalDelta(piece) for piece in pieces(part.text, cut)]
            case Thinking():
                deltas += [ThinkingDelta(piece) for piece in pieces(part.text, cut)]
                deltas += [SignatureDelta(part.signature or "", part.redacted)] if part.signature or part.redacted else []
    return [*deltas, *waiting, Finished(choice.finish_reason)]


def pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


# --- whole -------------------------------------------------------------------------------------
def test_a_body_says_whose_it_is_and_what_was_asked() -> None:
    members = {
        "instructions": "Be brief.",
        "temperature": 0.5,
        "metadata": {"a": "b"},
        "tools": [{"type": "function", "name": "look", "parameters": {"z": 1, "a": 2}, "strict": True}],
        "tool_choice": "required",
        "max_output_tokens": 99,
        "prompt_cache_key": "key",
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "json_object"}},
    }
    body = whole(Choice((Text("Hello"),), "stop"), asked(**members))
    assert {name: body[name] for name in members} == members
    assert (body["id"], body["model"], body["status"]) == ("resp_" + CALL_ID.replace("-", ""), "their-model", "completed")
    assert (body["store"], body["background"], body["truncation"], body["error"]) == (False, False, "disabled", None)
    assert body["created_at"] <= body["completed_at"]


def test_usage_is_told_in_openais_way() -> None:
    assert whole(Choice((Text("Hi"),), "stop"))["usage"] == {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 19,
    }


def test_an_answer_falls_into_items() -> None:
    parts = (Thinking("Hm", signature="sig"), Text("Hello"), Refusal("No."), ToolUse("c1", "look", '{"a":1}'), Text("After"))
    output = whole(Choice(parts, "tool_calls"))["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call", "message"]
    assert [part["type"] for part in output[1]["content"]] == ["output_text", "refusal"]
    assert (output[2]["call_id"], output[2]["name"], output[2]["arguments"]) == ("c1", "look", '{"a":1}')
    assert len({item["id"] for item in output}) == 4
    assert output[2]["id"] != output[2]["call_id"]


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
    ],
)
def test_how_an_answer_ended(finish: str, status: str, reason: str | None) -> None:
    choice = Choice((Text("Hi"),), finish)
    for body in (whole(choice), streamed(*deltas_of(choice))):
        assert body["status"] == status
        assert (body["incomplete_details"] or {}).get("reason") == reason
        assert body["output"][0]["status"] == ("incomplete" if finish == "length" else "completed")


def test_an_answer_of_nothing_is_an_empty_output() -> None:
    assert whole(Choice((), "stop"))["output"] == []
    assert streamed(Started(), Finished("stop"))["output"] == []
    answer = Answer((), None)
    assert json.loads(responses.render_answer(answer, request=asked(), call_id=CALL_ID))["model"] == "asked-model"


def test_log_probabilities_stand_at_the_text() -> None:
    token = {"token": "Hi", "bytes": [72, 105], "logprob": -0.1, "top_logprobs": []}
    raw = Raw(json.dumps({"content": [token]}).encode())
    body = whole(Choice((Text("Hi"),), "stop", logprobs=raw))
    told = streamed(Started(), TextDelta("Hi"), LogprobsDelta(raw), Finished("stop"))
    assert body["output"][0]["content"][0]["logprobs"] == told["output"][0]["content"][0]["logprobs"] == [token]


# --- streams -----------------------------------------------------------------------------------
WORDS = st.text(min_size=1, max_size=9)
PARTS = st.lists(
    WORDS.map(Text)
    | WORDS.map(Refusal)
    | st.builds(Thinking, WORDS, st.none() | WORDS)
    | WORDS.map(lambda data: Thinking(redacted=data))
    | st.builds(ToolUse, st.uuids().map(str), WORDS, st.sampled_from(["{}", '{"a": "é😀"}']), st.none() | WORDS),
    max_size=5,
).map(tuple)
CHOICES = st.builds(Choice, PARTS, st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
STAMPS = ("created_at", "completed_at")


def merged(choice: Choice) -> Choice:
    """Neighbours that a stream cannot tell apart are one."""
    parts: list[Any] = []
    for part in choice.parts:
        last = parts[-1] if parts else None
        plain = isinstance(part, Text | Refusal) or (isinstance(part, Thinking) and part.redacted is None)
        if plain and type(last) is type(part) and not getattr(last, "signature", None) and not getattr(last, "redacted", None):
            parts[-1] = msgspec.structs.replace(part, text=last.text + part.text)  # type: ignore[union-attr]
        else:
            parts.append(part)
    return Choice(tuple(parts), choice.finish_reason)


@given(CHOICES, st.integers(1, 5), st.booleans())
def test_a_stream_ends_in_the_response_that_the_whole_answer_is(choice: Choice, cut: int, together: bool) -> None:
    one = merged(choice)
    told, expected = streamed(*deltas_of(one, cut=cut), together=together), whole(one)
    if choice.finish_reason == "length":  # which of several open items was cut is known to a stream only
        for item in (*told["output"], *expected["output"]):
            item.pop("status", None)
    assert {**told, **dict.fromkeys(STAMPS)} == {**expected, **dict.fromkeys(STAMPS)}


@given(CHOICES)
def test_what_an_answer_holds_comes_back_with_the_next_turn(choice: Choice) -> None:
    choice = merged(choice)
    output = streamed(*deltas_of(choice))["output"]
    messages = conversation(asked(input=[*output, {"role": "user", "content": "and now?"}])).messages
    assert messages[:-1] == ((Message("assistant", choice.parts),) if choice.parts else ())


def test_calls_written_at_once_are_kept_apart() -> None:
    body = streamed(
        Started(),
        ToolStarted(0, "c0", "look"),
        ToolStarted(1, "c1", "ask"),
        ToolDelta(1, '{"b"'),
        ToolDelta(0, '{"a"'),
        ToolDelta(1, ":2}"),
        ToolDelta(0, ":1}"),
        Finished("tool_calls"),
    )
    assert [(item["call_id"], item["arguments"]) for item in body["output"]] == [("c0", '{"a":1}'), ("c1", '{"b":2}')]


def test_a_call_without_arguments_has_empty_ones_unless_it_was_cut() -> None:
    begun = (Started(), ToolStarted(0, "c0", "look"))
    assert streamed(*begun, Finished("tool_calls"))["output"][0]["arguments"] == "{}"
    assert streamed(*begun, Finished("length"))["output"][0]["arguments"] == ""


def test_nothing_that_ends_an_answer_is_told_before_its_end() -> None:
    renderer = responses.renderer(asked(), call_id=CALL_ID)
    deltas = deltas_of(Choice((Text("Hello"), ToolUse("c", "look", "{}")), "tool_calls"))
    before = b"".join(renderer.feed((delta,)) for delta in deltas)
    assert b"response.completed" not in before
    assert b"function_call_arguments.done" not in before
    assert b"response.completed" in renderer.end(USED)


def test_an_item_of_thought_carries_the_signature_of_the_call_after_it() -> None:
    output = streamed(Started(), ToolStarted(0, "c0", "look", "gemini"), ToolDelta(0, "{}"), Finished("tool_calls"))["output"]
    assert [item["type"] for item in output] == ["reasoning", "function_call"]
    sealed = unseal(output[0]["encrypted_content"])
    assert sealed is not None
    assert (sealed.signature, sealed.tool_use_id) == ("gemini", "c0")


def test_a_stream_without_usage_says_that_there_is_none() -> None:
    assert streamed(Started(), TextDelta("Hi"), Finished("stop"), usage=None)["usage"] is None


# --- tools without a schema --------------------------------------------------------------------
PATCHING: Any = {
    "type": "custom",
    "name": "patch",
    "description": "Patches.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: X"},
}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [('{"input":"*** Begin\\n+ é"}', "*** Begin\n+ é"), ('{"input":""}', ""), ("plain", "plain"), ('{"other":1}', '{"other":1}')],
)
def test_a_call_of_a_tool_without_a_schema_is_told_as_its_text(arguments: str, text: str) -> None:
    choice = Choice((Text("I patch."), ToolUse("c1", "patch", arguments), ToolUse("c2", "look", "{}")), "tool_calls")
    request = asked(tools=[PATCHING, {"type": "function", "name": "look"}])
    for body in (whole(choice, request), streamed(*deltas_of(choice), request=request)):
        _, patch, look = body["output"]
        assert (patch["type"], patch["call_id"], patch["name"], patch["input"]) == ("custom_tool_call", "c1", "patch", text)
        assert look["type"] == "function_call"


def test_such_a_tool_is_a_function_of_one_text_elsewhere_and_its_calls_come_back() -> None:
    call = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c1", "name": "patch", "input": 'a "b"'}
    result = {"type": "custom_tool_call_output", "call_id": "c1", "output": "done"}
    got = conversation(asked(tools=[PATCHING], tool_choice={"type": "custom", "name": "patch"}, input=[call, result]))
    (tool,) = got.tools
    assert tool.description == "Patches.\n\n`input` must follow this lark grammar:\nstart: X"
    assert msgspec.json.decode(tool.parameters or b"")["required"] == ["input"]
    assert got.tool_choice is not None
    assert got.tool_choice.name == "patch"
    assert got.messages == (
        Message("assistant", (ToolUse("c1", "patch", '{"input":"a \\"b\\""}'),)),
        Message("tool", (ToolResult("c1", (Text("done"),)),)),
    )
