"""Declaring shipped models for an account, by one command."""

import io
import json
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from billing import prices
from gateway_project.lib import redis
from orgs import epoch
from orgs.models import Organization
from proxy import catalogue, shipped
from proxy.models import Deployment, Model, Provider

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("empty_catalogue")]


@pytest.fixture(autouse=True)
def accounts(empty_catalogue: None) -> None:
    Provider.objects.create(name="openai-main", kind="openai", api_key_env="OPENAI_API_KEY")
    Provider.objects.create(name="groq-free", kind="groq")
    Provider.objects.create(name="together-eu", kind="together")


def add(*options: str) -> str:
    out = io.StringIO()
    call_command("catalogue", "add", *options, stdout=out)
    return out.getvalue()


def price_of(name: str, *, kind: str, upstream: str) -> Any:
    found = prices.price_for(prices.skus_for(model=name, kind=kind, upstream_model=upstream), at=timezone.now())
    assert found is not None
    return found.rates


def test_the_models_named_are_offered_with_what_is_known_of_them() -> None:
    report = catalogue.add("openai-main", names=["gpt-6-luna", "whisper-1"])
    assert report.counts() == {"created": 5}
    assert report.unpriced == []
    luna, whisper = Model.objects.get(name="gpt-6-luna"), Model.objects.get(name="whisper-1")
    assert (luna.kind, luna.context_window, luna.max_output_tokens) == ("chat", 1_050_000, 128_000)
    assert {"tools", "vision", "reasoning"} <= set(luna.capabilities)
    assert (whisper.kind, str(whisper.retires_on)) == ("transcription", "2027-02-26")
    assert price_of("gpt-6-luna", kind="openai", upstream="gpt-6-luna").input == 100_000_000
    assert price_of("whisper-1", kind="openai", upstream="whisper-1").units == {"second": 100_000}
    served = Deployment.objects.get(model=luna)
    assert (served.provider.name, served.upstream_model) == ("openai-main", "gpt-6-luna")


def test_all_of_a_kind_come_at_once_and_a_second_time_changes_nothing() -> None:
    catalogue.add("openai-main")
    gone = {model.name for model in shipped.models() if model.retires_on and model.retires_on <= timezone.localdate()}
    names = {model.name for model in shipped.of_account("openai-main", kind="openai")}
    assert set(Model.objects.values_list("name", flat=True)) == names - gone
    again = catalogue.add("openai-main")
    assert not again.changed
    assert again.unpriced == []


def test_a_second_account_becomes_one_more_way_to_serve_a_model() -> None:
    catalogue.add("groq-free", names=["gpt-oss-120b"])
    catalogue.add("together-eu", names=["gpt-oss-120b"])
    served = Deployment.objects.filter(model__name="gpt-oss-120b").order_by("order")
    assert [(one.provider.name, one.order) for one in served] == [("groq-free", 1), ("together-eu", 2)]


def test_what_an_operator_has_made_of_a_model_stays_and_what_is_unsaid_is_filled_in() -> None:
    own = {
        "name": "GPT-6-luna",
        "context_window": 9000,
        "price": {"input": 7, "output": 8},
        "deployments": [{"provider": "groq-free", "model": "luna"}],
    }
    catalogue.load({"models": [own]})
    report = catalogue.add("openai-main", names=["gpt-6-luna"])
    assert [(change.thing, change.outcome) for change in report.changes] == [("model", "changed"), ("deployment", "created")]
    row = Model.objects.get()
    assert (row.name, row.context_window, row.max_output_tokens) == ("GPT-6-luna", 9000, 128_000)
    assert price_of("GPT-6-luna", kind="openai", upstream="gpt-6-luna").input == 7_000_000_000
    assert [one.upstream_model for one in row.deployments.all()] == ["luna", "gpt-6-luna"]


def test_running_workers_hear_of_it(django_capture_on_commit_callbacks: Any) -> None:
    organization = Organization.objects.create(name="Acme", slug=f"acme-{uuid4().hex[:12]}")
    key = epoch.keys(organization.id)[0]
    before = redis.client().get(key)
    with django_capture_on_commit_callbacks(execute=True):
        catalogue.add("openai-main", names=["gpt-6-luna"])
    assert redis.client().get(key) != before


def test_a_dry_run_tells_the_same_and_stores_nothing() -> None:
    catalogue.add("groq-free", names=["gpt-oss-120b"])
    assert catalogue.add("together-eu", names=["gpt-oss-120b", "muse-glimmer-30b"], dry_run=True).changed
    assert Model.objects.count() == 1
    assert Deployment.objects.count() == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--provider", "nobody", "--all"), "there is no provider 'nobody'"),
        (
            ("--provider", "openai-main", "--models", "gpt-6-luna,gpt-99"),
            "not among the models shipped for openai: gpt-99; there are",
        ),
        (("--provider", "here", "--all"), "no models are shipped for providers of kind sandbox; there are some for anthropic"),
        (("--provider", "openai-main"), "one of the arguments --models --all is required"),
        (("--provider", "openai-main", "--all", "--models", "o3"), "not allowed with argument"),
    ],
)
def test_what_cannot_be_added_is_told_and_nothing_is_stored(options: tuple[str, ...], reason: str) -> None:
    Provider.objects.create(name="here", kind="sandbox")
    with pytest.raises(CommandError, match=reason):
        add(*options)
    assert not Model.objects.exists()


def test_the_command_prints_or_reports_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-this-shell")
    printed = add("--provider", "openai-main", "--models", "gpt-6-luna, gpt-6-sol,")
    assert "model gpt-6-luna: created" in printed
    assert printed.endswith("Catalogue: 4 created.\n")
    assert json.loads(add("--provider", "openai-main", "--models", "gpt-6-sol", "--json"))["counts"] == {"unchanged": 2}
