"""OpenAI's Chat Completions, read from callers and from providers. Sans-IO: bytes in, bytes out.

Guarantees: members that the gateway does not read reach the provider byte for byte, lone surrogate
halves included; of a member given twice the last counts, and only that one is sent; an explicit
`null` is the same as absent; usage is never counted twice. It does not translate to other protocols
and does not judge what only a provider can know (which tools, which response formats).
Source: openai-python 3.52 types; usage relations: https://platform.openai.com/docs/api-reference/chat/object
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Raw

from proxy.canonical.estimate import DISTANT_DOCUMENT_TOKENS, SERVER_TOOL_TOKENS, text_tokens
from proxy.canonical.request import Request
from proxy.errors import BadRequest
from proxy.protocols import cache_marks, claude_models, other_models, vendor_searches
from proxy.protocols.base import Quirks
from proxy.protocols.bodies import NULL, BodyReader, bound
from proxy.protocols.chat_answers import DeltaReader, StreamRenderer, read_answer, render_answer
from proxy.protocols.chat_conversation import SPELLED, conversation
from proxy.protocols.chat_replies import StreamReader, read_reply
from proxy.protocols.chat_writing import write_request
from proxy.protocols.counts import MOST_TAKEN, USUAL_SEARCHES
from proxy.protocols.openai_errors import render_error, render_stream_error

__all__ = [
    "HEADERS",
    "NAME",
    "PATH",
    "SPELLED",
    "conversation",
    "parse",
    "pass_through",
    "path",
    "read_answer",
    "read_reply",
    "reader",
    "render_answer",
    "render_error",
    "render_stream_error",
    "renderer",
    "write_request",
]

NAME = "chat_completions"
PATH = "/chat/completions"
HEADERS: tuple[str, ...] = ()
MAX_CHOICES = 128
# The dearest common case: a high-detail picture of 2048 × 2048 (2,833 tokens on the models that count most kindly).
IMAGE_TOKENS = 3000
# OpenAI counts ten tokens a second of sound; at 8 kbit/s, the leanest usual codec, that is one per 133 base64 characters.
AUDIO_TOKENS, AUDIO_CHARACTERS_PER_TOKEN = 100, 128
# Of an earlier answer that was spoken only its id comes back.
SPOKEN_TOKENS = 1200
_ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# Parts that are text whoever reads them. Of any other nobody knows what a provider finds in it: films and files have sound.
TEXT_PARTS = ("", "text", "refusal", "thinking")
# Tools that the caller runs; vendors run others themselves.
OWN_TOOLS = (None, "function", "custom")
LIMIT_FIELDS = ("max_completion_tokens", "max_tokens")
PROMPT_FIELDS = ("messages", "tools", "functions", "response_format")
# OpenAI's own members that no model reads. All others may be prompt: those of vendors (`documents`, `chat_template`).
NO_PROMPT = frozenset({
    "audio", "frequency_penalty", "function_call", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "metadata",
    "modalities", "model", "moderation", "n", "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key",
    "prompt_cache_options", "prompt_cache_retention", "reasoning_effort", "safety_identifier", "seed", "service_tier", "stop",
    "store", "stream", "stream_options", "temperature", "tool_choice", "top_logprobs", "top_p", "user", "verbosity",
    "web_search_options",
})  # fmt: skip

_TokenLimit = Annotated[int, msgspec.Meta(ge=1, le=MOST_TAKEN)]


class _Url(msgspec.Struct):
    url: str = ""


class _Sound(msgspec.Struct):
    data: str = ""


class _File(msgspec.Struct):
    file_id: str | None = None
    file_data: Any = None


class _Part(msgspec.Struct):
    type: str = ""
    image_url: _Url | str | None = None
    input_audio: _Sound | None = None
    file: _File | None = None
    video_url: Any = None


class _Format(msgspec.Struct):
    type: str = ""


class _Tool(msgspec.Struct):
    type: Any = None
    function: Raw = NULL
    web_search: Any = None

    @property
    def runs_there(self) -> bool:
        """Gemini's own have no type, only a member each (`google_search`); Zhipu's search can be turned off where it stands."""
        if isinstance(self.web_search, dict) and self.web_search.get("enable") is False:
            return False
        return self.type not in OWN_TOOLS or (self.type is None and self.function == NULL)


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[str | _Part] | None = None
    # What a model drew, sent back (`made_media.image_part`).
    images: list[str | _Part] | None = None
    audio: dict[str, Any] | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Body(msgspec.Struct):
    """The members the gateway reads, typed; all others only have to be JSON."""

    model: str | None = None
    messages: list[_Message] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: _TokenLimit | None = None
    max_completion_tokens: _TokenLimit | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=MAX_CHOICES)] | None = None
    stop: str | list[str] | None = None
    temperature: float | None = None
    tools: list[_Tool] | None = None
    functions: list[Raw] | None = None
    response_format: _Format | None = None
    reasoning_effort: str | None = None
    modalities: list[str] | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None


_body = BodyReader(_Body)
_read_members = msgspec.json.Decoder(dict[str, Raw]).decode
_write = msgspec.json.Encoder().encode


def parse(body: bytes, headers: Mapping[str, str] | None = None) -> Request:
    """Raises BadRequest, with the path of the offending member as `param`."""
    read, fields = _body.read(body)
    if not read.model:
        raise BadRequest("The request must name a model.", param="model")
    if not read.messages:
        raise BadRequest("`messages` must hold at least one message.", param="messages")
    other_models.refuse_tools(tool.type for tool in read.tools or ())
    bound(read, fields, *LIMIT_FIELDS)
    searches = fields.get("web_search_options", NULL) != NULL
    vendor_searching = vendor_searches.number(fields)
    run_there = searches + vendor_searching + sum(tool.runs_there for tool in read.tools or ())
    shown = _shown(read.messages)
    answered = frozenset(read.modalities) - {"text"} if read.modalities else _NONE
    prompt = b",".join([bytes(fields[name]) for name in PROMPT_FIELDS if name in fields])
    vendors = b",".join([bytes(raw) for name, raw in fields.items() if name not in NO_PROMPT and name not in PROMPT_FIELDS])
    return Request(
        protocol=NAME,
        model=read.model,
        stream=bool(read.stream),
        include_usage=read.stream_options is not None and bool(read.stream_options.include_usage),
        # Both given: the provider may obey either, so the larger is the bound.
        max_tokens=max((read.max_tokens or 0, read.max_completion_tokens or 0)) or None,
        max_tokens_field="max_tokens" if read.max_completion_tokens is None else "max_completion_tokens",
        n=read.n or 1,
        # The JSON around each message (26 bytes or more) stands for the eight tokens that frame it.
        input_tokens_estimate=text_tokens(prompt, without=shown.inline) + shown.tokens,
        reserve_units={"web_search": USUAL_SEARCHES} if searches or vendor_searching or _search(read.tools) else {},
        reserve_tokens=text_tokens(vendors) + shown.unseen + run_there * SERVER_TOOL_TOKENS,
        fields=fields,
        messages=len(read.messages),
        image_parts=shown.images,
        audio_parts=shown.sounds,
        file_parts=shown.files,
        video_parts=shown.videos,
        tool_needs=(_TOOLS if read.tools or read.functions else _NONE) | (_SEARCH if searches else _NONE),
        schema=read.response_format is not None and read.response_format.type == "json_schema",
        reasons=read.reasoning_effort not in (None, "none"),
        modalities=answered,
        text_only=not (shown.others or answered),
        user=read.user,
        metadata=read.metadata,
    )


def _search(tools: list[_Tool] | None) -> bool:
    """Whether one of them is a vendor's own search (`openrouter:web_search`)."""
    return any(tool.runs_there and str(tool.type).endswith("web_search") for tool in tools or ())


