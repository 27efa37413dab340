"""Embeddings, images and sound through the front door, by the official SDK: answered, recorded and charged by their units."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from django.db import transaction

from billing import prices
from billing.pricing import Rates
from orgs import epoch
from orgs.models import Organization
from proxy.models import Deployment, Model, Provider
from tests.gateways import Gateway
from tests.house import House, eventually, leave, raw
from tests.proxy.test_media_requests import silence
from tests.upstream import Script, Upstream, answer, refuse, stream

SOLD = {
    "vectors": ("embedding", Rates(input=20_000_000, output=20_000_000)),
    "painter": ("image", Rates(input=0, output=0, units={"image": 40_000_000})),
    "voice": ("speech", Rates(input=0, output=0, units={"character": 15_000})),
    "ear": ("transcription", Rates(input=0, output=0, units={"minute": 6_000_000})),
}


@pytest.fixture(autouse=True)
def models(house: House, upstream: Upstream) -> Iterator[None]:
    with transaction.atomic():
        provider = Provider.objects.get(name="scripted")
        for name, (kind, rates) in SOLD.items():
            model, _ = Model.objects.get_or_create(name=name, defaults={"kind": kind})
            Deployment.objects.get_or_create(model=model, provider=provider, upstream_model=f"{name}-2")
            prices.declare(f"model:{name}", rates=rates, source="test")
        epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))
    yield
    upstream.forget()


def told(content: dict[str, Any] | bytes, content_type: str = "application/json") -> Script:
    sent = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Script(headers={"content-type": content_type}, parts=(sent,))


def upstream_sent(format: str, usage: dict[str, Any]) -> bytes:
    return json.dumps({"text": "Hello", "usage": usage}).encode() if format == "json" else b"Hello\n"


def charged(house: House, got: Any) -> tuple[int, dict[str, int], dict[str, int]]:
    row = house.row_of(got.headers["x-request-id"])
    assert (row.status, row.usage_estimated) == ("ok", False)
    assert house.nothing_held()
    return row.charged_nano_usd, row.units, {part: cost for part, cost in row.cost_parts.items() if cost}


def test_embeddings(gateway: Gateway, house: House, upstream: Upstream) -> None:
    vector = {"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}
    upstream.then(told({"object": "list", "data": [vector], "model": "v", "usage": {"prompt_tokens": 5, "total_tokens": 5}}))

    got = house.client(gateway.url).embeddings.with_raw_response.create(model="vectors", input="Hello", encoding_format="float")

    assert got.parse().data[0].embedding == [0.5, 0.25]
    assert upstream.received[-1].path == "/v1/embeddings"
    assert upstream.received[-1].json == {"model": "vectors-2", "input": "Hello", "encoding_format": "float"}
    assert charged(house, got) == (100, {}, {"input": 100})


def test_images_cost_by_how_many_came(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.then(told({"created": 1, "data": [{"b64_json": "QUJD"}]}))

    got = house.client(gateway.url).images.with_raw_response.generate(model="painter", prompt="a gate", n=2)

    assert got.parse().data[0].b64_json == "QUJD"  # type: ignore[index]
    assert charged(house, got) == (40_000_000, {"image": 1}, {"image": 40_000_000})


def test_an_edited_image_travels_in_its_form(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.then(told({"created": 1, "data": [{"b64_json": "QUJD"}]}))

    got = house.client(gateway.url).images.with_raw_response.edit(model="painter", prompt="a gate", image=b"\x89PNG bytes")

    received = upstream.received[-1]
    assert (received.path, b"\x89PNG bytes" in received.body, b"painter-2" in received.body) == ("/v1/images/edits", True, True)
    assert charged(house, got)[0] == 40_000_000


def test_speech_comes_as_sound(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.then(told(b"ID3\x00sound", "audio/mpeg"))

    got = house.client(gateway.url).audio.speech.with_raw_response.create(model="voice", input="Hello", voice="alloy")

    assert (got.content, got.headers["content-type"]) == (b"ID3\x00sound", "audio/mpeg")
    assert charged(house, got) == (75_000, {"character": 5}, {"character": 75_000})


@pytest.mark.parametrize("format", ["json", "text"])
def test_transcriptions_cost_by_the_second(gateway: Gateway, house: House, upstream: Upstream, format: Any) -> None:
    upstream.then(told({"text": "Hello"}) if format == "json" else told(b"Hello\n", "text/plain"))

    got = house.client(gateway.url).audio.transcriptions.with_raw_response.create(
        model="ear", file=("a.wav", silence(3)), response_format=format
    )

    assert "Hello" in got.text
    assert silence(3) in upstream.received[-1].body
    assert charged(house, got) == (300_000, {"second": 3}, {"minute": 300_000})


@pytest.mark.parametrize("format", ["json", "text"])
def test_a_transcription_whose_model_ignores_that_a_stream_was_asked_for_comes_whole(
    gateway: Gateway, house: House, upstream: Upstream, format: Any
) -> None:
    """`whisper-1` does; OpenAI's own answer is then what `response_format` says."""
    house.change(content_retention_hours=24)
    usage = {"type": "duration", "seconds": 2}
    upstream.then(told({"text": "Hello", "usage": usage}) if format == "json" else told(b"Hello\n", "text/plain; charset=utf-8"))
    sent = {"model": "ear", "response_format": format, "stream": "true"}

    def send() -> httpx.Response:
        headers = {"authorization": f"Bearer {house.key_text}", "idempotency-key": "whole"}
        files = {"file": ("a.wav", silence(3))}
        return httpx.post(f"{gateway.url}/v1/audio/transcriptions", headers=headers, data=sent, files=files, trust_env=False)

    got, again = send(), send()

    assert (got.status_code, got.content) == (200, upstream_sent(format, usage))
    assert got.headers["content-type"] == ("application/json" if format == "json" else "text/plain; charset=utf-8")
    assert charged(house, got)[0] == (200_000 if format == "json" else 300_000)
    assert got.headers["x-gatehouse-cost-usd"] == ("0.0002" if format == "json" else "0.0003")
    assert (again.content, again.headers["content-type"]) == (got.content, got.headers["content-type"])
    assert len(upstream.received) == 1


