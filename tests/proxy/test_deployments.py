"""The catalogue of a worker: as the database has it, replaced when it changes, and never broken by one bad row."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction

from billing.models import PriceVersion
from billing.price_list import encoded
from billing.pricing import Rates
from gateway_project.lib import crypto, redis
from orgs import epoch
from proxy import deployments
from proxy.deployments import Catalogue
from proxy.models import Deployment, Model, Provider
from tests.coroutines import as_worker

RATES = Rates(input=10**9, output=4 * 10**9)


@pytest.fixture(autouse=True)
def own_catalogue(committed_db: None) -> Any:
    """Models of these tests have names of their own and are gone afterwards; other tests' stay."""
    deployments._current = None
    yield
    with transaction.atomic():
        Model.objects.filter(name__startswith="catalogued").delete()
        Provider.objects.filter(name__startswith="catalogued").delete()
        epoch.catalogue_changing([])
    deployments._current = None


@pytest.fixture
def declare() -> Callable[..., Deployment]:
    # Tests that roll a change back leave its mark, and while one stands nothing is kept.
    redis.client().delete(epoch.keys(epoch.CATALOGUE)[1])

    def declare(
        name: str = "catalogued", *, order: int = 1, price: Rates | None = RATES, model: Any = None, **provider: Any
    ) -> Deployment:
        with transaction.atomic():
            account, _ = Provider.objects.update_or_create(
                name=f"catalogued-{order}", defaults={"kind": "openai-compatible", "base_url": "http://x/v1", **provider}
            )
            made, _ = Model.objects.update_or_create(name=name, defaults=model or {})
            deployment, _ = Deployment.objects.update_or_create(
                model=made, provider=account, upstream_model=f"upstream-{order}", defaults={"order": order}
            )
            if price is not None:
                set_price(name, price)
            epoch.catalogue_changing([])
        return deployment

    return declare


def set_price(name: str, rates: Rates | None, *, from_now: timedelta = timedelta(0)) -> PriceVersion:
    moment = datetime.now(UTC) + from_now
    return PriceVersion.objects.create(
        sku=f"model:{name}", valid_from=moment, source="test", rates=encoded(rates) if rates else {}
    )


def refreshed() -> Catalogue:
    found: Catalogue = as_worker(deployments.refreshed())
    return found


def current() -> Catalogue:
    found: Catalogue = as_worker(deployments.catalogue())
    return found


def test_a_model_has_its_deployments_in_order_with_price_and_target(declare: Callable[..., Deployment]) -> None:
    facts = {"max_output_tokens": 77, "context_window": 1000, "capabilities": ["tools"], "retires_on": date(2030, 1, 2)}
    second = declare(order=2, model={**facts, "timeout": {"total": 9, "idle": 3}})
    first = declare(order=1, options={"region": "eu"})

    model = refreshed().models["catalogued"]

    assert (model.kind, model.max_output_tokens, model.context_window) == ("chat", 77, 1000)
    assert (model.capabilities, model.deprecated_on, model.retires_on) == (frozenset({"tools"}), None, date(2030, 1, 2))
    assert [entry.id for entry in model.deployments] == [first.pk, second.pk]
    target = model.deployments[0].target
    assert (target.provider_name, target.kind, target.model) == ("catalogued-1", "openai-compatible", "upstream-1")
    assert (target.base_url, target.options, target.api_key) == ("http://x/v1", {"region": "eu"}, None)
    assert (target.timeouts.total, target.timeouts.idle) == (9, 3)
    price = model.deployments[0].price
    assert price is not None
    assert (price.sku, price.rates) == ("model:catalogued", RATES)


def test_a_deployment_knows_its_model_and_what_its_provider_grants(declare: Callable[..., Deployment]) -> None:
    bounds = {"context_window": 1000, "max_output_tokens": 77}
    made = declare(model={**bounds, "strategy": "price", "fallbacks": ["a", "b"], "circuit_breaker": False})
    Deployment.objects.filter(pk=made.pk).update(rpm=60, tpm=9000, zdr=True)

    model = refreshed().models["catalogued"]

    assert (model.strategy, model.fallbacks) == ("price", ("a", "b"))
    [entry] = model.deployments
    assert (entry.model, entry.context_window, entry.max_output_tokens) == ("catalogued", 1000, 77)
    assert (entry.rpm, entry.tpm, entry.zdr, entry.circuit_breaker) == (60, 9000, True, False)
    assert entry.health_name == str(made.pk)


def test_what_is_switched_off_is_not_offered(declare: Callable[..., Deployment]) -> None:
    declare("catalogued-off", model={"enabled": False})
    declare("catalogued-on", order=2, enabled=False)
    assert not {"catalogued-off", "catalogued-on"} & set(refreshed().models)


