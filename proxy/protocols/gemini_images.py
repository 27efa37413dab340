"""Pictures of Google's models (the Gemini API and Vertex AI): `generateContent` that answers with one picture.

Source: https://ai.google.dev/gemini-api/docs/image-generation
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from proxy.canonical.conversation import Image
from proxy.canonical.request import Request
from proxy.canonical.usage import Usage
from proxy.errors import BadRequest
from proxy.protocols import aspect, gemini_replies, images
from proxy.protocols.base import Made
from proxy.protocols.delta_reader import reply_of
from proxy.protocols.gemini import path
from proxy.protocols.gemini_media import parts_of
from proxy.protocols.members import given, refuse_stream

__all__ = ["NAME", "SERVES", "path", "read_made", "write_request"]

NAME = "gemini_images"
SERVES = images.NAME
READ = ("model", "prompt", "size", "user")
RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
AS_ALWAYS: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "quality": ("auto", "standard"),
    "background": ("auto", "opaque"),
    "moderation": ("auto",),
    "output_format": ("png",),
    "response_format": ("b64_json",),
    "stream": (False,),
}


def write_request(request: Request, *, model: str) -> bytes:
    """Raises BadRequest for several pictures at once, shapes and qualities that Google does not make, and streams."""
    refuse_stream(request, param="stream")
    asked = given(request, read=READ, as_always=AS_ALWAYS)
    return body_of(asked)


def body_of(asked: Mapping[str, Any], pictures: Iterable[Image] = ()) -> bytes:
    """`pictures`: those to begin with. Raises BadRequest for a size of another shape."""
    config: dict[str, Any] = {"responseModalities": ["TEXT", "IMAGE"]}
    if ratio := _ratio(asked.get("size", "auto")):
        config["imageConfig"] = {"aspectRatio": ratio}
    shown = [{"inlineData": {"mimeType": picture.media_type, "data": picture.data}} for picture in pictures]
    parts = [*shown, {"text": asked["prompt"]}]
    return msgspec.json.encode({"contents": [{"role": "user", "parts": parts}], "generationConfig": config})


def _ratio(size: object) -> str | None:
    if size == "auto":
        return None
    shape = aspect.of_size(size)
    if shape is None or shape.ratio not in RATIOS:
        raise BadRequest(f"size: this model's provider makes pictures of the shapes {', '.join(RATIOS)}.", param="size")
    return shape.ratio


def read_made(body: bytes, *, request: Request) -> Made:
    answer = gemini_replies.read_answer(body)
    pictures = parts_of(answer, Image, what="picture")
    usage = answer.usage or Usage(image_output=len(pictures) * images.IMAGE_TOKENS, estimated=True)
    told: dict[str, Any] = {
        "created": int(time.time()),
        "data": [{"b64_json": picture.data} for picture in pictures],
        "output_format": (pictures[0].media_type or "image/png").partition("/")[2],
    }
    if answer.usage is not None:
        told["usage"] = images.usage_members(usage)
    reply = msgspec.structs.replace(reply_of(answer), usage=msgspec.structs.replace(usage, units={"image": len(pictures)}))
    return Made(msgspec.json.encode(told), reply)
