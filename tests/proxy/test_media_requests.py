"""Embeddings, images and sound: what is read of a request, what it can cost at most, what an answer says it cost."""

from __future__ import annotations

import io
import json
import struct
import wave
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import Price, Rates, bill, worst_case
from proxy.canonical.request import Request
from proxy.canonical.usage import Usage
from proxy.errors import AttemptFailed, BadRequest
from proxy.protocols import embeddings, image_edits, images, registry, sounds, speech, transcriptions, translations, videos
from proxy.protocols.base import BrokenReply, CallerCodec, PassThroughCodec, Quirks
from proxy.protocols.forms import Form
from proxy.protocols.members import given as members_of

MEDIA: list[Any] = [embeddings, images, image_edits, speech, transcriptions, translations]


def silence(seconds: float, *, rate: int = 8000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(rate)
        written.writeframes(b"\0\0" * round(seconds * rate))
    return file.getvalue()


def json_of(**members: Any) -> bytes:
    return json.dumps({"model": "m", **members}).encode()


def form(codec: CallerCodec, files: dict[str, bytes], **fields: str) -> Request:
    request = httpx.Request("POST", "http://x", data=fields, files={name: ("a.bin", content) for name, content in files.items()})
    return codec.parse(request.read(), {"content-type": request.headers["content-type"]})


def price(**units: int) -> Price:
    return Price(version_id=1, sku="model:m", rates=Rates(input=10, output=20, units=units))


# --- what is asked -----------------------------------------------------------------------------
@pytest.mark.parametrize("given", ["Hello", ["Hello", "you"], [1, 2, 3], [[1, 2], [3]]])
def test_every_form_of_an_embeddings_input_is_read(given: Any) -> None:
    request = embeddings.parse(json_of(input=given))
    assert (request.kind, request.output_bound, request.stream) == ("embedding", 0, False)
    assert request.input_tokens_estimate >= 2


def test_tokens_that_the_caller_made_are_counted() -> None:
    assert embeddings.parse(json_of(input=[[1, 2, 3], [4]])).input_tokens_estimate == 4


def test_pictures_count_by_number_and_by_what_is_given() -> None:
    request = images.parse(json_of(prompt="a gate", n=3))
    assert (request.n, request.units, request.text_only) == (3, {"image": 3}, False)
    edited = form(image_edits, {"image": b"png", "mask": b"png"}, model="m", prompt="a gate", n="2")
    assert (edited.units, edited.image_parts, edited.protocol) == ({"image": 2}, 2, "image_edits")
    assert edited.input_tokens_estimate > request.input_tokens_estimate
    assert image_edits.parse(json_of(prompt="x", images=[{"file_id": "f"}]), {}).protocol == "image_edits"


@pytest.mark.parametrize(
    ("members", "count"),
    [
        ({"images": [{"file_id": "f"}, {"image_url": "https://a.example/a.png"}]}, 2),
        ({"images": [{"file_id": "f"}], "mask": {"file_id": "m"}}, 2),
        ({"images": [{"file_id": "f"}, None, {}]}, 1),
        ({"image": "data:image/png;base64,QUJD"}, 1),
        ({"image": ["data:image/png;base64,QUJD", {"file_id": "f"}]}, 2),
    ],
)
def test_pictures_of_json_count_as_those_of_a_form_do(members: dict[str, Any], count: int) -> None:
    request = image_edits.parse(json_of(prompt="a gate", **members), {})
    as_form = form(image_edits, {"image": b"png", **({"mask": b"png"} if count == 2 else {})}, model="m", prompt="a gate")
    assert (request.image_parts, request.units, request.protocol) == (count, {"image": 1}, "image_edits")
    assert abs(request.input_tokens_estimate - as_form.input_tokens_estimate) < 9
    assert set(members) <= set(request.fields)


@pytest.mark.parametrize(
    "members",
    [{}, {"images": []}, {"images": None}, {"images": [None, {}, ""]}, {"image": ""}, {"image": []}, {"mask": {"file_id": "m"}}],
)
def test_json_without_a_picture_is_refused_as_a_form_without_one_is(members: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as of_json:
        image_edits.parse(json_of(prompt="a gate", **members), {"content-type": "application/json"})
    with pytest.raises(BadRequest) as of_form:
        form(image_edits, {"mask": b"png"}, model="m", prompt="a gate")
    assert (of_json.value.param, of_json.value.message) == (of_form.value.param, of_form.value.message)
    assert of_json.value.param == "image"


def test_speech_counts_characters() -> None:
    request = speech.parse(json_of(input="Grüße", voice="alloy"))
    assert (request.units, request.stream) == ({"character": 5}, False)
    assert speech.parse(json_of(input="Hi", voice="alloy", stream_format="sse")).stream


@pytest.mark.parametrize("codec", [transcriptions, translations])
def test_sound_counts_by_its_length(codec: CallerCodec) -> None:
    request = form(codec, {"file": silence(2.2)}, model="whisper", stream="true")
    assert (request.kind, request.units, request.stream) == ("transcription", {"second": 3}, True)
    assert request.protocol == codec.NAME


@pytest.mark.parametrize(
    ("codec", "body", "param"),
    [
        (embeddings, {"input": []}, "input"),
        (embeddings, {"input": {"a": 1}}, "input"),
        (embeddings, {"input": "x", "model": None}, "model"),
        (images, {"prompt": ""}, "prompt"),
        (images, {"prompt": "x", "n": 11}, "n"),
        (images, {"prompt": "x", "model": ""}, "model"),
        (image_edits, {"prompt": 3}, "prompt"),
        (speech, {"input": ""}, "input"),
        (speech, {"input": "x" * 100_001}, "input"),
        (speech, {"input": "x", "stream_format": "mp4"}, "stream_format"),
    ],
)
def test_bad_members_are_named(codec: CallerCodec, body: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as raised:
        codec.parse(json_of(**body), {"content-type": "application/json"})
    assert raised.value.param == param


@pytest.mark.parametrize(
    ("codec", "files", "fields", "param"),
    [
        (image_edits, {"other": b"x"}, {"model": "m", "prompt": "p"}, "image"),
        (image_edits, {"image": b"x"}, {"model": "m", "prompt": "p", "n": "many"}, "n"),
        (image_edits, {"image": b"x"}, {"prompt": "p"}, "model"),
        (transcriptions, {"other": b"x"}, {"model": "m"}, "file"),
        (transcriptions, {"file": b""}, {"model": "m"}, "file"),
        (translations, {"file": b"x"}, {}, "model"),
    ],
)
def test_bad_fields_are_named(codec: CallerCodec, files: dict[str, bytes], fields: dict[str, str], param: str) -> None:
    with pytest.raises(BadRequest) as raised:
        form(codec, files, **fields)
    assert raised.value.param == param


def test_sound_that_is_no_form_is_refused() -> None:
    with pytest.raises(BadRequest):
        transcriptions.parse(b"{}", {"content-type": "application/json"})


# --- how long sound plays ----------------------------------------------------------------------
@pytest.mark.parametrize("seconds", [0.1, 1, 59.5])
def test_a_header_tells_the_length(seconds: float) -> None:
    assert sounds.seconds(silence(seconds)) == -(-round(seconds * 10) // 10)


def test_a_header_that_lies_is_not_believed_beyond_what_any_format_holds() -> None:
    lying = bytearray(silence(4, rate=8000))
    lying[28:32] = struct.pack("<I", 2**31 - 1)  # bytes a second
    assert sounds.seconds(bytes(lying) + bytes(3_200_000)) >= 3


@given(st.binary(min_size=1, max_size=4000))
def test_any_bytes_have_a_length(sound: bytes) -> None:
    assert sounds.seconds(sound) >= 1


# --- what goes on ------------------------------------------------------------------------------
@pytest.mark.parametrize("codec", [embeddings, images, speech])
def test_all_but_the_model_passes_as_it_came(codec: Any) -> None:
    body = b'{"input": "caf\\u00e9 \\ud83d", "prompt":"p", "odd" : {"b":1,"a":1.50}, "model":"asked"}'
    if codec is not embeddings:
        body = body.replace(b" \\ud83d", b"")
    written = codec.pass_through(codec.parse(body), model="up", max_tokens=None, quirks=Quirks())
    assert b'{"b":1,"a":1.50}' in written
    assert b"caf\\u00e9" in written
    assert b'"model":"up"' in written


@pytest.mark.parametrize("codec", [image_edits, transcriptions, translations])
def test_a_form_keeps_its_files(codec: Any) -> None:
    request = form(codec, {"image": b"\x89PNG", "file": silence(1)}, model="asked", prompt="p")
    written = codec.pass_through(request, model="up", max_tokens=None, quirks=Quirks())
    assert b"\x89PNG" in written
    assert b"up" in written
    assert b"asked" not in written


def test_a_form_of_many_fields_is_read_field_by_field() -> None:
    """To look, for each field, through all of them would take as many steps as their square."""
    fields = {f"f{at}": str(at) for at in range(20_000)}
    request = form(image_edits, {"image": b"\x89PNG"}, model="m", prompt="p", **fields)
    read = {"model", "prompt", *fields}
    assert members_of(request, read=read, as_always={}, files=["image"]) == {"model": "m", "prompt": "p", **fields}
    with pytest.raises(BadRequest, match="f19999"):
        members_of(request, read=read - {"f19999"}, as_always={}, files=["image"])


@pytest.mark.parametrize("codec", MEDIA)
def test_every_route_is_registered_with_its_path(codec: Any) -> None:
    assert [registry.CALLERS[codec.NAME], registry.PASS_THROUGH[codec.NAME]] == [codec, codec]
    assert codec.path("m", stream=False).startswith(("/embeddings", "/images/", "/audio/"))


# --- what an answer says -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("codec", "body", "usage"),
    [
        (embeddings, {"data": [{}], "usage": {"prompt_tokens": 7, "total_tokens": 7}}, Usage(input_uncached=7)),
        (embeddings, {"data": [{}], "usage": {"total_tokens": 7}}, Usage(input_uncached=7)),
        (embeddings, {"data": [{}]}, None),
        (
            images,
            {
                "data": [{}, {}],
                "usage": {
                    "input_tokens": 60,
                    "output_tokens": 8320,
                    "input_tokens_details": {"text_tokens": 10, "image_tokens": 50},
                },
            },
            Usage(input_uncached=10, image_input=50, image_output=8320, units={"image": 2}),
        ),
        (images, {"data": [{}]}, Usage(image_output=images.IMAGE_TOKENS, units={"image": 1}, estimated=True)),
        (transcriptions, {"text": "a", "usage": {"type": "duration", "seconds": 2.5}}, Usage(units={"second": 3})),
        (transcriptions, {"text": "a", "duration": 9.01}, Usage(units={"second": 10})),
        (
            transcriptions,
            {
                "text": "a",
                "usage": {"input_tokens": 14, "output_tokens": 5, "input_token_details": {"audio_tokens": 10}},
            },
            Usage(input_uncached=4, audio_input=10, output=5),
        ),
        (transcriptions, {"text": "a", "usage": {"seconds": "?"}}, None),
    ],
)
def test_usage_is_read_where_it_is_told(codec: PassThroughCodec, body: dict[str, Any], usage: Usage | None) -> None:
    assert codec.read_reply(json.dumps(body).encode()).usage == usage


def test_subtitles_tell_no_usage() -> None:
    reply = transcriptions.read_reply(b"1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    assert (reply.usage, reply.has_output) == (None, True)


@pytest.mark.parametrize("codec", [embeddings, images])
@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b'{"data": 3}'])
def test_what_is_no_answer_is_broken(codec: PassThroughCodec, body: bytes) -> None:
    with pytest.raises(BrokenReply):
        codec.read_reply(body)


@pytest.mark.parametrize("codec", [embeddings, images, transcriptions])
def test_an_error_with_status_200_is_one(codec: PassThroughCodec) -> None:
    with pytest.raises(AttemptFailed):
        codec.read_reply(b'{"error": {"message": "overloaded", "type": "overloaded_error"}}')


@pytest.mark.parametrize("every", [1, 7, 10_000])
def test_a_stream_ends_with_its_last_event(every: int) -> None:
    events = [
        {"type": "transcript.text.delta", "delta": "Hel"},
        {"type": "transcript.text.done", "text": "Hello", "usage": {"input_tokens": 3, "output_tokens": 2}},
    ]
    stream = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    reader = transcriptions.reader(n=1, wants_usage=False)
    frames = [frame for at in range(0, len(stream), every) for frame in reader.feed(stream[at : at + every])]
    assert [frame.terminal for frame in frames] == [False, True]
    assert b"".join(frame.raw for frame in frames) == stream
    assert (reader.usage, reader.finish_reasons) == (Usage(input_uncached=3, output=2), ("stop",))


@pytest.mark.parametrize("payload", [b"data: nonsense\n\n", b'data: {"type":"error","error":{"message":"x"}}\n\n'])
def test_what_goes_wrong_in_a_stream_is_an_error(payload: bytes) -> None:
    assert speech.reader(n=1, wants_usage=False).feed(payload)[0].error is not None


# --- what it costs -----------------------------------------------------------------------------
@given(
    count=st.integers(0, 5000),
    unit=st.sampled_from(["image", "second", "character"]),
    nano=st.integers(0, 10**9),
    minute=st.booleans(),
)
def test_units_cost_no_more_than_what_was_held_for_them(count: int, unit: str, nano: int, minute: bool) -> None:
    priced = price(**{"minute" if minute and unit == "second" else unit: nano})
    billed = bill(priced, Usage(units={unit: count}))
    assert billed.total == sum(billed.parts.values())
    exact = (count * nano + 30) // 60 if minute and unit == "second" else count * nano
    assert billed.total == exact
    assert worst_case(priced, input_tokens=0, output_tokens=0, units={unit: count}) >= billed.total


# --- videos ------------------------------------------------------------------------------------
def video_form(**fields: str) -> bytes:
    parts = [f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()]
    return "".join(parts).encode() + b"--x--\r\n"


FORM = {"content-type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    ("given", "seconds", "sent"),
    [({}, 4, "4"), ({"seconds": None}, 4, "4"), ({"seconds": "12"}, 12, "12"), ({"seconds": 8}, 8, 8)],
)
def test_the_seconds_of_a_video_are_said(given: dict[str, object], seconds: int, sent: object) -> None:
    request = videos.parse(json.dumps({"model": "film", "prompt": "a gate", "extra": [1.5], **given}).encode())
    assert (request.kind, request.units, request.output_bound) == ("video", {"second": seconds}, 0)
    written = videos.pass_through(request, model="sora-2", max_tokens=None, quirks=Quirks())
    assert json.loads(written) == {"model": "sora-2", "prompt": "a gate", "extra": [1.5], "seconds": sent}


@pytest.mark.parametrize(("given", "seconds"), [({}, 4), ({"seconds": "12"}, 12)])
def test_and_in_a_form_too(given: dict[str, str], seconds: int) -> None:
    request = videos.parse(video_form(model="film", prompt="a gate", **given), FORM)
    written = Form(videos.pass_through(request, model="sora-2", max_tokens=None, quirks=Quirks()), FORM["content-type"])
    assert (request.units["second"], written.text("seconds")) == (seconds, str(seconds))
    assert (written.text("model"), written.text("prompt"), len(written.fields)) == ("sora-2", "a gate", 3)


def test_seconds_cannot_hide_in_a_file() -> None:
    body = video_form(model="film", prompt="a gate", seconds="12").replace(b'name="seconds"', b'name="seconds"; filename="s"')
    with pytest.raises(BadRequest) as refused:
        videos.parse(body, FORM)
    assert refused.value.param == "seconds"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"id": 3}', b'{"id": ""}', b"\xff"])
def test_what_is_no_video_job_is_broken(body: bytes) -> None:
    with pytest.raises(BrokenReply):
        videos.read_reply(body)


def test_a_job_is_told_under_our_own_id() -> None:
    theirs = b'{"id":"theirs","status":"queued","seconds":"8","remixed_from_video_id":"other","progress":1.50}'
    assert videos.read_reply(theirs).usage == Usage(units={"second": 8})
    assert videos.renamed(theirs, id="ours") == theirs.replace(b'"theirs"', b'"ours"').replace(b'"other"', b"null")
