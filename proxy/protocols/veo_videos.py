"""Videos of Google's Veo by the Gemini API: a long-running operation, the film a file of the same API.

Source: https://ai.google.dev/gemini-api/docs/video
"""

from typing import Any
from urllib.parse import quote

import msgspec

from proxy.canonical.request import Request
from proxy.protocols import videos, whole_bodies
from proxy.protocols.base import Job, Made
from proxy.protocols.failures import read_failure

NAME = "veo_videos"
SERVES = videos.NAME
RATIOS = ("16:9", "9:16")
RESOLUTIONS = ("720p", "1080p")
_FILTERED = {"code": "moderation_blocked", "message": "The provider's rules forbid what was asked for."}


class _Film(msgspec.Struct, frozen=True):
    uri: str = ""


class _Sample(msgspec.Struct, frozen=True):
    video: _Film = _Film()


class _Generated(msgspec.Struct, frozen=True, rename="camel"):
    generated_samples: tuple[_Sample, ...] = ()


class _Response(msgspec.Struct, rename="camel"):
    generate_video_response: _Generated = _Generated()


class _Error(msgspec.Struct):
    code: Any = ""
    message: str = ""


class _Operation(msgspec.Struct):
    name: str = ""
    done: bool = False
    error: _Error | None = None
    response: _Response | None = None


_decode = msgspec.json.Decoder(_Operation).decode


def path(model: str, *, stream: bool) -> str:
    return f"/models/{quote(model, safe='')}:predictLongRunning"


def write_request(request: Request, *, model: str) -> bytes:
    """Raises BadRequest for shapes and sizes that Veo does not make, and for pictures to begin with."""
    asked = videos.asked_of(request, ratios=RATIOS, resolutions=RESOLUTIONS)
    shape = {"aspectRatio": asked.ratio, "resolution": asked.resolution} if asked.ratio else {}
    parameters = {"durationSeconds": asked.seconds, "sampleCount": 1, **shape}
    return msgspec.json.encode({"instances": [{"prompt": asked.prompt}], "parameters": parameters})


def read_made(body: bytes, *, request: Request) -> Made:
    operation = _read(body)
    if operation.error is not None:
        raise read_failure(body, status=None)
    return videos.begun(operation.name, request=request)


def _read(body: bytes) -> _Operation:
    return whole_bodies.read(_decode, body, expected="operation")


def place(id: str) -> str:
    return f"/{quote(id, safe='/')}"


def read_job(body: bytes) -> Job:
    operation = _read(body)
    if not operation.done:
        return Job("in_progress")
    if operation.error is not None:
        return Job("failed", error={"code": str(operation.error.code), "message": operation.error.message})
    samples = (operation.response or _Response()).generate_video_response.generated_samples
    film = next((sample.video.uri for sample in samples if sample.video.uri), "")
    return Job("completed", film=film) if film else Job("failed", error=_FILTERED)
