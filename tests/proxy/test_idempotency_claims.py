"""Claims on idempotency keys seen from within a worker: those of the dead, of the living, and while PostgreSQL is away."""

from __future__ import annotations

import asyncio
import secrets
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction

from billing import ledger
from billing.ledger import Spooled
from billing.models import LedgerWriter
from gateway_project.lib import database, ids
from guardrails import admission
from guardrails.admission import Admitted
from orgs import epoch
from orgs.models import Organization
from proxy import background, callers, giving_back, idempotency, kept, pipeline, settling
from proxy.call import Call
from proxy.errors import CallInProgress, GuardrailsUnavailable, IdempotencyConflict, ProxyError
from proxy.models import IdempotencyClaim, Model
from proxy.protocols import chat_completions
from proxy.providers import transport
from proxy.tasks import resolve_holds
from tests.coroutines import as_wired_worker, as_worker
from tests.house import RATES, House, reprice
from tests.proxy.calls import admitted, body
from tests.proxy.test_holds import finished
from tests.upstream import Upstream
from tests.wire import Wire

KEY = "order 17"
CLAIMED_SQL = "SELECT call_id FROM proxy_idempotencyclaim WHERE call_id = %s"


async def asked(house: House, content: bytes, *, key: str | None = KEY) -> tuple[dict[str, str], bytes]:
    incoming = pipeline.Incoming(content, f"Bearer {house.key_text}", "", "127.0.0.1", {}, idempotency_key=key)
    try:
        found = await pipeline.handle(incoming, codec=chat_completions)
        assert isinstance(found.body, bytes)
        return found.headers, found.body
    finally:
        await transport.shutdown()


async def new_call(house: House, content: bytes) -> Call:
    call = Call("chat_completions", await callers.load(house.key_text))
    call.request = chat_completions.parse(content)
    return call


def claimed_by(house: House, writer_id: str, *, content: bytes | None = None, age: timedelta = timedelta()) -> UUID:
    """A claim on KEY by a call of this worker that has left nothing else → its call id."""
    call_id = ids.new_call_id()

    async def work() -> None:
        call = await new_call(house, content or body())
        claim = idempotency.claim_of(call, key=KEY, body=content or body())
        await database.rows(
            "INSERT INTO proxy_idempotencyclaim (api_key_id, key_digest, body_digest, call_id, writer_id, claimed_at) "
            "VALUES (%s, %s, %s, %s, %s, now() - %s) RETURNING id",
            (claim.api_key_id, claim.key_digest, claim.body_digest, call_id, writer_id, age),
        )

    as_worker(work())
    return call_id


def statuses(house: House) -> dict[str, str]:
    return {str(row.call_id): row.status for row in house.rows()}


@pytest.fixture
def living() -> str:
    """Another worker that PostgreSQL has seen just now."""
    return LedgerWriter.objects.create(id=secrets.token_hex(8), host="elsewhere").id


@pytest.fixture
def hasty(house: House) -> str:
    """A model whose calls take a second at most."""
    reprice("hasty", RATES["scripted"])
    with transaction.atomic():
        Model.objects.filter(name="hasty").update(timeout={"total": 1.0})
        epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))
    return "hasty"


# --- of the dead -------------------------------------------------------------------------------
def silent(writer_id: str) -> None:
    LedgerWriter.objects.create(id=writer_id, host="elsewhere")
    LedgerWriter.objects.filter(id=writer_id).update(seen_at="2026-01-01T00:00:00Z")


def closed(writer_id: str) -> None:
    LedgerWriter.objects.create(id=writer_id, host="elsewhere", closed_at="2026-01-01T00:00:00Z")


def fenced(writer_id: str) -> None:
    LedgerWriter.objects.create(id=writer_id, host="elsewhere", fenced_at="2026-01-01T00:00:00Z")


def never_registered(writer_id: str) -> None:
    pass


