"""The models shipped with this version: sound, priced, current, and in agreement with the price list."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from billing import price_list
from billing.pricing import Price, Rates
from proxy import listed, shipped
from proxy.catalogue_file import DeploymentDeclaration
from proxy.models import Model
from proxy.protocols import registry as protocols
from proxy.providers import registry

PRICE = Price(version_id=1, sku="x", rates=Rates(input=1, output=1))
MODELS = {model.name: model for model in shipped.models()}


def listed_window(deployment: DeploymentDeclaration) -> int | None:
    provider = price_list.PROVIDER_OF_KIND.get(deployment.provider, deployment.provider)
    known = next((one for one in price_list._providers() if one.id == provider), None)
    model = known.find_model(deployment.model, all_providers=price_list._providers()) if known else None
    return model.context_window if model else None


def test_there_are_enough_of_enough_providers_and_of_every_kind() -> None:
    assert len(MODELS) >= 100
    assert len(shipped.kinds()) >= 13
    assert shipped.kinds() - registry.PROVIDERS.keys() <= {"anthropic"}, "this version can talk to all others"
    assert {model.kind for model in MODELS.values()} == set(Model.Kind.values)


def test_no_two_differ_by_case_alone() -> None:
    assert len({name.lower() for name in MODELS}) == len(MODELS)


def test_each_says_what_a_caller_and_a_router_must_know() -> None:
    for model in MODELS.values():
        if model.kind in {"chat", "embedding"}:
            assert model.context_window, model.name
        if model.kind == "chat":
            assert "streaming" in model.capabilities, model.name
            assert model.max_output_tokens is None or model.max_output_tokens < (model.context_window or 0), model.name


@pytest.mark.parametrize("name", ["minimax-m3.1-flash", "kimi-k3", "gpt-6.1-sol"])
def test_a_model_that_thinks_is_told_how_much(name: str) -> None:
    assert "reasoning" in MODELS[name].capabilities


def test_each_has_a_price_its_own_or_the_lists() -> None:
    for model in MODELS.values():
        if model.price is not None:
            assert len(model.deployments) == 1, f"{model.name}: a price of its own would hold for every provider"
            assert model.price.output or model.price.units, f"an answer of {model.name} costs something"
            continue
        for deployment in model.deployments:
            assert price_list.match(f"{deployment.provider}/{deployment.model}"), deployment


def test_windows_agree_with_the_price_list() -> None:
    """Its figures are often round ones (1,000,000 for 1,048,576)."""
    for model in MODELS.values():
        for deployment in model.deployments:
            if model.kind == "chat" and (listed := listed_window(deployment)):
                assert model.context_window == pytest.approx(listed, rel=0.06), model.name


def test_what_shall_replace_a_model_is_named_where_it_goes() -> None:
    assert MODELS["gpt-5"].replaced_by in MODELS
    assert MODELS["gpt-5"].retires_on is not None
    assert all(model.replaced_by != model.name for model in MODELS.values())


def test_an_account_serves_what_its_kind_can() -> None:
    ours = shipped.of_account("bedrock-eu", kind="bedrock")
    names = {model.name for model in ours}
    assert {"claude-opus-5-5", "nova-pro", "gpt-oss-120b"} <= names
    assert "gpt-6-sol" not in names
    assert {entry.provider for model in ours for entry in model.deployments} == {"bedrock-eu"}
    assert shipped.of_account("here", kind="sandbox") == []


# Kinds of models that providers have and this version does not know how to ask for. The fewer, the better.
NOT_ASKED_FOR = {
    ("gemini", "transcription"), ("qwen", "image"), ("qwen", "speech"),
    ("qwen", "video"), ("vertex", "embedding"), ("xai", "transcription"),
}  # fmt: skip


def test_what_an_account_is_offered_can_be_called_there() -> None:
    """A model that every call of it would be refused for is not offered: not by the catalogue, not by its own name."""
    left_out = set()
    for kind in shipped.kinds():
        client, offered = registry.provider(kind), {model.name for model in shipped.of_account("ours", kind=kind)}
        for model in MODELS.values():
            if any(entry.provider == kind for entry in model.deployments):
                can_be = any(client.serves(protocol) for protocol in protocols.KINDS[model.kind])
                assert (model.name in offered) == can_be, model.name
                left_out |= set() if can_be else {(kind, model.kind)}
    assert left_out == NOT_ASKED_FOR


def test_so_can_every_name_of_the_price_list() -> None:
    kinds: Counter[str] = Counter()
    for sku in price_list.read().timelines:
        kind, _, upstream = sku.partition("/")
        if kind in registry.PROVIDERS:
            model = listed._model(account(kind), f"ours/{upstream}", upstream, PRICE, datetime.now(UTC))
            facts = shipped.named(upstream, kind=kind)
            kinds[model.kind if model is not None else "refused"] += 1
            if facts is not None and (kind, facts.kind) in NOT_ASKED_FOR:
                assert model is None, sku
            else:
                assert model is not None, sku
                assert registry.provider(kind).makes(model.kind), sku
    assert kinds["chat"] > 60
    assert kinds[""] > 1000


def account(kind: str) -> dict[str, Any]:
    """A row of deployments.ACCOUNTS_SQL."""
    options = {"region": "eu-1", "project": "p"}
    row = {"provider_id": 1, "provider_name": "ours", "provider_kind": kind, "base_url": "", "options": options}
    return row | {"api_key_env": "", "api_key_encrypted": ""}


def test_an_account_that_says_it_speaks_more_is_offered_more() -> None:
    more: dict[str, object] = {"protocols": ["chat_completions", "embeddings", "speech"]}
    plain = {model.name for model in shipped.of_account("ours", kind="qwen")}
    all_of_it = {model.name for model in shipped.of_account("ours", kind="qwen", options=more)}
    assert all_of_it == plain | {"qwen3-tts-flash"}


def test_a_model_is_found_by_the_name_its_provider_has_for_it() -> None:
    found = shipped.named("openai/gpt-oss-120b", kind="groq")
    assert found is not None
    assert found.name == "gpt-oss-120b"
    assert shipped.named("openai/gpt-oss-120b", kind="openai") is None


def test_the_licence_of_the_figures_is_shipped_with_them() -> None:
    licence = (shipped.FILE.parent / "LICENSE.litellm").read_text()
    assert "MIT License" in licence
    assert "Berri AI" in licence