def test_credentials_come_from_the_environment_or_are_opened(
    declare: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CATALOGUED_KEY", "from-the-environment")
    declare(order=1, api_key_env="CATALOGUED_KEY")
    kept = crypto.encrypt("from-the-database", bound_to="proxy_provider|catalogued-2|api_key")
    declare(order=2, api_key_encrypted=kept)

    assert [entry.target.api_key for entry in refreshed().models["catalogued"].deployments] == [
        "from-the-environment",
        "from-the-database",
    ]


@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_in_which_no_key_stands_is_known(
    declare: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("CATALOGUED_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("CATALOGUED_KEY", value)
    declare(order=1, api_key_env="CATALOGUED_KEY")
    declare(order=2)

    assert [entry.target.unset_variable for entry in refreshed().models["catalogued"].deployments] == ["CATALOGUED_KEY", ""]


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "of-another-version"},
        {"api_key_encrypted": "not encrypted"},
        {"api_key_encrypted": crypto.encrypt("x", bound_to="proxy_provider|somebody-else|api_key")},
    ],
    ids=["unknown kind", "broken credential", "another row's credential"],
)
def test_a_deployment_that_cannot_be_used_leaves_the_others(
    declare: Callable[..., Deployment], fault: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    declare(order=1, **fault)
    good = declare(order=2)

    assert [entry.id for entry in refreshed().models["catalogued"].deployments] == [good.pk]
    assert "deployment_unusable" in caplog.text


def test_a_model_that_its_provider_is_not_asked_for_is_not_there(
    declare: Callable[..., Deployment], caplog: pytest.LogCaptureFixture
) -> None:
    declare("catalogued-film", order=1, kind="minimax", model={"kind": "video"})
    assert "catalogued-film" not in refreshed().models
    assert "asked for no video" in caplog.text
    declare("catalogued-film", order=2, model={"kind": "video"}, options={"protocols": ["videos"]})
    assert [entry.order for entry in refreshed().models["catalogued-film"].deployments] == [2]


def test_a_model_of_which_nothing_can_be_used_is_not_offered(declare: Callable[..., Deployment]) -> None:
    declare(kind="of-another-version")
    assert "catalogued" not in refreshed().models


def test_the_price_of_the_model_wins_over_that_of_the_list(declare: Callable[..., Deployment]) -> None:
    listed = Rates(input=1, output=1)
    PriceVersion.objects.get_or_create(
        sku="openai-compatible/upstream-1", defaults={"valid_from": datetime.now(UTC), "source": "test", "rates": encoded(listed)}
    )
    declare("catalogued-listed", price=None)
    declare("catalogued")

    models = refreshed().models

    found = {name: models[name].deployments[0].price for name in ("catalogued-listed", "catalogued")}
    assert found["catalogued-listed"] is not None
    assert found["catalogued"] is not None
    assert (found["catalogued-listed"].rates, found["catalogued"].rates) == (listed, RATES)


def test_a_model_without_a_price_is_offered_without_one(declare: Callable[..., Deployment]) -> None:
    declare("catalogued-unpriced", order=7, price=None)
    assert refreshed().models["catalogued-unpriced"].deployments[0].price is None


def test_the_snapshot_is_kept_until_the_catalogue_changes(declare: Callable[..., Deployment]) -> None:
    declare()
    first = current()
    assert current() is first
    assert refreshed() is first

    declare("catalogued-later")

    assert current() is first
    assert "catalogued-later" in refreshed().models
    assert current() is not first


def test_while_a_change_is_under_way_nothing_is_taken_for_current(declare: Callable[..., Deployment]) -> None:
    declare()
    first = refreshed()
    with transaction.atomic():
        epoch.catalogue_changing([])
        assert refreshed() is not first


def test_a_price_that_was_announced_replaces_the_old_at_its_moment(declare: Callable[..., Deployment]) -> None:
    dearer = Rates(input=2, output=2)
    declare("catalogued-dearer")
    version = set_price("catalogued-dearer", dearer, from_now=timedelta(seconds=1.5))
    before = refreshed()
    old = before.models["catalogued-dearer"].deployments[0].price
    assert old is not None
    assert (old.rates, old.valid_until) == (RATES, version.valid_from)
    assert before.expires_at <= version.valid_from.timestamp()
    assert current() is before

    time.sleep(max(0, before.expires_at - time.time()) + 0.01)

    price = current().models["catalogued-dearer"].deployments[0].price
    assert price is not None
    assert price.rates == dearer
