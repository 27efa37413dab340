"""OpenAI's Responses, read from callers and from providers. Sans-IO: bytes in, bytes out.

Guarantees: on the way to a provider of the same protocol, members that the gateway does not read pass byte for byte;
nothing is asked to be kept there (`store` is always false), so history comes from the gateway, in `input`. A body says
every required member; the events of a stream are numbered without a gap, the error that ends one included.
Source: openai-python 3.52 types (openai.types.responses), https://www.openresponses.org
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Raw

from proxy.canonical.estimate import DISTANT_DOCUMENT_TOKENS, SERVER_TOOL_TOKENS, text_tokens
from proxy.canonical.request import Request
from proxy.errors import BadRequest, ProxyError, RateRefused
from proxy.protocols import other_models, surrogates, vendor_searches
from proxy.protocols.base import Quirks
from proxy.protocols.bodies import NULL, BodyReader, bound, decoded, wrong_type
from proxy.protocols.counts import MOST_TAKEN, searches
from proxy.protocols.openai_errors import render_error
from proxy.protocols.responses_answers import render_answer
from proxy.protocols.responses_items import DRAWING, MARK, SPELLED, conversation, input_items, is_foreign
from proxy.protocols.responses_replies import StreamReader, read_answer, read_reply
from proxy.protocols.responses_requests import ENCRYPTED, write_request
from proxy.protocols.responses_stream import StreamRenderer, event, members_of
from proxy.protocols.sse import FrameSplitter, data_of

__all__ = [
    "HEADERS",
    "NAME",
    "PATH",
    "SPELLED",
    "continued",
    "conversation",
    "input_items",
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

NAME = "responses"
PATH = "/responses"
HEADERS: tuple[str, ...] = ()
# As in Chat Completions: the dearest common picture. Files have about a token per four characters of their base64.
IMAGE_TOKENS, AUDIO_TOKENS, CHARACTERS_PER_TOKEN = 3000, 100, 4
# Of any other part nobody knows what a provider finds in it.
TEXT_PARTS = ("text", "input_text", "output_text", "refusal", "reasoning_text", "summary_text")
PROMPT_FIELDS = ("instructions", "input", "tools", "text")
PICTURES = ("input_image", "image", "computer_screenshot")
# What tools that search are called in a price, by the beginning of their type.
SEARCHES = {"web_search": "web_search", "file_search": "storage_search"}
# What tools need of a model: the caller's own, and those that the provider runs.
OWN_TOOLS = ("function", "custom", "namespace")
TOOL_NEEDS = {
    **dict.fromkeys(OWN_TOOLS, "tools"),
    **dict.fromkeys(("web_search", "web_search_preview"), "web_search"),
    **dict.fromkeys(("computer", "computer_use_preview"), "computer_use"),
}


class _Item(msgspec.Struct):
    type: Any = None
    result: Any = None
    content: Any = None
    output: Any = None
    encrypted_content: Any = None


class _Tool(msgspec.Struct):
    type: str = ""


class _Format(msgspec.Struct):
    type: str = "text"


class _TextOptions(msgspec.Struct):
    format: _Format | None = None


class _Reasoning(msgspec.Struct):
    effort: str | None = None


class _Body(msgspec.Struct):
    """The members the gateway reads, typed; all others only have to be JSON."""

    model: str | None = None
    input: str | list[Raw] | None = None
    stream: bool | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: Raw = NULL
    prompt: Raw = NULL
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1, le=MOST_TAKEN)] | None = None
    temperature: float | None = None
    tools: list[_Tool] | None = None
    include: list[str] | None = None
    text: _TextOptions | None = None
    reasoning: _Reasoning | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None


class _Event(msgspec.Struct):
    response: Raw = NULL


_read_event = msgspec.json.Decoder(_Event).decode
_read_members = msgspec.json.Decoder(dict[str, Raw]).decode
_body = BodyReader(_Body, used=("model", "user", "previous_response_id"))
_read_input = msgspec.json.Decoder(str | list[_Item]).decode
_read_tools = msgspec.json.Decoder(list[_Tool] | None).decode
_write = msgspec.json.Encoder().encode


def parse(body: bytes, headers: Mapping[str, str] | None = None) -> Request:
    """Raises BadRequest, with the path of the offending member as `param`."""
    read, fields = _body.read(body)
    if not read.model:
        raise BadRequest("The request must name a model.", param="model")
    if not read.input:
        raise BadRequest("`input` must hold text or at least one item.", param="input")
    if read.background:
        raise BadRequest("Responses in the background are not offered here; ask for a stream instead.", param="background")
    if read.prompt != NULL:  # of the gateway's own account, so whoever's it is; and nobody knows how long
        raise BadRequest("Prompts kept at OpenAI are not offered; presets are.", param="prompt")
    if read.conversation != NULL:
        raise BadRequest("Conversations are not kept here; send the items, or `previous_response_id`.", param="conversation")
    other_models.refuse_tools(tool.type for tool in read.tools or ())
    bound(read, fields, "max_output_tokens")
    request = Request(
        protocol=NAME,
        model=read.model,
        stream=bool(read.stream),
        include_usage=True,
        max_tokens=read.max_output_tokens,
        max_tokens_field="max_output_tokens",
        fields=fields,
        user=read.user,
        metadata=read.metadata,
        store=bool(read.store),
        previous=read.previous_response_id or None,
        tool_needs=_tool_needs(read),
        schema=read.text is not None and read.text.format is not None and read.text.format.type == "json_schema",
        reasons=read.reasoning is not None and read.reasoning.effort not in (None, "none"),
        told=_told(read),
    )
    _measure(request)
    return request


def _told(read: _Body) -> dict[str, Raw]:
    """Whoever serves the call is asked to keep nothing and told no id; the caller is told what is true here."""
    if not (read.store or read.previous_response_id):
        return {}
    return {"store": Raw(_write(bool(read.store))), "previous_response_id": Raw(_write(read.previous_response_id or None))}


def continued(request: Request, earlier: list[Raw]) -> Request:
    """The same request with the items of earlier turns before its own."""
    items = [*earlier, *input_items(request.fields["input"])]
    fields = {**request.fields, "input": Raw(b"[" + b",".join(bytes(item) for item in items) + b"]")}
    whole = msgspec.structs.replace(request, fields=fields, cache_marks=None)
    _measure(whole)
    return whole


def replayable(item: Raw) -> Raw | None:
    """An item of an earlier turn as it may be said again to whoever serves this one; None where it may not.

    No provider keeps anything of ours, so ids mean nothing to it, and thinking without its content cannot be read.
    """
    try:
        members = _read_members(item)
    except msgspec.DecodeError:  # a lone surrogate half
        members = _read_members(surrogates.readable(bytes(item)))
    kind = bytes(members.get("type", NULL))
    if kind == b'"reasoning"':
        return item if members.get("encrypted_content", NULL) != NULL else None
    if kind not in (b'"message"', b'"function_call"') or "id" not in members:
        return item
    return Raw(_write({name: raw for name, raw in members.items() if name != "id"}))


def response_in(stream: bytes) -> bytes | None:
    """The whole response that the last event of a stream holds."""
    found = [bytes(read.response) for read in map(_event_of, FrameSplitter().feed(stream)) if read.response != NULL]
    return found[-1] if found else None


def _event_of(frame: bytes) -> "_Event":
    try:
        return _read_event(data_of(frame) or b"{}")
    except msgspec.DecodeError:
        return _Event()


def path(model: str, *, stream: bool) -> str:
    return PATH


def pass_through(request: Request, *, model: str, max_tokens: int | None = None, quirks: Quirks | None = None) -> bytes:
    """The caller's members, but for the model, a clamp (`max_tokens`), and what asks the provider to keep something.

    Thinking of other providers, which an earlier turn may have brought, means nothing to this one and is left out.
    """
    fields = {name: raw for name, raw in request.fields.items() if name != "previous_response_id"}
    fields |= {"model": Raw(_write(model)), "store": Raw(b"false")}
    if request.store and request.fields.get("reasoning", NULL) != NULL:
        # What is kept here is said again with the next turn, and thinking only counts with its content.
        included = decoded(fields.get("include")) or []
        fields["include"] = Raw(_write([*included, *({ENCRYPTED} - set(included))]))
    if MARK.encode() in bytes(fields["input"]):
        own = [bytes(item) for item in input_items(fields["input"]) if not is_foreign(item)]
        fields["input"] = Raw(b"[" + b",".join(own) + b"]")
    if max_tokens is not None:
        fields["max_output_tokens"] = Raw(_write(max_tokens))
    return _write(fields)


def reader(*, n: int = 1, wants_usage: bool = True, deltas: bool = False) -> StreamReader:
    return StreamReader(deltas=deltas)


def renderer(request: Request, *, call_id: str) -> StreamRenderer:
    return StreamRenderer(request, call_id=call_id)


# --- how much it is ----------------------------------------------------------------------------
def _tool_needs(read: _Body) -> frozenset[str]:
    return frozenset([TOOL_NEEDS[tool.type] for tool in read.tools or () if tool.type in TOOL_NEEDS])


def _measure(request: Request) -> None:
    """Fills in what the input comes to. Raises BadRequest where an item is none."""
    raw = request.fields["input"]
    try:
        read = _read_input(surrogates.readable(bytes(raw)) if surrogates.suspected(bytes(raw)) else raw)
    except msgspec.ValidationError as error:
        raise wrong_type(error, within="input") from error
    items = [] if isinstance(read, str) else read
    # What a computer shows is one part, not a list.
    shown = [item.output for item in items if isinstance(item.output, dict)]
    contents = [shown, *(content for item in items for content in (item.content, item.output) if isinstance(content, list))]
    parts = [part for content in contents for part in content if isinstance(part, dict)]
    pictures = [part["image_url"] for part in parts if isinstance(part.get("image_url"), str)]
    files = [part["file_data"] for part in parts if isinstance(part.get("file_data"), str)]
    sounds = [str(part["input_audio"].get("data", "")) for part in parts if isinstance(part.get("input_audio"), dict)]
    sealed = [item.encrypted_content for item in items if isinstance(item.encrypted_content, str)]
    drawn = [item.result for item in items if item.type == "image_generation_call" and isinstance(item.result, str)]
    inline = [text for text in pictures if text.startswith("data:")] + files + sounds + sealed + drawn
    prompt = b",".join(bytes(request.fields[name]) for name in PROMPT_FIELDS if name in request.fields)
    images = len(drawn) + sum(part.get("type") in PICTURES or "image_url" in part for part in parts)
    encoded = sum(len(text) for text in (*files, *sounds, *sealed)) // CHARACTERS_PER_TOKEN
    distant = sum(bool(part.get("file_url") or part.get("file_id")) for part in parts if part.get("type") not in PICTURES)
    others = any(part.get("type", "text") not in TEXT_PARTS for part in parts)
    run_there = _run_there(request)
    draws = any(tool.startswith(DRAWING) for tool in run_there)
    request.input_tokens_estimate = text_tokens(prompt, without=inline) + images * IMAGE_TOKENS + encoded + 8
    searching = vendor_searches.number(request.fields)
    request.reserve_tokens = distant * DISTANT_DOCUMENT_TOKENS + (len(run_there) + searching) * SERVER_TOOL_TOKENS
    request.reserve_units = _searches(request, ["web_search", *run_there] if searching else run_there)
    request.drawings = searches(decoded(request.fields.get("max_tool_calls"))) if draws else 0
    request.messages, request.image_parts, request.audio_parts = max(1, len(items)), images, len(sounds)
    request.file_parts = sum(part.get("type") == "input_file" for part in parts)
    request.text_only = not (others or images or files or sounds or distant or draws)


def _run_there(request: Request) -> list[str]:
    """The tools that the provider runs itself: what they find becomes input."""
    tools = _read_tools(surrogates.readable(bytes(request.fields.get("tools", NULL)))) or ()
    return [tool.type for tool in tools if tool.type not in OWN_TOOLS]


def _searches(request: Request, run_there: list[str]) -> dict[str, int]:
    """`max_tool_calls` bounds all tools together, so each may make as many."""
    found = {unit for tool in run_there for kind, unit in SEARCHES.items() if tool.startswith(kind)}
    return dict.fromkeys(found, searches(decoded(request.fields.get("max_tool_calls")))) if found else {}


# --- what the gateway answers ------------------------------------------------------------------
def render_stream_error(error: ProxyError, *, request_id: str, first: bytes = b"", last: bytes = b"") -> bytes:
    """An `error` event, on which the SDKs raise, then `response.failed`, for which agents wait.

    `first` and `last` are what the caller was sent first and last: numbers go on from there, and the response is the
    one that was begun.
    """
    shown = msgspec.json.decode(render_error(error, request_id=request_id))["error"]
    begun = next((found["response"] for found in members_of(first) if isinstance(found.get("response"), dict)), None)
    numbers = [found["sequence_number"] for found in members_of(last) if type(found.get("sequence_number")) is int]
    number = numbers[-1] + 1 if numbers else 0
    told = {name: shown[name] for name in ("code", "message", "param")}
    sent = event("error", number, {**told, "error": shown})
    if begun is None:
        return sent
    code = "rate_limit_exceeded" if isinstance(error, RateRefused) else "server_error"
    failed = {**begun, "status": "failed", "error": {"code": code, "message": shown["message"]}}
    return sent + event("response.failed", number + 1, {"response": failed})
