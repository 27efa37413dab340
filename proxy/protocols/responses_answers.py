"""Writing a whole response for a caller: the members that every body has, and an `Answer` as output items."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from msgspec import Raw

from proxy.canonical.answer import CONTENT_FILTER, LENGTH, Answer, Choice
from proxy.canonical.conversation import Audio, Image, Refusal, Text, Thinking, ToolUse
from proxy.canonical.request import Request
from proxy.canonical.usage import Usage
from proxy.protocols import citations, made_media
from proxy.protocols.responses_items import Sealed, seal
from proxy.protocols.responses_tools import NO_TOOLS, Names, custom_input, names

Members = dict[str, Any]
# What a response says of the request it answers, and what it says where the caller said nothing.
ECHOED: Members = {
    "previous_response_id": None,
    "instructions": None,
    "tools": [],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "text": {"format": {"type": "text"}},
    "top_p": None,
    "presence_penalty": None,
    "frequency_penalty": None,
    "top_logprobs": None,
    "temperature": None,
    "reasoning": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "service_tier": None,
    "metadata": {},
    "safety_identifier": None,
    "prompt_cache_key": None,
    "user": None,
}
_NULL = Raw(b"null")


def skeleton(request: Request, *, call_id: str, created_at: int) -> Members:
    """A response before there is any of it. `truncation`: nothing is ever left out of a translated call."""
    given = {name: raw for name in ECHOED if (raw := request.fields.get(name, _NULL)) != _NULL}
    return {
        "id": f"resp_{short(call_id)}",
        "object": "response",
        "created_at": created_at,
        "completed_at": None,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": request.model,
        "output": [],
        **ECHOED,
        **given,
        "truncation": "disabled",
        "store": request.store,
        "background": False,
        "usage": None,
    }


def render_answer(answer: Answer, *, request: Request, call_id: str) -> bytes:
    choice = answer.choices[0] if answer.choices else Choice(())
    created_at = int(time.time())
    response = skeleton(request, call_id=call_id, created_at=created_at)
    response |= {"model": answer.model or request.model, "output": items(choice, call_id=call_id, called=names(request))}
    return msgspec.json.encode(response | ending(choice.finish_reason, answer.usage))


def ending(finish_reason: str, usage: Usage | None) -> Members:
    """What a response says once it is over."""
    reason = {LENGTH: "max_output_tokens", CONTENT_FILTER: "content_filter"}.get(finish_reason)
    return {
        "status": "incomplete" if reason else "completed",
        "completed_at": None if reason else int(time.time()),
        "incomplete_details": {"reason": reason} if reason else None,
        "usage": None if usage is None else usage_members(usage),
    }


def usage_members(usage: Usage) -> Members:
    written = usage.cache_write_5m + usage.cache_write_1h
    return {
        "input_tokens": usage.input_total,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": written},
        "output_tokens": usage.output_total,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }


# --- output items ------------------------------------------------------------------------------
def items(choice: Choice, *, call_id: str, called: Names = NO_TOOLS) -> list[Members]:
    """Texts that follow each other are one message; each thought and each call of a tool is an item of its own.

    `called`: how the caller names its tools.
    """
    found: list[Members] = []
    for part in choice.parts:
        match part:
            case Text() | Refusal() | Audio():
                if not found or found[-1]["type"] != "message":
                    found.append(message(call_id, len(found)))
                found[-1]["content"].append(content(Text(made_media.note(part)) if isinstance(part, Audio) else part))
            case Image():
                found.append(picture(call_id, len(found), part))
            case Thinking():
                found.append(reasoning(call_id, len(found), part))
            case ToolUse():
                if part.signature:
                    sealed = Sealed(signature=part.signature, tool_use_id=part.id)
                    found.append(reasoning(call_id, len(found), Thinking(), sealed))
                found.append(tool_call(call_id, len(found), part, called=called))
    _annotate([part for item in found for part in item.get("content", ()) if part["type"] == "output_text"], choice)
    if found and choice.finish_reason == LENGTH and "status" in found[-1]:
        found[-1]["status"] = "incomplete"
    return found


def message(call_id: str, index: int, *, status: str = "completed") -> Members:
    return {"id": f"msg_{short(call_id)}{index:02x}", "type": "message", "status": status, "role": "assistant", "content": []}


def content(part: Text | Refusal, logprobs: list[Any] | None = None) -> Members:
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    return {"type": "output_text", "text": part.text, "annotations": [], "logprobs": logprobs or []}


def picture(call_id: str, index: int, image: Image) -> Members:
    return {
        "id": f"ig_{short(call_id)}{index:02x}",
        "type": "image_generation_call",
        "status": "completed",
        "result": image.data,
        "output_format": (image.media_type or "image/png").partition("/")[2],
    }


def reasoning(call_id: str, index: int, thinking: Thinking, sealed: Sealed | None = None) -> Members:
    """`encrypted_content` is there whenever its provider wants something back, asked for or not: without it the next
    turn would fail."""
    if sealed is None and (thinking.signature or thinking.redacted):
        sealed = Sealed(signature=thinking.signature, redacted=thinking.redacted)
    return {
        "id": f"rs_{short(call_id)}{index:02x}",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": thinking.text}] if thinking.text else [],
        "encrypted_content": None if sealed is None else seal(sealed),
    }


def tool_call(call_id: str, index: int, part: ToolUse, *, called: Names, status: str = "completed") -> Members:
    written = custom_call if part.name in called.custom else function_call
    return written(call_id, index, part, status=status) | called.members(part.name)


def function_call(call_id: str, index: int, part: ToolUse, *, status: str = "completed") -> Members:
    return {
        "id": f"fc_{short(call_id)}{index:02x}",
        "type": "function_call",
        "status": status,
        "call_id": part.id,
        "name": part.name,
        "arguments": part.arguments,
    }


def custom_call(call_id: str, index: int, part: ToolUse, *, status: str = "completed") -> Members:
    return {
        "id": f"ctc_{short(call_id)}{index:02x}",
        "type": "custom_tool_call",
        "status": status,
        "call_id": part.id,
        "name": part.name,
        "input": custom_input(part.arguments),
    }


def chat_logprobs(logprobs: Raw) -> list[Any]:
    """Of Chat Completions' object the list of tokens, which both protocols write alike."""
    read = msgspec.json.decode(logprobs)
    listed = read.get("content") if isinstance(read, dict) else None
    return listed if isinstance(listed, list) else []


def _annotate(texts: list[Members], choice: Choice) -> None:
    """What belongs to texts: log probabilities to the first, each citation to the one in which it ends."""
    if texts and choice.logprobs is not None:
        texts[0]["logprobs"] = chat_logprobs(choice.logprobs)
    left, base = sorted(choice.citations, key=lambda one: one.end), 0
    for part in texts if left else ():
        end = base + len(part["text"])
        here = [one for one in left if one.end <= end or part is texts[-1]]
        left = left[len(here) :]
        part["annotations"] = citations.response_annotations(here, base=base)
        base = end


def short(call_id: str) -> str:
    return call_id.replace("-", "")
