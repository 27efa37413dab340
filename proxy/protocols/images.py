"""OpenAI's Images: `POST /v1/images/generations`; what edits share with it is here, too.

Priced by the image, or by tokens where the provider reports them (gpt-image). A partial image of a stream is output too.
Source: openai-python 3.52 types; https://platform.openai.com/docs/api-reference/images
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Raw

from proxy.canonical.estimate import text_tokens
from proxy.canonical.request import Request
from proxy.canonical.usage import Usage
from proxy.errors import BadRequest
from proxy.protocols import whole_bodies
from proxy.protocols.base import BrokenReply, Quirks, Reply
from proxy.protocols.bodies import BodyReader, decoded
from proxy.protocols.counts import count, first_count
from proxy.protocols.event_taps import EventTap
from proxy.protocols.failures import read_failure
from proxy.protocols.openai_errors import render_error, render_stream_error

__all__ = ["HEADERS", "NAME", "parse", "pass_through", "path", "read_reply", "reader", "render_error", "render_stream_error"]

NAME = "images"
HEADERS: tuple[str, ...] = ()
MAX_IMAGES = 10
# gpt-image at its best quality and largest size takes 6,240 tokens an image, and 100 for each partial one before it.
IMAGE_TOKENS = 6_700
# By quality, at the largest size; whatever else is asked for may be the best.
QUALITY_TOKENS = {"low": 408, "medium": 1_584}
# What an image that is given costs as input at most: high fidelity, 1536 × 1024.
INPUT_IMAGE_TOKENS = 6_600


class Body(msgspec.Struct):
    model: str | None = None
    prompt: str | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=MAX_IMAGES)] | None = None
    stream: bool | None = None
    images: list[Any] | None = None
    user: str | None = None


class _Details(msgspec.Struct):
    text_tokens: Any = None
    image_tokens: Any = None
    cached_tokens: Any = None


class _Usage(msgspec.Struct):
    input_tokens: Any = None
    output_tokens: Any = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Answer(msgspec.Struct):
    data: list[Any] | None = None
    usage: Any = None
    error: Any = None


_body = BodyReader(Body, used=("model", "user", "prompt"))
_decode = msgspec.json.Decoder(_Answer).decode
_write = msgspec.json.Encoder().encode


def parse(body: bytes, headers: Mapping[str, str] | None = None) -> Request:
    """Raises BadRequest, with the path of the offending member as `param`."""
    read, fields = _body.read(body)
    prompt, quality = bytes(fields.get("prompt", b"")), decoded(fields.get("quality"))
    return request_for(read, fields, prompt=prompt, given=len(read.images or ()), quality=quality)


def path(model: str, *, stream: bool) -> str:
    return "/images/generations"


def request_for(read: Body, fields: dict[str, Raw], *, prompt: bytes, given: int, quality: object) -> Request:
    if not read.model:
        raise BadRequest("The request must name a model.", param="model")
    if not read.prompt:
        raise BadRequest("`prompt` must say what the image shows.", param="prompt")
    n = read.n or 1
    tokens = text_tokens(prompt) + given * INPUT_IMAGE_TOKENS
    made = n * tokens_of(quality)
    return Request(
        protocol=NAME,
        kind="image",
        model=read.model,
        fields=fields,
        stream=bool(read.stream),
        n=n,
        input_tokens_estimate=tokens,
        image_parts=given,
        text_only=False,
        output_bound=IMAGE_TOKENS,
        units={"image": n},
        usual=Usage(input_uncached=tokens * 3 // 5, image_output=made, estimated=True),
        user=read.user,
    )


def tokens_of(quality: object) -> int:
    """Of one picture of that quality, about."""
    return QUALITY_TOKENS.get(str(quality), IMAGE_TOKENS)


def pass_through(request: Request, *, model: str, max_tokens: int | None, quirks: Quirks) -> bytes:
    return _write(request.fields | {"model": Raw(_write(model))})


def read_reply(body: bytes) -> Reply:
    """Raises BrokenReply, AttemptFailed."""
    answer = whole_bodies.read(_decode, body, expected="list of images")
    if answer.error:
        raise read_failure(body, status=None)
    if answer.data is None:
        raise BrokenReply("broken", "The provider's answer has no `data`.")
    made = len(answer.data)
    usage = usage_of(answer.usage) or Usage(image_output=made * IMAGE_TOKENS, estimated=True)
    return Reply(msgspec.structs.replace(usage, units={"image": made}), has_output=bool(made))


def usage_of(given: Any) -> Usage | None:
    """`{input_tokens, output_tokens, input_tokens_details: {text_tokens, image_tokens}}`, the details disjoint."""
    try:
        told = msgspec.convert(given, _Usage)
    except msgspec.ValidationError:
        return None
    taken, made = count(told.input_tokens), count(told.output_tokens)
    if taken is None or made is None:
        return None
    details = told.input_tokens_details or _Details()
    pictures = min(first_count(details.image_tokens), taken)
    cached = min(first_count(details.cached_tokens), taken - pictures)
    text = min(first_count((told.output_tokens_details or _Details()).text_tokens), made)
    return Usage(
        input_uncached=taken - pictures - cached,
        cache_read=cached,
        image_input=pictures,
        output=text,
        image_output=made - text,
    )


def usage_members(usage: Usage) -> dict[str, Any]:
    """As this protocol tells it; the inverse of `usage_of`."""
    details = {"text_tokens": usage.input_uncached + usage.cache_read, "image_tokens": usage.image_input}
    return {
        "input_tokens": usage.input_total,
        "input_tokens_details": details,
        "output_tokens": usage.output_total,
        "output_tokens_details": {"text_tokens": usage.output, "image_tokens": usage.image_output},
        "total_tokens": usage.total,
    }


def reader(*, n: int, wants_usage: bool, deltas: bool = False) -> EventTap:
    return EventTap(usage_of)
