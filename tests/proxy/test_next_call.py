"""A change counts on the very next call, on every worker, and open streams of a key that is refused since end at once."""

from __future__ import annotations

import functools
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import anthropic
import httpx
import openai
import pytest

from gateway_project.lib.money import NANO
from guardrails.models import Limit, Rule
from orgs.models import Application, Membership
from orgs.services.changes import changing
from orgs.services.freezing import freeze_organization, freeze_person
from orgs.services.keys import disable_key, revoke_key
from orgs.services.members import suspend_member
from tests.actors import operator
from tests.gateways import Gateway
from tests.house import House, eventually, raw
from tests.proxy import messages_wire
from tests.proxy.calls import body
from tests.upstream import DONE, Upstream, frame, frames, stream

WITHIN_SECONDS = 1.0


def disabled(house: House) -> None:
    disable_key(house.key, by=house.world.actor("alice"))


def revoked(house: House) -> None:
    revoke_key(house.key, by=house.world.actor("alice"))


def suspended(house: House) -> None:
    membership = Membership.objects.get(user=house.world.mia, group__organization=house.organization)
    suspend_member(membership, by=house.world.actor("alice"))


def frozen(house: House) -> None:
    freeze_person(house.world.mia, reason="abuse", by=operator())


def frozen_organization(house: House) -> None:
    freeze_organization(house.organization, reason="unpaid", by=operator())


def lowered(house: House) -> None:
    with changing(house.organization):
        Limit.objects.filter(policy__organization=house.organization, kind="budget").update(value=1)


def fewer_tokens(house: House) -> None:
    with changing(house.organization):
        Limit.objects.filter(policy__organization=house.organization, kind="max_tokens").update(value=10)


def other_models(house: House) -> None:
    with changing(house.organization):
        Rule.objects.filter(policy__organization=house.organization, kind="models").update(entries=["pair"])


def from_elsewhere(house: House) -> None:
    house.policy(rules={"addresses": ["10.0.0.0/8"]}, to={"group": house.world.root})


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (disabled, "key_disabled"),
        (revoked, "key_revoked"),
        (suspended, "account_frozen"),
        (frozen, "account_frozen"),
        (frozen_organization, "account_frozen"),
        (lowered, "budget_exceeded"),
        (fewer_tokens, "max_tokens_exceeded"),
        (other_models, "model_not_allowed"),
        (from_elsewhere, "ip_not_allowed"),
    ],
)
def test_a_tightened_rule_refuses_the_next_call_of_every_worker(
    gateway: Gateway, second_gateway: Gateway, house: House, upstream: Upstream, change: Callable[[House], None], code: str
) -> None:
    house.policy(("budget", "month", NANO), ("max_tokens", "call", 100), rules={"models": ["scripted", "pair"]})
    asked = body(max_tokens=50)
    for url in (gateway.url, second_gateway.url, gateway.url):
        assert raw(url, house.key_text, asked).status_code == 200
    upstream.forget()

    change(house)

    for url in (second_gateway.url, gateway.url):
        assert raw(url, house.key_text, asked).json()["error"]["code"] == code
    assert upstream.received == []


def test_a_loosened_rule_lets_the_next_call_of_every_worker_through(
    gateway: Gateway, second_gateway: Gateway, house: House
) -> None:
    policy = house.policy(("budget", "month", 0), ("rpm", "minute", 0), rules={"blocked_models": ["scripted"]})
    urls = (gateway.url, second_gateway.url)
    assert {raw(url, house.key_text, body()).status_code for url in urls} == {403}

    with changing(house.organization):
        policy.delete()

    assert {raw(url, house.key_text, body()).status_code for url in urls} == {200}


