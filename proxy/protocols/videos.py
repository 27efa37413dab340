"""OpenAI's Videos: `POST /v1/videos`, JSON or a form, and what its provider says of a job later.

Priced by the second, which is known when the job is accepted: what is asked for is what is made. The provider's own id of a
job never leaves the gateway.
Source: openai-python 3.52 types; https://platform.openai.com/docs/api-reference/videos
"""

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from proxy.canonical.request import Request
from proxy.canonical.usage import Usage
from proxy.errors import BadRequest
from proxy.protocols import aspect, whole_bodies
from proxy.protocols.base import BrokenReply, Made, Quirks, Reply
from proxy.protocols.bodies import NULL, BodyReader, decoded
from proxy.protocols.event_taps import EventTap
from proxy.protocols.failures import read_failure
from proxy.protocols.forms import Form
from proxy.protocols.members import given
from proxy.protocols.openai_errors import render_error, render_stream_error

__all__ = ["HEADERS", "NAME", "parse", "pass_through", "path", "read_reply", "reader", "render_error", "render_stream_error"]

NAME = "videos"
HEADERS: tuple[str, ...] = ("content-type",)
DEFAULT_SECONDS = 4
MAX_SECONDS = 600
_FIELDS = ("model", "prompt", "seconds", "size")
_OPENAIS = frozenset((*_FIELDS, "input_reference"))


class _Body(msgspec.Struct):
    model: str | None = None
    prompt: str | None = None
    seconds: str | int | None = None
    size: str | None = None


class Told(msgspec.Struct):
    """What a provider says of a job. `status`: queued, in_progress, completed or failed."""

    id: str = ""
    status: str = ""
    seconds: str | int | None = None
    size: str | None = None
    error: Any = None


_body = BodyReader(_Body, used=("model", "prompt"))
_told = msgspec.json.Decoder(Told).decode
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_write = msgspec.json.Encoder().encode


def parse(body: bytes, headers: Mapping[str, str] | None = None) -> Request:
    """Raises BadRequest, with the name of the offending member as `param`."""
    content_type = (headers or {}).get("content-type", "")
    if not content_type.lower().startswith("multipart/"):
        read, fields = _body.read(body)
        return _request(read, fields, names=fields)
    form = Form(body, content_type)
    if form.file("seconds") is not None:
        raise BadRequest("seconds: must be text, not a file.", param="seconds")
    values = {name: value for name in _FIELDS if (value := form.text(name)) is not None}
    fields = {name: Raw(_write(value)) for name, value in values.items()}
    request = _request(msgspec.convert(values, _Body), fields, names=[field.name for field in form.fields])
    request.form, request.headers = body, {"content-type": content_type}
    return request


def _request(read: _Body, fields: dict[str, Raw], *, names: Iterable[str]) -> Request:
    """`names` of all that is asked: a vendor's own members may ask for another size than the one that is read."""
    if not read.model:
        raise BadRequest("The request must name a model.", param="model")
    if not read.prompt:
        raise BadRequest("`prompt` must say what the video shows.", param="prompt")
    seconds = DEFAULT_SECONDS if read.seconds is None else _whole(read.seconds)
    if seconds is None or not 1 <= seconds <= MAX_SECONDS:
        raise BadRequest(f"seconds: must be a whole number from 1 to {MAX_SECONDS}.", param="seconds")
    return Request(
        protocol=NAME,
        kind="video",
        model=read.model,
        fields=fields,
        text_only=False,
        output_bound=0,
        units={"second": seconds},
        resolution=_resolution(read.size) if _OPENAIS.issuperset(names) else "",
    )


def _resolution(size: str | None) -> str:
    """By the shorter side; '' for what is no size: then it is priced like one that nobody asked for."""
    shape = aspect.of_size(size)
    return f"{shape.shorter}p" if shape is not None else ""


def _whole(given: str | int) -> int | None:
    text = str(given)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else None


def path(model: str, *, stream: bool) -> str:
    return "/videos"


def pass_through(request: Request, *, model: str, max_tokens: int | None, quirks: Quirks) -> bytes:
    """With the seconds that are paid for, said even where the caller left them to the default."""
    seconds = str(request.units["second"])
    if request.form:
        content_type = request.headers["content-type"]
        return Form(Form(request.form, content_type).with_text("model", model), content_type).with_text("seconds", seconds)
    given = request.fields.get("seconds")
    said = {} if given is not None and given != NULL else {"seconds": Raw(_write(seconds))}
    return _write(request.fields | said | {"model": Raw(_write(model))})


def read_told(body: bytes) -> Told:
    """Raises BrokenReply, AttemptFailed."""
    told = whole_bodies.read(_told, body, expected="video job")
    if not told.id:
        if told.error:
            raise read_failure(body, status=None)
        raise BrokenReply("broken", "The provider's answer has no `id`.")
    return told


def read_reply(body: bytes) -> Reply:
    """Raises BrokenReply, AttemptFailed."""
    told = read_told(body)
    seconds = None if told.seconds is None else _whole(told.seconds)
    return Reply(Usage(units={} if seconds is None else {"second": seconds}), upstream_id=told.id)


def renamed(body: bytes, *, id: str) -> bytes:
    """A provider's answer about a job, under our own id. What it was made from has an id of the provider's: it is left out."""
    members = _members(body)
    if "remixed_from_video_id" in members:
        members["remixed_from_video_id"] = Raw(b"null")
    return _write(members | {"id": Raw(_write(id))})


# --- for providers that speak otherwise ---------------------------------------------------------
class Asked(msgspec.Struct, frozen=True):
    """`ratio` and `resolution` are empty where the caller leaves the size to the provider."""

    prompt: str
    seconds: int
    ratio: str = ""
    resolution: str = ""


def asked_of(request: Request, *, ratios: Collection[str], resolutions: Collection[str]) -> Asked:
    """Raises BadRequest for what only OpenAI's own protocol says, and for a size that is none of these."""
    members = given(request, read=("model", "prompt", "seconds", "size"), as_always={})
    prompt, size = members["prompt"], members.get("size")
    seconds = request.units["second"]
    if size is None:
        return Asked(prompt, seconds)
    shape = aspect.of_size(size)
    if shape is None or shape.ratio not in ratios or f"{shape.shorter}p" not in resolutions:
        known = f"{', '.join(ratios)} at {', '.join(resolutions)}"
        raise BadRequest(f"size: this model's provider makes videos of {known}.", param="size")
    return Asked(prompt, seconds, shape.ratio, f"{shape.shorter}p")


def begun(id: str, *, request: Request) -> Made:
    """Raises BrokenReply where the provider gave no id: nobody could ask about such a job."""
    if not id:
        raise BrokenReply("broken", "The provider's answer has no id of a video job.")
    seconds = request.units["second"]
    told = {
        "id": id,
        "object": "video",
        "created_at": int(time.time()),
        "model": request.model,
        "status": "queued",
        "progress": 0,
        "seconds": str(seconds),
        "size": decoded(request.fields.get("size")) or "",
        "error": None,
    }
    return Made(_write(told), Reply(Usage(units={"second": seconds}), upstream_id=id))


def reader(*, n: int, wants_usage: bool, deltas: bool = False) -> EventTap:
    """Never asked for: a job has no stream."""
    return EventTap(lambda _: None)
