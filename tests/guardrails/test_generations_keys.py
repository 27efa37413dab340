"""Keys of generations: what is over is swept away, and one organisation's lie in one slot."""

from __future__ import annotations

from typing import Any

from redis.crc import key_slot

from gateway_project.lib import ids, redis
from guardrails import admission, counters, generations, loading
from guardrails.limits import Limits
from guardrails.tasks import sweep_generations
from orgs import epoch
from tests.guardrails.books import SUBJECTS, budget, limit
from tests.guardrails.crews import Company, Crew, crew

__all__ = ["crew"]


def test_what_old_generations_counted_is_swept_and_nothing_else(crew: Crew) -> None:
    (worker,), company, other = crew.hire(1), Company(limit("rpm", 9, "k1"), budget(1000)), Company()
    worker.do(company.settle(worker.do(company.admitted(10)), 10))
    worker.do(other.admitted(10))
    crew.flush()
    worker.do(company.settle(worker.do(company.admitted(5)), 5))
    held = worker.do(other.admitted(10))
    client: Any = redis.client()
    kept = {key: client.dump(key) for key in client.scan_iter(match="gh:{*}:*")}
    for token in ("0ld0ld", "00aa11bb", "ffffffff"):
        client.hset(counters.counter(company.organization_id, token, "k1"), "spent", 1)
        client.hset(counters.holds(company.organization_id, token), "call", "1|0|r|")
        client.hset(counters.rate(other.organization_id, token, "k1"), "sum", 1)
        client.set(counters.tombstone(other.organization_id, token, held.call_id), 1)
    client.hset(counters.NEXT_GENERATION, mapping={"run": "run", "token": "ffffffff", "since": 1})
    client.hset(epoch.keys(company.organization_id)[1], "change", 1)

    assert generations.sweep() == 4
    assert {key: client.dump(key) for key in kept} == kept
    assert client.exists(counters.holds(company.organization_id, "ffffffff")) == 1
    assert client.exists(epoch.keys(company.organization_id)[1]) == 1
    assert not list(client.scan_iter(match="gh:{*}:00aa11bb:*"))

    client.delete(counters.NEXT_GENERATION)
    sweep_generations()
    assert not list(client.scan_iter(match="gh:{*}:ffffffff:*"))
    assert generations.sweep() == 0
    worker.do(other.settle(held, 10))
    assert other.figure("spent") == 10


def test_a_sweep_goes_through_thousands_of_keys(crew: Crew) -> None:
    (worker,), company = crew.hire(1), Company()
    worker.do(company.admitted(10))
    pipeline = redis.client().pipeline(transaction=False)
    for number in range(3 * generations.SWEEP_COUNT):
        pipeline.set(counters.tombstone(company.organization_id, "abad1dea", str(number)), 1)
    pipeline.execute()
    assert generations.sweep() == 3 * generations.SWEEP_COUNT
    assert company.figure("held") == 10


def test_keys_of_one_organisation_lie_in_one_slot_of_a_cluster() -> None:
    found = Company(limit("rpm", 1, "k1")).limits
    limits = Limits(12, "a1", SUBJECTS, found)
    call_id = ids.new_call_id()
    names = [
        *admission._admission_keys(limits, call_id),
        *counters.rates(12, "a1", SUBJECTS),
        *counters.counters(12, "b2", SUBJECTS),
        counters.tombstone(12, "b2", call_id),
        counters.holds(12, "b2"),
    ]
    assert len({key_slot(name if isinstance(name, bytes) else name.encode()) for name in names}) == 1


def test_counters_of_another_generation_are_loaded_from_the_ledger(crew: Crew) -> None:
    (worker,), company = crew.hire(1), Company()
    worker.do(company.admitted(100))
    worker.do(loading.unload(company.organization_id, SUBJECTS))
    company.ledger.commit(850)
    refused = worker.do(company.admit(51))
    assert (refused.used, refused.held) == (850, 100)
