"""OpenAI's Images: `POST /v1/images/edits`, a form or the same as JSON."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from proxy.canonical.request import Request
from proxy.errors import BadRequest
from proxy.protocols import images
from proxy.protocols.base import Quirks
from proxy.protocols.bodies import BodyReader, decoded
from proxy.protocols.forms import Form
from proxy.protocols.images import Body, read_reply, reader
from proxy.protocols.openai_errors import render_error, render_stream_error

__all__ = ["HEADERS", "NAME", "parse", "pass_through", "path", "read_reply", "reader", "render_error", "render_stream_error"]

NAME = "image_edits"
HEADERS: tuple[str, ...] = ("content-type",)
_FIELDS = ("model", "prompt", "n", "stream", "user")


class _Edit(Body):
    """OpenAI names pictures in `images`, others that take JSON in `image`."""

    image: Any = None
    mask: Any = None


_body = BodyReader(_Edit, used=("model", "user", "prompt"))


def parse(body: bytes, headers: Mapping[str, str] | None = None) -> Request:
    """Raises BadRequest, with the name of the offending field as `param`."""
    content_type = (headers or {}).get("content-type", "")
    if not content_type.lower().startswith("multipart/"):
        return _of_json(body)
    form = Form(body, content_type)
    values = {name: form.text(name) for name in _FIELDS}
    given = _with_mask(form.count("image") + form.count("image[]"), form.count("mask"))
    fields = {name: Raw(msgspec.json.encode(value)) for name, value in values.items() if value is not None}
    prompt, quality = (values["prompt"] or "").encode(), form.text("quality")
    request = images.request_for(_read(values), fields, prompt=prompt, given=given, quality=quality)
    request.protocol, request.form, request.headers = NAME, body, {"content-type": content_type}
    return request


def _of_json(body: bytes) -> Request:
    read, fields = _body.read(body)
    given = _with_mask(_count(read.images) + _count(read.image), _count(read.mask))
    prompt, quality = bytes(fields.get("prompt", b"")), decoded(fields.get("quality"))
    request = images.request_for(read, fields, prompt=prompt, given=given, quality=quality)
    request.protocol = NAME
    return request


def _count(given: object) -> int:
    """One, or several in a list; what is empty is no picture."""
    return sum(map(bool, given)) if isinstance(given, list) else int(bool(given))


def _with_mask(pictures: int, masks: int) -> int:
    """How many there are to read; a mask is one, but nothing to edit. Raises BadRequest."""
    if not pictures:
        raise BadRequest("`image` must hold the image to edit.", param="image")
    return pictures + masks


def _read(values: Mapping[str, str | None]) -> Body:
    number, stream = values["n"] or "1", (values["stream"] or "").strip().lower()
    if not (number.isascii() and number.isdecimal() and len(number) < 3 and 1 <= int(number) <= images.MAX_IMAGES):
        raise BadRequest(f"n: must be a whole number from 1 to {images.MAX_IMAGES}.", param="n")
    return Body(values["model"], values["prompt"], int(number), stream in ("true", "1"), None, values["user"])


def path(model: str, *, stream: bool) -> str:
    return "/images/edits"


def pass_through(request: Request, *, model: str, max_tokens: int | None, quirks: Quirks) -> bytes:
    if request.form:
        return Form(request.form, request.headers["content-type"]).with_text("model", model)
    return images.pass_through(request, model=model, max_tokens=max_tokens, quirks=quirks)
