"""Writing answers as Messages: one body, or the events of a stream.

Guarantees: content blocks never interleave, whatever the provider's stream does: what belongs to a later block waits
until the one before is complete. A thinking block's signature comes last in it. The end (`message_delta`,
`message_stop`) carries the whole usage, input included: `message_start` cannot know it.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from proxy.canonical.answer import (
    CONTENT_FILTER,
    LENGTH,
    STOP,
    TOOL_CALLS,
    Answer,
    Choice,
    Citation,
    CitationDelta,
    Delta,
    Finished,
    MediaDelta,
    RefusalDelta,
    SignatureDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStarted,
    Written,
)
from proxy.canonical.conversation import Audio, Image, Refusal, Text, Thinking, ToolUse
from proxy.canonical.request import Request
from proxy.canonical.usage import Usage
from proxy.protocols import citations, made_media, tool_arguments

_write = msgspec.json.Encoder().encode
_THINKING = {"type": "thinking", "thinking": "", "signature": ""}
_STOP = {STOP: "end_turn", LENGTH: "max_tokens", TOOL_CALLS: "tool_use", CONTENT_FILTER: "refusal"}


def usage_members(usage: Usage | None) -> dict[str, Any]:
    """As Messages tells it: `input_tokens` without cached ones, `output_tokens` with thinking."""
    usage = usage or Usage()
    return {
        "input_tokens": usage.input_uncached + usage.audio_input + usage.image_input,
        "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.output_total,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
    }


def stop_members(finish_reason: str, stop_sequence: str | None, *, used_tools: bool = False) -> dict[str, Any]:
    """Some providers say `stop` where tools are to be called."""
    if stop_sequence is not None and finish_reason == STOP:
        return {"stop_reason": "stop_sequence", "stop_sequence": stop_sequence}
    if used_tools and finish_reason in (STOP, ""):
        finish_reason = TOOL_CALLS
    return {"stop_reason": _STOP.get(finish_reason, "end_turn"), "stop_sequence": None}


def message_id(given: str | None, call_id: str) -> str:
    """The provider's own, where it is one of a message."""
    return given if given is not None and given.startswith("msg_") else f"msg_{call_id.replace('-', '')}"


# --- whole answers -----------------------------------------------------------------------------
def render_answer(answer: Answer, *, request: Request, call_id: str) -> bytes:
    choice = answer.choices[0] if answer.choices else Choice(())
    content = [written for number, part in enumerate(choice.parts) for written in _block(part, call_id, number)]
    if choice.citations:
        _cite(content, choice.citations)
    used_tools = any(isinstance(part, ToolUse) for part in choice.parts)
    message = {
        "id": message_id(answer.id, call_id),
        "type": "message",
        "role": "assistant",
        "model": answer.model or request.model,
        "content": content,
        **stop_members(choice.finish_reason, choice.stop_sequence, used_tools=used_tools),
        "usage": usage_members(answer.usage),
    }
    return _write(message)


def _block(part: Written, call_id: str, number: int) -> Iterable[dict[str, Any]]:
    match part:
        case Text(text) | Refusal(text):
            return [{"type": "text", "text": text}] if text else []
        case Image() | Audio():
            return [{"type": "text", "text": made_media.note(part)}]
        case Thinking(redacted=str(data)):
            return [{"type": "redacted_thinking", "data": data}]
        case Thinking():
            return [{"type": "thinking", "thinking": part.text, "signature": part.signature or ""}]
        case ToolUse():
            name, given = part.name, tool_arguments.as_object(part.arguments)
            return [{"type": "tool_use", "id": part.id or tool_id(call_id, number), "name": name, "input": given}]


def _cite(content: list[dict[str, Any]], cited: Iterable[Citation]) -> None:
    """Each at the text block in which it ends."""
    left, at = sorted(cited, key=lambda one: one.end), 0
    texts = [block for block in content if block["type"] == "text"]
    for block in texts:
        at += len(block["text"])
        here = [one for one in left if one.end <= at or block is texts[-1]]
        left = left[len(here) :]
        if here:
            block["citations"] = [citations.message_citation(one) for one in here]


def tool_id(call_id: str, number: int) -> str:
    return f"toolu_{call_id.replace('-', '')}{number:02}"


# --- streams -----------------------------------------------------------------------------------
def event(type: str, **members: Any) -> bytes:
    return b"event: " + type.encode() + b"\ndata: " + _write({"type": type, **members}) + b"\n\n"


def message_end(finish_reason: str, usage: Usage | None, *, open_block: int | None) -> bytes:
    """What ends a stream of which the beginning came from elsewhere."""
    closing = event("content_block_stop", index=open_block) if open_block is not None else b""
    return closing + _ending(stop_members(finish_reason, None), usage)


def _ending(delta: dict[str, Any], usage: Usage | None) -> bytes:
    return event("message_delta", delta=delta, usage=usage_members(usage)) + event("message_stop")


class _Block:
    """One content block on its way. `key`: what later deltas of the same block have in common."""

    def __init__(self, key: tuple[str, int], start: dict[str, Any]) -> None:
        self.key = key
        self.start = start
        self.waiting: list[dict[str, Any]] = []
        self.arguments = ""

    @property
    def is_complete(self) -> bool:
        """Whether what comes next may begin a block of its own. Texts end where something else begins."""
        return self.key[0] != "tool" or tool_arguments.is_complete(self.arguments)


