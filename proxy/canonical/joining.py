"""The deltas of a stream put together again: what a whole answer would have said."""

from collections.abc import Iterable

import msgspec
from msgspec import Raw

from proxy.canonical.answer import (
    Choice,
    Citation,
    CitationDelta,
    Delta,
    Finished,
    LogprobsDelta,
    MediaDelta,
    RefusalDelta,
    SignatureDelta,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStarted,
    Written,
)
from proxy.canonical.conversation import Refusal, Text, Thinking, ToolUse


class _Logprobs(msgspec.Struct):
    content: list[Raw] | None = None


class _Open:
    """A choice that is being written. Pieces of one kind that follow each other are one part."""

    def __init__(self) -> None:
        self.parts: list[Written] = []
        # Pieces of arguments, by index; parts hold the calls without them.
        self.arguments: dict[int, list[str]] = {}
        self.finished = Finished("")
        self.logprobs: list[Raw] = []
        self.citations: list[Citation] = []

    def add(self, delta: Delta) -> None:
        match delta:
            case TextDelta(logprobs=Raw()) | LogprobsDelta():
                self.logprobs += [delta.logprobs] if delta.logprobs is not None else ()
            case CitationDelta():
                self.citations.append(delta.citation)
            case Finished():
                self.finished = delta
        self._write(delta, self.parts[-1] if self.parts else None)

    def _write(self, delta: Delta, last: Written | None) -> None:
        match delta:
            case TextDelta(text) | RefusalDelta(text):
                self._append(text, Text if isinstance(delta, TextDelta) else Refusal, last)
            case ThinkingDelta(text) if isinstance(last, Thinking) and not _is_closed(last):
                self.parts[-1] = Thinking(last.text + text)
            case ThinkingDelta(text):
                self.parts.append(Thinking(text))
            case SignatureDelta():
                self._sign(delta, last)
            case ToolStarted():
                self.arguments[delta.index] = []
                self.parts.append(ToolUse(delta.id, delta.name, "", delta.signature))
            case ToolDelta():
                self.arguments[delta.index].append(delta.arguments)
            case MediaDelta(part):
                self.parts.append(part)

    def _append(self, text: str, kind: type[Text] | type[Refusal], last: Written | None) -> None:
        if isinstance(last, kind):
            self.parts[-1] = kind(last.text + text)
        else:
            self.parts.append(kind(text))

    def _sign(self, delta: SignatureDelta, last: Written | None) -> None:
        if delta.redacted is not None:
            self.parts.append(Thinking(redacted=delta.redacted))
        elif isinstance(last, Thinking) and not _is_closed(last):
            self.parts[-1] = Thinking(last.text, delta.signature)
        else:
            self.parts.append(Thinking(signature=delta.signature))

    def choice(self) -> Choice:
        arguments = ("".join(pieces) or "{}" for pieces in self.arguments.values())
        parts = tuple(
            ToolUse(part.id, part.name, next(arguments), part.signature) if isinstance(part, ToolUse) else part
            for part in self.parts
        )
        ended, logprobs = self.finished, _joined(self.logprobs)
        return Choice(parts, ended.finish_reason, ended.stop_sequence, logprobs, tuple(self.citations))


def choices_of(deltas: Iterable[Delta]) -> tuple[Choice, ...]:
    """By index."""
    found: dict[int, _Open] = {}
    for delta in deltas:
        if hasattr(delta, "choice"):
            found.setdefault(delta.choice, _Open()).add(delta)
    return tuple(choice.choice() for _, choice in sorted(found.items()))


def _is_closed(part: Thinking) -> bool:
    return part.signature is not None or part.redacted is not None


def _joined(logprobs: list[Raw]) -> Raw | None:
    """Those of all pieces, one after another."""
    if len(logprobs) < 2:
        return logprobs[0] if logprobs else None
    pieces = [msgspec.json.decode(piece, type=_Logprobs) for piece in logprobs]
    return Raw(msgspec.json.encode({"content": [token for piece in pieces for token in piece.content or ()]}))
