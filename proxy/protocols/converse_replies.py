"""Reading what Converse answers: one body, or a stream of binary frames (`application/vnd.amazon.eventstream`).

The framing is botocore's to take apart, checksums included; it is loaded by the first stream. `messageStop` ends the
answer, and `metadata` after it brings the usage. An exception may be a frame, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from proxy.canonical.answer import (
    CONTENT_FILTER,
    LENGTH,
    STOP,
    TOOL_CALLS,
    Answer,
    Choice,
    Citation,
    Delta,
    Finished,
    SignatureDelta,
    Started,
    ThinkingDelta,
    ToolDelta,
    ToolStarted,
)
from proxy.canonical.conversation import Refusal, Text, Thinking, ToolUse
from proxy.canonical.usage import Usage
from proxy.errors import AttemptFailed, Kind
from proxy.protocols import citations, surrogates, tool_arguments
from proxy.protocols.base import BrokenReply, Frame, Reply
from proxy.protocols.counts import count, first_count
from proxy.protocols.delta_reader import DeltaReader, reply_of
from proxy.protocols.failures import scrub

if TYPE_CHECKING:
    from botocore.eventstream import EventStreamBuffer, EventStreamMessage

_FINISH = {
    "end_turn": STOP,
    "stop_sequence": STOP,
    "max_tokens": LENGTH,
    "model_context_window_exceeded": LENGTH,
    "tool_use": TOOL_CALLS,
    "guardrail_intervened": CONTENT_FILTER,
    "content_filtered": CONTENT_FILTER,
}
# Frames of a stream that are exceptions: kind, and the status that the same has as an answer.
_EXCEPTIONS: dict[str, tuple[Kind, int | None]] = {
    "throttlingException": ("rate_limited", 429),
    "serviceUnavailableException": ("overloaded", 503),
    "modelTimeoutException": ("timeout", 408),
    "validationException": ("bad_request", 400),
    "accessDeniedException": ("auth", 403),
    "modelStreamErrorException": ("status", 424),
    "internalServerException": ("status", 500),
}
_UNKNOWN: tuple[Kind, int | None] = ("status", None)


class _ReasoningText(msgspec.Struct):
    text: str = ""
    signature: str | None = None


class _Reasoning(msgspec.Struct, rename="camel"):
    """Of a whole answer (`reasoning_text`), or a delta (`text`, `signature`)."""

    reasoning_text: _ReasoningText | None = None
    redacted_content: str | None = None
    text: str | None = None
    signature: str | None = None


class _ToolUse(msgspec.Struct, rename="camel"):
    tool_use_id: str = ""
    name: str = ""
    input: Raw = Raw()


class _Said(msgspec.Struct):
    text: str = ""


class _Cited(msgspec.Struct):
    """A text that rests on documents of the request, or on pages."""

    content: list[_Said] = []
    citations: Any = None

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.content)


class _Block(msgspec.Struct, rename="camel"):
    text: str | None = None
    citations_content: _Cited | None = None
    tool_use: _ToolUse | None = None
    reasoning_content: _Reasoning | None = None


class _Message(msgspec.Struct):
    content: list[_Block] = []


class _Output(msgspec.Struct):
    message: _Message | None = None


class _CacheDetail(msgspec.Struct, rename="camel"):
    ttl: Any = None
    input_tokens: Any = None


class _Usage(msgspec.Struct, rename="camel"):
    input_tokens: Any = None
    output_tokens: Any = None
    cache_read_input_tokens: Any = None
    cache_write_input_tokens: Any = None
    cache_details: list[_CacheDetail] | None = None


class _Extra(msgspec.Struct):
    stop_sequence: str | None = None


class _Body(msgspec.Struct, rename="camel"):
    output: _Output | None = None
    stop_reason: str = ""
    usage: _Usage | None = None
    additional_model_response_fields: _Extra | None = None


class _ToolInput(msgspec.Struct):
    input: str = ""


class _BlockDelta(msgspec.Struct, rename="camel"):
    text: str | None = None
    tool_use: _ToolInput | None = None
    reasoning_content: _Reasoning | None = None
    citation: Any = None


class _BlockStart(msgspec.Struct, rename="camel"):
    tool_use: _ToolUse | None = None


class _Event(msgspec.Struct, rename="camel"):
    """The payload of any frame of a stream."""

    start: _BlockStart | None = None
    delta: _BlockDelta | None = None
    content_block_index: int = 0
    stop_reason: str = ""
    usage: _Usage | None = None
    additional_model_response_fields: _Extra | None = None
    message: Any = None


_read_body = msgspec.json.Decoder(_Body).decode
_read_event = msgspec.json.Decoder(_Event).decode


def read_answer(body: bytes) -> Answer:
    """Raises BrokenReply."""
    try:
        try:
            read = _read_body(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            read = _read_body(surrogates.readable(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenReply("broken", "The provider's answer is not one of Converse's.") from error
    if read.output is None or read.output.message is None:
        raise BrokenReply("broken", "The provider's answer has no `output`.")
    parts = tuple(part for block in read.output.message.content for part in _parts(block))
    stop_sequence = _stop_sequence(read.additional_model_response_fields)
    cited = tuple(_cited(read.output.message.content))
    choice = Choice(parts, _finish(read.stop_reason), stop_sequence, citations=cited)
    return Answer((choice,), usage=usage_of(read.usage))


def read_reply(body: bytes) -> Reply:
    """Raises like `read_answer`."""
    return reply_of(read_answer(body))


def _parts(block: _Block) -> Iterator[Text | Thinking | Refusal | ToolUse]:
    if block.text:
        yield Text(block.text)
    if block.citations_content is not None and block.citations_content.text:
        yield Text(block.citations_content.text)
    if (thought := block.reasoning_content) is not None:
        if thought.redacted_content is not None:
            yield Thinking(redacted=thought.redacted_content)
        elif thought.reasoning_text is not None:
            yield Thinking(thought.reasoning_text.text, thought.reasoning_text.signature)
    if (call := block.tool_use) is not None:
        yield ToolUse(call.tool_use_id, call.name, tool_arguments.as_text(call.input))


def _cited(blocks: list[_Block]) -> Iterator[Citation]:
    at = 0
    for block in blocks:
        at += len(block.text or "")
        if block.citations_content is not None:
            end = at + len(block.citations_content.text)
            yield from citations.of_converse(block.citations_content.citations, start=at, end=end)
            at = end


def _finish(reason: str) -> str:
    return _FINISH.get(reason, STOP) if reason else ""


def _stop_sequence(extra: _Extra | None) -> str | None:
    return extra.stop_sequence if extra else None


def usage_of(given: _Usage | None) -> Usage | None:
    """Disjoint kinds, as they are here already; None unless both sides are counted. Of writes, the details tell the kinds."""
    into, out_of = (count(given.input_tokens), count(given.output_tokens)) if given else (None, None)
    if given is None or into is None or out_of is None:
        return None
    written = first_count(given.cache_write_input_tokens)
    hour = sum(first_count(detail.input_tokens) for detail in given.cache_details or () if detail.ttl == "1h")
    hour = min(hour, written)
    return Usage(
        input_uncached=into,
        cache_read=first_count(given.cache_read_input_tokens),
        cache_write_5m=written - hour,
        cache_write_1h=hour,
        output=out_of,
    )


# --- streams -----------------------------------------------------------------------------------
class StreamReader(DeltaReader):
    """`protocols.base.ProviderReader`. Frames hold no raw bytes: nobody speaks this protocol to the gateway."""

    BROKEN = "The provider's stream is no event stream of Amazon's."

    def __init__(self, *, n: int = 1) -> None:
        super().__init__(n=n)
        self._buffer: EventStreamBuffer | None = None
        # The tool calls so far: by the index of their block, our index and whether there were arguments.
        self._calls: dict[int, int] = {}
        self._without_arguments: set[int] = set()
        self._cited = citations.OfBlocks(citations.of_converse)

    def feed(self, chunk: bytes) -> list[Frame]:
        from botocore.eventstream import EventStreamBuffer, ParserError

        buffer = self._buffer = self._buffer or EventStreamBuffer()
        buffer.add_data(chunk)
        frames: list[Frame] = []
        try:
            frames += (self._frame(message) for message in buffer)
        except (ParserError, UnicodeDecodeError, KeyError):
            frames.append(self._broken(b""))
        return frames

    def flush(self) -> list[Frame]:
        """A frame that breaks off is left away: what is missing of the answer shows without it."""
        return []

    def _frame(self, message: EventStreamMessage) -> Frame:
        headers = message.headers
        name = str(headers.get(":exception-type") or headers.get(":error-code") or headers.get(":event-type") or "")
        try:
            event = _event(message.payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._broken(b"")
        if headers.get(":message-type") != "event":
            return self._failed(b"", _exception(name, event.message or headers.get(":error-message")))
        if name == "metadata":
            self.usage = usage_of(event.usage) or self.usage
            self.done = True
        return self._said(b"", tuple(self._deltas(name, event)))

    def _deltas(self, name: str, event: _Event) -> Iterator[Delta]:
        match name:
            case "messageStart":
                yield Started()
            case "contentBlockStart" if event.start is not None and event.start.tool_use is not None:
                call = event.start.tool_use
                index = self._calls[event.content_block_index] = len(self._calls)
                self._without_arguments.add(index)
                yield ToolStarted(index, call.tool_use_id, call.name)
            case "contentBlockDelta" if event.delta is not None:
                yield from self._block_delta(event.delta, event.content_block_index)
            case "contentBlockStop" if (index := self._calls.get(event.content_block_index, -1)) in self._without_arguments:
                self._without_arguments.discard(index)
                yield ToolDelta(index, "{}")
            case "contentBlockStop":
                yield from self._cited.ended()
            case "messageStop":
                yield Finished(_finish(event.stop_reason) or STOP, _stop_sequence(event.additional_model_response_fields))

    def _block_delta(self, delta: _BlockDelta, block: int) -> Iterator[Delta]:
        if delta.text:
            yield self._cited.said(delta.text)
        if delta.citation is not None:
            self._cited.add(delta.citation)
        if delta.tool_use is not None and delta.tool_use.input and block in self._calls:
            self._without_arguments.discard(self._calls[block])
            yield ToolDelta(self._calls[block], delta.tool_use.input)
        if (thought := delta.reasoning_content) is not None:
            if thought.text:
                yield ThinkingDelta(thought.text)
            if thought.signature:
                yield SignatureDelta(thought.signature)
            if thought.redacted_content is not None:
                yield SignatureDelta(redacted=thought.redacted_content)


def _event(payload: bytes) -> _Event:
    try:
        return _read_event(payload or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _read_event(surrogates.readable(payload))


def _exception(name: str, message: object) -> AttemptFailed:
    kind, status = _EXCEPTIONS.get(name[:1].lower() + name[1:], _UNKNOWN)
    if kind == "auth":
        return AttemptFailed(kind, "The provider refused the gateway's credentials.", status=status)
    said = scrub(message) if isinstance(message, str) else ""
    return AttemptFailed(kind, said or f"The provider's stream ended with {scrub(name) or 'an error'}.", status=status)