class Renderer:
    """`protocols.base.Renderer`. Of an answer with several choices only the first can be told."""

    def __init__(self, request: Request, *, call_id: str) -> None:
        self._request = request
        self._call_id = call_id
        self._started = False
        self._index = -1
        self._open: _Block | None = None
        self._later: list[_Block] = []
        self._used_tools = 0
        self._stop = Finished("")

    def feed(self, deltas: tuple[Delta, ...]) -> bytes:
        return b"".join(self._one(delta) for delta in deltas)

    def end(self, usage: Usage | None) -> bytes:
        written = self._start(None, None) + self._close()
        for block in self._later:
            written += self._begin(block) + self._close()
        self._later = []
        stop = stop_members(self._stop.finish_reason, self._stop.stop_sequence, used_tools=bool(self._used_tools))
        return written + _ending(stop, usage)

    def _one(self, delta: Delta) -> bytes:
        match delta:
            case Started():
                return self._start(delta.id, delta.model)
            case _ if getattr(delta, "choice", 0):
                return b""
            case TextDelta(text) | RefusalDelta(text):
                return self._add(("text", 0), {"type": "text", "text": ""}, {"type": "text_delta", "text": text})
            case MediaDelta():
                written = {"type": "text_delta", "text": made_media.note(delta.part)}
                return self._add(("media", id(delta)), {"type": "text", "text": ""}, written)
            case ThinkingDelta(text):
                return self._add(("thinking", 0), _THINKING, {"type": "thinking_delta", "thinking": text})
            case SignatureDelta():
                return self._signature(delta)
            case CitationDelta():
                return self._cite(delta)
            case ToolStarted() | ToolDelta():
                return self._tool(delta) if isinstance(delta, ToolStarted) else self._argue(delta)
            case Finished():
                self._stop = delta
        return b""

    def _start(self, id: str | None, model: str | None) -> bytes:
        if self._started:
            return b""
        self._started = True
        message: dict[str, Any] = {
            "id": message_id(id, self._call_id),
            "type": "message",
            "role": "assistant",
            "model": model or self._request.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_members(None),
        }
        return event("message_start", message=message)

    def _add(self, key: tuple[str, int], start: dict[str, Any], delta: dict[str, Any]) -> bytes:
        """A delta of the last block, or of a new one behind it."""
        last = self._later[-1] if self._later else self._open
        if last is None or last.key != key:
            last = _Block(key, start)
            return self._put(last) + self._say(last, delta)
        return self._say(last, delta)

    def _put(self, block: _Block) -> bytes:
        """The block is begun, unless what stands before it is still being written."""
        if self._open is not None and (self._later or not self._open.is_complete):
            self._later.append(block)
            return b""
        return self._close() + self._begin(block)

    def _say(self, block: _Block, delta: dict[str, Any]) -> bytes:
        if block is not self._open:
            block.waiting.append(delta)
            # Something must pass, or who reads takes the stream for dead.
            return event("ping")
        return event("content_block_delta", index=self._index, delta=delta)

    def _begin(self, block: _Block) -> bytes:
        self._index += 1
        self._open = block
        begun = self._start(None, None) + event("content_block_start", index=self._index, content_block=block.start)
        waiting, block.waiting = block.waiting, []
        return begun + b"".join(self._say(block, delta) for delta in waiting)

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return event("content_block_stop", index=self._index)

    def _signature(self, delta: SignatureDelta) -> bytes:
        """Ends the thinking before it."""
        if delta.redacted is not None:
            return self._put(_Block(("redacted", 0), {"type": "redacted_thinking", "data": delta.redacted}))
        written = self._add(("thinking", 0), _THINKING, {"type": "signature_delta", "signature": delta.signature})
        last = self._later[-1] if self._later else self._open
        if last is not None:
            last.key = ("signed", 0)
        return written

    def _cite(self, delta: CitationDelta) -> bytes:
        """Ends the text before it: what is cited is a block of its own. Of text behind which another block began nothing can
        be told any more."""
        last = self._later[-1] if self._later else self._open
        if last is None or last.key[0] not in ("text", "cited"):
            return b""
        last.key = ("cited", 0)
        return self._say(last, {"type": "citations_delta", "citation": citations.message_citation(delta.citation)})

    def _tool(self, delta: ToolStarted) -> bytes:
        id = delta.id or tool_id(self._call_id, self._used_tools)
        self._used_tools += 1
        return self._put(_Block(("tool", delta.index), {"type": "tool_use", "id": id, "name": delta.name, "input": {}}))

    def _argue(self, delta: ToolDelta) -> bytes:
        blocks = [self._open, *self._later] if self._open is not None else self._later
        block = next((block for block in blocks if block.key == ("tool", delta.index)), None)
        if block is None or not delta.arguments:
            return b""
        block.arguments += delta.arguments
        written = self._say(block, {"type": "input_json_delta", "partial_json": delta.arguments})
        while self._later and self._open is not None and self._open.is_complete:
            written += self._close() + self._begin(self._later.pop(0))
        return written