def test_a_transcription_that_streams_is_a_stream_still(gateway: Gateway, house: House, upstream: Upstream) -> None:
    events = [
        {"type": "transcript.text.delta", "delta": "Hel"},
        {"type": "transcript.text.done", "text": "Hello", "usage": {"type": "duration", "seconds": 2}},
    ]
    frames = tuple(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    upstream.then(Script(headers={"content-type": "text/event-stream"}, parts=frames))

    got = house.client(gateway.url).audio.transcriptions.create(model="ear", file=("a.wav", silence(3)), stream=True)

    assert [event.type for event in got] == ["transcript.text.delta", "transcript.text.done"]


def test_an_error_in_place_of_a_stream_of_what_is_no_chat_is_told(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.then(told({"error": {"message": "That sound is too long.", "type": "invalid_request_error", "code": "too_long"}}))
    with pytest.raises(openai.APIStatusError, match="too long"):
        house.client(gateway.url).audio.transcriptions.create(model="ear", file=("a.wav", silence(3)), stream=True)
    assert house.nothing_held()


@pytest.mark.parametrize("retention", [0, 24])
def test_a_form_that_is_sent_again_under_its_key_is_charged_once(
    gateway: Gateway, house: House, upstream: Upstream, retention: int
) -> None:
    house.change(content_retention_hours=retention)
    upstream.then(told({"text": "Hello"}))
    transcriptions = house.client(gateway.url).audio.transcriptions

    def send(sound: bytes) -> Any:
        return transcriptions.create(model="ear", file=("a.wav", sound), extra_headers={"Idempotency-Key": "one"}).text

    assert send(silence(3)) == "Hello"
    if retention:
        assert send(silence(3)) == "Hello"
    else:
        with pytest.raises(openai.ConflictError, match=r"was charged \$0\.0003"):
            send(silence(3))
    with pytest.raises(openai.ConflictError, match="differs"):
        send(silence(4))
    assert len(upstream.received) == 1


def test_sound_is_given_out_again_byte_for_byte(gateway: Gateway, house: House, upstream: Upstream) -> None:
    house.change(content_retention_hours=24)
    upstream.then(told(b"ID3\x00\xffsound", "audio/mpeg"))
    speech = house.client(gateway.url).audio.speech.with_raw_response

    first, again = (
        speech.create(model="voice", input="Hello", voice="alloy", extra_headers={"Idempotency-Key": "one"}) for _ in range(2)
    )

    assert first.content == again.content == b"ID3\x00\xffsound"
    assert again.headers["content-type"] == "audio/mpeg"
    assert again.headers["x-gatehouse-replayed"] == "true"
    assert len(upstream.received) == 1


def test_a_bill_for_more_sound_than_there_is_is_absorbed(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.then(told({"text": "Hello", "usage": {"type": "duration", "seconds": 9000}}))

    got = httpx.post(
        f"{gateway.url}/v1/audio/translations",
        headers={"authorization": f"Bearer {house.key_text}"},
        data={"model": "ear"},
        files={"file": ("a.wav", silence(3))},
        trust_env=False,
    )

    assert charged(house, got)[0] == 300_000


def test_a_form_of_dot_net_is_read_and_goes_on_with_the_provider_s_name_of_the_model(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    upstream.then(told({"text": "Hello", "usage": {"type": "duration", "seconds": 3}}))
    part = b"--x\r\nContent-Type: %b\r\nContent-Disposition: form-data; name=%b\r\n\r\n%b\r\n"
    sound = part % (b"audio/wav", b"file; filename=a.wav; filename*=utf-8''a.wav", silence(3))
    body = part % (b"text/plain; charset=utf-8", b"model", b"ear") + sound + b"--x--\r\n"
    path, form = "/v1/audio/transcriptions", {"content-type": 'multipart/form-data; boundary="x"'}

    got = raw(gateway.url, house.key_text, body, path=path, **form)

    assert (got.status_code, got.json()["text"]) == (200, "Hello")
    assert upstream.received[-1].body == body.replace(b"\r\near\r\n", b"\r\near-2\r\n")
    assert charged(house, got)[0] == 300_000


def test_a_budget_holds_for_units(gateway: Gateway, house: House, upstream: Upstream) -> None:
    house.limit("budget", 80_000_000)
    client = house.client(gateway.url)
    upstream.then(told({"data": [{"b64_json": "QUJD"}, {"b64_json": "QUJD"}]}))

    with pytest.raises(openai.PermissionDeniedError) as refused:
        client.images.generate(model="painter", prompt="a gate", n=3)
    assert refused.value.code == "budget_exceeded"
    assert upstream.received == []

    client.images.generate(model="painter", prompt="a gate", n=2)
    with pytest.raises(openai.PermissionDeniedError):
        client.images.generate(model="painter", prompt="a gate")


def test_a_model_of_another_kind_is_refused(gateway: Gateway, house: House) -> None:
    client = house.client(gateway.url)
    with pytest.raises(openai.BadRequestError, match="embedding"):
        client.images.generate(model="vectors", prompt="a gate")
    with pytest.raises(openai.BadRequestError, match="chat"):
        client.embeddings.create(model="scripted", input="x")
    assert raw(gateway.url, house.key_text, b'{"model":"painter","messages":[{"role":"user","content":"x"}]}').status_code == 400


def test_a_provider_that_cannot_is_told_as_its_own_fault(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.then(refuse(500), answer("no embedding"))
    client = house.client(gateway.url)
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            client.embeddings.create(model="vectors", input="x")
    assert eventually(lambda: [row.charged_nano_usd for row in house.rows()] == [0, 0]), "a row of no cost may follow its answer"
    assert house.nothing_held()


@pytest.mark.parametrize(("quality", "tokens"), [("low", 408), ("medium", 1_584), ("high", 6_700), (None, 6_700)])
def test_who_leaves_a_stream_of_pictures_pays_for_what_was_asked_for(
    gateway: Gateway, house: House, upstream: Upstream, quality: str | None, tokens: int
) -> None:
    """What came before the last event may be the whole picture, and how large it is only that event tells."""
    with transaction.atomic():
        prices.declare("model:painter", rates=Rates(input=5_000_000_000, output=0, image_output=40_000_000_000), source="test")
        epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))
    partial = {"type": "image_generation.partial_image", "partial_image_index": 0, "b64_json": "AAAA"}
    upstream.then(stream(f"data: {json.dumps(partial)}\n\n".encode(), 20.0, b"data: never\n\n"))
    asked = {"model": "painter", "prompt": "A gate", "n": 2, "stream": True, "partial_images": 1, "quality": quality}
    body = json.dumps({name: value for name, value in asked.items() if value is not None}).encode()

    leave(gateway.url, house.key_text, body, path="/v1/images/generations", after="b64_json")

    assert house.nothing_held()
    (row,) = eventually(house.rows)
    assert (row.status, row.usage_estimated, row.units, row.output_tokens) == ("cancelled", True, {"image": 2}, 2 * tokens)
    assert row.charged_nano_usd == row.input_tokens * 5_000 + row.output_tokens * 40_000 <= row.reserved_nano_usd
