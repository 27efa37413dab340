"""Anthropic's Messages, read from callers and from providers. Sans-IO: bytes in, bytes out.

Guarantees: on the way to a provider of the same protocol every member stays as the caller wrote it, but for the
model's name, a tool that consults another model and what that one said (`advisor`), a clamp of `max_tokens` (with the
thinking that no longer fits in it), thinking that another provider left unsigned, and automatic cache breakpoints where
the operator asks for them; the order of a prompt never changes.
Does not judge what only a provider can know: which blocks, which tools, which betas.
Source: anthropic 2.14 types; https://platform.claude.com/docs/en/api/messages
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Raw

from proxy.canonical.estimate import DISTANT_DOCUMENT_TOKENS, SERVER_TOOL_TOKENS, text_tokens
from proxy.canonical.request import Request
from proxy.errors import BadRequest, ProxyError
from proxy.protocols import advisor, cache_marks, other_models, vendor_searches
from proxy.protocols.base import Quirks
from proxy.protocols.bodies import NULL, BodyReader, bound, decoded
from proxy.protocols.counts import MOST_TAKEN, USUAL_SEARCHES, first_count, searches
from proxy.protocols.messages_conversation import SPELLED, conversation
from proxy.protocols.messages_history import without_unsigned
from proxy.protocols.messages_rendering import Renderer, render_answer
from proxy.protocols.messages_replies import StreamReader, read_answer, read_reply
from proxy.protocols.messages_writing import write_request

__all__ = [
    "COUNT_PATH",
    "HEADERS",
    "NAME",
    "SPELLED",
    "conversation",
    "parse",
    "parse_count",
    "pass_through",
    "path",
    "read_answer",
    "read_count",
    "read_reply",
    "reader",
    "render_answer",
    "render_count",
    "render_error",
    "render_stream_error",
    "renderer",
    "write_count",
    "write_request",
]

NAME = "messages"
PATH = "/v1/messages"
COUNT_PATH = "/v1/messages/count_tokens"
# What changes the meaning of a request at a provider of the same protocol.
HEADERS: tuple[str, ...] = ("anthropic-version", "anthropic-beta")
PROMPT_FIELDS = ("system", "messages", "tools", "output_config", "output_format")
# What `count_tokens` takes of a request.
COUNTED_FIELDS = ("model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "cache_control")
# The most that one picture makes (2,576 pixels on the long edge), and what Anthropic says to every model that has tools.
IMAGE_TOKENS, TOOLS_TOKENS = 4800, 750
# A page of a PDF is read and looked at; nobody knows how many there are. Dense ones come to a token per four characters.
DOCUMENT_TOKENS, CHARACTERS_PER_TOKEN = 3000, 4
# Those that the provider runs itself.
SERVER_TOOLS = ("web_search", "web_fetch", "code_execution", "mcp_toolset")
LEAST_THINKING = 1024
# What tools whose type begins so need of a model.
_RUN_THERE = {"web": "web_search", "computer": "computer_use"}
_NOTHING: frozenset[str] = frozenset()

_TokenLimit = Annotated[int, msgspec.Meta(ge=0, le=MOST_TAKEN)]


class _Source(msgspec.Struct):
    type: str = ""
    data: Any = None
    content: Any = None


class _Block(msgspec.Struct):
    """Only what weighs otherwise than as text. `content`: of results of tools."""

    type: str = ""
    source: _Source | str | None = None
    signature: str | None = None
    data: Any = None
    content: "list[_Block | str] | dict[str, Any] | str | None" = None


class _Message(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block]


class _Tool(msgspec.Struct):
    type: str | None = None
    name: str | None = None
    max_uses: Any = None


class _Thinking(msgspec.Struct):
    type: str = ""
    budget_tokens: int | None = None


class _Format(msgspec.Struct):
    type: str = ""


class _OutputConfig(msgspec.Struct):
    effort: str | None = None
    format: _Format | None = None


class _Body(msgspec.Struct):
    """The members the gateway reads, typed; all others only have to be JSON."""

    model: str | None = None
    messages: list[_Message] | None = None
    system: str | list[_Block] | None = None
    max_tokens: _TokenLimit | None = None
    stream: bool | None = None
    tools: list[_Tool] | None = None
    thinking: _Thinking | None = None
    output_config: _OutputConfig | None = None
    output_format: _Format | None = None
    temperature: float | None = None
    stop_sequences: list[str] | None = None
    metadata: dict[str, Any] | None = None
    speed: str | None = None
    inference_geo: str | None = None


_body = BodyReader(_Body, used=("model",))
_write = msgspec.json.Encoder().encode


# --- requests ----------------------------------------------------------------------------------
def parse(body: bytes, headers: Mapping[str, str] | None = None) -> Request:
    """Raises BadRequest, with the path of the offending member as `param`."""
    read, fields, left_out = _read(body)
    if read.max_tokens is None:
        raise BadRequest("max_tokens: this protocol wants every request to name the most tokens to write.", param="max_tokens")
    return _request(read, fields, headers, left_out)


def parse_count(body: bytes, headers: Mapping[str, str] | None = None) -> Request:
    """A request to count the tokens of a prompt, which nobody answers. Raises BadRequest."""
    read, fields, left_out = _read(body)
    return _request(read, fields, headers, left_out)


def _read(body: bytes) -> tuple[_Body, dict[str, Raw], tuple[str, ...]]:
    """What may go to a provider, and the names of what may not."""
    read, fields = _body.read(body)
    if advisor.MARK not in body or not read.messages:  # nearly always
        return read, fields, ()
    told, left_out = advisor.without(fields)
    return (*_body.read(_write(told)), left_out) if left_out else (read, fields, ())


def _request(read: _Body, fields: dict[str, Raw], headers: Mapping[str, str] | None, left_out: tuple[str, ...]) -> Request:
    if not read.model:
        raise BadRequest("The request must name a model.", param="model")
    if not read.messages:
        raise BadRequest("`messages` must hold at least one message.", param="messages")
    _refuse_unpriced(read)
    bound(read, fields, "max_tokens")
    weighed = _Weighed(block for message in read.messages if type(message.content) is list for block in message.content)
    tools = read.tools or []
    prompt = b",".join(bytes(fields[name]) for name in PROMPT_FIELDS if name in fields)
    user = (read.metadata or {}).get("user_id")
    sent = text_tokens(prompt, without=weighed.inline) + weighed.tokens + (TOOLS_TOKENS if tools else 0)
    searching = vendor_searches.number(fields)
    run_there = searching + sum((tool.type or "").startswith(SERVER_TOOLS) for tool in tools)
    unseen = weighed.unseen + run_there * SERVER_TOOL_TOKENS
    return Request(
        protocol=NAME,
        model=read.model,
        stream=bool(read.stream),
        include_usage=True,
        # Zero only warms the provider's cache; no answer is shorter than a token to everybody else.
        max_tokens=None if read.max_tokens is None else max(1, read.max_tokens),
        max_tokens_field="max_tokens",
        # A conversation that the provider shortens first is read once more.
        input_tokens_estimate=sent,
        reserve_units=_searches(tools, searching),
        reserve_tokens=unseen + (sent + unseen if _compacts(fields, most=None if unseen else sent) else 0),
        fields=fields,
        messages=len(read.messages),
        image_parts=weighed.images,
        file_parts=weighed.files,
        tool_needs=_tool_needs(tools),
        schema=_has_schema(read),
        reasons=_reasons(read),
        text_only=not (weighed.images or weighed.documents),
        user=user if isinstance(user, str) else None,
        metadata=read.metadata,
        headers={name: headers[name] for name in HEADERS if name in headers} if headers else {},
        left_out=left_out,
    )


def _refuse_unpriced(read: _Body) -> None:
    """Raises BadRequest for what makes the same tokens dearer."""
    if read.speed not in (None, "standard"):
        raise BadRequest(f"speed: `{read.speed[:40]}` has a price of its own, which is not offered here.", param="speed")
    if read.inference_geo not in (None, "global"):
        raise BadRequest("inference_geo: a region has a price of its own, which is not offered here.", param="inference_geo")
    other_models.refuse_tools(tool.type for tool in read.tools or ())


class _Weighed:
    """What of the blocks weighs otherwise than its text: `inline` is that text, `tokens` what it makes instead, `unseen`
    what may stand behind addresses."""

    def __init__(self, blocks: Iterable[_Block]) -> None:
        self.images = self.documents = self.files = self.tokens = self.unseen = 0
        self.inline: list[str] = []
        for block in blocks:
            self._weigh(block)

    def _weigh(self, block: _Block) -> None:
        if block.source is not None and type(block.source) is _Source:
            self._source(block.type, block.source)
        elif block.type == "tool_result" and type(block.content) is list:
            for inner in block.content:
                if type(inner) is _Block:
                    self._weigh(inner)
        sealed = block.signature if block.type == "thinking" else block.data if block.type == "redacted_thinking" else None
        if type(sealed) is str:
            self._seal(sealed, at_least=0)

    def _source(self, kind: str, source: _Source) -> None:
        if kind == "image":
            self.images += 1
            self.tokens += IMAGE_TOKENS
            if type(source.data) is str:
                self.inline.append(source.data)
        elif kind == "document":
            self.documents += 1
            self.files += source.type not in ("text", "content")
            if source.type == "base64" and type(source.data) is str:
                self._seal(source.data, at_least=DOCUMENT_TOKENS)
            elif source.type not in ("text", "content"):
                self.unseen += DISTANT_DOCUMENT_TOKENS

    def _seal(self, data: str, *, at_least: int) -> None:
        self.inline.append(data)
        self.tokens += max(at_least, len(data) // CHARACTERS_PER_TOKEN)


def _compacts(fields: dict[str, Raw], *, most: int | None) -> bool:
    """`most`: the tokens that can be read; None: nobody knows. Fewer than a threshold shorten nothing."""
    asked = decoded(fields.get("compaction"))
    if asked not in (None, False) and not (isinstance(asked, dict) and asked.get("type") in ("disabled", "none")):
        return True
    given = decoded(fields.get("context_management"))
    edits = given.get("edits") if isinstance(given, dict) else None
    listed = edits if isinstance(edits, list) else ()
    found = [edit for edit in listed if isinstance(edit, dict) and str(edit.get("type")).startswith("compact_")]
    return any(most is None or most >= _threshold(edit) for edit in found)


def _threshold(edit: dict[str, Any]) -> int:
    """Zero where it cannot be told. https://platform.claude.com/docs/en/build-with-claude/compaction-threshold"""
    trigger = edit.get("trigger")
    if trigger is None and edit["type"] == "compact_20260112":
        return 150_000
    return first_count(trigger.get("value")) if isinstance(trigger, dict) and trigger.get("type") == "input_tokens" else 0


