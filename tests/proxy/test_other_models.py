"""No caller has a provider ask other models than the one that is held, billed and judged by the rules."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from proxy.exchange import Exchange
from proxy.protocols import other_models
from proxy.providers import registry as providers
from tests.gateways import Gateway
from tests.house import House, raw
from tests.proxy.calls import deployment, planned_call
from tests.proxy.messages_wire import answer as anthropic_answer
from tests.upstream import Upstream, answer

OTHERS = [
    ("/v1/chat/completions", {"model": "scripted"}, "models", ["openai/o1-pro"]),
    ("/v1/chat/completions", {"model": "scripted"}, "fallback_models", ["o1-pro"]),
    ("/v1/messages", {"model": "claude-scripted", "max_tokens": 100}, "fallbacks", [{"model": "claude-opus-4-8"}]),
    ("/v1/messages", {"model": "claude-scripted", "max_tokens": 100}, "fallbacks", "default"),
    ("/v1/chat/completions", {"model": "scripted"}, "plugins", [{"id": "fusion", "model": "openai/o1-pro"}]),
]


@pytest.mark.parametrize(("path", "members", "name", "others"), OTHERS)
def test_no_caller_has_a_provider_ask_another_model_than_the_one_that_is_held_and_billed(
    gateway: Gateway, house: House, upstream: Upstream, path: str, members: dict[str, Any], name: str, others: Any
) -> None:
    upstream.then(anthropic_answer({"type": "text", "text": "Hi"}) if "messages" in path else answer())
    body = {"messages": [{"role": "user", "content": "Hi"}], **members, name: others, "seed": 7}
    got = raw(gateway.url, house.key_text, json.dumps(body).encode(), path=path)
    sent = upstream.received[-1].json
    assert (got.status_code, got.headers["x-gatehouse-ignored"]) == (200, name)
    assert name not in sent
    assert sent["seed"] == 7
    assert house.row_of(got.headers["x-request-id"]).decision["ignored"] == [name]


@pytest.mark.parametrize("none", [{}, {"models": None}, {"plugins": [{"id": "web"}]}, {"plugins": 7}])
def test_where_no_other_model_is_named_every_member_goes_on(none: dict[str, Any]) -> None:
    call = planned_call(deployment(), seed=7, **none)
    asked = json.loads(msgspec.json.encode(call.asked.fields))
    assert json.loads(Exchange(call, deployment()).body()) == asked | {"model": "m"}
    assert call.ignored == ()


@pytest.mark.parametrize("name", other_models.MEMBERS)
def test_no_installation_lets_them_through(name: str) -> None:
    with pytest.raises(providers.BadOptions, match="does not write itself"):
        providers.provider("openai-compatible").configured({"takes": [name]})


HI = [{"role": "user", "content": "Hi"}]
CONSULTING = [
    (
        "/v1/messages",
        {"messages": HI, "max_tokens": 9},
        {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-4-8"},
    ),
    ("/v1/chat/completions", {"messages": HI}, {"type": "openrouter:advisor", "parameters": {"model": "openai/o1-pro"}}),
    ("/v1/chat/completions", {"messages": HI}, {"type": "openrouter:fusion"}),
    ("/v1/responses", {"input": "Hi"}, {"type": "openrouter:subagent"}),
]


@pytest.mark.parametrize(("path", "members", "tool"), CONSULTING)
def test_a_tool_that_consults_another_model_is_refused_by_name(
    gateway: Gateway, house: House, upstream: Upstream, path: str, members: dict[str, Any], tool: dict[str, Any]
) -> None:
    body = {"model": "scripted", **members, "tools": [tool]}
    got = raw(gateway.url, house.key_text, json.dumps(body).encode(), path=path)
    assert (got.status_code, "asks other models" in got.json()["error"]["message"]) == (400, True)
    assert upstream.received == []
    assert house.nothing_held()


@pytest.mark.parametrize(
    "kind", [None, 7, "function", "advisor_of_mine", "my:advisor", "web_search_20250305", "openrouter:datetime"]
)
def test_other_tools_are_not(kind: Any) -> None:
    other_models.refuse_tools([kind])
