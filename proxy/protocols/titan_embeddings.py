"""Embeddings of Amazon's Titan models at Bedrock: `InvokeModel`, one text a call.

Source: https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html
"""

from typing import Any
from urllib.parse import quote

import msgspec

from proxy.canonical.request import Request
from proxy.canonical.usage import Usage
from proxy.errors import BadRequest
from proxy.protocols import embeddings, whole_bodies
from proxy.protocols.base import Made, Reply
from proxy.protocols.counts import count

NAME = "titan_embeddings"
SERVES = embeddings.NAME


class _Answer(msgspec.Struct, rename="camel"):
    embedding: list[float]
    input_text_token_count: Any = None


_decode = msgspec.json.Decoder(_Answer).decode


def path(model: str, *, stream: bool) -> str:
    """Colons stay, as for Converse: what is signed must be what is sent."""
    return f"/model/{quote(model, safe=':')}/invoke"


def write_request(request: Request, *, model: str) -> bytes:
    """Raises BadRequest for several texts, and for models of other makers."""
    if "titan-embed" not in model:
        raise BadRequest("Of the models for embeddings at Amazon Bedrock, Titan's are spoken to.", param="model")
    asked = embeddings.asked_of(request)
    if len(asked.texts) > 1:
        raise BadRequest("This model takes one text a call.", param="input")
    size = {} if asked.dimensions is None else {"dimensions": asked.dimensions}
    return msgspec.json.encode({"inputText": asked.texts[0], **size})


def read_made(body: bytes, *, request: Request) -> Made:
    answer = whole_bodies.read(_decode, body, expected="embedding")
    tokens = count(answer.input_text_token_count)
    usage = None if tokens is None else Usage(input_uncached=tokens)
    return embeddings.made([answer.embedding], request=request, reply=Reply(usage))