def _tool_needs(tools: list[_Tool]) -> frozenset[str]:
    if not tools:
        return _NOTHING
    kinds = {(tool.type or "").partition("_")[0] for tool in tools}
    return frozenset(["tools", *(_RUN_THERE[kind] for kind in kinds if kind in _RUN_THERE)])


def _searches(tools: list[_Tool], searching: int) -> dict[str, int]:
    most = [searches(tool.max_uses) for tool in tools if (tool.type or "").startswith("web_search")]
    most += [USUAL_SEARCHES] * searching
    return {"web_search": sum(most)} if most else {}


def _has_schema(read: _Body) -> bool:
    given = read.output_config.format if read.output_config is not None else None
    given = given or read.output_format
    return given is not None and given.type == "json_schema"


def _reasons(read: _Body) -> bool:
    effort = read.output_config.effort if read.output_config is not None else None
    thinks = read.thinking is not None and read.thinking.type not in ("", "disabled", "between_tools")
    return thinks or effort not in (None, "none")


def path(model: str, *, stream: bool) -> str:
    return PATH


def pass_through(request: Request, *, model: str, max_tokens: int | None = None, quirks: Quirks | None = None) -> bytes:
    """The caller's members, but for what the module names. `max_tokens` is the clamp."""
    fields = dict(request.fields)
    fields["model"] = Raw(_write(model))
    if max_tokens is not None and (request.max_tokens is None or max_tokens < request.max_tokens):
        fields["max_tokens"] = Raw(_write(max_tokens))
        fields |= _thinking_within(fields.get("thinking", NULL), max_tokens)
    fields = without_unsigned(fields)
    return _write(cache_marks.marked(fields) if quirks is not None and quirks.auto_cache else fields)


