"""The text by which a request's complexity is judged: what its user asked last."""

from __future__ import annotations

from proxy.canonical.conversation import Text
from proxy.canonical.request import Request
from proxy.complexity import scoring
from proxy.errors import BadRequest
from proxy.protocols import registry

# Where the request cannot be read as a conversation, it is taken for an ordinary one.
ORDINARY = 0.5


def need(request: Request) -> float:
    """From 0 to 1: the share of ordinary questions that need a strong model less."""
    codec = registry.CHAT_CALLERS.get(request.protocol)
    if codec is None or not request.fields:
        return ORDINARY
    try:
        messages = codec.conversation(request).messages
    except BadRequest:
        return ORDINARY
    asked = next((message for message in reversed(messages) if message.role == "user"), None)
    text = "\n".join(part.text for part in asked.parts if isinstance(part, Text)) if asked is not None else ""
    return scoring.score(text) if text else ORDINARY
