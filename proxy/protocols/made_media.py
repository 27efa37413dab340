"""Pictures and sounds that a model made within a chat, in the words of callers' protocols.

Sound of Gemini's is raw: 16 bits, mono, 24 kHz, little end first, which is OpenAI's `pcm16`. A WAV file is that behind a header;
anything else would take an encoder, and is refused before the call.
"""

import base64
import binascii
import struct
from collections.abc import Sequence
from typing import Any

import msgspec

from proxy.canonical.conversation import Audio, Image
from proxy.canonical.request import Request
from proxy.errors import BadRequest
from proxy.protocols import data_urls
from proxy.protocols.base import BrokenReply
from proxy.protocols.bodies import NULL, decoded

RAW, WAV = "pcm16", "wav"
RATE, CHANNELS, BYTES_PER_SAMPLE = 24_000, 1, 2


def canonical(media_type: str, data: str) -> Image | Audio | None:
    """None for what is neither a picture nor a sound."""
    kind, _, rest = media_type.partition("/")
    if kind == "image":
        return Image(media_type, data)
    if kind != "audio":
        return None
    name = rest.partition(";")[0].lower()
    return Audio(RAW if name in ("l16", "pcm") else name, data)


class _Voice(msgspec.Struct):
    format: str = ""
    voice: str = ""


_read_voice = msgspec.json.Decoder(_Voice).decode


def asked_for(request: Request) -> frozenset[str]:
    """Raises BadRequest for what nobody makes."""
    if other := request.modalities - {"audio", "image"}:
        raise BadRequest(f"modalities: {sorted(other)[0][:40]!r} is none of text, audio, image.", param="modalities")
    return request.modalities


def voice_of(request: Request) -> str | None:
    """The voice that a call of Chat Completions asks for. Raises BadRequest for sound that providers' cannot be made into."""
    if "audio" not in request.modalities:
        return None
    try:
        asked = _read_voice(request.fields.get("audio", NULL))
    except msgspec.DecodeError:
        asked = _Voice()
    if not asked.voice:
        raise BadRequest("audio: must name a `format` and a `voice` of the model's provider.", param="audio")
    if asked.format != RAW and (asked.format != WAV or request.stream):
        formats = f"`{RAW}`" if request.stream else f"`{RAW}` and `{WAV}`"
        raise BadRequest(f"audio.format: this model's provider gives {formats} only.", param="audio.format")
    return asked.voice


def wanted(request: Request) -> str:
    """The format of sound that a call of Chat Completions asks for."""
    audio = decoded(request.fields.get("audio"))
    return str(audio.get("format")) if isinstance(audio, dict) else RAW


def wav(raw: bytes) -> bytes:
    per_second = RATE * CHANNELS * BYTES_PER_SAMPLE
    form = struct.pack("<HHIIHH", 1, CHANNELS, RATE, per_second, CHANNELS * BYTES_PER_SAMPLE, 8 * BYTES_PER_SAMPLE)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(raw)) + raw
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def joined(sounds: Sequence[Audio], *, format: str) -> str:
    """One sound in base64. Raises BrokenReply."""
    try:
        raw = b"".join(base64.b64decode(sound.data) for sound in sounds)
    except binascii.Error as error:
        raise BrokenReply("broken", "The provider's answer holds a sound that is not in base64.") from error
    return base64.b64encode(wav(raw) if format == WAV and sounds[0].format == RAW else raw).decode()


def image_part(image: Image, index: int) -> dict[str, Any]:
    """As it stands in `images` of a message of Chat Completions: OpenRouter's member, which other gateways took over."""
    url = image.url or data_urls.join(image.media_type or "image/png", image.data or "")
    return {"type": "image_url", "image_url": {"url": url}, "index": index}


def note(part: Image | Audio) -> str:
    """What stands in place of something that the caller's protocol has no place for."""
    what = f"picture ({part.media_type})" if isinstance(part, Image) else f"sound ({part.format})"
    return f"[The model made a {what}, which this protocol has no place for. Chat Completions has.]"
