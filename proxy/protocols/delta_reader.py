"""What readers have in common that understand a stream by its deltas: they count what the deltas say."""

from typing import ClassVar

from proxy.canonical.answer import (
    Answer,
    Delta,
    Finished,
    MediaDelta,
    RefusalDelta,
    SignatureDelta,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStarted,
    Written,
)
from proxy.canonical.conversation import Audio, Image, ToolUse
from proxy.canonical.usage import Usage
from proxy.errors import AttemptFailed
from proxy.protocols.base import Frame, Reply


class DeltaReader:
    """The state of a `protocols.base.ProviderReader`; `n` choices were asked for."""

    BROKEN: ClassVar[str] = "The provider's stream cannot be read."

    def __init__(self, *, n: int = 1) -> None:
        self.usage: Usage | None = None
        self.upstream_id: str | None = None
        self.model: str | None = None
        self.done = False
        self.has_output = False
        self.text_length = 0
        self.beside_text = Usage()
        self._n = n
        self._finish: dict[int, str] = {}

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        return tuple(reason for _, reason in sorted(self._finish.items()))

    @property
    def all_finished(self) -> bool:
        return len(self._finish) >= self._n

    def _said(self, raw: bytes, deltas: tuple[Delta, ...]) -> Frame:
        """The frame of `deltas`. From the last finish reason on frames are terminal."""
        for delta in deltas:
            self._count(delta)
        return Frame(raw, self.all_finished, deltas=deltas)

    def _count(self, delta: Delta) -> None:
        match delta:  # the most frequent first: each pattern is a step
            case TextDelta() | ThinkingDelta() | RefusalDelta():
                self.text_length += len(delta.text)
                self.has_output |= bool(delta.text)
            case Finished():
                self._finish[delta.choice] = delta.finish_reason
            case ToolStarted():
                self.text_length += len(delta.name)
                self.has_output = True
            case ToolDelta():
                self.text_length += len(delta.arguments)
            case MediaDelta():
                self.has_output = True
            case SignatureDelta():
                self.has_output |= delta.redacted is not None

    def _failed(self, raw: bytes, error: AttemptFailed) -> Frame:
        return Frame(raw, self.all_finished, error=error)

    def _broken(self, raw: bytes) -> Frame:
        return self._failed(raw, AttemptFailed("broken", self.BROKEN))


def reply_of(answer: Answer) -> Reply:
    """What a whole answer comes to."""
    parts = [part for choice in answer.choices for part in choice.parts]
    return Reply(
        usage=answer.usage,
        finish_reasons=tuple(choice.finish_reason for choice in answer.choices if choice.finish_reason),
        text_length=sum(map(_length, parts)),
        upstream_id=answer.id,
        model=answer.model,
        has_output=bool(parts),
    )


def _length(part: Written) -> int:
    match part:
        case ToolUse():
            return len(part.name) + len(part.arguments)
        case Image() | Audio():
            return 0
        case _:
            return len(part.text)
