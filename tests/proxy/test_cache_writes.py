"""What a hold fears of a provider's prompt cache: no less than can be billed, no more than was asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import Rates, Tier, bill
from proxy import cache_writes, reach, routing
from proxy.canonical.request import Request
from proxy.canonical.usage import Usage
from proxy.deployments import Deployment
from proxy.exchange import Exchange
from proxy.protocols import cache_marks, registry
from proxy.protocols import responses as responses_codec
from proxy.providers import registry as kinds
from tests.proxy.calls import deployment, planned_call

MILLION = 10**6
CLAUDE_RATES = Rates(
    input=3_000,
    output=15_000,
    cache_read=300,
    cache_write_5m=3_750,
    tiers=(Tier(above=900, input=6_000, output=22_500, cache_read=600, cache_write_5m=7_500),),
)
MODELS = {
    "anthropic": "claude-sonnet-4-5",
    "bedrock": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "openrouter": "anthropic/claude-sonnet-4.5",
}
LONG = "word " * (cache_marks.LEAST_BYTES // 5)
MARKS: list[Any] = [None, {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "5m"}, {"type": "ephemeral", "ttl": "1h"}]


def at(kind: str, *, rates: Rates = CLAUDE_RATES, **options: Any) -> Deployment:
    """The model of that kind; `model` names another."""
    name = options.pop("model", MODELS.get(kind, "some-model"))
    provider = kinds.provider(kind).configured({"region": "us-east-1", **options})
    return msgspec.structs.replace(deployment(provider=kind, model=name, rates=rates), provider=provider)


def marked(block: dict[str, Any], mark: Any, name: str = "cache_control") -> dict[str, Any]:
    return block if mark is None else block | {name: mark}


def chat(text: str, block: Any, tool: Any, whole: Any) -> dict[str, Any]:
    parts = [marked({"type": "text", "text": text}, block)]
    tools = [marked({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}, tool)]
    return marked({"messages": [{"role": "user", "content": parts}], "tools": tools}, whole)


def messages(text: str, block: Any, tool: Any, whole: Any) -> dict[str, Any]:
    result = {"type": "tool_result", "tool_use_id": "c", "content": [marked({"type": "text", "text": text}, block)]}
    used = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    said = [{"role": "assistant", "content": [used]}, {"role": "user", "content": [result]}]
    tools = [marked({"name": "f", "input_schema": {"type": "object"}}, tool)]
    return marked({"max_tokens": 50, "messages": said, "tools": tools}, whole)


def responses(text: str, block: Any, tool: Any, whole: Any) -> dict[str, Any]:
    parts = [marked({"type": "input_text", "text": text}, block, "prompt_cache_breakpoint")]
    tools = [marked({"type": "function", "name": "f", "parameters": {"type": "object"}}, tool)]
    return marked({"input": [{"role": "user", "content": parts}], "tools": tools}, whole)


WAYS = {"chat_completions": chat, "messages": messages, "responses": responses}


def parsed(protocol: str, members: dict[str, Any], *, escaped: bool = False) -> Request:
    body = json.dumps({"model": "scripted"} | members).encode()
    if escaped:
        body = body.replace(b"cache_control", b"cache\\u005fcontrol").replace(b'"1h"', b'"\\u0031h"')
        body = body.replace(b"cache_breakpoint", b"c\\u0061che_breakpoint")
    return registry.CALLERS[protocol].parse(body, {})


def marks_in(value: Any) -> Iterator[str]:
    """The lifetime of every mark in a provider's request."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in ("cache_control", "cachePoint") and inner:
                yield inner.get("ttl", "5m")
            yield from marks_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from marks_in(inner)


def written(place: Deployment, asked: Request) -> list[str]:
    call = planned_call(place)
    call.request = asked
    return list(marks_in(json.loads(Exchange(call, place).body())))


def split_by(marks: list[str], tokens: int, draw: st.DataObject) -> Usage:
    """Tokens of input as a provider that was told these marks can report them."""
    counts: dict[str, Any] = {}
    for kind, can_be in (("cache_write_1h", "1h" in marks), ("cache_write_5m", bool(marks)), ("cache_read", True)):
        counts[kind] = draw.draw(st.integers(0, tokens)) if can_be else 0
        tokens -= counts[kind]
    return Usage(input_uncached=tokens, output=draw.draw(st.integers(0, 50)), **counts)


