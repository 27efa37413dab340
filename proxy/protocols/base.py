"""What a codec of a wire protocol is. Sans-IO: bytes in, bytes out; a codec is a module with these functions.

A protocol that callers speak has a `CallerCodec`, one that providers speak a `ProviderCodec`; most have both in one
module. Same protocol on both sides: bytes pass through (`PassThroughCodec`, a reader that only taps). Different ones: the
request becomes a `Conversation`, the answer comes back as an `Answer` or as deltas (`ChatProviderCodec`, `translating.py`).
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import msgspec

from proxy.canonical.answer import Answer, Delta
from proxy.canonical.conversation import Conversation
from proxy.canonical.request import Request
from proxy.canonical.usage import Usage
from proxy.errors import AttemptFailed, Kind, ProxyError


class BrokenReply(AttemptFailed, ValueError):
    """The body is no answer: not JSON, or JSON without one."""


class CountedFailure(AttemptFailed):
    """No answer, which its provider counts all the same. `usage`: as far as it says."""

    def __init__(self, kind: Kind, message: str, *, usage: Usage | None) -> None:
        super().__init__(kind, message)
        self.usage = usage


class Quirks(msgspec.Struct, frozen=True):
    """How a provider deviates from the protocol it speaks.

    `max_tokens_field` is where a clamp is written when the caller set no maximum. `force_usage`: a stream reports its
    usage only when asked to; without it, always, and asking is refused. `returns_reasoning`: wants the thought back
    that led to a tool call. `schema_formats`: takes JSON schemas as an answer's format. `needs_max_tokens`: takes no
    request without a bound on the answer. `auto_cache`: breakpoints are set where the caller set none. `cache_marks`: takes
    them on parts and tools (Chat Completions). `takes`: members beyond the protocol's own that it understands. `lacks`:
    members of the protocol that it refuses. `seed_field`: what it calls the seed. `bounds_ids`: takes ids of tool calls up
    to a length only.
    """

    max_tokens_field: str = "max_tokens"
    force_usage: bool = True
    returns_reasoning: bool = False
    schema_formats: bool = True
    needs_max_tokens: bool = False
    auto_cache: bool = False
    cache_marks: bool = False
    takes: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    seed_field: str = "seed"
    bounds_ids: bool = False


class Reply(msgspec.Struct, frozen=True):
    """What a whole answer says. `usage` is None where the provider reports none; finish reasons are canonical."""

    usage: Usage | None
    finish_reasons: tuple[str, ...] = ()
    text_length: int = 0
    upstream_id: str | None = None
    model: str | None = None
    has_output: bool = True


class Written(NamedTuple):
    """A request in a provider's words. `unsaid` names what of the conversation it leaves out (`protocols/unsaid.py`)."""

    body: bytes
    unsaid: tuple[str, ...] = ()


class Frame(msgspec.Struct, frozen=True):
    """One frame of a stream, as it came.

    `terminal`: from here on the caller knows the whole answer, so it is held back until the ledger row is
    durable. `drop`: carries only the usage that the gateway asked for and the caller did not. `deltas` are what it
    says, for readers that were asked for them.
    """

    raw: bytes
    terminal: bool = False
    drop: bool = False
    error: AttemptFailed | None = None
    deltas: tuple[Delta, ...] = ()


class ProviderReader(Protocol):
    """Reads one stream: `feed` chunks cut anywhere, then `flush`. Neither raises: what is wrong is a frame's `error`.

    `usage` may be incomplete until the stream is over; then it says `estimated`. `text_length` is in characters,
    reasoning and tool arguments included; `beside_text` what was spoken so far, and what tools of the
    provider's took, in streams that tell it before the usage.
    """

    @property
    def done(self) -> bool:
        """Whether the provider has said that the stream is over."""

    @property
    def has_output(self) -> bool: ...

    @property
    def text_length(self) -> int: ...

    @property
    def beside_text(self) -> Usage: ...

    @property
    def usage(self) -> Usage | None: ...

    @property
    def upstream_id(self) -> str | None: ...

    @property
    def model(self) -> str | None: ...

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """Canonical, by choice; empty while no choice has ended."""

    @property
    def all_finished(self) -> bool:
        """Whether every choice has its finish reason."""

    def feed(self, chunk: bytes) -> list[Frame]: ...

    def flush(self) -> list[Frame]:
        """What an ending stream leaves open."""


