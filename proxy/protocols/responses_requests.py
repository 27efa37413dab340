"""A `Conversation` as a Responses request, for models that are served by this protocol only.

Nothing is asked to be kept (`store: false`). Thinking goes back only where this provider signed it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from proxy.canonical.conversation import (
    SIGNED_BY_OPENAI,
    Audio,
    Conversation,
    File,
    Format,
    Image,
    Message,
    Part,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from proxy.errors import BadRequest
from proxy.protocols import data_urls, openai_models, tool_ids
from proxy.protocols import unsaid as unsaid_of
from proxy.protocols.base import Quirks, Written
from proxy.protocols.responses_items import LOGPROBS

# OpenAI takes no smaller bound, and some clients ask for one token to see whether a model is there.
LEAST_OUTPUT = 16
ENCRYPTED = "reasoning.encrypted_content"
_SAID = frozenset({"temperature", "top_p", "reasoning", "verbosity", "user", "prompt_cache_key", "parallel_tools"})
# Of Chat Completions, with the same meaning here.
_TAKES = frozenset({
    "metadata", "service_tier", "safety_identifier", "prompt_cache_retention", "prompt_cache_options", "moderation"
})  # fmt: skip
Members = dict[str, Any]


def write_request(conversation: Conversation, *, model: str, stream: bool, max_tokens: int | None, quirks: Quirks) -> Written:
    """Raises BadRequest for several answers at once, which this protocol does not have, and for stop sequences, unless the
    gateway itself chose it for the sake of tools (`Provider.protocol_for`): these models take none in Chat Completions either."""
    asked = conversation
    chosen = bool(asked.tools) and openai_models.calls_in_responses(model)
    if asked.stop and not chosen:
        raise BadRequest("This model's provider takes no stop sequences.", param="stop")
    if asked.n > 1:
        raise BadRequest("This model's provider gives one answer per call.", param="n")
    takes = _TAKES | quirks.takes
    bound = asked.max_tokens if max_tokens is None else max_tokens
    thinks = asked.reasoning is not None and asked.reasoning.effort != "none"
    include = [name for name, wanted in ((ENCRYPTED, thinks), (LOGPROBS, asked.logprobs)) if wanted]
    reasoning = _reasoning(asked) or {}
    samples = openai_models.takes_sampling(model, reasoning.get("effort"))
    spelled: Callable[[str], str] = (
        partial(tool_ids.bounded, most=tool_ids.MOST_IN_RESPONSES, model=model) if quirks.bounds_ids else str
    )
    members: Members = {
        "model": model,
        "input": [item for message in asked.messages for item in _items(message, spelled)],
        "store": False,
        "stream": stream or None,
        "tools": [_tool(tool) for tool in asked.tools] or None,
        "tool_choice": None if asked.tool_choice is None else _choice(asked.tool_choice),
        "parallel_tool_calls": asked.parallel_tools,
        "max_output_tokens": None if bound is None else max(LEAST_OUTPUT, bound),
        "temperature": asked.temperature if samples else None,
        "top_p": asked.top_p if samples else None,
        "top_logprobs": asked.top_logprobs,
        "include": include or None,
        "text": _text(asked.format, asked.verbosity),
        "reasoning": reasoning or None,
        "safety_identifier": asked.user,
        "prompt_cache_key": asked.prompt_cache_key,
        **unsaid_of.taken(asked, takes),
    }
    body = msgspec.json.encode({name: value for name, value in members.items() if value is not None})
    parts = (unsaid_of.DETAIL, unsaid_of.STRICT)
    said = _SAID if samples else _SAID - {"temperature", "top_p"}
    unsaid = unsaid_of.unsaid(asked, said=said, takes=takes, parts=parts)
    return Written(body, ("stop", *unsaid) if asked.stop else unsaid)


# --- items -------------------------------------------------------------------------------------
def _items(message: Message, spelled: Callable[[str], str]) -> list[Members]:
    """A turn of the model falls into its items; texts that follow each other stay one message."""
    items: list[Members] = []
    for part in message.parts:
        match part:
            case ToolUse():
                call = {"type": "function_call", "call_id": spelled(part.id), "name": part.name, "arguments": part.arguments}
                items.append(call)
            case ToolResult():
                items.append({"type": "function_call_output", "call_id": spelled(part.tool_use_id), "output": _output(part)})
            case Thinking():
                items += _thinking(part)
            case _:
                if not items or items[-1]["type"] != "message":
                    items.append({"type": "message", "role": message.role, "content": []})
                items[-1]["content"].append(_content(part, spoken=message.role == "assistant"))
    return items


def _content(part: Part, *, spoken: bool = False) -> Members:
    match part:
        case Text():
            return {"type": "output_text" if spoken else "input_text", "text": part.text}
        case Refusal():
            return {"type": "refusal", "refusal": part.text}
        case Image():
            return {"type": "input_image", "image_url": part.url or _inline(part), "detail": part.detail or "auto"}
        case File():
            return _file(part)
        case Audio():
            return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
        case _:
            raise BadRequest("A message holds something that this model's provider cannot be told there.", param="messages")


def _file(part: File) -> Members:
    if part.file_id is not None:
        return {"type": "input_file", "file_id": part.file_id}
    if part.url is not None:
        return {"type": "input_file", "file_url": part.url}
    return {"type": "input_file", "filename": part.name or "file", "file_data": _inline(part)}


def _inline(part: Image | File) -> str:
    return data_urls.join(part.media_type or "application/octet-stream", part.data or "")


def _output(result: ToolResult) -> str | list[Members]:
    texts = [part.text for part in result.parts if isinstance(part, Text)]
    prefix = "Error: " if result.is_error else ""
    if len(texts) == len(result.parts):
        return prefix + "\n".join(texts)
    return [*([_content(Text(prefix))] if prefix else []), *map(_content, result.parts)]


def _thinking(part: Thinking) -> list[Members]:
    """Signed by `responses_replies.sign`; what others signed or nobody did is left out."""
    signed = part.signature or ""
    if not signed.startswith(SIGNED_BY_OPENAI):
        return []
    item_id, _, content = signed.removeprefix(SIGNED_BY_OPENAI).partition(".")
    summary = [{"type": "summary_text", "text": part.text}] if part.text else []
    return [{"type": "reasoning", "id": item_id, "summary": summary, "encrypted_content": content}]


# --- settings ----------------------------------------------------------------------------------
def _tool(tool: Tool) -> Members:
    """`strict` must be said: its default here is true, and schemas that were not made for it would be refused."""
    written = {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters if tool.parameters is not None else {"type": "object", "properties": {}},
        "strict": bool(tool.strict),
    }
    return {name: value for name, value in written.items() if value is not None}


def _choice(choice: ToolChoice) -> str | Members:
    return {"type": "function", "name": choice.name} if choice.mode == "tool" else choice.mode


def _text(form: Format | None, verbosity: str | None) -> Members | None:
    text: Members = {}
    if form is not None and form.kind == "json":
        text["format"] = {"type": "json_object"}
    elif form is not None:
        schema = {"type": "json_schema", "name": form.name or "answer", "schema": form.schema, "strict": form.strict}
        text["format"] = {name: value for name, value in schema.items() if value is not None}
        if form.description is not None:
            text["format"]["description"] = form.description
    if verbosity is not None:
        text["verbosity"] = verbosity
    return text or None


def _reasoning(asked: Conversation) -> Members | None:
    """A bound in tokens is told as the effort nearest to it."""
    if asked.reasoning is None:
        return None
    effort = asked.reasoning.effort
    if effort is None and asked.reasoning.budget_tokens is not None:
        budget = asked.reasoning.budget_tokens
        effort = "low" if budget <= 4096 else "medium" if budget <= 16_384 else "high"
    told = {"effort": effort, "summary": "auto" if asked.reasoning.visible else None}
    return {name: value for name, value in told.items() if value is not None} or None
