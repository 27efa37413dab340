"""Zero data retention for a whole organisation: its calls go only where that is promised, from the very next one on."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from django.db import transaction
from django.test import Client

from billing import prices
from billing.pricing import Price, Rates
from guardrails.rules import Rule, Rules
from orgs import epoch
from orgs.models import Organization
from orgs.services.organizations import change_settings
from proxy import catalogue, listed, permits
from proxy.call import Call
from proxy.deployments import Model as Offered
from proxy.errors import BadRequest, PermissionRefused
from proxy.models import Deployment, Model, Provider
from tests.actors import World
from tests.apis import api
from tests.gateways import Gateway
from tests.house import MESSAGES, RATES, House, eventually, raw
from tests.ledger_rows import a_call
from tests.proxy.calls import caller, deployment, model
from tests.upstream import Upstream, refuse

CHAT = ("/v1/chat/completions", {"messages": MESSAGES})
RESPONSES = ("/v1/responses", {"input": "Tell me about the gate."})
ANTHROPIC = ("/v1/messages", {"messages": MESSAGES, "max_tokens": 50})
COUNTING = ("/v1/messages/count_tokens", {"messages": MESSAGES})


# --- what a caller may use ---------------------------------------------------------------------
PROMISES, KEEPS = deployment(id=1, zdr=True), deployment(id=2)
ELSEWHERE = Rules(rules=(Rule(kind="providers", entries=("elsewhere",), level="group", node="E", policy="P"),))


@pytest.mark.parametrize(
    ("zdr_only", "asked", "offered", "left"),
    [
        (False, False, (PROMISES, KEEPS), [1, 2]),
        (True, False, (PROMISES, KEEPS), [1]),
        (False, True, (PROMISES, KEEPS), [1]),
        (True, True, (KEEPS, PROMISES), [1]),
        (True, False, (KEEPS,), []),
    ],
)
def test_the_switch_is_a_header_on_every_call_and_asking_takes_nothing_back(
    zdr_only: bool, asked: bool, offered: tuple[Any, ...], left: list[int]
) -> None:
    call = Call("chat_completions", caller(zdr_only=zdr_only), zdr_asked=asked)
    there: Offered = model(*offered)
    assert [one.id for one in permits.usable_deployments(call, there)] == left
    assert permits.permits(call.caller, there) is bool(left)


SAID = {True: ("1", "true", "TRUE", "Yes", "on", " true "), False: (None, "0", "false", "False", "NO", "off")}


@pytest.mark.parametrize(("text", "asked"), [(text, asked) for asked, texts in SAID.items() for text in texts])
def test_the_header_says_yes_and_no_as_switches_of_the_environment_do(text: str | None, asked: bool) -> None:
    assert permits.asks_zdr(text) is asked


@pytest.mark.parametrize("text", ["", " ", "maybe", "2", "true, true", "tru\u0435", "y" * 500])
def test_what_the_header_says_is_never_guessed_at(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        permits.asks_zdr(text)
    assert (caught.value.param, len(caught.value.message) < 150) == ("x-gatehouse-zdr", True)


def test_a_refusal_names_the_organisation_where_it_is_its_switch_and_the_rule_where_it_is_a_rule() -> None:
    def refused(*, rules: Rules | None = None, **options: Any) -> PermissionRefused:
        call = Call("chat_completions", caller(rules=rules, zdr_only=options.get("zdr_only", False)), zdr_asked=True)
        with pytest.raises(PermissionRefused) as caught:
            permits.allowed_deployments(call, model(KEEPS))
        return caught.value

    switched = refused(zdr_only=True)
    assert switched.message.endswith("promises zero data retention, and Acme uses no others.")
    assert (switched.detail or {})["node"] == "Acme"
    assert "Super Admin" in str((switched.detail or {})["ask"])
    assert (refused().code, refused().detail) == ("zdr_unavailable", None)
    assert refused(rules=ELSEWHERE, zdr_only=True).code == "provider_not_allowed"


def test_a_name_that_nobody_declared_promises_nothing() -> None:
    row = {"provider_id": 1, "provider_name": "main", "provider_kind": "openai", "base_url": "", "api_key_env": "",
           "api_key_encrypted": None, "options": {}, "account_created_at": datetime.now(UTC)}  # fmt: skip
    price = Price(version_id=1, sku="openai/gpt-x", rates=Rates(input=1, output=1))
    found = listed._model(row, "main/gpt-x", "gpt-x", price, datetime.now(UTC))
    assert found is not None
    assert permits.permits(caller(), found)
    assert not permits.permits(caller(zdr_only=True), found)


# --- at the door -------------------------------------------------------------------------------
@pytest.fixture
def two(house: House, upstream: Upstream) -> Iterator[str]:
    """A model with two deployments, the second of which promises to retain nothing; it falls back to "scripted"."""
    del house
    with transaction.atomic():
        scripted, second = (Provider.objects.get(name=name) for name in ("scripted", "second"))
        made = Model.objects.create(name="two", context_window=128_000, max_output_tokens=4096, fallbacks=["scripted"])
        Deployment.objects.create(model=made, provider=scripted, upstream_model="two-keeps", order=1)
        Deployment.objects.create(model=made, provider=second, upstream_model="two-zdr", order=2, zdr=True)
        prices.declare("model:two", rates=RATES["scripted"], source="test")
        epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))
    yield made.name
    upstream.forget()
    with transaction.atomic():
        made.delete()
        epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))


def switch(house: House, *, on: bool) -> None:
    change_settings(house.organization, by=house.world.actor("alice"), zdr_only=on)


def ask(gateway: Gateway, house: House, asked: tuple[str, dict[str, Any]], *, name: str = "two", **more: Any) -> httpx.Response:
    path, members = asked
    return raw(gateway.url, house.key_text, json.dumps({"model": name, **members, **more}).encode(), path=path)


def sent_to(upstream: Upstream) -> list[str]:
    return [received.json["model"] for received in upstream.received]


def test_the_header_counts_in_every_spelling_and_anything_else_is_refused_in_the_callers_shape(
    gateway: Gateway, house: House, upstream: Upstream, two: str
) -> None:
    def said(asked: tuple[str, dict[str, Any]], text: str) -> httpx.Response:
        body = json.dumps({"model": two, **asked[1]}).encode()
        return raw(gateway.url, house.key_text, body, path=asked[0], **{"x-gatehouse-zdr": text})

    assert {said(CHAT, text).status_code for text in ("1", "Yes", "on", "TRUE")} == {200}
    assert set(sent_to(upstream)) == {"two-zdr"}
    upstream.forget()
    assert {said(CHAT, text).status_code for text in ("0", "no", "OFF", "false")} == {200}
    assert set(sent_to(upstream)) == {"two-keeps"}
    upstream.forget()
    for text in ("", "maybe"):
        for asked in (CHAT, RESPONSES, ANTHROPIC, COUNTING):
            got = said(asked, text)
            told = got.json()["error"]
            assert (got.status_code, told["type"]) == (400, "invalid_request_error"), asked
            assert "x-gatehouse-zdr" in told["message"]
            if asked in (CHAT, RESPONSES):
                assert (told["code"], told["param"]) == ("invalid_request", "x-gatehouse-zdr")
    assert sent_to(upstream) == []
    assert house.nothing_held()


@pytest.mark.parametrize("streamed", [False, True])
def test_from_the_next_call_on_every_protocol_and_worker_goes_only_where_it_is_promised(
    gateway: Gateway, second_gateway: Gateway, house: House, upstream: Upstream, two: str, streamed: bool
) -> None:
    protocols = (CHAT, RESPONSES, ANTHROPIC)
    more: dict[str, Any] = {"stream": True} if streamed else {}
    for worker in (gateway, second_gateway):
        assert {ask(worker, house, asked, **more).status_code for asked in protocols} == {200}
    assert sent_to(upstream) == ["two-keeps"] * 6
    upstream.forget()

    switch(house, on=True)

    for worker in (second_gateway, gateway):
        assert {ask(worker, house, asked, **more).status_code for asked in protocols} == {200}
    assert sent_to(upstream) == ["two-zdr"] * 6


def test_a_model_without_such_a_deployment_is_refused_in_the_callers_shape_until_the_switch_is_off(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    switch(house, on=True)

    for asked in (CHAT, RESPONSES, ANTHROPIC, COUNTING):
        got = ask(gateway, house, asked, name="scripted")
        error = got.json()["error"]
        assert got.status_code == 403
        assert house.organization.name in error["message"]
        if asked in (CHAT, RESPONSES):
            assert (error["code"], error["type"], error["param"]) == ("zdr_unavailable", "permission_error", "model")
            assert error["gatehouse"]["level"] == "organization"
        else:
            assert (got.json()["type"], error["type"]) == ("error", "permission_error")
    assert upstream.received == []
    assert eventually(lambda: len(house.rows()) == 3), "counting tokens is no call"
    assert {(row.status, row.error_code, row.charged_nano_usd) for row in house.rows()} == {("refused", "zdr_unavailable", 0)}

    switch(house, on=False)
    assert ask(gateway, house, CHAT, name="scripted").status_code == 200


def test_what_fails_falls_back_to_nothing_that_retains(gateway: Gateway, house: House, upstream: Upstream, two: str) -> None:
    """With the switch off the call would go on to "two-keeps", and then to "scripted"."""
    Deployment.objects.filter(upstream_model="two-zdr").update(order=0)
    with transaction.atomic():
        epoch.catalogue_changing([house.organization.pk])
    upstream.on("two-zdr", refuse(500))
    assert ask(gateway, house, CHAT).status_code == 200
    upstream.forget()
    upstream.on("two-zdr", refuse(500))

    switch(house, on=True)

    got = ask(gateway, house, CHAT)
    assert (got.status_code, got.json()["error"]["code"]) == (502, "provider_error")
    assert set(sent_to(upstream)) == {"two-zdr"}
    assert house.nothing_held()


def test_the_models_listed_are_those_that_promise_it(gateway: Gateway, house: House, two: str) -> None:
    def listed_now() -> set[str]:
        """Beside `auto` and, where another test has declared them, the sandbox's, which promise it."""
        names = {found.id for found in house.client(gateway.url).models.list()}
        return {name for name in names if not name.startswith(("auto", "sandbox-"))}

    assert {"two", "scripted", "pair"} <= listed_now()
    switch(house, on=True)
    assert listed_now() == {"two"}
    told = httpx.get(f"{gateway.url}/v1/key", headers={"authorization": f"Bearer {house.key_text}"}, trust_env=False).json()
    assert told["switches"]["zdr_only"] is True
    one = httpx.get(f"{gateway.url}/v1/models/scripted", headers={"authorization": f"Bearer {house.key_text}"}, trust_env=False)
    assert one.status_code == 404


