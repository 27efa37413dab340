"""OpenAI's Speech: `POST /v1/audio/speech`. Text in, sound out, priced by the character or by tokens.

The sound itself is never looked at. Where a model is priced by tokens and the answer tells none (only an event stream
does), they are estimated from the text and the row says so.
Source: openai-python 3.52 types; https://platform.openai.com/docs/api-reference/audio/createSpeech
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from proxy.canonical.estimate import text_tokens
from proxy.canonical.request import Request
from proxy.canonical.usage import Usage
from proxy.errors import BadRequest
from proxy.protocols.base import BrokenReply, Quirks, Reply
from proxy.protocols.bodies import BodyReader
from proxy.protocols.counts import count
from proxy.protocols.event_taps import EventTap
from proxy.protocols.failures import read_failure
from proxy.protocols.openai_errors import render_error, render_stream_error

__all__ = ["HEADERS", "NAME", "parse", "pass_through", "path", "read_reply", "reader", "render_error", "render_stream_error"]

NAME = "speech"
HEADERS: tuple[str, ...] = ()
MAX_CHARACTERS = 100_000
# Twenty tokens a second of sound, which is usually fifteen characters; no voice needs more than a quarter of a second for
# a character of any script.
TOKENS_PER_CHARACTER = 5


class _Body(msgspec.Struct):
    model: str | None = None
    input: str | None = None
    voice: Any = None
    instructions: str | None = None
    response_format: str | None = None
    stream_format: str | None = None


class _Usage(msgspec.Struct):
    input_tokens: Any = None
    output_tokens: Any = None


_body = BodyReader(_Body, used=("model", "input", "instructions"))
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_write = msgspec.json.Encoder().encode


def parse(body: bytes, headers: Mapping[str, str] | None = None) -> Request:
    """Raises BadRequest, with the path of the offending member as `param`."""
    read, fields = _body.read(body)
    if not read.model:
        raise BadRequest("The request must name a model.", param="model")
    if not read.input:
        raise BadRequest("`input` must hold the text to speak.", param="input")
    if len(read.input) > MAX_CHARACTERS:
        raise BadRequest(f"`input` is longer than {MAX_CHARACTERS} characters.", param="input")
    if read.stream_format not in (None, "audio", "sse"):
        raise BadRequest("stream_format: must be `audio` or `sse`.", param="stream_format")
    characters = len(read.input)
    tokens = text_tokens(f"{read.input} {read.instructions or ''}".encode())
    usual = Usage(input_uncached=tokens * 3 // 5, audio_output=characters * 4 // 3, estimated=True)
    return Request(
        protocol=NAME,
        kind="speech",
        model=read.model,
        fields=fields,
        stream=read.stream_format == "sse",
        input_tokens_estimate=tokens,
        text_only=False,
        output_bound=TOKENS_PER_CHARACTER * characters + 100,
        units={"character": characters},
        usual=usual,
        headers={"accept": "*/*"},
    )


def path(model: str, *, stream: bool) -> str:
    return "/audio/speech"


def pass_through(request: Request, *, model: str, max_tokens: int | None, quirks: Quirks) -> bytes:
    return _write(request.fields | {"model": Raw(_write(model))})


def read_reply(body: bytes) -> Reply:
    """Any bytes are sound but JSON; how long it plays is the caller's to hear. Raises BrokenReply, AttemptFailed."""
    if not body:
        raise BrokenReply("broken", "The provider's answer is empty.")
    if body.startswith(b"{") and (told := _members_of(body)) is not None:
        raise (
            read_failure(body, status=None) if told.get("error") else BrokenReply("broken", "The provider's answer is no sound.")
        )
    return Reply(None)


def _members_of(body: bytes) -> dict[str, Any] | None:
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def usage_of(given: Any) -> Usage | None:
    try:
        told = msgspec.convert(given, _Usage)
    except msgspec.ValidationError:
        return None
    read, spoken = count(told.input_tokens), count(told.output_tokens)
    return None if read is None or spoken is None else Usage(input_uncached=read, audio_output=spoken)


def reader(*, n: int, wants_usage: bool, deltas: bool = False) -> EventTap:
    return EventTap(usage_of)
