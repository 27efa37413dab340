"""Writing the stream of a response for a caller: events by name, numbered from 0 without a gap.

One item is open at a time, but for calls of tools: several may be written at once, and they end with the answer, so that
no agent acts on a call before the answer is known to the ledger. The last event holds the whole response.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgspec

from proxy.canonical.answer import (
    CONTENT_FILTER,
    LENGTH,
    CitationDelta,
    Delta,
    Finished,
    LogprobsDelta,
    MediaDelta,
    RefusalDelta,
    SignatureDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStarted,
)
from proxy.canonical.conversation import Audio, Image, Refusal, Text, Thinking, ToolUse
from proxy.canonical.request import Request
from proxy.canonical.usage import Usage
from proxy.protocols import citations, made_media
from proxy.protocols import responses_answers as answers
from proxy.protocols.responses_items import Sealed, seal
from proxy.protocols.responses_tools import custom_input, names
from proxy.protocols.sse import FrameSplitter, data_of

Members = dict[str, Any]
_write = msgspec.json.Encoder().encode


def event(kind: str, number: int, members: Members) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _write({"type": kind, "sequence_number": number, **members}))


def members_of(sent: bytes) -> Iterator[Members]:
    """What the events in a piece of a stream say, those that are JSON objects."""
    for frame in FrameSplitter().feed(sent):
        payload = data_of(frame)
        try:
            read = msgspec.json.decode(payload or b"null")
        except msgspec.DecodeError:
            continue
        if isinstance(read, dict):
            yield read


class StreamRenderer:
    """`protocols.base.Renderer`."""

    def __init__(self, request: Request, *, call_id: str) -> None:
        self._call_id = call_id
        self._response = answers.skeleton(request, call_id=call_id, created_at=int(time.time()))
        self._events: list[bytes] = []
        self._number = 0
        self._begun = False
        self._output: list[Members] = []
        self._item: _OpenMessage | _OpenThinking | None = None
        # By the number of the call, each with its place in the output.
        self._calls: dict[int, _OpenCall] = {}
        self._called = names(request)
        # Characters of text so far.
        self.length = 0
        self._finish = ""

    def feed(self, deltas: tuple[Delta, ...]) -> bytes:
        for delta in deltas:
            self._write(delta)
        return self._taken()

    def end(self, usage: Usage | None) -> bytes:
        self._begin(None)
        cut = self._finish == LENGTH
        self._close(incomplete=cut)
        for call in self._calls.values():
            call.close(self, incomplete=cut)
        response = {**self._response, "output": self._output, **answers.ending(self._finish, usage)}
        kind = "response.incomplete" if self._finish in (LENGTH, CONTENT_FILTER) else "response.completed"
        self.emit(kind, response=response)
        return self._taken()

    def emit(self, kind: str, **members: Any) -> None:
        self._events.append(event(kind, self._number, members))
        self._number += 1

    def add(self, item: Members) -> int:
        """Its index in the output. What it says later is written into the same object."""
        self._output.append(item)
        self.emit("response.output_item.added", output_index=len(self._output) - 1, item=item)
        return len(self._output) - 1

    def _taken(self) -> bytes:
        taken, self._events = b"".join(self._events), []
        return taken

    def _write(self, delta: Delta) -> None:
        if isinstance(delta, Started):
            self._begin(delta.model)
            return
        self._begin(None)
        if delta.choice:
            return
        match delta:
            case TextDelta() | RefusalDelta():
                self._message().write(self, delta)
            case CitationDelta():
                self._cite(delta)
            case LogprobsDelta():
                self._message().logprobs += answers.chat_logprobs(delta.logprobs)
            case _:
                self._think_or_call(delta)

    def _think_or_call(self, delta: Delta) -> None:
        match delta:
            case ThinkingDelta():
                self._thinking().write(self, delta.text)
            case SignatureDelta():
                self._sign(delta)
            case ToolStarted() | ToolDelta():
                self._tool(delta)
            case MediaDelta():
                self._made(delta.part)
            case Finished():
                self._finish = delta.finish_reason

    def _begin(self, model: str | None) -> None:
        if self._begun:
            return
        self._begun = True
        self._response["model"] = model or self._response["model"]
        self.emit("response.created", response=self._response)
        self.emit("response.in_progress", response=self._response)

    def _message(self) -> _OpenMessage:
        if not isinstance(self._item, _OpenMessage):
            self._close()
            self._item = _OpenMessage(self, answers.message(self._call_id, len(self._output), status="in_progress"))
        return self._item

    def _thinking(self) -> _OpenThinking:
        if not isinstance(self._item, _OpenThinking):
            self._close()
            self._item = _OpenThinking(self, answers.reasoning(self._call_id, len(self._output), Thinking()))
        return self._item

    def _cite(self, delta: CitationDelta) -> None:
        """Of text behind which another item began nothing can be told any more."""
        if isinstance(self._item, _OpenMessage):
            self._item.cite(self, delta)

    def _sign(self, delta: SignatureDelta) -> None:
        if delta.redacted is not None:
            self._close()
        self._thinking().sealed = Sealed(signature=delta.signature or None, redacted=delta.redacted)
        self._close()

    def _tool(self, delta: ToolStarted | ToolDelta) -> None:
        if isinstance(delta, ToolStarted):
            self._start(delta)
        elif delta.index in self._calls:
            self._calls[delta.index].write(self, delta.arguments)

    def _start(self, delta: ToolStarted) -> None:
        self._close()
        if delta.signature:
            sealed = Sealed(signature=delta.signature, tool_use_id=delta.id)
            self._thinking().sealed = sealed
            self._close()
        call = ToolUse(delta.id, delta.name, "")
        item = answers.tool_call(self._call_id, len(self._output), call, called=self._called, status="in_progress")
        kind = _OpenCustomCall if delta.name in self._called.custom else _OpenCall
        self._calls[delta.index] = kind(self, item)

    def _made(self, part: Image | Audio) -> None:
        if isinstance(part, Audio):
            self._message().write(self, TextDelta(made_media.note(part)))
            return
        self._close()
        whole = answers.picture(self._call_id, len(self._output), part)
        item = {**whole, "status": "in_progress", "result": None}
        place = {"item_id": item["id"], "output_index": self.add(item)}
        self.emit("response.image_generation_call.in_progress", **place)
        self.emit("response.image_generation_call.completed", **place)
        item |= whole
        self.emit("response.output_item.done", output_index=place["output_index"], item=item)

    def _close(self, *, incomplete: bool = False) -> None:
        if self._item is not None:
            self._item.close(self, incomplete=incomplete)
            self._item = None


class _Open:
    """An item that is being written."""

    def __init__(self, stream: StreamRenderer, item: Members) -> None:
        self._item = item
        self._index = stream.add(item)

    @property
    def place(self) -> Members:
        return {"item_id": self._item["id"], "output_index": self._index}

    def done(self, stream: StreamRenderer, *, incomplete: bool) -> None:
        if "status" in self._item:
            self._item["status"] = "incomplete" if incomplete else "completed"
        stream.emit("response.output_item.done", output_index=self._index, item=self._item)


class _OpenMessage(_Open):
    def __init__(self, stream: StreamRenderer, item: Members) -> None:
        super().__init__(stream, item)
        self.logprobs: list[Any] = []
        self._annotations: list[Members] = []
        self._kind: type[TextDelta | RefusalDelta] | None = None
        self._pieces: list[str] = []

    def write(self, stream: StreamRenderer, delta: TextDelta | RefusalDelta) -> None:
        if self._kind is not type(delta):
            self._close_part(stream)
            self._kind = type(delta)
            stream.emit("response.content_part.added", **self._at, part=self._part(""))
        self._pieces.append(delta.text)
        if isinstance(delta, TextDelta):
            logprobs = answers.chat_logprobs(delta.logprobs) if delta.logprobs is not None else []
            self.logprobs += logprobs
            stream.length += len(delta.text)
            stream.emit("response.output_text.delta", **self._at, delta=delta.text, logprobs=logprobs)
        else:
            stream.emit("response.refusal.delta", **self._at, delta=delta.text)

    def cite(self, stream: StreamRenderer, delta: CitationDelta) -> None:
        if self._kind is not TextDelta:
            return
        base = stream.length - sum(map(len, self._pieces))
        for annotation in citations.response_annotations([delta.citation], base=base):
            told = {"annotation_index": len(self._annotations), "annotation": annotation}
            stream.emit("response.output_text.annotation.added", **self._at, **told)
            self._annotations.append(annotation)

    def close(self, stream: StreamRenderer, *, incomplete: bool) -> None:
        self._close_part(stream)
        self.done(stream, incomplete=incomplete)

    @property
    def _at(self) -> Members:
        return {**self.place, "content_index": len(self._item["content"])}

    def _part(self, text: str) -> Members:
        if self._kind is RefusalDelta:
            return answers.content(Refusal(text))
        return answers.content(Text(text), self.logprobs) | {"annotations": self._annotations}

    def _close_part(self, stream: StreamRenderer) -> None:
        if self._kind is None:
            return
        at, text = self._at, "".join(self._pieces)
        part = self._part(text)
        if self._kind is RefusalDelta:
            stream.emit("response.refusal.done", **at, refusal=text)
        else:
            stream.emit("response.output_text.done", **at, text=text, logprobs=self.logprobs)
        stream.emit("response.content_part.done", **at, part=part)
        self._item["content"].append(part)
        self._kind, self._pieces, self.logprobs, self._annotations = None, [], [], []


class _OpenThinking(_Open):
    def __init__(self, stream: StreamRenderer, item: Members) -> None:
        super().__init__(stream, item)
        self.sealed: Sealed | None = None
        self._pieces: list[str] = []

    def write(self, stream: StreamRenderer, text: str) -> None:
        if not self._pieces:
            stream.emit("response.reasoning_summary_part.added", **self._at, part=_summary(""))
        self._pieces.append(text)
        stream.emit("response.reasoning_summary_text.delta", **self._at, delta=text)

    def close(self, stream: StreamRenderer, *, incomplete: bool) -> None:
        if self._pieces:
            text = "".join(self._pieces)
            stream.emit("response.reasoning_summary_text.done", **self._at, text=text)
            stream.emit("response.reasoning_summary_part.done", **self._at, part=_summary(text))
            self._item["summary"] = [_summary(text)]
        if self.sealed is not None:
            self._item["encrypted_content"] = seal(self.sealed)
        self.done(stream, incomplete=incomplete)

    @property
    def _at(self) -> Members:
        return {**self.place, "summary_index": 0}


class _OpenCall(_Open):
    def __init__(self, stream: StreamRenderer, item: Members) -> None:
        super().__init__(stream, item)
        self.pieces: list[str] = []

    def write(self, stream: StreamRenderer, arguments: str) -> None:
        self.pieces.append(arguments)
        stream.emit("response.function_call_arguments.delta", **self.place, delta=arguments)

    def close(self, stream: StreamRenderer, *, incomplete: bool) -> None:
        # An unfinished call stays as it is: what is cut off must not look like a call without arguments.
        self._item["arguments"] = "".join(self.pieces) or ("" if incomplete else "{}")
        name = self._item["name"]
        arguments = self._item["arguments"]
        stream.emit("response.function_call_arguments.done", **self.place, name=name, arguments=arguments)
        self.done(stream, incomplete=incomplete)


class _OpenCustomCall(_OpenCall):
    """A call of a tool without a schema: its text stands inside of JSON, so it is told once that is complete."""

    def write(self, stream: StreamRenderer, arguments: str) -> None:
        self.pieces.append(arguments)

    def close(self, stream: StreamRenderer, *, incomplete: bool) -> None:
        text = self._item["input"] = custom_input("".join(self.pieces))
        if text:
            stream.emit("response.custom_tool_call_input.delta", **self.place, delta=text)
        stream.emit("response.custom_tool_call_input.done", **self.place, input=text)
        self.done(stream, incomplete=incomplete)


def _summary(text: str) -> Members:
    return {"type": "summary_text", "text": text}
