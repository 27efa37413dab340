"""What the sandbox makes of vectors, pictures and sound: small, real in its format, and decided by the request alone."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import struct
import wave
import zlib
from collections.abc import Callable
from typing import Any

import msgspec

from proxy.canonical.request import Request
from proxy.errors import BadRequest
from proxy.protocols import embeddings, image_edits, images, speech, transcriptions, translations
from proxy.protocols.base import CallerCodec
from proxy.protocols.forms import Form
from proxy.sandbox.answers import pseudo_random_words

DIMENSIONS, MOST_DIMENSIONS, MOST_TEXTS = 256, 4096, 2048
SIDE = 64
SAMPLES_PER_SECOND = 8_000
SPOKEN_PER_SECOND, LONGEST_SECONDS = 15, 10
WORDS_PER_SECOND, MOST_WORDS = 2, 400
_write = msgspec.json.Encoder().encode


class Made(msgspec.Struct, frozen=True):
    body: bytes
    content_type: bytes = b"application/json"


def make(path: str, request: Request) -> Made:
    """`path`: one of CODECS. Raises BadRequest for what the sandbox does not do."""
    if request.stream:
        raise BadRequest("The sandbox makes this whole, never as a stream.", param="stream")
    return _MAKERS[path](request)


def vectors(request: Request) -> Made:
    """A vector of length 1 for each text, the same for the same text."""
    given: Any = msgspec.json.decode(request.fields["input"])
    texts = [given] if isinstance(given, str) or isinstance(given[0], int) else given
    size = _member(request, "dimensions") or DIMENSIONS
    if not isinstance(size, int) or not 0 < size <= MOST_DIMENSIONS or len(texts) > MOST_TEXTS:
        raise BadRequest(f"The sandbox makes at most {MOST_TEXTS} vectors of 1 to {MOST_DIMENSIONS} dimensions.", param="input")
    packed = _member(request, "encoding_format") == "base64"
    found = [_vector(_write(text), size) for text in texts]
    entries = [
        {"object": "embedding", "index": index, "embedding": _packed(one) if packed else one} for index, one in enumerate(found)
    ]
    tokens = max(1, request.input_tokens_estimate * 3 // 4)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Made(_write({"object": "list", "data": entries, "model": request.model, "usage": usage}))


def pictures(request: Request) -> Made:
    """PNGs of colours that run into each other; edits get one of their own, whatever was sent."""
    seed = _seed(request)
    made = [{"b64_json": base64.b64encode(_png(hashlib.sha256(seed + bytes([n])).digest())).decode()} for n in range(request.n)]
    return Made(_write({"created": 1_760_000_000, "data": made}))


def tone(request: Request) -> Made:
    """WAV, whatever format was asked for; as long as the text takes to say, up to ten seconds."""
    seconds = min(max(1.0, request.units["character"] / SPOKEN_PER_SECOND), LONGEST_SECONDS)
    period = 16 + _seed(request)[0] % 24
    wavelength = [round(8_000 * math.sin(2 * math.pi * step / period)) for step in range(period)]
    count = int(seconds * SAMPLES_PER_SECOND)
    samples = (struct.pack(f"<{period}h", *wavelength) * (count // period + 1))[: 2 * count]
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(SAMPLES_PER_SECOND)
        sound.writeframes(samples)
    return Made(file.getvalue(), b"audio/wav")


def transcript(request: Request) -> Made:
    """Words for each second of sound: the same for the same file, but nobody has listened."""
    heard = Form(request.form, request.headers["content-type"]).file("file") or b""
    seed = int.from_bytes(hashlib.sha256(heard).digest()[:8], "big")
    seconds = request.units["second"]
    text = "".join(pseudo_random_words(seed, min(MOST_WORDS, WORDS_PER_SECOND * seconds + 1)))
    match _member(request, "response_format") or "json":
        case "text":
            return Made(f"{text}\n".encode(), b"text/plain; charset=utf-8")
        case "json":
            return Made(_write({"text": text, "usage": {"type": "duration", "seconds": seconds}}))
        case "verbose_json":
            told = {"task": "transcribe", "language": "english", "duration": float(seconds), "text": text, "segments": []}
            return Made(_write({**told, "usage": {"type": "duration", "seconds": seconds}}))
    raise BadRequest("The sandbox transcribes as json, verbose_json or text.", param="response_format")


CODECS: dict[str, CallerCodec] = {
    "/embeddings": embeddings,
    "/images/generations": images,
    "/images/edits": image_edits,
    "/audio/speech": speech,
    "/audio/transcriptions": transcriptions,
    "/audio/translations": translations,
}
_MAKERS: dict[str, Callable[[Request], Made]] = {
    "/embeddings": vectors,
    "/images/generations": pictures,
    "/images/edits": pictures,
    "/audio/speech": tone,
    "/audio/transcriptions": transcript,
    "/audio/translations": transcript,
}


def _member(request: Request, name: str) -> Any:
    return msgspec.json.decode(request.fields[name]) if name in request.fields else None


def _seed(request: Request) -> bytes:
    prompt = request.fields.get("prompt") or request.fields.get("input") or request.form
    return hashlib.sha256(bytes(prompt)).digest()


def _vector(text: bytes, size: int) -> list[float]:
    drawn = struct.unpack(f"<{size}i", hashlib.shake_256(text).digest(4 * size))
    length = math.sqrt(sum(part * part for part in drawn)) or 1.0
    return [part / length for part in drawn]


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _png(seed: bytes) -> bytes:
    """https://www.w3.org/TR/png-3/ : 8 bits a channel, no filter."""
    first, last = seed[:3], seed[3:6]
    rows = bytearray()
    for y in range(SIDE):
        rows.append(0)
        for x in range(SIDE):
            rows += bytes((first[c] * (2 * SIDE - x - y) + last[c] * (x + y)) // (2 * SIDE) for c in range(3))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