# --- open streams ------------------------------------------------------------------------------
class Reading(threading.Thread):
    """Reads a stream to its end; `ended_at` is when that was (monotonic)."""

    def __init__(self, url: str, key: str, **members: Any) -> None:
        super().__init__()
        self.url, self.key, self.members = url, key, members
        self.status = 0
        self.headers: dict[str, str] = {}
        self.content = b""
        self.ended_at = 0.0
        self.start()

    def run(self) -> None:
        headers = {"authorization": f"Bearer {self.key}"}
        asked = body(stream=True, **self.members)
        with httpx.stream(
            "POST", f"{self.url}/v1/chat/completions", content=asked, headers=headers, timeout=30, trust_env=False
        ) as got:
            self.status, self.headers = got.status_code, dict(got.headers)
            for chunk in got.iter_raw():
                self.content += chunk
        self.ended_at = time.monotonic()

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.content.split(b"data: ")[-1] if self.status == 200 else self.content)["error"]
        return found


@pytest.fixture
def endless(upstream: Upstream) -> None:
    """A provider that has said "Hello" and then thinks for a long time."""
    upstream.on("scripted", stream(frame({"role": "assistant", "content": "Hello there"}), ending="hang"))


@pytest.mark.parametrize(
    ("change", "code"),
    [(disabled, "key_disabled"), (revoked, "key_revoked"), (suspended, "account_frozen"), (frozen, "account_frozen")],
)
def test_open_streams_end_on_every_worker_and_what_was_delivered_is_charged(
    gateway: Gateway,
    second_gateway: Gateway,
    house: House,
    upstream: Upstream,
    endless: None,
    change: Callable[[House], None],
    code: str,
) -> None:
    readers = [Reading(url, house.key_text) for url in (gateway.url, second_gateway.url, second_gateway.url)]
    assert eventually(lambda: all(b"Hello" in reader.content for reader in readers))

    change(house)
    changed_at = time.monotonic()
    for reader in readers:
        reader.join(10)

    assert max(reader.ended_at for reader in readers) - changed_at < WITHIN_SECONDS
    for reader in readers:
        assert (reader.status, reader.error["code"]) == (200, code)
        assert DONE not in reader.content
        row = house.row_of(reader.headers["x-request-id"])
        assert (row.status, row.error_code, row.usage_estimated) == ("cut", code, True)
        assert row.charged_nano_usd == row.input_tokens * 1_000 + 3 * 4_000  # "Hello there", four characters a token
        assert 0 < row.charged_nano_usd < row.reserved_nano_usd
    assert house.nothing_held()
    assert house.counter("org")["spent"] == sum(row.charged_nano_usd for row in house.rows())
    assert all(received.gone.wait(5) for received in upstream.received)


class Listening(threading.Thread):
    """Reads a stream with an official SDK until that raises; `raised_at` is when it did (monotonic)."""

    def __init__(self, events: Callable[[], Any]) -> None:
        super().__init__()
        self.events = events
        self.heard: list[Any] = []
        self.raised: openai.APIError | anthropic.APIError | None = None
        self.raised_at = 0.0
        self.start()

    def run(self) -> None:
        try:
            for event in self.events():
                self.heard.append(event)
        except (openai.APIError, anthropic.APIError) as error:
            self.raised, self.raised_at = error, time.monotonic()


def listening(house: House, url: str) -> dict[str, Listening]:
    """A stream of each protocol, at a provider that speaks it and at one for which it is translated."""
    openai_client, anthropic_client = house.client(url), house.anthropic_client(url)

    def chat(model: str) -> Any:
        return openai_client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Go"}], stream=True)

    def responses(model: str) -> Any:
        return openai_client.responses.create(model=model, input="Go", stream=True)

    def messages(model: str) -> Any:
        asked: list[Any] = [{"role": "user", "content": "Go"}]
        return anthropic_client.messages.create(model=model, messages=asked, max_tokens=100, stream=True)

    asked = {"chat": chat, "responses": responses, "messages": messages}
    return {
        f"{name}, {model}": Listening(functools.partial(events, model))
        for name, events in asked.items()
        for model in ("scripted", "claude-scripted")
    }


