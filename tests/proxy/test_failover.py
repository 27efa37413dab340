"""A deployment dies under load, at two workers: no call fails, both stop trying it, one call probes it, both go back. Once by
connections that are reset, once by a SIGKILL of its process."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest
from django.db import transaction

from billing import prices
from gateway_project.lib import redis
from orgs import epoch
from orgs.models import Organization
from proxy.health import keys, overview
from proxy.models import Deployment, Model, Provider
from tests.gateways import Gateway
from tests.house import RATES, House, eventually, raw
from tests.proxy.calls import body
from tests.upstream import RESET, MortalUpstream, Upstream, answer

CALLS = 24
NOW, FAR = 1, 4 * 10**12


@pytest.fixture
def dying() -> Iterator[Upstream]:
    provider = Upstream().start()
    yield provider
    provider.stop()


@pytest.fixture
def deployments(house: House, upstream: Upstream, dying: Upstream) -> Iterator[list[Deployment]]:
    """Two of one model: the first is at a provider of this test alone."""
    with transaction.atomic():
        places = [
            Provider.objects.create(name=name, kind="openai-compatible", base_url=place.url)
            for name, place in (("dying", dying), ("standing-by", upstream))
        ]
        model = Model.objects.create(name="failing-over", context_window=128_000, max_output_tokens=4096)
        prices.declare("model:failing-over", rates=RATES["scripted"], source="test")
        made = [
            Deployment.objects.create(model=model, provider=place, upstream_model=place.name, order=order)
            for order, place in enumerate(places, 1)
        ]
        changed()
    yield made
    with transaction.atomic():
        model.delete()
        Provider.objects.filter(pk__in=[place.pk for place in places]).delete()
        changed()


@pytest.fixture
def mortal(deployments: list[Deployment]) -> Iterator[MortalUpstream]:
    """The first deployment's provider as a process that can be killed."""
    provider = MortalUpstream().start()
    with transaction.atomic():
        Provider.objects.filter(pk=deployments[0].provider_id).update(base_url=provider.url)
        changed()
    yield provider
    provider.kill()


def changed() -> None:
    epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))


def call(gateway: Gateway, house: House, *, streamed: bool = False) -> httpx.Response:
    return raw(gateway.url, house.key_text, body(model="failing-over", stream=streamed))


def circuit(deployment: Deployment) -> str:
    return overview.overview([str(deployment.pk)])[str(deployment.pk)].circuit


def probe_at(deployment: Deployment, milliseconds: int) -> None:
    """The end of its pause, which on a slow machine could come at any moment."""
    redis.client().hset(keys.state(str(deployment.pk)), "till", milliseconds)


def goes(gateway: Gateway, house: House, where: str) -> bool:
    return route(call(gateway, house)) == where


def route(got: httpx.Response) -> str:
    """Where it went, without the alternatives."""
    return str(got.headers["x-gatehouse-route"]).partition(",")[0]


def test_a_deployment_that_dies_under_load_costs_no_call_and_is_probed_until_it_is_back(
    gateway: Gateway,
    second_gateway: Gateway,
    house: House,
    deployments: list[Deployment],
    dying: Upstream,
    upstream: Upstream,
) -> None:
    first, _ = deployments
    workers = (gateway, second_gateway)

    def load(number: int) -> httpx.Response:
        if number == CALLS // 4:  # in the middle of it
            dying.on("dying", RESET)
        return call(workers[number % 2], house, streamed=number % 4 > 1)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(load, range(CALLS)))
    assert {got.status_code for got in answers} == {200}
    assert all(b"[DONE]" in got.content for number, got in enumerate(answers) if number % 4 > 1)
    assert any(route(got) == "standing-by; reason=fallback; attempts=2" for got in answers)

    assert eventually(lambda: circuit(first) == "open")
    probe_at(first, FAR)
    for worker in workers:
        assert eventually(partial(goes, worker, house, "standing-by; reason=order; attempts=1"), seconds=20)
    before = len(dying.received)
    assert {call(worker, house).status_code for worker in workers} == {200}
    assert len(dying.received) == before

    dying.on("dying", answer())
    probe_at(first, NOW)
    for worker in workers:
        assert eventually(partial(goes, worker, house, "dying; reason=order; attempts=1"), seconds=20)
    assert circuit(first) == "closed"
    assert "gatehouse_deployment_circuit" in metrics(gateway)


def test_a_provider_whose_process_is_killed_under_load_costs_no_call_and_is_taken_back_when_it_lives(
    gateway: Gateway, second_gateway: Gateway, house: House, deployments: list[Deployment], mortal: MortalUpstream
) -> None:
    first, _ = deployments
    workers = (gateway, second_gateway)

    def load(number: int) -> httpx.Response:
        if number == CALLS // 4:  # others are under way
            mortal.kill()
        return call(workers[number % 2], house, streamed=number % 4 > 1)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(load, range(CALLS)))
    assert {got.status_code for got in answers} == {200}
    assert {route(got).partition(";")[0] for got in answers} == {"dying", "standing-by"}
    # What had begun there cannot be taken over; every stream that had not is whole.
    assert all(b"[DONE]" in got.content for number, got in enumerate(answers) if number % 4 > 1 and route(got)[0] == "s")
    assert eventually(lambda: circuit(first) == "open")

    probe_at(first, NOW)
    assert eventually(partial(goes, gateway, house, "standing-by; reason=fallback; attempts=2"), seconds=20)  # the probe fails
    assert eventually(lambda: circuit(first) == "open")

    mortal.start()
    probe_at(first, NOW)
    for worker in workers:
        assert eventually(partial(goes, worker, house, "dying; reason=order; attempts=1"), seconds=20)
    assert circuit(first) == "closed"
    assert house.nothing_held()


def test_a_call_falls_back_to_another_model_and_says_who_answered(
    gateway: Gateway, house: House, deployments: list[Deployment], dying: Upstream, upstream: Upstream
) -> None:
    with transaction.atomic():
        deployments[1].delete()
        Model.objects.filter(name="failing-over").update(fallbacks=["gone", "scripted"])
        changed()
    dying.on("dying", RESET)
    upstream.on("scripted", answer(usage=(1000, 500)))

    got = call(gateway, house)

    assert (got.status_code, got.headers["x-gatehouse-model"]) == (200, "scripted")
    assert route(got) == "scripted; reason=fallback; attempts=2"
    row = house.row_of(got.headers["x-request-id"])
    assert (row.requested_model, row.served_model, row.provider) == ("failing-over", "scripted", "scripted")
    assert row.decision["order"] == [["dying", "dying", "order"], ["scripted", "scripted", "fallback model"]]
    assert row.charged_nano_usd == 1000 * 1_000 + 500 * 4_000
    assert [entry.status for entry in house.attempts_of(got.headers["x-request-id"])] == ["failed", "ok"]
    assert house.nothing_held()


def test_zero_data_retention_is_asked_for_by_a_header(
    gateway: Gateway, house: House, deployments: list[Deployment], dying: Upstream
) -> None:
    asked = {"x-gatehouse-zdr": "true"}
    refused = raw(gateway.url, house.key_text, body(model="failing-over"), **asked)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "zdr_unavailable")
    with transaction.atomic():
        Deployment.objects.filter(pk=deployments[1].pk).update(zdr=True)
        changed()
    got = raw(gateway.url, house.key_text, body(model="failing-over"), **asked)
    assert (got.status_code, route(got)) == (200, "standing-by; reason=only; attempts=1")
    assert dying.received == []


def metrics(gateway: Gateway) -> str:
    return httpx.get(f"{gateway.url}/metrics", trust_env=False).text
