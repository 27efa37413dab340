"""Every kind of limit and rule on every level of a key's path: it refuses, and says which it was and where it stands."""

from __future__ import annotations

import itertools
import json
import threading
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from gateway_project.lib.money import NANO
from tests.gateways import Gateway
from tests.house import House, eventually, raw
from tests.proxy.calls import body
from tests.upstream import Upstream, answer

LEVELS = ("organization", "level 1", "level 2", "level 3", "level 4", "member", "application", "key")
NODES = {
    "level 1": "engineering", "level 2": "platform", "level 3": "gateway", "level 4": "core",
    "member": "Mia", "application": "Assistant", "key": "Another key",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """`passing`: how many calls go through before one is refused."""

    status: int
    code: str
    limit: tuple[str, str, int] | None = None
    rules: dict[str, list[str]] = field(default_factory=dict)
    passing: int = 0
    used: tuple[int, int] = (10, 2)
    asked: dict[str, Any] = field(default_factory=dict)


CASES = {
    "budget": Case(
        403, "budget_exceeded", ("budget", "month", NANO // 100), passing=1, used=(10, 2500), asked={"max_tokens": 2400}
    ),
    "rpm": Case(429, "rate_limit_exceeded", ("rpm", "minute", 1), passing=1),
    "tpm": Case(429, "token_rate_limit_exceeded", ("tpm", "minute", 500), passing=1, used=(10, 480), asked={"max_tokens": 400}),
    "rpd": Case(429, "rate_limit_exceeded", ("rpd", "day", 1), passing=1),
    "max_tokens": Case(403, "max_tokens_exceeded", ("max_tokens", "call", 99), asked={"max_tokens": 100}),
    "models": Case(403, "model_not_allowed", rules={"models": ["pair", "sandbox-*"]}),
    "blocked": Case(403, "model_not_allowed", rules={"models": ["scripted"], "blocked_models": ["script*"]}),
    "providers": Case(403, "provider_not_allowed", rules={"providers": ["second", "sandbox"]}),
    "addresses": Case(403, "ip_not_allowed", rules={"addresses": ["10.0.0.0/8", "2001:db8::/32"]}),
    "members": Case(403, "member_not_allowed", rules={"members": ["1"]}),
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", CASES)
def test_it_refuses_and_says_where_it_stands(gateway: Gateway, house: House, upstream: Upstream, name: str, level: str) -> None:
    case = CASES[name]
    key, levels = house.deep_key()
    house.policy(*([case.limit] if case.limit else []), rules=case.rules, to=levels[level])
    upstream.on("scripted", answer(usage=case.used))
    for _ in range(case.passing):
        assert raw(gateway.url, key, body(**case.asked)).status_code == 200

    got = raw(gateway.url, key, body(**case.asked))

    assert (got.status_code, got.json()["error"]["code"]) == (case.status, case.code)
    told = got.json()["error"]["gatehouse"]
    assert (told["level"], told["policy"]) == ("group" if level.startswith("level") else level, "A policy")
    assert told["node"] == NODES.get(level, house.organization.name)
    assert told["ask"]
    assert len(upstream.received) == case.passing
    if case.limit is not None:
        assert (told["kind"], told["window"]) == case.limit[:2]
    else:
        assert told["kind"] in case.rules
    expected = {"retry-after"} if case.status == 429 else {"x-should-retry"}
    assert expected <= set(got.headers)
    row = house.row_of(got.headers["x-request-id"])
    assert (row.status, row.error_code, row.charged_nano_usd) == ("refused", case.code, 0)
    assert row.decision["node"] == told["node"]
    assert house.nothing_held()


@pytest.mark.parametrize("level", LEVELS)
def test_as_many_calls_run_at_once_as_the_limit_says(gateway: Gateway, house: House, upstream: Upstream, level: str) -> None:
    key, levels = house.deep_key()
    house.policy(("parallel", "now", 1), to=levels[level])
    upstream.on("scripted", answer(before=0.6))
    upstream.on("pair", answer())
    first: list[httpx.Response] = []
    running = threading.Thread(target=lambda: first.append(raw(gateway.url, key, body())))
    running.start()
    assert eventually(lambda: upstream.received)

    refused = raw(gateway.url, key, body(model="pair"))
    running.join()

    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "concurrency_limit_exceeded")
    assert refused.headers["retry-after"] == "1"
    assert first[0].status_code == 200
    assert raw(gateway.url, key, body(model="pair")).status_code == 200


@pytest.mark.parametrize("window", ["day", "week", "month", "quarter", "year", "total"])
def test_a_budget_of_each_window_knows_what_was_spent_in_it(
    gateway: Gateway, house: House, upstream: Upstream, window: str
) -> None:
    upstream.on("scripted", answer(usage=(10, 2500)))
    assert raw(gateway.url, house.key_text, body(max_tokens=2500)).status_code == 200
    house.policy(("budget", window, NANO // 100))

    told = raw(gateway.url, house.key_text, body(max_tokens=2)).json()["error"]["gatehouse"]

    assert (told["window"], told["spent"], told["limit"]) == (window, "0.01001", "0.01")
    assert (told["resets_at"] is None) is (window == "total")


def test_who_asks_for_no_maximum_gets_that_of_the_policy(gateway: Gateway, house: House, upstream: Upstream) -> None:
    house.policy(("max_tokens", "call", 300), to={"group": house.world.root})
    house.policy(("max_tokens", "call", 77))

    assert raw(gateway.url, house.key_text, body()).status_code == 200
    assert upstream.received[-1].json["max_tokens"] == 77

    assert raw(gateway.url, house.key_text, body(max_tokens=50)).status_code == 200
    assert upstream.received[-1].json["max_tokens"] == 50


def test_lists_of_models_intersect_down_the_tree(gateway: Gateway, house: House) -> None:
    house.policy(rules={"models": ["scripted", "pair"]}, to={"group": house.world.root})
    house.policy(rules={"models": ["scripted", "impatient"]})
    house.policy(rules={"models": []}, to={"member": house.world.mia})

    codes = {
        model: raw(gateway.url, house.key_text, body(model=model)).status_code for model in ("scripted", "pair", "impatient")
    }

    assert codes == {"scripted": 200, "pair": 403, "impatient": 403}


def test_a_provider_that_is_not_allowed_is_no_fallback_either(gateway: Gateway, house: House, upstream: Upstream) -> None:
    """`pair` goes to `scripted` first and to `second` if that fails."""
    house.policy(rules={"providers": ["second"]})

    got = raw(gateway.url, house.key_text, body(model="pair"))

    assert got.headers["x-gatehouse-route"] == "second; reason=only; attempts=1"
    assert [call.json["model"] for call in upstream.received] == ["pair-second"]


def test_a_named_member_passes(gateway: Gateway, house: House) -> None:
    house.policy(rules={"members": [str(house.world.mia.pk), str(house.world.sam.pk)]}, to={"group": house.world.root})

    assert raw(gateway.url, house.key_text, body()).status_code == 200


def test_what_a_minute_may_need_is_corrected_by_what_was_used(gateway: Gateway, house: House, upstream: Upstream) -> None:
    """Each call may need about 420 tokens and uses 12: with what is only reserved the third would be refused."""
    house.policy(("tpm", "minute", 1000))

    got = [raw(gateway.url, house.key_text, body(max_tokens=400)) for _ in range(6)]

    assert [answered.status_code for answered in got] == [200] * 6
    left = [int(answered.headers["x-ratelimit-remaining-tokens"]) for answered in got]
    assert [before - after for before, after in itertools.pairwise(left)] == [12] * 5
    assert got[0].headers["x-ratelimit-limit-tokens"] == "1000"


def test_a_rate_smaller_than_a_guess_of_the_answer_still_lets_calls_through(gateway: Gateway, house: House) -> None:
    house.policy(("tpm", "minute", 200))

    assert raw(gateway.url, house.key_text, body()).status_code == 200


def test_a_call_that_no_minute_can_take_is_told_not_to_try_again(gateway: Gateway, house: House) -> None:
    house.policy(("tpm", "minute", 200))

    got = raw(gateway.url, house.key_text, body(max_tokens=1000))

    assert (got.status_code, got.headers["x-should-retry"]) == (429, "false")
    assert "max_tokens" in got.json()["error"]["message"]


def test_a_daily_number_of_requests_does_not_make_an_sdk_wait_for_the_night(gateway: Gateway, house: House) -> None:
    house.policy(("rpd", "day", 0))

    got = raw(gateway.url, house.key_text, body())

    assert 1 <= int(got.headers["retry-after"]) <= 86_400
    assert got.headers.get("x-should-retry") == ("false" if int(got.headers["retry-after"]) > 60 else None)
    assert got.json()["error"]["gatehouse"]["resets_at"] is not None


def test_a_refused_call_does_not_count_in_any_rate(gateway: Gateway, house: House) -> None:
    house.policy(("rpm", "minute", 2), ("rpd", "day", 2), ("parallel", "now", 2))
    house.policy(("max_tokens", "call", 5))
    refused = [raw(gateway.url, house.key_text, body(max_tokens=6)).status_code for _ in range(5)]

    passed = [raw(gateway.url, house.key_text, body()).status_code for _ in range(3)]

    assert (refused, passed) == ([403] * 5, [200, 200, 429])


def test_a_streamed_call_frees_its_place_when_it_has_ended(gateway: Gateway, house: House) -> None:
    house.policy(("parallel", "now", 1))
    for _ in range(3):
        got = raw(gateway.url, house.key_text, body(stream=True))
        assert (got.status_code, json.loads(got.text.split("data: ")[1])["object"]) == (200, "chat.completion.chunk")
