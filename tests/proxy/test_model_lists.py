"""`GET /v1/models` in both shapes, read by the SDKs' own types and over HTTP."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import ModelInfo
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Model as OpenAIModel

from billing.pricing import Rates, Tier
from proxy import shown_prices
from proxy.errors import BadRequest
from proxy.protocols import model_lists
from proxy.protocols.model_lists import ModelEntry, Page, page_of
from tests.gateways import Gateway
from tests.house import House

TODAY = date(2026, 11, 28)
FULL = ModelEntry(
    id="gpt-5",
    created=1_760_000_000,
    owned_by="openai-main",
    context_window=400_000,
    max_output_tokens=128_000,
    capabilities=["tools", "vision"],
    pricing={"input": "1.25", "output": "10"},
    deprecated_on=date(2026, 11, 1),
    retires_on=date(2026, 12, 11),
    replaced_by="gpt-5.6-sol",
)


def entry(name: str, **fields: Any) -> ModelEntry:
    return ModelEntry(id=name, created=0, owned_by="p", **fields)


def test_openais_shape_holds_everything_that_is_known() -> None:
    told = json.loads(model_lists.openai_list([FULL]))
    assert told["object"] == "list"
    assert told["data"] == [
        {
            "id": "gpt-5",
            "object": "model",
            "created": 1_760_000_000,
            "owned_by": "openai-main",
            "kind": "chat",
            "context_window": 400_000,
            "max_output_tokens": 128_000,
            "capabilities": ["tools", "vision"],
            "pricing": {"input": "1.25", "output": "10"},
            "deprecated_on": "2026-11-01",
            "retires_on": "2026-12-11",
            "replaced_by": "gpt-5.6-sol",
        }
    ]
    assert OpenAIModel.model_validate(told["data"][0], strict=True).id == "gpt-5"


def test_anthropics_shape_is_what_its_sdk_reads() -> None:
    told = json.loads(model_lists.anthropic_one(FULL, today=TODAY))
    read = ModelInfo.model_validate(told)
    assert (read.id, read.display_name, read.type, read.lifecycle) == ("gpt-5", "gpt-5", "model", "deprecated")
    assert (read.max_input_tokens, read.max_tokens) == (400_000, 128_000)
    assert told["created_at"] == "2025-10-09T08:53:20Z"
    assert (told["deprecated_at"], told["retires_at"]) == ("2026-11-01T00:00:00Z", "2026-12-11T00:00:00Z")


@pytest.mark.parametrize(
    ("dates", "lifecycle"),
    [
        ({}, "active"),
        ({"deprecated_on": date(2026, 11, 28)}, "deprecated"),
        ({"deprecated_on": date(2026, 11, 29)}, "active"),
        ({"retires_on": date(2027, 11, 29)}, "deprecated"),
    ],
)
def test_a_model_is_deprecated_from_its_day_on_or_once_its_end_is_set(dates: dict[str, date], lifecycle: str) -> None:
    told = json.loads(model_lists.anthropic_one(entry("m", **dates), today=TODAY))
    assert told["lifecycle"] == lifecycle
    assert (told["deprecated_at"] is None) == (lifecycle == "active" or "deprecated_on" not in dates)


def test_anthropics_list_holds_what_messages_can_be_sent_to() -> None:
    told = json.loads(model_lists.anthropic_list([entry("a"), entry("b", kind="image"), entry("c")], Page(), today=TODAY))
    assert [model["id"] for model in told["data"]] == ["a", "c"]
    assert (told["has_more"], told["first_id"], told["last_id"]) == (False, "a", "c")
    empty = json.loads(model_lists.anthropic_list([], Page(), today=TODAY))
    assert empty == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@given(st.integers(0, 12), st.integers(1, 5), st.booleans())
def test_following_the_pages_gives_every_model_once(count: int, limit: int, backwards: bool) -> None:
    entries = [entry(f"m{number:02d}") for number in range(count)]
    seen: list[str] = []
    page = Page(limit, before_id=f"m{count - 1:02d}") if backwards and count else Page(limit)
    while True:
        told = json.loads(model_lists.anthropic_list(entries, page, today=TODAY))
        names = [model["id"] for model in told["data"]]
        assert len(names) <= limit
        seen = [*names, *seen] if backwards and count else [*seen, *names]
        if not told["has_more"]:
            break
        page = Page(limit, before_id=told["first_id"]) if backwards else Page(limit, after_id=told["last_id"])
    assert seen == [one.id for one in entries][: count - 1 if backwards and count else count]


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "many", "", "1e2", "٣", "9" * 5000])
def test_a_bad_limit_is_refused(limit: str) -> None:
    with pytest.raises(BadRequest) as raised:
        page_of({"limit": limit})
    assert raised.value.param == "limit"


@pytest.mark.parametrize("page", [Page(after_id="x"), Page(before_id="x")])
def test_a_page_beside_a_model_that_is_not_there_is_refused(page: Page) -> None:
    with pytest.raises(BadRequest):
        model_lists.anthropic_list([entry("a")], page, today=TODAY)


def test_prices_are_shown_exactly_under_the_names_of_the_catalogue_file() -> None:
    rates = Rates(
        input=250_000_000,
        output=2_000_000_000,
        cache_read=25_000_001,
        request=10_000_000,
        units={"image": 60_000_000},
        tiers=(Tier(above=200_000, input=500_000_000, output=4_000_000_000, cache_write_5m=1),),
    )
    assert shown_prices.of(rates) == {
        "input": "0.25",
        "cached_input": "0.025000001",
        "output": "2",
        "image": "0.06",
        "request": "0.01",
        "tiers": [{"above": 200_000, "input": "0.5", "cache_write": "0.000000001", "output": "4"}],
    }


def listed(gateway: Gateway, **headers: str) -> Any:
    return httpx.get(f"{gateway.url}/v1/models", headers=headers, trust_env=False).json()


def test_the_header_chooses_the_shape_and_either_header_holds_the_key(gateway: Gateway, house: House) -> None:
    bearer = f"Bearer {house.key_text}"
    scripted = next(model for model in listed(gateway, authorization=bearer)["data"] if model["id"] == "scripted")
    assert scripted["pricing"] == {"input": "1", "cached_input": "0.1", "output": "4"}
    assert (scripted["context_window"], scripted["capabilities"], scripted["deprecated_on"]) == (128_000, [], None)
    for headers in ({"x-api-key": house.key_text}, {"authorization": bearer, "anthropic-version": "2023-06-01"}):
        told = listed(gateway, **headers)
        assert "object" not in told
        assert {"scripted", "pair"} <= {model["id"] for model in told["data"]}


def test_anthropics_own_client_lists_and_retrieves(gateway: Gateway, house: House) -> None:
    house.policy(rules={"blocked_models": ["dead"]})
    with anthropic.Anthropic(base_url=gateway.url, api_key=house.key_text, max_retries=0) as client:
        names = [model.id for model in client.models.list(limit=2)]
        assert {"scripted", "pair", "impatient"} <= set(names)
        assert len(names) == len(set(names))
        assert "dead" not in names
        assert client.models.retrieve("scripted").max_input_tokens == 128_000
        with pytest.raises(anthropic.NotFoundError):
            client.models.retrieve("dead")
        with pytest.raises(anthropic.BadRequestError):
            client.models.list(limit=0)
    with (
        anthropic.Anthropic(base_url=gateway.url, api_key="gh_sk_wrong", max_retries=0) as client,
        pytest.raises(anthropic.AuthenticationError),
    ):
        client.models.list()


def test_a_key_in_anthropics_header_calls_every_route(gateway: Gateway, house: House) -> None:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}
    headers = {"x-api-key": house.key_text}
    assert httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, trust_env=False).status_code == 200
    assert httpx.get(f"{gateway.url}/v1/key", headers=headers, trust_env=False).json()["path"]
