"""A Chat Completions request → `Conversation`, for a model whose provider speaks another protocol.

What OpenAI's format has no member for travels in vendors' ones: `reasoning_content` and `thinking_blocks` of an
assistant's message (thought and its signatures), `cache_control` of a part or tool, and a tool call's
`extra_content.google.thought_signature`, as Google's own compatible endpoint has it.
Source: openai-python 3.52 types; https://ai.google.dev/gemini-api/docs/thought-signatures
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Raw

from proxy.canonical.conversation import (
    Audio,
    CacheMark,
    Conversation,
    File,
    Format,
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from proxy.canonical.request import Request
from proxy.errors import BadRequest
from proxy.protocols import data_urls, made_media, surrogates, unread
from proxy.protocols import unsaid as unsaid_of
from proxy.protocols.bodies import NULL, wrong_type

_ROLES: dict[str, Literal["system", "user"]] = {"system": "system", "developer": "system", "user": "user"}
_SHOWN = (Text, Image, File)
# Roles of which several may take part, told apart by names.
_NAMED = ("system", "developer", "user", "assistant")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


# Members that no type has are named (`unread.Known`); those of type Raw that nobody reads say nothing to another provider.
# msgspec reads a union with Raw as the other half always: what is absent is a null instead.


class _CacheControl(msgspec.Struct, forbid_unknown_fields=True):
    ttl: str | None = None
    type: Raw = NULL


class _ImageUrl(msgspec.Struct, forbid_unknown_fields=True):
    url: str = ""
    detail: str | None = None


class _InputAudio(msgspec.Struct, forbid_unknown_fields=True):
    data: str = ""
    format: str = ""


class _InputFile(msgspec.Struct, forbid_unknown_fields=True):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class _Breakpoint(msgspec.Struct, forbid_unknown_fields=True):
    """OpenAI's own, of lifetimes (30 minutes, 12 hours) that are longer than the shorter of the two that there are."""

    ttl: str | None = None
    mode: Raw = NULL


class _Part(msgspec.Struct, forbid_unknown_fields=True):
    type: str = ""
    prompt_cache_breakpoint: _Breakpoint | None = None
    text: str = ""
    refusal: str = ""
    image_url: _ImageUrl | str | None = None
    input_audio: _InputAudio | None = None
    file: _InputFile | None = None
    cache_control: _CacheControl | None = None


