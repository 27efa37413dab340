"""OpenAI's Images: `POST /v1/images/edits`, a form or the same as JSON."""

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from proxy.canonical.request import Request
from proxy.errors import BadRequest
from proxy.protocols import images
from proxy.protocols.base import Quirks
from proxy.protocols.forms import Form
from proxy.protocols.images import Body, read_reply, reader
from proxy.protocols.openai_errors import render_error, render_stream_error

__all__ = ["HEADERS", "NAME", "parse", "pass_through", "path", "read_reply", "reader", "render_error", "render_stream_error"]

NAME = "image_edits"
HEADERS: tuple[str, ...] = ("content-type",)
_FIELDS = ("model", "prompt", "n", "stream", "user")


def parse(body: bytes, headers: Mapping[str, str] | None = None) -> Request:
    """Raises BadRequest, with the name of the offending field as `param`."""
    content_type = (headers or {}).get("content-type", "")
    if not content_type.lower().startswith("multipart/"):
        request = images.parse(body)
        request.protocol = NAME
        return request
    form = Form(body, content_type)
    values = {name: form.text(name) for name in _FIELDS}
    given = form.count("image") + form.count("image[]") + form.count("mask")
    if not given:
        raise BadRequest("`image` must hold the image to edit.", param="image")
    fields = {name: Raw(msgspec.json.encode(value)) for name, value in values.items() if value is not None}
    request = images.request_for(_read(values), fields, prompt=(values["prompt"] or "").encode(), given=given)
    request.protocol, request.form, request.headers = NAME, body, {"content-type": content_type}
    return request


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
