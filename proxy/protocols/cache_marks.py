"""Automatic cache breakpoints: where the operator asks for them and the caller set none.

Claude caches a prompt only up to where it is told to, wherever it runs. Marked are the last tool, the last system block
and the last block of the last message: what stays the same from call to call, and the whole conversation for the next
turn. All other bytes stay as they are and where they are. Messages and Chat Completions (OpenRouter) have a member for
it, Converse a block of its own (`converse.py`).
Source: https://platform.claude.com/docs/en/build-with-claude/prompt-caching,
https://openrouter.ai/docs/features/prompt-caching
"""

import re
from collections.abc import Container

import msgspec
from msgspec import Raw

from proxy.canonical.request import CacheMarks, Request
from proxy.protocols.bodies import NULL

# Shorter prompts are never cached by the models that cache least readily (4,096 tokens of about four bytes).
LEAST_BYTES = 16_384
PROMPT = ("tools", "system", "messages")
_MARK = b'"cache_control":{"type":"ephemeral"}'
_HOUR = re.compile(rb'"ttl"\s*:\s*"1h"')
# OpenAI's own breakpoint: every lifetime of it is said as an hour elsewhere.
_BREAKPOINT = b'_cache_breakpoint"'
_ANY_MARK = re.compile(rb'cache_(?:control|breakpoint)"\s*:')
# A letter, `_` or 1 written as an escape may spell any of these.
_ESCAPED = re.compile(rb"\\u00(?:31|[567])")
# A request of another protocol is at most so many times as long in the words of one that takes marks: each tool of a
# namespace gets the name of it too, and one without a schema a whole schema; names have 128 characters at most.
_GROWTH = 16
_MARKABLE = frozenset({"text", "image", "document", "tool_use", "tool_result", "search_result"})


class _Said(msgspec.Struct):
    role: str = ""


class _Typed(msgspec.Struct):
    type: str = ""
    text: str | None = None


_list = msgspec.json.Decoder(list[Raw]).decode
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_typed = msgspec.json.Decoder(_Typed).decode
_said = msgspec.json.Decoder(_Said).decode
_write = msgspec.json.Encoder().encode


def marked(fields: dict[str, Raw]) -> dict[str, Raw]:
    """The members of a Messages request with breakpoints. What cannot be read stays as it is: the provider will judge it."""
    if not _wants_marks(fields):
        return fields
    try:
        return fields | _marked_tools(fields) | _marked(fields)
    except msgspec.DecodeError:
        return fields


def marked_chat(fields: dict[str, Raw]) -> dict[str, Raw]:
    """The same of a Chat Completions request, of which only texts and tools take marks."""
    if not _wants_marks(fields):
        return fields
    try:
        messages = _list(fields["messages"])
        roles = [_said(message).role for message in messages]
        system = [at for at, role in enumerate(roles) if role in ("system", "developer")]
        for at in {*system[-1:], len(messages) - 1}:
            message = _members(messages[at])
            if "content" in message:
                message["content"] = _last_marked(message["content"], markable=("text",))
            messages[at] = Raw(_write(message))
        return fields | _marked_tools(fields) | {"messages": Raw(_write(messages))}
    except msgspec.DecodeError:
        return fields


def asked_for(request: Request) -> CacheMarks:
    """What of its prompt the caller asks to be cached, in whatever protocol: never less, though it may be more, than a
    provider will be told."""
    if request.cache_marks is None:
        request.cache_marks = _asked_for(request.fields)
    return request.cache_marks


def _asked_for(fields: dict[str, Raw]) -> CacheMarks:
    text = b"\n".join(fields.values())
    is_marked = "cache_control" in fields or _ANY_MARK.search(text) is not None
    if is_marked and (_HOUR.search(text) or (_BREAKPOINT in text and b'"ttl"' in text)):
        return "any"
    if _ESCAPED.search(text):
        return "any"
    return "short" if is_marked else "none"


def may_be_set(request: Request, *, translated: bool) -> bool:
    """Whether a request without marks is long enough to get automatic ones. `translated`: by a provider of another protocol."""
    fields = request.fields
    if translated:
        return sum(map(len, fields.values())) * _GROWTH >= LEAST_BYTES
    return sum(len(fields[name]) for name in PROMPT if name in fields) >= LEAST_BYTES


def last_an_hour(body: bytes) -> bool:
    """Whether a request asks for what it caches to be kept an hour, for providers that do not say how long they do."""
    return _ANY_MARK.search(body) is not None and _HOUR.search(body) is not None


def _wants_marks(fields: dict[str, Raw]) -> bool:
    prompt = [bytes(fields[name]) for name in PROMPT if name in fields]
    has_none = "cache_control" not in fields and not any(b'"cache_control"' in part for part in prompt)
    return has_none and sum(map(len, prompt)) >= LEAST_BYTES


def _marked_tools(fields: dict[str, Raw]) -> dict[str, Raw]:
    tools = _list(fields["tools"]) if "tools" in fields else []
    if not tools or b'"defer_loading"' in bytes(tools[-1]):  # such a tool is no part of the prompt
        return {}
    return {"tools": Raw(_write([*tools[:-1], _with_mark(tools[-1])]))}


def _marked(fields: dict[str, Raw]) -> dict[str, Raw]:
    found = {"system": _last_marked(fields["system"])} if "system" in fields else {}
    messages = _list(fields["messages"])
    last = _members(messages[-1])
    last["content"] = _last_marked(last["content"])
    return found | {"messages": Raw(_write([*messages[:-1], last]))}


def _last_marked(content: Raw, *, markable: Container[str] = _MARKABLE) -> Raw:
    """A text, or a list of blocks. Thinking and empty texts take no mark."""
    if bytes(content).lstrip().startswith(b'"'):
        return Raw(b'[{"type":"text","text":' + bytes(content) + b"," + _MARK + b"}]") if len(content) > 2 else content
    blocks = _list(content) if content != NULL else []
    last = _typed(blocks[-1]) if blocks else _Typed()
    if last.type not in markable or last.text == "":
        return content
    return Raw(_write([*blocks[:-1], _with_mark(blocks[-1])]))


def _with_mark(block: Raw) -> Raw:
    body = bytes(block).rstrip()
    return Raw(body[:-1].rstrip() + (b"," if len(body) > 2 else b"") + _MARK + b"}")
