"""Input items and settings of a Responses call → `Conversation`, for a provider of another protocol.

What only OpenAI itself can do (its own tools, things it keeps) is a BadRequest that names the member. Thinking comes
back in reasoning items: `encrypted_content` holds what its provider must see unchanged, in a wrapping of ours.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Raw

from proxy.canonical.conversation import (
    Audio,
    CacheMark,
    Conversation,
    Effort,
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
from proxy.protocols import data_urls, surrogates, unread
from proxy.protocols import unsaid as unsaid_of
from proxy.protocols.bodies import NULL, wrong_type
from proxy.protocols.responses_tools import ToolMember, custom_arguments, functions, joined

# Before what we wrap: no provider's own encrypted content begins so.
MARK = "gh1."
# The tool that asks for pictures; a model that makes them itself needs none.
DRAWING = "image_generation"
LOGPROBS = "message.output_text.logprobs"


class Sealed(msgspec.Struct, omit_defaults=True):
    """What a reasoning item carries for a provider of another protocol. `tool_use_id`: the signature is that call's."""

    signature: str | None = None
    redacted: str | None = None
    tool_use_id: str | None = None


def seal(content: Sealed) -> str:
    return MARK + base64.urlsafe_b64encode(msgspec.json.encode(content)).decode()


def unseal(text: str | None) -> Sealed | None:
    """None for what this gateway has not sealed."""
    if not text or not text.startswith(MARK):
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text.removeprefix(MARK)), type=Sealed)
    except (binascii.Error, msgspec.MsgspecError, UnicodeDecodeError, ValueError):
        return None


# Members that no type has are named (`unread.Known`); those of type Raw that nobody reads say nothing to another provider.


class _Sound(msgspec.Struct, forbid_unknown_fields=True):
    data: str = ""
    format: str = "wav"


class _Breakpoint(msgspec.Struct, forbid_unknown_fields=True):
    ttl: str | None = None
    mode: Raw = NULL


class _Part(msgspec.Struct, forbid_unknown_fields=True):
    type: str = "input_text"
    prompt_cache_breakpoint: _Breakpoint | None = None
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None
    input_audio: _Sound | None = None
    annotations: Raw = NULL
    logprobs: Raw = NULL


class _Item(msgspec.Struct, forbid_unknown_fields=True):
    type: str = "message"
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[_Part] | None = None
    summary: list[_Part] | None = None
    encrypted_content: str | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: str | None = None
    input: str | None = None
    output: str | list[_Part] | None = None
    result: str | None = None
    output_format: str | None = None
    id: Raw = NULL
    status: Raw = NULL
    action: Raw = NULL
    background: Raw = NULL
    quality: Raw = NULL
    revised_prompt: Raw = NULL
    size: Raw = NULL


class _MaybeSealed(msgspec.Struct):
    encrypted_content: Any = None


class _Choice(msgspec.Struct, forbid_unknown_fields=True):
    type: str = ""
    name: str | None = None
    namespace: str | None = None
    mode: Literal["auto", "required"] = "auto"
    tools: list[ToolMember] = []


