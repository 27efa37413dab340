"""What a Messages provider's answers mean: usage by arithmetic of its own, finish reasons, streams cut anywhere."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.canonical.answer import (
    Delta,
    Finished,
    SignatureDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStarted,
)
from proxy.canonical.conversation import Text, Thinking, ToolUse
from proxy.canonical.usage import Usage
from proxy.errors import AttemptFailed
from proxy.protocols import messages
from proxy.protocols.base import BrokenReply, Frame
from proxy.protocols.messages_replies import StreamReader
from tests.proxy.messages_wire import FULL, block, end, event, message, start, text, thinking, tool

COUNTS = st.integers(0, 10**6)


def read(*frames: bytes, size: int = 0, deltas: bool = True) -> tuple[StreamReader, list[Frame]]:
    reader = messages.reader(deltas=deltas)
    raw = b"".join(frames)
    size = size or len(raw)
    found = [frame for at in range(0, len(raw), size) for frame in reader.feed(raw[at : at + size])]
    return reader, found + reader.flush()


def deltas_of(frames: list[Frame]) -> list[Delta]:
    return [delta for frame in frames for delta in frame.deltas]


# --- usage -------------------------------------------------------------------------------------
@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_usage_is_counted_once_in_disjoint_kinds(
    fresh: int, read_tokens: int, five: int, hour: int, output: int, thought: int
) -> None:
    usage = {
        "input_tokens": fresh,
        "cache_read_input_tokens": read_tokens,
        "cache_creation_input_tokens": five + hour,
        "cache_creation": {"ephemeral_5m_input_tokens": five, "ephemeral_1h_input_tokens": hour},
        "output_tokens": output + thought,
        "output_tokens_details": {"thinking_tokens": thought},
    }
    used = messages.read_reply(message(usage=usage)).usage
    assert used == Usage(
        input_uncached=fresh,
        cache_read=read_tokens,
        cache_write_5m=five,
        cache_write_1h=hour,
        output=output + thought,
        reasoning=thought,
    )
    assert used.input_total == fresh + read_tokens + five + hour


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input_tokens": 5, "output_tokens": 1}, Usage(input_uncached=5, output=1)),
        ({"input_tokens": 5, "output_tokens": 1, "cache_creation_input_tokens": 9}, Usage(5, 0, 9, output=1)),
        (
            {"input_tokens": 5, "output_tokens": 1, "cache_creation": {"ephemeral_1h_input_tokens": 9}},
            Usage(5, cache_write_1h=9, output=1),
        ),
        ({"input_tokens": 5, "output_tokens": 1, "cache_read_input_tokens": None}, Usage(5, output=1)),
        ({"input_tokens": 5.0, "output_tokens": 1, "cache_read_input_tokens": "many"}, Usage(5, output=1)),
        ({"input_tokens": 5, "output_tokens": 1, "cache_creation": 7}, Usage(5, output=1)),
        (
            {"input_tokens": 5, "output_tokens": 1, "server_tool_use": {"web_search_requests": 3}},
            Usage(5, output=1, units={"web_search": 3}),
        ),
        ({"output_tokens": 1}, None),
        ({"input_tokens": -5, "output_tokens": 1}, None),
        ({"input_tokens": 5}, None),
    ],
)
def test_usage_of_every_shape(usage: dict[str, Any], expected: Usage | None) -> None:
    assert messages.read_reply(message(usage=usage)).usage == expected


def test_a_streams_usage_is_cumulative_and_never_added() -> None:
    reader, _ = read(*FULL)
    assert reader.usage == Usage(input_uncached=10, cache_read=7, cache_write_5m=5, output=30)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_later_counts_replace_earlier_ones_field_by_field(first: int, last: int, cached: int, output: int) -> None:
    begun = start(input_tokens=first, cache_read_input_tokens=cached)
    reader, _ = read(begun, *text(0, "Hi"), *end(input_tokens=last, output_tokens=output))
    assert reader.usage == Usage(input_uncached=last, cache_read=cached, output=output)


def test_a_one_hour_write_stays_one_when_only_the_sum_is_told_again() -> None:
    begun = start(cache_creation_input_tokens=9, cache_creation={"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 7})
    reader, _ = read(begun, *end(cache_creation_input_tokens=9))
    assert reader.usage == Usage(10, cache_write_5m=2, cache_write_1h=7, output=2)


def test_before_the_last_usage_the_input_is_exact_and_the_output_an_estimate() -> None:
    reader, _ = read(start(cache_read_input_tokens=90), *text(0, "x" * 41)[:-1])
    assert reader.usage == Usage(input_uncached=10, cache_read=90, output=11, estimated=True)


COMPACTED = {
    "input_tokens": 23_000,
    "output_tokens": 1_000,
    "iterations": [
        {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500, "cache_read_input_tokens": 7},
        {"type": "message", "input_tokens": 23_000, "output_tokens": 1_000},
        {"type": "compaction", "input_tokens": "many", "output_tokens": 1},
        7,
    ],
}


def test_a_conversation_that_was_shortened_first_was_read_for_that_as_well() -> None:
    shortening = Usage(input_uncached=180_000, cache_read=7, output=3_500)
    expected = Usage(input_uncached=23_000, output=1_000, beside=(shortening,))
    assert messages.read_reply(message(usage=COMPACTED)).usage == expected
    begun = event("message_start", message={"id": "m", "model": "c", "usage": {"input_tokens": 5, "output_tokens": 1}})
    ended = event("message_delta", delta={"stop_reason": "end_turn"}, usage=COMPACTED)
    assert read(begun, ended)[0].usage == expected


def test_without_any_usage_nobody_guesses_here() -> None:
    reader, _ = read(*text(0, "Hello"))
    assert reader.usage is None


# --- streams -----------------------------------------------------------------------------------
EXPECTED: list[Delta] = [
    Started("msg_upstream", "served-model"),
    ThinkingDelta("Let me see \u2028"),
    SignatureDelta("c2lnbmVk"),
    SignatureDelta(redacted="c2VjcmV0"),
    TextDelta("I'll look, Zürich "),
    TextDelta("\U0001f600"),
    ToolStarted(0, "toolu_1", "look"),
    ToolDelta(0, '{"city": "Z'),
    ToolDelta(0, 'ürich"}'),
    ToolStarted(1, "toolu_2", "clock"),
    Finished("tool_calls"),
]


def test_a_stream_says_the_same_wherever_it_is_cut() -> None:
    raw = b"".join(FULL)
    for cut in range(1, len(raw)):
        reader = messages.reader(deltas=True)
        frames = reader.feed(raw[:cut]) + reader.feed(raw[cut:]) + reader.flush()
        assert deltas_of(frames) == EXPECTED
        assert b"".join(frame.raw for frame in frames) == raw
        assert (reader.done, reader.has_output, reader.finish_reasons) == (True, True, ("tool_calls",))


@given(st.integers(1, 50))
def test_a_stream_says_the_same_in_pieces_of_any_size(size: int) -> None:
    reader, frames = read(*FULL, size=size)
    assert deltas_of(frames) == EXPECTED
    assert reader.usage == Usage(input_uncached=10, cache_read=7, cache_write_5m=5, output=30)


def test_what_ends_an_answer_is_terminal_and_nothing_before_it() -> None:
    _, frames = read(*FULL, deltas=False)
    terminal = [frame.raw for frame in frames if frame.terminal]
    assert [raw.split(b"\n")[0] for raw in terminal] == [b"event: message_delta", b"event: message_stop"]
    assert not any(frame.drop or frame.deltas for frame in frames)


def test_text_thought_and_arguments_count_as_text() -> None:
    reader, _ = read(start(), *thinking(0, "abc", "sig"), *text(1, "de"), *tool(2, "toolu_1", "f", '{"a":1}'), *end())
    assert reader.text_length == 3 + 2 + len("f") + len("{}") + 7


@pytest.mark.parametrize(
    ("stop", "canonical"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_stop_reasons_are_told_in_our_words(stop: str, canonical: str) -> None:
    reader, frames = read(start(), *end(stop))
    assert reader.finish_reasons == messages.read_reply(message(stop=stop)).finish_reasons == (canonical,)
    assert deltas_of(frames)[-1] == Finished(canonical)


def test_arguments_sent_at_once_are_not_lost_nor_told_twice() -> None:
    opening = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}
    _, frames = read(start(), *block(0, opening), *end("tool_use"))
    assert deltas_of(frames)[1:3] == [ToolStarted(0, "t", "f"), ToolDelta(0, '{"a": 1}')]
    _, frames = read(start(), *block(0, opening, {"type": "input_json_delta", "partial_json": '{"a":1}'}), *end("tool_use"))
    assert deltas_of(frames)[1:3] == [ToolStarted(0, "t", "f"), ToolDelta(0, '{"a":1}')]


def test_tools_that_the_provider_runs_say_nothing_to_other_protocols() -> None:
    opening = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    query = {"type": "input_json_delta", "partial_json": '{"query":"gate"}'}
    found = {
        "type": "web_search_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": [{"type": "web_search_result", "url": "u"}],
    }
    reader, frames = read(start(), *block(0, opening, query), *block(1, found), *text(2, "It"), *end())
    assert [frame.error for frame in frames if frame.error] == []
    assert deltas_of(frames)[1:] == [TextDelta("It"), Finished("stop")]
    assert reader.text_length > len("It")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("overloaded_error", "overloaded"),
        ("rate_limit_error", "rate_limited"),
        ("timeout_error", "timeout"),
        ("invalid_request_error", "bad_request"),
        ("authentication_error", "auth"),
        ("api_error", "status"),
    ],
)
def test_an_error_in_the_stream_is_one(error: str, kind: str) -> None:
    _, frames = read(start(), event("error", error={"type": error, "message": "No."}))
    failure = frames[-1].error
    assert isinstance(failure, AttemptFailed)
    assert failure.kind == kind


def test_an_error_without_a_type_is_one_too() -> None:
    _, frames = read(start(), b'data: {"error": {"message": "Out of memory"}}\n\n')
    assert frames[-1].error is not None


@pytest.mark.parametrize("junk", [b"data: {\n\n", b"data: 7\n\n", b"data: \xff\n\n", b'data: ["a"]\n\n'])
def test_what_is_no_json_breaks_the_stream(junk: bytes) -> None:
    _, frames = read(start(), junk)
    assert frames[-1].error is not None
    assert frames[-1].error.kind == "broken"


def test_half_a_character_costs_no_stream() -> None:
    said = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a\\ud83d"}}'
    delta = b"event: content_block_delta\ndata: " + said
    reader, frames = read(start(), delta + b"\n\n", *end())
    assert TextDelta("a\N{REPLACEMENT CHARACTER}") in deltas_of(frames)
    assert frames[1].raw == delta + b"\n\n"
    assert reader.done


def test_members_of_wrong_types_cost_only_their_own_meaning() -> None:
    odd = event("content_block_delta", index="0", delta={"type": "text_delta", "text": "a", "signature": 7}, usage=[])
    reader, frames = read(start(), odd, *end(input_tokens="many"))
    assert TextDelta("a") in deltas_of(frames)
    assert reader.usage == Usage(10, output=2)


def test_a_stream_that_the_gateway_cuts_ends_as_at_the_maximum_length() -> None:
    reader, _ = read(start(), *text(0, "Hel")[:-1])
    cut = reader.length_end(Usage(10, output=1))
    assert [json.loads(part.split(b"data: ")[1])["type"] for part in cut.split(b"\n\n")[:-1]] == [
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert json.loads(cut.split(b"data: ")[2].split(b"\n")[0])["delta"]["stop_reason"] == "max_tokens"


# --- whole answers -----------------------------------------------------------------------------
def test_a_whole_answer_is_read_in_its_order() -> None:
    body = message(
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xx"},
        {"type": "text", "text": "so"},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"b": 1, "a": [2]}},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        stop="stop_sequence",
        stop_sequence="END",
    )
    answer = messages.read_answer(body)
    (choice,) = answer.choices
    assert choice.parts == (
        Thinking("hm", "sig"), Thinking(redacted="xx"), Text("so"), ToolUse("toolu_1", "f", '{"b": 1, "a": [2]}'),
    )  # fmt: skip
    assert (choice.finish_reason, choice.stop_sequence, answer.id, answer.model) == (
        "stop",
        "END",
        "msg_upstream",
        "served-model",
    )


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"content": 3}', b"\xff"])
def test_what_is_no_answer_is_broken(body: bytes) -> None:
    with pytest.raises(BrokenReply):
        messages.read_reply(body)


def test_an_error_sent_as_an_answer_is_one() -> None:
    with pytest.raises(AttemptFailed) as raised:
        messages.read_reply(b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}')
    assert raised.value.kind == "overloaded"


def test_an_answer_of_odd_types_is_still_read() -> None:
    reply = messages.read_reply(
        message({"type": "text", "text": "so", "signature": 3}, usage={"input_tokens": 1, "output_tokens": 2})
    )
    assert (reply.text_length, reply.usage) == (2, Usage(1, output=2))


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(st.text(), inner), max_size=4).map(dict),
        max_leaves=9,
    )
)
def test_no_member_of_any_type_breaks_the_tap(value: Any) -> None:
    for name in ("index", "delta", "usage", "content_block", "message"):
        payload = msgspec.json.encode({"type": "content_block_start", name: value})
        messages.reader(deltas=True).feed(b"data: " + payload + b"\n\n")
