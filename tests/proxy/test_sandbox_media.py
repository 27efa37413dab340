"""Every route without any account: what the sandbox makes, through the front door, by the official SDK."""

from __future__ import annotations

import base64
import io
import json
import math
import struct
import wave
import zlib
from typing import Any

import openai
import pytest

from gateway_project.lib.money import parse_usd
from proxy.catalogue import load, sandbox_declaration
from proxy.models import Model
from proxy.protocols import embeddings, speech
from proxy.sandbox import media
from proxy.sandbox.catalogue import MODELS
from tests.gateways import Gateway
from tests.house import House
from tests.proxy.test_media_requests import silence


@pytest.fixture(autouse=True)
def models(house: House) -> None:
    """As `make run` declares them, prices included."""
    if not Model.objects.filter(name="sandbox-embedding").exists():
        declared = sandbox_declaration()
        declared["models"] = [one for one in declared["models"] if one["kind"] != "chat"]
        load(declared)


@pytest.fixture
def client(gateway: Gateway, house: House) -> openai.OpenAI:
    return house.client(gateway.url)


def charged(house: House, got: Any) -> tuple[int, dict[str, int]]:
    row = house.row_of(got.headers["x-request-id"])
    assert (row.status, row.provider) == ("ok", "sandbox")
    assert house.nothing_held()
    return row.charged_nano_usd, row.units


def price(model: str, unit: str) -> int:
    amount: int = parse_usd(MODELS[model].unit_prices[unit])
    return amount


def test_vectors_have_length_one_and_belong_to_their_text(client: openai.OpenAI, house: House) -> None:
    texts = ["the gate", "the door", "the gate"]
    got = client.embeddings.with_raw_response.create(model="sandbox-embedding", input=texts, dimensions=32)
    first, second, third = (one.embedding for one in got.parse().data)
    assert (len(first), first == third, first == second) == (32, True, False)
    assert math.isclose(sum(part * part for part in first), 1, rel_tol=1e-5)
    tokens = got.parse().usage.prompt_tokens
    assert charged(house, got)[0] == tokens * price("sandbox-embedding", "input") // 1_000_000


@pytest.mark.parametrize("given", ['"x"', '["x"]', "[1, 2]", "[[1, 2], [3]]"])
def test_vectors_are_the_same_packed_or_not(given: str) -> None:
    plain, packed = (
        media.vectors(embeddings.parse(f'{{"model":"m","input":{given},"encoding_format":"{form}"}}'.encode())).body
        for form in ("float", "base64")
    )

    for left, right in zip(json.loads(plain)["data"], json.loads(packed)["data"], strict=True):
        raw = base64.b64decode(right["embedding"])
        assert struct.unpack(f"<{len(raw) // 4}f", raw) == pytest.approx(left["embedding"], abs=1e-6)


def pixels(png: bytes) -> bytes:
    """What a decoder sees, checksums compared."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, data = 8, b""
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        content = png[at + 8 : at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + content)
        data += content if kind == b"IDAT" else b""
        at += 12 + size
    return zlib.decompress(data)


def test_pictures_are_pngs_that_differ(client: openai.OpenAI, house: House) -> None:
    got = client.images.with_raw_response.generate(model="sandbox-image", prompt="a gate", n=2)
    first, second = (base64.b64decode(one.b64_json or "") for one in got.parse().data or [])
    assert len(pixels(first)) == media.SIDE * (1 + 3 * media.SIDE)
    assert pixels(first) != pixels(second)
    assert charged(house, got) == (2 * price("sandbox-image", "image"), {"image": 2})


def test_a_picture_is_edited(client: openai.OpenAI, house: House) -> None:
    made = client.images.generate(model="sandbox-image", prompt="a gate").data or []
    given = base64.b64decode(made[0].b64_json or "")
    got = client.images.with_raw_response.edit(model="sandbox-image", prompt="open it", image=("gate.png", given))
    assert pixels(base64.b64decode((got.parse().data or [])[0].b64_json or ""))
    assert charged(house, got) == (price("sandbox-image", "image"), {"image": 1})


def test_speech_is_a_sound_file_as_long_as_its_text(client: openai.OpenAI, house: House) -> None:
    text = "Whoever comes to the gate is seen."
    got = client.audio.speech.with_raw_response.create(model="sandbox-speech", input=text, voice="alloy", response_format="wav")
    assert got.headers["content-type"] == "audio/wav"
    with wave.open(io.BytesIO(got.content)) as sound:
        seconds = sound.getnframes() / sound.getframerate()
    assert seconds == pytest.approx(len(text) / media.SPOKEN_PER_SECOND, abs=0.01)
    assert charged(house, got) == (len(text) * price("sandbox-speech", "character"), {"character": len(text)})


@pytest.mark.parametrize("text", ["x", "gate " * 4000])
def test_speech_has_its_bounds(text: str) -> None:

    made = media.tone(speech.parse(json.dumps({"model": "m", "input": text}).encode()))
    with wave.open(io.BytesIO(made.body)) as sound:
        assert 1 <= sound.getnframes() / sound.getframerate() <= media.LONGEST_SECONDS


@pytest.mark.parametrize("form", ["json", "verbose_json", "text"])
def test_sound_becomes_words_that_are_the_same_for_the_same_file(client: openai.OpenAI, house: House, form: Any) -> None:
    create = client.audio.transcriptions.with_raw_response.create
    first, again, other = (
        create(model="sandbox-transcription", file=("a.wav", silence(seconds)), response_format=form) for seconds in (3, 3, 4)
    )
    assert first.text == again.text != other.text
    assert charged(house, first) == (3 * price("sandbox-transcription", "second"), {"second": 3})


def test_spoken_words_can_be_transcribed(client: openai.OpenAI, house: House) -> None:
    said = client.audio.speech.create(model="sandbox-speech", input="Open.", voice="alloy").content
    got = client.audio.transcriptions.with_raw_response.create(model="sandbox-transcription", file=("said.wav", said))
    assert got.parse().text
    assert charged(house, got)[1] == {"second": 1}


def test_what_the_sandbox_does_not_do_is_a_bad_request(client: openai.OpenAI, house: House) -> None:
    with pytest.raises(openai.BadRequestError, match="stream"):
        client.images.generate(model="sandbox-image", prompt="a gate", stream=True)
    with pytest.raises(openai.BadRequestError, match="json, verbose_json or text"):
        client.audio.transcriptions.create(model="sandbox-transcription", file=("a.wav", silence(1)), response_format="srt")
    with pytest.raises(openai.BadRequestError, match="dimensions"):
        client.embeddings.create(model="sandbox-embedding", input="x", dimensions=100_000)
    assert house.nothing_held()
    assert sum(row.charged_nano_usd for row in house.rows()) == 0
