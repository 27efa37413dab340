"""What the guardrails changed of a call, from a real gateway to where people read it: its page, its drawer, the API."""

from __future__ import annotations

import re
from html import unescape
from typing import Any, NamedTuple

import pytest
from django.urls import reverse

from billing import credits
from gateway_project.lib.money import NANO
from tests.actors import signed_in
from tests.apis import api
from tests.gateways import Gateway
from tests.house import House, raw
from tests.proxy.calls import body
from tests.upstream import Upstream, answer

CENT = NANO // 100


class Read(NamedTuple):
    """Of one call: what its page says after "What happened" and what its drawer does, as text, and the API's answer."""

    page: str
    drawer: str
    api: dict[str, Any]


def read(house: House, call_id: str) -> Read:
    url = reverse("analytics:call", kwargs={"org": house.organization.slug, "call_id": call_id})
    client = signed_in(house.world)
    page, drawer = (client.get(url, headers=headers).content.decode() for headers in ({}, {"HX-Request": "true"}))
    return Read(shown(page), shown(drawer), api(house.world, "alice")("get", f"/ledger/{call_id}"))


def shown(html: str) -> str:
    timeline = re.findall(r'<ol class="gh-timeline">(.*?)<h3', html, flags=re.DOTALL)[0]
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"<svg.*?</svg>", "", timeline, flags=re.DOTALL))))


def called(gateway: Gateway, house: House, **members: Any) -> tuple[str, dict[str, str]]:
    got = raw(gateway.url, house.key_text, body(**members))
    assert got.status_code == 200, got.content
    house.row_of(got.headers["x-request-id"])
    return got.headers["x-request-id"], dict(got.headers)


def near_its_cap(gateway: Gateway, house: House, upstream: Upstream) -> None:
    """Of ten cents a month for Engineering nine are spent, and from half on calls go to the model `scripted`."""
    upstream.then(answer(usage=(10, 900)))
    called(gateway, house, model="output-only", max_tokens=900)
    to = {"group": house.world.engineering}
    house.policy(("budget", "month", 10 * CENT), to=to, degrade_percent=50, degrade_model="scripted")


@pytest.mark.parametrize("streamed", [False, True])
def test_a_shortened_answer(gateway: Gateway, house: House, upstream: Upstream, streamed: bool) -> None:
    house.policy(("budget", "month", NANO), to={"group": house.world.root})
    house.policy(("budget", "week", CENT), to={"group": house.world.engineering})

    call_id, headers = called(gateway, house, stream=streamed)

    allowed = upstream.received[-1].json["max_tokens"]
    assert headers["x-gatehouse-max-tokens"] == str(allowed)
    found = read(house, call_id)
    assert found.api["clamp"] == {
        "wanted": 4096,
        "allowed": allowed,
        "by": {"level": "group", "node": "engineering", "policy": "A policy", "window": "week", "limit_nano_usd": str(CENT)},
    }
    assert found.api["degrade"] is None
    for text in (found.page, found.drawer):
        assert (
            "Shortened The call set no maximum, and could have had 4,096 output tokens: the budget of $0.01 this week "
            f"on the group engineering in the policy A policy affords {allowed:,}. "
            f"4,096 output tokens {allowed:,} output tokens"
        ) in text
        assert "Other model" not in text


def test_an_answer_shortened_by_a_policy_on_its_length_and_then_by_the_credit(gateway: Gateway, house: House) -> None:
    credits.adjust(house.organization, amount_nano_usd=CENT - 1000 * NANO, reference="nearly none", note="a test")
    house.policy(("max_tokens", "call", 3000))

    call_id, _ = called(gateway, house)

    found = read(house, call_id)
    assert (found.api["clamp"]["wanted"], found.api["clamp"]["by"]["level"]) == (3000, "credit pool")
    assert f"could have had 3,000 output tokens: the prepaid credit of {house.organization.name} affords" in found.page


def test_a_call_sent_to_a_cheaper_model(gateway: Gateway, house: House, upstream: Upstream) -> None:
    near_its_cap(gateway, house, upstream)

    call_id, headers = called(gateway, house, model="output-only", max_tokens=500)

    assert headers["x-gatehouse-degraded-from"] == "output-only"
    found = read(house, call_id)
    by = {"level": "group", "node": "engineering", "policy": "A policy", "window": "month", "limit_nano_usd": str(10 * CENT)}
    assert found.api["degrade"] == {"asked": "output-only", "sent_to": "scripted", "by": by}
    assert (found.api["clamp"], found.api["requested_model"], found.api["served_model"]) == (None, "output-only", "scripted")
    for text in (found.page, found.drawer):
        assert (
            "Other model Sent to scripted instead of output-only: the budget of $0.10 this month on the group engineering in the "
            "policy A policy is near its cap. output-only scripted"
        ) in text
        assert "Shortened" not in text


def test_a_call_that_is_both(gateway: Gateway, house: House, upstream: Upstream) -> None:
    near_its_cap(gateway, house, upstream)

    call_id, headers = called(gateway, house, model="output-only")

    found = read(house, call_id)
    assert found.api["degrade"]["sent_to"] == "scripted"
    assert found.api["clamp"]["allowed"] == int(headers["x-gatehouse-max-tokens"])
    assert found.page.index("Admitted") < found.page.index("Other model") < found.page.index("Shortened")


def test_a_call_that_nothing_was_changed_of(gateway: Gateway, house: House) -> None:
    house.policy(("budget", "month", NANO))

    call_id, _ = called(gateway, house, max_tokens=50)

    found = read(house, call_id)
    assert (found.api["clamp"], found.api["degrade"]) == (None, None)
    assert "Admitted" in found.page
    assert "Shortened" not in found.page
    assert "Other model" not in found.page
