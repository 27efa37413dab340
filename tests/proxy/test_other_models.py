"""No caller has a provider ask other models than the one that is held, billed and judged by the rules."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from proxy.errors import BadRequest
from proxy.exchange import Exchange
from proxy.protocols import messages, other_models
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
    ("/v1/messages", {"messages": HI, "max_tokens": 9}, {"type": "openrouter:advisor", "name": "advisor"}),
    ("/v1/messages", {"messages": HI, "max_tokens": 9}, {"type": "fusion", "name": "advisor"}),
    ("/v1/chat/completions", {"messages": HI}, {"type": "openrouter:advisor", "parameters": {"model": "openai/o1-pro"}}),
    ("/v1/chat/completions", {"messages": HI}, {"type": "openrouter:fusion"}),
    ("/v1/chat/completions", {"messages": HI}, {"type": "openrouter:image_generation"}),
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


# --- the tool that agents send along ------------------------------------------------------------
ADVISOR = {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-4-8"}
LOOK = {"name": "look", "description": "Looks, as an advisor would", "input_schema": {"type": "object", "properties": {}}}
CONSULTED = [
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "advisor", "input": {}},
    {"type": "advisor_tool_result", "tool_use_id": "srvtoolu_1", "content": {"type": "advisor_result", "text": "Go on"}},
]
SAID = {"type": "text", "text": "Let me ask the advisor."}
HISTORY = [*HI, {"role": "assistant", "content": [SAID, *CONSULTED]}, *HI, {"role": "assistant", "content": CONSULTED}, *HI]
LEFT = [*HI, {"role": "assistant", "content": [SAID]}, *HI, *HI]


@pytest.mark.parametrize("model", ["claude-scripted", "scripted"])
def test_an_agent_that_has_an_advisor_set_up_is_answered_without_it(
    gateway: Gateway, house: House, upstream: Upstream, model: str
) -> None:
    upstream.then(anthropic_answer() if model == "claude-scripted" else answer())
    body = {"model": model, "max_tokens": 9, "messages": HISTORY, "tools": [ADVISOR, LOOK], "tool_choice": {"type": "auto"}}

    got = raw(gateway.url, house.key_text, json.dumps(body).encode(), path="/v1/messages")

    assert (got.status_code, got.headers["x-gatehouse-ignored"]) == (200, "tools.advisor, messages.advisor_tool_result")
    sent = upstream.received[-1].body
    assert (b"advisor_20260301" in sent, b"srvtoolu_1" in sent, b"as an advisor would" in sent) == (False, False, True)
    assert house.row_of(got.headers["x-request-id"]).decision["ignored"] == ["tools.advisor", "messages.advisor_tool_result"]


def advised(**members: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    asked = messages.parse(json.dumps({"model": "m", "max_tokens": 9, "messages": HI, **members}).encode())
    sent: dict[str, Any] = json.loads(messages.pass_through(asked, model="m"))
    return sent, asked.left_out


def test_what_was_consulted_before_is_left_out_and_no_message_is_empty() -> None:
    sent, left_out = advised(messages=HISTORY)
    assert (sent["messages"], left_out) == (LEFT, ("messages.advisor_tool_result",))


def test_where_it_was_the_only_tool_none_is_offered() -> None:
    sent, left_out = advised(tools=[ADVISOR], tool_choice={"type": "auto"})
    assert (list(sent), left_out) == (["model", "max_tokens", "messages"], ("tools.advisor",))


def test_other_tools_may_still_be_demanded() -> None:
    for choice in ({"type": "any"}, {"type": "tool", "name": "look"}):
        sent, _ = advised(tools=[LOOK, ADVISOR], tool_choice=choice)
        assert (sent["tools"], sent["tool_choice"]) == ([LOOK], choice)


@pytest.mark.parametrize(
    ("tools", "choice"), [([LOOK, ADVISOR], {"type": "tool", "name": "advisor"}), ([ADVISOR], {"type": "any"})]
)
def test_who_demands_its_use_is_told_that_it_is_not_offered(tools: list[Any], choice: dict[str, str]) -> None:
    with pytest.raises(BadRequest, match="`advisor` asks another model") as refused:
        advised(tools=tools, tool_choice=choice)
    assert refused.value.param == "tool_choice"


@pytest.mark.parametrize("tools", [None, [], [LOOK], [{**LOOK, "name": "advisor"}]])
def test_who_only_speaks_of_it_is_passed_on_as_written(tools: Any) -> None:
    asked = {"messages": [{"role": "user", "content": "Who is the advisor?"}, {"role": "assistant", "content": [SAID]}]}
    sent, left_out = advised(tools=tools, **asked)
    assert (sent["messages"], sent["tools"], left_out) == (asked["messages"], tools, ())


def test_tokens_are_counted_without_it() -> None:
    counted = messages.parse_count(json.dumps({"model": "m", "messages": HI, "tools": [ADVISOR]}).encode())
    assert json.loads(messages.write_count(counted, model="m")) == {"model": "m", "messages": HI}