@pytest.mark.parametrize("end", [silent, closed, fenced, never_registered])
def test_a_claim_whose_worker_died_before_it_held_anything_is_closed_and_taken_over(house: House, end: Any) -> None:
    end(writer := secrets.token_hex(8))
    left = claimed_by(house, writer)

    headers, _ = as_worker(asked(house, body()))

    assert statuses(house) == {str(left): "abandoned", headers["x-request-id"]: "ok"}
    abandoned = house.row_of(str(left))
    assert (abandoned.charged_nano_usd, abandoned.requested_model, abandoned.api_key_id) == (0, "scripted", house.key.pk)
    assert house.held() == {}


def test_a_claim_whose_worker_died_with_a_hold_is_closed_and_what_it_held_is_free(house: House) -> None:
    async def left_behind() -> UUID:
        call = await admitted(house)
        assert await idempotency.begin(call, key=KEY, body=body()) is None
        return call.id

    left = as_worker(left_behind())
    assert house.held()

    headers, _ = as_worker(asked(house, body()))

    assert statuses(house) == {str(left): "abandoned", headers["x-request-id"]: "ok"}
    assert house.held() == {}
    assert house.counter("org")["spent"] == 18_000


def test_a_claim_whose_worker_died_after_its_row_is_completed(house: House, upstream: Upstream) -> None:
    """The row is there, the answer may have gone out or not: it has been charged, so it does not run again."""

    async def left_behind() -> UUID:
        call = await admitted(house)
        assert await idempotency.begin(call, key=KEY, body=body()) is None
        await ledger.current().record(finished(call, charged=1234), [])
        return call.id

    left = as_worker(left_behind())

    with pytest.raises(ProxyError) as told:
        as_worker(asked(house, body()))

    assert (told.value.code, (told.value.detail or {})["call_id"]) == ("already_completed", str(left))
    assert (told.value.detail or {})["charged"] == "0.000001234"
    assert upstream.received == []
    assert resolve_holds() == 1


@pytest.mark.parametrize("withheld", [True, False])
def test_a_charge_that_is_taken_back_frees_its_claim_where_nobody_was_given_the_answer(
    house: House, upstream: Upstream, withheld: bool
) -> None:
    """A job that failed later was answered: who repeats that call is told of this one."""

    async def given_back() -> UUID:
        call = await admitted(house)
        assert await idempotency.begin(call, key=KEY, body=body()) is None
        await settling.close(call, finished(call, charged=1234))
        for _ in range(2):
            assert await giving_back.give_back(call.id, absorbed=withheld)
        return call.id

    left = as_worker(given_back())

    if withheld:
        headers, _ = as_worker(asked(house, body()))
        assert headers["x-request-id"] != str(left)
    else:
        with pytest.raises(ProxyError, match="is not kept"):
            as_worker(asked(house, body()))
    of_call = [row.charged_nano_usd for row in house.rows() if left in (row.call_id, row.adjusts)]
    assert sorted(of_call) == [-1234, 1234]


def test_a_worker_that_wakes_up_after_its_claim_was_taken_over_charges_nothing_and_gives_out_nothing(house: House) -> None:
    async def asleep() -> Call:
        call = await new_call(house, body())
        assert await idempotency.begin(call, key=KEY, body=body()) is None
        return call

    sleeper: Call = as_worker(asleep())
    headers, _ = as_worker(asked(house, body()))

    async def awake() -> None:
        with pytest.raises(GuardrailsUnavailable):
            await settling.close(sleeper, finished(sleeper, charged=1234))

    as_worker(awake())
    assert statuses(house) == {str(sleeper.id): "abandoned", headers["x-request-id"]: "ok"}


def test_a_row_that_still_lies_in_a_spool_is_neither_closed_nor_run_again(house: House, upstream: Upstream, hasty: str) -> None:
    """Its answer went out while PostgreSQL was away. The worker has died since, and nobody has drained its spool yet."""
    content = body(model=hasty)

    async def left_behind() -> Admitted:
        call = await admitted(house, model=hasty)
        assert await idempotency.begin(call, key=KEY, body=content) is None
        await settling._answer_from_spool(call, finished(call, charged=1234), Spooled(1234))
        assert call.held is not None
        return call.held

    left: Admitted = as_worker(left_behind())

    with pytest.raises(CallInProgress):
        as_worker(asked(house, content))

    assert str(left.call_id) not in statuses(house)
    assert upstream.received == []
    as_worker(admission.settle_hold(house.organization.pk, left.call_id, left.subjects))


