"""Answers written as Messages: whole, and as streams that the official SDK puts together again."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from proxy.canonical.answer import (
    Answer,
    Choice,
    Delta,
    Finished,
    RefusalDelta,
    SignatureDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStarted,
)
from proxy.canonical.conversation import Refusal, Text, Thinking, ToolUse
from proxy.canonical.usage import Usage
from proxy.protocols import chat_completions, messages
from proxy.protocols.translating import TranslatingReader
from tests.proxy.conversations import answers
from tests.proxy.messages_wire import CALL, FULL, asked
from tests.proxy.test_chat_answers import deltas_of, whole_of
from tests.upstream import DONE, frame

REQUEST = asked(stream=True)
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
ARGUMENTS = '{"city": "Zürich"}'


def rendered(*deltas: Delta, usage: Usage | None = None) -> bytes:
    renderer = messages.renderer(REQUEST, call_id=CALL)
    return b"".join(renderer.feed((delta,)) for delta in deltas) + renderer.end(usage)


def events(stream: bytes) -> list[dict[str, Any]]:
    """Each with its name, which must be its type."""
    found = []
    for part in stream.decode().removesuffix("\n\n").split("\n\n"):
        name, data = part.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def blocks(stream: bytes) -> list[dict[str, Any]]:
    """What the SDK makes of a stream. Blocks must come one after another, as its types say."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    is_open = False
    for event in events(stream):
        if event["type"] == "ping":
            continue
        if event["type"] == "content_block_start":
            assert not is_open
            assert event["index"] == len(snapshot.content)
            is_open = True
        elif event["type"] == "content_block_delta":
            assert is_open
            assert event["index"] == len(snapshot.content) - 1
        elif event["type"] == "content_block_stop":
            assert is_open
            is_open = False
        elif event["type"] == "message_delta":
            assert not is_open
        snapshot = accumulate_event(event=EVENT.validate_python(event), current_snapshot=snapshot, json_bufs=buffers)
    assert snapshot is not None
    assert not is_open
    return [block.model_dump(exclude_none=True) for block in snapshot.content]


# --- whole -------------------------------------------------------------------------------------
@given(answers())
def test_a_whole_answer_is_written_as_it_is_read(answer: Answer) -> None:
    body = messages.render_answer(answer, request=REQUEST, call_id=CALL)
    read = messages.read_answer(body)
    assert (read.choices, read.usage, read.model) == (answer.choices, answer.usage, answer.model)
    assert messages.read_reply(body).usage == answer.usage


def test_what_must_come_back_unchanged_travels_with_the_answer() -> None:
    parts = (Thinking("hm", "sig"), Thinking(redacted="xx"), Text("so"), ToolUse("toolu_1", "f", '{"b":1,"a":2}'))
    shown = json.loads(messages.render_answer(Answer((Choice(parts, "tool_calls"),)), request=REQUEST, call_id=CALL))
    again = asked(messages=[{"role": "user", "content": "?"}, {"role": "assistant", "content": shown["content"]}])
    assert messages.conversation(again).messages[-1].parts[:3] == parts[:3]
    assert shown["content"][3]["input"] == {"b": 1, "a": 2}


@pytest.mark.parametrize(
    ("given_id", "shown"),
    [("msg_01", "msg_01"), ("chatcmpl-9", f"msg_{CALL.replace('-', '')}"), (None, f"msg_{CALL.replace('-', '')}")],
)
def test_every_message_has_an_id_of_its_kind(given_id: str | None, shown: str) -> None:
    body = messages.render_answer(Answer((Choice((Text("x"),)),), id=given_id), request=REQUEST, call_id=CALL)
    assert json.loads(body)["id"] == shown
    assert events(rendered(Started(given_id), TextDelta("x"), Finished("stop")))[0]["message"]["id"] == shown


STOPS = [
    (Finished("stop"), (), "end_turn", None),
    (Finished("stop", "END"), (), "stop_sequence", "END"),
    (Finished("length"), (), "max_tokens", None),
    (Finished("content_filter"), (), "refusal", None),
    (Finished("tool_calls"), (ToolUse("c", "f", "{}"),), "tool_use", None),
    (Finished("stop"), (ToolUse("c", "f", "{}"),), "tool_use", None),
    (Finished("length"), (ToolUse("c", "f", "{}"),), "max_tokens", None),
    (Finished(""), (), "end_turn", None),
]


