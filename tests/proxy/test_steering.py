"""Aliases, presets and `auto` through the front door: where calls go, what is sent, what the row tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from billing.pricing import Rates
from orgs.services.changes import changing
from proxy.models import Alias, Model, Preset, RoutingChoice
from tests.gateways import Gateway
from tests.house import DOLLAR_PER_MILLION, MESSAGES, RATES, House, reprice
from tests.upstream import Upstream, answer, refuse, usage_of

HARD: list[Any] = [
    {
        "role": "user",
        "content": "A train leaves at 3 pm at 60 miles an hour, another at 4:30 pm at 75. They share 12 stops of 3 minutes "
        "each. After how many hours has the second caught up with the first, and what is 15% of the distance that both "
        "have travelled by then?",
    }
]


@pytest.fixture(autouse=True)
def _models(house: House, upstream: Upstream) -> Iterator[None]:
    reprice("small", Rates(input=DOLLAR_PER_MILLION // 10, output=DOLLAR_PER_MILLION // 10))
    reprice("large", Rates(input=10 * DOLLAR_PER_MILLION, output=10 * DOLLAR_PER_MILLION))
    for name in ("small", "large", "scripted"):
        upstream.on(name, answer("Hello", usage=(10, 2)))
    yield
    upstream.forget()


def alias(house: House, name: str, model: str, group: Any = None) -> None:
    with changing(house.organization):
        Alias.objects.create(
            organization=house.organization, group=group or house.world.root, name=name, model=model, created_by=house.world.alice
        )


def preset(house: House, name: str, model: str, group: Any = None, **fields: Any) -> Preset:
    with changing(house.organization):
        return Preset.objects.create(
            organization=house.organization,
            group=group or house.world.root,
            name=name,
            model=model,
            created_by=house.world.alice,
            **fields,
        )


def auto(house: House, *candidates: str, baseline: str = "") -> None:
    with changing(house.organization):
        RoutingChoice.objects.update_or_create(
            organization=house.organization, defaults={"auto_candidates": list(candidates), "baseline_model": baseline}
        )


def ask(gateway: Gateway, house: House, model: str, messages: Any = MESSAGES, **members: Any) -> Any:
    create = house.client(gateway.url).chat.completions.with_raw_response.create
    return create(model=model, messages=messages, **members)


def test_an_alias_is_another_name_and_counts_on_the_next_call(gateway: Gateway, house: House, upstream: Upstream) -> None:
    with pytest.raises(openai.NotFoundError):
        ask(gateway, house, "Our-Best")
    alias(house, "our-best", "large")

    got = ask(gateway, house, "Our-Best")

    assert upstream.received[-1].json["model"] == "large"
    row = house.row_of(got.headers["x-request-id"])
    assert (row.requested_model, row.served_model, got.headers["x-gatehouse-model"]) == ("Our-Best", "large", "large")


def test_of_two_aliases_the_nearest_counts_and_those_beside_do_not(gateway: Gateway, house: House, upstream: Upstream) -> None:
    alias(house, "ours", "large")
    alias(house, "ours", "small", group=house.world.engineering)
    ask(gateway, house, "ours")
    assert upstream.received[-1].json["model"] == "small"

    with changing(house.organization):
        Alias.objects.filter(group=house.world.engineering).update(group=house.world.sales)
    ask(gateway, house, "ours")
    assert upstream.received[-1].json["model"] == "large"


def test_rules_look_at_the_model_behind_an_alias(gateway: Gateway, house: House, upstream: Upstream) -> None:
    alias(house, "ours", "large")
    house.policy(rules={"blocked_models": ["large"]})
    with pytest.raises(openai.PermissionDeniedError) as refused:
        ask(gateway, house, "ours")
    assert refused.value.code == "model_not_allowed"


def test_a_preset_is_a_model_with_parameters_and_a_prompt(gateway: Gateway, house: House, upstream: Upstream) -> None:
    preset(house, "polite", "large", system_prompt="Be polite.", parameters={"temperature": 0.2, "max_tokens": 50})

    got = ask(gateway, house, "preset:polite", temperature=0.9)

    sent = upstream.received[-1].json
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("large", 0.9, 50)
    assert sent["messages"] == [{"role": "system", "content": "Be polite."}, *MESSAGES]
    row = house.row_of(got.headers["x-request-id"])
    assert (row.requested_model, row.preset, row.status) == ("preset:polite", "polite", "ok")


def test_a_presets_bound_is_what_is_held(gateway: Gateway, house: House, upstream: Upstream) -> None:
    preset(house, "short", "scripted", parameters={"max_tokens": 5})
    house.limit("budget", 300_000)  # 75,000 tokens of output or fewer
    assert ask(gateway, house, "preset:short").status_code == 200


def test_an_archived_preset_and_one_of_another_group_are_not_there(gateway: Gateway, house: House) -> None:
    preset(house, "theirs", "large", group=house.world.sales)
    ended = preset(house, "ended", "large")
    with changing(house.organization):
        Preset.objects.filter(pk=ended.pk).update(archived_at=ended.created_at)
    for name in ("theirs", "ended", "never"):
        with pytest.raises(openai.NotFoundError) as refused:
            ask(gateway, house, f"preset:{name}")
        assert refused.value.code == "model_not_found"
    assert house.nothing_held()


def test_auto_sends_simple_requests_to_the_weak_model_and_hard_ones_to_the_strong(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    auto(house, "small", "large")

    simple = ask(gateway, house, "auto", [{"role": "user", "content": "Say hello."}])
    hard = ask(gateway, house, "auto", HARD)

    assert [received.json["model"] for received in upstream.received[-2:]] == ["small", "large"]
    told = house.row_of(hard.headers["x-request-id"]).decision["auto"]
    assert (told["asked"], told["model"]) == ("auto", "large")
    assert told["others"] == [["small", "weaker than the request needs"]]
    assert 0 <= told["need"] <= 1
    assert "auto=small" in simple.headers["x-gatehouse-route"]


def test_auto_knows_what_the_key_may_call(gateway: Gateway, house: House, upstream: Upstream) -> None:
    auto(house, "small", "large", "not-made-yet")
    house.policy(rules={"blocked_models": ["large", "not-*"]})
    got = ask(gateway, house, "auto:best", HARD)
    assert upstream.received[-1].json["model"] == "small"
    assert "alternative" not in got.headers["x-gatehouse-route"], "names of models that this key may not use"
    others = house.row_of(got.headers["x-request-id"]).decision["auto"]["others"]
    assert others == [["large", "not allowed to this key"], ["not-made-yet", "not allowed to this key"]]
    house.policy(rules={"blocked_models": ["small"]})
    with pytest.raises(openai.NotFoundError, match=r"\(3 are not allowed to this key\)"):
        ask(gateway, house, "auto")


def test_auto_without_a_list_takes_any_model_that_can_serve_the_call(gateway: Gateway, house: House, upstream: Upstream) -> None:
    house.policy(rules={"models": ["small", "large"]})
    ask(gateway, house, "auto:best", HARD)
    assert upstream.received[-1].json["model"] == "large"


def test_what_may_be_read_beside_what_was_sent_makes_no_window_too_small(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    auto(house, "small", "large")
    with changing(house.organization):
        Model.objects.filter(name="small").update(context_window=1000)
    reprice("small", Rates(input=DOLLAR_PER_MILLION // 10, output=DOLLAR_PER_MILLION // 5))  # announces the catalogue
    ask(gateway, house, "auto:cheap", tools=[{"type": "builtin_function", "function": {"name": "$web_search"}}])
    Model.objects.filter(name="small").update(context_window=128_000)
    assert upstream.received[-1].json["model"] == "small"


def test_auto_passes_over_a_window_that_is_too_small(gateway: Gateway, house: House, upstream: Upstream) -> None:
    auto(house, "small", "large")
    with changing(house.organization):
        Model.objects.filter(name="small").update(context_window=20)
    reprice("small", Rates(input=DOLLAR_PER_MILLION // 10, output=DOLLAR_PER_MILLION // 5))  # announces the catalogue
    got = ask(gateway, house, "auto:cheap", [{"role": "user", "content": "word " * 60}])
    Model.objects.filter(name="small").update(context_window=128_000)
    assert upstream.received[-1].json["model"] == "large"
    others = house.row_of(got.headers["x-request-id"]).decision["auto"]["others"]
    assert others == [["small", "its context window is too small"]]


PICTURE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}]}]
TOOLS: list[Any] = [{"type": "function", "function": {"name": "look", "parameters": {}}}]


@pytest.fixture
def able(house: House) -> Iterator[None]:
    """`small` can call tools, `large` sees, `scripted` says nothing of itself."""
    _able(small=["streaming", "tools"], large=["streaming", "vision"])
    yield
    _able(small=[], large=[])


def _able(**words: list[str]) -> None:
    for name, capabilities in words.items():
        Model.objects.filter(name=name).update(capabilities=capabilities)
    reprice("scripted", RATES["scripted"])  # announces the catalogue


@pytest.mark.parametrize(("messages", "members", "chosen", "passed_over"), [
    (PICTURE, {}, "large", ["small", "has no vision"]), (MESSAGES, {"tools": TOOLS}, "small", ["large", "has no tools"]),
])  # fmt: skip
def test_auto_goes_only_where_the_request_can_be_served(
    able: None,
    gateway: Gateway,
    house: House,
    upstream: Upstream,
    messages: Any,
    members: Any,
    chosen: str,
    passed_over: list[str],
) -> None:
    auto(house, "small", "large")
    for leaning in ("auto:cheap", "auto", "auto:best"):
        got = ask(gateway, house, leaning, messages, **members)
        assert upstream.received[-1].json["model"] == chosen
        assert house.row_of(got.headers["x-request-id"]).decision["auto"]["others"] == [passed_over]


def test_what_no_model_of_auto_can_do_is_said_in_the_callers_words(able: None, gateway: Gateway, house: House) -> None:
    auto(house, "small", "large")
    speaking: Any = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
    with pytest.raises(openai.BadRequestError, match="needs audio output, which no model that auto may choose has") as refused:
        ask(gateway, house, "auto", **speaking)
    assert (refused.value.code, refused.value.param) == ("invalid_request", "model")
    with pytest.raises(openai.BadRequestError, match="small: has no vision; large: has no tools"):
        ask(gateway, house, "auto", PICTURE, tools=TOOLS)
    with pytest.raises(openai.BadRequestError, match="needs reasoning"):
        house.client(gateway.url).responses.create(model="auto", input="Hi", reasoning={"effort": "high"})
    format: Any = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    with pytest.raises(anthropic.BadRequestError, match="needs structured output") as told:
        house.anthropic_client(gateway.url).messages.create(
            model="auto", max_tokens=50, messages=MESSAGES, extra_body={"output_config": format}
        )
    assert told.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]
    assert house.nothing_held()


def test_a_model_that_lacks_something_is_fallen_back_to_only_where_that_is_not_needed(
    able: None, gateway: Gateway, house: House, upstream: Upstream
) -> None:
    with changing(house.organization):
        Model.objects.filter(name="scripted").update(fallbacks=["large", "small"])
    _able()
    upstream.on("scripted", refuse(500))
    try:
        for members, served in (({}, "large"), ({"tools": TOOLS}, "small")):
            got = ask(gateway, house, "scripted", **members)
            assert got.headers["x-gatehouse-model"] == upstream.received[-1].json["model"] == served
        with pytest.raises(openai.APIStatusError):
            ask(gateway, house, "scripted", PICTURE, tools=TOOLS)
        assert upstream.received[-1].json["model"] == "scripted"
    finally:
        Model.objects.filter(name="scripted").update(fallbacks=[])
        _able()


def test_a_budget_near_its_cap_degrades_no_call_that_the_cheaper_model_cannot_serve(
    able: None, gateway: Gateway, house: House, upstream: Upstream
) -> None:
    house.policy(("budget", "month", 100_000_000), degrade_percent=1, degrade_model="small")
    for messages, served in ((MESSAGES, "small"), (PICTURE, "large")):
        ask(gateway, house, "large", messages, max_tokens=200)
        assert upstream.received[-1].json["model"] == served


def test_what_the_baseline_model_would_have_cost_stands_on_the_row(gateway: Gateway, house: House) -> None:
    auto(house, "small", "large", baseline="large")
    got = ask(gateway, house, "small")
    row = house.row_of(got.headers["x-request-id"])
    assert (row.charged_nano_usd, row.baseline_nano_usd) == (1_200, 120_000)
    auto(house, "small", "large")
    got = ask(gateway, house, "small")
    assert house.row_of(got.headers["x-request-id"]).baseline_nano_usd is None


def test_what_the_providers_cache_saved_stands_on_the_row(gateway: Gateway, house: House, upstream: Upstream) -> None:
    cached = usage_of(1000, 2, prompt_tokens_details={"cached_tokens": 900})
    upstream.on("scripted", answer("Hello", usage=cached))
    row = house.row_of(ask(gateway, house, "scripted").headers["x-request-id"])
    # 900 tokens at a tenth of the price: nine tenths of a thousandth of a dollar per thousand are saved.
    assert row.cache_saving_nano_usd == 900 * 900
    assert row.charged_nano_usd == 100 * 1_000 + 900 * 100 + 2 * 4_000


def test_a_budget_near_its_cap_degrades_what_auto_chose(gateway: Gateway, house: House, upstream: Upstream) -> None:
    auto(house, "large")
    house.policy(("budget", "month", 200_000_000), degrade_percent=1, degrade_model="small")
    got = ask(gateway, house, "auto", max_tokens=5)
    assert got.status_code == 200
    assert house.row_of(got.headers["x-request-id"]).served_model in ("small", "large")
