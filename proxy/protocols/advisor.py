"""Anthropic's tool by which a model consults another one on its way (`advisor_20260301`), left out of a request.

Agents send it with every call where somebody has set it up, and work without it: so it is no reason to refuse them, as other
tools that consult models are (`other_models`). What it said before goes too, since Anthropic refuses its blocks without it.
Source: https://platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool
"""

import re

import msgspec
from msgspec import Raw

from proxy.errors import BadRequest
from proxy.protocols.bodies import NULL

# Where these bytes are not, there is nothing to leave out.
MARK = b"advisor"
TOOL, BLOCKS = "tools.advisor", "messages.advisor_tool_result"
_KIND = re.compile(r"advisor_\d+")


class _Named(msgspec.Struct):
    type: str | None = None
    name: str | None = None


_list = msgspec.json.Decoder(list[Raw]).decode
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_named = msgspec.json.Decoder(_Named).decode
_choice = msgspec.json.Decoder(_Named | None).decode
_write = msgspec.json.Encoder().encode


def without(fields: dict[str, Raw]) -> tuple[dict[str, Raw], tuple[str, ...]]:
    """Members of a request that was read before, and what is left out of them. What cannot be read stays as it is.

    Raises BadRequest where nothing else may be called.
    """
    try:
        given = _list(fields["messages"])
        kept = [said for message in given if (said := _unadvised(message)) is not None]
        told = _without_tool(fields)
    except msgspec.DecodeError:
        return fields, ()
    left = (TOOL,) if told is not fields else ()
    return (told, left) if kept == given else (told | {"messages": Raw(_write(kept))}, (*left, BLOCKS))


def _without_tool(fields: dict[str, Raw]) -> dict[str, Raw]:
    """The same where it is not offered."""
    given = _list(fields["tools"]) if fields.get("tools", NULL) != NULL else []
    kept: list[Raw] = []
    names: set[str | None] = set()  # of those that go
    for tool in given:
        named = _named(tool)
        if _KIND.fullmatch(named.type or ""):
            names.add(named.name)
        else:
            kept.append(tool)
    if not names:
        return fields
    choice = _choice(fields.get("tool_choice", NULL)) or _Named()
    if (choice.type == "tool" and choice.name in names) or (choice.type == "any" and not kept):
        raise BadRequest(
            "tool_choice: `advisor` asks another model, which has a price and rules of its own; it is not offered here.",
            param="tool_choice",
        )
    if kept:
        return fields | {"tools": Raw(_write(kept))}
    return {name: raw for name, raw in fields.items() if name not in ("tools", "tool_choice")}


def _unadvised(message: Raw) -> Raw | None:
    """None where nothing is left: no message may be empty."""
    members = _members(message) if MARK in bytes(message) else {}
    if not bytes(members.get("content", NULL)).lstrip().startswith(b"["):
        return message
    blocks = _list(members["content"])
    kept = [block for block in blocks if not _is_advice(_named(block))]
    if kept == blocks:
        return message
    return Raw(_write(members | {"content": kept})) if kept else None


def _is_advice(block: _Named) -> bool:
    return block.type == "advisor_tool_result" or (block.type == "server_tool_use" and block.name == "advisor")