# --- of the living -----------------------------------------------------------------------------
def test_who_waits_for_a_living_worker_is_sent_away_when_its_model_would_have_ended(
    house: House, upstream: Upstream, living: str, hasty: str
) -> None:
    content = body(model=hasty)
    left = claimed_by(house, living, content=content)

    with pytest.raises(CallInProgress) as told:
        as_worker(asked(house, content))

    assert (told.value.status, told.value.retry_after, told.value.should_retry) == (409, 1, None)
    assert IdempotencyClaim.objects.get(api_key=house.key).call_id == left
    assert upstream.received == []


def test_one_whose_time_is_long_over_and_left_no_row_is_closed_although_its_worker_lives(
    house: House, living: str, hasty: str
) -> None:
    content = body(model=hasty)
    left = claimed_by(house, living, content=content, age=timedelta(seconds=2 + idempotency.GRACE_SECONDS))
    headers, _ = as_worker(asked(house, content))
    assert statuses(house) == {str(left): "abandoned", headers["x-request-id"]: "ok"}


def test_another_body_does_not_wait(house: House, living: str) -> None:
    claimed_by(house, living)
    with pytest.raises(IdempotencyConflict):
        as_worker(asked(house, body(max_tokens=7)))


def test_who_leaves_while_waiting_leaves_nothing(house: House, living: str, upstream: Upstream) -> None:
    left = claimed_by(house, living)

    async def leave() -> None:
        waiting = asyncio.create_task(asked(house, body()))
        while not idempotency._waiters[house.key.pk]:
            await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert idempotency._waiters == {}

    as_worker(leave())
    assert IdempotencyClaim.objects.get(api_key=house.key).call_id == left
    assert house.rows() == []


def test_beyond_so_many_nobody_waits(house: House, living: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "MAX_WAITING", 0)
    claimed_by(house, living)
    with pytest.raises(CallInProgress):
        as_worker(asked(house, body()))


def test_of_many_claims_at_once_one_is_granted(house: House) -> None:
    """And of many that find one free again: one, too."""

    async def rivals(number: int) -> list[Call]:
        calls = [await new_call(house, body()) for _ in range(number)]
        claims = [idempotency.claim_of(call, key=KEY, body=body()) for call in calls]
        granted = await asyncio.gather(*(idempotency._claimed(*pair) for pair in zip(calls, claims, strict=True)))
        return [call for call, won in zip(calls, granted, strict=True) if won]

    async def work() -> None:
        for _ in range(3):
            (winner,) = await rivals(8)
            assert await rivals(2) == []
            await ledger.current().record(finished(winner, charged=0), [])

    as_worker(work())
    assert IdempotencyClaim.objects.filter(api_key=house.key).count() == 1


def test_a_caller_who_leaves_during_admission_takes_its_claim_back(house: House) -> None:
    async def work() -> list[dict[str, Any]]:
        call = await new_call(house, body())
        assert await idempotency.begin(call, key=KEY, body=body()) is None
        idempotency.release(call)
        await background.drain()
        return await database.rows(CLAIMED_SQL, (call.id,))

    assert as_worker(work()) == []


