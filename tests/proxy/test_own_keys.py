"""Calls on an organisation's own provider keys: made with them, charged to no pool, counted where budgets say so."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from gateway_project.lib import redis
from gateway_project.lib.money import NANO
from guardrails import counters
from guardrails.models import Limit
from orgs.models import Group
from orgs.services.changes import changing
from proxy import provider_keys, proving
from proxy.models import Provider, ProviderKey
from proxy.provider_keys import Place
from tests.gateways import Gateway
from tests.house import MESSAGES, House, build, eventually, raw
from tests.proxy.calls import body
from tests.proxy.test_canary import files_with, keys_with, tables_with
from tests.proxy.test_explaining import explained
from tests.upstream import Upstream, answer, frame, frames, refuse, stream, usage_of

SECRET = "sk-own-0123456789abcdef"
# 10 tokens in and 2 out at $1 and $4 per million.
COST = 18_000
OUTPUT = {"max_tokens": 10}


def add(house: House, *, at: Group | None = None, to: str = "scripted", secret: str = SECRET, **more: Any) -> ProviderKey:
    provider = Provider.objects.get(name=to)
    place = Place(provider.kind, provider)
    group = at or house.world.root
    return provider_keys.add(group, place=place, name=f"At {group}", secret=secret, by=house.world.actor("alice"), **more)


def call(house: House, gateway: Gateway, model: str = "scripted", **members: Any) -> Any:
    return raw(gateway.url, house.key_text, body(model=model, **(OUTPUT | members)))


def sent(upstream: Upstream) -> list[str | None]:
    return [received.headers.get("authorization", "").removeprefix("Bearer ") or None for received in upstream.received]


def figures(house: House, subject: str) -> dict[str, int]:
    names = ["spent", "own", "held", "held_own"]
    found: Any = redis.client().hmget(counters.counter(house.organization.pk, house.token, subject), names)
    return {name: int(value or 0) for name, value in zip(names, found, strict=True)}


def is_proven(house: House) -> bool:
    return not proving.prove(house.organization).differences


def test_the_pool_is_untouched_and_the_list_cost_is_recorded(house: House, gateway: Gateway, upstream: Upstream) -> None:
    add(house)
    answered = call(house, gateway)
    assert answered.status_code == 200
    assert sent(upstream) == [SECRET]
    assert answered.headers["x-gatehouse-cost-usd"] == "0"
    assert answered.headers["x-gatehouse-own-key-cost-usd"] == "0.000018"

    row = house.row_of(answered.headers["x-request-id"])
    assert (row.byok, row.charged_nano_usd, row.list_nano_usd, row.absorbed_nano_usd) == (True, 0, COST, 0)
    assert eventually(house.nothing_held)
    assert figures(house, "pool") == {"spent": 0, "own": 0, "held": 0, "held_own": 0}
    assert figures(house, f"k{house.key.pk}") == {"spent": 0, "own": COST, "held": 0, "held_own": 0}
    assert is_proven(house)


def test_an_empty_pool_refuses_no_call_on_an_own_key(house: House, gateway: Gateway) -> None:
    poor = build(credit_usd=1)
    poor.limit("budget", 0)
    add(poor)
    assert call(poor, gateway).status_code == 200
    assert call(poor, gateway, "sandbox-instant").status_code == 403
    poor.close()


@pytest.mark.parametrize("counts", [True, False])
def test_a_budget_counts_it_where_its_switch_says_so(house: House, gateway: Gateway, counts: bool) -> None:
    add(house)
    worst = house.row_of(call(house, gateway).headers["x-request-id"]).reserved_nano_usd
    with changing(house.organization):
        limit = house.limit("budget", worst + 2 * COST, window="day")
        Limit.objects.filter(pk=limit.pk).update(counts_byok=counts)
    statuses = [call(house, gateway).status_code for _ in range(3)]
    assert statuses == ([200, 200, 403] if counts else [200, 200, 200])
    assert house.nothing_held()
    assert is_proven(house)
    # Redis lost it all: the ledger says the same.
    keys = list(redis.client().scan_iter(match=f"gh:{{{house.organization.pk}}}:{house.token}:c:*"))
    redis.client().delete(*keys)
    assert call(house, gateway).status_code == (403 if counts else 200)


@pytest.mark.parametrize("length", [4294967295, 9007199254740991])
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "max_tokens"),
        ("/v1/chat/completions", "max_completion_tokens"),
        ("/v1/messages", "max_tokens"),
        ("/v1/responses", "max_output_tokens"),
    ],
)
def test_an_answer_longer_than_any_is_asked_to_be_as_long_as_the_model_can(
    house: House, gateway: Gateway, upstream: Upstream, path: str, name: str, length: int
) -> None:
    """Clients mean by it that there is no bound."""
    add(house)
    prompt: Any = "Hi" if path == "/v1/responses" else MESSAGES
    asked = {"model": "scripted", "input" if path == "/v1/responses" else "messages": prompt, name: length}
    got = raw(gateway.url, house.key_text, json.dumps(asked).encode(), path=path)
    assert got.status_code == 200, got.text
    sent = upstream.received[-1].json
    assert {sent[member] for member in sent if member.startswith("max_")} == {4096}
    assert house.nothing_held()
    assert is_proven(house)


def test_a_stream_is_recorded_alike(house: House, gateway: Gateway, upstream: Upstream) -> None:
    add(house)
    upstream.on("scripted", stream(*frames("Hello", "there")))
    streamed = call(house, gateway, stream=True)
    assert streamed.text.endswith("data: [DONE]\n\n")
    row = house.row_of(streamed.headers["x-request-id"])
    assert (row.byok, row.charged_nano_usd, row.list_nano_usd) == (True, 0, COST)


def test_what_a_provider_broke_off_counts_nowhere(house: House, gateway: Gateway, upstream: Upstream) -> None:
    add(house)
    upstream.on("scripted", stream(frame({"content": "Hel"}), frame(usage=usage_of(10, 2)), ending="reset"))
    row = house.row_of(call(house, gateway, stream=True).headers["x-request-id"])
    assert (row.status, row.byok, row.charged_nano_usd, row.list_nano_usd, row.absorbed_nano_usd) == ("failed", True, 0, 0, 0)


def test_the_nearest_key_wins_and_one_for_the_very_provider_before_one_for_its_kind(
    house: House, gateway: Gateway, upstream: Upstream
) -> None:
    world = house.world
    add(house, at=world.root, secret="sk-root-00000000000")
    call(house, gateway)
    near = add(house, at=world.platform, secret="sk-near-00000000000")
    call(house, gateway)
    provider_keys.set_enabled(near, False, by=world.actor("alice"))
    call(house, gateway)
    provider_keys.delete(ProviderKey.objects.get(group=world.root), by=world.actor("alice"))
    call(house, gateway)
    assert sent(upstream) == ["sk-root-00000000000", "sk-near-00000000000", "sk-root-00000000000", None]


def test_another_organisation_never_uses_it(house: House, gateway: Gateway, upstream: Upstream) -> None:
    add(house)
    other = build()
    call(other, gateway)
    assert sent(upstream) == [None]
    other.close()


def test_a_wrong_key_is_the_organisations_own_and_told_without_it(house: House, gateway: Gateway, upstream: Upstream) -> None:
    add(house)
    upstream.on("scripted", refuse(401, f"Incorrect API key provided: {SECRET}."))
    refused = call(house, gateway)
    assert refused.status_code == 502
    assert refused.json()["error"]["code"] == "provider_error"
    assert SECRET not in refused.text
    row = house.row_of(refused.json()["error"]["gatehouse"]["request_id"])
    assert (row.status, row.byok, row.charged_nano_usd) == ("failed", True, 0)
    assert house.nothing_held()


def test_only_deployments_with_own_keys_are_tried(house: House, gateway: Gateway, upstream: Upstream) -> None:
    add(house)
    upstream.then(refuse(500))
    assert call(house, gateway, "pair").status_code == 502
    assert sent(upstream) == [SECRET]


def test_a_key_may_let_the_operators_follow_and_then_the_pool_pays(house: House, gateway: Gateway, upstream: Upstream) -> None:
    add(house, falls_back=True)
    upstream.then(refuse(500), answer())
    answered = call(house, gateway, "pair")
    assert answered.status_code == 200
    assert sent(upstream) == [SECRET, None]
    row = house.row_of(answered.headers["x-request-id"])
    assert (row.byok, row.charged_nano_usd, row.list_nano_usd) == (False, COST, COST)
    assert house.nothing_held()
    assert figures(house, "org") == {"spent": COST, "own": 0, "held": 0, "held_own": 0}
    # The next goes to the own key again, although what the operator's could cost was held for it, too.
    assert house.row_of(call(house, gateway, "pair").headers["x-request-id"]).byok
    assert is_proven(house)


def test_where_nothing_would_pay_for_the_operators_the_own_key_is_tried_alone(
    house: House, gateway: Gateway, upstream: Upstream
) -> None:
    add(house, falls_back=True)
    house.limit("budget", 0)
    assert call(house, gateway, "pair").status_code == 200
    upstream.then(refuse(500))
    assert call(house, gateway, "pair").status_code == 502
    assert sent(upstream) == [SECRET, SECRET]


def test_a_key_that_does_not_open_is_never_replaced_by_the_operators(house: House, gateway: Gateway, upstream: Upstream) -> None:
    key = add(house, at=house.world.engineering)
    moved = add(house, at=house.world.platform, secret="sk-moved-0000000000")
    ProviderKey.objects.filter(pk=moved.pk).update(key_encrypted=ProviderKey.objects.get(pk=key.pk).key_encrypted)
    assert call(house, gateway).status_code == 502
    assert sent(upstream) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1"])
def test_an_address_of_a_tenant_leads_to_no_private_one(house: House, gateway: Gateway, upstream: Upstream, host: str) -> None:
    """However it came into the database: what counts is judged as the connection is made."""
    key = add(house)
    ProviderKey.objects.filter(pk=key.pk).update(base_url=f"http://{host}:{upstream.port}/v1")
    refused = call(house, gateway)
    assert (refused.status_code, upstream.received) == (502, [])


def test_the_secret_is_kept_nowhere_in_clear(house: House, start_gateway: Callable[..., Gateway], upstream: Upstream) -> None:
    talkative = start_gateway("talkative-own", LOG_LEVEL="DEBUG")
    secret = f"sk-canary-{secrets.token_hex(12)}"
    key = add(house, secret=secret)
    upstream.then(answer(), refuse(401, f"wrong: {secret}"), refuse(500, secret), stream(*frames("a")))
    statuses = [call(house, talkative).status_code for _ in range(3)] + [call(house, talkative, stream=True).status_code]
    assert statuses == [200, 502, 502, 200]
    provider_keys.note_test(key, passed=True, result="It works.", by=house.world.actor("alice"))
    assert eventually(lambda: len(house.rows()) == 4)
    core = secret.removeprefix("sk-")
    assert (tables_with(core), keys_with(core), files_with(core)) == ([], [], [])
    assert core not in talkative.logged()
    assert tables_with(f"At {house.world.root}")


def test_it_counts_once_whoever_asks(house: House, gateway: Gateway) -> None:
    """`GET /v1/key` tells of each budget whether it counts calls on own keys, and by how much they fill it."""
    limit = house.limit("budget", NANO, window="day")
    Limit.objects.filter(pk=limit.pk).update(counts_byok=True)
    house.limit("budget", NANO, window="month")
    add(house)
    call(house, gateway)
    assert house.nothing_held()
    told = httpx.get(f"{gateway.url}/v1/key", headers={"authorization": f"Bearer {house.key_text}"}, trust_env=False).json()
    budgets = {one["window"]: one for one in told["limits"] if one["kind"] == "budget" and one["level"] == "key"}
    assert [budgets[window]["counts_own_keys"] for window in ("day", "month")] == [True, False]
    assert json.dumps(told).count("counts_own_keys") >= 2


@pytest.mark.parametrize("falls_back", [False, True])
def test_an_explanation_says_which_budgets_are_not_asked(house: House, gateway: Gateway, falls_back: bool) -> None:
    add(house, falls_back=falls_back)
    house.limit("budget", 0, window="day")
    told = explained(gateway, house, model="pair", max_tokens=10)
    lines = [line for line in told["lines"] if line["kind"] == "budget"]
    assert {line["verdict"] for line in lines} == {"passes"}
    assert all("own provider key" in line["text"] for line in lines)
    assert call(house, gateway, "pair").status_code == 200
    with changing(house.organization):
        Limit.objects.filter(policy__organization=house.organization).update(counts_byok=True)
    assert "refuses" in {line["verdict"] for line in explained(gateway, house, model="pair", max_tokens=10)["lines"]}
    assert call(house, gateway, "pair").status_code == 403
