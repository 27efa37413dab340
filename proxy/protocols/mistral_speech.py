"""Speech of Mistral's: OpenAI's route with words of its own. The sound comes as base64 in JSON; a voice is one of the account's.

Source: https://docs.mistral.ai/api/endpoint/audio/speech
"""

import base64
import binascii

import msgspec

from proxy.canonical.request import Request
from proxy.errors import BadRequest
from proxy.protocols import speech, whole_bodies
from proxy.protocols.base import BrokenReply, Made, Reply
from proxy.protocols.bodies import decoded
from proxy.protocols.members import given, refuse_stream

NAME = "mistral_speech"
SERVES = speech.NAME
# What Mistral calls `pcm` holds other numbers than OpenAI's (float32, not 16 bits), so it is none of them.
_TYPES = {"mp3": "audio/mpeg", "wav": "audio/wav", "flac": "audio/flac", "opus": "audio/opus"}


class _Answer(msgspec.Struct):
    audio_data: str


_decode = msgspec.json.Decoder(_Answer).decode


def path(model: str, *, stream: bool) -> str:
    return speech.path(model, stream=stream)


def write_request(request: Request, *, model: str) -> bytes:
    """Raises BadRequest for formats that Mistral does not make, for instructions and speeds, and for streams."""
    refuse_stream(request, param="stream_format")
    read = ("model", "input", "voice", "response_format")
    asked = given(request, read=read, as_always={"speed": (1,), "stream_format": ("audio",)})
    format = asked.get("response_format", "mp3")
    if format not in _TYPES:
        raise BadRequest(f"response_format: this model's provider gives {', '.join(_TYPES)} only.", param="response_format")
    if not isinstance(asked.get("voice"), str):
        raise BadRequest("voice: must be the id of a voice that the model's provider has.", param="voice")
    return msgspec.json.encode(
        {"model": model, "input": asked["input"], "voice_id": asked["voice"], "response_format": format, "stream": False}
    )


def read_made(body: bytes, *, request: Request) -> Made:
    answer = whole_bodies.read(_decode, body, expected="speech")
    try:
        sound = base64.b64decode(answer.audio_data, validate=True)
    except binascii.Error as error:
        raise BrokenReply("broken", "The provider's answer is no speech.") from error
    if not sound:
        raise BrokenReply("broken", "The provider's answer holds no sound.")
    return Made(sound, Reply(None), _TYPES[decoded(request.fields.get("response_format")) or "mp3"])
