"""Pictures and sounds that a model makes within a chat: asked for, delivered in each protocol that has a place, else said so."""

from __future__ import annotations

import base64
import io
import json
import wave
from typing import Any

import anthropic
import msgspec
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response

from proxy.canonical.conversation import Audio, Image
from proxy.errors import BadRequest
from proxy.protocols import gemini, made_media, registry
from proxy.protocols.base import BrokenReply, Quirks
from proxy.protocols.sse import FrameSplitter, data_of
from proxy.protocols.translating import TranslatingReader
from tests.gateways import Gateway
from tests.house import MESSAGES, House, eventually
from tests.proxy.test_native_calls import GEMINI, INPUT, OUTPUT, gemini_stream, models, native, parts
from tests.upstream import Upstream

__all__ = ["models", "native"]

CALL = "019a0000-0000-7000-8000-000000000000"
PICTURE = base64.b64encode(b"\x89PNG a picture").decode()
PCM = bytes(range(200)) * 3
ASKED: dict[str, dict[str, Any]] = {
    "chat_completions": {"modalities": ["text", "image"]},
    "responses": {"tools": [{"type": "image_generation"}]},
    "messages": {"max_tokens": 50},
}
SPEECH: dict[str, Any] = {"modalities": ["text", "audio"], "audio": {"voice": "Kore", "format": "pcm16"}}
DRAWN: list[dict[str, Any]] = [{"text": "Here: "}, {"inlineData": {"mimeType": "image/png", "data": PICTURE}}, {"text": "done."}]
USAGE = {
    "promptTokenCount": 9,
    "candidatesTokenCount": 1300,
    "totalTokenCount": 1309,
    "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
}


def request(protocol: str, **members: Any) -> Any:
    said = {"input": "Draw."} if protocol == "responses" else {"messages": [{"role": "user", "content": "Draw."}]}
    return registry.CALLERS[protocol].parse(json.dumps({"model": "m", **said, **members}).encode(), {})


def sent(protocol: str, **members: Any) -> Any:
    asked = request(protocol, **members)
    conversation = registry.CHAT_CALLERS[protocol].conversation(asked)
    written = gemini.write_request(conversation, model="gemini-3-pro-image", stream=False, max_tokens=None, quirks=Quirks())
    return json.loads(written.body)


def whole(protocol: str, answered: list[dict[str, Any]], **members: Any) -> Any:
    body = json.dumps(parts(*answered, finish="STOP", usageMetadata=USAGE)).encode()
    asked = request(protocol, **members)
    assert gemini.read_reply(body).has_output
    return json.loads(registry.CHAT_CALLERS[protocol].render_answer(gemini.read_answer(body), request=asked, call_id=CALL))


def streamed(protocol: str, answered: list[dict[str, Any]], *, size: int = 1 << 20, **members: Any) -> list[Any]:
    """The events a caller is sent; each part is an event of the provider's, cut every `size` bytes."""
    asked = request(protocol, stream=True, **members)
    ends = [None] * (len(answered) - 1) + ["STOP"]
    events = [parts(part, finish=end, usageMetadata=USAGE) for part, end in zip(answered, ends, strict=True)]
    raw = b"".join(b"data: " + json.dumps(event).encode() + b"\r\n\r\n" for event in events)
    reader = TranslatingReader(gemini.reader(), registry.CHAT_CALLERS[protocol].renderer(asked, call_id=CALL))
    frames = [frame for at in range(0, len(raw), size) for frame in reader.feed(raw[at : at + size])] + reader.flush()
    assert not any(frame.error for frame in frames)
    told = [data_of(frame) for frame in FrameSplitter().feed(b"".join(frame.raw for frame in frames))]
    return [json.loads(payload) for payload in told if payload and payload.strip() != b"[DONE]"]


# --- asked for ---------------------------------------------------------------------------------
def test_what_shall_be_made_is_asked_for_in_geminis_words() -> None:
    for protocol in ("chat_completions", "responses"):
        assert sent(protocol, **ASKED[protocol])["generationConfig"] == {"responseModalities": ["TEXT", "IMAGE"]}
    assert sent("chat_completions", **SPEECH)["generationConfig"] == {
        "responseModalities": ["AUDIO"],
        "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Kore"}}},
    }
    assert "generationConfig" not in sent("chat_completions", modalities=["text"])


