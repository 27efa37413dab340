"""Applying a preset to a call, in the words of its caller's protocol.

Guarantees: what the caller said stays; the preset's system prompt comes before any of the caller's; members that neither
touches stay byte for byte.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from proxy.canonical.preset import Preset
from proxy.errors import BadRequest
from proxy.protocols.bodies import NULL

Fields = dict[str, Raw]

_encode = msgspec.json.Encoder().encode


def applied(preset: Preset, fields: Fields, *, protocol: str) -> bytes:
    """The body of the call as if its caller had said it all. Raises BadRequest where the protocol has no presets."""
    write = _WRITERS.get(protocol)
    if write is None:
        raise BadRequest("Presets are for chat: this route takes none.", param="model")
    given = {name: raw for name, raw in fields.items() if raw != NULL}
    return _encode(given | write(preset, given))


def _chat(preset: Preset, fields: Fields) -> dict[str, Any]:
    wanted = preset.parameters
    members: dict[str, Any] = {
        "temperature": wanted.temperature,
        "top_p": wanted.top_p,
        "reasoning_effort": wanted.reasoning_effort,
        "stop": list(wanted.stop) or None,
        "max_tokens": None if "max_completion_tokens" in fields else wanted.max_tokens,
    }
    added = _absent(members, fields)
    if preset.system and "messages" in fields:
        added["messages"] = _with_first({"role": "system", "content": preset.system}, fields["messages"])
    return added


def _messages(preset: Preset, fields: Fields) -> dict[str, Any]:
    wanted = preset.parameters
    members: dict[str, Any] = {
        "temperature": wanted.temperature,
        "top_p": wanted.top_p,
        "max_tokens": wanted.max_tokens,
        "stop_sequences": list(wanted.stop) or None,
        "output_config": {"effort": wanted.reasoning_effort} if wanted.reasoning_effort else None,
    }
    added = _absent(members, fields)
    if preset.system:
        system = fields.get("system")
        if system is not None and bytes(system).lstrip().startswith(b"["):
            added["system"] = _with_first({"type": "text", "text": preset.system}, system)
        else:
            added["system"] = _before(preset.system, system)
    return added


def _responses(preset: Preset, fields: Fields) -> dict[str, Any]:
    wanted = preset.parameters
    members: dict[str, Any] = {
        "temperature": wanted.temperature,
        "top_p": wanted.top_p,
        "max_output_tokens": wanted.max_tokens,
        "reasoning": {"effort": wanted.reasoning_effort} if wanted.reasoning_effort else None,
    }
    added = _absent(members, fields)
    if preset.system:
        added["instructions"] = _before(preset.system, fields.get("instructions"))
    return added


_WRITERS: dict[str, Callable[[Preset, Fields], dict[str, Any]]] = {
    "chat_completions": _chat,
    "messages": _messages,
    "responses": _responses,
}


def _absent(members: dict[str, Any], fields: Fields) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None and name not in fields}


def _with_first(member: dict[str, str], listed: Raw) -> Raw:
    """A list with one more member in front. What is no list stays, for its reader to refuse."""
    raw = bytes(listed).lstrip()
    if not raw.startswith(b"["):
        return listed
    rest = raw[1:].lstrip()
    return Raw(b"[" + _encode(member) + (b"" if rest.startswith(b"]") else b",") + rest)


def _before(text: str, given: Raw | None) -> str | Raw:
    if given is None:
        return text
    raw = bytes(given).strip()
    if not raw.startswith(b'"'):
        return given  # for its reader to refuse
    # Joined as they are written: half a character of the caller's must not cost the preset's own words.
    return Raw(_encode(f"{text}\n\n")[:-1] + raw[1:])