def test_auto_chooses_among_those_that_promise_it_and_a_budget_degrades_to_no_other(
    gateway: Gateway, house: House, upstream: Upstream, two: str
) -> None:
    house.policy(("budget", "month", 10**9), degrade_percent=1, degrade_model="scripted")
    assert ask(gateway, house, CHAT).status_code == 200
    switch(house, on=True)
    upstream.forget()

    chosen, stayed = ask(gateway, house, CHAT, name="auto:cheap"), ask(gateway, house, CHAT)

    assert stayed.headers["x-gatehouse-model"] == "two"
    assert Deployment.objects.filter(model__name=chosen.headers["x-gatehouse-model"], zdr=True).exists()
    assert set(sent_to(upstream)) == {"two-zdr"}


def test_what_was_kept_is_given_out_no_more_and_nothing_new_is_stored(
    gateway: Gateway, house: House, upstream: Upstream, two: str
) -> None:
    house.change(content_retention_hours=24)
    asked = json.dumps({"model": "two", "messages": MESSAGES}).encode()
    first = raw(gateway.url, house.key_text, asked, **{"idempotency-key": "order-7"})
    assert raw(gateway.url, house.key_text, asked, **{"idempotency-key": "order-7"}).content == first.content

    change_settings(house.organization, by=house.world.actor("alice"), zdr_only=True, content_retention_hours=0)

    again = raw(gateway.url, house.key_text, asked, **{"idempotency-key": "order-7"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "already_completed")
    stored = ask(gateway, house, RESPONSES, store=True)
    assert (stored.status_code, stored.json()["error"]["param"]) == (400, "store")
    assert len(upstream.received) == 1


def test_an_explanation_tells_the_switch_from_the_rules(gateway: Gateway, house: House, two: str) -> None:
    def explained(name: str) -> dict[str, Any]:
        client = Client()
        client.force_login(house.world.alice)
        cookies = {key: morsel.value for key, morsel in client.cookies.items()}
        asked = {"key": house.key.public_id, "model": name}
        found: dict[str, Any] = httpx.get(
            f"{gateway.url}/api/v1/explain", params=asked, cookies=cookies, timeout=30, trust_env=False
        ).json()
        return found

    def lines(told: dict[str, Any]) -> dict[str, str]:
        return {line["kind"]: line["verdict"] for line in told["lines"] if line["kind"] in ("zdr_only", "providers")}

    switch(house, on=True)
    house.policy(rules={"providers": ["scripted", "second"]})
    refused, passed = explained("scripted"), explained("two")
    assert (refused["refusal"]["code"], lines(refused)) == ("zdr_unavailable", {"zdr_only": "refuses", "providers": "passes"})
    assert "settings" in refused["refusal"]["ask"]
    assert (passed["verdict"], lines(passed), passed["providers"]) == (
        "passes", {"zdr_only": "passes", "providers": "passes"}, ["second"],
    )  # fmt: skip
    house.policy(rules={"providers": ["dead"]})
    shut = explained("two")
    assert (shut["refusal"]["code"], lines(shut)["zdr_only"]) == ("provider_not_allowed", "passes")


# --- pages and API -----------------------------------------------------------------------------
FILE: dict[str, Any] = {
    "providers": [{"name": "main", "kind": "openai", "api_key": "k"}, {"name": "ours", "kind": "groq"}],
    "models": [
        {"name": "kept", "price": {"input": 1, "output": 1}, "deployments": [{"provider": "main", "model": "a"}]},
        {
            "name": "both",
            "price": {"input": 1, "output": 1},
            "deployments": [{"provider": "main", "model": "b"}, {"provider": "ours", "model": "b", "zdr": True}],
        },
        {"name": "unused", "price": {"input": 1, "output": 1}, "deployments": [{"provider": "main", "model": "c"}]},
    ],
}


@pytest.fixture
def offered(world: World, empty_catalogue: None, db: None) -> World:
    del empty_catalogue, db
    catalogue.load(FILE)
    return world


def shown(world: World, path: str, person: str = "alice", *, status: int = 200) -> str:
    client = Client()
    client.force_login(getattr(world, person))
    found = client.get(f"/o/{world.acme.slug}/{path}")
    assert found.status_code == status
    return " ".join(html.unescape(found.content.decode()).split())


@pytest.mark.django_db
def test_before_it_is_thrown_the_settings_say_what_stays_usable_and_what_is_lost(offered: World) -> None:
    for days in (1, 2, 40):
        a_call(offered.key, at=datetime.now(UTC) - timedelta(days=days), requested_model="kept")
    assert 'id="id_zdr_only"' in shown(offered, "settings/")
    told = shown(offered, "settings/zdr/")
    assert "1 of 3 models</span> stays usable" in told
    assert "refused from then on" in told
    assert 'kept</span> <span class="text-secondary small">2 calls by 1 key' in told
    assert "unused" not in told
    change_settings(offered.acme, by=offered.actor("alice"), zdr_only=True)
    assert "can be called: it has a deployment" in shown(offered, "settings/zdr/")
    Deployment.objects.update(zdr=False)
    assert "No model can be called" in shown(offered, "settings/zdr/")
    for person in ("lena", "mia"):
        shown(offered, "settings/zdr/", person, status=403)


@pytest.mark.django_db
def test_catalogue_playground_and_routing_show_what_is_left(offered: World) -> None:
    assert "main, ours" in shown(offered, "models/", "mia")
    change_settings(offered.acme, by=offered.actor("alice"), zdr_only=True)
    assert "main, ours" not in (models := shown(offered, "models/", "mia"))
    assert models.count("Not allowed") == 2
    assert "promises zero data retention" in shown(offered, "models/one/?name=kept", "mia")
    assert "A Super Admin can change it" in shown(offered, "models/one/?name=kept", "mia")
    playground = shown(offered, "playground/", "mia")
    assert 'value="both"' in playground
    assert 'value="kept"' not in playground
    assert shown(offered, "routing/").count("not used: no ZDR") == 3


@pytest.mark.django_db
def test_it_is_a_setting_of_the_api_for_whom_the_settings_are(offered: World) -> None:
    change_settings(offered.acme, by=offered.actor("alice"), content_retention_hours=5)
    asking = api(offered, "alice")
    assert asking("get", "")["zdr_only"] is False
    clash = asking("patch", "", {"zdr_only": True}, status=422)
    assert (clash["error"]["code"], clash["error"]["param"]) == ("refused", "zdr_only")
    made = asking("patch", "", {"zdr_only": True, "content_retention_hours": 0})
    assert (made["zdr_only"], made["content_retention_hours"]) == (True, 0)
    late = asking("patch", "", {"content_retention_hours": 1}, status=422)
    assert late["error"]["param"] == "content_retention_hours"
    assert asking("patch", "", {"content_retention_hours": 1, "zdr_only": False})["content_retention_hours"] == 1
    api(offered, "lena")("patch", "", {"zdr_only": True}, status=403)
    api(offered, "charlie")("patch", "", {"zdr_only": True}, status=404)
