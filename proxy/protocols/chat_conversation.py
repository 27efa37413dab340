"""Chat Completions requests ↔ conversations, for calls whose two sides speak different protocols.

What OpenAI's format has no member for travels in vendors' ones: `reasoning_content` and `thinking_blocks` of an
assistant's message (thought and its signatures), `cache_control` of a part or tool, and a tool call's
`extra_content.google.thought_signature`, as Google's own compatible endpoint has it.
Source: openai-python 3.52 types; https://ai.google.dev/gemini-api/docs/thought-signatures
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

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
from proxy.protocols import data_urls
from proxy.protocols.base import Quirks
from proxy.protocols.bodies import NULL, wrong_type

_ROLES: dict[str, Literal["system", "user"]] = {"system": "system", "developer": "system", "user": "user"}
_SHOWN = (Text, Image, File)
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


# msgspec reads a union with Raw as the other half always: what is absent is a null instead.


class _CacheControl(msgspec.Struct):
    ttl: str | None = None


class _ImageUrl(msgspec.Struct):
    url: str = ""
    detail: str | None = None


class _InputAudio(msgspec.Struct):
    data: str = ""
    format: str = ""


class _InputFile(msgspec.Struct):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class _Part(msgspec.Struct):
    type: str = ""
    text: str = ""
    refusal: str = ""
    image_url: _ImageUrl | str | None = None
    input_audio: _InputAudio | None = None
    file: _InputFile | None = None
    cache_control: _CacheControl | None = None


class _Function(msgspec.Struct):
    name: str
    arguments: str = ""


class _Google(msgspec.Struct):
    thought_signature: str | None = None


class _Extra(msgspec.Struct):
    google: _Google | None = None


class _ToolCall(msgspec.Struct):
    id: str = ""
    function: _Function | None = None
    extra_content: _Extra | None = None


class _ThinkingBlock(msgspec.Struct):
    thinking: str = ""
    signature: str | None = None
    data: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part | str] | None = None
    name: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    thinking_blocks: list[_ThinkingBlock] | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    tool_call_id: str | None = None


class _Declared(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: Raw = NULL
    strict: bool | None = None


class _Tool(msgspec.Struct):
    type: str = "function"
    function: _Declared | None = None
    cache_control: _CacheControl | None = None


class _Named(msgspec.Struct):
    name: str = ""


class _Choice(msgspec.Struct):
    type: str = "function"
    function: _Named | None = None
    name: str | None = None


class _Schema(msgspec.Struct):
    name: str | None = None
    description: str | None = None
    schema: Raw = NULL
    strict: bool | None = None


class _Format(msgspec.Struct):
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
_decode = msgspec.json.Decoder(_Body).decode
_encode = msgspec.json.Encoder().encode


def conversation(request: Request) -> Conversation:
    """Raises BadRequest, with the path of the offending member as `param`."""
    body = _read(request)
    return Conversation(
        messages=tuple(_messages(body.messages)),
        tools=_tools(body),
        tool_choice=_tool_choice(body),
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
        user=request.user,
        prompt_cache_key=body.prompt_cache_key,
    )


def _read(request: Request) -> _Body:
    members = {name: request.fields[name] for name in _READ if name in request.fields}
    try:
        return _decode(_encode(members))
    except msgspec.ValidationError as error:
        raise wrong_type(error) from error
    except msgspec.DecodeError as error:
        raise BadRequest("This model's provider takes no text that is not valid Unicode.") from error


# --- messages, read ----------------------------------------------------------------------------
def _messages(messages: list[_Message]) -> Iterator[Message]:
    for at, message in enumerate(messages):
        if message.role in _ROLES:
            yield Message(_ROLES[message.role], _parts(message, at))
        elif message.role == "assistant":
            yield Message("assistant", (*_thinking(message), *_parts(message, at), *_tool_uses(message)))
        elif message.role in ("tool", "function"):
            answered = message.tool_call_id or message.name or ""
            parts = tuple(part for part in _parts(message, at) if isinstance(part, _SHOWN))
            yield Message("tool", (ToolResult(answered, parts),))
        else:
            raise BadRequest(f"messages[{at}].role: {message.role!r} is no role.", param=f"messages[{at}].role")


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


def _tool_choice(body: _Body) -> ToolChoice | None:
    chosen = body.tool_choice if body.tool_choice is not None else body.function_call
    match chosen:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(chosen)
        case _Named(name):
            return ToolChoice("tool", name)
        case _Choice(function=_Named(name)):
            return ToolChoice("tool", name)
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


# --- written -----------------------------------------------------------------------------------
def write_request(conversation: Conversation, *, model: str, stream: bool, max_tokens: int | None, quirks: Quirks) -> bytes:
    """A request for a provider that speaks Chat Completions. Raises BadRequest for what it cannot say."""
    cap = max_tokens or conversation.max_tokens
    members: dict[str, Any] = {
        "model": model,
        "messages": [written for message in _numbered(conversation, quirks) for written in message],
        "stream": stream or None,
        "stream_options": {"include_usage": True} if stream and quirks.force_usage else None,
        quirks.max_tokens_field: cap,
        "n": conversation.n if conversation.n > 1 else None,
        "tools": [_written_tool(tool) for tool in conversation.tools] or None,
        "tool_choice": _written_choice(conversation.tool_choice) if conversation.tools else None,
        "parallel_tool_calls": conversation.parallel_tools if conversation.tools else None,
        "temperature": conversation.temperature,
        "top_p": conversation.top_p,
        "stop": list(conversation.stop) or None,
        "seed": conversation.seed,
        "frequency_penalty": conversation.frequency_penalty,
        "presence_penalty": conversation.presence_penalty,
        "logit_bias": conversation.logit_bias,
        "logprobs": conversation.logprobs or None,
        "top_logprobs": conversation.top_logprobs,
        "response_format": _written_format(conversation.format, quirks),
        "reasoning_effort": _written_effort(conversation.reasoning),
        "verbosity": conversation.verbosity,
        "user": conversation.user,
        "prompt_cache_key": conversation.prompt_cache_key,
    }
    return _encode({name: value for name, value in members.items() if value is not None})


def _numbered(conversation: Conversation, quirks: Quirks) -> Iterator[list[dict[str, Any]]]:
    for message in conversation.messages:
        if message.role == "tool":
            yield _written_results(message.parts)
        elif message.role == "assistant":
            yield [_written_assistant(message.parts, thought=quirks.returns_reasoning)]
        else:
            yield [{"role": message.role, "content": _written_content(message.parts)}]


def _written_content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    """Plain text where it is nothing else: not every provider takes lists."""
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    return [_written_part(part) for part in parts] if parts else ""


def _written_part(part: Part) -> dict[str, Any]:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Refusal(text):
            return {"type": "refusal", "refusal": text}
        case Image():
            url = part.url or data_urls.join(part.media_type or "image/png", part.data or "")
            return {"type": "image_url", "image_url": {"url": url} | ({"detail": part.detail} if part.detail else {})}
        case Audio():
            return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
        case File():
            return {"type": "file", "file": _written_file(part)}
    raise BadRequest(f"A part of type {type(part).__name__} cannot stand in this place.", param="messages")


def _written_file(part: File) -> dict[str, Any]:
    if part.url:
        raise BadRequest("This model's provider takes no files by address.", param="messages")
    data = data_urls.join(part.media_type or "application/pdf", part.data) if part.data else None
    members = {"file_data": data, "file_id": part.file_id, "filename": part.name or ("document" if data else None)}
    return {name: value for name, value in members.items() if value}


def _written_assistant(parts: Sequence[Part], *, thought: bool) -> dict[str, Any]:
    said = [part for part in parts if isinstance(part, Text)]
    calls = [_written_call(part) for part in parts if isinstance(part, ToolUse)]
    thoughts = "".join(part.text for part in parts if isinstance(part, Thinking))
    refusals = "".join(part.text for part in parts if isinstance(part, Refusal))
    message: dict[str, Any] = {"role": "assistant", "content": "".join(part.text for part in said) or None}
    if thought and calls:
        # Thought that led to a tool call must come back, in all later turns, and be there though it is empty; any other
        # would be refused or ignored: https://api-docs.deepseek.com/guides/thinking_mode
        message["reasoning_content"] = thoughts
    if refusals:
        message["refusal"] = refusals
    if calls:
        message["tool_calls"] = calls
    elif message["content"] is None and not refusals:
        message["content"] = ""
    return message


def _written_call(part: ToolUse) -> dict[str, Any]:
    call: dict[str, Any] = {
        "id": part.id,
        "type": "function",
        "function": {"name": part.name, "arguments": part.arguments or "{}"},
    }
    if part.signature:
        call["extra_content"] = {"google": {"thought_signature": part.signature}}
    return call


def _written_results(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """A tool's message can hold text only: its pictures follow in a message of the user's."""
    messages: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    for result in parts:
        if not isinstance(result, ToolResult):
            raise BadRequest("Only results of tools can stand in a message of role tool.", param="messages")
        text = "\n".join(part.text for part in result.parts if isinstance(part, Text))
        shown += [_written_part(part) for part in result.parts if not isinstance(part, Text)]
        content = f"Error: {text}" if result.is_error else text
        messages.append({"role": "tool", "tool_call_id": result.tool_use_id, "content": content})
    return [*messages, {"role": "user", "content": shown}] if shown else messages


def _written_tool(tool: Tool) -> dict[str, Any]:
    members = {"description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
    return {
        "type": "function",
        "function": {"name": tool.name} | {name: value for name, value in members.items() if value is not None},
    }


def _written_choice(choice: ToolChoice | None) -> str | dict[str, Any] | None:
    if choice is None:
        return None
    if choice.mode != "tool":
        return choice.mode
    return {"type": "function", "function": {"name": choice.name}}


def _written_format(format: Format | None, quirks: Quirks) -> dict[str, Any] | None:
    if format is None:
        return None
    if format.kind == "json" or not quirks.schema_formats:
        return {"type": "json_object"}
    members = {"schema": format.schema, "strict": format.strict, "description": format.description}
    schema = {"name": format.name or "answer"} | {name: value for name, value in members.items() if value is not None}
    return {"type": "json_schema", "json_schema": schema}


# The least tokens of thought that count as so much effort.
_BUDGETS = ((16_384, "high"), (4_096, "medium"), (1, "low"))


def _written_effort(reasoning: Reasoning | None) -> str | None:
    if reasoning is None:
        return None
    if reasoning.effort is not None:
        return reasoning.effort
    budget = reasoning.budget_tokens or 0
    return next((effort for least, effort in _BUDGETS if budget >= least), None)
