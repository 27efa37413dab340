"""A Messages request → `Conversation`, for a model whose provider speaks another protocol.

What lives at Anthropic only (its Files API, the tools it runs itself, MCP servers it calls) is refused by name; what is
only advice to Anthropic (`context_management`, `service_tier`) is named to the caller and left out.
"""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, Literal

import msgspec
from msgspec import Raw

from proxy.canonical.conversation import (
    CacheMark,
    Conversation,
    Effort,
    File,
    Format,
    Image,
    Message,
    Part,
    Reasoning,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from proxy.canonical.request import Request
from proxy.errors import BadRequest
from proxy.protocols import surrogates, unread
from proxy.protocols import unsaid as unsaid_of
from proxy.protocols.bodies import NULL, decoded, wrong_type

_READ = (
    "messages", "system", "tools", "tool_choice", "thinking", "output_config", "output_format", "max_tokens", "temperature",
    "top_p", "top_k", "stop_sequences", "mcp_servers", "container", "seed", "frequency_penalty", "presence_penalty",
)  # fmt: skip
# What the gateway itself does with a call, whoever answers it.
_OURS = frozenset({*_READ, "model", "stream", "metadata"})
# Advice to Anthropic: no vendor means the same by these names.
_ADVICE = (
    "cache_control", "service_tier", "speed", "inference_geo", "context_management", "compaction", "diagnostics", "fallbacks",
    "user_profile_id", "workspace_id", "thread",
)  # fmt: skip
_OF_TOOLS = ("input_examples", "defer_loading", "allowed_callers")
SPELLED: Mapping[str, str] = {
    "reasoning": "thinking",
    "stop": "stop_sequences",
    "user": "metadata.user_id",
    "parallel_tools": "tool_choice.disable_parallel_tool_use",
    "format": "output_config.format",
}


# Members that no type has are named (`unread.Known`); those of type Raw that nobody reads say nothing to another provider.
# msgspec reads a union with Raw as the other half always: what is absent is a null instead.


class _Cache(msgspec.Struct, forbid_unknown_fields=True):
    ttl: str | None = None
    type: Raw = NULL
    scope: Raw = NULL


class _Source(msgspec.Struct, forbid_unknown_fields=True):
    type: str = ""
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: "str | list[_Block] | None" = None


class _Block(msgspec.Struct, forbid_unknown_fields=True):
    type: str = "text"
    text: str = ""
    cache_control: _Cache | None = None
    source: _Source | str | None = None
    title: str | None = None
    context: str | None = None
    thinking: str = ""
    signature: str | None = None
    data: str | None = None
    id: str = ""
    name: str = ""
    input: Raw = NULL
    tool_use_id: str = ""
    content: "str | list[_Block] | dict[str, Any] | None" = None
    is_error: bool | None = None
    citations: Any = None
    caller: Raw = NULL

    @property
    def is_cited(self) -> bool:
        """Of what is shown to the model: whether its answer shall cite it."""
        return isinstance(self.citations, dict) and self.citations.get("enabled") is True


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block]


class _Tool(msgspec.Struct, forbid_unknown_fields=True):
    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: Raw = NULL
    strict: bool | None = None
    cache_control: _Cache | None = None
    input_examples: Any = None
    defer_loading: Any = None
    allowed_callers: Any = None


