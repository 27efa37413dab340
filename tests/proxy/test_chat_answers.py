"""Chat Completions answers read into canonical ones and written from them, whole and as streams cut anywhere."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from proxy.canonical.conversation import Refusal, Text, Thinking, ToolUse
from proxy.canonical.usage import Usage
from proxy.protocols import chat_completions
from proxy.protocols.base import BrokenReply
from proxy.protocols.chat_answers import DeltaReader
from proxy.protocols.translating import TranslatingReader
from tests.proxy.conversations import answers

REQUEST = chat_completions.parse(b'{"model":"m","messages":[{"role":"user","content":"?"}],"stream":true}')
ASKED_USAGE = chat_completions.parse(
    b'{"model":"m","messages":[{"role":"user","content":"?"}],"stream":true,"stream_options":{"include_usage":true}}'
)
CALL = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"


def deltas_of(answer: Answer) -> tuple[Delta, ...]:
    """A stream that says the same as a whole answer."""
    deltas: list[Delta] = [Started(answer.id, answer.model)]
    for at, choice in enumerate(answer.choices):
        calls = 0
        for part in choice.parts:
            match part:
                case Text(text):
                    deltas += [TextDelta(character, at) for character in text]
                case Refusal(text):
                    deltas.append(RefusalDelta(text, at))
                case Thinking(text):
                    deltas.append(ThinkingDelta(text, at))
                case ToolUse():
                    deltas.append(ToolStarted(calls, part.id, part.name, part.signature, at))
                    deltas.append(ToolDelta(calls, part.arguments, at))
                    calls += 1
        deltas.append(Finished(choice.finish_reason, choice=at))
    return tuple(deltas)


def whole_of(deltas: tuple[Delta, ...]) -> list[Any]:
    """Deltas joined: thought, text, tool calls as [name, arguments], the finish reason."""
    joined: list[Any] = ["", "", [], ""]
    for delta in deltas:
        match delta:
            case ThinkingDelta(text):
                joined[0] += text
            case TextDelta(text):
                joined[1] += text
            case ToolStarted():
                joined[2].append([delta.name, ""])
            case ToolDelta():
                joined[2][delta.index][1] += delta.arguments
            case Finished(reason):
                joined[3] = reason
    return joined


def rendered(deltas: tuple[Delta, ...], usage: Usage | None = None, request: Any = REQUEST) -> bytes:
    renderer = chat_completions.renderer(request, call_id=CALL)
    return renderer.feed(deltas) + renderer.end(usage)


def events(stream: bytes) -> list[Any]:
    frames = stream.decode().removesuffix("\n\n").split("\n\n")
    assert frames.pop() == "data: [DONE]"
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


@given(answers())
def test_a_whole_answer_is_written_as_it_is_read(answer: Answer) -> None:
    body = chat_completions.render_answer(answer, request=REQUEST, call_id=CALL)
    read = chat_completions.read_answer(body)
    assert (read.choices, read.usage, read.model) == (answer.choices, answer.usage, answer.model)
    assert chat_completions.read_reply(body).usage == answer.usage


@given(answers(), st.integers(1, 40))
def test_a_stream_cut_anywhere_says_what_the_whole_answer_does(answer: Answer, size: int) -> None:
    stream = rendered(deltas_of(answer), answer.usage, ASKED_USAGE)
    reader = chat_completions.reader(n=1, wants_usage=True, deltas=True)
    found: list[Delta] = []
    for begin in range(0, len(stream), size):
        for frame in reader.feed(stream[begin : begin + size]):
            assert frame.error is None
            found += frame.deltas
    assert whole_of(tuple(found)) == whole_of(deltas_of(answer))
    assert (reader.usage, reader.done) == (answer.usage, True)


def undated(frames: bytes) -> bytes:
    """Two renderings may begin in different seconds."""
    return re.sub(rb'"created":\d+', b'"created":0', frames)


@given(answers(), st.integers(1, 40))
def test_a_translated_stream_ends_in_one_terminal_frame(answer: Answer, size: int) -> None:
    upstream = rendered(deltas_of(answer), answer.usage, ASKED_USAGE)
    reader = TranslatingReader(
        chat_completions.reader(n=1, wants_usage=True, deltas=True), chat_completions.renderer(REQUEST, call_id=CALL)
    )
    frames = [frame for at in range(0, len(upstream), size) for frame in reader.feed(upstream[at : at + size])]
    frames += reader.flush()
    assert not any(b"[DONE]" in frame.raw or b'"finish_reason":"' in frame.raw for frame in frames if not frame.terminal)
    assert sum(b"[DONE]" in frame.raw for frame in frames) == 1
    assert undated(b"".join(frame.raw for frame in frames if not frame.drop)) == undated(rendered(deltas_of(answer)))


def test_a_stream_that_breaks_off_is_given_no_end() -> None:
    reader = TranslatingReader(
        chat_completions.reader(n=1, wants_usage=True, deltas=True), chat_completions.renderer(REQUEST, call_id=CALL)
    )
    reader.feed(b'data: {"choices":[{"delta":{"content":"He"}}]}\n\n')
    assert reader.flush() == []


def test_a_stream_that_the_gateway_cuts_ends_as_at_the_maximum_length() -> None:
    reader = TranslatingReader(
        chat_completions.reader(n=1, wants_usage=True, deltas=True), chat_completions.renderer(ASKED_USAGE, call_id=CALL)
    )
    reader.feed(b'data: {"choices":[{"delta":{"content":"He"}}]}\n\n')
    *_, last, usage = events(reader.length_end(Usage(input_uncached=3, output=1)))
    assert last["choices"][0]["finish_reason"] == "length"
    assert usage["usage"]["total_tokens"] == 4
    assert reader.flush() == []


def test_a_stream_has_the_order_that_sdks_expect() -> None:
    deltas = (Started("up-1", "served"), TextDelta("Hi"), Finished("stop"))
    shown = events(rendered(deltas, Usage(input_uncached=2, output=1), ASKED_USAGE))
    assert {(event["id"], event["model"], event["object"]) for event in shown} == {
        (f"chatcmpl-{CALL.replace('-', '')}", "served", "chat.completion.chunk")
    }
    assert [event["choices"][0]["delta"] for event in shown[:-1]] == [{"role": "assistant", "content": ""}, {"content": "Hi"}, {}]
    assert [event["choices"][0]["finish_reason"] for event in shown[:-1]] == [None, None, "stop"]
    assert (shown[-1]["choices"], shown[-1]["usage"]["prompt_tokens"]) == ([], 2)


def test_usage_is_told_only_to_who_asks() -> None:
    assert not any("usage" in event for event in events(rendered((TextDelta("x"), Finished("stop")), Usage(output=1))))


def test_what_must_come_back_unchanged_travels_with_the_answer() -> None:
    parts = (Thinking("hm", "sig"), Thinking(redacted="xx"), Text("so"), ToolUse("c1", "f", "{}", "gsig"))
    body = chat_completions.render_answer(Answer((Choice(parts, "tool_calls"),)), request=REQUEST, call_id=CALL)
    message = json.loads(body)["choices"][0]["message"]
    again = chat_completions.parse(json.dumps({"model": "m", "messages": [{"role": "user", "content": "?"}, message]}).encode())
    assert chat_completions.conversation(again).messages[-1].parts == parts


def test_streamed_thought_ends_with_its_signature() -> None:
    deltas = (ThinkingDelta("h"), ThinkingDelta("m"), SignatureDelta("sig"), SignatureDelta(redacted="xx"), Finished("stop"))
    blocks = [event["choices"][0]["delta"].get("thinking_blocks") for event in events(rendered(deltas)) if event["choices"]]
    assert [block for block in blocks if block] == [
        [{"type": "thinking", "thinking": "hm", "signature": "sig"}],
        [{"type": "redacted_thinking", "data": "xx"}],
    ]


def deltas_read(*payloads: dict[str, Any]) -> tuple[Delta, ...]:
    reader = chat_completions.reader(n=1, wants_usage=True, deltas=True)
    stream = b"".join(b"data: " + json.dumps(payload).encode() + b"\n\n" for payload in payloads)
    return tuple(delta for frame in reader.feed(stream) for delta in frame.deltas)


def called(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"choices": [{"delta": {"tool_calls": list(calls)}}]}


def function(name: str, arguments: str) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    "chunks",
    [
        [called({"index": 0, "id": "a", **function("f", '{"x":1}')}, {"index": 1, "id": "b", **function("g", "{}")})],
        [called({"id": "a", **function("f", '{"x":1}')}, {"id": "b", **function("g", "{}")})],
        [called({"index": 0, "id": "a", **function("f", '{"x":1}')}), called({"index": 0, "id": "b", **function("g", "{}")})],
        [
            called({"index": 0, "id": "a", **function("f", "")}),
            called({"index": 0, "function": {"arguments": '{"x":'}}),
            called({"index": 0, "function": {"arguments": "1}"}}),
            called({"index": 1, "id": "b", **function("g", "{}")}),
        ],
    ],
)
def test_no_tool_call_is_lost_however_providers_cut_them(chunks: list[dict[str, Any]]) -> None:
    assert whole_of(deltas_read(*chunks))[2] == [["f", '{"x":1}'], ["g", "{}"]]


def test_a_tool_call_that_ends_with_stop_ends_with_tool_calls() -> None:
    ended = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    assert deltas_read(called({"index": 0, "id": "a", **function("f", "{}")}), ended)[-1] == Finished("tool_calls")


def test_a_tool_call_without_an_id_is_given_one() -> None:
    started = deltas_read(called({"index": 0, **function("f", "{}")}))[1]
    assert isinstance(started, ToolStarted)
    assert started.id.startswith("call_")


def test_logprobs_and_refusals_pass() -> None:
    chunk = {"choices": [{"delta": {"content": "a", "refusal": "r"}, "logprobs": {"content": []}}]}
    assert [type(delta) for delta in deltas_read(chunk)] == [Started, TextDelta, RefusalDelta]
    assert [bytes(delta.logprobs or b"") for delta in deltas_read(chunk) if isinstance(delta, TextDelta)] == [b'{"content": []}']
    alone = {"choices": [{"delta": {"refusal": "r"}, "logprobs": {"refusal": []}}]}
    assert [type(delta) for delta in deltas_read(alone)] == [Started, LogprobsDelta, RefusalDelta]


def test_text_in_parts_is_text() -> None:
    chunk = {"choices": [{"delta": {"content": [{"type": "thinking"}, {"type": "text", "text": "a"}]}}]}
    assert TextDelta("a") in deltas_read(chunk)


def test_thought_among_the_parts_is_thought() -> None:
    """Mistral's: https://github.com/BerriAI/litellm/issues/16272"""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}, {"type": "reference"}], "closed": True}
    content: list[Any] = [thought, {"type": "text", "text": "Hi"}, {"type": "thinking", "thinking": None}]
    body = {"choices": [{"index": 0, "message": {"content": content}, "finish_reason": "stop"}]}
    (choice,) = chat_completions.read_answer(json.dumps(body).encode()).choices
    assert choice.parts == (Thinking("Hm"), Text("Hi"))

    chunk = {"choices": [{"index": 0, "delta": {"content": [thought]}}]}
    deltas = DeltaReader().read(json.dumps(chunk).encode())
    assert deltas[1:] == (ThinkingDelta("Hm"),)


def test_half_a_character_costs_no_answer() -> None:
    payload = b'data: {"choices":[{"delta":{"content":"a\\ud83d"}}]}\n\n'
    frames = chat_completions.reader(n=1, wants_usage=True, deltas=True).feed(payload)
    assert [delta.text for frame in frames for delta in frame.deltas if isinstance(delta, TextDelta)] == [
        "a\N{REPLACEMENT CHARACTER}"
    ]


@pytest.mark.parametrize("body", [b"<html>", b'"x"', b'{"choices": 3}'])
def test_what_is_no_answer_is_broken(body: bytes) -> None:
    with pytest.raises(BrokenReply):
        chat_completions.read_answer(body)