@given(
    draw=st.data(),
    protocol=st.sampled_from(sorted(WAYS)),
    kind=st.sampled_from(sorted(MODELS)),
    marks=st.tuples(*[st.sampled_from(MARKS)] * 3),
    text=st.sampled_from(["Hi", "word " * 300, LONG]),
    auto=st.booleans(),
    escaped=st.booleans(),
)
def test_no_usage_that_the_request_can_lead_to_costs_more_than_is_held(
    draw: st.DataObject, protocol: str, kind: str, marks: tuple[Any, Any, Any], text: str, auto: bool, escaped: bool
) -> None:
    place = at(kind, auto_cache=auto)
    asked = parsed(protocol, WAYS[protocol](text, *marks), escaped=escaped)
    told = written(place, asked)
    usage = split_by(told, asked.input_tokens_estimate, draw)

    assert place.price is not None
    assert bill(place.price, usage).total <= routing.most((place,), asked, output=50)
    if marks == (None, None, None) and not told and text != "word " * 300:
        assert cache_writes.possible(place, asked) == "none", "and no more than is needed"


@pytest.mark.parametrize(
    ("protocol", "mark", "feared"),
    [
        ("messages", None, "none"),
        ("messages", {"type": "ephemeral"}, "short"),
        ("messages", {"type": "ephemeral", "ttl": "1h"}, "any"),
        ("chat_completions", {"type": "ephemeral", "ttl": "5m"}, "short"),
        ("chat_completions", {"type": "ephemeral", "ttl": "1h"}, "any"),
        ("responses", {}, "short"),
        ("responses", {"ttl": "30m"}, "any"),
    ],
)
@pytest.mark.parametrize("kind", sorted(MODELS))
def test_claude_is_feared_to_write_what_is_marked(kind: str, protocol: str, mark: Any, feared: str) -> None:
    assert cache_writes.possible(at(kind), parsed(protocol, WAYS[protocol]("Hi", mark, None, None))) == feared


@pytest.mark.parametrize(
    ("options", "text", "feared"),
    [({}, LONG, "none"), ({"auto_cache": True}, LONG, "short"), ({"auto_cache": True}, "Hi", "none")],
)
@pytest.mark.parametrize("kind", sorted(MODELS))
@pytest.mark.parametrize("protocol", sorted(WAYS))
def test_automatic_breakpoints_are_feared_where_they_may_be_set(
    protocol: str, kind: str, options: dict[str, Any], text: str, feared: str
) -> None:
    assert cache_writes.possible(at(kind, **options), parsed(protocol, WAYS[protocol](text, None, None, None))) == feared


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_short_words_of_another_protocol_may_become_long_enough(kind: str) -> None:
    """What grows most: tools without a schema, in a namespace whose name is as long as it may be there."""
    place = at(kind, auto_cache=True)
    tools = [{"type": "custom", "name": name} for name in map(chr, range(0x21, 0x7F)) if name not in '"\\'][:90]
    said = {"model": "m", "input": "Hi", "tools": [{"type": "namespace", "name": "n" * 58, "tools": tools}]}
    asked = responses_codec.parse(json.dumps(said, separators=(",", ":")).encode())
    assert written(place, asked)
    assert sum(map(len, asked.fields.values())) * 6 < cache_marks.LEAST_BYTES
    assert cache_writes.possible(place, asked) == "short"


@pytest.mark.parametrize(
    ("schema", "an_hour"),
    [
        ({"enum": ["cache_control"], "ttl": "1h"}, False),
        ({"cache_control": {"type": "ephemeral"}, "ttl": "1h"}, True),
        ({"cache_control": "ttl"}, False),
    ],
)
def test_what_is_billed_as_written_for_an_hour_is_feared_as_that(schema: dict[str, Any], an_hour: bool) -> None:
    """Where a provider does not say how long, what was sent decides; the same words are looked for."""
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    place = at("openrouter", model="openai/gpt-5.6")
    call = planned_call(place)
    call.request = asked = parsed("chat_completions", chat("Hi", None, None, None) | {"tools": [tool]})
    Exchange(call, place).body()
    assert call.caches_for_an_hour is an_hour
    assert (cache_writes.possible(place, asked) == "any") is an_hour


