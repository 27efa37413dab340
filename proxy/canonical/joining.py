"""The deltas of a stream put together again: what a whole answer would have said."""

from collections.abc import Iterable

from proxy.canonical.answer import (
    Choice,
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


class _Open:
    """A choice that is being written. Pieces of one kind that follow each other are one part."""

    def __init__(self) -> None:
        self.parts: list[Written] = []
        # Pieces of arguments, by index; parts hold the calls without them.
        self.arguments: dict[int, list[str]] = {}
        self.finished = Finished("")
        self.logprobs: LogprobsDelta | None = None

    def add(self, delta: Delta) -> None:
        last = self.parts[-1] if self.parts else None
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
            case LogprobsDelta():
                self.logprobs = delta
            case Finished():
                self.finished = delta

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
        logprobs = self.logprobs.logprobs if self.logprobs else None
        return Choice(parts, self.finished.finish_reason, self.finished.stop_sequence, logprobs)


def choices_of(deltas: Iterable[Delta]) -> tuple[Choice, ...]:
    """By index. Of log probabilities that came in pieces only the last piece is kept."""
    found: dict[int, _Open] = {}
    for delta in deltas:
        if hasattr(delta, "choice"):
            found.setdefault(delta.choice, _Open()).add(delta)
    return tuple(choice.choice() for _, choice in sorted(found.items()))


def _is_closed(part: Thinking) -> bool:
    return part.signature is not None or part.redacted is not None