class _Function(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    arguments: str = ""


class _Google(msgspec.Struct, forbid_unknown_fields=True):
    thought_signature: str | None = None


class _Extra(msgspec.Struct, forbid_unknown_fields=True):
    google: _Google | None = None


class _ToolCall(msgspec.Struct, forbid_unknown_fields=True):
    id: str = ""
    function: _Function | None = None
    extra_content: _Extra | None = None
    type: Raw = NULL
    index: Raw = NULL


class _ThinkingBlock(msgspec.Struct, forbid_unknown_fields=True):
    thinking: str = ""
    signature: str | None = None
    data: str | None = None
    type: Raw = NULL


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    role: str
    content: str | list[_Part | str] | None = None
    name: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    thinking_blocks: list[_ThinkingBlock] | None = None
    images: list[_Part] | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    tool_call_id: str | None = None
    annotations: Raw = NULL


class _Declared(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    description: str | None = None
    parameters: Raw = NULL
    strict: bool | None = None


class _Tool(msgspec.Struct, forbid_unknown_fields=True):
    type: str = "function"
    function: _Declared | None = None
    cache_control: _CacheControl | None = None


class _Named(msgspec.Struct, forbid_unknown_fields=True):
    name: str = ""


class _AllowedTool(msgspec.Struct):
    function: _Named | None = None


class _Allowed(msgspec.Struct, forbid_unknown_fields=True):
    mode: Literal["auto", "required"]
    tools: list[_AllowedTool]


class _Choice(msgspec.Struct, forbid_unknown_fields=True):
    type: str = "function"
    function: _Named | None = None
    allowed_tools: _Allowed | None = None
    name: str | None = None


class _Schema(msgspec.Struct, forbid_unknown_fields=True):
    name: str | None = None
    description: str | None = None
    schema: Raw = NULL
    strict: bool | None = None


class _Format(msgspec.Struct, forbid_unknown_fields=True):
    type: str = "text"
    json_schema: _Schema | None = None


class _Body(msgspec.Struct):
    messages: list[_Message]
    tools: list[_Tool] | None = None
    functions: list[_Declared] | None = None
    tool_choice: str | _Choice | None = None
    function_call: str | _Named | None = None
    parallel_tool_calls: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Raw = NULL
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: _Format | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    prompt_cache_key: str | None = None


_READ = tuple(_Body.__struct_fields__)
# What the gateway itself does with a call, whoever answers it.
_OURS = frozenset({*_READ, "model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "user", "modalities"})
SPELLED: Mapping[str, str] = {
    "reasoning": "reasoning_effort",
    "format": "response_format",
    "parallel_tools": "parallel_tool_calls",
}
_known = unread.Known[_Body](_Body)
_encode = msgspec.json.Encoder().encode


def conversation(request: Request) -> Conversation:
    """Raises BadRequest, with the path of the offending member as `param`."""
    body, unknown = _read(request)
    extras = unsaid_of.offered(request.fields, _OURS)
    _refuse(extras)
    tools, choice = _chosen(_tools(body), body)
    if "audio" in request.modalities:
        extras.pop("audio", None)
    return Conversation(
        messages=tuple(_messages(body.messages)),
        tools=tools,
        tool_choice=choice,
        parallel_tools=body.parallel_tool_calls,
        max_tokens=request.max_tokens,
        n=request.n,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        seed=body.seed,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        logit_bias=_present(body.logit_bias),
        logprobs=bool(body.logprobs),
        top_logprobs=body.top_logprobs,
        format=_format(body.response_format),
        reasoning=_reasoning(body.reasoning_effort),
        verbosity=body.verbosity,
        modalities=made_media.asked_for(request),
        voice=made_media.voice_of(request),
        user=request.user,
        prompt_cache_key=body.prompt_cache_key,
        extras=extras,
        unsaid=("messages.name", *unknown) if _names(body.messages) else unknown,
    )


def _names(messages: list[_Message]) -> bool:
    return any(message.name and message.role in _NAMED for message in messages)


def _refuse(extras: Container[str]) -> None:
    """What an answer without would be another one."""
    if "web_search_options" in extras:
        raise BadRequest("web_search_options: this model's provider searches nothing.", param="web_search_options")


def _read(request: Request) -> tuple[_Body, tuple[str, ...]]:
    """And the paths of what is not read."""
    members = {name: request.fields[name] for name in _READ if name in request.fields}
    try:
        return surrogates.decoded(_known.read, _encode(members))
    except msgspec.ValidationError as error:
        raise wrong_type(error) from error


# --- messages, read ----------------------------------------------------------------------------
def _messages(messages: list[_Message]) -> Iterator[Message]:
    for at, message in enumerate(messages):
        if message.role in _ROLES:
            yield Message(_ROLES[message.role], _parts(message, at))
        elif message.role == "assistant":
            yield from _turn(message, at)
        elif message.role in ("tool", "function"):
            answered = message.tool_call_id or message.name or ""
            parts = tuple(part for part in _parts(message, at) if isinstance(part, _SHOWN))
            yield Message("tool", (ToolResult(answered, parts),))
        else:
            raise BadRequest(f"messages[{at}].role: {message.role!r} is no role.", param=f"messages[{at}].role")


def _turn(message: _Message, at: int) -> Sequence[Message]:
    """Pictures that a model made are shown to the next one as the user's: most take none as words of their own."""
    calls = _tool_uses(message)
    turn = Message("assistant", (*_thinking(message), *_parts(message, at), *calls))
    if not message.images:
        return (turn,)
    shown = Message("user", tuple(_part(part, f"messages[{at}].images[{number}]") for number, part in enumerate(message.images)))
    # Nothing may stand between a call of a tool and its result.
    return (shown, turn) if calls else (turn, shown) if turn.parts else (shown,)


def _parts(message: _Message, at: int) -> tuple[Part, ...]:
    content = message.content
    said: tuple[Part, ...] = ()
    if isinstance(content, str):
        said = (Text(content),) if content else ()
    elif content:
        said = tuple(
            Text(part) if isinstance(part, str) else _part(part, f"messages[{at}].content[{number}]")
            for number, part in enumerate(content)
        )
    return (*said, Refusal(message.refusal)) if message.refusal else said


def _part(part: _Part, path: str) -> Part:
    cache = _cache(part.cache_control)
    if cache is None and part.prompt_cache_breakpoint is not None:
        cache = CacheMark("1h" if part.prompt_cache_breakpoint.ttl else "5m")
    match part.type:
        case "text":
            return Text(part.text, cache)
        case "refusal":
            return Refusal(part.refusal)
        case "image_url" if part.image_url:
            shown = _ImageUrl(part.image_url) if isinstance(part.image_url, str) else part.image_url
            media_type, data = data_urls.split(shown.url)
            url = None if data is not None else shown.url
            return Image(media_type, data, url, detail=shown.detail, cache=cache)
        case "input_audio" if part.input_audio:
            return Audio(part.input_audio.format, part.input_audio.data)
        case "file" if part.file:
            media_type, data = data_urls.split(part.file.file_data or "")
            return File(media_type, data or part.file.file_data, None, part.file.file_id, part.file.filename, cache=cache)
    raise BadRequest(f"{path}: parts of type {part.type!r} cannot go to this model's provider.", param=path)


def _thinking(message: _Message) -> Sequence[Thinking]:
    if message.thinking_blocks:
        return [Thinking(block.thinking, block.signature, block.data) for block in message.thinking_blocks]
    return (Thinking(message.reasoning_content),) if message.reasoning_content else ()


def _tool_uses(message: _Message) -> Sequence[ToolUse]:
    if not message.tool_calls and message.function_call is None:
        return ()
    uses = []
    for call in message.tool_calls or ():
        if call.function is None:
            raise BadRequest("Only calls of functions can go to this model's provider.", param="messages")
        signature = call.extra_content.google.thought_signature if call.extra_content and call.extra_content.google else None
        uses.append(ToolUse(call.id, call.function.name, call.function.arguments or "{}", signature))
    if message.function_call is not None:
        called = message.function_call
        uses.append(ToolUse(called.name, called.name, called.arguments or "{}"))
    return uses


def _cache(given: _CacheControl | None) -> CacheMark | None:
    return None if given is None else CacheMark(given.ttl or "5m")


# --- the rest, read ----------------------------------------------------------------------------
def _tools(body: _Body) -> tuple[Tool, ...]:
    tools = []
    for at, tool in enumerate(body.tools or ()):
        if tool.type != "function" or tool.function is None:
            path = f"tools[{at}]"
            raise BadRequest(f"{path}: tools of type {tool.type!r} cannot go to this model's provider.", param=path)
        tools.append(_tool(tool.function, _cache(tool.cache_control)))
    return (*tools, *(_tool(function, None) for function in body.functions or ()))


def _tool(declared: _Declared, cache: CacheMark | None) -> Tool:
    return Tool(declared.name, declared.description, _present(declared.parameters), declared.strict, cache)


def _present(raw: Raw) -> Raw | None:
    return None if raw == NULL else raw


def _chosen(tools: tuple[Tool, ...], body: _Body) -> tuple[tuple[Tool, ...], ToolChoice | None]:
    """The tools that may be called, and how. Raises BadRequest."""
    chosen = body.tool_choice if body.tool_choice is not None else body.function_call
    match chosen:
        case None:
            return tools, None
        case "auto" | "none" | "required":
            return tools, ToolChoice(chosen)
        case _Named(name) | _Choice(function=_Named(name)):
            return tools, ToolChoice("tool", name)
        case _Choice(type="allowed_tools", allowed_tools=_Allowed(mode, some)):
            names = {one.function.name if one.function is not None else "" for one in some}
            if names and names <= {tool.name for tool in tools}:
                return tuple(tool for tool in tools if tool.name in names), ToolChoice(mode)
    raise BadRequest("tool_choice: this choice cannot be made with this model's provider.", param="tool_choice")


def _format(given: _Format | None) -> Format | None:
    if given is None or given.type == "text":
        return None
    if given.type == "json_object":
        return Format("json")
    if given.type == "json_schema" and given.json_schema is not None:
        schema = given.json_schema
        return Format("schema", schema.name, _present(schema.schema), schema.strict, schema.description)
    raise BadRequest(f"response_format: {given.type!r} is no format.", param="response_format")


def _reasoning(effort: str | None) -> Reasoning | None:
    if effort is None:
        return None
    if effort not in _EFFORTS:
        raise BadRequest(f"reasoning_effort: {effort[:40]!r} is none of {', '.join(_EFFORTS)}.", param="reasoning_effort")
    return Reasoning(effort)  # type: ignore[arg-type]
