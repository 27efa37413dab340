"""What OpenAI's Responses say: usage, finish, output, and the same in no protocol's words; whole, and cut anywhere."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.canonical.answer import (
    Choice,
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
from proxy.errors import AttemptFailed, ProviderTimeout, RateLimitExceeded
from proxy.protocols import responses
from proxy.protocols.base import BrokenReply
from proxy.protocols.responses_replies import StreamReader, read_answer, read_reply
from proxy.protocols.responses_usage import usage_of
from tests.proxy.responses_wire import (
    USAGE,
    Members,
    assembled,
    called,
    events_in,
    failed,
    frame,
    frames_of,
    incomplete,
    refused,
    response,
    said,
    thought,
)

COUNTED = Usage(input_uncached=5, cache_read=4, cache_write_5m=1, output=7, reasoning=3)
EVERYTHING = response(
    thought("First ", "then", sealed="opaque", number=0), said("Hello \u2028 Zürich 😀", number=1), called("look", '{"a": 1}'),
    called("ask", '{"b": "é"}', call_id="call_2", number=3),
)  # fmt: skip


def whole(body: Members) -> bytes:
    return json.dumps(body).encode()


def read(*chunks: bytes, deltas: bool = False) -> StreamReader:
    reader = StreamReader(deltas=deltas)
    for chunk in chunks:
        reader.feed(chunk)
    reader.flush()
    return reader


def deltas_of(*chunks: bytes) -> list[Any]:
    reader = StreamReader(deltas=True)
    frames = [frame for chunk in chunks for frame in reader.feed(chunk)] + reader.flush()
    assert not [frame for frame in frames if frame.error]
    return [delta for frame in frames for delta in frame.deltas]


def joined(deltas: list[Any]) -> Choice:
    """What a stream of deltas says, put together as whole answers are."""
    parts: list[Any] = []
    calls: dict[int, int] = {}
    finish = ""
    for delta in deltas:
        match delta:
            case TextDelta() | RefusalDelta() | ThinkingDelta():
                kind: Any = {TextDelta: Text, RefusalDelta: Refusal, ThinkingDelta: Thinking}[type(delta)]
                if not parts or type(parts[-1]) is not kind or getattr(parts[-1], "signature", None):
                    parts.append(kind(""))
                parts[-1] = msgspec.structs.replace(parts[-1], text=parts[-1].text + delta.text)
            case SignatureDelta():
                if not (parts and type(parts[-1]) is Thinking and parts[-1].signature is None):
                    parts.append(Thinking())
                parts[-1] = msgspec.structs.replace(parts[-1], signature=delta.signature)
            case ToolStarted():
                calls[delta.index] = len(parts)
                parts.append(ToolUse(delta.id, delta.name, ""))
            case ToolDelta():
                place = calls[delta.index]
                parts[place] = msgspec.structs.replace(parts[place], arguments=parts[place].arguments + delta.arguments)
            case Finished():
                finish = delta.finish_reason
    return Choice(tuple(parts), finish)


# --- whole answers -----------------------------------------------------------------------------
DREW: dict[str, Any] = {
    "image_gen": {
        "input_tokens": 50,
        "input_tokens_details": {"image_tokens": 30, "text_tokens": 20},
        "output_tokens": 4160,
        "total_tokens": 4210,
    },
    "web_search": {"num_requests": 0},
}


@pytest.mark.parametrize(
    ("tool_usage", "beside"),
    [
        (DREW, (Usage(image_input=50, image_output=4160),)),
        ({"image_gen": {**DREW["image_gen"], "input_tokens": 0, "output_tokens": 0}}, ()),
        ({"image_gen": 7}, ()),
        (None, ()),
    ],
)
def test_what_drawing_took_stands_beside_the_usage(tool_usage: Any, beside: tuple[Usage, ...]) -> None:
    told = {**response(said("Here.")), "tool_usage": tool_usage}
    expected = msgspec.structs.replace(COUNTED, beside=beside)
    assert read_reply(whole(told)).usage == expected
    assert read(frame({"type": "response.completed", "response": told}, 1)).usage == expected


def searched(kind: str | None = "search", status: str = "completed") -> Members:
    return {"id": "ws_1", "type": "web_search_call", "status": status, **({"action": {"type": kind}} if kind else {})}


LOOKED = {"id": "fs_1", "type": "file_search_call", "status": "completed", "queries": ["gate"]}


@pytest.mark.parametrize(
    ("items", "told", "units"),
    [
        ((searched(), searched("open_page"), searched(), searched(None)), {}, {"web_search": 3}),
        ((searched(), searched(status="failed")), {}, {"web_search": 1}),
        ((searched(), searched()), {"tool_usage": {"web_search": {"num_requests": 1}}}, {"web_search": 1}),
        ((searched(),), {"tool_usage": {"web_search": {"num_requests": 0}}}, {}),
        ((searched(),), {"tool_usage": {"web_search": 7}}, {"web_search": 1}),
        ((LOOKED, searched("find_in_page")), {}, {"storage_search": 1}),
        ((), {}, {}),
    ],
)
def test_searches_are_counted_as_the_provider_bills_them(items: Any, told: Members, units: dict[str, int]) -> None:
    """By its own count where there is one; opening a page that was found costs nothing."""
    body = response(*items, said("Here."), **told)
    expected = msgspec.structs.replace(COUNTED, units=units)
    assert read_reply(whole(body)).usage == expected
    assert read(frame({"type": "response.completed", "response": body}, 1)).usage == expected


def test_usage_is_counted_once() -> None:
    assert usage_of(USAGE) == COUNTED
    assert (COUNTED.input_total, COUNTED.output_total) == (10, 7)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_cached_written_and_fresh_input_are_disjoint_and_reasoning_is_output(
    fresh: int, cached: int, written: int, output: int, reasoning: int
) -> None:
    told = {
        "input_tokens": fresh + cached + written,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": output + reasoning,
        "output_tokens_details": {"reasoning_tokens": reasoning},
    }
    expected = Usage(fresh, cache_read=cached, cache_write_5m=written, output=output + reasoning, reasoning=reasoning)
    assert usage_of(told) == expected


@pytest.mark.parametrize(
    "told",
    [None, "x", {}, {"input_tokens": 5}, {"input_tokens": -1, "output_tokens": 1}, {"input_tokens": True, "output_tokens": 1}],
)
def test_what_is_no_count_is_no_usage(told: Any) -> None:
    assert usage_of(told) is None


def test_details_that_cannot_be_are_bounded_by_their_sums() -> None:
    told = {
        "input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 99, "cache_write_tokens": 99},
        "output_tokens_details": {"reasoning_tokens": 99},
    }  # fmt: skip
    assert usage_of(told) == Usage(input_uncached=0, cache_read=10, output=5, reasoning=5)


@pytest.mark.parametrize(
    ("body", "finish"),
    [
        (response(said("Hi")), "stop"),
        (response(said("Hi"), called("look", "{}")), "tool_calls"),
        (incomplete(said("Hi")), "length"),
        (incomplete(said("Hi"), reason="content_filter"), "content_filter"),
    ],
)
def test_a_whole_answer_says_how_it_ended_and_what_it_cost(body: Members, finish: str) -> None:
    reply = read_reply(whole(body))
    assert reply.finish_reasons == (finish,)
    assert reply.usage == COUNTED
    assert (reply.upstream_id, reply.model, reply.has_output) == ("resp_upstream", "served-model", True)


def test_text_is_what_the_model_wrote() -> None:
    body = response(thought("Hm", number=0), said("Hello", number=1), called("look", "{}", number=2), refused("No", number=3))
    assert read_reply(whole(body)).text_length == len("HmHellolook{}No")


def test_an_answer_that_says_nothing_has_no_output() -> None:
    assert not read_reply(whole(response(thought(number=0)))).has_output
    assert not read_reply(whole(response())).has_output


def test_openais_own_tools_are_output() -> None:
    assert read_reply(whole(response({"id": "ws_1", "type": "web_search_call", "status": "completed"}))).has_output


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"output": 5}', b'"text"', b"\xff"])
def test_what_is_no_answer_is_broken(body: bytes) -> None:
    for look in (read_reply, read_answer):
        with pytest.raises(BrokenReply):
            look(body)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("server_error", "status"),
        ("rate_limit_exceeded", "rate_limited"),
        ("invalid_prompt", "bad_request"),
        ("context_length_exceeded", "bad_request"),
    ],
)
def test_an_answer_that_failed_is_a_failure(code: str, kind: str) -> None:
    for look in (read_reply, read_answer):
        with pytest.raises(AttemptFailed) as raised:
            look(whole(failed(code, "It broke.")))
        assert (raised.value.kind, raised.value.code) == (kind, code)
        assert "It broke." in raised.value.message


def test_an_answer_in_no_protocols_words() -> None:
    answer = read_answer(whole(EVERYTHING))
    assert (answer.id, answer.model, answer.usage) == ("resp_upstream", "served-model", COUNTED)
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].parts == (
        Thinking("First \n\nthen", signature="oai1.rs_0.opaque"),
        Text("Hello \u2028 Zürich 😀"),
        ToolUse("call_1", "look", '{"a": 1}'),
        ToolUse("call_2", "ask", '{"b": "é"}'),
    )


def test_a_lone_surrogate_half_costs_a_letter_not_the_call() -> None:
    body = whole(response(said("Hi"))).replace(b'"Hi"', b'"Hi \\ud83d"')
    assert read_answer(body).choices[0].parts == (Text("Hi \ufffd"),)
    assert read(*[part.replace(b"Hi", b"\\ud83d") for part in frames_of(response(said("Hi")))]).finish_reasons == ("stop",)


# --- streams -----------------------------------------------------------------------------------
STREAM = b"".join(frames_of(EVERYTHING))


def test_a_stream_says_the_same_wherever_it_is_cut() -> None:
    expected = read_answer(whole(EVERYTHING)).choices[0]
    for cut in range(1, len(STREAM), 7):
        reader = StreamReader(deltas=True)
        frames = [*reader.feed(STREAM[:cut]), *reader.feed(STREAM[cut:]), *reader.flush()]
        assert b"".join(frame.raw for frame in frames) == STREAM
        assert joined([delta for frame in frames for delta in frame.deltas]) == expected
        assert (reader.usage, reader.finish_reasons, reader.done) == (COUNTED, ("tool_calls",), True)


def test_a_stream_fed_byte_by_byte_is_the_same_stream() -> None:
    reader = read(*[STREAM[index : index + 1] for index in range(len(STREAM))])
    assert (reader.usage, reader.upstream_id, reader.model) == (COUNTED, "resp_upstream", "served-model")
    assert reader.has_output
    assert reader.text_length == len("First thenHello \u2028 Zürich 😀" + '{"a": 1}{"b": "é"}')


def test_only_the_event_that_ends_the_answer_is_terminal() -> None:
    frames = StreamReader().feed(STREAM)
    assert [frame.terminal for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert not any(frame.deltas for frame in frames)


@pytest.mark.parametrize("body", [response(said("Hi")), incomplete(said("Hi")), incomplete(said("Hi"), reason="content_filter")])
def test_usage_comes_from_whichever_event_ends_the_stream(body: Members) -> None:
    reader = read(*frames_of(body))
    assert (reader.usage, reader.done, reader.all_finished) == (COUNTED, True, True)


def test_usage_of_a_response_that_failed_is_known_and_the_frame_is_an_error() -> None:
    reader = StreamReader()
    frames = reader.feed(b"".join(frames_of(failed("server_error", "It broke.", usage=USAGE))))
    assert [frame.error is not None for frame in frames] == [False, False, True]
    assert reader.usage == COUNTED


def test_an_error_event_is_an_error() -> None:
    told = frame({"type": "error", "code": "rate_limit_exceeded", "message": "Slow down.", "param": None}, 2)
    (found,) = StreamReader().feed(told)
    assert found.error is not None
    assert (found.error.kind, found.error.code) == ("rate_limited", "rate_limit_exceeded")


@pytest.mark.parametrize("broken", [b"data: not json\n\n", b"data: [1]\n\n"])
def test_what_is_no_event_is_an_error(broken: bytes) -> None:
    (found,) = StreamReader().feed(broken)
    assert found.error is not None
    assert found.error.kind == "broken"


def test_comments_and_unknown_events_pass() -> None:
    raw = b": keep-alive\n\n" + frame({"type": "response.web_search_call.searching", "output_index": 0, "item_id": "ws"}, 2)
    frames = StreamReader(deltas=True).feed(raw)
    assert b"".join(frame.raw for frame in frames) == raw
    assert not [frame for frame in frames if frame.error or frame.terminal]


def test_members_of_a_strange_type_cost_their_own_meaning_only() -> None:
    odd = frame({"type": "response.output_text.delta", "output_index": "0", "delta": {"text": "x"}, "item_id": 5}, 2)
    reader = read(odd, frames_of(response(said("Hi")))[-1], deltas=True)
    assert reader.finish_reasons == ("stop",)


def test_what_was_not_streamed_in_pieces_is_told_when_it_is_complete() -> None:
    first, *_, last = frames_of(EVERYTHING)
    told = deltas_of(first, last)
    assert isinstance(told[0], Started)
    assert joined(told) == read_answer(whole(EVERYTHING)).choices[0]


def test_a_refusal_and_log_probabilities_are_told() -> None:
    token = {"token": "Hi", "bytes": [72, 105], "logprob": -0.1, "top_logprobs": []}
    begun, *_ = frames_of(response())
    delta = frame({"type": "response.output_text.delta", "output_index": 0, "delta": "Hi", "logprobs": [token]}, 2)
    told = deltas_of(begun, delta)
    assert [type(each) for each in told] == [Started, TextDelta]
    assert isinstance(told[1], TextDelta)
    assert msgspec.json.decode(told[1].logprobs or b"") == {"content": [token]}
    assert RefusalDelta("I c") in deltas_of(*frames_of(response(refused("I cannot"))))


def test_the_gateway_ends_a_stream_as_at_its_maximum_length() -> None:
    frames = frames_of(EVERYTHING)
    for kept in range(2, len(frames)):
        reader = read(*frames[:kept])
        sent = b"".join(frames[:kept]) + reader.length_end(COUNTED)
        events = [json.loads(text.partition("\ndata: ")[2]) for text in sent.decode().split("\n\n") if text]
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        ended = events[-1]["response"]
        assert events[-1]["type"] == "response.incomplete"
        assert ended["incomplete_details"] == {"reason": "max_output_tokens"}
        done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
        assert ended["output"] == done
        assert ended["usage"]["total_tokens"] == 17


# --- errors in the middle ----------------------------------------------------------------------
def test_a_stream_that_fails_goes_on_counting_and_fails_the_response_that_was_begun() -> None:
    begun, *more = frames_of(response(said("Hello")))
    sent = b"".join(more[:3])
    ended = responses.render_stream_error(ProviderTimeout("Too slow."), request_id="r", first=begun, last=sent)

    events = events_in(begun + sent + ended)
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert (events[-2]["code"], events[-2]["message"]) == ("provider_timeout", "Too slow.")
    assert events[-2]["error"]["gatehouse"]["request_id"] == "r"
    failing = events[-1]["response"]
    assert (failing["id"], failing["status"], failing["error"]["code"]) == ("resp_upstream", "failed", "server_error")


def test_a_stream_that_fails_at_once_is_told_by_an_error_alone() -> None:
    (event,) = events_in(responses.render_stream_error(RateLimitExceeded(), request_id="r"))
    assert (event["type"], event["sequence_number"], event["code"]) == ("error", 0, "rate_limit_exceeded")


def test_the_streams_of_these_tests_are_as_the_sdk_has_them() -> None:
    assert assembled(events_in(b"".join(frames_of(response(said("Hello")), piece=2))))["id"] == "resp_upstream"
