"""Whatever a provider does wrong, in every protocol: the caller's SDK raises what it has for it, and nobody pays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import anthropic
import openai
import pytest
from django.db import transaction
from pytest_django.plugin import DjangoDbBlocker

from billing import prices
from billing.pricing import Rates
from orgs import epoch
from orgs.models import Organization
from proxy.models import Deployment, Model, Provider
from tests.gateways import Gateway
from tests.house import DOLLAR_PER_MILLION, House, declare, eventually
from tests.proxy import messages_wire, responses_wire
from tests.proxy.test_media_requests import silence
from tests.upstream import HANG, HTML, RESET, Script, Upstream, frame, frames, refuse, stream

pytestmark = pytest.mark.filterwarnings("ignore:(The Sora API|deprecated):DeprecationWarning")

ASK: list[Any] = [{"role": "user", "content": "Tell me about the gate."}]


class Sdks(NamedTuple):
    openai: openai.OpenAI
    anthropic: anthropic.Anthropic


Asking = Callable[[Sdks, str, bool], object]


def chat(sdks: Sdks, model: str, streamed: bool) -> object:
    return sdks.openai.chat.completions.create(model=model, messages=ASK, stream=streamed)


def responses(sdks: Sdks, model: str, streamed: bool) -> object:
    return sdks.openai.responses.create(model=model, input="Tell me about the gate.", stream=streamed)


def messages(sdks: Sdks, model: str, streamed: bool) -> object:
    return sdks.anthropic.messages.create(model=model, messages=ASK, max_tokens=99, stream=streamed)


CHAT_STREAM = frames("Hello", "you")
CLAUDE_STREAM = [messages_wire.start(), *messages_wire.text(0, "Hello", "you"), *messages_wire.end()]
RESPONSES_STREAM = responses_wire.frames_of(responses_wire.response(responses_wire.said("Hello, you")))
# What is asked, of a model of which kind of provider, and how its stream goes.
WAYS: dict[str, tuple[Asking, str, list[bytes]]] = {
    "chat": (chat, "openai-compatible", CHAT_STREAM),
    "chat of claude": (chat, "anthropic", CLAUDE_STREAM),
    "responses": (responses, "openai", RESPONSES_STREAM),
    "responses of chat": (responses, "openai-compatible", CHAT_STREAM),
    "messages": (messages, "anthropic", CLAUDE_STREAM),
    "messages of chat": (messages, "openai-compatible", CHAT_STREAM),
}
NATIVE = {"openai-compatible": "faulty-chat", "anthropic": "faulty-claude", "openai": "faulty-openai"}
EMPTY, CUT = Script(), Script(headers_sent=True, ending="reset")
# → the status that the caller is told. No stream has begun yet, whether one was asked for or not.
AT_ONCE: list[tuple[Script, int]] = [
    (HTML, 502),
    (Script(status=502, headers={"content-type": "text/html"}, parts=(b"<html>Bad gateway</html>",)), 502),
    (Script(parts=(b"{oops",)), 502),
    (Script(parts=(b"{}",)), 502),
    (Script(parts=(b"\xff\xfe",)), 502),
    (Script(parts=(b'{"error":{"message":"Later","type":"server_error","code":503}}',)), 503),
    (EMPTY, 502),
    (CUT, 502),
    (RESET, 502),
    (refuse(500), 502),
    (refuse(401, "Incorrect API key provided: key-of-faulty-chat"), 502),
    (refuse(529), 503),
    (refuse(429, headers={"retry-after": "7"}), 503),
    (refuse(504), 504),
]
NO_STREAM: list[Script] = [stream(), stream(b"data: {oops\n\n"), stream(ending="reset")]


@pytest.fixture(scope="module", autouse=True)
def models(declared: None, scripted_provider: Upstream, django_db_blocker: DjangoDbBlocker) -> None:
    with django_db_blocker.unblock():
        for kind, name in NATIVE.items():
            declare(name, kind=kind, url=scripted_provider.url)


@pytest.fixture
def sdks(house: House, gateway: Gateway) -> Sdks:
    return Sdks(house.client(gateway.url), house.anthropic_client(gateway.url))


def drained(answer: object) -> None:
    if isinstance(answer, Iterable) and not hasattr(answer, "model_fields_set"):
        for _ in answer:
            pass


def failure(ask: Asking, sdks: Sdks, model: str, streamed: bool) -> Any:
    """What the SDK raised."""
    with pytest.raises((openai.APIError, anthropic.APIError)) as raised:
        drained(ask(sdks, model, streamed))
    return raised.value


def all_free(house: House, count: int) -> bool:
    rows = eventually(lambda: len(found := house.rows()) == count and found)
    return {(row.status, row.charged_nano_usd) for row in rows} == {("failed", 0)} and house.nothing_held()


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("way", WAYS)
def test_a_fault_before_the_answer_is_a_status_of_its_own(
    sdks: Sdks, house: House, upstream: Upstream, way: str, streamed: bool
) -> None:
    ask, kind, _ = WAYS[way]
    faults = [*AT_ONCE, *((script, 502) for script in NO_STREAM if streamed)]
    for script, status in faults:
        upstream.then(script, script)  # a connection that was kept and is closed without a byte is tried once more
        error = failure(ask, sdks, NATIVE[kind], streamed)
        upstream.forget()
        assert isinstance(error, openai.InternalServerError | anthropic.InternalServerError), (script, error)
        assert error.status_code == status, script
        assert "key-of-faulty" not in str(error.body)
        assert "<html" not in str(error.body)
    assert all_free(house, len(faults))


@pytest.mark.parametrize("way", WAYS)
def test_a_fault_in_a_stream_is_raised_where_it_is_read(sdks: Sdks, house: House, upstream: Upstream, way: str) -> None:
    ask, kind, whole = WAYS[way]
    begun = whole[: len(whole) // 2]
    told = {"error": {"type": "overloaded_error", "message": "Overloaded"}}
    shown = {
        "anthropic": messages_wire.event("error", **told),
        "openai": b'event: error\ndata: {"type":"error","message":"x"}\n\n',
    }
    faults = [
        stream(*begun),
        stream(*begun, 0.02, ending="reset"),
        stream(*begun, b"data: {oops\n\n"),
        stream(*begun, b"event: x\ndata: <html></html>\n\n"),
        stream(*begun, shown.get(kind, b"data: " + json.dumps(told).encode() + b"\n\n")),
        stream(*begun, whole[len(begun)][:-9]),
        stream(b"<html>"),
        stream(b"\n\n\n"),
        stream(*begun, b": still work"),
        stream(*begun, b"\r\n: still work"),
    ]
    for script in faults:
        upstream.then(script)
        failure(ask, sdks, NATIVE[kind], streamed=True)
    assert all_free(house, len(faults))


@pytest.mark.parametrize("way", WAYS)
def test_a_provider_that_hangs_is_given_up_before_and_in_the_stream(
    sdks: Sdks, house: House, upstream: Upstream, way: str
) -> None:
    ask, kind, whole = WAYS[way]
    with transaction.atomic():
        Model.objects.filter(name=NATIVE[kind]).update(timeout={"first_byte": 0.2, "idle": 0.2, "total": 9})
        changed()
    upstream.then(HANG, HANG, stream(*whole[:2], ending="hang"))
    try:
        for streamed in (False, True):
            error = failure(ask, sdks, NATIVE[kind], streamed)
            assert isinstance(error, openai.InternalServerError | anthropic.GatewayTimeoutError)
            assert error.status_code == 504
        failure(ask, sdks, NATIVE[kind], streamed=True)
        assert all(received.gone.wait(9) for received in upstream.received)
    finally:
        with transaction.atomic():
            Model.objects.filter(name=NATIVE[kind]).update(timeout={})
            changed()
    assert all_free(house, 3)


def changed() -> None:
    epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))


@pytest.mark.parametrize("way", ["chat", "responses of chat", "messages of chat"])
def test_two_tool_calls_in_one_chunk_are_two(sdks: Sdks, house: House, upstream: Upstream, way: str) -> None:
    ask, kind, _ = WAYS[way]
    calls = [
        {"index": at, "id": f"c{at}", "type": "function", "function": {"name": f"f{at}", "arguments": "{}"}} for at in range(2)
    ]
    upstream.then(stream(frame({"role": "assistant", "tool_calls": calls}), *frames(finish="tool_calls")[1:]))
    events = [event.to_dict() for event in ask(sdks, NATIVE[kind], True)]  # type: ignore[attr-defined]
    told = json.dumps(events)
    assert [told.count(f'"name": "f{at}"') > 0 for at in range(2)] == [True, True]
    if way == "messages of chat":
        begun = [event["content_block"] for event in events if event["type"] == "content_block_start"]
        assert [(block["type"], block["id"], block["name"]) for block in begun] == [
            ("tool_use", "c0", "f0"), ("tool_use", "c1", "f1"),
        ]  # fmt: skip
    if way == "responses of chat":
        output = events[-1]["response"]["output"]
        assert [(item["call_id"], item["name"], item["arguments"]) for item in output] == [("c0", "f0", "{}"), ("c1", "f1", "{}")]
    assert [row.finish_reason for row in house.rows()] == ["tool_calls"]


# --- what is no chat ---------------------------------------------------------------------------
SOLD = {
    "faulty-vectors": ("embedding", Rates(input=DOLLAR_PER_MILLION, output=0)),
    "faulty-painter": ("image", Rates(input=0, output=0, units={"image": 40_000_000})),
    "faulty-voice": ("speech", Rates(input=0, output=0, units={"character": 15_000})),
    "faulty-ear": ("transcription", Rates(input=0, output=0, units={"minute": 6_000_000})),
    "faulty-film": ("video", Rates(input=0, output=0, units={"second": 100_000_000})),
}
MEDIA: dict[str, Callable[[openai.OpenAI], object]] = {
    "embeddings": lambda client: client.embeddings.create(model="faulty-vectors", input="x"),
    "images": lambda client: client.images.generate(model="faulty-painter", prompt="x"),
    "edits": lambda client: client.images.edit(model="faulty-painter", prompt="x", image=b"\x89PNG"),
    "speech": lambda client: client.audio.speech.create(model="faulty-voice", input="x", voice="alloy"),
    "transcriptions": lambda client: client.audio.transcriptions.create(model="faulty-ear", file=("a.wav", silence(1))),
    "translations": lambda client: client.audio.translations.create(model="faulty-ear", file=("a.wav", silence(1))),
    "videos": lambda client: client.videos.create(model="faulty-film", prompt="x"),
}


@pytest.fixture(scope="module")
def media(models: None, scripted_provider: Upstream, django_db_blocker: DjangoDbBlocker) -> None:
    with django_db_blocker.unblock(), transaction.atomic():
        declare("faulty-media", kind="openai", url=scripted_provider.url)
        provider = Provider.objects.get(name="faulty-media")
        for name, (kind, rates) in SOLD.items():
            model, _ = Model.objects.get_or_create(name=name, defaults={"kind": kind, "circuit_breaker": False})
            Deployment.objects.get_or_create(model=model, provider=provider, upstream_model=name)
            prices.declare(f"model:{name}", rates=rates, source="test")
        changed()


@pytest.mark.usefixtures("media")
@pytest.mark.parametrize("kind", MEDIA)
def test_a_fault_of_what_is_no_chat_is_told_and_free(sdks: Sdks, house: House, upstream: Upstream, kind: str) -> None:
    # Any bytes but JSON may be sound, and any text but JSON what was heard.
    may_be = {"speech": ((b"{oops",), (b"\xff\xfe",)), "transcriptions": ((b"\xff\xfe",),), "translations": ((b"\xff\xfe",),)}
    faults = [entry for entry in AT_ONCE if entry[0].parts not in may_be.get(kind, ())]
    for script, status in faults:
        upstream.then(script)
        with pytest.raises(openai.InternalServerError) as raised:
            MEDIA[kind](sdks.openai)
        assert raised.value.status_code == status, script
    assert all_free(house, len(faults))
