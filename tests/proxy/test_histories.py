"""Responses that are kept: where it is allowed, for whom, how long; and calls that go on from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from django.db import connection

from proxy import histories
from proxy.models import KeptResponse
from tests.gateways import Gateway
from tests.house import House, build, declare, eventually, raw
from tests.proxy.responses_wire import Members, assembled, called, events_in, frames_of, response, said, thought
from tests.upstream import Script, Upstream, answer, stream

SECRET = "canary-8d1f"
NATIVE, CHAT = "native-kept", "scripted"


@pytest.fixture
def keeping(house: House, upstream: Upstream) -> Iterator[House]:
    """An organisation that lets contents be kept for a day, and a model whose provider speaks Responses.

    A sample of the calls is no bound here: a conversation would have gaps.
    """
    declare(NATIVE, kind="openai", url=upstream.url)
    house.change(content_retention_hours=24, content_sample_percent=1)
    yield house
    KeptResponse.objects.filter(organization=house.organization).delete()


def ask(gateway: Gateway, house: House, *, key: str | None = None, **members: Any) -> httpx.Response:
    body = {"model": NATIVE, "input": "Hi", "store": True, **members}
    return raw(gateway.url, key or house.key_text, json.dumps(body).encode(), path="/v1/responses")


def numbered(number: int, *output: Members) -> Script:
    return Script(parts=(json.dumps(response(*output, id=f"resp_{number}")).encode(),))


def refusal(got: httpx.Response) -> tuple[int, str, str | None]:
    error = got.json()["error"]
    return got.status_code, error["code"], error["param"]


# --- going on ----------------------------------------------------------------------------------
def test_a_conversation_goes_on_turn_by_turn_at_a_provider_that_keeps_nothing(
    gateway: Gateway, keeping: House, upstream: Upstream
) -> None:
    upstream.then(
        numbered(1, thought("Hm", sealed="theirs", number=0), called("look", "{}")),
        numbered(2, said("It is open.")),
        numbered(3, said("Bye.")),
    )
    client = keeping.client(gateway.url)
    result: Any = {"type": "function_call_output", "call_id": "call_1", "output": "open"}

    first = client.responses.create(model=NATIVE, input="Is it open?", instructions="Be brief.", store=True)
    second = client.responses.create(model=NATIVE, input=[result], previous_response_id=first.id, store=True)
    third = client.responses.create(model=NATIVE, input="Thanks.", previous_response_id=second.id)

    assert [(one.id, one.previous_response_id) for one in (first, second, third)] == [
        ("resp_1", None), ("resp_2", "resp_1"), ("resp_3", "resp_2"),
    ]  # fmt: skip
    assert all(received.json["store"] is False for received in upstream.received)
    assert not any("previous_response_id" in received.json for received in upstream.received)
    sent = upstream.received[-1].json
    assert "instructions" not in sent
    assert [item["type"] for item in sent["input"]] == [
        "message", "reasoning", "function_call", "function_call_output", "message", "message",
    ]  # fmt: skip
    assert sent["input"][1]["encrypted_content"] == "theirs"
    assert KeptResponse.objects.filter(organization=keeping.organization).count() == 2


def test_it_goes_on_at_another_provider_and_as_a_stream(gateway: Gateway, keeping: House, upstream: Upstream) -> None:
    upstream.then(stream(*frames_of(response(said("North."), id="resp_s"))), answer("South."))

    first = assembled_loosely(ask(gateway, keeping, input="Which gate?", stream=True).content)
    second = ask(gateway, keeping, model=CHAT, input="And the other?", previous_response_id="resp_s").json()
    third = ask(gateway, keeping, model=CHAT, input="So?", previous_response_id=second["id"], stream=True)

    assert (first["id"], first["store"]) == ("resp_s", True)
    assert (second["store"], second["previous_response_id"]) == (True, "resp_s")
    told = assembled(events_in(third.content))
    assert told["previous_response_id"] == second["id"]
    assert [(message["role"], message["content"]) for message in upstream.received[-1].json["messages"]] == [
        ("user", "Which gate?"), ("assistant", "North."), ("user", "And the other?"), ("assistant", "South."), ("user", "So?"),
    ]  # fmt: skip


def assembled_loosely(sent: bytes) -> Members:
    return dict(events_in(sent)[-1]["response"])


def test_history_is_paid_for_as_input(gateway: Gateway, keeping: House, upstream: Upstream) -> None:
    upstream.then(answer("word " * 2000), answer("So."))
    first = ask(gateway, keeping, model=CHAT, input="Speak.").json()
    keeping.policy(("tpm", "minute", 1500))

    got = ask(gateway, keeping, model=CHAT, input="And?", previous_response_id=first["id"], max_output_tokens=16)

    assert refusal(got)[:2] == (429, "token_rate_limit_exceeded")


# --- where it is not allowed, or not there -----------------------------------------------------
def test_nothing_is_kept_unless_the_organization_allows_it(gateway: Gateway, house: House, upstream: Upstream) -> None:
    assert refusal(ask(gateway, house, model=CHAT)) == (400, "invalid_request", "store")
    assert upstream.received == []
    for store in (None, False):
        assert ask(gateway, house, model=CHAT, store=store).json()["store"] is False
    assert not KeptResponse.objects.filter(organization=house.organization).exists()


def test_a_changed_setting_counts_on_the_next_call(gateway: Gateway, house: House) -> None:
    assert ask(gateway, house, model=CHAT).status_code == 400
    house.change(content_retention_hours=1)
    kept = ask(gateway, house, model=CHAT).json()
    assert ask(gateway, house, model=CHAT, previous_response_id=kept["id"]).status_code == 200
    house.change(content_retention_hours=0)
    got = ask(gateway, house, model=CHAT, previous_response_id=kept["id"], store=False)
    assert refusal(got) == (400, "previous_response_not_found", "previous_response_id")
    assert raw_get(gateway, house, kept["id"]).status_code == 404


def raw_get(gateway: Gateway, house: House, name: str, *, key: str | None = None) -> httpx.Response:
    headers = {"authorization": f"Bearer {key or house.key_text}"}
    return httpx.get(f"{gateway.url}/v1/responses/{name}", headers=headers, timeout=30, trust_env=False)


@pytest.mark.parametrize("unknown", ["resp_none", "x" * 5000, "\x00", "resp_'; --"])
def test_an_unknown_response_is_named(gateway: Gateway, keeping: House, upstream: Upstream, unknown: str) -> None:
    got = ask(gateway, keeping, previous_response_id=unknown)
    assert refusal(got) == (400, "previous_response_not_found", "previous_response_id")
    assert upstream.received == []
    (row,) = eventually(keeping.rows)
    assert (row.status, row.charged_nano_usd) == ("refused", 0)


def test_what_was_not_kept_cannot_be_gone_on_from(gateway: Gateway, keeping: House) -> None:
    for store in (None, False):
        passing = ask(gateway, keeping, model=CHAT, store=store).json()
        got = ask(gateway, keeping, previous_response_id=passing["id"])
        assert refusal(got)[1] == "previous_response_not_found"
        assert "Only those that were asked for with `store: true`" in got.json()["error"]["message"]


def test_where_nothing_is_kept_it_says_so_and_what_to_do(gateway: Gateway, house: House) -> None:
    client = house.client(gateway.url)
    first = client.responses.create(model=CHAT, input="Hi")
    with pytest.raises(openai.BadRequestError, match="keeps no contents of calls: send the whole conversation"):
        client.responses.create(model=CHAT, input="And then?", previous_response_id=first.id)


def test_a_history_with_a_gap_is_none(gateway: Gateway, keeping: House, upstream: Upstream) -> None:
    upstream.then(numbered(1, said("one")), numbered(2, said("two")), numbered(3, said("three")))
    client = keeping.client(gateway.url)
    for number in range(3):
        before: Any = {"previous_response_id": f"resp_{number}"} if number else {}
        client.responses.create(model=NATIVE, input="Hi", store=True, **before)

    client.responses.delete("resp_1")

    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(model=NATIVE, input="Hi", previous_response_id="resp_3")
    assert raised.value.code == "previous_response_not_found"
    assert client.responses.retrieve("resp_3").output_text == "three"


def test_a_turn_that_is_over_is_gone_at_once_and_swept_later(gateway: Gateway, keeping: House) -> None:
    kept = ask(gateway, keeping, model=CHAT).json()
    other = ask(gateway, keeping, model=CHAT).json()
    rows = KeptResponse.objects.filter(organization=keeping.organization)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE proxy_keptresponse SET expires_at = now() WHERE response_id = %s AND organization_id = %s",
            [kept["id"], keeping.organization.pk],
        )

    assert raw_get(gateway, keeping, kept["id"]).status_code == 404
    assert raw_get(gateway, keeping, other["id"]).status_code == 200
    assert rows.count() == 2
    histories.forget_expired(batch=1)
    assert [row.response_id for row in rows.all()] == [other["id"]]
    keeping.change(content_retention_hours=0)
    histories.forget_expired()
    assert not rows.all().exists()


# --- for whom ----------------------------------------------------------------------------------
def test_a_member_goes_on_with_any_key_and_nobody_else_does(gateway: Gateway, keeping: House) -> None:
    world = keeping.world
    kept = ask(gateway, keeping, model=CHAT).json()["id"]
    _, second = keeping.new_key(name="Mia's other key")
    team = {"member": None, "application": world.assistant, "group": world.assistant.group, "by": world.alice}
    _, service = keeping.new_key(**team, environment="production", features=["chat"])
    stranger = build()
    stranger.change(content_retention_hours=24)
    assert ask(gateway, keeping, model=CHAT, key=second, previous_response_id=kept).status_code == 200
    assert raw_get(gateway, keeping, kept, key=second).status_code == 200
    for key in (service, stranger.key_text):
        got = ask(gateway, keeping, model=CHAT, key=key, previous_response_id=kept)
        assert refusal(got)[1] == "previous_response_not_found"
        assert raw_get(gateway, keeping, kept, key=key).status_code == 404
    of_team = ask(gateway, keeping, model=CHAT, key=service).json()["id"]
    assert raw_get(gateway, keeping, of_team, key=service).status_code == 200
    assert raw_get(gateway, keeping, of_team).status_code == 404


# --- reading and deleting ----------------------------------------------------------------------
def test_a_kept_response_is_read_as_it_was_answered(gateway: Gateway, keeping: House, upstream: Upstream) -> None:
    upstream.then(numbered(7, said("Hello")))
    got = ask(gateway, keeping)
    again = raw_get(gateway, keeping, "resp_7")
    assert (again.status_code, again.content) == (200, got.content)
    assert again.headers["content-type"] == "application/json"
    streamed = raw_get(gateway, keeping, "resp_7?stream=true")
    assert refusal(streamed) == (400, "invalid_request", "stream")


def test_a_deleted_response_is_gone(gateway: Gateway, keeping: House) -> None:
    kept = ask(gateway, keeping, model=CHAT).json()["id"]
    address = f"{gateway.url}/v1/responses/{kept}"
    headers = {"authorization": f"Bearer {keeping.key_text}"}

    deleted = httpx.delete(address, headers=headers, timeout=30, trust_env=False)

    assert deleted.json() == {"id": kept, "object": "response", "deleted": True}
    for got in (raw_get(gateway, keeping, kept), httpx.delete(address, headers=headers, timeout=30, trust_env=False)):
        assert refusal(got) == (404, "response_not_found", None)
    with pytest.raises(openai.NotFoundError):
        keeping.client(gateway.url).responses.retrieve(kept)


def test_other_methods_and_strangers_are_told_so(gateway: Gateway, keeping: House) -> None:
    posted = raw(gateway.url, keeping.key_text, b"{}", path="/v1/responses/resp_1")
    assert refusal(posted)[:2] == (405, "method_not_allowed")
    assert refusal(raw_get(gateway, keeping, "resp_1", key="gh_sk_wrong"))[:2] == (401, "invalid_api_key")


def test_what_is_kept_is_sealed(gateway: Gateway, keeping: House, upstream: Upstream) -> None:
    upstream.then(answer(f"The word is {SECRET}-answer."))
    kept = ask(gateway, keeping, model=CHAT, input=f"What is {SECRET}-question?", instructions=f"{SECRET}-instructions").json()
    row = KeptResponse.objects.get(response_id=kept["id"])
    assert SECRET.encode() not in bytes(row.sealed)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM proxy_keptresponse AS t WHERE t::text LIKE %s", [f"%{SECRET}%"])
        assert cursor.fetchone() == (0,)
    # Moved to another row it does not open.
    other = ask(gateway, keeping, model=CHAT).json()
    KeptResponse.objects.filter(response_id=other["id"]).update(sealed=row.sealed)
    assert raw_get(gateway, keeping, other["id"]).status_code == 404
    assert refusal(ask(gateway, keeping, model=CHAT, previous_response_id=other["id"]))[1] == "previous_response_not_found"
