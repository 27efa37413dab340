"""OpenAI's Transcriptions: `POST /v1/audio/transcriptions`; translations share everything but their path.

Priced by the second of sound, or by tokens where the provider reports them. What is held is for the length that the
file's own header tells (`sounds.py`); a longer bill than that is absorbed.
Source: openai-python 3.52 types; https://platform.openai.com/docs/api-reference/audio/createTranscription
"""

import math
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from proxy.canonical.estimate import text_tokens
from proxy.canonical.request import Request
from proxy.canonical.usage import Usage
from proxy.errors import BadRequest
from proxy.protocols import sounds, whole_bodies
from proxy.protocols.base import BrokenReply, Quirks, Reply
from proxy.protocols.counts import count, first_count
from proxy.protocols.event_taps import EventTap
from proxy.protocols.failures import read_failure
from proxy.protocols.forms import Form
from proxy.protocols.openai_errors import render_error, render_stream_error

__all__ = ["HEADERS", "NAME", "parse", "pass_through", "path", "read_reply", "reader", "render_error", "render_stream_error"]

NAME = "transcriptions"
HEADERS: tuple[str, ...] = ("content-type",)
# Ten tokens a second of sound are heard (OpenAI), and nobody speaks more than ten tokens a second.
HEARD_PER_SECOND, WRITTEN_PER_SECOND = 10, 10
_FIELDS = ("model", "stream", "prompt", "response_format", "language")


class _Details(msgspec.Struct):
    audio_tokens: Any = None
    text_tokens: Any = None


class _Usage(msgspec.Struct):
    seconds: Any = None
    input_tokens: Any = None
    output_tokens: Any = None
    input_token_details: _Details | None = None


class _Answer(msgspec.Struct):
    text: str | None = None
    duration: Any = None
    usage: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Answer).decode


def parse(body: bytes, headers: Mapping[str, str] | None = None) -> Request:
    """Raises BadRequest, with the name of the offending field as `param`."""
    return request_for(NAME, body, (headers or {}).get("content-type", ""))


def request_for(protocol: str, body: bytes, content_type: str) -> Request:
    form = Form(body, content_type)
    values = {name: form.text(name) for name in _FIELDS}
    sound = form.file("file")
    if not values["model"]:
        raise BadRequest("The request must name a model.", param="model")
    if not sound:
        raise BadRequest("`file` must hold the sound.", param="file")
    seconds = sounds.seconds(sound)
    return Request(
        protocol=protocol,
        kind="transcription",
        model=values["model"],
        fields={name: Raw(msgspec.json.encode(value)) for name, value in values.items() if value is not None},
        stream=(values["stream"] or "").strip().lower() in ("true", "1"),
        input_tokens_estimate=HEARD_PER_SECOND * seconds + text_tokens((values["prompt"] or "").encode()),
        audio_parts=1,
        text_only=False,
        output_bound=WRITTEN_PER_SECOND * seconds + 100,
        units={"second": seconds},
        usual=Usage(audio_input=HEARD_PER_SECOND * seconds, output=4 * seconds, estimated=True),
        headers={"content-type": content_type, "accept": "*/*"},
        form=body,
    )


def path(model: str, *, stream: bool) -> str:
    return "/audio/transcriptions"


def pass_through(request: Request, *, model: str, max_tokens: int | None, quirks: Quirks) -> bytes:
    return Form(request.form, request.headers["content-type"]).with_text("model", model)


def read_reply(body: bytes) -> Reply:
    """JSON of any of the formats, or plain text and subtitles, which tell no usage. Raises BrokenReply, AttemptFailed."""
    if not body.lstrip().startswith(b"{"):
        return Reply(None, text_length=len(body), has_output=bool(body.strip()))
    answer = whole_bodies.read(_decode, body, expected="transcription")
    if answer.error:
        raise read_failure(body, status=None)
    if answer.text is None:
        raise BrokenReply("broken", "The provider's answer has no `text`.")
    usage = usage_of(answer.usage)
    if usage is None and isinstance(answer.duration, int | float) and 0 <= answer.duration < 1e6:
        usage = Usage(units={"second": math.ceil(answer.duration)})
    return Reply(usage, text_length=len(answer.text), has_output=True)


def usage_of(given: Any) -> Usage | None:
    """`{type: "duration", seconds}`, or `{type: "tokens", input_tokens, output_tokens, input_token_details}`."""
    try:
        told = msgspec.convert(given, _Usage)
    except msgspec.ValidationError:
        return None
    if isinstance(told.seconds, int | float) and 0 <= told.seconds < 1e6:
        return Usage(units={"second": math.ceil(told.seconds)})
    heard, written = count(told.input_tokens), count(told.output_tokens)
    if heard is None or written is None:
        return None
    details = told.input_token_details or _Details()
    sound = min(first_count(details.audio_tokens), heard)
    return Usage(input_uncached=heard - sound, audio_input=sound, output=written)


def reader(*, n: int, wants_usage: bool, deltas: bool = False) -> EventTap:
    return EventTap(usage_of)