@pytest.mark.parametrize(("finished", "calls", "reason", "sequence"), STOPS)
def test_stop_reasons_are_told_in_its_words(finished: Finished, calls: Any, reason: str, sequence: str | None) -> None:
    choice = Choice((Text("x"), *calls), finished.finish_reason, finished.stop_sequence)
    whole = json.loads(messages.render_answer(Answer((choice,)), request=REQUEST, call_id=CALL))
    deltas = [ToolStarted(0, call.id, call.name) for call in calls]
    delta = next(
        event["delta"] for event in events(rendered(TextDelta("x"), *deltas, finished)) if event["type"] == "message_delta"
    )
    assert (whole["stop_reason"], whole["stop_sequence"]) == (delta["stop_reason"], delta["stop_sequence"]) == (reason, sequence)


def test_usage_is_told_as_anthropic_does() -> None:
    used = Usage(input_uncached=10, cache_read=7, cache_write_5m=3, cache_write_1h=2, output=30, reasoning=9)
    whole = json.loads(messages.render_answer(Answer((Choice((Text("x"),)),), used), request=REQUEST, call_id=CALL))["usage"]
    last = next(event["usage"] for event in events(rendered(TextDelta("x"), usage=used)) if event["type"] == "message_delta")
    assert whole == last
    assert (whole["input_tokens"], whole["cache_creation_input_tokens"], whole["cache_read_input_tokens"]) == (10, 5, 7)
    assert (whole["output_tokens"], whole["output_tokens_details"]) == (30, {"thinking_tokens": 9})
    assert messages.read_reply(messages.render_answer(Answer((), used), request=REQUEST, call_id=CALL)).usage == used


@pytest.mark.parametrize("arguments", ["", "  ", "{}"])
def test_no_arguments_are_an_empty_object(arguments: str) -> None:
    choice = Choice((ToolUse("c", "f", arguments),), "tool_calls")
    assert json.loads(messages.render_answer(Answer((choice,)), request=REQUEST, call_id=CALL))["content"][0]["input"] == {}


def test_arguments_that_are_no_object_are_not_lost() -> None:
    choice = Choice((ToolUse("", "f", '{"a": '), Refusal("no"), Text("")), "tool_calls")
    first, second = json.loads(messages.render_answer(Answer((choice,)), request=REQUEST, call_id=CALL))["content"]
    assert first["input"] == {"unreadable_arguments": '{"a": '}
    assert first["id"].startswith("toolu_")
    assert second == {"type": "text", "text": "no"}


# --- streams -----------------------------------------------------------------------------------
@given(answers(), st.integers(1, 40))
def test_a_stream_says_what_the_whole_answer_does(answer: Answer, size: int) -> None:
    stream = rendered(*deltas_of(answer), usage=answer.usage)
    reader = messages.reader(deltas=True)
    found = [frame for at in range(0, len(stream), size) for frame in reader.feed(stream[at : at + size])]
    assert not any(frame.error for frame in found)
    # No arguments are told by silence.
    assert whole_of(tuple(delta for frame in found for delta in frame.deltas)) == whole_of(deltas_of(answer))
    assert (reader.usage, reader.done) == (answer.usage, True)
    whole = json.loads(messages.render_answer(answer, request=REQUEST, call_id=CALL))
    assert blocks(stream) == whole["content"]


def test_a_stream_has_the_order_that_sdks_expect() -> None:
    stream = rendered(Started("up", "served"), TextDelta("Hi"), Finished("stop"), usage=Usage(3, output=1))
    shown = events(stream)
    assert [event["type"] for event in shown] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert shown[0]["message"]["model"] == "served"
    assert shown[0]["message"]["content"] == []


def test_an_empty_stream_is_an_empty_message() -> None:
    assert [event["type"] for event in events(rendered())] == ["message_start", "message_delta", "message_stop"]


def test_thought_ends_with_its_signature_and_is_never_told_as_text() -> None:
    deltas = (ThinkingDelta("h"), ThinkingDelta("m"), SignatureDelta("s1"), ThinkingDelta("2"), SignatureDelta("s2"))
    stream = rendered(*deltas, SignatureDelta(redacted="xx"), TextDelta("so"), Finished("stop"))
    assert blocks(stream) == [
        {"type": "thinking", "thinking": "hm", "signature": "s1"},
        {"type": "thinking", "thinking": "2", "signature": "s2"},
        {"type": "redacted_thinking", "data": "xx"},
        {"type": "text", "text": "so"},
    ]


def test_a_signature_without_thought_is_kept_in_a_block_of_its_own() -> None:
    assert blocks(rendered(SignatureDelta("sig"), TextDelta("so")))[0] == {"type": "thinking", "thinking": "", "signature": "sig"}


def test_a_refusal_is_text() -> None:
    assert blocks(rendered(RefusalDelta("no"), Finished("content_filter"))) == [{"type": "text", "text": "no"}]


def test_other_choices_are_left_out() -> None:
    assert blocks(rendered(TextDelta("a"), TextDelta("b", 1), Finished("stop"), Finished("length", choice=1))) == [
        {"type": "text", "text": "a"}
    ]


