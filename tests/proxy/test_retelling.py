"""Responses whose caller is told what the gateway keeps, not what its provider was asked to keep."""

from __future__ import annotations

import json

import pytest
from msgspec import Raw

from proxy.canonical.usage import Usage
from proxy.protocols import responses
from proxy.protocols.responses_replies import StreamReader
from proxy.protocols.retelling import RetellingReader, retold
from tests.proxy.responses_wire import called, events_in, frames_of, response, said

TOLD = {"store": Raw(b"true"), "previous_response_id": Raw(b'"resp_before"')}
STREAM = frames_of(response(said('"response" é 😀', number=0), called("look", "{}")))


def test_a_body_says_what_is_true_and_else_what_it_said() -> None:
    body = response(said("Hi"), odd=1.50)
    assert json.loads(retold(json.dumps(body).encode(), TOLD)) == {**body, "store": True, "previous_response_id": "resp_before"}
    assert retold(b"no json", TOLD) == b"no json"


@pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
def test_a_stream_says_it_in_every_event_that_holds_the_response(size: int) -> None:
    reader = RetellingReader(StreamReader(), TOLD)
    stream = b"".join(STREAM)
    frames = [frame for start in range(0, len(stream), size) for frame in reader.feed(stream[start : start + size])]
    frames += reader.flush()

    events = events_in(b"".join(frame.raw for frame in frames))
    before = events_in(stream)
    for event, original in zip(events, before, strict=True):
        if "response" in original:
            original["response"] |= {"store": True, "previous_response_id": "resp_before"}
        assert event == original
    assert [frame.terminal for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert (reader.done, reader.has_output, reader.all_finished) == (True, True, True)
    assert (reader.finish_reasons, reader.upstream_id, reader.model) == (("tool_calls",), "resp_upstream", "served-model")
    assert reader.usage is not None
    assert reader.text_length > 0


def test_the_end_that_the_gateway_writes_says_it_too() -> None:
    reader = RetellingReader(StreamReader(), TOLD)
    sent = b"".join(frame.raw for frame in reader.feed(b"".join(STREAM[:5])))
    events = events_in(sent + reader.length_end(Usage(1, output=2)))
    assert events[-1]["response"]["previous_response_id"] == "resp_before"


def test_the_response_is_found_in_the_end_of_a_stream() -> None:
    found = responses.response_in(b"".join(STREAM[-3:]))
    assert found is not None
    assert json.loads(found)["status"] == "completed"
    assert responses.response_in(STREAM[4]) is None
    assert responses.response_in(b": nothing\n\ndata: no json\n\n") is None
