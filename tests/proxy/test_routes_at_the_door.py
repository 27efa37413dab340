"""Where calls go, seen from outside and with two workers: quotas of deployments, sessions, price, speed, a larger window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import openai
import pytest
from django.db import transaction

from billing import prices
from billing.models import UsageRecord
from billing.pricing import Rates
from orgs import epoch
from orgs.models import Organization
from proxy.models import Deployment, Model, Provider
from tests.gateways import Gateway
from tests.house import DOLLAR_PER_MILLION, RATES, House, eventually, raw
from tests.proxy.calls import body
from tests.upstream import Upstream, answer, frames, refuse, stream

PLACES = ("place-a", "place-b")
DEAR, CHEAP = (Rates(input=price * DOLLAR_PER_MILLION, output=price * DOLLAR_PER_MILLION) for price in (10, 1))
TOO_LONG = refuse(400, "This model's maximum context length is 10 tokens.", code="context_length_exceeded")


@pytest.fixture(autouse=True)
def routed(house: House, upstream: Upstream) -> Iterator[None]:
    """The model `routed` at two places of equal order, each known to the scripted provider by its own name."""
    with transaction.atomic():
        model = Model.objects.create(name="routed", context_window=128_000, max_output_tokens=4096)
        for name in PLACES:
            place = Provider.objects.create(name=name, kind="openai-compatible", base_url=upstream.url)
            Deployment.objects.create(model=model, provider=place, upstream_model=name)
        prices.declare("model:routed", rates=RATES["scripted"], source="test")
        changed()
    yield
    with transaction.atomic():
        Model.objects.filter(name__startswith="routed").delete()
        Provider.objects.filter(name__in=PLACES).delete()
        prices.declare("model:routed", rates=None, source="test")
        changed()
    upstream.forget()


@pytest.fixture
def workers(gateway: Gateway, second_gateway: Gateway) -> tuple[Gateway, Gateway]:
    return gateway, second_gateway


def changed() -> None:
    epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))


def change(place: str = "", **fields: Any) -> None:
    """Of the model, or of its deployment at a place."""
    with transaction.atomic():
        if place:
            Deployment.objects.filter(provider__name=place, model__name="routed").update(**fields)
        else:
            Model.objects.filter(name="routed").update(**fields)
        changed()


def call(worker: Gateway, house: House, *, session: str = "", **members: Any) -> httpx.Response:
    headers = {"x-gatehouse-session": session} if session else {}
    return raw(worker.url, house.key_text, body(model="routed", **members), **headers)


def route(got: httpx.Response) -> tuple[str, str]:
    """Who answered, and why."""
    assert got.status_code == 200, got.text
    went, reason, *_ = got.headers["x-gatehouse-route"].partition(",")[0].split("; ")
    return went, reason.removeprefix("reason=")


def tries(house: House, got: httpx.Response) -> list[tuple[str, str]]:
    house.row_of(got.headers["x-request-id"])
    return [(entry.provider, entry.status) for entry in house.attempts_of(got.headers["x-request-id"])]


def test_what_a_provider_grants_a_minute_is_shared_by_the_workers_and_the_rest_goes_elsewhere(
    workers: tuple[Gateway, Gateway], house: House, upstream: Upstream
) -> None:
    change("place-a", rpm=5)
    change("place-b", order=2)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: call(workers[number % 2], house), range(16)))

    assert Counter(map(route, answers)) == {("place-a", "order"): 5, ("place-b", "fallback"): 11}
    assert Counter(received.json["model"] for received in upstream.received) == {"place-a": 5, "place-b": 11}
    passed_over = next(got for got in answers if route(got)[0] == "place-b")
    assert tries(house, passed_over) == [("place-a", "skipped"), ("place-b", "ok")]
    assert (
        "place-a; alternative=deployment; model=place-a; reason=order; ended=skipped" in passed_over.headers["x-gatehouse-route"]
    )
    assert "attempts=1" in passed_over.headers["x-gatehouse-route"]
    assert house.nothing_held()


def test_tokens_of_a_minute_are_shared_too_and_where_all_is_used_up_it_says_when_to_come_again(
    workers: tuple[Gateway, Gateway], house: House, upstream: Upstream
) -> None:
    """A call holds about 430 of them, and takes 430: two fit into a thousand, three do not, settled or not."""
    change("place-a", tpm=1000)
    change("place-b", order=2, rpm=1)
    for place in PLACES:
        upstream.on(place, answer(usage=(30, 400)))

    places = [route(call(workers[number % 2], house, max_tokens=400))[0] for number in range(3)]
    refused = call(workers[1], house, max_tokens=400)
    small = call(workers[0], house, max_tokens=5)

    assert places == ["place-a", "place-a", "place-b"]
    assert (refused.status_code, refused.json()["error"]["gatehouse"]["code"]) == (503, "provider_overloaded")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    row = house.row_of(refused.headers["x-request-id"])
    assert (row.charged_nano_usd, row.attempt_count) == (0, 0)
    assert tries(house, refused) == [("place-a", "skipped"), ("place-b", "skipped")]
    assert route(small) == ("place-a", "order")
    assert house.nothing_held()


def test_a_session_stays_where_it_is_at_every_worker_and_sessions_are_spread(
    workers: tuple[Gateway, Gateway], house: House, upstream: Upstream
) -> None:
    went = {name: {route(call(worker, house, session=name)) for worker in workers} for name in map(str, range(24))}
    assert all(len(places) == 1 for places in went.values())
    assert {reason for places in went.values() for _, reason in places} == {"sticky"}
    assert {place for places in went.values() for place, _ in places} == set(PLACES)

    (home, _), *_ = went["0"]
    upstream.on(home, refuse(500))
    assert [route(call(worker, house, session="0"))[1] for worker in workers] == ["fallback", "fallback"]
    upstream.on(home, answer())
    change(circuit_breaker=False)  # which may be open now
    assert [route(call(worker, house, session="0")) for worker in workers] == [(home, "sticky")] * 2


def test_the_cheapest_for_this_very_call_is_taken_and_its_price_is_charged(gateway: Gateway, house: House) -> None:
    with transaction.atomic():
        prices.declare("model:routed", rates=None, source="test")
        for place, rates in zip(PLACES, (DEAR, CHEAP), strict=True):
            prices.declare(f"openai-compatible/{place}", rates=rates, source="test")
    change(strategy="price")

    got = call(gateway, house)

    assert route(got) == ("place-b", "cheapest")
    assert "place-a; alternative=deployment; model=place-a; reason=dearer" in got.headers["x-gatehouse-route"]
    row = house.row_of(got.headers["x-request-id"])
    assert row.charged_nano_usd == 12 * 1_000
    assert row.decision["order"] == [["place-b", "place-b", "cheapest"], ["place-a", "place-a", "dearer"]]

    prices.declare("openai-compatible/place-a", rates=Rates(input=0, output=0), source="test")
    change(strategy="price")
    assert eventually(lambda: route(call(gateway, house)) == ("place-a", "cheapest"))


def test_the_fastest_is_taken_by_all_workers_once_both_are_known(
    workers: tuple[Gateway, Gateway], house: House, upstream: Upstream
) -> None:
    """A thousand tokens at once against two after a while: no stall of this machine makes the one as slow as the other."""
    upstream.on("place-a", answer(usage=(10, 2), before=0.2))
    upstream.on("place-b", answer(usage=(10, 4000)))
    change("place-b", order=2)
    assert route(call(workers[0], house))[0] == "place-a"
    change("place-a", order=3)
    assert route(call(workers[1], house))[0] == "place-b"
    change("place-a", order=2)
    change(strategy="latency")

    for worker in workers:
        assert eventually(partial(goes, worker, house, ("place-b", "fastest")), seconds=20)
    went = Counter(route(call(workers[number % 2], house)) for number in range(12))
    assert went["place-b", "fastest"] >= 6  # of twenty one is drawn, to measure anew
    assert {reason for _, reason in went} <= {"fastest", "measuring"}


def goes(worker: Gateway, house: House, where: tuple[str, str]) -> bool:
    return route(call(worker, house)) == where


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_a_prompt_that_is_too_long_overflows_to_a_model_with_a_larger_window(
    gateway: Gateway, house: House, upstream: Upstream, streamed: bool
) -> None:
    with transaction.atomic():
        for name, window in (("routed-same", 128_000), ("routed-large", 1_000_000)):
            model = Model.objects.create(name=name, context_window=window, max_output_tokens=4096)
            Deployment.objects.create(model=model, provider=Provider.objects.get(name="place-b"), upstream_model=name)
            prices.declare(f"model:{name}", rates=DEAR, source="test")
    change(fallbacks=["routed-same", "routed-large"])
    for place in PLACES:
        upstream.on(place, TOO_LONG)
    upstream.on("routed-large", stream(*frames("Hi", usage=(10, 2))) if streamed else answer(usage=(10, 2)))

    got = call(gateway, house, stream=streamed)

    assert (route(got)[1], got.headers["x-gatehouse-model"]) == ("fallback", "routed-large")
    assert [received.json["model"] for received in upstream.received][1:] == ["routed-large"]
    row = house.row_of(got.headers["x-request-id"])
    assert (row.requested_model, row.served_model, row.charged_nano_usd) == ("routed", "routed-large", 12 * 10_000)
    assert [entry.error for entry in house.attempts_of(str(row.call_id))] == ["bad_request", ""]
    assert house.nothing_held()


def test_where_no_window_is_larger_the_providers_own_words_are_told_and_nothing_is_charged(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    for place in PLACES:
        upstream.on(place, TOO_LONG)
    with pytest.raises(openai.BadRequestError, match="maximum context length") as told:
        house.client(gateway.url).chat.completions.create(model="routed", messages=[{"role": "user", "content": "x"}])
    assert told.value.code == "context_length_exceeded"
    assert len(upstream.received) == 1
    row: UsageRecord = house.row_of(told.value.response.headers["x-request-id"])
    assert (row.status, row.charged_nano_usd) == ("failed", 0)
