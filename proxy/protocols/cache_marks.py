"""Automatic cache breakpoints: where the operator asks for them and the caller set none.

Anthropic caches a prompt only up to where it is told to. Marked are the last tool, the last system block and the last
block of the last message: what stays the same from call to call, and the whole conversation for the next turn. All
other bytes stay as they are and where they are.
Source: https://platform.claude.com/docs/en/build-with-claude/prompt-caching
"""

import msgspec
from msgspec import Raw

# Shorter prompts are never cached by the models that cache least readily (4,096 tokens of about four bytes).
LEAST_BYTES = 16_384
_MARK = b'"cache_control":{"type":"ephemeral"}'
_MARKABLE = frozenset({"text", "image", "document", "tool_use", "tool_result", "search_result"})


class _Typed(msgspec.Struct):
    type: str = ""
    text: str | None = None


_list = msgspec.json.Decoder(list[Raw]).decode
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_typed = msgspec.json.Decoder(_Typed).decode
_write = msgspec.json.Encoder().encode


def marked(fields: dict[str, Raw]) -> dict[str, Raw]:
    """The members of a Messages request with breakpoints. What cannot be read stays as it is: the provider will judge it."""
    prompt = [bytes(fields[name]) for name in ("tools", "system", "messages") if name in fields]
    if sum(map(len, prompt)) < LEAST_BYTES or "cache_control" in fields or any(b'"cache_control"' in part for part in prompt):
        return fields
    try:
        return fields | _marked(fields)
    except msgspec.DecodeError:
        return fields


def _marked(fields: dict[str, Raw]) -> dict[str, Raw]:
    found = {}
    tools = _list(fields["tools"]) if "tools" in fields else []
    if tools and b'"defer_loading"' not in bytes(tools[-1]):  # such a tool is no part of the prompt
        found["tools"] = Raw(_write([*tools[:-1], _with_mark(tools[-1])]))
    if "system" in fields:
        found["system"] = _last_marked(fields["system"])
    messages = _list(fields["messages"])
    last = _members(messages[-1])
    last["content"] = _last_marked(last["content"])
    return found | {"messages": Raw(_write([*messages[:-1], last]))}


def _last_marked(content: Raw) -> Raw:
    """A text, or a list of blocks. Thinking and empty texts take no mark."""
    if bytes(content).lstrip().startswith(b'"'):
        return Raw(b'[{"type":"text","text":' + bytes(content) + b"," + _MARK + b"}]") if len(content) > 2 else content
    blocks = _list(content)
    last = _typed(blocks[-1]) if blocks else _Typed()
    if last.type not in _MARKABLE or last.text == "":
        return content
    return Raw(_write([*blocks[:-1], _with_mark(blocks[-1])]))


def _with_mark(block: Raw) -> Raw:
    body = bytes(block).rstrip()
    return Raw(body[:-1].rstrip() + (b"," if len(body) > 2 else b"") + _MARK + b"}")
