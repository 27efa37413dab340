"""An approval counts on the very next call of every worker, and so does its end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx

from guardrails.requests import approve, request_model, revoke
from orgs.services.organizations import change_settings
from tests.gateways import Gateway
from tests.house import House, raw

BODY = b'{"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}'


def test_an_approval_counts_on_the_next_call_and_its_end_too(gateway: Gateway, second_gateway: Gateway, house: House) -> None:
    world = house.world
    change_settings(world.acme, by=world.actor("alice"), approval_since=datetime.now(UTC) - timedelta(days=900))

    def calls() -> list[int]:
        return [raw(one.url, house.key_text, BODY).status_code for one in (gateway, second_gateway)]

    def offered() -> set[str]:
        headers = {"authorization": f"Bearer {house.key_text}"}
        found = httpx.get(f"{gateway.url}/v1/models", headers=headers, trust_env=False).json()["data"]
        return {model["id"] for model in found if model["owned_by"] != "auto"}

    assert calls() == [403, 403]
    request = request_model("scripted", group=world.gateway, by=world.actor("mia"), reason="For the search")
    assert (calls(), offered()) == ([403, 403], set())

    approve(request, by=world.actor("alice"), group=world.engineering)
    assert (calls(), offered()) == ([200, 200], {"scripted"})
    key, elsewhere = house.new_key(group=world.field, member=world.noah, by=world.alice)
    assert raw(gateway.url, elsewhere, BODY).json()["error"]["code"] == "model_not_approved"
    assert key.group == world.field

    revoke(request, by=world.actor("alice"))
    assert (calls(), offered()) == ([403, 403], set())
