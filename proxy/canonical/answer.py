"""An answer in no protocol's words: whole, or as the deltas of a stream. Read by one codec, written by another.

`finish_reason` is one of FINISH_REASONS everywhere in the gateway, the ledger included.
"""

import msgspec
from msgspec import Raw

from proxy.canonical.conversation import Audio, Image, Refusal, Text, Thinking, ToolUse
from proxy.canonical.usage import Usage

STOP, LENGTH, TOOL_CALLS, CONTENT_FILTER = "stop", "length", "tool_calls", "content_filter"
FINISH_REASONS = (STOP, LENGTH, TOOL_CALLS, CONTENT_FILTER)


# What a model can write into an answer.
Written = Text | Thinking | Refusal | ToolUse | Image | Audio


class Choice(msgspec.Struct, frozen=True):
    """`parts` in the order the model wrote them. `logprobs` as Chat Completions writes them."""

    parts: tuple[Written, ...]
    finish_reason: str = ""
    stop_sequence: str | None = None
    logprobs: Raw | None = None


class Answer(msgspec.Struct, frozen=True):
    """`id` and `model` are the provider's own."""

    choices: tuple[Choice, ...]
    usage: Usage | None = None
    id: str | None = None
    model: str | None = None


# --- deltas of a stream ------------------------------------------------------------------------
class Started(msgspec.Struct, frozen=True):
    """The first delta of every stream."""

    id: str | None = None
    model: str | None = None


class TextDelta(msgspec.Struct, frozen=True):
    text: str
    choice: int = 0


class RefusalDelta(msgspec.Struct, frozen=True):
    text: str
    choice: int = 0


class ThinkingDelta(msgspec.Struct, frozen=True):
    text: str
    choice: int = 0


class SignatureDelta(msgspec.Struct, frozen=True):
    """Closes the thinking before it. `redacted`: a thinking part of its own that only the provider can read."""

    signature: str = ""
    redacted: str | None = None
    choice: int = 0


class ToolStarted(msgspec.Struct, frozen=True):
    """`index` counts the tool calls of a choice from 0; several may be open at once."""

    index: int
    id: str
    name: str
    signature: str | None = None
    choice: int = 0


class ToolDelta(msgspec.Struct, frozen=True):
    """A piece of the arguments' JSON text."""

    index: int
    arguments: str
    choice: int = 0


class LogprobsDelta(msgspec.Struct, frozen=True):
    """As Chat Completions writes them: `{"content": […]}`."""

    logprobs: Raw
    choice: int = 0


class MediaDelta(msgspec.Struct, frozen=True):
    """A picture, whole; or a sound, of which several may follow each other."""

    part: Image | Audio
    choice: int = 0


class Finished(msgspec.Struct, frozen=True):
    finish_reason: str
    stop_sequence: str | None = None
    choice: int = 0


Delta = (
    Started
    | TextDelta
    | RefusalDelta
    | ThinkingDelta
    | SignatureDelta
    | ToolStarted
    | ToolDelta
    | LogprobsDelta
    | MediaDelta
    | Finished
)
