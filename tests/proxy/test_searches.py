"""What providers search themselves costs by the search, beside the tokens: counted, held for, and never beyond what was held."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from django.db import transaction

from billing import prices
from orgs import epoch
from orgs.models import Organization
from tests.gateways import Gateway
from tests.house import MESSAGES, RATES, House, declare, raw
from tests.upstream import Upstream, answer, frames, stream, usage_of

SEARCH = 25_000_000
HELLO = 10 * 1_000 + 2 * 4_000


def offer(name: str, upstream: Upstream, *, kind: str = "openai") -> None:
    """A model at the price of "scripted", whose provider's searches cost $25 a thousand."""
    declare(name, kind=kind, url=upstream.url)
    with transaction.atomic():
        rates = msgspec.structs.replace(RATES["scripted"], units={"web_search": SEARCH})
        prices.declare(f"model:{name}", rates=rates, source="test")
        epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))


def body(model: str, **members: Any) -> bytes:
    return json.dumps({"model": model, "messages": MESSAGES, **members}).encode()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("members", [{}, {"web_search_options": {}}])
def test_a_model_of_openai_that_always_searches_is_charged_one_search_a_call(
    gateway: Gateway, house: House, upstream: Upstream, members: dict[str, Any], streamed: bool
) -> None:
    offer("gpt-4o-search-preview", upstream)
    told = stream(*frames("Hello", usage=(10, 2))) if streamed else answer("Hello", usage=(10, 2))
    upstream.on("gpt-4o-search-preview", told)

    got = raw(gateway.url, house.key_text, body("gpt-4o-search-preview", stream=streamed, **members))

    assert got.status_code == 200, got.text
    row = house.row_of(got.headers["x-request-id"])
    assert (row.units, row.charged_nano_usd, row.absorbed_nano_usd) == ({"web_search": 1}, HELLO + SEARCH, 0)
    assert row.reserved_nano_usd >= row.charged_nano_usd
    assert house.nothing_held()


def test_what_openrouter_finds_for_a_model_that_is_named_online_is_held_for_and_charged(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    offer("maker/model:online", upstream, kind="openrouter")
    usage = usage_of(20_000, 2, server_tool_use={"web_search_requests": 2})
    upstream.on("maker/model:online", answer("Hello", usage=usage))

    got = raw(gateway.url, house.key_text, body("maker/model:online"))

    assert got.status_code == 200, got.text
    row = house.row_of(got.headers["x-request-id"])
    assert (row.units, row.absorbed_nano_usd) == ({"web_search": 2}, 0)
    assert row.reserved_nano_usd >= row.charged_nano_usd == 20_000 * 1_000 + 2 * 4_000 + 2 * SEARCH
