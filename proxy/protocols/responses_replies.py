"""Reading what a provider answers that speaks Responses: one body, or a stream tapped event by event.

The bytes pass through untouched; this module says what they mean, or with `deltas` says it for a caller of another
protocol. A member of an unexpected type costs its own meaning, never the call. Thinking is signed by its item's id and
`encrypted_content` together: both must come back to the provider.
"""

from __future__ import annotations

from typing import Any

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
    CitationDelta,
    Delta,
    Finished,
    RefusalDelta,
    SignatureDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStarted,
)
from proxy.canonical.conversation import SIGNED_BY_OPENAI, Refusal, Text, Thinking, ToolUse
from proxy.canonical.usage import Usage
from proxy.errors import AttemptFailed
from proxy.protocols import citations, surrogates
from proxy.protocols.base import BrokenReply, Frame, Reply
from proxy.protocols.failures import read_failure
from proxy.protocols.responses_answers import usage_members
from proxy.protocols.responses_stream import event
from proxy.protocols.responses_usage import output_of, taken_by_tools, usage_in
from proxy.protocols.sse import FrameSplitter, FrameTooLarge, data_of

ENDS = {"response.completed", "response.incomplete", "response.failed", "response.cancelled"}
Members = dict[str, Any]
Spoken = Text | Thinking | Refusal | ToolUse


class _Event(msgspec.Struct):
    type: str = ""
    sequence_number: Any = None
    output_index: Any = None
    summary_index: Any = None
    content_index: Any = None
    annotation: Any = None
    delta: Any = None
    logprobs: Any = None
    item: Any = None
    response: Any = None


_read_event = msgspec.json.Decoder(_Event).decode
_read_members = msgspec.json.Decoder(dict[str, Any]).decode


def read_reply(body: bytes) -> Reply:
    """Raises BrokenReply for what is no answer, and AttemptFailed for one that failed (sent with status 200)."""
    response = _response(body)
    output = output_of(response)
    texts = [text for item in output for text in _texts(item)]
    finish = _finish_reason(response)
    return Reply(
        usage=usage_in(response),
        finish_reasons=(finish,) if finish else (),
        text_length=sum(map(len, texts)),
        upstream_id=_string(response.get("id")),
        model=_string(response.get("model")),
        has_output=any(texts) or any(item.get("type") not in ("message", "reasoning") for item in output),
    )


def read_answer(body: bytes) -> Answer:
    """Raises like `read_reply`."""
    response = _response(body)
    parts = tuple(part for item in output_of(response) for part in _parts(item))
    return Answer(
        choices=(Choice(parts, _finish_reason(response), logprobs=_logprobs(response), citations=_cited(response)),),
        usage=usage_in(response),
        id=_string(response.get("id")),
        model=_string(response.get("model")),
    )


