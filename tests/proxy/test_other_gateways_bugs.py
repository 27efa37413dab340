"""Bugs that users of other gateways have reported, each shown to be absent here, through the front door."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from gateway_project.lib.money import NANO
from tests.gateways import Gateway
from tests.house import House, eventually, raw
from tests.proxy.calls import body
from tests.proxy.test_hanging_up import leave_after
from tests.upstream import HANG, RESET, Upstream, answer, frame, frames, refuse, slowly, stream

TEN_CENTS = body(model="output-only", max_tokens=1000)


def spent_equals_ledger(house: House) -> bool:
    def agree() -> bool:
        charged = sum(row.charged_nano_usd for row in house.rows())
        return not house.held() and house.counter("org") == {"spent": charged, "held": 0}

    return bool(eventually(agree, seconds=10))


def at_once(calls: list[Callable[[], httpx.Response]]) -> list[httpx.Response]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(lambda call: call(), calls))


# --- spending past a cap under concurrency -----------------------------------------------------
def test_the_first_calls_of_an_unknown_key_cannot_slip_past_its_budget_together(
    gateway: Gateway, second_gateway: Gateway, house: House, upstream: Upstream
) -> None:
    """No worker knows the key, no counter is loaded, and all calls come at the same moment."""
    world = house.world
    fresh = [house.new_key() for _ in range(2)]
    house.policy(("budget", "total", 3 * NANO // 10), to={"member": world.mia})
    upstream.on("output-only", answer(usage=(10, 1000), before=0.3))
    urls = (gateway.url, second_gateway.url)
    together = threading.Barrier(24)

    def call(number: int) -> Callable[[], httpx.Response]:
        def work() -> httpx.Response:
            together.wait()
            return raw(urls[number % 2], fresh[number // 2 % 2][1], TEN_CENTS)

        return work

    got = at_once([call(number) for number in range(24)])

    assert Counter(answered.status_code for answered in got) == {200: 3, 403: 21}
    assert spent_equals_ledger(house)
    assert house.counter(f"m{world.mia.pk}")["spent"] == 3 * NANO // 10


def test_a_budget_of_zero_is_a_budget(gateway: Gateway, house: House, upstream: Upstream) -> None:
    house.policy(("budget", "month", 0))

    assert raw(gateway.url, house.key_text, body()).status_code == 403
    assert upstream.received == []


def test_the_last_call_is_not_let_through_on_credit(gateway: Gateway, house: House, upstream: Upstream) -> None:
    """What is left covers half of it, and its caller wants all: refused, not shrunk and admitted."""
    house.policy(("budget", "month", NANO // 20))

    assert raw(gateway.url, house.key_text, TEN_CENTS).status_code == 403
    assert upstream.received == []


def test_many_choices_cost_as_many_times_as_much(gateway: Gateway, house: House, upstream: Upstream) -> None:
    house.policy(("budget", "month", NANO // 10))

    assert raw(gateway.url, house.key_text, body(model="output-only", max_tokens=1000, n=2)).status_code == 403
    assert raw(gateway.url, house.key_text, body(model="output-only", max_tokens=500, n=2)).status_code == 200


def test_calls_running_at_once_are_counted_over_all_workers(
    gateway: Gateway, second_gateway: Gateway, house: House, upstream: Upstream
) -> None:
    house.policy(("parallel", "now", 3))
    upstream.on("scripted", answer(before=1))
    urls = (gateway.url, second_gateway.url)

    got = at_once([lambda url=urls[number % 2]: raw(url, house.key_text, body()) for number in range(8)])  # type: ignore[misc]

    assert Counter(answered.status_code for answered in got) == {200: 3, 429: 5}
    assert spent_equals_ledger(house)
    assert raw(gateway.url, house.key_text, body(model="pair")).status_code == 200


# --- refusals for money that was never spent ---------------------------------------------------
def test_whatever_goes_wrong_leaves_all_of_the_budget_for_those_who_come_after(
    gateway: Gateway, second_gateway: Gateway, house: House, upstream: Upstream
) -> None:
    """Refused requests, broken streams, dead providers, time-outs, hang-ups: not one of them pins a cent."""
    house.policy(("budget", "total", NANO))
    key, urls = house.key_text, (gateway.url, second_gateway.url)
    upstream.on("output-only", stream(frame({"role": "assistant"}), ending="reset"))
    upstream.on("impatient", HANG)
    wrong: list[bytes] = [
        body(model="output-only", max_tokens=1000, stream=True),
        body(model="impatient", max_tokens=1000),
        body(model="dead", max_tokens=1000),
        body(model="no-such-model"),
        body(model="output-only", max_tokens=4000, n=25),
        body(model="output-only", n=0),
        b"{",
    ]
    for number, asked in enumerate(wrong * 2):
        raw(urls[number % 2], key, asked)
    for script in (refuse(400), refuse(429), refuse(500), RESET):
        upstream.then(script, script)  # a connection that was kept and is closed without a byte is tried once more
        assert raw(gateway.url, key, TEN_CENTS).status_code >= 400
        upstream.forget()
    upstream.on("scripted", slowly(answer(), 5))
    for streamed in (b"", b',"stream":true'):
        asked = b'{"model":"scripted","messages":[{"role":"user","content":"x"}]%s}' % streamed
        leave_after(gateway, house, asked, marker=upstream)
    assert spent_equals_ledger(house)
    assert house.counter("org") == {"spent": 0, "held": 0}

    upstream.on("output-only", answer(usage=(10, 1000)))
    got = at_once([lambda url=urls[number % 2]: raw(url, key, TEN_CENTS) for number in range(12)])  # type: ignore[misc]

    assert Counter(answered.status_code for answered in got) == {200: 10, 403: 2}
    assert house.counter("org") == {"spent": NANO, "held": 0}


def test_what_a_key_is_told_is_what_it_is_judged_by(gateway: Gateway, house: House, upstream: Upstream) -> None:
    """`spent` in a refusal, in GET /v1/key and in the ledger are one figure."""
    house.policy(("budget", "month", NANO // 4))
    upstream.on("output-only", answer(usage=(10, 990)))
    for _ in range(2):
        assert raw(gateway.url, house.key_text, TEN_CENTS).status_code == 200

    refused = raw(gateway.url, house.key_text, TEN_CENTS).json()["error"]["gatehouse"]

    card = httpx.get(f"{gateway.url}/v1/key", headers={"authorization": f"Bearer {house.key_text}"}).json()
    (told,) = [limit for limit in card["limits"] if limit["level"] == "key"]
    assert refused["spent"] == told["spent"] == "0.198"
    assert sum(row.charged_nano_usd for row in house.rows()) == 198 * NANO // 1000
    assert (refused["held"], told["held"], told["left"]) == ("0", "0", "0.052")


# --- spending that is lost ---------------------------------------------------------------------
def test_more_calls_than_fit_one_batch_have_a_row_each_though_their_provider_numbers_them_alike(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    """Every answer of the scripted provider has the same id; the ledger goes by the gateway's own."""
    upstream.on("scripted", answer(before=0.2))

    got = at_once([lambda: raw(gateway.url, house.key_text, body()) for _ in range(130)])

    assert {answered.status_code for answered in got} == {200}
    assert {answered.json()["id"] for answered in got} == {"chatcmpl-upstream"}
    assert {str(row.call_id) for row in house.rows()} == {answered.headers["x-request-id"] for answered in got}
    assert len(house.rows()) == len(upstream.received) == 130
    assert spent_equals_ledger(house)


