"""Vectors, pictures and speech of providers with protocols of their own: OpenAI's request in their words, their answer in its."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse, ImagesResponse

from orgs import epoch
from orgs.models import Organization
from proxy import catalogue
from proxy.canonical.usage import Usage
from proxy.errors import AttemptFailed, BadRequest
from proxy.models import Model, Provider
from proxy.protocols import (
    embeddings,
    gemini_embeddings,
    gemini_image_edits,
    gemini_images,
    gemini_speech,
    mistral_speech,
    registry,
    titan_embeddings,
)
from proxy.protocols.base import BrokenReply, Made, Reply
from proxy.protocols.made_media import wav
from tests.gateways import Gateway
from tests.house import House
from tests.proxy.test_media import told
from tests.upstream import Upstream

Json = dict[str, Any]

PICTURE = base64.b64encode(b"\x89PNG a picture").decode()
PCM = bytes(range(100))
LEAST: dict[str, Json] = {
    "embeddings": {"input": "Hello"},
    "images": {"prompt": "a gate"},
    "speech": {"input": "Hello", "voice": "Kore"},
    "videos": {"prompt": "a gate opens"},
    "image_edits": {"prompt": "a gate", "images": [{"image_url": "data:image/png;base64,QUJD"}]},
}
TEXTS = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=5)
NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)
# An error that nests deeper than anybody reads.
DEEP = b'{"error":' + b'{"a":' * 100_000


def asked(codec: Any, **members: Any) -> Any:
    body = {"model": "m", **LEAST[codec.SERVES], **members}
    return registry.CALLERS[codec.SERVES].parse(json.dumps(body).encode(), {})


def sent(codec: Any, *, model: str = "up", **members: Any) -> Json:
    written: Json = json.loads(codec.write_request(asked(codec, **members), model=model))
    return written


def made(codec: Any, answer: Any, **members: Any) -> Made:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    found: Made = codec.read_made(body, request=asked(codec, **members))
    return found


def google(*parts: Json, finish: str = "STOP", **usage: Any) -> Json:
    return {"candidates": [{"content": {"parts": list(parts)}, "finishReason": finish}], "usageMetadata": usage}


def blob(media_type: str, data: str) -> Json:
    return {"inlineData": {"mimeType": media_type, "data": data}}


DRAWN = google(
    {"text": "Here."}, blob("image/png", PICTURE), promptTokenCount=9, candidatesTokenCount=1300, totalTokenCount=1329,
    thoughtsTokenCount=20, candidatesTokensDetails=[{"modality": "IMAGE", "tokenCount": 1290}],
)  # fmt: skip
SPOKEN = google(blob("audio/L16;codec=pcm;rate=24000", base64.b64encode(PCM).decode()), promptTokenCount=4, totalTokenCount=29)


# --- requests ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("codec", "model", "path"),
    [
        (gemini_embeddings, "gemini-embedding-2", "/models/gemini-embedding-2:batchEmbedContents"),
        (titan_embeddings, "amazon.titan-embed-text-v2:0", "/model/amazon.titan-embed-text-v2:0/invoke"),
        (gemini_images, "gemini-3-pro-image", "/models/gemini-3-pro-image:generateContent"),
        (gemini_speech, "gemini-3.8-flash-tts", "/models/gemini-3.8-flash-tts:generateContent"),
        (mistral_speech, "voxtral", "/audio/speech"),
    ],
)
def test_each_has_its_address(codec: Any, model: str, path: str) -> None:
    assert codec.path(model, stream=False) == path
    assert registry.MEDIA[codec.NAME] is codec


@pytest.mark.parametrize(
    ("codec", "members", "body"),
    [
        (
            gemini_embeddings,
            {"input": ["a", "b"], "dimensions": 256, "user": "u", "encoding_format": "base64"},
            {
                "requests": [
                    {"model": "models/up", "content": {"parts": [{"text": text}]}, "outputDimensionality": 256}
                    for text in ("a", "b")
                ]
            },
        ),
        (titan_embeddings, {"input": ["a"], "dimensions": 512}, {"inputText": "a", "dimensions": 512}),
        (titan_embeddings, {}, {"inputText": "Hello"}),
        (
            gemini_images,
            {"size": "1536x1024", "n": 1, "quality": "auto", "output_format": "png", "user": "u", "background": None},
            {
                "contents": [{"role": "user", "parts": [{"text": "a gate"}]}],
                "generationConfig": {"responseModalities": ["TEXT", "IMAGE"], "imageConfig": {"aspectRatio": "3:2"}},
            },
        ),
        (
            gemini_speech,
            {"instructions": "Say it gladly.", "response_format": "pcm", "speed": 1.0},
            {
                "contents": [{"role": "user", "parts": [{"text": "Say it gladly: Hello"}]}],
                "generationConfig": {
                    "responseModalities": ["AUDIO"],
                    "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Kore"}}},
                },
            },
        ),
        (
            mistral_speech,
            {"response_format": "opus"},
            {"model": "up", "input": "Hello", "voice_id": "Kore", "response_format": "opus", "stream": False},
        ),
    ],
)
def test_a_request_is_said_in_the_providers_words(codec: Any, members: Json, body: Json) -> None:
    assert sent(codec, model="titan-embed" if codec is titan_embeddings else "up", **members) == body


def form(*files: tuple[str, bytes], **texts: str) -> Any:
    """An edit as the SDKs send it."""
    parts: list[Any] = [(name, (None, text)) for name, text in {"model": "m", "prompt": "bluer", **texts}.items()]
    built = httpx.Request("POST", "http://x", files=parts + [(name, ("a.png", content)) for name, content in files])
    return registry.CALLERS["image_edits"].parse(built.read(), {"content-type": built.headers["content-type"]})


def test_pictures_to_edit_stand_before_the_prompt() -> None:
    one, two = b"\x89PNG one", b"\xff\xd8\xff two"
    request = form(("image[]", one), ("image[]", two), n="1", size="1024x1536", output_format="png")
    body = json.loads(gemini_image_edits.write_request(request, model="up"))
    shown = [part.get("inlineData") for part in body["contents"][0]["parts"]]
    assert shown == [
        {"mimeType": "image/png", "data": base64.b64encode(one).decode()},
        {"mimeType": "image/jpeg", "data": base64.b64encode(two).decode()},
        None,
    ]
    assert body["contents"][0]["parts"][2] == {"text": "bluer"}
    assert body["generationConfig"]["imageConfig"] == {"aspectRatio": "2:3"}
    assert sent(gemini_image_edits)["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": "QUJD"}},
        {"text": "a gate"},
    ]


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (lambda: form(("image", b"x"), ("mask", b"y")), "mask"),
        (lambda: form(("image", b"x"), n="2"), "n"),
        (lambda: form(("image", b"x"), quality="high"), "quality"),
        (lambda: form(("image", b"x"), stream="true"), "stream"),
        (lambda: asked(gemini_image_edits, images=[{"image_url": "https://x/a.png"}]), "images[0]"),
        (lambda: asked(gemini_image_edits, images=[{"file_id": "f"}]), "images[0]"),
        (lambda: asked(gemini_image_edits, images=[7]), "images[0]"),
        (lambda: asked(gemini_image_edits, images=[]), "image"),
    ],
)
def test_an_edit_that_cannot_be_told_is_refused_by_name(request_: Any, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        gemini_image_edits.write_request(request_(), model="up")
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("size", "ratio"),
    [
        ("auto", None),
        ("1024x1024", "1:1"),
        ("1024x1536", "2:3"),
        ("1792x1024", "16:9"),
        ("1024x1792", "9:16"),
        ("2048x1152", "16:9"),
    ],
)
def test_a_size_is_a_shape(size: str, ratio: str | None) -> None:
    config = sent(gemini_images, size=size)["generationConfig"]
    assert config.get("imageConfig") == ({"aspectRatio": ratio} if ratio else None)


@pytest.mark.parametrize(
    ("codec", "members", "param"),
    [
        (gemini_embeddings, {"input": [1, 2]}, "input"),
        (gemini_embeddings, {"input": [[1], [2]]}, "input"),
        (gemini_embeddings, {"dimensions": "many"}, "dimensions"),
        (gemini_embeddings, {"task": "search"}, "task"),
        (titan_embeddings, {"input": ["a", "b"]}, "input"),
        (gemini_images, {"n": 2}, "n"),
        (gemini_images, {"size": "1000x1"}, "size"),
        (gemini_images, {"size": "x"}, "size"),
        (gemini_images, {"size": "0x0"}, "size"),
        (gemini_images, {"quality": "high"}, "quality"),
        (gemini_images, {"output_format": "webp"}, "output_format"),
        (gemini_images, {"response_format": "url"}, "response_format"),
        (gemini_images, {"stream": True}, "stream"),
        (gemini_speech, {"response_format": "mp3"}, "response_format"),
        (gemini_speech, {"voice": {"id": "v"}}, "voice"),
        (gemini_speech, {"speed": 2}, "speed"),
        (gemini_speech, {"stream_format": "sse"}, "stream_format"),
        (mistral_speech, {"response_format": "pcm"}, "response_format"),
        (mistral_speech, {"instructions": "gladly"}, "instructions"),
        (mistral_speech, {"voice": None}, "voice"),
        (mistral_speech, {"stream_format": "sse"}, "stream_format"),
    ],
)
def test_what_the_provider_cannot_be_told_is_refused_by_name(codec: Any, members: Json, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        sent(codec, model="titan-embed" if codec is titan_embeddings else "up", **members)
    assert refused.value.param == param


def test_of_amazons_models_only_titan_is_spoken_to() -> None:
    with pytest.raises(BadRequest, match="Titan"):
        sent(titan_embeddings, model="cohere.embed-v4:0")


# --- answers -----------------------------------------------------------------------------------
@given(TEXTS, st.integers(min_value=1, max_value=4), st.data())
def test_vectors_come_in_order_and_packed_as_asked(texts: list[str], size: int, data: st.DataObject) -> None:
    vectors = [data.draw(st.lists(NUMBERS, min_size=size, max_size=size)) for _ in texts]
    answer = {"embeddings": [{"values": vector} for vector in vectors], "usageMetadata": {"promptTokenCount": 7}}
    plain = made(gemini_embeddings, answer, input=texts)
    told = CreateEmbeddingResponse.model_validate_json(plain.body)
    assert [(one.index, one.embedding) for one in told.data] == list(enumerate(vectors))
    assert (told.usage.prompt_tokens, told.usage.total_tokens) == (7, 7)
    packed = json.loads(made(gemini_embeddings, answer, input=texts, encoding_format="base64").body)["data"]
    assert [list(struct.unpack(f"<{size}f", base64.b64decode(one["embedding"]))) for one in packed] == vectors
    assert plain.reply.usage == Usage(input_uncached=7)


@pytest.mark.parametrize(
    ("vectors", "given"),
    [([], 0), ([[1.0]], 1), ([[1.0], []], 1), ([[1.0], [2.0], [3.0]], 3)],
    ids=["none", "fewer", "an empty one", "more"],
)
def test_an_answer_without_a_vector_for_each_text_is_broken(vectors: list[list[float]], given: int) -> None:
    """Whoever sent several texts takes the second vector for the second text."""
    with pytest.raises(BrokenReply, match=rf"\({given}\) is not that of the texts \(2\)"):
        made(gemini_embeddings, {"embeddings": [{"values": vector} for vector in vectors]}, input=["a", "b"])
    with pytest.raises(BrokenReply, match=r"\(0\) is not"):
        made(titan_embeddings, {"embedding": []})


def test_tokens_that_were_not_counted_are_estimated() -> None:
    found = made(gemini_embeddings, {"embeddings": [{"values": [1.0]}]}, input="word " * 100)
    assert found.reply.usage is None
    bound = asked(gemini_embeddings, input="word " * 100).input_tokens_estimate
    assert json.loads(found.body)["usage"]["prompt_tokens"] == bound * 3 // 5
    titan = made(titan_embeddings, {"embedding": [0.5], "inputTextTokenCount": 3})
    assert (titan.reply.usage, json.loads(titan.body)["data"][0]["embedding"]) == (Usage(input_uncached=3), [0.5])


def test_a_picture_is_told_with_what_it_costs() -> None:
    found = made(gemini_images, DRAWN)
    told = ImagesResponse.model_validate_json(found.body)
    assert [picture.b64_json for picture in told.data or ()] == [PICTURE]
    assert told.output_format == "png"
    assert told.usage is not None
    assert (told.usage.input_tokens, told.usage.output_tokens, told.usage.total_tokens) == (9, 1320, 1329)
    usage = found.reply.usage
    assert usage is not None
    assert (usage.input_uncached, usage.output, usage.image_output, usage.units) == (9, 30, 1290, {"image": 1})
    assert not usage.estimated
    silent = made(gemini_images, google(blob("image/jpeg", PICTURE)))
    assert silent.reply.usage is not None
    assert silent.reply.usage.estimated
    assert "usage" not in json.loads(silent.body)


def test_speech_comes_as_sound_of_the_format_asked_for() -> None:
    assert (made(gemini_speech, SPOKEN).body, made(gemini_speech, SPOKEN).content_type) == (wav(PCM), "audio/wav")
    raw = made(gemini_speech, SPOKEN, response_format="pcm")
    assert (raw.body, raw.content_type) == (PCM, "audio/pcm")
    assert raw.reply.usage is not None
    assert (raw.reply.usage.input_uncached, raw.reply.usage.output_total) == (4, 25)
    told = made(mistral_speech, {"audio_data": base64.b64encode(b"ID3 sound").decode()})
    assert (told.body, told.content_type, told.reply.usage) == (b"ID3 sound", "audio/mpeg", None)


@pytest.mark.parametrize("codec", list(registry.MEDIA.values()), ids=list(registry.MEDIA))
@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b"{}", b"\xff", b'{"audio_data":"*"}', b'{"embedding":"x"}', DEEP])
def test_what_is_no_answer_is_broken(codec: Any, answer: bytes) -> None:
    with pytest.raises(BrokenReply):
        made(codec, answer)


@pytest.mark.parametrize("protocol", ["embeddings", "image_edits", "images", "transcriptions", "videos"])
@pytest.mark.parametrize("answer", [b"{]", DEEP])
def test_so_it_is_where_the_provider_speaks_as_the_caller(protocol: str, answer: bytes) -> None:
    with pytest.raises(BrokenReply):
        registry.PASS_THROUGH[protocol].read_reply(answer)


@pytest.mark.parametrize("codec", [gemini_images, gemini_speech])
def test_what_google_will_not_make_is_the_callers_to_change(codec: Any) -> None:
    for answer in (google(finish="IMAGE_SAFETY"), {"promptFeedback": {"blockReason": "SAFETY"}}):
        with pytest.raises(AttemptFailed) as refused:
            made(codec, answer)
        assert (refused.value.kind, refused.value.code, refused.value.retryable) == ("bad_request", "moderation_blocked", False)
    with pytest.raises(BrokenReply):
        made(codec, google({"text": "I would rather not."}))


def test_an_error_object_is_a_failure() -> None:
    error = {"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}
    for codec in (gemini_embeddings, gemini_images, gemini_speech):
        with pytest.raises(AttemptFailed) as failed:
            made(codec, error)
        assert not isinstance(failed.value, BrokenReply)


# --- at the door -------------------------------------------------------------------------------
SOLD = {"vectors": "embedding", "painter": "image", "voice": "speech"}


@pytest.fixture
def google_house(house: House, upstream: Upstream) -> Iterator[House]:
    prices = {"embedding": {"input": 0.2}, "image": {"input": 2.0, "output": 12.0, "image_output": 120.0}}
    catalogue.load(
        {
            "providers": [
                {
                    "name": "google-media",
                    "kind": "gemini",
                    "base_url": upstream.url.removesuffix("/v1") + "/v1beta",
                    "api_key": "AIza",
                },
                {"name": "mistral-media", "kind": "mistral", "base_url": upstream.url, "api_key": "mistral-key"},
            ],
            "models": [
                {
                    "name": f"google-{name}",
                    "kind": kind,
                    "price": prices.get(kind, {"input": 1.0, "output": 18.0}),
                    "deployments": [{"provider": "google-media", "model": f"{name}-2"}],
                }
                for name, kind in SOLD.items()
            ]
            + [
                {
                    "name": "mistral-voice",
                    "kind": "speech",
                    "price": {"character": 0.000013},
                    "deployments": [{"provider": "mistral-media", "model": "voxtral"}],
                }
            ],
        }
    )
    yield house
    with transaction.atomic():
        Model.objects.filter(name__in=["mistral-voice", *(f"google-{name}" for name in SOLD)]).delete()
        Provider.objects.filter(name__in=["google-media", "mistral-media"]).delete()
        epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))
    upstream.forget()


def charged(house: House, got: Any) -> tuple[int, bool]:
    row = house.row_of(got.headers["x-request-id"])
    assert row.status == "ok"
    return row.charged_nano_usd, row.usage_estimated


def test_the_official_sdk_is_served_and_billed_to_the_nano_dollar(
    gateway: Gateway, google_house: House, upstream: Upstream
) -> None:
    client = google_house.client(gateway.url)
    upstream.then(
        told({"embeddings": [{"values": [0.5, 0.25]}, {"values": [1, 2]}], "usageMetadata": {"promptTokenCount": 6}}),
        told(DRAWN),
        told(DRAWN),
        told(SPOKEN),
        told({"audio_data": base64.b64encode(b"ID3 sound").decode()}),
    )

    vectors = client.embeddings.with_raw_response.create(model="google-vectors", input=["a", "b"])
    assert [one.embedding for one in vectors.parse().data] == [[0.5, 0.25], [1.0, 2.0]]
    assert upstream.received[-1].path == "/v1beta/models/vectors-2:batchEmbedContents"
    assert charged(google_house, vectors) == (6 * 200, False)

    picture = client.images.with_raw_response.generate(model="google-painter", prompt="a gate", size="1024x1024")
    assert picture.parse().data[0].b64_json == PICTURE  # type: ignore[index]
    assert charged(google_house, picture) == (9 * 2_000 + 30 * 12_000 + 1290 * 120_000, False)

    edited = client.images.with_raw_response.edit(model="google-painter", prompt="bluer", image=b"\x89PNG bytes")
    assert edited.parse().data[0].b64_json == PICTURE  # type: ignore[index]
    assert upstream.received[-1].json["contents"][0]["parts"][0]["inlineData"]["mimeType"] == "image/png"
    assert charged(google_house, edited) == (9 * 2_000 + 30 * 12_000 + 1290 * 120_000, False)

    speech = client.audio.speech.with_raw_response.create(
        model="google-voice", input="Hello", voice="Kore", response_format="wav"
    )
    assert (speech.content, speech.headers["content-type"]) == (wav(PCM), "audio/wav")
    assert charged(google_house, speech) == (4 * 1_000 + 25 * 18_000, False)

    spoken = client.audio.speech.with_raw_response.create(model="mistral-voice", input="Hello", voice="v")
    assert (spoken.content, upstream.received[-1].json["voice_id"]) == (b"ID3 sound", "v")
    assert charged(google_house, spoken) == (5 * 13_000, False)


def test_what_cannot_be_said_there_is_a_400_and_nothing_is_sent(
    gateway: Gateway, google_house: House, upstream: Upstream
) -> None:
    client = google_house.client(gateway.url)
    with pytest.raises(openai.BadRequestError) as refused:
        client.audio.speech.create(model="google-voice", input="Hello", voice="Kore", response_format="mp3")
    assert refused.value.param == "response_format"
    with pytest.raises(openai.BadRequestError, match="no stream"):
        list(client.images.generate(model="google-painter", prompt="a gate", stream=True))
    assert upstream.received == []
    assert google_house.nothing_held()


def test_the_bill_of_an_estimate_is_what_the_answer_says() -> None:
    """`embeddings.made` and `recording.estimated_usage` count alike."""
    request = asked(gemini_embeddings, input="word " * 50)
    body = embeddings.made([[1.0]], request=request, reply=Reply(None)).body
    assert json.loads(body)["usage"]["total_tokens"] == request.input_tokens_estimate * 3 // 5