def path(model: str, *, stream: bool) -> str:
    return PATH


def pass_through(request: Request, *, model: str, max_tokens: int | None = None, quirks: Quirks | None = None) -> bytes:
    """The request for a provider: the caller's members, but for the model, the usage switch and a clamp.

    `max_tokens` is the clamp; it is written to the member the caller used, else to `quirks.max_tokens_field`.
    A stream is asked for its usage, which billing needs whether the caller does or not.
    """
    quirks = quirks or Quirks()
    fields = dict(request.fields)
    fields["model"] = Raw(_write(model))
    if request.stream and quirks.force_usage:
        options = fields.get("stream_options", NULL)
        given = {} if options == NULL else _read_members(options)
        fields["stream_options"] = Raw(_write(given | {"include_usage": Raw(b"true")}))
    elif not quirks.force_usage:
        fields.pop("stream_options", None)
    used = [name for name in LIMIT_FIELDS if fields.get(name, NULL) != NULL]
    if max_tokens is not None:
        fields |= dict.fromkeys(used or [quirks.max_tokens_field], Raw(_write(max_tokens)))
    elif used == ["max_completion_tokens"] and quirks.max_tokens_field == "max_tokens":
        # A provider that knows only the older name would ignore the caller's bound, and the budget with it.
        fields["max_tokens"] = fields["max_completion_tokens"]
    return _write(cache_marks.marked_chat(fields) if quirks.auto_cache and claude_models.version(model) else fields)


