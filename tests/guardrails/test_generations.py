"""Redis is emptied, started anew or falls behind while calls run: nothing is spent twice over, nothing refused wrongly."""

from __future__ import annotations

import asyncio
import random
import secrets
import threading
import time
from typing import Any

import pytest

from gateway_project.lib import ids, redis
from gateway_project.lib.database import DatabaseUnavailable
from guardrails import admission, counters, generations, leases, shrinking
from guardrails.admission import Admitted, Refused
from guardrails.limits import Limits
from orgs import epoch
from tests.guardrails.books import SUBJECTS, budget, limit
from tests.guardrails.crews import Company, Crew, Worker, crew

__all__ = ["crew"]


def wait_for(true: Any, *, seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.01)


def fill(company: Company, workers: list[Worker], *, amount: int) -> list[Admitted]:
    """Calls of this amount on all workers at once, far more than the budget affords → those that were let through."""
    asked = [worker.begin(company.admit(amount)) for _ in range(8) for worker in workers]
    outcomes = [future.result(20) for future in asked]
    assert all(isinstance(outcome, Admitted | Refused) for outcome in outcomes)
    return [outcome for outcome in outcomes if isinstance(outcome, Admitted)]


def in_force() -> str:
    found: Any = redis.client().get(counters.GENERATION)
    return str((found or b"").decode().partition(":")[2])


# --- emptied under holds -------------------------------------------------------------------------------


def test_after_redis_was_emptied_every_worker_tells_what_it_holds(crew: Crew) -> None:
    workers, company = crew.hire(3), Company()
    held = [worker.do(company.admitted(100)) for worker in workers]
    before = in_force()

    crew.flush()
    more = fill(company, workers, amount=100)

    assert in_force() not in ("", before)
    assert len(more) == 7
    assert company.figure("held") == 1000
    assert len(company.holds()) == 10
    assert not crew.registry.fenced
    for worker, one in zip(workers, held, strict=True):
        assert worker.do(company.settle(one, 60))
    for one in more:
        assert workers[0].do(company.settle(one, 100))
    assert (company.figure("spent"), company.figure("held"), company.holds()) == (880, 0, {})


def test_what_was_told_keeps_its_record(crew: Crew) -> None:
    (worker,), company = crew.hire(1), Company()
    held = worker.do(company.admitted(100))
    before = company.holds()[str(held.call_id)]
    crew.flush()
    worker.do(generations.renew())
    worker.do(generations.of(company.organization_id))
    assert company.holds() == {str(held.call_id): before}
    assert [company.figure("held", subject) for subject in SUBJECTS] == [100] * 5


def test_an_organisation_a_worker_has_not_met_yet_is_never_brought_back_empty(crew: Crew) -> None:
    """The worker knows a generation that the server has forgotten, and that another one's calls hold most of the budget."""
    (one, other), company = crew.hire(2), Company()
    other.do(company.admitted(900))

    crew.flush()
    outcome = one.do(company.admit(200))

    assert isinstance(outcome, Refused)
    assert (outcome.used, outcome.held) == (0, 900)


def test_workers_are_neither_taken_for_dead_nor_forgotten_once_a_generation_is_in_force(crew: Crew) -> None:
    """Whoever resolves what dead workers hold asks for leases, and walks the organisations with holds."""
    (worker,), company = crew.hire(1), Company()
    worker.do(company.admitted(1))

    async def forced() -> tuple[Any, Any]:
        await generations.renew()
        return await asyncio.gather(
            redis.scripts().command("EXISTS", counters.worker(leases.worker_id())),
            redis.scripts().command("SISMEMBER", counters.ACTIVE_ORGANIZATIONS, company.organization_id),
        )

    time.sleep(0.3)  # between two renewals
    crew.flush()
    assert worker.do(forced()) == [1, 1]