class StreamReader:
    """Taps one stream (`protocols.base.Reader`)."""

    def __init__(self, *, deltas: bool = False) -> None:
        self.usage: Usage | None = None
        self.upstream_id: str | None = None
        self.model: str | None = None
        self.done = False
        self.has_output = False
        self.text_length = 0
        self._finish = ""
        self._begun: Members = {}
        self._number = -1
        self._open = _OpenItems()
        self._told = _Told() if deltas else None
        self._splitter = FrameSplitter()

    @property
    def beside_text(self) -> Usage:
        return taken_by_tools(self._open.complete())

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        return (self._finish,) if self._finish else ()

    @property
    def all_finished(self) -> bool:
        return bool(self._finish)

    def feed(self, chunk: bytes) -> list[Frame]:
        try:
            return [self._frame(raw) for raw in self._splitter.feed(chunk)]
        except FrameTooLarge:
            return [Frame(b"", error=AttemptFailed("broken", "The provider's stream has no end of event."))]

    def flush(self) -> list[Frame]:
        rest = self._splitter.rest
        self._splitter = FrameSplitter()
        return [self._frame(rest)] if rest else []

    def length_end(self, usage: Usage | None) -> bytes:
        """What is open ends incomplete; then the response, as far as it got."""
        ended = b""
        for index, item in self._open.ended():
            self._number += 1
            ended += event("response.output_item.done", self._number, {"output_index": index, "item": item})
        response = {
            **self._begun,
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "output": self._open.output(),
            "usage": None if usage is None else usage_members(usage),
        }
        return ended + event("response.incomplete", self._number + 1, {"response": response})

    def _frame(self, raw: bytes) -> Frame:
        payload = data_of(raw)
        if payload is None or payload.startswith(b"[DONE]"):
            return Frame(raw, terminal=self.done)
        try:
            read = _read(payload)
        except ValueError:
            return Frame(raw, error=AttemptFailed("broken", "The provider's stream holds an event that is not JSON."))
        if read.type == "error" or (not read.type and b'"error"' in payload):
            return Frame(raw, error=read_failure(payload, status=None))
        if type(read.sequence_number) is int:
            self._number = read.sequence_number
        if isinstance(read.response, dict):
            self._tap_response(read.type, read.response)
            if read.type in ("response.failed", "response.cancelled"):
                return Frame(raw, error=_failure(read.response))
        self._tap(read)
        deltas = tuple(self._told.deltas(read)) if self._told is not None else ()
        return Frame(raw, terminal=self.done, deltas=deltas)

    def _tap_response(self, kind: str, response: Members) -> None:
        self.upstream_id = self.upstream_id or _string(response.get("id"))
        self.model = self.model or _string(response.get("model"))
        self._begun = self._begun or response
        self.usage = usage_in(response) or self.usage
        if kind in ENDS:
            self.done = True
            self._finish = _finish_reason(response)
            self.has_output |= bool(output_of(response))

    def _tap(self, read: _Event) -> None:
        if isinstance(read.delta, str) and read.type.endswith(".delta"):
            self.text_length += len(read.delta)
            self.has_output |= bool(read.delta)
        if isinstance(read.item, dict):
            self.has_output |= read.item.get("type") not in ("message", "reasoning")
        self._open.note(read)


class _OpenItems:
    """The output so far, for a stream that the gateway must end itself."""

    def __init__(self) -> None:
        self._items: dict[int, Members] = {}
        self._pieces: dict[int, list[str]] = {}

    def note(self, read: _Event) -> None:
        index = read.output_index
        if type(index) is not int:
            return
        if isinstance(read.item, dict):
            self._items[index] = read.item
            if read.type == "response.output_item.done":
                self._pieces.pop(index, None)
            else:
                self._pieces[index] = []
        elif isinstance(read.delta, str) and index in self._pieces:
            self._pieces[index].append(read.delta)

    def ended(self) -> list[tuple[int, Members]]:
        """The items that were open, ended as incomplete."""
        for index, pieces in self._pieces.items():
            self._items[index] = _cut_item(self._items[index], "".join(pieces))
        return [(index, self._items[index]) for index in sorted(self._pieces)]

    def complete(self) -> list[Members]:
        return [item for index, item in self._items.items() if index not in self._pieces]

    def output(self) -> list[Members]:
        return [self._items[index] for index in sorted(self._items)]


def _cut_item(item: Members, text: str) -> Members:
    cut = {**item, "status": "incomplete"}
    if item.get("type") == "message":
        cut["content"] = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    elif item.get("type") == "reasoning":
        cut["summary"] = [{"type": "summary_text", "text": text}] if text else []
    elif "arguments" in item:
        cut["arguments"] = text
    return cut


