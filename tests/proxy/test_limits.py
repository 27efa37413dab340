"""Budgets, rates and the credit pool, at every level, through the front door and under concurrency."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from gateway_project.lib.money import NANO
from orgs.services.keys import disable_key, enable_key, revoke_key
from orgs.services.members import suspend_member
from tests.gateways import Gateway
from tests.house import MESSAGES, House, build, raw
from tests.upstream import Upstream, answer

LEVELS = ("organization", "level 1", "level 2", "level 3", "member", "key")
TEN_CENTS: dict[str, Any] = {"model": "output-only", "messages": MESSAGES, "max_tokens": 1000}


def test_a_spent_budget_refuses_and_says_which_one(gateway: Gateway, house: House, upstream: Upstream) -> None:
    house.limit("budget", NANO // 100)
    upstream.on("scripted", answer(usage=(2000, 2000)))
    client = house.client(gateway.url)
    client.chat.completions.create(model="scripted", messages=MESSAGES, max_tokens=2000)

    with pytest.raises(openai.PermissionDeniedError) as caught:
        client.chat.completions.create(model="scripted", messages=MESSAGES, max_tokens=2000)

    told: Any = caught.value.body
    gatehouse = told["gatehouse"]
    assert told["code"] == gatehouse["code"] == "budget_exceeded"
    assert (gatehouse["level"], gatehouse["node"], gatehouse["limit"]) == ("key", "Mia's key", "0.01")
    assert (gatehouse["spent"], gatehouse["held"]) == ("0.01", "0")
    assert gatehouse["resets_at"] is not None
    assert caught.value.response.headers["x-should-retry"] == "false"
    row = house.row_of(caught.value.response.headers["x-request-id"])
    assert (row.status, row.error_code, row.charged_nano_usd) == ("refused", "budget_exceeded", 0)
    assert row.decision["level"] == "key"


@pytest.mark.parametrize("level", LEVELS)
def test_concurrent_calls_never_pass_a_cap_and_none_is_refused_too_early(
    gateway: Gateway, second_gateway: Gateway, house: House, upstream: Upstream, level: str
) -> None:
    house.limit("budget", NANO, **house.subjects()[level])
    upstream.on("output-only", answer(usage=(10, 1000), before=0.2))
    clients = [house.client(gateway.url), house.client(second_gateway.url)]

    def call(number: int) -> str:
        try:
            clients[number % 2].chat.completions.create(**TEN_CENTS)
        except openai.PermissionDeniedError as error:
            return str(error.code)
        return "passed"

    with ThreadPoolExecutor(24) as pool:
        outcomes = list(pool.map(call, range(40)))

    assert outcomes.count("passed") == 10
    assert outcomes.count("budget_exceeded") == 30
    assert house.counter("org") == {"spent": NANO, "held": 0}
    assert house.nothing_held()


def test_an_application_has_a_budget_of_its_own(gateway: Gateway, house: House) -> None:
    _, key = house.new_key(application=house.world.assistant, environment="production", features=["chat"])
    house.limit("budget", 0, application=house.world.assistant)

    with pytest.raises(openai.PermissionDeniedError) as caught:
        house.client(gateway.url, key).chat.completions.create(model="scripted", messages=MESSAGES)

    told: Any = caught.value.body
    assert (told["gatehouse"]["level"], told["gatehouse"]["node"]) == ("application", "Assistant")
    house.client(gateway.url).chat.completions.create(model="scripted", messages=MESSAGES)


def test_the_tightest_budget_on_the_path_decides(gateway: Gateway, house: House) -> None:
    house.limit("budget", NANO, group=house.world.root)
    house.limit("budget", 5, window="day", member=house.world.mia)
    house.limit("budget", NANO, window="total")

    with pytest.raises(openai.PermissionDeniedError) as caught:
        house.client(gateway.url).chat.completions.create(model="scripted", messages=MESSAGES, max_tokens=10)

    told: Any = caught.value.body
    assert (told["gatehouse"]["level"], told["gatehouse"]["window"]) == ("member", "day")


def test_an_empty_pool_is_402(gateway: Gateway, committed_db: None, declared: None, upstream: Upstream) -> None:
    poor = build(credit_usd=1)
    upstream.on("output-only", answer(usage=(1, 10_000)))
    client = poor.client(gateway.url)
    client.chat.completions.create(model="output-only", messages=MESSAGES, max_tokens=2_500, n=4)

    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="output-only", messages=MESSAGES, max_tokens=1)

    poor.close()
    assert caught.value.status_code == 402
    assert caught.value.code == "insufficient_credits"
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_a_budget_set_today_knows_what_was_spent_before(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("output-only", answer(usage=(1, 5_000)))
    client = house.client(gateway.url)
    client.chat.completions.create(model="output-only", messages=MESSAGES, max_tokens=2_500, n=2)

    house.limit("budget", NANO // 2)

    with pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model="output-only", messages=MESSAGES, max_tokens=1)


def test_a_call_without_a_maximum_is_clamped_to_what_the_budget_affords(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    house.limit("budget", NANO // 100)

    got = house.client(gateway.url).chat.completions.with_raw_response.create(model="scripted", messages=MESSAGES)

    clamped = int(got.headers["x-gatehouse-max-tokens"])
    assert upstream.received[-1].json["max_tokens"] == clamped
    assert 2400 < clamped < 2500
    assert house.row_of(got.headers["x-request-id"]).decision["clamped_to"] == clamped


def test_a_maximum_that_the_caller_set_is_never_changed(gateway: Gateway, house: House, upstream: Upstream) -> None:
    house.limit("budget", NANO // 100)

    with pytest.raises(openai.PermissionDeniedError):
        house.client(gateway.url).chat.completions.create(model="scripted", messages=MESSAGES, max_tokens=4000)

    assert upstream.received == []


def test_requests_per_minute_are_counted_over_both_workers(gateway: Gateway, second_gateway: Gateway, house: House) -> None:
    house.limit("rpm", 3, window="minute")
    clients = [house.client(gateway.url), house.client(second_gateway.url)]
    for number in range(3):
        clients[number % 2].chat.completions.create(model="scripted", messages=MESSAGES)

    with pytest.raises(openai.RateLimitError) as caught:
        clients[1].chat.completions.create(model="scripted", messages=MESSAGES)

    assert caught.value.code == "rate_limit_exceeded"
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60
    assert house.counter("org")["held"] == 0


def test_a_prompt_beyond_what_a_minute_allows_is_told_to_be_shorter(gateway: Gateway, house: House) -> None:
    house.limit("tpm", 100, window="minute")
    for text, advice in (("gate " * 200, ": send less."), ("gate", ": ask for less, with max_tokens.")):
        body = {"model": "scripted", "messages": [{"role": "user", "content": text}], "max_tokens": 100}
        response = raw(gateway.url, house.key_text, json.dumps(body).encode())
        assert (response.status_code, response.json()["error"]["code"]) == (429, "token_rate_limit_exceeded")
        assert response.json()["error"]["message"].endswith(advice)


def test_what_is_left_stands_in_the_headers(gateway: Gateway, house: House) -> None:
    house.limit("rpm", 50, window="minute")
    house.limit("budget", NANO, window="day")

    got = house.client(gateway.url).chat.completions.with_raw_response.create(model="scripted", messages=MESSAGES, max_tokens=1)

    assert (got.headers["x-ratelimit-limit-requests"], got.headers["x-ratelimit-remaining-requests"]) == ("50", "49")
    exactly = httpx.get(f"{gateway.url}/v1/key", headers={"authorization": f"Bearer {house.key_text}"}, trust_env=False).json()
    assert [one["left"] for one in exactly["limits"] if one["window"] == "day"] == [got.headers["x-gatehouse-budget-left-usd"]]
    assert got.headers["x-gatehouse-budget"] == "key Mia's key day"


def test_a_model_without_a_price_is_refused_not_free(gateway: Gateway, house: House, upstream: Upstream) -> None:
    with pytest.raises(openai.PermissionDeniedError) as caught:
        house.client(gateway.url).chat.completions.create(model="unpriced", messages=MESSAGES)

    assert caught.value.code == "model_unpriced"
    assert upstream.received == []


@pytest.mark.parametrize("change", ["disable", "revoke", "suspend", "lower"])
def test_a_change_counts_on_the_next_call_of_every_worker(
    gateway: Gateway, second_gateway: Gateway, house: House, change: str
) -> None:
    house.limit("budget", NANO)
    clients = [house.client(gateway.url), house.client(second_gateway.url)]
    for client in clients:
        client.chat.completions.create(model="scripted", messages=MESSAGES)

    mia, alice = house.world.actor("mia"), house.world.actor("alice")
    match change:
        case "disable":
            disable_key(house.key, by=mia)
        case "revoke":
            disable_key(house.key, by=mia)
            revoke_key(house.key, by=mia)
        case "suspend":
            suspend_member(house.world.mia.memberships.get(organization=house.organization), by=alice)
        case "lower":
            house.limit("budget", 1, window="day")

    expected = {"disable": "key_disabled", "revoke": "key_revoked", "suspend": "account_frozen", "lower": "budget_exceeded"}
    for client in clients:
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model="scripted", messages=MESSAGES)
        assert caught.value.code == expected[change]


def test_an_enabled_key_works_again_at_once(gateway: Gateway, house: House) -> None:
    mia = house.world.actor("mia")
    disable_key(house.key, by=mia)
    assert raw(gateway.url, house.key_text, b"{}").status_code == 401

    enable_key(house.key, by=mia)

    house.client(gateway.url).chat.completions.create(model="scripted", messages=MESSAGES)


def test_a_refused_loop_is_no_flood_of_rows(gateway: Gateway, house: House) -> None:
    house.limit("budget", 0)
    body = b'{"model":"scripted","messages":[{"role":"user","content":"x"}]}'
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: raw(gateway.url, house.key_text, body).status_code, range(150)))

    assert set(statuses) == {403}
    # Two minutes may have been touched.
    assert len(house.rows()) <= 120
