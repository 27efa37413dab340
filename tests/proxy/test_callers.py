"""Cached callers: fast while nothing has changed, and never older than the last change for whoever asks for the truth."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import pytest
from django.db import connection, transaction

from billing import credits
from gateway_project.lib.money import NANO
from guardrails.models import Override
from orgs import epoch
from orgs.access import KeyRefused
from orgs.models import ApiKey, Membership
from orgs.services.keys import disable_key, enable_key, rename_key, revoke_key
from orgs.services.members import suspend_member
from orgs.services.organizations import change_settings
from proxy import callers, keycard, offered
from proxy.errors import ModelNotFound
from tests.coroutines import as_worker
from tests.house import RATES, House

Change = Callable[[House], object]


def of(house: House, ask: Callable[[str], Any], change: Change | None = None) -> Any:
    """What `ask` answers after the caller was cached and then changed, in one worker's life."""
    as_worker(callers.load(house.key_text))
    if change is not None:
        change(house)
    return as_worker(ask(house.key_text))


def as_alice(house: House) -> Any:
    return house.world.actor("alice")


def rename(house: House) -> None:
    rename_key(house.key, name="Renamed", by=as_alice(house))


def disable(house: House) -> None:
    disable_key(house.key, by=as_alice(house))


def revoke(house: House) -> None:
    revoke_key(house.key, by=as_alice(house))


def suspend(house: House) -> None:
    membership = Membership.objects.get(user=house.world.mia, group__organization=house.organization)
    suspend_member(membership, by=as_alice(house))


def test_it_is_who_the_key_says_with_every_subject_of_its_path(house: House) -> None:
    caller = of(house, callers.cached)
    world = house.world
    assert (caller.principal.key_id, caller.principal.member_id) == (house.key.pk, world.mia.pk)
    assert [node.id for node in caller.principal.path] == [
        world.root.pk,
        world.engineering.pk,
        world.platform.pk,
        world.gateway.pk,
    ]
    groups = {f"g{group.pk}" for group in (world.engineering, world.platform, world.gateway)}
    assert set(caller.limits.subjects) == {"org", "pool", f"m{world.mia.pk}", f"k{house.key.pk}", *groups}


def test_a_cached_one_is_the_same_object_until_something_changes(house: House) -> None:
    first = of(house, callers.cached)
    assert of(house, callers.current) is not None
    again = as_worker(callers.cached(house.key_text))
    assert again is as_worker(callers.current(house.key_text))
    assert again.epoch == first.epoch


@pytest.mark.parametrize("change", [disable, revoke, suspend], ids=["disabled", "revoked", "member suspended"])
def test_a_key_refused_since_is_still_cached_but_not_current(house: House, change: Change) -> None:
    assert of(house, callers.cached, change).principal.key_id == house.key.pk
    with pytest.raises(KeyRefused):
        as_worker(callers.current(house.key_text))
    with pytest.raises(KeyRefused):  # and what was cached is forgotten
        as_worker(callers.cached(house.key_text))


def test_a_key_enabled_again_is_let_in_again(house: House) -> None:
    of(house, callers.cached, disable)
    with pytest.raises(KeyRefused):
        as_worker(callers.current(house.key_text))
    enable_key(ApiKey.objects.get(pk=house.key.pk), by=as_alice(house))
    assert as_worker(callers.current(house.key_text)).principal.key_id == house.key.pk


def test_whoever_asks_for_the_current_one_sees_every_kind_of_change(house: House) -> None:
    seen = of(house, callers.current, rename)
    assert seen.principal.key_name == "Renamed"

    change_settings(house.organization, by=as_alice(house), attribution_required=True)
    assert as_worker(callers.current(house.key_text)).principal.attribution_required

    house.limit("budget", 5 * NANO)
    limits = as_worker(callers.current(house.key_text)).limits.limits
    assert [(limit.level, limit.value) for limit in limits if not limit.is_pool] == [("key", 5 * NANO)]

    credits.top_up(house.organization, amount_nano_usd=7 * NANO, reference="more", by=house.world.alice)
    limits = as_worker(callers.current(house.key_text)).limits.limits
    assert [limit.value for limit in limits if limit.is_pool] == [1007 * NANO]


def test_another_organisations_change_is_none_of_its_business(house: House) -> None:
    before = of(house, callers.cached)
    with transaction.atomic():
        epoch.changing(house.world.other.pk)
    assert as_worker(callers.current(house.key_text)) is before


