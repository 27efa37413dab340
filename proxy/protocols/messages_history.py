"""Thinking and citations that Anthropic never signed, in a conversation that began at another provider.

Messages has a place for thinking, so a caller gets the thought of other providers there, with an empty signature or
theirs, and sends it back with the next turn. Anthropic refuses such blocks (it takes none that it has not signed), so
they are left out on the way there. So are citations of pages, which other providers' answers have without a seal.
Everything else stays byte for byte.
"""

import re

import msgspec
from msgspec import Raw

from proxy.canonical.conversation import SIGNED_BY_OPENAI, Thinking

_UNSEALED = re.compile(rb'"encrypted_index":\s*""')
_UNSIGNED = re.compile(rb'"signature":\s*"(?:"|' + re.escape(SIGNED_BY_OPENAI.encode()) + rb")|" + _UNSEALED.pattern)
_THINKING = ("thinking", "redacted_thinking")


class _Typed(msgspec.Struct):
    type: str = ""
    signature: str | None = None


_list = msgspec.json.Decoder(list[Raw]).decode
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_typed = msgspec.json.Decoder(_Typed).decode
_write = msgspec.json.Encoder().encode


def without_unsigned(fields: dict[str, Raw]) -> dict[str, Raw]:
    """The members of a request for Anthropic. Where the turn under way used tools after such thought, it ends without
    thinking by a number of tokens, which every turn must begin with. What cannot be read stays as it is."""
    given = bytes(fields["messages"])
    if not _UNSIGNED.search(given):
        return fields
    try:
        messages = [kept for message in _list(given) if (kept := _signed(message)) is not None]
        fields = fields | {"messages": Raw(_write(messages))}
        if _is_thinking(fields) and _turn_lacks_thought(messages):
            fields["thinking"] = Raw(b'{"type":"disabled"}')
    except msgspec.DecodeError:
        return fields
    return fields


def _signed(message: Raw) -> Raw | None:
    """None where nothing is left."""
    if not _UNSIGNED.search(bytes(message)):
        return message
    members = _members(message)
    if not bytes(members["content"]).lstrip().startswith(b"["):
        return message
    blocks = _list(members["content"])
    kept = [_uncited(block) for block in blocks if not _is_unsigned(_typed(block))]
    if kept == blocks:
        return message
    return Raw(_write(members | {"content": kept})) if kept else None


def _uncited(block: Raw) -> Raw:
    """A text without citations that nobody sealed."""
    if not _UNSEALED.search(bytes(block)):
        return block
    members = _members(block)
    return Raw(_write({name: raw for name, raw in members.items() if name != "citations"}))


def _is_unsigned(block: _Typed) -> bool:
    return block.type == "thinking" and not Thinking(signature=block.signature).is_sealed_by_claude


def _is_thinking(fields: dict[str, Raw]) -> bool:
    return b'"enabled"' in bytes(fields.get("thinking", Raw(b"")))


def _turn_lacks_thought(messages: list[Raw]) -> bool:
    """Whether the last turn of the assistant calls tools without having begun with thought."""
    for message in reversed(messages):
        members = _members(message)
        if bytes(members.get("role", Raw(b""))) != b'"assistant"':
            continue
        if not bytes(members["content"]).lstrip().startswith(b"["):
            return False
        types = [_typed(block).type for block in _list(members["content"])]
        return "tool_use" in types and types[0] not in _THINKING
    return False
