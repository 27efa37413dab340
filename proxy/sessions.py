"""Which session a call belongs to: calls of one session go to one deployment, where their prompt is cached.

A session is named by the caller; where it is not, and the prompt is long enough for a provider to cache, the beginning of
the prompt names it. Only a digest leaves this module, and it stays in memory: no text of a prompt is kept.
"""

from __future__ import annotations

from hashlib import blake2b

from proxy.canonical.request import Request
from proxy.protocols.bodies import decoded

HEADER = "x-gatehouse-session"
# Shorter prompts are cached by no provider, so nothing is won by sending them where others of their kind went.
LEAST_TOKENS = 1024
# Of each member that opens a prompt: what follows differs from turn to turn.
PREFIX_BYTES = 2048
# Members of any protocol that a prompt begins with.
OPENING = ("tools", "system", "systemInstruction", "instructions", "messages", "input", "contents")
# Names that callers give to a conversation or its user, in the metadata of any protocol.
NAMES = ("session_id", "conversation_id", "user_id")


def session_of(request: Request, *, key_id: int, named: str = "") -> bytes | None:
    """16 bytes, the same for every call of a session of this key; None where no session can be told. `named`: by a header."""
    name = named or _named(request)
    if name:
        return _digest(key_id, b"named", name.encode(errors="replace"))
    if request.input_tokens_estimate < LEAST_TOKENS:
        return None
    opening = [bytes(request.fields[member])[:PREFIX_BYTES] for member in OPENING if member in request.fields]
    return _digest(key_id, b"opening", *opening) if opening else None


def _named(request: Request) -> str:
    metadata = request.metadata or {}
    found = (_text(request, "prompt_cache_key"), *(metadata.get(name) for name in NAMES), request.user)
    return next((name for name in found if isinstance(name, str) and name), "")


def _text(request: Request, member: str) -> object:
    return decoded(request.fields.get(member))


def _digest(key_id: int, *parts: bytes) -> bytes:
    digest = blake2b(digest_size=16, key=str(key_id).encode())
    for part in parts:
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()
