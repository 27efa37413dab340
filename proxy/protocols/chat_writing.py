"""A `Conversation` → a Chat Completions request, for a provider that speaks it.

Thought, its signatures and cache breakpoints go into vendors' members, where a provider is known to take them (`Quirks`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw

from proxy.canonical.conversation import (
    Audio,
    CacheMark,
    Conversation,
    File,
    Format,
    Image,
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
from proxy.errors import BadRequest
from proxy.protocols import cache_marks, claude_models, data_urls, openai_models, tool_ids
from proxy.protocols import unsaid as unsaid_of
from proxy.protocols.base import Quirks, Written

_encode = msgspec.json.Encoder().encode
_SAID = frozenset(unsaid_of.SETTINGS) - {"top_k"} | {"parallel_tools"}
_SAID_OF_PARTS = frozenset({unsaid_of.DETAIL, unsaid_of.STRICT})


def write_request(conversation: Conversation, *, model: str, stream: bool, max_tokens: int | None, quirks: Quirks) -> Written:
    """A request for a provider that speaks Chat Completions. Raises BadRequest for what it cannot say."""
    cap = max_tokens or conversation.max_tokens
    effort = _written_effort(conversation.reasoning)
    samples = openai_models.takes_sampling(model, effort)
    members: dict[str, Any] = {
        "model": model,
        "messages": [written for message in _numbered(conversation, quirks, model) for written in message],
        "stream": stream or None,
        "stream_options": {"include_usage": True} if stream and quirks.force_usage else None,
        quirks.max_tokens_field: cap,
        "n": conversation.n if conversation.n > 1 else None,
        "tools": [_written_tool(tool, marks=quirks.cache_marks) for tool in conversation.tools] or None,
        "tool_choice": _written_choice(conversation.tool_choice) if conversation.tools else None,
        "parallel_tool_calls": conversation.parallel_tools if conversation.tools else None,
        "temperature": conversation.temperature if samples else None,
        "top_p": conversation.top_p if samples else None,
        "top_k": conversation.top_k if "top_k" in quirks.takes else None,
        "stop": list(conversation.stop) or None,
        quirks.seed_field: conversation.seed,
        "frequency_penalty": conversation.frequency_penalty,
        "presence_penalty": conversation.presence_penalty,
        "logit_bias": conversation.logit_bias,
        "logprobs": conversation.logprobs or None,
        "top_logprobs": conversation.top_logprobs,
        "response_format": _written_format(conversation.format, quirks),
        "reasoning_effort": effort,
        "verbosity": conversation.verbosity,
        "user": conversation.user,
        "prompt_cache_key": conversation.prompt_cache_key,
        **unsaid_of.taken(conversation, quirks.takes),
    }
    for name in quirks.lacks:
        members[name] = None
    given = {name: value for name, value in members.items() if value is not None}
    if quirks.auto_cache and claude_models.version(model):
        given = dict(cache_marks.marked_chat({name: Raw(_encode(value)) for name, value in given.items()}))
    return Written(_encode(given), _unsaid(conversation, members, quirks))


def _unsaid(conversation: Conversation, members: dict[str, Any], quirks: Quirks) -> tuple[str, ...]:
    said = (_SAID | quirks.takes) - quirks.lacks
    said -= {name for name in ("temperature", "top_p") if members[name] is None}
    if members["reasoning_effort"] is None:
        said -= {"reasoning"}
    parts = _SAID_OF_PARTS | {unsaid_of.CACHE} if quirks.cache_marks and not _marks_calls(conversation) else _SAID_OF_PARTS
    found = unsaid_of.unsaid(conversation, said=said, takes=quirks.takes, parts=parts)
    form = conversation.format
    return (*found, "format") if form is not None and form.kind == "schema" and not quirks.schema_formats else found


def _marks_calls(conversation: Conversation) -> bool:
    """A call of a tool takes no mark here."""
    parts = (part for message in conversation.messages if message.role == "assistant" for part in message.parts)
    return any(isinstance(part, ToolUse) and part.cache is not None for part in parts)


def _numbered(conversation: Conversation, quirks: Quirks, model: str) -> Iterator[list[dict[str, Any]]]:
    spelled: Callable[[str], str] = (
        partial(tool_ids.bounded, most=tool_ids.MOST_IN_CHAT, model=model) if quirks.bounds_ids else str
    )
    for message in conversation.messages:
        if message.role == "tool":
            yield _written_results(message.parts, marks=quirks.cache_marks, spelled=spelled)
        elif message.role == "assistant":
            yield [_written_assistant(message.parts, quirks, spelled)]
        else:
            yield [{"role": message.role, "content": _written_content(message.parts, marks=quirks.cache_marks)}]


def _written_content(parts: Sequence[Part], *, marks: bool) -> str | list[dict[str, Any]]:
    """Plain text where it is nothing else: not every provider takes lists. `marks`: it takes cache breakpoints."""
    if len(parts) == 1 and isinstance(parts[0], Text) and not (marks and parts[0].cache):
        return parts[0].text
    written = [_written_part(part) for part in parts]
    if marks:
        written = [_with_mark(block, getattr(part, "cache", None)) for block, part in zip(written, parts, strict=True)]
    return written or ""


def _with_mark(block: dict[str, Any], mark: CacheMark | None) -> dict[str, Any]:
    if mark is None:
        return block
    return block | {"cache_control": {"type": "ephemeral"} | ({"ttl": mark.ttl} if mark.ttl != "5m" else {})}


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


def _written_assistant(parts: Sequence[Part], quirks: Quirks, spelled: Callable[[str], str]) -> dict[str, Any]:
    said = [part for part in parts if isinstance(part, Text)]
    calls = [_written_call(part, spelled(part.id)) for part in parts if isinstance(part, ToolUse)]
    thoughts = "".join(part.text for part in parts if isinstance(part, Thinking))
    refusals = "".join(part.text for part in parts if isinstance(part, Refusal))
    message: dict[str, Any] = {"role": "assistant", "content": "".join(part.text for part in said) or None}
    if quirks.cache_marks and any(part.cache for part in said):
        message["content"] = _written_content(said, marks=True)
    if quirks.returns_reasoning and calls:
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


def _written_call(part: ToolUse, id: str) -> dict[str, Any]:
    call: dict[str, Any] = {
        "id": id,
        "type": "function",
        "function": {"name": part.name, "arguments": part.arguments or "{}"},
    }
    if part.signature:
        call["extra_content"] = {"google": {"thought_signature": part.signature}}
    return call


def _written_results(parts: Iterable[Part], *, marks: bool, spelled: Callable[[str], str]) -> list[dict[str, Any]]:
    """A tool's message can hold text only: its pictures follow in a message of the user's."""
    messages: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    for result in parts:
        if not isinstance(result, ToolResult):
            raise BadRequest("Only results of tools can stand in a message of role tool.", param="messages")
        text = "\n".join(part.text for part in result.parts if isinstance(part, Text))
        shown += [_written_part(part) for part in result.parts if not isinstance(part, Text)]
        told = f"Error: {text}" if result.is_error else text
        mark = result.cache or next((part.cache for part in result.parts if part.cache), None) if marks else None
        content = _written_content((Text(told, mark),), marks=marks)
        messages.append({"role": "tool", "tool_call_id": spelled(result.tool_use_id), "content": content})
    return [*messages, {"role": "user", "content": shown}] if shown else messages


def _written_tool(tool: Tool, *, marks: bool) -> dict[str, Any]:
    members = {"description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
    written: dict[str, Any] = {
        "type": "function",
        "function": {"name": tool.name} | {name: value for name, value in members.items() if value is not None},
    }
    return _with_mark(written, tool.cache) if marks else written


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