@given(st.integers(0, 2**32), st.integers(1, 4))
def test_blocks_never_interleave_however_the_provider_mixes_them(order: int, calls: int) -> None:
    """Any interleaving of several calls' pieces and of text: every call whole, and text in its order."""
    random = Random(order)  # noqa: S311 - a draw for each piece would take longer than all the rest
    queues: list[list[Delta]] = [
        [
            ToolStarted(index, f"call_{index}", f"f{index}"),
            *(ToolDelta(index, ARGUMENTS[at : at + 5]) for at in range(0, len(ARGUMENTS), 5)),
        ]
        for index in range(calls)
    ]
    queues.append([TextDelta(character) for character in "abc"])
    deltas: list[Delta] = []
    while any(queues):
        deltas.append(random.choice([queue for queue in queues if queue]).pop(0))
    found = blocks(rendered(*deltas, Finished("tool_calls")))
    used = {block["id"]: block for block in found if block["type"] == "tool_use"}
    assert used.keys() == {f"call_{index}" for index in range(calls)}
    assert all(block["input"] == {"city": "Zürich"} for block in used.values())
    assert "".join(block["text"] for block in found if block["type"] == "text") == "abc"


def test_two_calls_in_one_chunk_are_both_told() -> None:
    """Gemini and Ollama send them so."""
    calls = [
        {"index": at, "id": f"call_{at}", "type": "function", "function": {"name": "f", "arguments": ARGUMENTS}} for at in (0, 1)
    ]
    upstream = (
        frame({"tool_calls": calls})
        + frame({}, finish="tool_calls")
        + frame(usage={"prompt_tokens": 9, "completion_tokens": 5})
        + DONE
    )
    reader = TranslatingReader(
        chat_completions.reader(n=1, wants_usage=True, deltas=True), messages.renderer(REQUEST, call_id=CALL)
    )
    frames = reader.feed(upstream) + reader.flush()
    stream = b"".join(frame.raw for frame in frames if not frame.drop)
    assert [(block["id"], block["input"]) for block in blocks(stream)] == [
        ("call_0", {"city": "Zürich"}), ("call_1", {"city": "Zürich"}),
    ]  # fmt: skip
    assert events(stream)[-2]["usage"]["input_tokens"] == 9
    assert [frame.terminal for frame in frames][-1]


def test_complete_calls_pass_at_once_and_what_waits_keeps_the_stream_alive() -> None:
    renderer = messages.renderer(REQUEST, call_id=CALL)
    renderer.feed((Started(), ToolStarted(0, "a", "f"), ToolDelta(0, "{}")))
    assert b'"id":"b"' in renderer.feed((ToolStarted(1, "b", "g"), ToolDelta(1, '{"x":')))
    assert renderer.feed((ToolStarted(2, "c", "h"),)) == b""
    assert renderer.feed((ToolDelta(2, "{}"),)) == b'event: ping\ndata: {"type":"ping"}\n\n'
    assert b'"id":"c"' in renderer.feed((ToolDelta(1, "1}"),))


def test_nothing_that_ends_an_answer_is_written_before_its_end() -> None:
    renderer = messages.renderer(REQUEST, call_id=CALL)
    assert renderer.feed((TextDelta("x"), Finished("stop"))).count(b"message_delta") == 0
    assert renderer.end(None).startswith(b"event: content_block_stop")


def test_a_provider_that_counts_is_not_guessed_at() -> None:
    guessed: list[int] = []

    def guess(length: int) -> Usage:
        guessed.append(length)
        return Usage(output=99, estimated=True)

    for usage, output in ((frame(usage={"prompt_tokens": 9, "completion_tokens": 5}), 5), (b"", 99)):
        assert guessed == []
        reader = chat_completions.reader(n=1, wants_usage=True, deltas=True)
        told = TranslatingReader(reader, messages.renderer(REQUEST, call_id=CALL), estimate=guess)
        frames = told.feed(frame({"content": "Hello"}) + frame({}, finish="stop") + usage + DONE) + told.flush()
        assert events(b"".join(one.raw for one in frames if not one.drop))[-2]["usage"]["output_tokens"] == output
    assert guessed == [5]


def test_anthropics_own_stream_translated_and_back_says_the_same() -> None:
    first = TranslatingReader(messages.reader(deltas=True), messages.renderer(REQUEST, call_id=CALL))
    frames = first.feed(b"".join(FULL)) + first.flush()
    stream = b"".join(frame.raw for frame in frames if not frame.drop)
    assert blocks(stream) == blocks(b"".join(FULL))
    assert events(stream)[-2]["usage"]["cache_read_input_tokens"] == 7
