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
from tests.house import MESSAGES, RATES, House, declare, eventually, leave, raw
from tests.proxy import messages_wire
from tests.proxy.responses_wire import frame as event
from tests.proxy.responses_wire import frames_of, response, said
from tests.upstream import Script, Upstream, answer, frames, stream, usage_of

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


SEARCHED = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "gates"}}


def test_who_leaves_a_response_pays_for_the_searches_that_it_was_told_of(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    """The usage would come at the end. A search that is under way is not told of yet."""
    offer("searching", upstream)
    opened = {**SEARCHED, "id": "ws_3", "status": "in_progress"}
    told = frames_of(response(SEARCHED, {**SEARCHED, "id": "ws_2"}, said("Hello", number=2)))
    under_way = event({"type": "response.output_item.added", "output_index": 3, "item": opened}, 99)
    upstream.on("searching", stream(*told[:-1], under_way, 20.0, told[-1]))
    asked = json.dumps({"model": "searching", "input": "Hi", "stream": True, "tools": [{"type": "web_search"}]}).encode()

    leave(gateway.url, house.key_text, asked, path="/v1/responses", after="ws_3")

    assert house.nothing_held()
    (row,) = eventually(house.rows)
    assert (row.status, row.usage_estimated, row.units) == ("cancelled", True, {"web_search": 2})
    assert row.charged_nano_usd == row.input_tokens * 1_000 + row.output_tokens * 4_000 + 2 * SEARCH


def test_who_leaves_a_message_pays_for_the_searches_that_it_was_told_of(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    """One that failed costs nothing (https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool)."""
    offer("claude-searching", upstream, kind="anthropic")
    found: dict[str, Any] = {
        "type": "web_search_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": [{"type": "web_search_result"}],
    }
    failure = {**found, "content": {"type": "web_search_tool_result_error", "error_code": "unavailable"}}
    told = [messages_wire.start(input_tokens=10, output_tokens=1)]
    told += [part for index, block in enumerate((found, found, failure)) for part in messages_wire.block(index, block)]
    upstream.on("claude-searching", stream(*told, *messages_wire.text(3, "Hello"), 20.0, *messages_wire.end()))
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    asked = body("claude-searching", max_tokens=50, stream=True, tools=tools)

    leave(gateway.url, house.key_text, asked, path="/v1/messages", after="Hello")

    assert house.nothing_held()
    (row,) = eventually(house.rows)
    assert (row.status, row.usage_estimated, row.units) == ("cancelled", True, {"web_search": 2})
    assert row.charged_nano_usd == 10 * 1_000 + 2 * 4_000 + 2 * SEARCH


@pytest.mark.parametrize("read", [20_000, 110_000])
def test_what_a_search_finds_makes_no_call_dearer_than_what_it_holds(
    gateway: Gateway, house: House, upstream: Upstream, read: int
) -> None:
    """How much a provider's own tool puts into the prompt nobody bounds."""
    offer("searching", upstream)
    usage = {"input_tokens": read, "output_tokens": 5, "total_tokens": read + 5}
    upstream.on("searching", Script(parts=(json.dumps(response(SEARCHED, said("Hello", number=1), usage=usage)).encode(),)))
    asked = {"model": "searching", "input": "Hi", "max_output_tokens": 20, "max_tool_calls": 1, "tools": [{"type": "web_search"}]}

    got = raw(gateway.url, house.key_text, json.dumps(asked).encode(), path="/v1/responses")

    assert got.status_code == 200, got.text
    row = house.row_of(got.headers["x-request-id"])
    assert row.input_tokens == read
    assert row.list_nano_usd == read * 1_000 + 5 * 4_000 + SEARCH
    assert row.charged_nano_usd == min(row.list_nano_usd, row.reserved_nano_usd)
    assert row.charged_nano_usd + row.absorbed_nano_usd == row.list_nano_usd
    assert house.counter("org") == {"spent": row.charged_nano_usd, "held": 0}
