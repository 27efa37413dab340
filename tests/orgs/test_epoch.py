"""The epoch: every change is a fresh one after its commit, whatever dies in between."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

import pytest
from django.db import connection, transaction
from redis.exceptions import ConnectionError

from gateway_project.lib import lifespan, redis
from orgs import epoch
from orgs.epoch import CATALOGUE, Epoch

pytestmark = pytest.mark.usefixtures("committed_db")


@pytest.fixture
def scope() -> int:
    return secrets.randbelow(1 << 40) + (1 << 40)


def read(scope: int | str) -> Epoch:
    async def work() -> Epoch:
        try:
            return await epoch.read(scope)
        finally:
            await lifespan.stop()

    return asyncio.run(work())


def marks(scope: int | str) -> dict[Any, Any]:
    found: dict[Any, Any] = dict(redis.client().hgetall(epoch.keys(scope)[1]))
    return found


def test_outside_a_transaction_a_change_cannot_be_announced(scope: int) -> None:
    with pytest.raises(RuntimeError, match="inside the transaction"):
        epoch.changing(scope)
    assert marks(scope) == {}


def test_an_epoch_stays_until_something_changes(scope: int) -> None:
    first = read(scope)
    assert first.value
    assert not first.dirty
    assert read(scope) == first


def test_a_change_is_dirty_until_its_commit_and_fresh_after(scope: int) -> None:
    before = read(scope)
    with transaction.atomic():
        epoch.changing(scope)
        assert read(scope) == Epoch(before.value, dirty=True)

    after = read(scope)
    assert after.value != before.value
    assert not after.dirty
    assert marks(scope) == {}


def test_no_epoch_is_ever_used_twice(scope: int) -> None:
    seen = set()
    for _ in range(20):
        with transaction.atomic():
            epoch.changing(scope)
        seen.add(read(scope).value)
    assert len(seen) == 20


def test_an_announcement_that_is_sent_again_brings_no_epoch_back(scope: int) -> None:
    """As the client does where it heard no answer: meanwhile another change may have been announced."""
    seen = set()
    for _ in range(3):
        epoch._announce([scope], "token")
        seen.add(read(scope).value)
    assert len(seen) == 3


def test_the_first_of_two_overlapping_changes_leaves_the_scope_dirty(scope: int) -> None:
    """The second is another process's: its mark is there, its commit is not."""
    before = read(scope)
    redis.client().hset(epoch.keys(scope)[1], "the-other", int(time.time()))
    with transaction.atomic():
        epoch.changing(scope)

    between = read(scope)
    assert between.value != before.value
    assert between.dirty
    assert list(marks(scope)) == [b"the-other"]


def test_two_changes_in_one_transaction_are_both_announced(scope: int) -> None:
    with transaction.atomic():
        epoch.changing(scope)
        epoch.changing(scope)
        assert len(marks(scope)) == 2
    assert not read(scope).dirty


def test_a_change_that_is_never_announced_is_found_out_once_its_time_is_over(scope: int) -> None:
    """A process that died between its commit and the announcement."""
    before = read(scope)
    young = int(time.time()) - epoch.TRANSACTION_LIMIT_SECONDS + 5
    redis.client().hset(epoch.keys(scope)[1], "died", young)
    assert read(scope) == Epoch(before.value, dirty=True)

    redis.client().hset(epoch.keys(scope)[1], "died", young - 10)

    after = read(scope)
    assert after.value != before.value
    assert not after.dirty
    assert marks(scope) == {}
    assert read(scope) == after


def test_a_change_that_was_rolled_back_stays_dirty_until_its_time_is_over(scope: int) -> None:
    """Nobody can tell a rollback from a commit that was never announced: both are answered by a fresh epoch."""
    before = read(scope)
    with transaction.atomic():
        epoch.changing(scope)
        transaction.set_rollback(True)
    assert read(scope) == Epoch(before.value, dirty=True)

    (mark,) = marks(scope)
    redis.client().hset(epoch.keys(scope)[1], mark, 0)
    assert read(scope).value != before.value


def test_what_is_only_rehearsed_is_undone_and_not_announced(scope: int) -> None:
    before = read(scope)
    with epoch.rehearsal():
        epoch.changing(scope)
        assert transaction.get_connection().in_atomic_block
    assert read(scope) == before
    with transaction.atomic():
        epoch.changing(scope)
    assert read(scope).value != before.value


def test_a_lost_epoch_is_a_fresh_one(scope: int) -> None:
    before = read(scope)
    redis.client().delete(epoch.keys(scope)[0])
    assert read(scope).value != before.value


@transaction.atomic
def create_table_and_announce(scope: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE epoch_test (id int)")
    epoch.changing(scope)


def test_without_redis_nothing_is_changed(scope: int, settings: Any) -> None:
    """Whoever cannot announce must not change: a limit that does not bite is worse than an error."""
    redis.client.cache_clear()
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    try:
        with pytest.raises(ConnectionError):
            create_table_and_announce(scope)
    finally:
        redis.client.cache_clear()
    assert "epoch_test" not in connection.introspection.table_names()


def test_the_catalogue_has_an_epoch_of_its_own_and_renews_that_of_every_organisation_named(scope: int) -> None:
    other = scope + 1
    before = {name: read(name).value for name in (CATALOGUE, scope, other)}
    with transaction.atomic():
        epoch.catalogue_changing([scope])
        assert read(CATALOGUE).dirty
        assert read(scope).dirty
        assert not read(other).dirty

    after = {name: read(name).value for name in before}
    assert after[CATALOGUE] != before[CATALOGUE]
    assert after[scope] != before[scope]
    assert after[other] == before[other]


def test_the_keys_of_a_scope_share_a_slot() -> None:
    assert epoch.keys(7) == ("gh:{7}:epoch", "gh:{7}:dirty")


def test_a_change_of_the_catalogue_is_announced_to_all_organisations_in_a_few_exchanges(scope: int) -> None:
    scopes: list[int] = [scope + number for number in range(2 * epoch.SCOPES_AT_ONCE + 7)]
    epochs = [epoch.keys(one)[0] for one in scopes]
    with transaction.atomic():
        before = exchanges()
        epoch.catalogue_changing(scopes)
        assert all(len(marks(one)) == 1 for one in scopes[::50])
    fresh = redis.client().mget(epochs)
    assert len(set(fresh) - {None}) == len(scopes)
    assert not any(marks(one) for one in scopes[::50])
    assert exchanges() - before < len(scopes)  # those of other processes included


def exchanges() -> int:
    """How often the server has read something from anybody so far."""
    return int(redis.client().info("stats")["total_reads_processed"])
