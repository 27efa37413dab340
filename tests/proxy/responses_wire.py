"""Responses as OpenAI writes them, whole and streamed, and a reader of streams that believes nothing.

Written from the SDK's types, not from the codec: what the codec writes is compared with this.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

Members = dict[str, Any]
USAGE: Members = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 17,
}
# Of the Open Responses models: null is fine, absent is not.
REQUIRED = frozenset(
    (
        *("id", "object", "created_at", "completed_at", "status"),
        *("incomplete_details", "model", "previous_response_id", "instructions", "output"),
        *("error", "tools", "tool_choice", "truncation", "parallel_tool_calls"),
        *("text", "top_p", "presence_penalty", "frequency_penalty", "top_logprobs"),
        *("temperature", "reasoning", "usage", "max_output_tokens", "max_tool_calls"),
        *("store", "background", "service_tier", "metadata", "safety_identifier"),
        *("prompt_cache_key",),
    )
)
ENDS = ("response.completed", "response.incomplete", "response.failed")
DONE = {
    *("output_text.done", "refusal.done", "reasoning_summary_text.done"),
    *("function_call_arguments.done", "custom_tool_call_input.done"),
}
_events: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


# --- what a provider says ----------------------------------------------------------------------
def said(text: str, *, number: int = 0, **members: Any) -> Members:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": f"msg_{number}", "type": "message", "status": "completed", "role": "assistant", "content": [part], **members}


def refused(text: str, *, number: int = 0) -> Members:
    return said("", number=number, content=[{"type": "refusal", "refusal": text}])


def called(name: str, arguments: str, *, call_id: str = "call_1", number: int = 1) -> Members:
    return {
        "id": f"fc_{number}", "type": "function_call", "status": "completed", "call_id": call_id, "name": name,
        "arguments": arguments,
    }  # fmt: skip


def thought(*summary: str, sealed: str | None = None, number: int = 2) -> Members:
    texts = [{"type": "summary_text", "text": text} for text in summary]
    return {"id": f"rs_{number}", "type": "reasoning", "summary": texts, "encrypted_content": sealed}


def response(*output: Members, usage: Members | None = USAGE, status: str = "completed", **members: Any) -> Members:
    nothing = dict.fromkeys(REQUIRED)
    told = {"id": "resp_upstream", "object": "response", "created_at": 1_760_000_000, "model": "served-model", "status": status}
    always = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "metadata": {}, "store": False}
    return {**nothing, **always, **told, "output": list(output), "usage": usage, **members}


def incomplete(*output: Members, reason: str = "max_output_tokens", **members: Any) -> Members:
    return response(*output, status="incomplete", incomplete_details={"reason": reason}, **members)


def failed(code: str, message: str, **members: Any) -> Members:
    return response(status="failed", error={"code": code, "message": message}, **members)


def frames_of(final: Members, *, piece: int = 3) -> list[bytes]:
    """The stream that ends in this response, texts in pieces of so many characters."""
    begun = {**final, "status": "in_progress", "output": [], "usage": None, "error": None, "incomplete_details": None}
    events: list[Members] = [{"type": f"response.{name}", "response": begun} for name in ("created", "in_progress")]
    for index, item in enumerate(final["output"]):
        events += _events_of(item, index, piece)
    events.append({"type": f"response.{final['status']}", "response": final})
    return [frame(event, number) for number, event in enumerate(events)]


def frame(event: Members, number: int) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': number})}\n\n".encode()


def _events_of(item: Members, index: int, piece: int) -> Iterable[Members]:
    place = {"item_id": item["id"], "output_index": index}
    empty: dict[str, Members] = {
        "message": {"content": []},
        "function_call": {"arguments": ""},
        "reasoning": {"summary": [], "encrypted_content": None},
    }
    yield {"type": "response.output_item.added", "output_index": index, "item": {**item, **empty.get(item["type"], {})}}
    for number, part in enumerate(item.get("content") or ()):
        kind, text = ("refusal", part["refusal"]) if part["type"] == "refusal" else ("output_text", part["text"])
        at = {**place, "content_index": number}
        yield {"type": "response.content_part.added", **at, "part": part}
        for piece_of in _pieces(text, piece):
            yield {"type": f"response.{kind}.delta", **at, "delta": piece_of, "logprobs": []}
        yield {"type": "response.content_part.done", **at, "part": part}
    for number, part in enumerate(item.get("summary") or ()):
        at = {**place, "summary_index": number}
        yield {"type": "response.reasoning_summary_part.added", **at, "part": {**part, "text": ""}}
        for piece_of in _pieces(part["text"], piece):
            yield {"type": "response.reasoning_summary_text.delta", **at, "delta": piece_of}
        yield {"type": "response.reasoning_summary_part.done", **at, "part": part}
    for piece_of in _pieces(item.get("arguments", ""), piece):
        yield {"type": "response.function_call_arguments.delta", **place, "delta": piece_of}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _pieces(text: str, piece: int) -> list[str]:
    return [text[start : start + piece] for start in range(0, len(text), piece)]


# --- what a caller is told ---------------------------------------------------------------------
def events_in(stream: bytes) -> list[Members]:
    """The events, each of which must have its name twice, be of the SDK's types, and be numbered without a gap."""
    events: list[Members] = []
    for text in filter(None, stream.decode().split("\n\n")):
        name, _, data = text.partition("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        _events.validate_python(event)
        events.append(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def sound_response(body: Members) -> Members:
    """A body, which must have every required member and be of the SDK's type."""
    assert body.keys() >= REQUIRED
    Response.model_validate(body)
    return body


def assembled(events: list[Members]) -> Members:
    """The last event's response, which must be what the events before it have told, item by item and piece by piece."""
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    final = events[-1]
    assert final["type"] in ENDS
    assert not [event for event in events[:-1] if event["type"] in ENDS]
    open_items: dict[int, Members] = {}
    done: dict[int, Members] = {}
    for event in events[2:-1]:
        index = event["output_index"]
        if event["type"] == "response.output_item.added":
            assert index == len(open_items) + len(done)
            open_items[index] = {"item": event["item"], "texts": {}}
        elif event["type"] == "response.output_item.done":
            done[index] = event["item"]
            assert _told(event["item"], open_items.pop(index)["texts"])
        else:
            _note(open_items[index], event)
    assert not open_items
    assert final["response"]["output"] == [done[index] for index in sorted(done)]
    for event in events[:2]:
        assert {**sound_response(event["response"]), "model": ""} == {
            **sound_response(final["response"]), "model": "", "output": [], "usage": None, "status": "in_progress",
            "completed_at": None, "incomplete_details": None,
        }  # fmt: skip
    return dict(final["response"])


def _note(item: Members, event: Members) -> None:
    assert event["item_id"] == item["item"]["id"]
    kind = event["type"].removeprefix("response.")
    place = event.get("content_index", event.get("summary_index", 0))
    texts = item["texts"]
    if kind == "output_text.annotation.added":
        cited = item.setdefault("cited", {}).setdefault(place, [])
        assert event["annotation_index"] == len(cited)
        cited.append(event["annotation"])
    elif kind.endswith("part.added"):
        assert place == len(texts)
        texts[place] = ""
    elif kind.endswith(".delta"):
        texts[place] = texts.get(place, "") + event["delta"]
    elif kind.endswith("part.done"):
        assert texts[place] == event["part"].get("text", event["part"].get("refusal"))
        assert item.get("cited", {}).get(place, []) == event["part"].get("annotations", [])
    else:
        assert kind in DONE
        told = next(event[name] for name in ("text", "refusal", "arguments", "input") if name in event)
        assert told == texts.get(place, "") or (told == "{}" and not texts)


def _told(item: Members, texts: dict[int, str]) -> bool:
    """Whether the pieces say what the whole item says; a call without arguments may be told none."""
    if item["type"] == "custom_tool_call":
        return texts.get(0, "") == str(item["input"])
    if item["type"] == "function_call":
        return texts.get(0, "") == str(item["arguments"]) or (not texts and item["arguments"] == "{}")
    parts = item.get("content") or item.get("summary") or ()
    return texts == {index: part.get("text", part.get("refusal")) for index, part in enumerate(parts)}