USED = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}


# --- streams -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("parts", "status", "charged"),
    [
        (frames("Hi", usage=(10, 2)), "ok", 18_000),
        (frames("Hi", usage=(0, 0)), "ok", 0),
        ([*frames("Hi", usage=None)[:-1], frame(usage=USED)], "ok", 18_000),
        ([frame({"content": "Hi"}, finish="stop", usage=USED)], "ok", 18_000),
        ([frame({"content": "Hi"}), frame({}, finish="content_filter"), frame(usage=USED)], "ok", 18_000),
        ([frame({"content": "Hi"}), 0.05, b'data: {"error":{"message":"Busy","type":"server_error"}}\n\n'], "failed", 0),
        ([frame({"content": "Hi"}), 0.05, frame({"content": "there"})], "failed", 0),
    ],
    ids=["usage", "explicit zero", "no [DONE]", "in one frame", "filtered", "error frame", "broken off"],
)  # fmt: skip
def test_each_end_of_a_stream_has_one_row_and_the_right_charge(
    gateway: Gateway, house: House, upstream: Upstream, parts: list[Any], status: str, charged: int
) -> None:
    upstream.on("scripted", stream(*parts))

    raw(gateway.url, house.key_text, body(stream=True))

    (row,) = eventually(house.rows)
    assert (row.status, row.charged_nano_usd) == (status, charged)
    assert (row.absorbed_nano_usd > 0) is (status == "failed")
    assert spent_equals_ledger(house)


def test_a_failed_try_is_not_billed_and_not_hidden(gateway: Gateway, house: House, upstream: Upstream) -> None:
    house.policy(("budget", "total", NANO))
    upstream.on("pair", refuse(503))

    got = raw(gateway.url, house.key_text, body(model="pair"))

    row = house.row_of(got.headers["x-request-id"])
    assert (row.charged_nano_usd, row.attempt_count) == (18_000, 2)
    assert [attempt.status for attempt in house.attempts_of(got.headers["x-request-id"])] == ["failed", "ok"]
    assert spent_equals_ledger(house)


# --- rates -------------------------------------------------------------------------------------
def test_requests_and_tokens_have_windows_of_their_own(gateway: Gateway, house: House, upstream: Upstream) -> None:
    """Tokens used in a few calls do not use up the number of calls, nor the other way round."""
    house.policy(("rpm", "minute", 100), ("tpm", "minute", 2000))
    upstream.on("scripted", answer(usage=(10, 90)))

    got = [raw(gateway.url, house.key_text, body(max_tokens=90)) for _ in range(10)]

    assert {answered.status_code for answered in got} == {200}
    assert got[-1].headers["x-ratelimit-remaining-requests"] == "90"
    assert 2000 - 9 * 100 - 140 < int(got[-1].headers["x-ratelimit-remaining-tokens"]) < 2000 - 9 * 100 - 90
