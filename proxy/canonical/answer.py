"""An answer in no protocol's words: whole, or as the deltas of a stream. Read by one codec, written by another.

`finish_reason` is one of FINISH_REASONS everywhere in the gateway, the ledger included.
"""

from typing import Literal

import msgspec
from msgspec import Raw

from proxy.canonical.conversation import Audio, Image, Refusal, Text, Thinking, ToolUse
from proxy.canonical.usage import Usage

STOP, LENGTH, TOOL_CALLS, CONTENT_FILTER = "stop", "length", "tool_calls", "content_filter"
FINISH_REASONS = (STOP, LENGTH, TOOL_CALLS, CONTENT_FILTER)


# What a model can write into an answer.
Written = Text | Thinking | Refusal | ToolUse | Image | Audio


Unit = Literal["char", "page", "block"]


class Place(msgspec.Struct, frozen=True):
    """A stretch of a document of the request: its number there, and from where to where in it."""

    document: int
    unit: Unit
    start: int
    end: int


class Citation(msgspec.Struct, frozen=True):
    """What a stretch of an answer rests on: a page by its `url`, or a `place` in a document of the request.

    `start` and `end` in characters over all texts of the choice, one after another. `quote`: the words that are cited.
    """

    start: int
    end: int
    url: str | None = None
    title: str | None = None
    quote: str = ""
    place: Place | None = None


class Choice(msgspec.Struct, frozen=True):
    """`parts` in the order the model wrote them. `logprobs` as Chat Completions writes them."""

    parts: tuple[Written, ...]
    finish_reason: str = ""
    stop_sequence: str | None = None
    logprobs: Raw | None = None
    citations: tuple[Citation, ...] = ()


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
    """`logprobs` of this text, as Chat Completions writes them, where the provider tells them with it."""

    text: str
    choice: int = 0
    logprobs: Raw | None = None


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
    """As Chat Completions writes them: `{"content": […]}`. Of text that was told before."""

    logprobs: Raw
    choice: int = 0


class MediaDelta(msgspec.Struct, frozen=True):
    """A picture, whole; or a sound, of which several may follow each other."""

    part: Image | Audio
    choice: int = 0


class CitationDelta(msgspec.Struct, frozen=True):
    """Of text that was told before."""

    citation: Citation
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
    | CitationDelta
    | Finished
)
