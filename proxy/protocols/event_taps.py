"""Streams of OpenAI's routes that are no chat: events with a `type`, passed through and tapped for their usage."""

from collections.abc import Callable
from typing import Any

import msgspec

from proxy.canonical.answer import STOP
from proxy.canonical.usage import Usage
from proxy.errors import AttemptFailed
from proxy.protocols.base import Frame
from proxy.protocols.failures import read_failure
from proxy.protocols.sse import FrameSplitter, FrameTooLarge, data_of


class _Event(msgspec.Struct):
    type: str = ""
    delta: Any = None
    usage: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Event).decode


class EventTap:
    """A `protocols.base.Reader`. A stream is complete with the event whose type ends in `.done` or `.completed`."""

    upstream_id: str | None = None
    model: str | None = None

    def __init__(self, usage_of: Callable[[Any], Usage | None]) -> None:
        self.usage: Usage | None = None
        self.done = False
        self.has_output = False
        self.text_length = 0
        self.beside_text = Usage()
        self.all_finished = False
        self._usage_of = usage_of
        self._splitter = FrameSplitter()

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        return (STOP,) if self.all_finished else ()

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
        """Nothing that these streams have stands for an answer that was cut."""
        return b""

    def _frame(self, raw: bytes) -> Frame:
        payload = data_of(raw)
        if payload is None:
            return Frame(raw, self.all_finished)
        if payload.startswith(b"[DONE]"):
            self.done = True
            return Frame(raw, True)
        try:
            event = _decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            error = AttemptFailed("broken", "The provider's stream holds an event that is not JSON.")
            return Frame(raw, self.all_finished, error=error)
        if event.error or event.type == "error":
            return Frame(raw, self.all_finished, error=read_failure(payload, status=None))
        self.has_output = True
        self.text_length += len(event.delta) if isinstance(event.delta, str) else 0
        self.all_finished |= event.type.endswith((".done", ".completed"))
        self.usage = self._usage_of(event.usage) or self.usage
        return Frame(raw, self.all_finished)
