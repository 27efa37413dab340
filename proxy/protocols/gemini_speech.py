"""Speech of Google's models (the Gemini API and Vertex AI): `generateContent` that answers with sound.

The sound is raw, so a caller gets that (`pcm`) or the same as a WAV file, which is also what comes where no format is asked for.
Voices are Google's own. What `instructions` say of how to speak stands before the text, as Google wants it.
Source: https://ai.google.dev/gemini-api/docs/speech-generation
"""

import base64

import msgspec

from proxy.canonical.conversation import Audio
from proxy.canonical.request import Request
from proxy.errors import BadRequest
from proxy.protocols import gemini_replies, made_media, speech
from proxy.protocols.base import Made
from proxy.protocols.bodies import decoded
from proxy.protocols.delta_reader import reply_of
from proxy.protocols.gemini import path
from proxy.protocols.gemini_media import parts_of
from proxy.protocols.members import given, refuse_stream

__all__ = ["NAME", "SERVES", "path", "read_made", "write_request"]

NAME = "gemini_speech"
SERVES = speech.NAME
_TYPES = {"wav": "audio/wav", "pcm": "audio/pcm"}
_READ = ("model", "input", "voice", "instructions", "response_format")


def write_request(request: Request, *, model: str) -> bytes:
    """Raises BadRequest for formats that would take an encoder, other speeds, and streams."""
    refuse_stream(request, param="stream_format")
    asked = given(request, read=_READ, as_always={"speed": (1,), "stream_format": ("audio",)})
    if asked.get("response_format", "wav") not in _TYPES:
        raise BadRequest("response_format: this model's provider gives `wav` and `pcm` only.", param="response_format")
    if not isinstance(asked.get("voice"), str):
        raise BadRequest("voice: must name a voice of the model's provider, such as `Kore`.", param="voice")
    how = asked.get("instructions", "").rstrip(" .:")
    voice = {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": asked["voice"]}}}
    body = {
        "contents": [{"role": "user", "parts": [{"text": f"{how}: {asked['input']}" if how else asked["input"]}]}],
        "generationConfig": {"responseModalities": ["AUDIO"], "speechConfig": voice},
    }
    return msgspec.json.encode(body)


def read_made(body: bytes, *, request: Request) -> Made:
    answer = gemini_replies.read_answer(body)
    format = decoded(request.fields.get("response_format")) or "wav"
    sounds = parts_of(answer, Audio, what="sound")
    sound = base64.b64decode(made_media.joined(sounds, format=format))
    return Made(sound, reply_of(answer), _TYPES[format])