@pytest.mark.parametrize(
    ("protocol", "members", "param"),
    [
        ("chat_completions", {"modalities": ["video"]}, "modalities"),
        ("chat_completions", {"modalities": ["audio"]}, "audio"),
        ("chat_completions", {"modalities": ["audio"], "audio": {"format": "wav", "voice": {"id": "v"}}}, "audio"),
        ("chat_completions", {"modalities": ["audio"], "audio": {"format": "mp3", "voice": "Kore"}}, "audio.format"),
        ("chat_completions", {**SPEECH, "audio": {"format": "wav", "voice": "Kore"}, "stream": True}, "audio.format"),
        ("messages", {"max_tokens": 9, "modalities": ["text", "image"]}, "modalities"),
    ],
)
def test_what_cannot_be_made_or_told_is_refused_before_the_call(protocol: str, members: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        sent(protocol, **members)
    assert refused.value.param == param


@pytest.mark.parametrize("target", sorted(set(registry.CHAT_PROVIDERS) - {"gemini"}))
def test_other_protocols_answers_hold_text_only(target: str) -> None:
    for protocol, members in (("chat_completions", SPEECH), ("responses", ASKED["responses"])):
        conversation = registry.CHAT_CALLERS[protocol].conversation(request(protocol, **members))
        with pytest.raises(BadRequest, match="text only"):
            registry.CHAT_PROVIDERS[target].write_request(conversation, model="m", stream=False, max_tokens=9, quirks=Quirks())


def test_a_picture_of_an_earlier_turn_is_shown_again() -> None:
    shown = {"inlineData": {"mimeType": "image/png", "data": PICTURE}}
    images = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}]
    turns = [{"role": "user", "content": "Draw."}, {"role": "assistant", "content": "Here.", "images": images}]
    told = sent("chat_completions", messages=[*turns, {"role": "user", "content": "Bluer."}])["contents"]
    assert [turn["role"] for turn in told] == ["user", "model", "user"]
    assert told[2]["parts"] == [shown, {"text": "Bluer."}]

    called = {"role": "assistant", "images": images, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}
    told = sent("chat_completions", messages=[called, {"role": "tool", "tool_call_id": "c", "content": "x"}])["contents"]
    assert [next(iter(part)) for turn in told for part in turn["parts"]] == ["inlineData", "functionCall", "functionResponse"]

    items = [{"role": "user", "content": "Draw."}, *whole("responses", DRAWN)["output"], {"role": "user", "content": "Bluer."}]
    assert shown in [part for turn in sent("responses", input=items)["contents"] for part in turn["parts"]]


def test_a_picture_of_an_earlier_turn_weighs_as_a_picture() -> None:
    """Not as the text that it is in JSON: a call would be refused for money or length that it never takes."""
    drawn = base64.b64encode(bytes(300_000)).decode()
    images = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{drawn}"}}, "of another client's"]
    shown = request("chat_completions", messages=[{"role": "assistant", "content": "Here.", "images": images}])
    item = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": drawn}
    kept = request("responses", input=[{"role": "user", "content": "Draw."}, item])
    for asked in (shown, kept):
        assert (asked.image_parts, asked.text_only, asked.needs) == (1, False, {"vision"})
        assert 3_000 < asked.input_tokens_estimate < 3_200


# --- delivered ---------------------------------------------------------------------------------
def test_chat_completions_has_pictures_beside_its_text() -> None:
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}, "index": 0}
    message = whole("chat_completions", DRAWN)["choices"][0]["message"]
    assert (message["content"], message["images"]) == ("Here: done.", [url])
    deltas = [event["choices"][0]["delta"] for event in streamed("chat_completions", [*DRAWN, DRAWN[1]]) if event["choices"]]
    assert [image for delta in deltas for image in delta.get("images", ())] == [url, url | {"index": 1}]
    assert "".join(delta.get("content", "") for delta in deltas) == "Here: done."


def test_responses_has_an_item_for_a_picture() -> None:
    output = msgspec.convert(whole("responses", DRAWN), dict)["output"]
    assert [item["type"] for item in output] == ["message", "image_generation_call", "message"]
    assert (output[1]["result"], output[1]["status"], output[1]["output_format"]) == (PICTURE, "completed", "png")
    told = Response.model_validate(whole("responses", DRAWN)).output[1]
    assert told.type == "image_generation_call"
    assert told.result == PICTURE

    events = streamed("responses", DRAWN)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    last = events[-1]["response"]["output"]
    assert [{**item, "id": ""} for item in last] == [{**item, "id": ""} for item in output]
    place = [event["type"] for event in events if event.get("output_index") == 1]
    assert place == [
        "response.output_item.added",
        "response.image_generation_call.in_progress",
        "response.image_generation_call.completed",
        "response.output_item.done",
    ]
    assert next(event for event in events if event["type"] == place[0] and event["output_index"] == 1)["item"]["result"] is None