class _Told:
    """Events → deltas. What a provider did not stream piece by piece is told when it is complete."""

    def __init__(self) -> None:
        self._begun = False
        # By output index: the number of the tool call; items of which something has been told, or everything.
        self._calls: dict[int, int] = {}
        self._told: set[int] = set()
        self._ended: set[int] = set()
        self._citations = _Citations()

    def deltas(self, read: _Event) -> list[Delta]:
        found: list[Delta] = []
        if not self._begun:
            self._begun = True
            response = _members(read.response)
            found.append(Started(_string(response.get("id")), _string(response.get("model"))))
        if read.type in ENDS:
            response = _members(read.response)
            for index, item in enumerate(output_of(response)):
                found += self._item(index, item, complete=True)
            return [*found, Finished(_finish_reason(response) or STOP)]
        if type(read.output_index) is int:
            found += self._of_item(read, read.output_index)
        return found

    def _of_item(self, read: _Event, index: int) -> list[Delta]:
        match read.type:
            case "response.output_item.added":
                return self._item(index, _members(read.item), complete=False)
            case "response.output_item.done":
                return self._item(index, _members(read.item), complete=True)
            case "response.output_text.annotation.added":
                return self._citations.of_event(read, index)
            case "response.reasoning_summary_part.added" if read.summary_index:
                return [ThinkingDelta("\n\n")]
            case _ if isinstance(read.delta, str) and read.delta:
                return self._piece(read, index, read.delta)
            case _:
                return []

    def _piece(self, read: _Event, index: int, text: str) -> list[Delta]:
        self._told.add(index)
        match read.type:
            case "response.output_text.delta":
                self._citations.note(index, read.content_index, text)
                return [TextDelta(text, logprobs=_as_chat(read.logprobs) if read.logprobs else None)]
            case "response.refusal.delta":
                return [RefusalDelta(text)]
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                return [ThinkingDelta(text)]
            case "response.function_call_arguments.delta" if index in self._calls:
                return [ToolDelta(self._calls[index], text)]
            case _:
                return []

    def _item(self, index: int, item: Members, *, complete: bool) -> list[Delta]:
        found: list[Delta] = []
        for part in _parts(item):
            if isinstance(part, ToolUse) and index not in self._calls:
                self._calls[index] = len(self._calls)
                found.append(ToolStarted(self._calls[index], part.id, part.name))
            if complete:
                found += self._rest(index, part)
        if complete:
            if index not in self._ended:
                found += self._citations.of_item(item, index)
            self._told.add(index)
            self._ended.add(index)
        return found

    def _rest(self, index: int, part: Spoken) -> list[Delta]:
        """What of a complete part has not been told yet."""
        if index in self._ended:
            return []
        new = index not in self._told
        match part:
            case Text():
                if not new or not part.text:
                    return []
                self._citations.note(index, None, part.text)
                return [TextDelta(part.text)]
            case Refusal():
                return [RefusalDelta(part.text)] if new else []
            case Thinking():
                thought: list[Delta] = [ThinkingDelta(part.text)] if new and part.text else []
                return [*thought, SignatureDelta(part.signature)] if part.signature else thought
            case ToolUse():
                return [ToolDelta(self._calls[index], part.arguments)] if new and part.arguments else []


class _Citations:
    """Where each item's text begins in the whole, and which have been cited while they were written."""

    def __init__(self) -> None:
        self._length = 0
        self._items: dict[int, int] = {}
        self._parts: dict[tuple[int, Any], int] = {}
        self._cited: set[int] = set()

    def note(self, index: int, content_index: Any, text: str) -> None:
        self._items.setdefault(index, self._length)
        self._parts.setdefault((index, content_index), self._length)
        self._length += len(text)

    def of_event(self, read: _Event, index: int) -> list[Delta]:
        self._cited.add(index)
        base = self._parts.get((index, read.content_index), self._items.get(index, self._length))
        return [CitationDelta(found) for found in citations.of_annotations([read.annotation], base=base)]

    def of_item(self, item: Members, index: int) -> list[Delta]:
        """Those of an item that is complete, where they have not been told one by one."""
        if index in self._cited:
            return []
        return [CitationDelta(found) for found in _citations_of(item, base=self._items.get(index, self._length))]


def _citations_of(item: Members, *, base: int) -> list[Citation]:
    found: list[Citation] = []
    for part in item.get("content") or () if item.get("type") == "message" else ():
        if isinstance(part, dict) and part.get("type") == "output_text":
            found += citations.of_annotations(part.get("annotations"), base=base)
            base += len(_string(part.get("text")) or "")
    return found


