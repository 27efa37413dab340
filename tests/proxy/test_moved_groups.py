"""A moved or archived group and money: what was spent stays where it was spent, to the nano-dollar; the next call counts anew."""

from __future__ import annotations

import threading

from billing.models import UsageRecord
from gateway_project.lib.money import NANO
from guardrails.spending import Asked, spent
from orgs.models import Group
from orgs.services.groups import archive_group, restore_group
from orgs.services.moves import move_group
from proxy import proving
from tests.gateways import Gateway
from tests.house import House, eventually, raw
from tests.proxy.calls import body
from tests.upstream import Upstream, answer, slowly

ONE_CALL = 10 * 1_000 + 2_400 * 4_000  # nano-dollars


def spent_of(house: House, *groups: Group) -> list[int]:
    asked = {group.pk: Asked(f"g{group.pk}", None) for group in groups}
    found = spent(house.organization.pk, list(asked.values()))
    return [found[asked[group.pk]] for group in groups]


def paths(house: House) -> list[tuple[int | None, ...]]:
    calls = UsageRecord.objects.filter(organization=house.organization).order_by("call_id")
    return [(call.group1_id, call.group2_id, call.group3_id) for call in calls if call.charged_nano_usd]


def test_what_was_spent_stays_and_the_new_parents_budget_bites_on_the_next_call(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    world, asked = house.world, body(max_tokens=2400)
    house.limit("budget", NANO // 50, group=world.engineering)  # room for two calls and no third
    house.limit("budget", NANO // 50, group=world.sales)
    upstream.on("scripted", answer(usage=(10, 2400)))
    for _ in range(2):
        assert raw(gateway.url, house.key_text, asked).status_code == 200
    refused = raw(gateway.url, house.key_text, asked).json()["error"]["gatehouse"]
    assert (refused["level"], refused["node"]) == ("group", "engineering")
    before = (world.engineering.pk, world.platform.pk, world.gateway.pk)

    # One more under way while the group moves: it settles where it was admitted.
    upstream.on("scripted", slowly(answer(usage=(10, 2400)), 1.0))
    move_group(world.gateway, to=world.sales, by=world.actor("alice"))
    running = threading.Thread(target=lambda: raw(gateway.url, house.key_text, asked))
    running.start()
    assert eventually(house.held)
    move_group(world.gateway, to=world.root, by=world.actor("alice"))
    running.join()
    assert house.nothing_held()

    upstream.on("scripted", answer(usage=(10, 2400)))
    move_group(world.gateway, to=world.sales, by=world.actor("alice"))
    assert raw(gateway.url, house.key_text, asked).status_code == 200
    refused = raw(gateway.url, house.key_text, asked).json()["error"]["gatehouse"]
    assert (refused["level"], refused["node"]) == ("group", "sales")
    after = (world.sales.pk, world.gateway.pk, None)
    assert paths(house) == [before, before, after, after]
    assert spent_of(house, world.engineering, world.platform, world.sales, world.gateway) == [
        2 * ONE_CALL,
        2 * ONE_CALL,
        2 * ONE_CALL,
        4 * ONE_CALL,
    ]
    proof = proving.prove(house.organization)
    assert (proof.busy, proof.differences) == (0, [])


def test_keys_below_an_archived_group_stop_on_the_next_call_of_every_worker(
    gateway: Gateway, second_gateway: Gateway, house: House
) -> None:
    urls = (gateway.url, second_gateway.url)
    assert {raw(url, house.key_text, body()).status_code for url in urls} == {200}
    archive_group(house.world.platform, by=house.world.actor("alice"))
    answers = [raw(url, house.key_text, body()) for url in urls]
    assert {(got.status_code, got.json()["error"]["code"]) for got in answers} == {(401, "key_disabled")}
    restore_group(house.world.platform, by=house.world.actor("alice"))
    assert {raw(url, house.key_text, body()).status_code for url in urls} == {200}
