"""A chat request in no protocol's words: what a call is read into when its provider speaks another protocol.

What a target's protocol has no word for its writer names (`protocols/unsaid.py`), so that the caller is told; what would
change the question, or is missed in the answer, it refuses with BadRequest. JSON schemas and
tool arguments stay raw JSON: re-serialising them would break prompt caches.
"""

from typing import Literal

import msgspec
from msgspec import Raw

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class CacheMark(msgspec.Struct, frozen=True):
    """The prompt up to and including this part may be cached by the provider. `ttl`: `5m` or `1h`."""

    ttl: str = "5m"


class Text(msgspec.Struct, frozen=True, tag="text"):
    text: str
    cache: CacheMark | None = None


class Image(msgspec.Struct, frozen=True, tag="image"):
    """Either `data` (base64) with its `media_type`, or a `url` that the provider fetches itself."""

    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    detail: str | None = None
    cache: CacheMark | None = None


class Audio(msgspec.Struct, frozen=True, tag="audio"):
    """`data` is base64; `format` such as `wav` or `mp3`."""

    format: str
    data: str


class File(msgspec.Struct, frozen=True, tag="file"):
    """A document: `data` (base64) with its `media_type`, or a `url`, or an id that only its own provider knows.

    `cite`: the answer shall say what of it it rests on.
    """

    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    name: str | None = None
    cache: CacheMark | None = None
    cite: bool = False


# What signatures of OpenAI's thinking begin with: no other provider's do.
SIGNED_BY_OPENAI = "oai1."


class Thinking(msgspec.Struct, frozen=True, tag="thinking"):
    """What a model thought before it answered. `signature` (opaque) proves to its provider that it is unchanged;
    `redacted` is thought that only the provider can read."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None

    @property
    def is_sealed_by_claude(self) -> bool:
        """Whether Anthropic's models, wherever they run, may see it again: they refuse what others signed, or nobody."""
        return self.redacted is not None or bool(self.signature and not self.signature.startswith(SIGNED_BY_OPENAI))


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    text: str


class ToolUse(msgspec.Struct, frozen=True, tag="tool_use"):
    """A model's call of a tool. `arguments` is JSON text, `{}` where there are none. `signature`: as of Thinking (Gemini)."""

    id: str
    name: str
    arguments: str
    signature: str | None = None
    cache: CacheMark | None = None


class ToolResult(msgspec.Struct, frozen=True, tag="tool_result"):
    """What a tool answered: texts and images."""

    tool_use_id: str
    parts: tuple["Text | Image | File", ...] = ()
    is_error: bool = False
    cache: CacheMark | None = None


Part = Text | Image | Audio | File | Thinking | Refusal | ToolUse | ToolResult


class Message(msgspec.Struct, frozen=True):
    """`tool` messages hold tool results only; results of one turn may stand in one message or in several."""

    role: Literal["system", "user", "assistant", "tool"]
    parts: tuple[Part, ...]


class Tool(msgspec.Struct, frozen=True):
    """A function the model may call. `parameters` is its JSON schema."""

    name: str
    description: str | None = None
    parameters: Raw | None = None
    strict: bool | None = None
    cache: CacheMark | None = None


class ToolChoice(msgspec.Struct, frozen=True):
    """`tool`: it must call the one named `name`."""

    mode: Literal["auto", "required", "none", "tool"]
    name: str | None = None


class Format(msgspec.Struct, frozen=True):
    """What the answer's text must be: JSON of any kind, or JSON of a schema."""

    kind: Literal["json", "schema"]
    name: str | None = None
    schema: Raw | None = None
    strict: bool | None = None
    description: str | None = None


class Reasoning(msgspec.Struct, frozen=True):
    """How much a model may think: by `effort`, or by tokens. `visible`: the caller wants to read (a summary of) it.

    `interleaved`: it may also think between calls of tools, where a model does not anyway.
    """

    effort: Effort | None = None
    budget_tokens: int | None = None
    visible: bool = False
    interleaved: bool = False


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """`max_tokens` is the caller's own bound; a clamp is given to the writer apart. `modalities`: what the answer shall
    hold besides text (`image`, `audio`); `voice` speaks it.

    `extras` are members that the caller's protocol does not have, by name: a provider may take them. `unsaid` names what
    means something in the caller's protocol only.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    max_tokens: int | None = None
    n: int = 1
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Raw | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    format: Format | None = None
    reasoning: Reasoning | None = None
    verbosity: str | None = None
    modalities: frozenset[str] = frozenset()
    voice: str | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    extras: dict[str, Raw] = {}
    unsaid: tuple[str, ...] = ()

    @property
    def forces_tools(self) -> bool:
        """Whether the answer must be a call of a tool."""
        return bool(self.tools) and self.tool_choice is not None and self.tool_choice.mode in ("required", "tool")