class _ToolChoice(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Thinking(msgspec.Struct, forbid_unknown_fields=True):
    type: str = ""
    budget_tokens: int | None = None
    display: str | None = None


class _Format(msgspec.Struct, forbid_unknown_fields=True):
    type: str = ""
    schema: Raw = NULL


class _OutputConfig(msgspec.Struct, forbid_unknown_fields=True):
    effort: Effort | None = None
    format: _Format | None = None


class _Body(msgspec.Struct):
    messages: list[_Message]
    system: str | list[_Block] | None = None
    tools: list[_Tool] | None = None
    tool_choice: _ToolChoice | None = None
    thinking: _Thinking | None = None
    output_config: _OutputConfig | None = None
    output_format: _Format | None = None
    max_tokens: int | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    mcp_servers: list[Raw] | None = None
    container: Raw = NULL


# The one beta that other services than Anthropic's know and that is no member of a request.
INTERLEAVED = "interleaved-thinking-"
_known = unread.Known[_Body](_Body)
_write = msgspec.json.Encoder().encode
_MODES: dict[str, Literal["auto", "required", "none", "tool"]] = {
    "auto": "auto", "any": "required", "none": "none", "tool": "tool",
}  # fmt: skip


def conversation(request: Request) -> Conversation:
    """Raises BadRequest for what cannot be said in other protocols."""
    body, unknown = _read(request)
    _refuse(body)
    if decoded(request.fields.get("modalities")) not in (None, [], ["text"]):
        raise BadRequest("modalities: Messages has no place for pictures or sound; Chat Completions has.", param="modalities")
    choice = body.tool_choice
    extras = unsaid_of.offered(request.fields, _OURS)
    return Conversation(
        messages=(*_system(body.system), *_messages(body.messages)),
        tools=tuple(_tool(tool, f"tools[{at}]") for at, tool in enumerate(body.tools or ())),
        tool_choice=ToolChoice(_MODES[choice.type], choice.name) if choice is not None else None,
        parallel_tools=False if choice is not None and choice.disable_parallel_tool_use else None,
        max_tokens=body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        stop=tuple(body.stop_sequences or ()),
        format=_format(body),
        reasoning=_reasoning(body, interleaved=INTERLEAVED in request.headers.get("anthropic-beta", "")),
        user=request.user,
        seed=body.seed,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        unsaid=(
            *(name for name in _ADVICE if extras.pop(name, None) is not None),
            *_uncited(body.messages),
            *unsaid_of.of_tools(body.tools or (), _OF_TOOLS),
            *unknown,
        ),
        extras=extras,
    )


def _read(request: Request) -> tuple[_Body, tuple[str, ...]]:
    """And the paths of what is not read. Halves of surrogates are told to other protocols as U+FFFD."""
    members = _write({name: request.fields[name] for name in _READ if name in request.fields})
    try:
        return surrogates.decoded(_known.read, members)
    except msgspec.ValidationError as error:
        raise wrong_type(error) from error


def _refuse(body: _Body) -> None:
    if body.mcp_servers:
        raise BadRequest("mcp_servers: this model's provider calls no MCP servers.", param="mcp_servers")
    if body.container != NULL:
        raise BadRequest("container: this model's provider has no containers.", param="container")
    if body.max_tokens == 0:
        raise BadRequest(
            "max_tokens: this model's provider has no cache that a call without an answer could warm.", param="max_tokens"
        )


# --- messages ----------------------------------------------------------------------------------
def _system(given: str | list[_Block] | None) -> Iterator[Message]:
    if given:
        yield Message("system", tuple(_parts(given, "system")))


def _messages(messages: list[_Message]) -> Iterator[Message]:
    for at, message in enumerate(messages):
        parts = _parts(message.content, f"messages[{at}].content")
        if message.role != "user" or (len(parts) == 1 and not isinstance(parts[0], ToolResult)):
            yield Message(message.role, tuple(parts))
            continue
        for is_result, run in groupby(parts, key=lambda part: isinstance(part, ToolResult)):
            yield Message("tool" if is_result else "user", tuple(run))


def _parts(content: str | list[_Block], path: str) -> list[Part]:
    if isinstance(content, str):
        return [Text(content)]
    parts: list[Part] = []
    for at, block in enumerate(content):
        if block.type == "text":  # nearly always
            parts.append(Text(block.text, _mark(block.cache_control)))
        else:
            parts.extend(_part(block, f"{path}[{at}]"))
    return parts


def _part(block: _Block, path: str) -> Iterator[Part]:
    cache = _mark(block.cache_control)
    match block.type:
        case "thinking":
            yield Thinking(block.thinking, block.signature or None)
        case "redacted_thinking":
            yield Thinking(redacted=block.data or "")
        case "tool_use":
            arguments = bytes(block.input).decode() if block.input != NULL else "{}"
            yield ToolUse(block.id, block.name, arguments, cache=cache)
        case "tool_result":
            yield ToolResult(block.tool_use_id, tuple(_shown(block.content, path)), bool(block.is_error), cache)
        case _:
            yield from _seen(block, path)


def _seen(block: _Block, path: str) -> Iterator[Text | Image | File]:
    """What may stand in results of tools, too."""
    cache, source = _mark(block.cache_control), block.source
    match block.type:
        case "text":
            yield Text(block.text, cache)
        case "image" if isinstance(source, _Source) and source.type in ("base64", "url"):
            yield Image(source.media_type, source.data, source.url, cache=cache)
        case "document" if isinstance(source, _Source):
            yield from _document(block, source, path)
        case "search_result" if isinstance(source, str) and isinstance(block.content, list):
            text = "\n".join(inner.text for inner in block.content)
            yield Text(f"{block.title or ''}\n{source}\n\n{text}".lstrip(), cache)
        case _:
            raise BadRequest(f"{path}: this model's provider takes no blocks of type {block.type[:60]!r}.", param=path)


def _document(block: _Block, source: _Source, path: str) -> Iterator[Text | Image | File]:
    cache = _mark(block.cache_control)
    match source.type:
        case "base64":
            yield File(source.media_type, source.data, name=block.title, cache=cache, cite=block.is_cited)
        case "url":
            yield File(url=source.url, name=block.title, cache=cache, cite=block.is_cited)
        case "text":
            head = [line for line in (block.title, block.context) if line]
            yield Text("\n\n".join([*head, source.data or ""]), cache)
        case "content" if source.content is not None:
            yield from _shown(source.content, f"{path}.source.content")
        case _:
            raise BadRequest(f"{path}: a document of type {source.type[:60]!r} is known to Anthropic only.", param=path)


def _uncited(messages: list[_Message]) -> tuple[str, ...]:
    """Texts that shall be cited are texts like all others elsewhere; files keep the wish (`File.cite`)."""
    contents = [message.content for message in messages if type(message.content) is list]
    cited = [block.source for blocks in contents for block in blocks if block.citations is not None and block.is_cited]
    is_lost = any(not isinstance(source, _Source) or source.type not in ("base64", "url") for source in cited)
    return (unsaid_of.CITE,) if is_lost else ()


def _shown(content: str | list[_Block] | dict[str, Any] | None, path: str) -> Iterator[Text | Image | File]:
    if isinstance(content, str):
        yield Text(content)
    elif isinstance(content, list):
        for at, block in enumerate(content):
            yield from _seen(block, f"{path}.content[{at}]")


def _mark(given: _Cache | None) -> CacheMark | None:
    return None if given is None else CacheMark(given.ttl or "5m")


# --- the rest ----------------------------------------------------------------------------------
def _tool(tool: _Tool, path: str) -> Tool:
    if tool.type not in (None, "custom"):
        raise BadRequest(f"{path}: tools of type {tool.type!r} are run by Anthropic, not by this model's provider.", param=path)
    return Tool(
        tool.name,
        tool.description,
        None if tool.input_schema == NULL else tool.input_schema,
        tool.strict,
        _mark(tool.cache_control),
    )


def _format(body: _Body) -> Format | None:
    given = body.output_config.format if body.output_config is not None else None
    given = given or body.output_format
    if given is None:
        return None
    if given.type != "json_schema" or given.schema == NULL:
        raise BadRequest(f"output_config.format: {given.type[:60]!r} is no format.", param="output_config.format")
    return Format("schema", schema=given.schema)


def _reasoning(body: _Body, *, interleaved: bool) -> Reasoning | None:
    """Thinking that is switched off, if only before the answer, is left unsaid: models that cannot think refuse to be told
    not to."""
    effort = body.output_config.effort if body.output_config is not None else None
    thinking = body.thinking if body.thinking is not None and body.thinking.type not in ("disabled", "between_tools") else None
    if effort is None and thinking is None:
        return None
    if thinking is None:
        return Reasoning(effort)
    visible = thinking.display != "omitted"
    return Reasoning(effort or (None if thinking.budget_tokens else "medium"), thinking.budget_tokens, visible, interleaved)
