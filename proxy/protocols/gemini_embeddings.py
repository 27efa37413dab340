"""Embeddings of Google's Gemini API: `batchEmbedContents`, a vector for each text in one call.

Tokens come with newer models' answers; without them the bill is an estimate, marked.
Source: https://ai.google.dev/api/embeddings
"""

from typing import Any
from urllib.parse import quote

import msgspec

from proxy.canonical.request import Request
from proxy.canonical.usage import Usage
from proxy.protocols import embeddings, whole_bodies
from proxy.protocols.base import BrokenReply, Made, Reply
from proxy.protocols.counts import count
from proxy.protocols.failures import read_failure

NAME = "gemini_embeddings"
SERVES = embeddings.NAME


class _Vector(msgspec.Struct):
    values: list[float]


class _Usage(msgspec.Struct, rename="camel"):
    prompt_token_count: Any = None


class _Answer(msgspec.Struct, rename="camel"):
    embeddings: list[_Vector] | None = None
    usage_metadata: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Answer).decode


def path(model: str, *, stream: bool) -> str:
    return f"/models/{quote(model, safe='')}:batchEmbedContents"


def write_request(request: Request, *, model: str) -> bytes:
    """Raises BadRequest for tokens in place of text, and for members that Gemini does not know."""
    asked = embeddings.asked_of(request)
    size = {} if asked.dimensions is None else {"outputDimensionality": asked.dimensions}
    each = [{"model": f"models/{model}", "content": {"parts": [{"text": text}]}} | size for text in asked.texts]
    return msgspec.json.encode({"requests": each})


def read_made(body: bytes, *, request: Request) -> Made:
    answer = whole_bodies.read(_decode, body, expected="list of embeddings")
    if answer.error:
        raise read_failure(body, status=None)
    if answer.embeddings is None:
        raise BrokenReply("broken", "The provider's answer has no `embeddings`.")
    tokens = count(answer.usage_metadata.prompt_token_count) if answer.usage_metadata else None
    usage = None if tokens is None else Usage(input_uncached=tokens)
    return embeddings.made([vector.values for vector in answer.embeddings], request=request, reply=Reply(usage))