def test_each_protocol_tells_a_cut_stream_so_that_its_sdk_raises(
    gateway: Gateway, house: House, upstream: Upstream, endless: None
) -> None:
    said = messages_wire.block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Hello there"})[:2]
    upstream.on("claude-scripted", stream(messages_wire.start(), *said, ending="hang"))
    listeners = listening(house, gateway.url)
    assert eventually(lambda: all("Hello" in str(one.heard) for one in listeners.values()))

    revoked(house)
    changed_at = time.monotonic()
    for one in listeners.values():
        one.join(10)

    assert max(one.raised_at for one in listeners.values()) - changed_at < WITHIN_SECONDS
    for name, one in listeners.items():
        error = one.raised
        if name.startswith("messages"):
            # The status of the stream is 200: only the type in its event says what it is.
            assert isinstance(error, anthropic.APIStatusError)
            told: Any = error.body
            assert told["error"]["type"] == "authentication_error"
            assert told["error"]["details"] == {"error_code": "key_revoked"}
            assert told["error"]["gatehouse"]["request_id"] == told["request_id"] == error.request_id
        else:
            assert isinstance(error, openai.APIError)
            assert error.code == "key_revoked"
        assert "The answer was cut." in str(error)
    assert house.nothing_held()
    assert {(row.status, row.error_code) for row in house.rows()} == {("cut", "key_revoked")}
    assert len(house.rows()) == len(listeners)


def test_a_stream_whose_provider_still_thinks_is_refused_with_a_real_status(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    upstream.on("scripted", stream(*frames("late"), before=20))
    reader = Reading(gateway.url, house.key_text)
    assert eventually(lambda: upstream.received)

    revoked(house)
    changed_at = time.monotonic()
    reader.join(10)

    assert reader.ended_at - changed_at < WITHIN_SECONDS
    assert (reader.status, reader.error["code"]) == (401, "key_revoked")
    row = house.row_of(reader.headers["x-request-id"])
    assert (row.status, row.error_code, row.charged_nano_usd) == ("failed", "key_revoked", 0)
    assert house.nothing_held()
    assert upstream.received[-1].gone.wait(5)


def test_a_key_revoked_before_its_first_frame_came_is_noticed_though_others_stream(
    gateway: Gateway, house: House, upstream: Upstream, endless: None
) -> None:
    """The worker has seen the change while it looked after the other stream, before this one was open."""
    _, other = house.new_key()
    steady = Reading(gateway.url, other)
    assert eventually(lambda: b"Hello" in steady.content)
    upstream.on("pair", stream(0.8, frame({"content": "Hello"}), ending="hang"))
    late = Reading(gateway.url, house.key_text, model="pair")
    assert eventually(lambda: len(upstream.received) == 2)

    revoked(house)
    changed_at = time.monotonic()
    late.join(10)

    assert late.ended_at - changed_at < 0.8 + WITHIN_SECONDS
    assert late.error["code"] == "key_revoked"
    assert steady.is_alive()
    suspended(house)
    steady.join(10)
    assert steady.error["code"] == "account_frozen"
    assert house.nothing_held()


def test_streams_of_other_keys_go_on_whatever_else_changes(gateway: Gateway, house: House, upstream: Upstream) -> None:
    """Limits changed meanwhile count for the next call: what is under way was admitted."""
    _, other = house.new_key()
    parts = [part for text in "abcdefghij" for part in (frame({"content": text}), 0.1)]
    upstream.on("scripted", stream(*parts, *frames("end", usage=(10, 2))[2:]))
    reader = Reading(gateway.url, other)
    assert eventually(lambda: b'"a"' in reader.content)

    revoked(house)
    house.policy(("budget", "month", 0), rules={"blocked_models": ["*"]}, to={"group": house.world.root})
    reader.join(10)

    assert reader.content.endswith(DONE)
    assert house.row_of(reader.headers["x-request-id"]).status == "ok"
    assert raw(gateway.url, other, body()).status_code == 403


def test_a_key_whose_application_is_archived_ends_too(gateway: Gateway, house: House, endless: None) -> None:
    world = house.world
    _, key = house.new_key(application=world.assistant, environment="production", features=["chat"])
    reader = Reading(gateway.url, key)
    assert eventually(lambda: b"Hello" in reader.content)

    with changing(house.organization):
        Application.objects.filter(pk=world.assistant.pk).update(archived_at=datetime.now(UTC))
    changed_at = time.monotonic()
    reader.join(10)

    assert reader.ended_at - changed_at < WITHIN_SECONDS
    assert reader.error["code"] == "key_disabled"
