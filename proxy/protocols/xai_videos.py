"""Videos of xAI's: a job by `POST /v1/videos/generations`, the film behind an address of its own.

Source: https://docs.x.ai/developers/rest-api-reference/inference/videos
"""

from typing import Any
from urllib.parse import quote

import msgspec

from proxy.canonical.request import Request
from proxy.protocols import videos, whole_bodies
from proxy.protocols.base import Job, Made
from proxy.protocols.failures import read_failure

NAME = "xai_videos"
SERVES = videos.NAME
RATIOS = ("1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3")
RESOLUTIONS = ("480p", "720p")


class _Accepted(msgspec.Struct):
    request_id: str = ""
    error: Any = None


class _Film(msgspec.Struct):
    url: str = ""


class _Told(msgspec.Struct):
    """`error` is an object with `code` and `message`, or a sentence."""

    status: str = "pending"
    video: _Film | None = None
    error: Any = None


_accepted = msgspec.json.Decoder(_Accepted).decode
_told = msgspec.json.Decoder(_Told).decode


def path(model: str, *, stream: bool) -> str:
    return "/videos/generations"


def write_request(request: Request, *, model: str) -> bytes:
    """Raises BadRequest for shapes and sizes that xAI does not make, and for pictures to begin with."""
    asked = videos.asked_of(request, ratios=RATIOS, resolutions=RESOLUTIONS)
    shape = {"aspect_ratio": asked.ratio, "resolution": asked.resolution} if asked.ratio else {}
    return msgspec.json.encode({"model": model, "prompt": asked.prompt, "duration": asked.seconds, **shape})


def read_made(body: bytes, *, request: Request) -> Made:
    accepted = whole_bodies.read(_accepted, body, expected="video job")
    if accepted.error:
        raise read_failure(body, status=None)
    return videos.begun(accepted.request_id, request=request)


def place(id: str) -> str:
    return f"/videos/{quote(id, safe='')}"


def read_job(body: bytes) -> Job:
    told = whole_bodies.read(_told, body, expected="video job")
    if told.status == "done" and told.video is not None and told.video.url:
        return Job("completed", film=told.video.url)
    if told.status in ("done", "failed", "expired"):
        return Job("failed", error=_why(told.error))
    return Job("in_progress")


def _why(error: Any) -> dict[str, str]:
    said = error if isinstance(error, dict) else {"message": error}
    return {"code": str(said.get("code") or "failed"), "message": str(said.get("message") or "The video could not be made.")}
