"""An explanation is what the proxy then answers: for limits, rules and states drawn at random, and for each kind by itself."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from functools import cache
from typing import Any

import httpx
import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway_project.lib.money import NANO, exact_usd, parse_usd
from guardrails.models import Binding, Limit, Policy, Request, Rule
from orgs import epoch
from orgs.models import User
from orgs.services.keys import disable_key
from orgs.services.organizations import change_settings
from proxy.models import Model
from proxy.protocols import chat_completions
from tests.examples import TIMES, some
from tests.gateways import Gateway
from tests.house import MESSAGES, House, eventually, raw
from tests.upstream import Upstream, answer

LEVELS = ("organization", "level 1", "level 2", "level 3", "member", "key")
CHANCES = settings(max_examples=some(35), suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=TIMES == 1)


def body(model: str, max_tokens: int | None) -> bytes:
    bound = {} if max_tokens is None else {"max_tokens": max_tokens}
    return json.dumps({"model": model, "messages": MESSAGES, **bound}).encode()


@cache
def session_of(user_id: int) -> dict[str, str]:
    client = Client()
    client.force_login(User.objects.get(pk=user_id))
    return {name: morsel.value for name, morsel in client.cookies.items()}


def explained(gateway: Gateway, house: House, *, model: str = "scripted", max_tokens: int | None = None, **more: str) -> Any:
    """The answer of the API, asked by a Super Admin, for a call with the prompt of the tests."""
    estimate = chat_completions.parse(body(model, max_tokens)).input_tokens_estimate
    asked = {"model": model, "input_tokens": str(estimate), **more}
    asked |= {} if max_tokens is None else {"max_tokens": str(max_tokens)}
    asked["key"] = house.key.public_id
    cookies = session_of(house.world.alice.pk)
    found = httpx.get(f"{gateway.url}/api/v1/explain", params=asked, cookies=cookies, timeout=30, trust_env=False)
    assert found.status_code == 200, found.text
    return found.json()


def deciding(told: Any) -> Any:
    return next((line for line in told["lines"] if line["decides"]), None)


def line(told: Any, kind: str, **named: str) -> Any:
    return next(
        found for found in told["lines"] if found["kind"] == kind and all(found[name] == value for name, value in named.items())
    )


def call(gateway: Gateway, house: House, *, model: str = "scripted", max_tokens: int | None = None) -> httpx.Response:
    return raw(gateway.url, house.key_text, body(model, max_tokens))


def agrees(told: Any, answered: httpx.Response, house: House, upstream: Upstream, max_tokens: int | None) -> None:
    """The same verdict; of a refusal the same code and line, of a call that passed the same hold, model and bound."""
    if told["verdict"] == "refuses":
        error = answered.json()["error"]
        assert (answered.status_code, error["code"]) == (told["refusal"]["status"], told["refusal"]["code"]), told
        found, named = deciding(told), error["gatehouse"]
        for name in ("level", "node", "policy", "kind", "window"):
            assert name not in named or found[name] == named[name], name
        if "limit" in named and found["kind"] != "max_tokens":
            assert [str(named[name]) for name in ("limit", "spent", "held")] == [
                found[name] for name in ("limit", "spent", "held")
            ]
        return
    assert answered.status_code == 200, (answered.text, told)
    row = house.row_of(answered.headers["x-request-id"])
    assert row.reserved_nano_usd == parse_usd(told["reserves_usd"])
    assert upstream.received[-1].json["model"] == told["model"]
    bound = told["max_tokens"] if told["max_tokens"] is not None else max_tokens
    assert upstream.received[-1].json.get("max_tokens") == bound
    assert ("x-gatehouse-degraded-from" in answered.headers) == (told["degraded_from"] is not None)
    assert ("clamped_to" in row.decision) == told["clamped"]


# --- drawn at random ----------------------------------------------------------------------------
WORST = 16_400_000  # about what the longest answer of `scripted` may cost
budgets = st.tuples(
    st.sampled_from(LEVELS),
    st.sampled_from(["day", "month", "total"]),
    st.one_of(
        st.integers(-WORST, 2 * WORST),
        st.integers(WORST, 20 * WORST),
        st.sampled_from([0, 1, 64_000, 100_000, 4_000_000, WORST]),
    ),
    st.sampled_from([None, None, 10, 50, 90]),
)
counts = st.tuples(
    st.sampled_from(LEVELS),
    st.sampled_from([("rpm", "minute"), ("tpm", "minute"), ("rpd", "day"), ("parallel", "now"), ("max_tokens", "call")]),
    st.sampled_from([0, 1, 2, 50, 1000, 1060, 5000, 100_000]),
)
rules = st.tuples(
    st.sampled_from(LEVELS),
    st.sampled_from(
        [
            ("models", ["scripted", "output-*"]), ("models", ["pair"]), ("models", []), ("blocked_models", ["SCRIPTED"]),
            ("blocked_models", ["x*"]), ("providers", ["scripted"]), ("providers", ["second"]), ("providers", ["nobody"]),
            ("addresses", ["127.0.0.0/8"]), ("addresses", ["10.0.0.0/8"]), ("members", ["me"]), ("members", ["1"]),
        ]
    ),
)  # fmt: skip
switches = st.fixed_dictionaries(
    {"clamp": st.sampled_from([None, True, False]), "clamp_least_tokens": st.sampled_from([None, 1, 500])}
)


def bind(house: House, level: str, *, limit: Limit | None = None, rule: Rule | None = None, **fields: Any) -> None:
    policy = Policy.objects.create(organization=house.organization, name=f"P{Policy.objects.count()}", **fields)
    Binding.objects.create(policy=policy, organization=house.organization, **house.subjects()[level])
    for row in (limit, rule):
        if row is not None:
            row.policy = policy
            row.save()


def set_anew(house: House, money: Any, counted: Any, listed: Any, switched: Any) -> None:
    spent = house.counter("org")["spent"]
    with transaction.atomic():
        Policy.objects.filter(organization=house.organization).delete()
        for level, window, more, share in money:
            near = {} if share is None else {"degrade_percent": share, "degrade_model": "pair"}
            bind(house, level, limit=Limit(kind="budget", window=window, value=max(0, spent + more)), **near)
        for level, (kind, window), value in counted:
            bind(house, level, limit=Limit(kind=kind, window=window, value=value))
        for level, (kind, entries) in listed:
            named = [str(house.world.mia.pk) if entry == "me" else entry for entry in entries]
            bind(house, level, rule=Rule(kind=kind, entries=named))
        bind(house, "level 2", **switched)
        epoch.changing(house.organization.pk)


def test_the_explained_verdict_is_what_the_proxy_then_answers(gateway: Gateway, house: House, upstream: Upstream) -> None:
    seen: set[str] = set()
    upstream.on("pair", answer(usage=(10, 900)))
    upstream.on("scripted", answer(usage=(10, 700)))

    plain = {"clamp": None, "clamp_least_tokens": None}

    @CHANCES
    @example([("key", "day", 2 * WORST, 50)], [], [], plain, "scripted", None)
    @example([("member", "month", WORST // 2, 90)], [], [], plain, "scripted", None)
    @example([("level 1", "total", WORST // 2, None)], [], [], plain, "scripted", None)
    @example([("key", "total", 0, None), ("level 2", "day", 0, None)], [], [], plain, "pair", 900)
    @example([("key", "total", 100 * WORST, None)], [("organization", ("max_tokens", "call"), 50)], [], plain, "pair", None)
    @given(
        st.lists(budgets, max_size=4),
        st.lists(counts, max_size=1),
        st.one_of(st.just([]), st.just([]), st.lists(rules, max_size=2)),
        switches,
        st.sampled_from(["scripted", "scripted", "pair"]),
        st.sampled_from([None, None, 1, 900, 4096, 9000]),
    )
    def compare(money: Any, counted: Any, listed: Any, switched: Any, model: str, max_tokens: int | None) -> None:
        set_anew(house, money, counted, listed, switched)
        told = explained(gateway, house, model=model, max_tokens=max_tokens)
        agrees(told, call(gateway, house, model=model, max_tokens=max_tokens), house, upstream, max_tokens)
        seen.add(told["refusal"]["code"] if told["refusal"] else told["verdict"])

    compare()
    assert {"passes", "clamps", "degrades", "budget_exceeded"} <= seen, seen
    assert house.nothing_held()


# --- each by itself ----------------------------------------------------------------------------
def test_every_node_of_the_path_has_a_line_from_the_key_to_the_credit(gateway: Gateway, house: House) -> None:
    house.limit("budget", 5 * NANO, group=house.world.platform)

    told = explained(gateway, house)

    levels = [(found["level"], found["node"]) for found in told["lines"]]
    assert levels == [
        ("key", "Mia's key"), ("member", "Mia"), ("group", "gateway"), ("group", "platform"), ("group", "engineering"),
        ("organization", house.organization.name), ("credit pool", house.organization.name),
    ]  # fmt: skip
    assert [found["verdict"] for found in told["lines"]] == ["counts"] * 3 + ["passes"] + ["counts"] * 2 + ["passes"]
    budget = line(told, "budget", level="group")
    assert (budget["limit"], budget["spent"], budget["held"], budget["left"]) == ("5", "0", "0", "5")
    assert budget["resets_at"] is not None
    assert told["verdict"] == "passes"
    assert told["key"]["name"] == "Mia's key"
    assert deciding(told) is None


def test_explaining_holds_counts_and_records_nothing(gateway: Gateway, house: House) -> None:
    house.limit("rpm", 3, window="minute")
    house.limit("rpd", 3, window="day")
    for _ in range(5):
        told = explained(gateway, house)
    assert (line(told, "rpm")["spent"], line(told, "rpd")["spent"], told["verdict"]) == ("0", "0", "passes")
    assert house.rows() == []
    assert house.held() == {}


def test_the_budget_with_the_least_room_decides_and_the_others_say_what_they_would_do(gateway: Gateway, house: House) -> None:
    house.limit("budget", 2_000_000, group=house.world.root)
    house.limit("budget", 1_000_000, member=house.world.mia)

    told = explained(gateway, house, max_tokens=1000)

    assert told["refusal"]["code"] == "budget_exceeded"
    assert told["refusal"]["ask"]
    assert [found["verdict"] for found in told["lines"] if found["kind"] == "budget"] == ["refuses", "refuses", "passes"]
    assert deciding(told)["level"] == "member"
    assert "could cost" in deciding(told)["text"]


def test_what_is_held_by_a_running_call_counts(gateway: Gateway, house: House, upstream: Upstream) -> None:
    house.limit("budget", NANO // 5)
    house.limit("parallel", 1, window="now")
    upstream.on("output-only", answer(usage=(1, 10), before=1.5))
    running = threading.Thread(target=call, args=(gateway, house), kwargs={"model": "output-only", "max_tokens": 1000})
    running.start()
    eventually(lambda: house.counter(f"k{house.key.pk}")["held"])
    told = explained(gateway, house, model="output-only", max_tokens=1000)
    answered = call(gateway, house, model="output-only", max_tokens=1000)
    running.join()

    assert line(told, "budget", level="key")["held"] == "0.1"
    assert (told["refusal"]["code"], deciding(told)["kind"]) == ("concurrency_limit_exceeded", "parallel")
    assert answered.json()["error"]["code"] == "concurrency_limit_exceeded"


@pytest.mark.parametrize(
    ("percent", "refused", "model"), [(None, False, "scripted"), (50, False, "pair"), (100, False, "scripted")]
)
def test_a_budget_near_its_cap_names_the_model_it_goes_to(
    gateway: Gateway, house: House, percent: int | None, refused: bool, model: str
) -> None:
    fields: dict[str, Any] = {} if percent is None else {"degrade_percent": percent, "degrade_model": "pair"}
    with transaction.atomic():
        bind(house, "key", limit=Limit(kind="budget", window="total", value=30_000_000), **fields)
        epoch.changing(house.organization.pk)

    told = explained(gateway, house)

    assert (told["model"], told["verdict"]) == (model, "degrades" if model == "pair" else "passes")
    assert told["degraded_from"] == ("scripted" if model == "pair" else None)
    if percent == 50:
        assert deciding(told)["text"] == "near its cap, so calls go to pair"
        assert deciding(told)["degrades"] == {"model": "pair", "below_left": exact_usd(15_000_000)}


def test_a_cheaper_model_that_the_key_may_not_use_changes_nothing(gateway: Gateway, house: House) -> None:
    with transaction.atomic():
        near: dict[str, Any] = {"degrade_percent": 10, "degrade_model": "pair"}
        bind(house, "key", limit=Limit(kind="budget", window="total", value=30_000_000), **near)
        bind(house, "member", rule=Rule(kind="blocked_models", entries=["pair"]))
        epoch.changing(house.organization.pk)

    told = explained(gateway, house)

    assert (told["model"], told["verdict"], told["degraded_from"]) == ("scripted", "passes", None)
    assert "cannot go to pair" in line(told, "budget", level="key")["text"]


def test_a_reset_counts_from_zero_and_an_extra_raises_the_limit(gateway: Gateway, house: House, upstream: Upstream) -> None:
    limit = house.limit("budget", NANO, window="total")  # a month may end sooner
    upstream.on("output-only", answer(usage=(1, 2500)))
    for _ in range(2):
        call(gateway, house, model="output-only", max_tokens=2500)
    with transaction.atomic():
        given: dict[str, Any] = {"organization": house.organization, "api_key": house.key, "created_by": house.world.alice}
        until = timezone.now() + timedelta(hours=2)
        limit.overrides.create(kind="reset", amount=NANO // 2, until=until, **given)
        limit.overrides.create(kind="extra", amount=3 * NANO, until=until, **given)
        epoch.changing(house.organization.pk)

    budget = line(explained(gateway, house), "budget", level="key")

    assert [budget[name] for name in ("limit", "spent", "left", "forgiven")] == ["4", "0", "4", "0.5"]
    assert budget["changes_at"] is not None


def test_a_model_that_waits_for_approval_is_refused_until_it_is_approved(gateway: Gateway, house: House) -> None:
    alice = house.world.actor("alice")
    change_settings(house.organization, by=alice, approval_since=timezone.now() - timedelta(days=900))

    told = explained(gateway, house)
    assert (told["refusal"]["code"], deciding(told)["kind"]) == ("model_not_approved", "approval")
    assert "not approved" in deciding(told)["text"]
    assert call(gateway, house).json()["error"]["code"] == "model_not_approved"

    with transaction.atomic():
        Request.objects.create(
            organization=house.organization, kind="model", group=house.world.engineering, model="scripted", status="approved",
            requested_by=house.world.mia,
        )  # fmt: skip
        epoch.changing(house.organization.pk)
    told = explained(gateway, house)
    assert (told["verdict"], line(told, "approval")["text"]) == ("passes", "new, and approved")


def test_where_the_call_has_no_plan_limits_show_their_figures_unjudged(gateway: Gateway, house: House) -> None:
    house.limit("budget", NANO)

    told = explained(gateway, house, model="no-such-model")

    assert (told["refusal"]["code"], told["refusal"]["status"], told["model"]) == ("model_not_found", 404, None)
    assert (told["reserves_usd"], told["max_tokens"], deciding(told)) == (None, None, None)
    assert [line(told, "budget")[name] for name in ("verdict", "left")] == ["unjudged", "1"]


def test_attribution_that_is_required_is_a_line(gateway: Gateway, house: House) -> None:
    change_settings(house.organization, by=house.world.actor("alice"), attribution_required=True)
    told = explained(gateway, house)
    assert (told["refusal"]["code"], deciding(told)["kind"]) == ("attribution_required", "attribution")
    assert call(gateway, house).json()["error"]["code"] == "attribution_required"
    assert Model.objects.filter(name="scripted").exists()


def test_a_key_that_is_refused_at_the_door_cannot_ask_for_itself(gateway: Gateway, house: House) -> None:
    disable_key(house.key, by=house.world.actor("mia"))
    headers = {"authorization": f"Bearer {house.key_text}"}
    found = httpx.get(f"{gateway.url}/api/v1/explain", params={"model": "scripted"}, headers=headers, trust_env=False)
    assert (found.status_code, found.json()["error"]["code"]) == (401, "key_disabled")
