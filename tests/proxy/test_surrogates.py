r"""Lone halves of surrogates (`\ud83d` without its partner): kept where bytes pass through, U+FFFD between two protocols."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.canonical.answer import Delta
from proxy.canonical.joining import choices_of
from proxy.errors import BadRequest
from proxy.protocols import registry, tool_arguments
from proxy.protocols.base import Quirks
from tests.proxy import event_streams
from tests.proxy.messages_wire import CALL

HALF, SHOWN = "\ud83d", "\ufffd"
ARGUMENTS = '{"city":"Z\\ud83d"}'
TOLD: dict[str, dict[str, Any]] = {
    "chat_completions": {
        "messages": [
            {"role": "system", "content": f"s{HALF}"},
            {"role": "user", "content": f"u{HALF}"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": ARGUMENTS}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": f"r{HALF}"},
        ],
    },
    "messages": {
        "max_tokens": 100,
        "system": f"s{HALF}",
        "messages": [
            {"role": "user", "content": f"u{HALF}"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {"city": f"Z{HALF}"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": f"r{HALF}"}]},
        ],
    },
    "responses": {
        "instructions": f"s{HALF}",
        "input": [
            {"type": "message", "role": "user", "content": f"u{HALF}"},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": ARGUMENTS},
            {"type": "function_call_output", "call_id": "c1", "output": f"r{HALF}"},
        ],
    },
}
USAGE = {"input_tokens": 1, "output_tokens": 1}
# Whole answers that say `a` and the half, and streams of the same.
WHOLE: dict[str, Any] = {
    "chat_completions": {"choices": [{"index": 0, "message": {"content": f"a{HALF}"}, "finish_reason": "stop"}]},
    "messages": {"content": [{"type": "text", "text": f"a{HALF}"}], "stop_reason": "end_turn", "usage": USAGE},
    "responses": {
        "status": "completed",
        "output": [{"type": "message", "id": "m", "content": [{"type": "output_text", "text": f"a{HALF}"}]}],
    },
    "gemini": {"candidates": [{"content": {"parts": [{"text": f"a{HALF}"}]}, "finishReason": "STOP"}]},
    "converse": {"output": {"message": {"content": [{"text": f"a{HALF}"}]}}, "stopReason": "end_turn"},
}
STREAMS: dict[str, list[Any]] = {
    "chat_completions": [
        {"choices": [{"index": 0, "delta": {"content": f"a{HALF}"}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ],
    "messages": [
        {"type": "message_start", "message": {"id": "msg_1", "content": [], "usage": USAGE}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": f"a{HALF}"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE},
        {"type": "message_stop"},
    ],
    "responses": [
        {"type": "response.created", "response": {"id": "r", "output": []}},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": f"a{HALF}"},
        {"type": "response.completed", "response": {"id": "r", "status": "completed", "output": []}},
    ],
    "gemini": [WHOLE["gemini"]],
    "converse": [
        ("messageStart", {}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": f"a{HALF}"}}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": {"inputTokens": 1, "outputTokens": 1}}),
    ],
}
PAIRS = [(caller, target) for caller in TOLD for target in registry.CHAT_PROVIDERS if caller != target]


def streamed(protocol: str) -> bytes:
    if protocol != "converse":
        return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in STREAMS[protocol])
    return b"".join(
        event_streams.frame({":event-type": name, ":message-type": "event"}, json.dumps(payload).encode())
        for name, payload in STREAMS[protocol]
    )


def texts(value: Any) -> Iterator[str]:
    """All in a piece of JSON, arguments that are JSON text read."""
    if isinstance(value, str):
        yield from texts(json.loads(value)) if value.startswith("{") else (value,)
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(inner)


@pytest.mark.parametrize(("caller", "target"), PAIRS)
def test_a_request_says_them_as_replacement_characters(caller: str, target: str) -> None:
    asked = registry.CALLERS[caller].parse(json.dumps({"model": "m", **TOLD[caller]}).encode(), {})
    conversation = registry.CHAT_CALLERS[caller].conversation(asked)
    given: Any = {"model": "up", "stream": False, "max_tokens": None, "quirks": Quirks()}
    said = [*texts(json.loads(registry.CHAT_PROVIDERS[target].write_request(conversation, **given).body))]
    assert {f"s{SHOWN}", f"u{SHOWN}", f"r{SHOWN}"} <= set(said)
    # Arguments that are text stay the text that the model wrote, escapes included.
    assert {f"Z{SHOWN}", f"Z{HALF}"} & set(said)


@pytest.mark.parametrize("caller", TOLD)
def test_a_request_of_the_same_protocol_keeps_them(caller: str) -> None:
    asked = registry.CALLERS[caller].parse(json.dumps({"model": "m", **TOLD[caller]}).encode(), {})
    body = registry.PASS_THROUGH[caller].pass_through(asked, model="up", max_tokens=None, quirks=Quirks())
    assert {name: json.loads(body)[name] for name in TOLD[caller]} == TOLD[caller]


@pytest.mark.parametrize(("caller", "target"), PAIRS)
def test_an_answer_says_them_as_replacement_characters(caller: str, target: str) -> None:
    answer = registry.CHAT_PROVIDERS[target].read_answer(json.dumps(WHOLE[target]).encode())
    asked = registry.CALLERS[caller].parse(json.dumps({"model": "m", **TOLD[caller]}).encode(), {})
    body = registry.CHAT_CALLERS[caller].render_answer(answer, request=asked, call_id=CALL)
    assert f"a{SHOWN}" in [*texts(json.loads(body))]


@pytest.mark.parametrize("target", registry.CHAT_PROVIDERS)
def test_a_stream_says_them_so_wherever_it_is_cut(target: str) -> None:
    stream = streamed(target)
    for cut in range(1, len(stream)):
        reader = registry.CHAT_PROVIDERS[target].reader(n=1, wants_usage=True, deltas=True)
        frames = [*reader.feed(stream[:cut]), *reader.feed(stream[cut:]), *reader.flush()]
        deltas: list[Delta] = [delta for frame in frames for delta in frame.deltas]
        assert [part.text for part in choices_of(deltas)[0].parts] == [f"a{SHOWN}"]  # type: ignore[union-attr]
        assert not any(frame.error for frame in frames)


def test_arguments_with_a_half_are_still_the_arguments() -> None:
    assert json.loads(bytes(tool_arguments.as_object(ARGUMENTS))) == {"city": f"Z{SHOWN}"}
    assert tool_arguments.is_complete(ARGUMENTS)
    for cut in range(1, len(ARGUMENTS)):
        assert not tool_arguments.is_complete(ARGUMENTS[:cut])


def test_what_the_gateway_reads_of_a_request_holds_no_mark_of_its_own() -> None:
    body = json.dumps({"model": "m", **TOLD["messages"], "metadata": {"user_id": f"u{HALF}"}}).encode()
    asked = registry.CALLERS["messages"].parse(body, {})
    assert (asked.user, asked.metadata) == (f"u{SHOWN}", {"user_id": f"u{SHOWN}"})
    assert json.loads(bytes(asked.fields["metadata"])) == {"user_id": f"u{HALF}"}


@pytest.mark.parametrize("caller", TOLD)
def test_a_name_with_a_half_is_none(caller: str) -> None:
    for given in ({"model": f"m{HALF}"}, {"model": "m", f"x{HALF}": 1}):
        with pytest.raises(BadRequest, match="not valid Unicode"):
            registry.CALLERS[caller].parse(json.dumps({**TOLD[caller], **given}).encode(), {})
