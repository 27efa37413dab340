"""Models by their provider's own name, undeclared: whatever the price list knows of an account's kind, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction

from billing.models import PriceVersion
from billing.price_list import encoded
from billing.pricing import Rates
from gateway_project.lib import redis
from guardrails.rules import Kind, Rule, Rules
from orgs import epoch
from orgs.services.organizations import change_settings
from proxy import deployments, listed, newly_offered
from proxy.deployments import Catalogue, Model
from proxy.models import Deployment, Provider
from proxy.models import Model as ModelRow
from tests.coroutines import as_worker
from tests.gateways import Gateway
from tests.house import House, raw
from tests.upstream import Upstream

RATES = Rates(input=10**9, output=4 * 10**9)
ACCOUNT = "listed-account"


@pytest.fixture(autouse=True)
def own_accounts(committed_db: None) -> Any:
    redis.client().delete(epoch.keys(epoch.CATALOGUE)[1])
    deployments._current = None
    yield
    with transaction.atomic():
        ModelRow.objects.filter(name__startswith=ACCOUNT).delete()
        Provider.objects.filter(name__startswith=ACCOUNT).delete()
        epoch.catalogue_changing([])
    deployments._current = None


def account(kind: str = "openai", **fields: Any) -> Provider:
    with transaction.atomic():
        provider = Provider.objects.create(name=ACCOUNT, kind=kind, **fields)
        epoch.catalogue_changing([])
    return provider


def price(sku: str, rates: Rates | None = RATES, *, from_now: timedelta = timedelta(0)) -> None:
    with transaction.atomic():
        moment = datetime.now(UTC) + from_now
        PriceVersion.objects.create(sku=sku, valid_from=moment, source="test", rates=encoded(rates) if rates else {})
        epoch.catalogue_changing([])


@pytest.fixture
def name() -> str:
    """A model of the price list that no other test knows."""
    return f"model-{uuid4().hex[:12]}"


async def _found(wanted: str) -> tuple[Catalogue, Model | None]:
    catalogue = await deployments.refreshed()
    return catalogue, await listed.find(catalogue, wanted)


def found(wanted: str) -> Model | None:
    model: Model | None = as_worker(_found(wanted))[1]
    return model


def test_what_the_list_prices_is_served_by_the_account_at_that_price(name: str) -> None:
    provider = account(base_url="http://x/v1")
    price(f"openai/{name}")
    model = found(f"{ACCOUNT}/{name}")
    assert model is not None
    (served,) = model.deployments
    assert (model.name, model.kind, model.context_window) == (f"{ACCOUNT}/{name}", "", None)
    assert (served.target.provider_id, served.target.model, served.target.base_url) == (provider.pk, name, "http://x/v1")
    assert served.price is not None
    assert (served.price.sku, served.price.rates) == (f"openai/{name}", RATES)


def test_what_is_shipped_of_a_model_is_known_of_it_here_too() -> None:
    account()
    price("openai/gpt-6-luna")
    model = found(f"{ACCOUNT}/gpt-6-luna")
    assert model is not None
    assert (model.kind, model.context_window, model.max_output_tokens) == ("chat", 1_050_000, 128_000)
    assert "tools" in model.capabilities


def test_names_are_found_whatever_their_case_and_sent_as_they_were_asked_for(name: str) -> None:
    account()
    price(f"openai/{name.upper()}")
    model = found(f"{ACCOUNT}/{name}")
    assert model is not None
    assert model.deployments[0].target.model == name


def test_a_model_is_first_offered_when_both_the_account_and_the_list_know_it(name: str) -> None:
    provider = account(created_at=datetime(2026, 1, 1, tzinfo=UTC))
    price(f"openai/{name}")
    model, known_at = found(f"{ACCOUNT}/{name}"), PriceVersion.objects.get(sku=f"openai/{name}").created_at
    assert model is not None
    assert model.created_at == known_at
    assert newly_offered.by_own_name(f"{ACCOUNT}/{name}") == (f"{ACCOUNT}/{name}", known_at)
    later = known_at + timedelta(days=150)
    Provider.objects.filter(pk=provider.pk).update(created_at=later)
    offered = newly_offered.by_own_name(f"{ACCOUNT}/{name}")
    assert offered is not None
    assert offered.first_offered_at == later


@pytest.mark.parametrize(
    "wanted", ["{name}", "/{name}", "{account}", "{account}/", "nobody/{name}", "{account}/{name}x", "{account}//{name}"]
)
def test_everything_else_is_not_offered(name: str, wanted: str) -> None:
    account()
    price(f"openai/{name}")
    asked = wanted.format(name=name, account=ACCOUNT)
    assert found(asked) is None
    assert newly_offered.by_own_name(asked) is None


def test_a_price_of_another_kind_is_no_price(name: str) -> None:
    account("groq")
    price(f"openai/{name}")
    assert found(f"{ACCOUNT}/{name}") is None


def test_an_account_that_is_switched_off_offers_nothing(name: str) -> None:
    account(enabled=False)
    price(f"openai/{name}")
    assert found(f"{ACCOUNT}/{name}") is None
    assert newly_offered.by_own_name(f"{ACCOUNT}/{name}") is None


def test_a_price_that_was_withdrawn_or_is_yet_to_come_offers_nothing(name: str) -> None:
    account()
    price(f"openai/{name}-soon", from_now=timedelta(hours=1))
    price(f"openai/{name}")
    price(f"openai/{name}", None)
    assert [found(f"{ACCOUNT}/{one}") for one in (name, f"{name}-soon")] == [None, None]


def test_a_declared_model_of_the_same_name_wins(name: str) -> None:
    provider = account()
    price(f"openai/{name}")
    with transaction.atomic():
        row = ModelRow.objects.create(name=f"{ACCOUNT}/{name}", context_window=77)
        Deployment.objects.create(model=row, provider=provider, upstream_model="other")
        epoch.catalogue_changing([])
    model = found(f"{ACCOUNT}/{name}")
    assert model is not None
    assert (model.context_window, model.deployments[0].target.model) == (77, "other")


def test_its_deployment_has_one_id_everywhere_and_it_is_no_rows(name: str) -> None:
    provider = account()
    ids = [listed._id_of(provider.pk, one) for one in (name, name, "another")]
    assert ids[0] == ids[1] != ids[2]
    assert all(-(2**63) < one < 0 for one in ids)
    assert listed._id_of(provider.pk + 1, name) != ids[0]


def test_what_was_looked_up_is_kept_until_the_price_ends_or_the_catalogue_changes(name: str) -> None:
    account()
    price(f"openai/{name}")
    price(f"openai/{name}", Rates(input=1, output=2), from_now=timedelta(hours=1))
    asked = f"{ACCOUNT}/{name}"

    async def looked_up() -> tuple[Catalogue, Model | None, Model | None]:
        catalogue, first = await _found(asked)
        return catalogue, first, await listed.find(catalogue, asked)

    catalogue, first, second = as_worker(looked_up())
    assert first is second is catalogue.find(asked) is not None
    assert 3000 < catalogue.listed[asked].expires_at - time.time() < 3601
    catalogue.listed[asked] = deployments.Listed(first, time.time() - 1)
    assert catalogue.find(asked) is None

    price(f"openai/{name}", None)
    assert found(asked) is None


def test_a_name_that_is_not_there_is_not_asked_for_again_at_once(name: str) -> None:
    account()
    asked = f"{ACCOUNT}/{name}"
    catalogue, _ = as_worker(_found(asked))
    PriceVersion.objects.create(sku=f"openai/{name}", valid_from=datetime.now(UTC), source="test", rates=encoded(RATES))
    assert as_worker(listed.find(catalogue, asked)) is None
    catalogue.listed[asked] = deployments.Listed(None, time.time() - 1)
    assert as_worker(listed.find(catalogue, asked)) is not None


def test_no_more_is_kept_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    account()
    monkeypatch.setattr(listed, "MAX_KEPT", 5)

    async def many() -> int:
        catalogue = await deployments.refreshed()
        for number in range(12):
            await listed.find(catalogue, f"{ACCOUNT}/none-{number}")
            await listed.find(catalogue, f"nobody/none-{number}")
        return len(catalogue.listed)

    assert as_worker(many()) <= 5


def test_kinds_without_a_list_of_their_own_take_the_one_with_the_same_prices() -> None:
    assert listed.skus("vertex", "Gemini-X") == ["vertex/gemini-x", "gemini/gemini-x"]
    assert listed.skus("openai", "GPT-X") == ["openai/gpt-x"]


def _refused(kind: Kind, *entries: str, name: str) -> bool:
    rule = Rule(kind=kind, entries=entries, level="key", node="k", policy="p")
    return Rules(rules=(rule,)).against_model(name) is not None


@pytest.mark.parametrize(
    ("kind", "entries", "refused"),
    [
        ("blocked_models", ("gpt-5",), True),
        ("blocked_models", ("GPT-*",), True),
        ("blocked_models", ("main/*",), True),
        ("blocked_models", ("other/gpt-5",), False),
        ("models", ("gpt-5",), True),
        ("models", ("gpt-*",), True),
        ("models", ("main/gpt-*",), False),
        ("models", ("*",), False),
    ],
)
def test_a_block_reaches_a_model_by_either_name_and_an_allowance_by_the_one_called(
    kind: Kind, entries: tuple[str, ...], refused: bool
) -> None:
    assert _refused(kind, *entries, name="main/gpt-5") == refused


@pytest.fixture
def body(name: str) -> Callable[[], bytes]:
    return lambda: f'{{"model": "{ACCOUNT}/{name}", "messages": [{{"role": "user", "content": "Hi"}}]}}'.encode()


def test_it_is_called_and_billed_and_ruled_like_any_other(
    gateway: Gateway, house: House, upstream: Upstream, name: str, body: Callable[[], bytes]
) -> None:
    assert raw(gateway.url, house.key_text, body()).json()["error"]["code"] == "model_not_found"
    account(base_url=upstream.url)
    price(f"openai/{name}")

    answered = raw(gateway.url, house.key_text, body())
    assert answered.status_code == 200
    row = house.row_of(answered.headers["x-request-id"])
    assert (row.requested_model, row.served_model, row.provider) == (f"{ACCOUNT}/{name}", name, ACCOUNT)
    assert PriceVersion.objects.filter(sku=f"openai/{name}", pk=row.price_version_id or 0).exists()
    assert row.charged_nano_usd > 0
    assert row.deployment_id == listed._id_of(Provider.objects.get(name=ACCOUNT).pk, name)

    world = house.world
    change_settings(world.acme, by=world.actor("alice"), approval_since=datetime.now(UTC) - timedelta(days=1))
    assert raw(gateway.url, house.key_text, body()).json()["error"]["code"] == "model_not_approved"
    change_settings(world.acme, by=world.actor("alice"), approval_since=None)

    house.policy(rules={"blocked_models": [name]})
    refused = raw(gateway.url, house.key_text, body())
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