def test_rates_begin_anew_and_running_calls_are_counted_on(crew: Crew) -> None:
    (worker,) = crew.hire(1)
    company = Company(limit("rpm", 3, "k1"), limit("tpm", 100, "m1"), limit("parallel", 2, "g1"), budget(1000))
    held = worker.do(company.admitted(1, tokens=90))

    crew.flush()

    again = worker.do(company.admitted(1, tokens=90))
    assert (again.rate_left, again.tokens_left) == (2, 10)
    assert company.figure("live", "g1") == 2
    refused = worker.do(company.admit(1))
    assert (refused.limit.kind, refused.used) == ("parallel", 2)
    # The tokens of the first were counted by the generation that is gone.
    worker.do(company.settle(held, 1, tokens=10_000))
    third = worker.do(company.admitted(1, tokens=10))
    assert third.tokens_left == 0
    worker.do(company.settle(again, 1, tokens=40))
    assert worker.do(company.admitted(1, tokens=50)).tokens_left == 0


def test_a_hold_that_was_shrunk_is_told_as_small_as_it_is(crew: Crew) -> None:
    (worker,), company = crew.hire(1), Company()
    held = worker.do(company.admitted(900))
    assert worker.do(shrinking.shrink(company.organization_id, held.call_id, subjects=SUBJECTS, charged=40))
    crew.flush()
    worker.do(company.admitted(960))
    assert company.figure("held") == 1000
    assert company.holds()[str(held.call_id)].startswith("40|0|s|")


def test_a_call_that_settles_meanwhile_waits_and_is_counted_once(crew: Crew) -> None:
    (one, other), company = crew.hire(2), Company()
    held = one.do(company.admitted(100))
    other.freeze()
    crew.flush()
    settled = one.begin(company.settle(held, 70))
    admitted = one.begin(company.admit(930))
    time.sleep(0.5)
    assert not settled.done()
    assert not admitted.done()

    other.thaw()

    assert settled.result(10)
    assert isinstance(admitted.result(10), Admitted | Refused)
    for _ in range(2):
        assert not one.do(admission.release(held))
    assert company.figure("spent") == 70
    assert not crew.registry.fenced


