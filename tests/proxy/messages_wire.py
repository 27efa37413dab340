"""What Anthropic and its callers send: bodies, and streams as its SDK's types have them."""

from __future__ import annotations

import json
from typing import Any

from proxy.canonical.request import Request
from proxy.protocols import messages
from tests.upstream import Script, stream

CALL = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
ASK: list[Any] = [{"role": "user", "content": "Tell me about the gate."}]


def body(**members: Any) -> bytes:
    return json.dumps({"model": "scripted", "max_tokens": 100, "messages": ASK, **members}).encode()


def asked(**members: Any) -> Request:
    return messages.parse(body(**members))


def message(*content: dict[str, Any], stop: str = "end_turn", usage: dict[str, Any] | None = None, **members: Any) -> bytes:
    whole = {
        "id": "msg_upstream",
        "type": "message",
        "role": "assistant",
        "model": "served-model",
        "content": list(content) or [{"type": "text", "text": "Hello"}],
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage if usage is not None else {"input_tokens": 10, "output_tokens": 2},
        **members,
    }
    return json.dumps(whole).encode()


def answer(*content: dict[str, Any], **members: Any) -> Script:
    return Script(parts=(message(*content, **members),))


def event(type: str, **members: Any) -> bytes:
    return f"event: {type}\ndata: {json.dumps({'type': type, **members})}\n\n".encode()


def start(**usage: Any) -> bytes:
    begun = json.loads(message(stop="", usage={"input_tokens": 10, "output_tokens": 1, **usage}))
    return event("message_start", message=begun | {"content": [], "stop_reason": None})


def block(index: int, opening: dict[str, Any], *deltas: dict[str, Any]) -> list[bytes]:
    return [
        event("content_block_start", index=index, content_block=opening),
        *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
        event("content_block_stop", index=index),
    ]


def text(index: int, *pieces: str) -> list[bytes]:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": piece} for piece in pieces))


def thinking(index: int, thought: str, signature: str) -> list[bytes]:
    return block(
        index,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": thought},
        {"type": "signature_delta", "signature": signature},
    )


def tool(index: int, id: str, name: str, *pieces: str) -> list[bytes]:
    opening = {"type": "tool_use", "id": id, "name": name, "input": {}}
    return block(index, opening, *({"type": "input_json_delta", "partial_json": piece} for piece in pieces))


def end(stop: str = "end_turn", *, stop_sequence: str | None = None, **usage: Any) -> list[bytes]:
    delta = {"stop_reason": stop, "stop_sequence": stop_sequence}
    return [event("message_delta", delta=delta, usage={"output_tokens": 2, **usage}), event("message_stop")]


def streamed(*pieces: str) -> Script:
    return stream(start(), event("ping"), *text(0, *pieces), *end())


# Thought, text, two tools: everything a stream of a call that uses tools has.
FULL = [
    start(cache_read_input_tokens=7, cache_creation_input_tokens=5),
    event("ping"),
    *thinking(0, "Let me see \u2028", "c2lnbmVk"),
    *block(1, {"type": "redacted_thinking", "data": "c2VjcmV0"}),
    *text(2, "I'll look, Zürich ", "\U0001f600"),
    *tool(3, "toolu_1", "look", '{"city": "Z', 'ürich"}'),
    *tool(4, "toolu_2", "clock"),
    *end("tool_use", input_tokens=10, cache_read_input_tokens=7, cache_creation_input_tokens=5, output_tokens=30),
]