def reader(*, n: int = 1, wants_usage: bool = False, deltas: bool = False) -> StreamReader:
    return StreamReader(n=n, wants_usage=wants_usage, deltas=DeltaReader().read if deltas else None)


def renderer(request: Request, *, call_id: str) -> StreamRenderer:
    return StreamRenderer(request, call_id=call_id)


# --- what it is beside text --------------------------------------------------------------------
class _Shown(NamedTuple):
    """The parts that are no text, `others` whether there are any. `inline` is the data that stands in the prompt, `tokens`
    what all of it makes instead, `unseen` what may stand behind addresses."""

    others: bool = False
    images: int = 0
    sounds: int = 0
    files: int = 0
    videos: int = 0
    inline: list[str] = []
    tokens: int = 0
    unseen: int = 0


_ONLY_TEXT = _Shown()
_TOOLS, _SEARCH, _NONE = frozenset({"tools"}), frozenset({"web_search"}), frozenset[str]()


def _shown(messages: list[_Message]) -> _Shown:
    contents = [message.content for message in messages if type(message.content) is list]
    contents += [message.images for message in messages if message.images]
    parts = [part for content in contents for part in content if type(part) is _Part]
    spoken = sum([message.audio is not None for message in messages])
    if not parts and not spoken:  # nearly always
        return _ONLY_TEXT
    pictures = [part.image_url for part in parts if part.image_url]
    urls = [url if type(url) is str else url.url for url in pictures]  # type: ignore[union-attr]
    sounds = [part.input_audio.data for part in parts if part.input_audio]
    files = [part.file for part in parts if part.file]
    heard = sum(AUDIO_TOKENS + len(sound) // AUDIO_CHARACTERS_PER_TOKEN for sound in sounds)
    videos = [part for part in parts if part.type == "video_url"]
    distant = sum(bool(file.file_id) or _is_distant(file.file_data) for file in files)
    distant += sum(_is_distant(_address(video.video_url)) for video in videos)
    return _Shown(
        others=bool(urls or sounds or files or spoken) or any(part.type not in TEXT_PARTS for part in parts),
        images=len(urls),
        sounds=len(sounds) + spoken,
        files=len(files),
        videos=len(videos),
        inline=[url for url in urls if url.startswith("data:")] + sounds,
        tokens=len(urls) * IMAGE_TOKENS + heard + spoken * SPOKEN_TOKENS,
        unseen=distant * DISTANT_DOCUMENT_TOKENS,
    )


def _address(given: object) -> object:
    return given.get("url") if isinstance(given, dict) else given


def _is_distant(given: object) -> bool:
    """An address in place of the data itself, which counts as the text that it stands in."""
    return isinstance(given, str) and bool(_ADDRESS.match(given))