def test_it_does_not_matter_how_often_or_when_redis_is_emptied(crew: Crew) -> None:
    """Many calls on three workers, emptied and started anew under them: at no moment more than the budget is spoken for."""
    workers, company = crew.hire(3), Company(budget(100_000))
    lock, running, overshoots = threading.Lock(), [0], list[int]()
    over = time.monotonic() + 6

    async def calls(seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311
        while time.monotonic() < over:
            amount = chance.randint(1, 40) * 100
            try:
                held = await company.admit(amount)
            except redis.RedisUnavailable:
                continue
            if not isinstance(held, Admitted):
                await asyncio.sleep(0.02)
                continue
            with lock:
                running[0] += amount
                if running[0] + company.ledger.total > 100_000:
                    overshoots.append(running[0])
            await asyncio.sleep(chance.random() / 4)
            with lock:
                running[0] -= amount
            charged = chance.choice([0, amount // 40])
            if charged:
                await company.settle(held, charged)
            else:
                await release(company, held)

    going = [worker.begin(calls(seed)) for seed, worker in enumerate(workers * 12)]
    for disturb in (crew.flush, crew.restart, crew.flush):
        time.sleep(1.2)
        disturb()
    for future in going:
        future.result(30)

    assert not overshoots
    assert len(company.ledger.rows) > 20
    left = 100_000 - company.ledger.total
    assert isinstance(workers[0].do(company.admit(left + 1)), Refused)
    workers[1].do(release(company, workers[1].do(company.admitted(left))))
    assert (company.figure("spent"), company.figure("held"), company.holds()) == (company.ledger.total, 0, {})


async def release(company: Company, held: Admitted) -> None:
    while True:
        try:
            await company.release(held)
        except redis.RedisUnavailable:
            await asyncio.sleep(0.05)
        else:
            return


# --- started anew --------------------------------------------------------------------------------------


def test_a_server_that_was_started_anew_is_asked_for_nothing_it_kept(crew: Crew) -> None:
    """Even if it kept everything: what it had written last nobody can know."""
    (worker,), company = crew.hire(1), Company()
    worker.do(company.settle(worker.do(company.admitted(300)), 300))
    before, reads = in_force(), company.ledger.reads
    worker.do(company.admitted(100))

    crew.restart()

    worker.do(company.admitted(600))
    assert in_force() != before
    assert company.ledger.reads > reads
    assert isinstance(worker.do(company.admit(1)), Refused)


def test_lost_writes_bring_back_neither_old_counters_nor_old_epochs(crew: Crew) -> None:
    (worker,), company = crew.hire(1), Company()
    worker.do(company.settle(worker.do(company.admitted(1)), 0))
    scopes = (company.organization_id, epoch.CATALOGUE)
    first = [worker.do(epoch.read(scope)).value for scope in scopes]
    crew.server.remember()
    worker.do(company.settle(worker.do(company.admitted(700)), 700))
    for scope in scopes:  # a change was announced
        redis.client().set(epoch.keys(scope)[0], secrets.token_hex(8))
    running = worker.do(company.admitted(200))

    crew.lose_writes()
    assert [redis.client().get(epoch.keys(scope)[0]).decode() for scope in scopes] == first  # type: ignore[union-attr]

    refused = worker.do(company.admit(101))
    assert (refused.used, refused.held) == (700, 200)
    assert not set(first) & {worker.do(epoch.read(scope)).value for scope in scopes}
    assert worker.do(company.settle(running, 50))
    assert (company.figure("spent"), company.figure("held")) == (750, 0)


def test_an_epoch_that_came_back_goes_without_any_call(crew: Crew) -> None:
    """Open streams and pages compare epochs alone: a worker that slept through a change must not find its own again."""
    (worker,), company = crew.hire(1), Company()
    worker.do(company.admitted(1))
    slept = worker.do(epoch.read(company.organization_id)).value
    crew.server.remember()
    redis.client().set(epoch.keys(company.organization_id)[0], "changed")
    crew.lose_writes()
    assert worker.do(epoch.read(company.organization_id)).value == slept
    wait_for(lambda: worker.do(epoch.read(company.organization_id)).value != slept, seconds=4)


def test_limits_compiled_before_lost_writes_are_stale(crew: Crew) -> None:
    """A worker that slept through a change still holds limits under the epoch that comes back."""
    (worker,), company = crew.hire(1), Company()

    async def known() -> Any:
        token = await generations.of(company.organization_id)
        return token, (await epoch.read(company.organization_id)).value

    token, old = worker.do(known())
    crew.server.remember()
    redis.client().set(epoch.keys(company.organization_id)[0], "changed")
    crew.lose_writes()

    async def with_old_limits() -> None:
        found = Limits(company.organization_id, token, SUBJECTS, company.limits)
        with pytest.raises(admission.Stale):
            await admission.admit(
                found,
                epoch=old,
                call_id=ids.new_call_id(),
                amount=1,
                least=None,
                tokens=0,
                may_degrade=False,
                context="{}",
                source=company.ledger,
            )

    worker.do(with_old_limits())
    worker.do(company.admitted(1))


def test_two_restarts_in_a_row(crew: Crew) -> None:
    (one, other), company = crew.hire(2), Company()
    one.do(company.admitted(300))
    other.do(company.admitted(300))
    other.freeze()
    crew.restart()
    waiting = one.begin(company.admit(400))
    wait_for(lambda: redis.client().exists(counters.NEXT_GENERATION))
    crew.restart()
    other.thaw()

    # What was under way when the server ended for the second time may have been lost with it: that is no refusal.
    if isinstance(waiting.exception(10), redis.RedisUnavailable):
        one.do(company.admitted(400))
    assert company.figure("held") == 1000
    assert not crew.registry.fenced
    assert isinstance(other.do(company.admit(1)), Refused)


def test_workers_that_begin_at_once_begin_the_same_generation(crew: Crew) -> None:
    workers = crew.hire(4)
    crew.flush()
    renewing = [worker.begin(generations.renew()) for worker in workers]
    for future in renewing:
        future.result(10)

    async def known() -> Any:
        return await generations.of(7)

    assert {worker.do(known()) for worker in workers} == {in_force()}


# --- workers that stay silent --------------------------------------------------------------------------


def test_a_silent_worker_is_fenced_after_its_time_and_what_it_held_is_forgotten(crew: Crew) -> None:
    (one, other), company = crew.hire(2), Company()
    lost = other.do(company.admitted(900))
    other.freeze()
    crew.flush()
    began = time.monotonic()

    held = one.do(company.admitted(1000))

    (fenced_at,) = crew.registry.fenced.values()
    assert set(crew.registry.fenced) == {other.id}
    assert fenced_at - began >= generations.FENCE_AFTER_MS / 1000 - 0.1
    assert set(company.holds()) == {str(held.call_id)}

    other.thaw()
    # The ledger has refused its row, so nothing is charged.
    assert other.do(admission.release(lost))
    assert (company.figure("held"), company.figure("spent")) == (1000, 0)
    one.do(company.settle(held, 10))
    assert isinstance(other.do(company.admit(990)), Admitted)


def test_a_worker_that_answers_in_time_is_not_fenced(crew: Crew) -> None:
    (one, other), company = crew.hire(2), Company()
    other.do(company.admitted(900))
    other.freeze()
    crew.flush()
    waiting = one.begin(company.admit(101))
    time.sleep(1.5)
    assert not waiting.done()

    other.thaw()

    assert waiting.result(10).held == 900
    assert not crew.registry.fenced


def test_what_a_late_worker_tells_of_settled_calls_stays_untold(crew: Crew) -> None:
    """It was stopped while it told; the generation came into force and its call was settled there."""
    (worker,), company = crew.hire(1), Company()
    held = worker.do(company.admitted(100))

    async def late() -> None:
        lease = leases.current()
        hold = lease.holds[held.call_id]
        assert await company.settle(held, 30)
        lease.holds[held.call_id] = hold
        await current()._tell(in_force(), lease)

    worker.do(late())
    assert (company.figure("held"), company.holds()) == (0, {})


def test_a_call_that_ends_while_it_is_told_is_taken_back(crew: Crew) -> None:
    (worker,), company = crew.hire(1), Company(limit("parallel", 5, "k1"), budget(1000))
    held = worker.do(company.admitted(100))

    async def ends_meanwhile() -> Any:
        telling = asyncio.ensure_future(current()._tell("beef", leases.current()))
        await asyncio.sleep(0)
        leases.forget(held.call_id)
        await telling
        key = counters.counter(company.organization_id, "beef", "k1")
        return await redis.scripts().command("HMGET", key, "held", "live")

    assert worker.do(ends_meanwhile()) == [b"0", b"0"]
    assert redis.client().hgetall(counters.holds(company.organization_id, "beef")) == {}


def current() -> generations.Generations:
    own = generations._generations.get()
    assert own is not None
    return own


# --- waiting -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["spools", "database"])
def test_admissions_wait_for_a_bounded_time_and_are_never_refused_for_money(
    crew: Crew, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (worker,), company = crew.hire(1), Company()
    worker.do(company.admitted(100))
    if reason == "spools":
        crew.registry.drained = False
    else:
        crew.registry.away = DatabaseUnavailable("away")
    crew.flush()

    with monkeypatch.context() as patches:
        patches.setattr(generations, "WAIT_SECONDS", 2.0)
        began = time.monotonic()
        with pytest.raises(redis.RedisUnavailable):
            worker.do(company.admit(1))
        assert 1.5 <= time.monotonic() - began <= 4

    crew.registry.drained, crew.registry.away = True, None
    worker.do(company.admitted(900))
    assert company.figure("held") == 1000


def test_who_takes_no_part_neither_waits_nor_begins(crew: Crew) -> None:
    (worker,), company = crew.hire(1), Company()
    stranger = Worker(crew.registry)
    crew.workers.append(stranger)
    token = worker.do(generations.of(company.organization_id))
    assert stranger.do(generations.of(company.organization_id)) == token
    stranger.do(generations.renew())
    assert generations.known_token(company.organization_id) == token

    worker.freeze()
    crew.flush()

    assert generations.known_token(company.organization_id) is None
    for asked in (generations.of(company.organization_id), generations.renew()):
        with pytest.raises(redis.RedisUnavailable):
            stranger.do(asked)
    assert redis.client().exists(counters.NEXT_GENERATION) == 0
    worker.thaw()
    worker.do(company.admitted(1))
    assert stranger.do(generations.of(company.organization_id)) == in_force()


def test_a_generation_another_has_begun_is_joined_by_workers_without_calls(crew: Crew) -> None:
    workers, company = crew.hire(3), Company()
    crew.flush()
    began = time.monotonic()
    workers[0].do(company.admitted(1))
    assert time.monotonic() - began < generations.FENCE_AFTER_MS / 1000
    assert not crew.registry.fenced