def _thinking_within(thinking: Raw, max_tokens: int) -> dict[str, Raw]:
    """Thought must leave room for an answer, or the provider refuses the call."""
    given = msgspec.json.decode(thinking, type=_Thinking | None)
    if given is None or given.budget_tokens is None or given.budget_tokens < max_tokens:
        return {}
    if max_tokens <= LEAST_THINKING:
        return {"thinking": Raw(b'{"type":"disabled"}')}
    changed = msgspec.json.decode(thinking, type=dict[str, Raw]) | {"budget_tokens": Raw(_write(max_tokens - 1))}
    return {"thinking": Raw(_write(changed))}


def reader(*, n: int = 1, wants_usage: bool = True, deltas: bool = False) -> StreamReader:
    return StreamReader(deltas=deltas)


def renderer(request: Request, *, call_id: str) -> Renderer:
    return Renderer(request, call_id=call_id)


# --- counting ----------------------------------------------------------------------------------
class _Count(msgspec.Struct):
    input_tokens: int


def write_count(request: Request, *, model: str) -> bytes:
    fields = {name: request.fields[name] for name in COUNTED_FIELDS if name in request.fields}
    return _write(without_unsigned(fields) | {"model": Raw(_write(model))})


def read_count(body: bytes) -> int:
    """Raises ValueError."""
    return msgspec.json.decode(body, type=_Count).input_tokens


def render_count(tokens: int) -> bytes:
    return _write(_Count(tokens))


# --- errors ------------------------------------------------------------------------------------
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def render_error(error: ProxyError, *, request_id: str) -> bytes:
    """`error.details.error_code` is what the SDKs give as `error_code`: a provider's own code where one is worth keeping,
    while `error.gatehouse.code` is always the gateway's."""
    shown = {
        "type": _TYPES.get(error.status, "api_error"),
        "message": error.message.encode(errors="replace").decode(),
        "details": {"error_code": error.code},
        "gatehouse": {"code": type(error).code, "param": error.param, **(error.detail or {}), "request_id": request_id},
    }
    return _write({"type": "error", "error": shown, "request_id": request_id})


def render_stream_error(error: ProxyError, *, request_id: str, first: bytes = b"", last: bytes = b"") -> bytes:
    """The last event of a stream that failed: the SDKs raise on it, and nothing may follow."""
    return b"event: error\ndata: " + render_error(error, request_id=request_id) + b"\n\n"
