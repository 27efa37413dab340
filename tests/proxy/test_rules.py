"""Rules through the front door: from where, which models there are for a key, and what waits for an approval."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import openai
import pytest

from guardrails.models import Request
from orgs.services.changes import changing
from tests.gateways import Gateway
from tests.house import MESSAGES, House, raw
from tests.proxy.calls import body
from tests.upstream import Upstream

OFFICE = {"addresses": ["203.0.113.0/24", "2001:db8:1::/48"]}


@pytest.fixture(scope="module")
def behind(start_gateway: Callable[..., Gateway]) -> Gateway:
    """A gateway behind load balancers on loopback and in 10.0.0.0/8."""
    return start_gateway("behind-proxies", TRUSTED_PROXIES="127.0.0.0/8, 10.0.0.0/8")


@pytest.mark.parametrize(
    ("forwarded", "status"),
    [
        ("203.0.113.7", 200),
        ("203.0.113.7, 10.1.2.3", 200),
        ("198.51.100.9, 203.0.113.7, 10.1.2.3", 200),
        ("2001:db8:1:2::3", 200),
        ("::ffff:203.0.113.7", 200),
        ("198.51.100.9", 403),
        # Whoever calls writes what it likes; what the trusted proxies add comes after it.
        ("203.0.113.7, 198.51.100.9", 403),
        ("203.0.113.7, 198.51.100.9, 10.1.2.3", 403),
        ("203.0.113.7, unknown", 403),
        ("", 403),
    ],
)
def test_behind_trusted_proxies_the_caller_is_whom_they_name(behind: Gateway, house: House, forwarded: str, status: int) -> None:
    house.policy(rules=OFFICE)

    got = raw(behind.url, house.key_text, body(), **{"x-forwarded-for": forwarded})

    assert got.status_code == status
    if status == 403:
        assert got.json()["error"]["code"] == "ip_not_allowed"


def test_without_trusted_proxies_the_header_is_anybodys_and_counts_for_nothing(gateway: Gateway, house: House) -> None:
    house.policy(rules=OFFICE)
    spoofed = {"x-forwarded-for": "203.0.113.7", "x-real-ip": "203.0.113.7", "forwarded": "for=203.0.113.7"}

    got = raw(gateway.url, house.key_text, body(), **spoofed)

    assert (got.status_code, got.json()["error"]["code"]) == (403, "ip_not_allowed")
    assert "127.0.0.1" in got.json()["error"]["message"]


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.0/8", "10.0.0.0/8"], []])
def test_a_network_that_holds_the_caller_lets_it_pass_and_so_does_an_empty_list(
    gateway: Gateway, house: House, addresses: list[str]
) -> None:
    house.policy(rules={"addresses": addresses})

    assert raw(gateway.url, house.key_text, body()).status_code == 200


def test_networks_intersect_down_the_tree(gateway: Gateway, house: House) -> None:
    house.policy(rules={"addresses": ["127.0.0.1"]})
    house.policy(rules={"addresses": ["10.0.0.0/8"]}, to={"group": house.world.root})

    told = raw(gateway.url, house.key_text, body()).json()["error"]["gatehouse"]

    assert told["level"] == "organization"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/scripted", "/v1/key"])
def test_a_key_tells_nothing_where_it_may_not_be_used(gateway: Gateway, house: House, path: str) -> None:
    house.policy(rules=OFFICE)

    got = httpx.get(f"{gateway.url}{path}", headers={"authorization": f"Bearer {house.key_text}"})

    assert (got.status_code, got.json()["error"]["code"]) == (403, "ip_not_allowed")


def offered(gateway: Gateway, house: House) -> set[str]:
    listed = {model.id for model in house.client(gateway.url).models.list()}
    return {name for name in listed if not name.startswith("auto")}


@pytest.mark.parametrize(
    ("rules", "listed", "missing"),
    [
        ({"models": ["scripted", "PAIR"]}, {"scripted", "pair"}, {"impatient", "sandbox-instant"}),
        ({"models": ["sandbox-*"]}, {"sandbox-instant", "sandbox-hang"}, {"scripted", "pair"}),
        ({"blocked_models": ["*a*"]}, {"scripted"}, {"pair", "sandbox-instant", "dead"}),
        ({"models": ["scripted", "pair"], "blocked_models": ["pair"]}, {"scripted"}, {"pair"}),
        ({"providers": ["second"]}, {"pair"}, {"scripted", "impatient", "sandbox-instant"}),
        ({"models": []}, {"scripted", "pair", "impatient", "sandbox-instant"}, set()),
    ],
)
def test_the_models_listed_are_those_the_key_may_call(
    gateway: Gateway, house: House, rules: dict[str, list[str]], listed: set[str], missing: set[str]
) -> None:
    house.policy(rules=rules, to={"group": house.world.platform})

    names = offered(gateway, house)

    assert listed <= names
    assert not missing & names
    for name in missing:
        with pytest.raises(openai.NotFoundError):
            house.client(gateway.url).models.retrieve(name)


def ask_for(house: House, model: str, *, status: str, group: Any = None) -> None:
    world = house.world
    with changing(house.organization):
        Request.objects.create(
            organization=house.organization,
            kind="model",
            group=group or world.platform,
            model=model,
            requested_by=world.mia,
            status=status,
            decided_by=world.sam,
            decided_at=datetime.now(UTC),
        )


def test_a_model_first_offered_after_the_date_waits_for_an_approval(
    gateway: Gateway, second_gateway: Gateway, house: House, upstream: Upstream
) -> None:
    house.change(approval_since=datetime.now(UTC) - timedelta(days=365))
    house.client(gateway.url).models.list()

    got = raw(second_gateway.url, house.key_text, body())

    assert (got.status_code, got.headers["x-should-retry"]) == (403, "false")
    error = got.json()["error"]
    assert (error["code"], error["gatehouse"]["level"]) == ("model_not_approved", "organization")
    assert "request" in error["gatehouse"]["ask"]
    assert "scripted" not in offered(gateway, house)
    assert upstream.received == []

    ask_for(house, "scripted", status="approved")

    for url in (gateway.url, second_gateway.url):
        house.client(url).chat.completions.create(model="scripted", messages=MESSAGES)
    assert offered(gateway, house) == {"scripted"}


@pytest.mark.parametrize("status", ["open", "declined", "withdrawn"])
def test_a_request_alone_is_no_approval(gateway: Gateway, house: House, status: str) -> None:
    house.change(approval_since=datetime.now(UTC) - timedelta(days=365))
    ask_for(house, "scripted", status=status)

    assert raw(gateway.url, house.key_text, body()).json()["error"]["code"] == "model_not_approved"


def test_an_approval_reaches_what_is_below_its_node_and_nothing_else(gateway: Gateway, house: House) -> None:
    house.change(approval_since=datetime.now(UTC) - timedelta(days=365))
    ask_for(house, "scripted", status="approved", group=house.world.sales)
    ask_for(house, "pair", status="approved", group=house.world.gateway)

    assert raw(gateway.url, house.key_text, body()).json()["error"]["code"] == "model_not_approved"
    assert raw(gateway.url, house.key_text, body(model="pair")).status_code == 200


def test_a_model_that_was_there_before_the_date_needs_none(gateway: Gateway, house: House) -> None:
    house.change(approval_since=datetime.now(UTC) + timedelta(days=1))

    assert raw(gateway.url, house.key_text, body()).status_code == 200