def test_while_a_change_is_under_way_nothing_is_cached(house: House) -> None:
    as_worker(callers.load(house.key_text))
    with transaction.atomic():
        epoch.changing(house.organization.pk)
        one = as_worker(callers.load(house.key_text))
        other = as_worker(callers.cached(house.key_text))
        assert one is not other
    assert as_worker(callers.current(house.key_text)) is not other


def test_a_key_or_text_whose_time_is_over_is_refused_though_it_is_cached(house: House) -> None:
    _, text = house.new_key(expires_at=datetime.now(UTC) + timedelta(hours=1))
    loaded = as_worker(callers.load(text))
    assert as_worker(callers.cached(text)) is loaded
    for field in ("expires_at", "replaced_at"):
        over = msgspec.structs.replace(loaded.principal, **{field: datetime.now(UTC)})
        callers._cache[text] = msgspec.structs.replace(loaded, principal=over)
        with pytest.raises(KeyRefused) as refused:
            as_worker(callers.cached(text))
        assert refused.value.code == "key_expired"


@pytest.mark.parametrize("text", ["gh_sk_abcdef_" + "x" * 32, "", "gh_sk_"])
def test_a_key_that_does_not_exist_is_refused_every_time(house: House, text: str) -> None:
    for _ in range(2):
        with pytest.raises(KeyRefused) as refused:
            as_worker(callers.cached(text))
        assert refused.value.code == "invalid_api_key"


# --- what the key is told of itself ------------------------------------------------------------
def test_the_card_of_a_key_says_what_is_left_of_each_limit(house: House) -> None:
    house.limit("budget", 5 * NANO, window="day")
    house.limit("rpm", 60, window="minute", group=house.world.platform)

    async def card() -> dict[str, Any]:
        return await keycard.describe(await callers.current(house.key_text))

    told = as_worker(card())
    assert (told["object"], told["name"], told["member"], told["application"]) == ("key", "Mia's key", "Mia", None)
    assert told["path"] == [house.world.root.name, "engineering", "platform", "gateway"]
    limits = {(limit["kind"], limit["level"]): limit for limit in told["limits"]}
    day = limits["budget", "key"]
    assert (day["limit"], day["spent"], day["held"], day["left"], day["window"]) == ("5", "0", "0", "5", "day")
    assert day["resets_at"] > datetime.now(UTC)
    rate = limits["rpm", "group"]
    assert (rate["node"], rate["limit"], rate["spent"], rate["left"], rate["resets_at"]) == ("platform", "60", "0", "60", None)
    assert limits["budget", "credit pool"]["limit"] == "1000"


# --- the models it may call --------------------------------------------------------------------
def test_models_are_offered_in_alphabetical_order_and_one_by_one(house: House) -> None:
    async def listed() -> tuple[bytes, bytes]:
        caller = await callers.current(house.key_text)
        return await offered.all_models(caller), await offered.one(caller, "scripted")

    everything, one = (json.loads(text) for text in as_worker(listed()))
    names = [entry["id"] for entry in everything["data"]]
    assert names[-3:] == ["auto", "auto:cheap", "auto:best"]
    assert names[:-3] == sorted(names[:-3])
    assert set(RATES) <= set(names)
    assert one == next(entry for entry in everything["data"] if entry["id"] == "scripted")
    assert (one["object"], one["owned_by"]) == ("model", "scripted")


@pytest.mark.parametrize("name", ["", "nope", "SCRIPTED", "x" * 5000, "scripted\x00"])
def test_a_model_that_is_not_offered_is_not_found_and_its_name_is_not_repeated_at_length(house: House, name: str) -> None:
    async def ask() -> None:
        await offered.one(await callers.current(house.key_text), name)

    with pytest.raises(ModelNotFound) as refused:
        as_worker(ask())
    assert len(refused.value.message) < 300


def test_what_changes_by_the_passing_of_time_alone_is_read_anew_at_the_next_call(house: House) -> None:
    """A bound on one call's length is judged by no script: nobody else would notice that an exception to it is over."""
    limit = house.limit("max_tokens", 100, window="call")
    until = datetime.now(UTC) + timedelta(seconds=1.5)
    with transaction.atomic():
        Override.objects.create(
            organization=house.organization,
            limit=limit,
            api_key=house.key,
            kind="extra",
            amount=50,
            until=until,
            created_by=house.world.alice,
        )
        epoch.changing(house.organization.pk)

    async def most() -> list[int]:
        seen = []
        for wait in (0.0, 1.6):
            time.sleep(wait)
            bound = (await callers.cached(house.key_text)).limits.max_tokens
            seen.append(bound.value if bound else 0)
        return seen

    assert as_worker(most()) == [150, 100]


