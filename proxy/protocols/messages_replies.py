"""Reading what a Messages provider answers: one body, or a stream tapped event by event.

The bytes pass through untouched; this module says what they mean. A stream's usage is cumulative: each count
overwrites the one before, field by field, and none is ever added. A member of an unexpected type costs its own
meaning, never the call. Source: anthropic 2.14 types; https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

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
from proxy.errors import AttemptFailed
from proxy.protocols import citations, surrogates
from proxy.protocols.base import BrokenReply, Frame, Reply
from proxy.protocols.bodies import NULL
from proxy.protocols.counts import count, first_count
from proxy.protocols.failures import read_failure
from proxy.protocols.messages_rendering import message_end
from proxy.protocols.sse import FrameSplitter, FrameTooLarge, data_of

T = TypeVar("T", bound=msgspec.Struct)
CHARACTERS_PER_TOKEN = 4
_FINISH = {
    "end_turn": STOP,
    "stop_sequence": STOP,
    "pause_turn": STOP,
    "max_tokens": LENGTH,
    "model_context_window_exceeded": LENGTH,
    "tool_use": TOOL_CALLS,
    "refusal": CONTENT_FILTER,
}


class _Written(msgspec.Struct):
    ephemeral_5m_input_tokens: Any = None
    ephemeral_1h_input_tokens: Any = None


class _OutputDetails(msgspec.Struct):
    thinking_tokens: Any = None


class _ServerTools(msgspec.Struct):
    web_search_requests: Any = None


class UsageMembers(msgspec.Struct):
    """`usage` of a message or of a `message_delta`, which names only what it knows."""

    input_tokens: Any = None
    output_tokens: Any = None
    cache_read_input_tokens: Any = None
    cache_creation_input_tokens: Any = None
    cache_creation: _Written | None = None
    output_tokens_details: _OutputDetails | None = None
    server_tool_use: _ServerTools | None = None
    iterations: Any = None


class _Block(msgspec.Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: Any = None
    id: str = ""
    name: str = ""
    input: Raw = NULL
    content: Any = None
    citations: Any = None

    @property
    def is_found(self) -> bool:
        """Whether it is what a search found. One that failed is not billed."""
        return self.type == "web_search_tool_result" and isinstance(self.content, list)


class _Message(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    content: list[_Block] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: UsageMembers | None = None
    error: Any = None


class _Delta(msgspec.Struct):
    """Of a block, or of the message (`stop_…`)."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    citation: Any = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: UsageMembers | None = None
    error: Any = None


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_event = msgspec.json.Decoder(_Event).decode


def usage_of(given: UsageMembers | None) -> Usage | None:
    """Disjoint kinds; None unless both input and output can be told.

    `input_tokens` leaves cached tokens out. `cache_creation` splits `cache_creation_input_tokens` by lifetime: it is
    the same tokens once more. `output_tokens` includes thinking. Of `iterations`, which tell the same tokens again, only those
    that shortened the conversation are in no other figure.
    https://platform.claude.com/docs/en/build-with-claude/compaction-threshold
    """
    if given is None:
        return None
    into, out_of = count(given.input_tokens), count(given.output_tokens)
    if into is None or out_of is None:
        return None
    split = given.cache_creation or _Written()
    five, hour = first_count(split.ephemeral_5m_input_tokens), first_count(split.ephemeral_1h_input_tokens)
    written = count(given.cache_creation_input_tokens)
    written = five + hour if written is None else written
    hour = min(hour, written)
    thought = first_count((given.output_tokens_details or _OutputDetails()).thinking_tokens)
    searches = first_count((given.server_tool_use or _ServerTools()).web_search_requests)
    return Usage(
        input_uncached=into,
        cache_read=first_count(given.cache_read_input_tokens),
        cache_write_5m=written - hour,
        cache_write_1h=hour,
        output=out_of,
        reasoning=min(thought, out_of),
        units={"web_search": searches} if searches else {},
        beside=tuple(_compactions(given.iterations)) if given.iterations else (),
    )


def _compactions(iterations: Any) -> Iterator[Usage]:
    for entry in iterations if isinstance(iterations, list) else ():
        if isinstance(entry, dict) and entry.get("type") == "compaction":
            used = usage_of(_convert({name: part for name, part in entry.items() if name != "iterations"}, UsageMembers))
            if used is not None:
                yield used


def finish_reason(stop_reason: str) -> str:
    """Canonical. A reason from the future ends the answer all the same."""
    return _FINISH.get(stop_reason, STOP)


# --- whole answers -----------------------------------------------------------------------------
def read_reply(body: bytes) -> Reply:
    """Raises BrokenReply for what is no answer, and AttemptFailed for an error object (sent with status 200)."""
    message = _message(body)
    texts = [text for block in message.content or () for text in _texts(block)]
    return Reply(
        usage=usage_of(message.usage),
        finish_reasons=(finish_reason(message.stop_reason),) if message.stop_reason else (),
        text_length=sum(map(len, texts)),
        upstream_id=message.id,
        model=message.model,
        has_output=bool(message.content),
    )