class _Format(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    schema: Raw = NULL
    strict: bool | None = None
    description: str | None = None


class _TextOptions(msgspec.Struct, forbid_unknown_fields=True):
    format: _Format | None = None
    verbosity: str | None = None


class _Reasoning(msgspec.Struct, forbid_unknown_fields=True):
    effort: Effort | None = None
    summary: str | None = None
    generate_summary: str | None = None


class _Settings(msgspec.Struct):
    """Decoded from the members but `input`, which is read apart."""

    instructions: str | None = None
    tools: list[ToolMember] | None = None
    tool_choice: Literal["auto", "required", "none"] | _Choice | None = None
    parallel_tool_calls: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    text: _TextOptions | None = None
    reasoning: _Reasoning | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt: Raw = NULL
    top_k: int | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None


_known_items = unread.Known[str | list[_Item]](str | list[_Item], within="input")
_split = msgspec.json.Decoder(list[Raw]).decode
_read_sealed = msgspec.json.Decoder(_MaybeSealed).decode
_known_settings = unread.Known[_Settings](_Settings)
_SETTINGS = frozenset(_Settings.__struct_fields__)
# What the gateway itself does with a call, whoever answers it.
_OURS = _SETTINGS | {
    "model", "input", "stream", "stream_options", "store", "background", "previous_response_id", "conversation",
    "max_output_tokens", "metadata", "user",
}  # fmt: skip
_OF_TOOLS = ("output_schema", "defer_loading", "allowed_callers")
SPELLED: Mapping[str, str] = {
    "cache_control": "prompt_cache_breakpoint",
    "verbosity": "text.verbosity",
    "user": "safety_identifier",
    "parallel_tools": "parallel_tool_calls",
    "format": "text.format",
}


def input_items(raw: Raw) -> list[Raw]:
    """The items of `input`, as they were written; a text is the user's message."""
    written = bytes(raw).strip()
    if written.startswith(b'"'):
        return [Raw(b'{"type":"message","role":"user","content":' + written + b"}")]
    try:
        return _split(written)
    except msgspec.DecodeError:  # a lone surrogate half
        return _split(surrogates.readable(written))


def is_foreign(item: Raw) -> bool:
    """Whether it is thinking that this gateway has sealed for another provider."""
    raw = bytes(item)
    if MARK.encode() not in raw:
        return False
    content = _read_sealed(surrogates.readable(raw)).encrypted_content
    return isinstance(content, str) and content.startswith(MARK)


def conversation(request: Request) -> Conversation:
    """Raises BadRequest for what cannot be said in other protocols."""
    settings, unknown = _settings(request)
    if settings.prompt != NULL:
        raise BadRequest("Stored prompts belong to OpenAI; this model is served by another provider.", param="prompt")
    draws = any(tool.type == DRAWING for tool in settings.tools or ())
    tools = functions([tool for tool in settings.tools or () if tool.type != DRAWING])
    tools, choice = _chosen(tools, settings.tool_choice)
    text = settings.text or _TextOptions()
    items, unknown_of_items = _items(request)
    return Conversation(
        messages=_messages(items, settings.instructions),
        tools=tools,
        tool_choice=choice,
        parallel_tools=settings.parallel_tool_calls,
        max_tokens=request.max_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        logprobs=LOGPROBS in (settings.include or ()) or bool(settings.top_logprobs),
        top_logprobs=settings.top_logprobs,
        format=_format(text.format),
        reasoning=_reasoning(settings.reasoning),
        verbosity=text.verbosity,
        modalities=frozenset({"image"}) if draws else frozenset(),
        user=settings.safety_identifier or request.user,
        prompt_cache_key=settings.prompt_cache_key,
        top_k=settings.top_k,
        seed=settings.seed,
        frequency_penalty=settings.frequency_penalty,
        presence_penalty=settings.presence_penalty,
        extras=unsaid_of.offered(request.fields, _OURS),
        unsaid=(*unsaid_of.of_tools(settings.tools or (), _OF_TOOLS), *unknown, *unknown_of_items),
    )


def _settings(request: Request) -> tuple[_Settings, tuple[str, ...]]:
    """And the paths of what is not read."""
    members = (b"%b:%b" % (msgspec.json.encode(name), bytes(raw)) for name, raw in request.fields.items() if name in _SETTINGS)
    try:
        return _known_settings.read(surrogates.readable(b"{" + b",".join(members) + b"}"))
    except msgspec.ValidationError as error:
        raise wrong_type(error) from error


# --- items -------------------------------------------------------------------------------------
def _items(request: Request) -> tuple[str | list[_Item], tuple[str, ...]]:
    """And the paths of what is not read."""
    try:
        return _known_items.read(surrogates.readable(bytes(request.fields["input"])))
    except msgspec.ValidationError as error:
        raise wrong_type(error, within="input") from error


def _messages(read: str | list[_Item], instructions: str | None) -> tuple[Message, ...]:
    system = (Message("system", (Text(instructions),)),) if instructions else ()
    if isinstance(read, str):
        return (*system, Message("user", (Text(read),)))
    signatures = _tool_signatures(read)
    turns: list[tuple[Message, list[Part]]] = []
    for index, item in enumerate(read):
        message = _message(item, f"input[{index}]", signatures)
        if message is None:
            continue
        # A turn of the model is one message, however many items it has; and so are the results of its calls.
        if turns and turns[-1][0].role == message.role and message.role in ("assistant", "tool"):
            turns[-1][1].extend(message.parts)
        else:
            turns.append((message, list(message.parts)))
    return (*system, *(Message(first.role, tuple(parts)) for first, parts in turns))


def _tool_signatures(items: list[_Item]) -> dict[str, str]:
    sealed = [unseal(item.encrypted_content) for item in items if item.type == "reasoning"]
    return {one.tool_use_id: one.signature for one in sealed if one and one.tool_use_id and one.signature}


def _message(item: _Item, path: str, signatures: dict[str, str]) -> Message | None:
    match item.type:
        case "message":
            return _said(item, path)
        case "reasoning":
            thinking = _thinking(item)
            return Message("assistant", (thinking,)) if thinking is not None else None
        case "function_call":
            call_id = _required(item.call_id, f"{path}.call_id")
            name = joined(item.namespace, _required(item.name, f"{path}.name"))
            return Message("assistant", (ToolUse(call_id, name, item.arguments or "{}", signatures.get(call_id)),))
        case "custom_tool_call":
            call_id = _required(item.call_id, f"{path}.call_id")
            name = joined(item.namespace, _required(item.name, f"{path}.name"))
            arguments = custom_arguments(item.input or "")
            return Message("assistant", (ToolUse(call_id, name, arguments, signatures.get(call_id)),))
        case "image_generation_call":
            # Shown to the next model as the user's: most take no picture as words of their own.
            made = Image(f"image/{item.output_format or 'png'}", _required(item.result, f"{path}.result"))
            return Message("user", (made,))
        case "function_call_output" | "custom_tool_call_output":
            call_id = _required(item.call_id, f"{path}.call_id")
            return Message("tool", (ToolResult(call_id, tuple(_parts(item.output, f"{path}.output"))),))  # type: ignore[arg-type]
        case _:
            raise BadRequest(
                f"Items of the type {item.type[:60]!r} are OpenAI's own; this model is served by another provider.",
                param=f"{path}.type",
            )


def _said(item: _Item, path: str) -> Message:
    if item.role is None:
        raise BadRequest("A message needs a role.", param=f"{path}.role")
    role: Literal["system", "user", "assistant"] = "system" if item.role == "developer" else item.role
    return Message(role, tuple(_parts(item.content, f"{path}.content")))


def _thinking(item: _Item) -> Thinking | None:
    """None where only a provider other than the one asked now could read it."""
    content = item.content if isinstance(item.content, list) else []
    text = "\n\n".join(part.text for part in (*(item.summary or ()), *content) if part.text)
    sealed = unseal(item.encrypted_content)
    if sealed is None:
        return Thinking(text) if text else None
    if sealed.tool_use_id:
        return None
    return Thinking(text, signature=sealed.signature, redacted=sealed.redacted)


def _parts(content: str | list[_Part] | None, path: str) -> list[Part]:
    if isinstance(content, str):
        return [Text(content)]
    return [_part(part, f"{path}[{index}]") for index, part in enumerate(content or ())]


def _part(part: _Part, path: str) -> Part:
    match part.type:
        case "input_text" | "output_text" | "text" | "summary_text":
            return Text(part.text or "", _mark(part.prompt_cache_breakpoint))
        case "refusal":
            return Refusal(part.refusal or "")
        case "input_image":
            return _image(part, path)
        case "input_file":
            return _file(part, path)
        case "input_audio" if part.input_audio is not None:
            return Audio(part.input_audio.format, part.input_audio.data)
        case _:
            raise BadRequest(
                f"Content of the type {part.type[:60]!r} cannot be said to this model's provider.", param=f"{path}.type"
            )


def _mark(given: _Breakpoint | None) -> CacheMark | None:
    """OpenAI's lifetimes (30 minutes, 12 hours) are longer than the shorter of the two that there are."""
    return None if given is None else CacheMark("1h" if given.ttl else "5m")


def _image(part: _Part, path: str) -> Image:
    detail = None if part.detail == "auto" else part.detail
    if part.image_url is None:
        raise BadRequest(
            "An image needs an `image_url`; files kept at OpenAI cannot be read by this model's provider.",
            param=f"{path}.image_url",
        )
    media_type, data = data_urls.split(part.image_url)
    if data is None:
        return Image(url=part.image_url, detail=detail)
    return Image(media_type=media_type, data=data, detail=detail)


def _file(part: _Part, path: str) -> File:
    if part.file_data is not None:
        media_type, data = data_urls.split(part.file_data)
        return File(media_type=media_type or "application/pdf", data=data or part.file_data, name=part.filename)
    if part.file_url is not None:
        return File(url=part.file_url, name=part.filename)
    raise BadRequest(
        "A file needs `file_data` or a `file_url`; files kept at OpenAI cannot be read by this model's provider.",
        param=f"{path}.file_id",
    )


# --- settings ----------------------------------------------------------------------------------
def _chosen(tools: tuple[Tool, ...], choice: str | _Choice | None) -> tuple[tuple[Tool, ...], ToolChoice | None]:
    match choice:
        case None:
            return tools, None
        case "auto" | "required" | "none":
            return tools, ToolChoice(choice)
        case _Choice(type="function" | "custom"):
            return tools, ToolChoice("tool", joined(choice.namespace, _required(choice.name, "tool_choice.name")))
        case _Choice(type="allowed_tools"):
            allowed = {joined(tool.namespace, tool.name) for tool in choice.tools if tool.name}
            return tuple(tool for tool in tools if tool.name in allowed), ToolChoice(choice.mode)
        case _:
            raise BadRequest(
                "This choice of a tool is OpenAI's own; this model is served by another provider.", param="tool_choice"
            )


def _format(given: _Format | None) -> Format | None:
    if given is None or given.type == "text":
        return None
    if given.type == "json_object":
        return Format("json")
    if given.schema == NULL:
        raise BadRequest("A format of the type json_schema needs a schema.", param="text.format.schema")
    return Format("schema", given.name, given.schema, given.strict, given.description)


def _reasoning(given: _Reasoning | None) -> Reasoning | None:
    if given is None:
        return None
    reasoning = Reasoning(effort=given.effort, visible=bool(given.summary or given.generate_summary))
    return None if reasoning == Reasoning() else reasoning


def _required(value: str | None, param: str) -> str:
    if not value:
        raise BadRequest(f"`{param}` is missing.", param=param)
    return value
