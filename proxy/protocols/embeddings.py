"""OpenAI's Embeddings: `POST /v1/embeddings`. Input only: nothing of the answer is priced.

Source: openai-python 3.52 types; https://platform.openai.com/docs/api-reference/embeddings
"""

import base64
import struct
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from proxy.canonical.estimate import text_tokens
from proxy.canonical.request import Request
from proxy.canonical.usage import Usage
from proxy.errors import BadRequest
from proxy.protocols import whole_bodies
from proxy.protocols.base import BrokenReply, Made, Quirks, Reply
from proxy.protocols.bodies import BodyReader, decoded
from proxy.protocols.counts import count
from proxy.protocols.event_taps import EventTap
from proxy.protocols.failures import read_failure
from proxy.protocols.members import given
from proxy.protocols.openai_errors import render_error, render_stream_error

__all__ = ["HEADERS", "NAME", "parse", "pass_through", "path", "read_reply", "reader", "render_error", "render_stream_error"]

NAME = "embeddings"
HEADERS: tuple[str, ...] = ()


class _Body(msgspec.Struct):
    model: str | None = None
    input: str | list[str | int | list[int]] | None = None
    user: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: Any = None
    total_tokens: Any = None


class _Answer(msgspec.Struct):
    data: list[Any] | None = None
    model: str | None = None
    usage: _Usage | None = None
    error: Any = None


_body = BodyReader(_Body)
_decode = msgspec.json.Decoder(_Answer).decode
_write = msgspec.json.Encoder().encode


def parse(body: bytes, headers: Mapping[str, str] | None = None) -> Request:
    """Raises BadRequest, with the path of the offending member as `param`."""
    read, fields = _body.read(body)
    if not read.model:
        raise BadRequest("The request must name a model.", param="model")
    if not read.input:
        raise BadRequest("`input` must hold at least one text.", param="input")
    return Request(
        protocol=NAME,
        kind="embedding",
        model=read.model,
        fields=fields,
        input_tokens_estimate=_tokens(read.input, bytes(fields["input"])),
        output_bound=0,
        user=read.user,
    )


def _tokens(given: str | list[str | int | list[int]], raw: bytes) -> int:
    """Tokens that the caller made himself are counted, text is estimated."""
    if isinstance(given, str):
        return text_tokens(raw)
    counted = sum(1 if isinstance(part, int) else len(part) for part in given if not isinstance(part, str))
    texts = [part for part in given if isinstance(part, str)]
    return counted + (text_tokens(raw if len(texts) == len(given) else _write(texts)) if texts else 0)


def path(model: str, *, stream: bool) -> str:
    return "/embeddings"


def pass_through(request: Request, *, model: str, max_tokens: int | None, quirks: Quirks) -> bytes:
    return _write(request.fields | {"model": Raw(_write(model))})


def read_reply(body: bytes) -> Reply:
    """Raises BrokenReply, AttemptFailed."""
    answer = whole_bodies.read(_decode, body, expected="list of embeddings")
    if answer.error:
        raise read_failure(body, status=None)
    if answer.data is None:
        raise BrokenReply("broken", "The provider's answer has no `data`.")
    told = answer.usage or _Usage()
    tokens = count(told.prompt_tokens)
    tokens = count(told.total_tokens) if tokens is None else tokens
    usage = None if tokens is None else Usage(input_uncached=tokens)
    return Reply(usage, model=answer.model, has_output=bool(answer.data))


# --- for providers that speak otherwise ---------------------------------------------------------
class Asked(msgspec.Struct, frozen=True):
    texts: list[str]
    dimensions: int | None = None


def asked_of(request: Request) -> Asked:
    """Raises BadRequest for what only OpenAI's own protocol says."""
    members = given(request, read=("model", "input", "dimensions", "encoding_format", "user"), as_always={})
    texts = [members["input"]] if isinstance(members["input"], str) else members["input"]
    if not all(isinstance(text, str) for text in texts):
        raise BadRequest("input: this model's provider takes text, no tokens.", param="input")
    dimensions = members.get("dimensions")
    if dimensions is not None and type(dimensions) is not int:
        raise BadRequest("dimensions: must be a whole number.", param="dimensions")
    return Asked(texts, dimensions)


def made(vectors: list[list[float]], *, request: Request, reply: Reply) -> Made:
    """Tokens that the provider did not count are told as they are billed: by estimate.

    Raises BrokenReply where not every text has its vector: whoever relies on their order would take one for another.
    """
    texts = len(asked_of(request).texts)
    if len(vectors) != texts or not all(vectors):
        found = sum(map(bool, vectors))
        raise BrokenReply(
            "broken", f"The number of vectors in the provider's answer ({found}) is not that of the texts ({texts})."
        )
    tokens = request.input_tokens_estimate * 3 // 5 if reply.usage is None else reply.usage.input_total
    packed = decoded(request.fields.get("encoding_format")) == "base64"
    entries = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if packed else vector}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    body = _write({"object": "list", "data": entries, "model": request.model, "usage": usage})
    return Made(body, msgspec.structs.replace(reply, has_output=True))


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def reader(*, n: int, wants_usage: bool, deltas: bool = False) -> EventTap:
    """Embeddings are never streamed."""
    return EventTap(lambda usage: None)