def test_messages_says_that_it_has_no_place() -> None:
    """A model that draws unasked: the caller pays for it, so it is told."""
    texts = [block["text"] for block in whole("messages", DRAWN, max_tokens=9)["content"]]
    assert texts == ["Here: ", made_media.note(Image("image/png", PICTURE)), "done."]
    assert "picture (image/png)" in texts[1]
    events = streamed("messages", DRAWN, max_tokens=9)
    assert [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"] == texts
    assert [event["index"] for event in events if event["type"] == "content_block_start"] == [0, 1, 2]


def sound(*pieces: bytes) -> list[dict[str, Any]]:
    kind = "audio/L16;codec=pcm;rate=24000"
    return [{"inlineData": {"mimeType": kind, "data": base64.b64encode(piece).decode()}} for piece in pieces]


def test_sound_is_delivered_as_it_was_asked_for() -> None:
    raw = whole("chat_completions", sound(PCM[:100], PCM[100:]), **SPEECH)["choices"][0]["message"]
    assert raw["content"] is None
    assert base64.b64decode(raw["audio"]["data"]) == PCM
    asked = {**SPEECH, "audio": {"voice": "Kore", "format": "wav"}}
    told = whole("chat_completions", sound(PCM), **asked)["choices"][0]["message"]["audio"]
    assert openai.types.chat.ChatCompletionAudio.model_validate(told).data == told["data"]
    with wave.open(io.BytesIO(base64.b64decode(told["data"]))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
        assert file.readframes(1000) == PCM

    events = streamed("chat_completions", sound(PCM[:100], PCM[100:]), **SPEECH)
    heard = [event["choices"][0]["delta"].get("audio") for event in events if event["choices"]]
    assert len({piece["id"] for piece in heard if piece}) == 1
    assert b"".join(base64.b64decode(piece["data"]) for piece in heard if piece) == PCM
    assert "sound (pcm16)" in whole("responses", sound(PCM))["output"][0]["content"][0]["text"]


@pytest.mark.parametrize("protocol", sorted(ASKED))
def test_a_stream_says_the_same_wherever_it_is_cut(protocol: str) -> None:
    def said(size: int) -> list[Any]:
        volatile = ("created", "created_at", "completed_at")
        events = streamed(protocol, DRAWN, size=size, **ASKED[protocol])
        return [{name: value for name, value in event.items() if name not in (*volatile, "response")} for event in events]

    assert said(1) == said(7) == said(1 << 20)


def test_what_is_only_thought_of_and_what_is_neither_picture_nor_sound_is_left_out() -> None:
    thought = DRAWN[1] | {"thought": True}
    film = {"inlineData": {"mimeType": "video/mp4", "data": "AAAA"}}
    message = whole("chat_completions", [thought, film, {"text": "done."}])["choices"][0]["message"]
    assert (message["content"], "images" in message) == ("done.", False)


def test_sound_that_cannot_be_read_is_a_broken_answer() -> None:
    with pytest.raises(BrokenReply):
        whole("chat_completions", [{"inlineData": {"mimeType": "audio/L16;rate=24000", "data": "AAA"}}], **SPEECH)


@given(st.binary(max_size=400).map(lambda raw: raw[: len(raw) // 2 * 2]))
def test_any_sound_is_whole_behind_its_header(raw: bytes) -> None:
    with wave.open(io.BytesIO(made_media.wav(raw))) as file:
        assert file.readframes(1000) == raw


@pytest.mark.parametrize(
    ("media_type", "made"),
    [
        ("image/webp", Image("image/webp", "QQ==")),
        ("audio/L16;codec=pcm;rate=24000", Audio("pcm16", "QQ==")),
        ("audio/mpeg", Audio("mpeg", "QQ==")),
        ("video/mp4", None),
        ("", None),
    ],
)
def test_what_came_is_known_by_its_type(media_type: str, made: Image | Audio | None) -> None:
    assert made_media.canonical(media_type, "QQ==") == made


# --- at the door -------------------------------------------------------------------------------
def test_what_is_billed_is_delivered(gateway: Gateway, native: House, upstream: Upstream) -> None:
    client = native.client(gateway.url)
    upstream.then(*(gemini_stream(parts(*DRAWN, finish="STOP", usageMetadata=USAGE)) for _ in range(2)))
    for _ in range(2):
        asked: Any = {"model": GEMINI, "messages": MESSAGES, "modalities": ["text", "image"], "stream": True}
        chunks = [chunk.to_dict() for chunk in client.chat.completions.create(**asked)]
        assert any(chunk["choices"] and chunk["choices"][0]["delta"].get("images") for chunk in chunks)
    assert upstream.received[-1].json["generationConfig"]["responseModalities"] == ["TEXT", "IMAGE"]
    assert eventually(lambda: [row.charged_nano_usd for row in native.rows()] == [9 * INPUT + 1300 * OUTPUT] * 2)


def test_a_provider_of_text_refuses_the_rest_before_the_call(gateway: Gateway, native: House, upstream: Upstream) -> None:
    client = native.client(gateway.url)
    before = len(upstream.received)
    with pytest.raises(openai.BadRequestError, match="text only: no audio") as refused:
        client.chat.completions.create(
            model="native-bedrock",
            messages=MESSAGES,
            modalities=["text", "audio"],
            audio={"voice": "alloy", "format": "pcm16"},
        )
    assert refused.value.param == "modalities"
    with pytest.raises(anthropic.BadRequestError, match="no place for pictures"):
        native.anthropic_client(gateway.url).messages.create(
            model=GEMINI, max_tokens=50, messages=MESSAGES, extra_body={"modalities": ["image"]}
        )
    assert len(upstream.received) == before
    assert native.nothing_held()