def _cited(response: Members) -> tuple[Citation, ...]:
    """Of the whole output."""
    found: list[Citation] = []
    base = 0
    for item in output_of(response):
        found += _citations_of(item, base=base)
        base += sum(len(part.text) for part in _parts(item) if isinstance(part, Text))
    return tuple(found)


# --- reading -----------------------------------------------------------------------------------
def _read(payload: bytes) -> _Event:
    """Raises ValueError for what is no JSON object."""
    try:
        return _read_event(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        members = _loosely(payload)
    kind = members.pop("type", None)
    known = {name: members.get(name) for name in _Event.__struct_fields__ if name != "type"}
    return _Event(type=kind if isinstance(kind, str) else "", **known)


def _loosely(payload: bytes) -> Members:
    try:
        return _read_members(surrogates.readable(payload))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error


def _response(body: bytes) -> Members:
    try:
        response = _loosely(body)
    except ValueError as error:
        raise BrokenReply("broken", "The provider's answer is not JSON.") from error
    if response.get("error"):
        raise _failure(response)
    if not isinstance(response.get("output"), list):
        raise BrokenReply("broken", "The provider's answer has no `output`.")
    if response.get("status") in ("failed", "cancelled"):
        raise _failure(response)
    return response


def _failure(response: Members) -> AttemptFailed:
    return read_failure(msgspec.json.encode({"error": response.get("error") or {"message": "It failed."}}), status=None)


def _finish_reason(response: Members) -> str:
    if response.get("status") == "incomplete":
        reason = _members(response.get("incomplete_details")).get("reason")
        return CONTENT_FILTER if reason == "content_filter" else LENGTH
    called = any(item.get("type") in ("function_call", "custom_tool_call") for item in output_of(response))
    return TOOL_CALLS if called else STOP


def _parts(item: Members) -> list[Spoken]:
    """What an item says in the words of every protocol; OpenAI's own tools say nothing there."""
    match item.get("type"):
        case "message":
            content = [part for part in item.get("content") or () if isinstance(part, dict)]
            return [_said(part) for part in content]
        case "reasoning":
            thinking = Thinking("\n\n".join(_texts(item)), signature=sign(item))
            return [thinking] if thinking.text or thinking.signature else []
        case "function_call":
            name, call_id = _string(item.get("name")) or "", _string(item.get("call_id")) or _string(item.get("id")) or ""
            return [ToolUse(call_id, name, _string(item.get("arguments")) or "{}")]
        case _:
            return []


def _said(part: Members) -> Text | Refusal:
    if part.get("type") == "refusal":
        return Refusal(_string(part.get("refusal")) or "")
    return Text(_string(part.get("text")) or "")


def sign(item: Members) -> str | None:
    """A thinking part's signature; None where the provider gave nothing to return."""
    content = _string(item.get("encrypted_content"))
    return f"{SIGNED_BY_OPENAI}{_string(item.get('id')) or ''}.{content}" if content else None


def _texts(item: Members) -> list[str]:
    """All that the model wrote in an item."""
    parts = [part for name in ("content", "summary") for part in item.get(name) or () if isinstance(part, dict)]
    texts = [part.get("text") or part.get("refusal") for part in parts]
    texts += [item.get(name) for name in ("arguments", "input") if item.get("type") != "message"]
    if item.get("type") in ("function_call", "custom_tool_call"):
        texts.append(item.get("name"))
    return [text for text in texts if isinstance(text, str) and text]


def _logprobs(response: Members) -> Raw | None:
    parts = [part for item in output_of(response) for part in item.get("content") or () if isinstance(part, dict)]
    found = [entry for part in parts for entry in part.get("logprobs") or ()]
    return _as_chat(found) if found else None


def _as_chat(logprobs: Any) -> Raw:
    return Raw(msgspec.json.encode({"content": logprobs}))


def _members(value: Any) -> Members:
    return value if isinstance(value, dict) else {}


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None