def read_answer(body: bytes) -> Answer:
    """Raises like `read_reply`. Blocks of tools that the provider runs itself are left out: other protocols have none."""
    message = _message(body)
    parts = tuple(part for block in message.content or () if (part := _part(block)) is not None)
    finish = finish_reason(message.stop_reason) if message.stop_reason else ""
    choice = Choice(parts, finish, message.stop_sequence, citations=tuple(_cited(message.content or ())))
    return Answer((choice,), usage_of(message.usage), message.id, message.model)


def _message(body: bytes) -> _Message:
    try:
        message = _decode_message(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message = _loose(body)
    if message.error:
        raise read_failure(body, status=None)
    if message.content is None:
        raise BrokenReply("broken", "The provider's answer has no `content`.")
    return message


def _part(block: _Block) -> Text | Thinking | Refusal | ToolUse | None:
    match block.type:
        case "text":
            return Text(block.text or "")
        case "thinking":
            return Thinking(block.thinking or "", block.signature or None)
        case "redacted_thinking":
            return Thinking(redacted=str(block.data))
        case "tool_use":
            return ToolUse(block.id, block.name, _arguments(block))
    return None


def _cited(blocks: Iterable[_Block]) -> Iterator[Citation]:
    at = 0
    for block in blocks:
        if block.type == "text":
            end = at + len(block.text or "")
            yield from citations.of_block(block.citations, start=at, end=end)
            at = end


def _arguments(block: _Block) -> str:
    return "{}" if block.input == NULL else bytes(block.input).decode(errors="replace")


def _texts(block: _Block) -> list[str]:
    """What was generated, by characters: texts, thought, and calls of tools."""
    texts = [block.text, block.thinking]
    if block.input != NULL:
        texts += [block.name, _arguments(block)]
    return [text for text in texts if text]


# --- streams -----------------------------------------------------------------------------------
class StreamReader:
    """Taps one stream (`protocols.base.Reader`): the raw bytes of all frames are the bytes fed.

    Until the last usage has come, what is known of the input is exact and the output is estimated from its text.
    """

    def __init__(self, *, deltas: bool = False) -> None:
        self.upstream_id: str | None = None
        self.model: str | None = None
        self.done = False
        self.has_output = False
        self.text_length = 0
        self.beside_text = Usage()
        self._searches = 0
        self._finish = ""
        self._counted = UsageMembers()
        self._final = False
        self._terminal = False
        self._open: int | None = None
        self._splitter = FrameSplitter()
        self._blocks = _BlockDeltas() if deltas else None

    @property
    def usage(self) -> Usage | None:
        used = usage_of(self._counted)
        if used is None or self._final:
            return used
        units = {"web_search": self._searches} if self._searches else used.units
        guessed = -(-self.text_length // CHARACTERS_PER_TOKEN)
        return msgspec.structs.replace(used, output=max(used.output, guessed), units=units, estimated=True)

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        return (self._finish,) if self._finish else ()

    @property
    def all_finished(self) -> bool:
        return bool(self._finish)

    def feed(self, chunk: bytes) -> list[Frame]:
        """Never raises: what is no event stream ends in a frame with an `error`."""
        try:
            return [self._frame(raw) for raw in self._splitter.feed(chunk)]
        except FrameTooLarge:
            return [self._broken(b"", "The provider's stream has no end of event.")]

    def flush(self) -> list[Frame]:
        """What an ending stream leaves open: servers exist that omit the last blank line."""
        rest = self._splitter.rest
        self._splitter = FrameSplitter()
        return [self._frame(rest)] if rest else []

    def length_end(self, usage: Usage | None) -> bytes:
        return message_end(LENGTH, usage, open_block=self._open)

    def _frame(self, raw: bytes) -> Frame:
        payload = data_of(raw)
        if payload is None:
            return Frame(raw, self._terminal)
        try:
            event = _event(payload)
        except ValueError:
            return self._broken(raw, "The provider's stream holds an event that is not JSON.")
        if event.type == "error" or event.error:
            return Frame(raw, self._terminal, error=read_failure(payload, status=None))
        self._tap(event)
        return Frame(raw, self._terminal, deltas=self._blocks.of(event) if self._blocks is not None else ())

    def _broken(self, raw: bytes, sentence: str) -> Frame:
        return Frame(raw, self._terminal, error=AttemptFailed("broken", sentence))

    def _tap(self, event: _Event) -> None:
        match event.type:
            case "content_block_delta" if event.delta is not None:
                delta = event.delta
                texts = (delta.text, delta.thinking, delta.partial_json)
                self.text_length += sum(len(text) for text in texts if text)
            case "content_block_start" if event.content_block is not None:
                self._open = event.index
                self.has_output = True
                self.text_length += sum(map(len, _texts(event.content_block)))
                self._searches += event.content_block.is_found
            case "content_block_stop":
                self._open = None
            case "message_start" if event.message is not None:
                self.upstream_id, self.model = event.message.id, event.message.model
                self._count(event.message.usage)
            case "message_delta":
                self._end(event)
            case "message_stop":
                self.done = self._terminal = True

    def _end(self, event: _Event) -> None:
        self._count(event.usage)
        if event.delta is not None and event.delta.stop_reason:
            self._finish = finish_reason(event.delta.stop_reason)
            self._terminal = True
            self._final = event.usage is not None and count(event.usage.output_tokens) is not None

    def _count(self, given: UsageMembers | None) -> None:
        for name in UsageMembers.__struct_fields__ if given is not None else ():
            value = getattr(given, name)
            if isinstance(value, msgspec.Struct | list) or count(value) is not None:
                setattr(self._counted, name, value)


class _BlockDeltas:
    """Events → deltas. `_tools`: index of a block → number of its tool call."""

    def __init__(self) -> None:
        self._tools: dict[int, int] = {}
        self._whole: dict[int, str] = {}
        self._cited = citations.OfBlocks(citations.of_block)

    def of(self, event: _Event) -> tuple[Delta, ...]:
        match event.type:
            case "content_block_delta" if event.delta is not None:
                return self._of_delta(event.index, event.delta)
            case "content_block_start" if event.content_block is not None:
                return self._of_start(event.index, event.content_block)
            case "content_block_stop" if event.index in self._whole:
                return (ToolDelta(self._tools[event.index], self._whole.pop(event.index)),)
            case "content_block_stop":
                return self._cited.ended()
            case "message_start" if event.message is not None:
                return (Started(event.message.id, event.message.model),)
            case "message_delta" if event.delta is not None and event.delta.stop_reason:
                return (Finished(finish_reason(event.delta.stop_reason), event.delta.stop_sequence),)
        return ()

    def _of_start(self, index: int, block: _Block) -> tuple[Delta, ...]:
        match block.type:
            case "tool_use":
                number = self._tools[index] = len(self._tools)
                given = _arguments(block)
                if given.strip("{ }"):  # servers exist that send the arguments at once, and no deltas
                    self._whole[index] = given
                return (ToolStarted(number, block.id, block.name),)
            case "redacted_thinking":
                return (SignatureDelta(redacted=str(block.data)),)
            case "text":
                self._cited.begin(block.citations)
                return (self._cited.said(block.text),) if block.text else ()
            case "thinking" if block.thinking:
                return (ThinkingDelta(block.thinking),)
        return ()

    def _of_delta(self, index: int, delta: _Delta) -> tuple[Delta, ...]:
        match delta.type:
            case "text_delta" if delta.text:
                return (self._cited.said(delta.text),)
            case "citations_delta":
                self._cited.add(delta.citation)
            case "input_json_delta" if delta.partial_json and index in self._tools:
                self._whole.pop(index, None)
                return (ToolDelta(self._tools[index], delta.partial_json),)
            case "thinking_delta" if delta.thinking:
                return (ThinkingDelta(delta.thinking),)
            case "signature_delta" if delta.signature:
                return (SignatureDelta(delta.signature),)
        return ()


# --- answers that are not quite to the letter --------------------------------------------------
def _event(payload: bytes) -> _Event:
    """Raises ValueError for what is no JSON object. Of a known event with members of wrong types its kind is kept."""
    try:
        return _decode_event(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = _object(payload)
    index = value.get("index")
    return _Event(
        type=_string(value.get("type")) or "",
        index=index if type(index) is int else 0,
        message=_loose_message(value["message"]) if "message" in value else None,
        content_block=_convert(value.get("content_block"), _Block),
        delta=_convert(value.get("delta"), _Delta),
        usage=_convert(value.get("usage"), UsageMembers),
        error=value.get("error"),
    )


def _loose(body: bytes) -> _Message:
    """Raises BrokenReply."""
    try:
        value = _object(body)
    except ValueError as error:
        raise BrokenReply("broken", "The provider's answer is not JSON.") from error
    return _loose_message(value)


def _loose_message(value: Any) -> _Message:
    value = value if isinstance(value, dict) else {}
    content = value.get("content")
    return _Message(
        id=_string(value.get("id")),
        model=_string(value.get("model")),
        content=[_convert(block, _Block) or _Block() for block in content] if isinstance(content, list) else None,
        stop_reason=_string(value.get("stop_reason")),
        stop_sequence=_string(value.get("stop_sequence")),
        usage=_convert(value.get("usage"), UsageMembers),
        error=value.get("error"),
    )


def _convert(value: Any, kind: type[T]) -> T | None:
    """What can be read of an object: members of a wrong type are left out."""
    if not isinstance(value, dict):
        return None
    found = kind()
    for name in kind.__struct_fields__:
        if name in value:
            try:
                read = msgspec.json.decode(msgspec.json.encode({name: value[name]}), type=kind)
            except msgspec.ValidationError:
                continue
            setattr(found, name, getattr(read, name))
    return found


def _object(payload: bytes) -> dict[str, Any]:
    """Raises ValueError."""
    try:
        value = msgspec.json.decode(surrogates.readable(payload))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None