def test_a_caller_who_leaves_while_it_claims_takes_its_claim_back(house: House) -> None:
    async def work() -> list[dict[str, Any]]:
        call = await new_call(house, body())
        claiming = asyncio.create_task(idempotency.begin(call, key=KEY, body=body()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        claiming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await claiming
        await background.drain()
        return await database.rows(CLAIMED_SQL, (call.id,))

    assert as_worker(work()) == []


# --- PostgreSQL away ---------------------------------------------------------------------------
def test_while_postgresql_is_away_a_call_with_a_key_is_refused_and_one_without_passes(house: House, upstream: Upstream) -> None:
    async def work(wire: Wire) -> None:
        await asked(house, body(), key=None)
        wire.cut("refused")
        while ledger.current().away_since is None:
            await asyncio.sleep(0.02)
        with pytest.raises(GuardrailsUnavailable, match="idempotency key"):
            await asked(house, body())
        await asked(house, body(), key=None)

    as_wired_worker(work)
    assert len(upstream.received) == 2


def test_a_claim_that_postgresql_may_have_taken_is_taken_back(house: House) -> None:
    """The connection broke after the commit: its caller was told 503, and must be able to call again."""

    async def work() -> list[dict[str, Any]]:
        call = await new_call(house, body())
        claim = idempotency.claim_of(call, key=KEY, body=body())

        async def committed_then_broken() -> list[dict[str, Any]]:
            assert await idempotency._claimed(call, claim)
            raise database.DatabaseUnavailable

        await idempotency._take_back(asyncio.create_task(committed_then_broken()), claim, call.id)
        return await database.rows(CLAIMED_SQL, (call.id,))

    assert as_worker(work()) == []


def test_keeping_an_answer_neither_fails_nor_holds_up_a_call(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "KEEP_SECONDS", 0.2)

    async def work(wire: Wire) -> bool:
        await database.rows("SELECT 1")
        wire.mode = "silent"
        try:
            return await kept.keep(
                ids.new_call_id(),
                kept.Answer({}, b"Hello"),
                organization_id=house.organization.pk,
                hours=24,
                at_most=timedelta(hours=24),
            )
        finally:
            wire.cut("through")

    assert as_wired_worker(work) is False


# --- what is kept ------------------------------------------------------------------------------
def keep(house: House, content: bytes, *, hours: int = 24) -> kept.Answer | None:
    async def work() -> kept.Answer | None:
        call_id, owner = ids.new_call_id(), house.organization.pk
        wanted = kept.Answer({"x-request-id": str(call_id)}, content)
        done = await kept.keep(call_id, wanted, organization_id=owner, hours=hours, at_most=timedelta(hours=24))
        assert await kept.read(call_id, organization_id=owner + 1) is None
        found = await kept.read(call_id, organization_id=owner)
        assert done == (found == wanted)
        return found

    found: kept.Answer | None = as_worker(work())
    return found


@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"x" * 100_000])
def test_what_is_kept_is_read_as_it_was_and_by_its_own_organisation_alone(house: House, content: bytes) -> None:
    house.change(content_retention_hours=24)
    found = keep(house, content)
    assert found is not None
    assert found.body == content


def test_nothing_is_kept_where_that_is_not_allowed_or_too_large(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.change(content_retention_hours=24)
    assert keep(house, b"Hello", hours=0) is None
    monkeypatch.setattr(kept, "MAX_BYTES", 4)
    assert keep(house, b"Hello") is None


@pytest.mark.parametrize(("parts", "whole"), [([b"ab", b"cd"], b"abcd"), ([b"ab", b"cde", b""], None), ([], b"")])
def test_a_copy_gathers_what_passes_up_to_the_size_that_is_kept(
    monkeypatch: pytest.MonkeyPatch, parts: list[bytes], whole: bytes | None
) -> None:
    monkeypatch.setattr(kept, "MAX_BYTES", 4)
    copies = kept.Copy(wanted=True), kept.Copy(wanted=False)
    for part in parts:
        for copy in copies:
            copy.add(part)
    assert [copy.whole() for copy in copies] == [whole, None]


def test_a_caller_who_leaves_while_its_answer_is_being_kept_pays_for_it(house: House) -> None:
    house.change(content_retention_hours=24)

    async def work() -> str:
        call = await admitted(house)
        assert await idempotency.begin(call, key=KEY, body=body()) is None
        closing = asyncio.create_task(idempotency.close(call, finished(call, charged=1234), {}, b"Hello"))
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        return str(call.id)

    call_id = as_worker(work())
    assert house.row_of(call_id).charged_nano_usd == 1234
    assert house.nothing_held()
    assert as_worker(asked(house, body())) == ({"x-gatehouse-replayed": "true"}, b"Hello")
