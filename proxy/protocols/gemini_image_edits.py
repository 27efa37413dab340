"""Pictures that Google's models make of other pictures: as `gemini_images`, with what is given before the prompt."""

import base64
from collections.abc import Iterator
from typing import Any

from proxy.canonical.conversation import Image
from proxy.canonical.request import Request
from proxy.errors import BadRequest
from proxy.protocols import data_urls, gemini_images, image_edits
from proxy.protocols.forms import Form
from proxy.protocols.gemini import path
from proxy.protocols.gemini_images import read_made
from proxy.protocols.members import given, refuse_stream

__all__ = ["NAME", "SERVES", "path", "read_made", "write_request"]

NAME = "gemini_image_edits"
SERVES = image_edits.NAME
_FILES = ("image", "image[]")
_AS_ALWAYS = gemini_images.AS_ALWAYS | {"input_fidelity": ("high",)}
_BEGINNINGS = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp", b"GIF8": "image/gif"}


def write_request(request: Request, *, model: str) -> bytes:
    """Raises BadRequest for masks, pictures by address or id, and like `gemini_images.write_request`."""
    refuse_stream(request, param="stream")
    asked = given(request, read=(*gemini_images.READ, "images"), as_always=_AS_ALWAYS, files=_FILES)
    pictures = list(_of_form(request) if request.form else _of_json(asked.get("images")))
    if not pictures:
        raise BadRequest("`image` must hold the image to edit.", param="image")
    return gemini_images.body_of(asked, pictures)


def _of_form(request: Request) -> Iterator[Image]:
    form = Form(request.form, request.headers["content-type"])
    for field in form.fields:
        if field.file_name is not None:
            content = form.body[field.begin : field.end]
            media_type = next((type for begin, type in _BEGINNINGS.items() if content.startswith(begin)), "image/png")
            yield Image(media_type, base64.b64encode(content).decode())


def _of_json(images: Any) -> Iterator[Image]:
    for at, image in enumerate(images or ()):
        url = image.get("image_url") if isinstance(image, dict) else None
        media_type, data = data_urls.split(url if isinstance(url, str) else "")
        if data is None:
            message = "This model's provider fetches no addresses: send the picture itself, as a form or a data URL."
            raise BadRequest(message, param=f"images[{at}]")
        yield Image(media_type or "image/png", data)