def test_after_a_change_those_who_come_together_read_once(house: House) -> None:
    async def ask() -> list[int]:
        first = await callers.load(house.key_text)
        await asyncio.to_thread(in_thread, lambda: rename(house))
        renewed = await asyncio.gather(*(callers.renewed(first) for _ in range(30)))
        assert {caller.principal.key_name for caller in renewed} == {"Renamed"}
        again = await callers.renewed(first)
        return [len({id(caller) for caller in renewed}), int(again is renewed[0])]

    assert as_worker(ask()) == [1, 1]


def test_those_who_come_together_with_a_key_that_nobody_knows_yet_read_once(house: House) -> None:
    async def ask() -> int:
        found = await asyncio.gather(*(callers.cached(house.key_text) for _ in range(30)))
        return len({id(caller) for caller in found})

    assert as_worker(ask()) == 1


class Slow(NamedTuple):
    """What the first reading found is known only once `told` is set; `read` is set when it has been found."""

    read: asyncio.Event
    told: asyncio.Event


def slowly(monkeypatch: pytest.MonkeyPatch, *, unkept: bool = False) -> list[Slow]:
    """Holds back the first reading, which then stands in this list. `unkept`: what it found is for one call."""
    load, readings = callers.load, list[Slow]()

    async def held_back(key: str, *, now: datetime | None = None) -> callers.Caller:
        if readings:
            return await load(key, now=now)
        readings.append(Slow(asyncio.Event(), asyncio.Event()))
        try:
            return await load(key, now=now)
        finally:
            if unkept:
                callers._cache.pop(key, None)
            readings[0].read.set()
            await readings[0].told.wait()

    monkeypatch.setattr(callers, "load", held_back)
    return readings


async def begun(readings: list[Slow], key: str) -> asyncio.Task[callers.Caller]:
    """One whose reading has found something that it does not tell yet."""
    first = asyncio.create_task(callers.cached(key))
    async with asyncio.timeout(20):
        while not readings:
            await asyncio.sleep(0)
        await readings[0].read.wait()
    return first


async def after(readings: list[Slow], key: str, change: Callable[[], object]) -> list[Any]:
    """What two are told, of whom the second asks after the change, while the first one's reading is under way."""
    first = await begun(readings, key)
    await asyncio.to_thread(in_thread, change)
    second = asyncio.create_task(callers.cached(key))
    await asyncio.sleep(0)
    readings[0].told.set()
    return list(await asyncio.gather(first, second, return_exceptions=True))


def in_thread(change: Callable[[], object]) -> None:
    try:
        change()
    finally:
        connection.close()


def test_whoever_waited_for_a_reading_that_began_before_the_key_was_enabled_is_not_refused(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    disable(house)
    first, second = as_worker(after(slowly(monkeypatch), house.key_text, lambda: enable_key(house.key, by=as_alice(house))))
    assert isinstance(first, KeyRefused)
    assert isinstance(second, callers.Caller)


def test_what_was_read_for_one_call_serves_no_other(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = as_worker(after(slowly(monkeypatch, unkept=True), house.key_text, lambda: rename(house)))
    assert first.principal.key_name != second.principal.key_name == "Renamed"


def test_whoever_waited_until_the_key_was_over_is_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=3)
    ApiKey.objects.filter(pk=house.key.pk).update(expires_at=ends)
    first, second = as_worker(after(slowly(monkeypatch), house.key_text, lambda: wait_until(ends)))
    assert isinstance(first, KeyRefused)
    assert isinstance(second, KeyRefused)


def wait_until(moment: datetime) -> None:
    while datetime.now(UTC) <= moment:
        time.sleep(0.05)


def test_whoever_waited_for_a_reading_that_broke_reads_for_itself(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = slowly(monkeypatch, unkept=True)

    async def ask() -> list[Any]:
        first = await begun(readings, house.key_text)
        second = asyncio.create_task(callers.cached(house.key_text))
        await asyncio.sleep(0)
        first.cancel()
        return list(await asyncio.gather(first, second, return_exceptions=True))

    first, second = as_worker(ask())
    assert isinstance(first, asyncio.CancelledError)
    assert second.key == house.key_text