class Reader(ProviderReader, Protocol):
    """One whose frames are the caller's, so it can also end what the caller reads."""

    def length_end(self, usage: Usage | None) -> bytes:
        """The end of a stream that the gateway cuts because what was reserved is used up: as at the maximum length.

        `usage` where the caller wants to know it.
        """


class Renderer(Protocol):
    """Writes one stream for a caller. Whatever ends the answer is written by `end`, which has the usage."""

    def feed(self, deltas: tuple[Delta, ...]) -> bytes: ...

    def end(self, usage: Usage | None) -> bytes: ...


class CallerCodec(Protocol):
    """`HEADERS`: which of the caller's headers `parse` wants to see, in lower case."""

    NAME: str
    HEADERS: tuple[str, ...]

    def parse(self, body: bytes, headers: Mapping[str, str] = ...) -> Request:
        """Raises BadRequest, with the path of the offending member as `param`."""

    def render_error(self, error: ProxyError, *, request_id: str) -> bytes: ...

    def render_stream_error(self, error: ProxyError, *, request_id: str, first: bytes = ..., last: bytes = ...) -> bytes:
        """The last frame of a stream that failed. `first` and `last`: what of it the caller was sent first and last."""


class ChatCallerCodec(CallerCodec, Protocol):
    """One whose calls can go to providers of other protocols."""

    @property
    def SPELLED(self) -> Mapping[str, str]:
        """What it calls settings of a conversation that are named otherwise there."""

    def conversation(self, request: Request) -> Conversation:
        """Raises BadRequest for what cannot be said in other protocols."""

    def render_answer(self, answer: Answer, *, request: Request, call_id: str) -> bytes: ...

    def renderer(self, request: Request, *, call_id: str) -> Renderer: ...


class ProviderCodec(Protocol):
    NAME: str

    def path(self, model: str, *, stream: bool) -> str:
        """Below the provider's base URL."""

    def read_reply(self, body: bytes) -> Reply:
        """Raises BrokenReply for what is no answer, and AttemptFailed for an error object (sent with status 200)."""

    def reader(self, *, n: int, wants_usage: bool, deltas: bool = False) -> ProviderReader:
        """With `deltas` the frames say what they mean, for a caller of another protocol."""


class PassThroughCodec(ProviderCodec, Protocol):
    """One of a protocol that callers speak too."""

    def pass_through(self, request: Request, *, model: str, max_tokens: int | None, quirks: Quirks) -> bytes:
        """The caller's own request, but for what must change. `max_tokens`: the clamp."""

    def reader(self, *, n: int, wants_usage: bool, deltas: bool = False) -> Reader: ...


class ChatProviderCodec(ProviderCodec, Protocol):
    """One that calls of other protocols can be translated to."""

    def write_request(
        self, conversation: Conversation, *, model: str, stream: bool, max_tokens: int | None, quirks: Quirks
    ) -> Written:
        """`max_tokens` is the output cap that was reserved for: None where the caller's own or the model's applies.

        Raises BadRequest for what this protocol cannot say and an answer without would be another one.
        """

    def read_answer(self, body: bytes) -> Answer:
        """The same body, read whole, for a caller of another protocol. Raises like `read_reply`."""


class Made(msgspec.Struct, frozen=True):
    """A whole answer in the words of a caller's protocol, and what it comes to."""

    body: bytes
    reply: Reply
    content_type: str = "application/json"


class MediaProviderCodec(Protocol):
    """How providers that do not speak OpenAI's HTTP make what is no chat. `SERVES`: the protocol of the calls that it takes,
    whole ones only."""

    NAME: str
    SERVES: str

    def path(self, model: str, *, stream: bool) -> str: ...

    def write_request(self, request: Request, *, model: str) -> bytes:
        """Raises BadRequest for what the provider cannot be told."""

    def read_made(self, body: bytes, *, request: Request) -> Made:
        """Raises BrokenReply, AttemptFailed."""


class Job(msgspec.Struct, frozen=True):
    """`status`: queued, in_progress, completed or failed. `film`: the address of what was made; `error`: why nothing was."""

    status: str
    film: str = ""
    error: dict[str, str] | None = None


class VideoProviderCodec(MediaProviderCodec, Protocol):
    """One of videos, which are made after their call: what is asked about a job later, by the id that its provider gave it."""

    def place(self, id: str) -> str:
        """Where the provider tells of a job, below its base URL."""

    def read_job(self, body: bytes) -> Job:
        """Raises BrokenReply."""
