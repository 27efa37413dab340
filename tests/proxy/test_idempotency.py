"""A call that is sent again under its `Idempotency-Key`: what its caller is told, whichever worker it meets."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from django.utils import timezone

from gateway_project.lib import ids
from orgs.services.keys import disable_key
from proxy import kept
from proxy.models import IdempotencyClaim, KeptAnswer
from proxy.tasks import forget_expired
from tests.gateways import Gateway
from tests.house import House, eventually, raw
from tests.proxy.calls import body
from tests.proxy.test_hanging_up import leave_after
from tests.upstream import Upstream, answer, frame, frames, refuse, stream

COST = 10 * 1_000 + 2 * 4_000
WHOLE, STREAM = body(), body(stream=True)


class Program:
    """One that repeats itself: every call of it has the same idempotency key, until it takes a `fresh` one."""

    def __init__(self, house: House, *gateways: Gateway) -> None:
        self.house, self.gateways = house, gateways
        self.fresh()

    def fresh(self) -> None:
        self.key = f"order 17/{secrets.token_hex(8)}"

    def call(self, content: bytes = WHOLE, *, at: int = 0, key: str | None = None, api_key: str | None = None) -> httpx.Response:
        headers = {"idempotency-key": self.key if key is None else key}
        return raw(self.gateways[at].url, api_key or self.house.key_text, content, **headers)

    def claims(self) -> list[IdempotencyClaim]:
        return list(IdempotencyClaim.objects.filter(api_key__organization=self.house.organization))

    def nothing_claimed(self) -> bool:
        return bool(eventually(lambda: not self.claims()))


@pytest.fixture
def program(house: House, gateway: Gateway, second_gateway: Gateway) -> Program:
    return Program(house, gateway, second_gateway)


@pytest.fixture
def keeping(house: House) -> None:
    """The organisation keeps contents for a day."""
    house.change(content_retention_hours=24)


def told(answered: httpx.Response) -> dict[str, Any]:
    detail: dict[str, Any] = answered.json()["error"]["gatehouse"]
    return detail


def completed(house: House) -> list[str]:
    return [str(row.call_id) for row in house.rows() if row.status == "ok"]


# --- without retention -------------------------------------------------------------------------
@pytest.mark.parametrize("content", [WHOLE, STREAM])
@pytest.mark.parametrize("at", [0, 1])
def test_a_repeated_call_is_told_that_it_has_been_answered_and_what_it_was_charged(
    program: Program, house: House, upstream: Upstream, content: bytes, at: int
) -> None:
    first = program.call(content)
    again = program.call(content, at=at)

    assert first.status_code == 200
    assert (again.status_code, again.headers["x-should-retry"]) == (409, "false")
    detail = told(again)
    assert (detail["code"], detail["call_id"], detail["ended"]) == ("already_completed", first.headers["x-request-id"], "ok")
    assert detail["charged"] == "0.000018"
    assert "$0.000018" in again.json()["error"]["message"]
    assert len(upstream.received) == 1
    assert completed(house) == [first.headers["x-request-id"]]
    refusal = house.row_of(again.headers["x-request-id"])
    assert (refusal.status, refusal.error_code, refusal.charged_nano_usd) == ("refused", "already_completed", 0)
    assert not KeptAnswer.objects.filter(organization=house.organization).exists()


@pytest.mark.parametrize("content", [WHOLE, STREAM])
@pytest.mark.parametrize("retention", [0, 24])
def test_of_those_that_come_together_one_runs_and_the_others_wait_for_it(
    program: Program, house: House, upstream: Upstream, content: bytes, retention: int
) -> None:
    house.change(content_retention_hours=retention)
    upstream.then(stream(*frames("Hel", "lo"), before=0.4) if content == STREAM else answer("Hello", before=0.4))

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda number: program.call(content, at=number % 2), range(6)))

    (call_id,) = completed(house)
    assert len(upstream.received) == 1
    ran = [found for found in answers if "x-gatehouse-replayed" not in found.headers and found.status_code == 200]
    assert [found.headers["x-request-id"] for found in ran] == [call_id]
    others = [found for found in answers if found not in ran]
    if retention:
        assert {(found.status_code, found.content) for found in others} == {(200, ran[0].content)}
        assert {found.headers["x-request-id"] for found in others} == {call_id}
    else:
        assert {(found.status_code, told(found)["call_id"]) for found in others} == {(409, call_id)}
    assert sum(row.charged_nano_usd for row in house.rows()) == COST
    assert house.nothing_held()


def test_another_body_is_a_conflict_while_the_call_runs_and_after(program: Program, house: House, upstream: Upstream) -> None:
    upstream.then(answer("Hello", before=0.5))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(program.call)
        assert eventually(lambda: upstream.received)
        meanwhile = program.call(body(max_tokens=7), at=1)
        first = running.result()
    after = program.call(body(max_tokens=7))

    for conflict in (meanwhile, after):
        assert (conflict.status_code, told(conflict)["code"]) == (409, "idempotency_conflict")
        assert conflict.headers["x-should-retry"] == "false"
        assert house.row_of(conflict.headers["x-request-id"]).error_code == "idempotency_conflict"
    assert completed(house) == [first.headers["x-request-id"]]
    assert len(upstream.received) == 1


def test_an_idempotency_key_is_its_api_keys_own(program: Program, house: House, upstream: Upstream) -> None:
    _, text = house.new_key()
    assert program.call().status_code == 200
    assert program.call(body(max_tokens=7), api_key=text).status_code == 200
    assert len(upstream.received) == 2


def test_calls_without_one_are_independent_and_leave_no_claim(program: Program, house: House, gateway: Gateway) -> None:
    assert [raw(gateway.url, house.key_text, WHOLE).status_code for _ in range(2)] == [200, 200]
    assert program.claims() == []


# --- what frees it -----------------------------------------------------------------------------
@pytest.mark.parametrize("content", [WHOLE, STREAM])
@pytest.mark.parametrize("status", [400, 500])
def test_a_call_that_failed_for_nothing_runs_again(
    program: Program, house: House, upstream: Upstream, content: bytes, status: int
) -> None:
    upstream.then(refuse(status))
    failed = program.call(content)
    again = program.call(content, at=1)

    assert failed.status_code in (400, 502)
    assert again.status_code == 200
    assert completed(house) == [again.headers["x-request-id"]]


def test_a_stream_that_broke_off_was_charged_nothing_and_runs_again(program: Program, house: House, upstream: Upstream) -> None:
    upstream.then(stream(frame({"content": "half"}), b"data: no json\n\n"))
    assert b"[DONE]" not in program.call(STREAM).content
    again = program.call(STREAM)
    assert b"[DONE]" in again.content
    assert completed(house) == [again.headers["x-request-id"]]


def test_a_refused_call_frees_its_key_even_for_another_body(program: Program, house: House, upstream: Upstream) -> None:
    house.limit("budget", 1)
    assert program.call().status_code == 403
    assert program.nothing_claimed()
    house.world.key.refresh_from_db()

    assert program.call(body(model="sandbox-instant")).status_code == 403
    assert program.nothing_claimed()
    assert upstream.received == []


def test_who_hung_up_before_the_answer_may_call_again(
    program: Program, house: House, gateway: Gateway, upstream: Upstream
) -> None:
    upstream.then(answer(before=20))
    leave_after(gateway, house, WHOLE, marker=upstream, headers={"Idempotency-Key": program.key})
    assert upstream.received[-1].gone.wait(5)

    again = program.call(at=1)

    assert again.status_code == 200
    assert [row.status for row in house.rows()] == ["cancelled", "ok"]


def test_who_hung_up_in_a_stream_has_paid_for_it_and_is_told_so(
    program: Program, house: House, gateway: Gateway, upstream: Upstream
) -> None:
    upstream.then(stream(frame({"content": "half a word"}), 20.0))
    leave_after(gateway, house, STREAM, marker=b"half a word", headers={"Idempotency-Key": program.key})

    again = program.call(STREAM, at=1)

    assert again.status_code == 409
    assert told(again)["ended"] == "cancelled"
    (row,) = [row for row in house.rows() if row.status == "cancelled"]
    assert (told(again)["call_id"], row.charged_nano_usd > 0) == (str(row.call_id), True)


# --- what never claims -------------------------------------------------------------------------
@pytest.mark.parametrize("key", ["", "x" * 256, "caf\u00e9".encode(), b"a\tb"])
def test_a_key_that_is_none_is_a_bad_request(program: Program, house: House, upstream: Upstream, key: Any) -> None:
    refused = program.call(key=key)
    assert (refused.status_code, told(refused)["code"]) == (400, "invalid_request")
    assert refused.json()["error"]["param"] == "idempotency-key"
    assert "1 to 255 printable ASCII" in refused.json()["error"]["message"]
    assert house.row_of(refused.headers["x-request-id"]).status == "refused"
    assert upstream.received == []


@pytest.mark.parametrize("key", ["x", "~" * 255, "with blanks, and 'signs'"])
def test_any_printable_ascii_is_a_key(program: Program, key: str) -> None:
    key = key[:-12] + secrets.token_hex(6) if len(key) > 12 else key
    assert [program.call(key=key).status_code for _ in range(2)] == [200, 409]


def test_what_cannot_be_read_or_belongs_to_nobody_claims_nothing(program: Program) -> None:
    assert program.call(b'{"model":').status_code == 400
    assert program.call(api_key="gh_sk_abcdefabcdef_" + "x" * 43).status_code == 401
    assert program.claims() == []
    assert program.call().status_code == 200


# --- with retention ----------------------------------------------------------------------------
@pytest.mark.parametrize("content", [WHOLE, STREAM])
def test_a_repeated_call_gets_the_first_answer_byte_for_byte(
    program: Program, house: House, upstream: Upstream, keeping: None, content: bytes
) -> None:
    first = program.call(content)
    again = program.call(content, at=1)

    assert (again.status_code, again.content) == (200, first.content)
    lasting = ("x-request-id", "request-id", "content-type", "x-gatehouse-model", "x-gatehouse-route", "x-gatehouse-cost-usd")
    assert [again.headers.get(name) for name in lasting] == [first.headers.get(name) for name in lasting]
    assert again.headers["x-gatehouse-replayed"] == "true"
    assert "x-gatehouse-replayed" not in first.headers
    assert len(upstream.received) == 1
    assert len(house.rows()) == 1


def test_the_official_client_reads_a_replayed_stream(program: Program, house: House, gateway: Gateway, keeping: None) -> None:
    def read() -> str:
        parts = house.client(gateway.url).chat.completions.create(
            model="scripted",
            messages=[{"role": "user", "content": "Hello"}],
            stream=True,
            extra_headers={"Idempotency-Key": program.key},
        )
        return "".join(part.choices[0].delta.content or "" for part in parts if part.choices)

    assert [read(), read()] == ["Hello", "Hello"]


@pytest.mark.parametrize("content", [WHOLE, STREAM])
def test_only_the_answers_of_the_sample_are_given_out_again(
    program: Program, house: House, keeping: None, content: bytes
) -> None:
    house.change(content_sample_percent=50)
    first, again = [], []
    for _ in range(8):
        program.fresh()
        first.append(program.call(content))
        again.append(program.call(content, at=1))

    sampled = [kept.in_sample(UUID(found.headers["x-request-id"]), percent=50) for found in first]
    assert [found.status_code for found in again] == [200 if is_kept else 409 for is_kept in sampled]
    assert KeptAnswer.objects.filter(organization=house.organization).count() == sum(sampled)
    assert len(completed(house)) == 8


def test_a_sample_is_a_share_of_the_calls_and_a_larger_one_holds_the_smaller() -> None:
    calls = [ids.call_id_at(timezone.now(), random_bits=number * 0x1_4771_1B2F) for number in range(5000)]
    shares = {percent: {call for call in calls if kept.in_sample(call, percent=percent)} for percent in (1, 10, 50, 99, 100)}
    for percent, sample in shares.items():
        assert abs(len(sample) / len(calls) - percent / 100) < 0.02
    assert shares[1] < shares[10] < shares[50] < shares[99] < shares[100] == set(calls)


def after_two_hours(house: House) -> None:
    KeptAnswer.objects.filter(organization=house.organization).update(kept_at=timezone.now() - timedelta(hours=2))


def without_retention(house: House) -> None:
    house.change(content_retention_hours=0)


def with_an_hour(house: House) -> None:
    after_two_hours(house)
    house.change(content_retention_hours=1)


def past_its_end(house: House) -> None:
    KeptAnswer.objects.filter(organization=house.organization).update(expires_at=timezone.now())


def swapped_with_another(house: House) -> None:
    """Sealed contents are bound to their row."""
    row = KeptAnswer.objects.get(organization=house.organization)
    KeptAnswer.objects.filter(pk=row.pk).update(sealed=bytes(row.sealed)[:-1] + bytes([bytes(row.sealed)[-1] ^ 1]))


@pytest.mark.parametrize("spoil", [without_retention, with_an_hour, past_its_end, swapped_with_another])
def test_what_may_not_be_kept_any_longer_or_does_not_open_is_not_given_out(
    program: Program, house: House, keeping: None, spoil: Callable[[House], None]
) -> None:
    first = program.call()
    spoil(house)
    again = program.call(at=1)
    assert (again.status_code, told(again)["call_id"]) == (409, first.headers["x-request-id"])


@pytest.mark.parametrize(("spoil", "left"), [(after_two_hours, 1), (without_retention, 0), (with_an_hour, 0), (past_its_end, 0)])
def test_kept_answers_are_deleted_when_their_time_is_over(
    program: Program, house: House, keeping: None, spoil: Callable[[House], None], left: int
) -> None:
    program.call()
    spoil(house)
    forget_expired()
    assert KeptAnswer.objects.filter(organization=house.organization).count() == left


def test_an_answer_is_kept_no_longer_than_its_key_stands_for_it(program: Program, house: House) -> None:
    house.change(content_retention_hours=720)
    program.call()
    kept = KeptAnswer.objects.get(organization=house.organization)
    assert kept.expires_at - kept.kept_at == timedelta(hours=24)
    assert kept.call_id == UUID(completed(house)[0])


def test_what_was_said_cannot_be_read_where_it_is_kept(program: Program, house: House, upstream: Upstream, keeping: None) -> None:
    secret = secrets.token_hex(8)
    upstream.then(answer(secret))
    assert secret in program.call().text
    assert secret.encode() not in bytes(KeptAnswer.objects.get(organization=house.organization).sealed)
    assert program.key.encode() not in bytes(program.claims()[0].key_digest)


def test_a_key_that_was_disabled_gets_nothing_any_more(program: Program, house: House, keeping: None) -> None:
    program.call()
    disable_key(house.key, by=house.world.actor("alice"))
    assert program.call().status_code == 401


def test_from_where_a_key_may_not_be_used_nothing_is_told(program: Program, house: House, keeping: None) -> None:
    program.call()
    house.policy(rules={"addresses": ["203.0.113.0/24"]})
    refused = program.call()
    assert (refused.status_code, told(refused)["code"]) == (403, "ip_not_allowed")


# --- time --------------------------------------------------------------------------------------
def grow_old(program: Program, *, hours: int) -> None:
    for claim in program.claims():
        IdempotencyClaim.objects.filter(pk=claim.pk).update(claimed_at=claim.claimed_at - timedelta(hours=hours))


@pytest.mark.parametrize(("hours", "statuses"), [(23, [409, 409]), (25, [200, 409])])
def test_a_key_stands_for_its_call_for_a_day(program: Program, hours: int, statuses: list[int]) -> None:
    program.call()
    grow_old(program, hours=hours)
    assert [program.call(body(max_tokens=7)).status_code for _ in range(2)] == statuses


def test_keys_of_yesterday_are_deleted_in_batches(program: Program) -> None:
    from proxy import idempotency

    for _ in range(5):
        program.fresh()
        program.call()
    grow_old(program, hours=25)
    program.fresh()
    program.call()

    assert idempotency.forget_expired(batch=2) == 5

    assert len(program.claims()) == 1


def test_the_body_is_not_kept_as_a_claim(program: Program) -> None:
    program.call()
    (claim,) = program.claims()
    assert (len(bytes(claim.key_digest)), len(bytes(claim.body_digest))) == (32, 32)
    assert json.loads(WHOLE)["messages"][0]["content"] not in str(claim.__dict__)