@pytest.mark.parametrize(
    "text", ['What is "cache_control": {"ttl": "1h"}?', "cache_control", "\N{LATIN SMALL LETTER U WITH DIAERESIS}\n"]
)
def test_what_is_only_said_is_not_asked_for(text: str) -> None:
    for protocol, way in WAYS.items():
        assert cache_marks.asked_for(parsed(protocol, way(text, None, None, None))) == "none"


@pytest.mark.parametrize(
    ("place", "mark", "feared"),
    [
        (at("openai"), None, "short"),
        (at("openrouter", model="openai/gpt-5.6"), None, "short"),
        (at("openrouter", model="openai/gpt-5.6"), {"type": "ephemeral", "ttl": "1h"}, "any"),
        (at("openai-compatible", model="claude-sonnet-4-5"), {"type": "ephemeral", "ttl": "1h"}, "short"),
        (at("bedrock", model="amazon.nova-pro-v1:0"), None, "any"),
        (at("openai-compatible", model="claude-sonnet-4-5", protocols=["messages"]), None, "any"),
        (at("anthropic", model="somebody-elses"), None, "any"),
        (at("anthropic", rates=Rates(input=3_000, output=15_000)), None, "any"),
        (msgspec.structs.replace(at("anthropic"), price=None), None, "any"),
    ],
    ids=[
        "by itself",
        "marks, but not needed",
        "marks an hour",
        "tells no hour",
        "Converse",
        "Messages",
        "no Claude",
        "no price",
        "free",
    ],
)
def test_whoever_may_cache_unasked_is_feared_as_its_price_and_protocol_have_it(place: Deployment, mark: Any, feared: str) -> None:
    assert cache_writes.possible(place, parsed("chat_completions", chat("Hi", mark, None, None))) == feared


def test_a_call_without_marks_fits_a_cap_that_twice_its_input_would_pass() -> None:
    place = at("anthropic", rates=Rates(input=3_000 * MILLION, output=0, cache_write_5m=3_750 * MILLION))
    plain, an_hour = (
        routing.most((place,), parsed("messages", messages(LONG, mark, None, None)), output=50) for mark in (None, MARKS[3])
    )
    tokens = parsed("messages", messages(LONG, None, None, None)).input_tokens_estimate
    assert tokens * 3_000 <= plain <= tokens * 3_000 + 2
    assert an_hour >= 2 * plain - 2


def test_the_cap_that_an_amount_affords_knows_it_too() -> None:
    place, asked = at("anthropic"), parsed("messages", messages("Hi", None, None, None))
    found = msgspec.structs.replace(planned_call(place).planned, deployments=(place,))
    assert routing.affordable(found, asked, amount=routing.most((place,), asked, output=700)) >= 700


def test_the_cheapest_deployment_is_not_judged_by_a_cache_that_nobody_asked_for() -> None:
    dearer = at("openai", rates=Rates(input=3_100 * MILLION, output=15_000 * MILLION))
    claude = at("anthropic", rates=Rates(input=3_000 * MILLION, output=15_000 * MILLION, cache_write_5m=3_750 * MILLION))
    asked = parsed("messages", messages(LONG, None, None, None))
    assert (reach.usual_cost(claude, asked) or 0) < (reach.usual_cost(dearer, asked) or 0)
    assert reach.usual_cost(msgspec.structs.replace(claude, price=None), asked) is None


def test_what_was_said_before_is_looked_through_as_well() -> None:
    now = parsed("responses", responses("Hi", None, None, None))
    assert cache_marks.asked_for(now) == "none"
    before = [msgspec.Raw(b'{"role":"user","content":[{"type":"input_text","text":"x","prompt_cache_breakpoint":{}}]}')]
    assert cache_marks.asked_for(responses_codec.continued(now, before)) == "short"
