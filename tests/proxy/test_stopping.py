"""A gateway that is stopped while calls run: who may end is let, who may not is told in its own shape, and the money is exact."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import anthropic
import httpx
import openai
import psycopg
import pytest
from django.db import transaction

from billing import prices
from billing.models import CallAttempt
from billing.pricing import Rates
from gateway_project.lib import database
from gateway_project.lib.ending import ending
from orgs import epoch
from orgs.models import Organization
from proxy import kept, pipeline
from proxy.errors import GatewayStopping
from proxy.models import Deployment, Model, Provider
from proxy.protocols import chat_completions
from tests.coroutines import as_worker
from tests.gateways import Gateway
from tests.house import House, eventually, raw
from tests.proxy import messages_wire
from tests.proxy.test_crash import nothing_left_held
from tests.proxy.test_hanging_up import COST, STREAM, WAITS_FOR_A_LOCK, WHOLE, begin
from tests.proxy.test_next_call import Listening, listening
from tests.upstream import Upstream, answer, frame, frames, slowly, stream

ASK = [{"role": "user", "content": "Tell me about the gate."}]
# Whole calls of each protocol for models that think for a long time, by path.
WHOLE_CALLS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "pair", "messages": ASK},
    "/v1/responses": {"model": "pair", "input": "Tell me about the gate."},
    "/v1/messages": {"model": "pair", "messages": ASK, "max_tokens": 100},
    "/v1/embeddings": {"model": "slow-vectors", "input": "Hello"},
}
LOOKS_AT_A_CLAIM = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND query LIKE '%SELECT claim.call_id%' AND pid <> pg_backend_pid()
  AND query_start > now() - interval '1 second'
"""
KEEPS_WAIT = """
SELECT count(*) FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND datname = current_database() AND query ~ 'INSERT INTO proxy_kept(answer|response)'
"""
Start = Callable[..., Gateway]


@pytest.fixture
def endless(house: House, upstream: Upstream) -> None:
    """Streams that have said "Hello there" and then think, and whole answers that take too long."""
    with transaction.atomic():
        model, _ = Model.objects.get_or_create(name="slow-vectors", defaults={"kind": "embedding"})
        Deployment.objects.get_or_create(model=model, provider=Provider.objects.get(name="scripted"), upstream_model="vectors")
        prices.declare("model:slow-vectors", rates=Rates(input=20_000_000, output=20_000_000), source="test")
        epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))
    said = messages_wire.block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Hello there"})[:2]
    upstream.on("scripted", stream(frame({"role": "assistant", "content": "Hello there"}), ending="hang"))
    upstream.on("claude-scripted", stream(messages_wire.start(), *said, ending="hang"))
    for name in ("pair", "vectors"):
        upstream.on(name, slowly(answer(), 60))


def ask_to_end(gateway: Gateway, number: signal.Signals = signal.SIGTERM) -> None:
    os.kill(gateway.pid, number)


def ended(gateway: Gateway, *, seconds: float = 20) -> bool:
    """It has; and nothing of what it wrote is a traceback."""
    gone = bool(eventually(lambda: gateway.child.exit_code is not None, seconds=seconds))
    gateway.stop()
    assert "Traceback" not in gateway.logged()
    return gone


def read_to_end(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


def error_of(answered: bytes) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(answered.partition(b"\r\n\r\n")[2])["error"]
    return error


def test_what_still_runs_is_cut_in_each_callers_shape_and_charged_what_it_got(
    start_gateway: Start, house: House, upstream: Upstream, endless: None
) -> None:
    gateway = start_gateway("stopping", SHUTDOWN_SECONDS="2")
    streams = listening(house, gateway.url)
    assert eventually(lambda: all("Hello" in str(one.heard) for one in streams.values()))
    with ThreadPoolExecutor(len(WHOLE_CALLS)) as pool:
        asked = {
            path: pool.submit(raw, gateway.url, house.key_text, json.dumps(members).encode(), path=path)
            for path, members in WHOLE_CALLS.items()
        }
        assert eventually(lambda: len(upstream.received) == len(streams) + len(asked))

        ask_to_end(gateway)

        answers = {path: one.result() for path, one in asked.items()}
    for one in streams.values():
        one.join(10)
    assert ended(gateway)

    for name, one in streams.items():
        tells_that_it_stops(name, one)
    for path, got in answers.items():
        tells_to_come_again(path, got)
    assert all(received.gone.wait(5) for received in upstream.received)
    assert house.held() == {}
    rows = house.rows()
    assert {(row.status, row.error_code, row.http_status) for row in rows} == {("cut", "gateway_stopping", 503)}
    assert len(rows) == len(streams) + len(answers)
    given = [row for row in rows if row.streamed]
    assert len(given) == len(streams)
    for row in given:
        assert row.output_tokens >= 1
        assert 0 < row.charged_nano_usd == row.input_tokens * 1_000 + row.output_tokens * 4_000 < row.reserved_nano_usd
    assert {(row.charged_nano_usd, row.list_nano_usd, row.absorbed_nano_usd) for row in rows if not row.streamed} == {(0, 0, 0)}
    assert house.counter("org") == {"spent": sum(row.charged_nano_usd for row in rows), "held": 0}
    tried = CallAttempt.objects.filter(call_id__in=[row.call_id for row in rows])
    assert sorted(attempt.status for attempt in tried) == ["cancelled"] * len(answers) + ["ok"] * len(streams)
    [line] = [line for line in gateway.logged().splitlines() if "calls_cut" in line]
    assert f"calls={len(rows)}" in line


def tells_that_it_stops(name: str, one: Listening) -> None:
    """An error of the protocol's own, in the midst of the stream, at which the SDK raises."""
    error = one.raised
    if name.startswith("messages"):
        assert isinstance(error, anthropic.APIStatusError)
        told: Any = error.body
        assert told["error"]["details"] == {"error_code": "gateway_stopping"}
        assert told["error"]["gatehouse"]["request_id"] == told["request_id"] == error.request_id
    else:
        assert isinstance(error, openai.APIError)
        assert error.code == "gateway_stopping"
    assert "stopped or restarted" in str(error)


def tells_to_come_again(path: str, got: httpx.Response) -> None:
    assert (got.status_code, got.headers["retry-after"], got.headers["connection"]) == (503, "3", "close")
    error = got.json()["error"]
    assert error["gatehouse"]["code"] == "gateway_stopping"
    assert ("details" in error) == (path == "/v1/messages")


def test_calls_that_end_in_time_are_answered_and_nothing_new_is_taken(
    start_gateway: Start, house: House, upstream: Upstream
) -> None:
    gateway = start_gateway("patient", SHUTDOWN_SECONDS="20")
    raw(gateway.url, house.key_text, WHOLE)
    upstream.on("scripted", stream(frame({"content": "Hel"}), 1.0, *frames("lo")))
    upstream.on("pair", slowly(answer(), 1.0))
    with (
        closing(socket.create_connection(("127.0.0.1", gateway.port), timeout=10)) as idle,
        closing(socket.create_connection(("127.0.0.1", gateway.port), timeout=10)) as asking,
        closing(begin(gateway, house, STREAM)) as streaming,
        closing(begin(gateway, house, WHOLE.replace(b"scripted", b"pair"))) as waiting,
    ):
        asking.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert eventually(lambda: len(upstream.received) == 3)
        gateway.listening.close()
        ask_to_end(gateway)

        assert idle.recv(1) == b""  # it was closed: from now on the gateway is stopping
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
        asking.sendall(b"0\r\n\r\n")
        ready = read_to_end(asking)
        assert ready.startswith(b"HTTP/1.1 503 ")
        assert json.loads(ready.partition(b"\r\n\r\n")[2]) == {"status": "stopping", "postgres": "ok", "redis": "ok"}
        streamed, whole = read_to_end(streaming), read_to_end(waiting)

    assert b"[DONE]" in streamed
    assert streamed.endswith(b"0\r\n\r\n")
    assert whole.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close\r\n" in whole
    assert ended(gateway, seconds=10)
    assert "calls_cut" not in gateway.logged()
    assert [(row.status, row.charged_nano_usd) for row in house.rows()] == [("ok", COST)] * 3
    assert house.held() == {}


def test_who_waits_for_another_call_or_has_not_asked_to_the_end_is_told_too(
    start_gateway: Start, gateway: Gateway, house: House, upstream: Upstream
) -> None:
    stopping = start_gateway("waited-for", SHUTDOWN_SECONDS="1")
    upstream.on("scripted", slowly(answer(), 4))
    address = ("127.0.0.1", stopping.port)
    with ThreadPoolExecutor(2) as pool, closing(socket.create_connection(address, timeout=10)) as unfinished:
        first = pool.submit(raw, gateway.url, house.key_text, WHOLE, **{"idempotency-key": "one"})
        assert eventually(lambda: upstream.received)
        second = pool.submit(raw, stopping.url, house.key_text, WHOLE, **{"idempotency-key": "one"})
        unfinished.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        with psycopg.connect(database.conninfo(), autocommit=True) as watching:
            assert eventually(lambda: watching.execute(LOOKS_AT_A_CLAIM).fetchone() != (0,))
        ask_to_end(stopping)
        left = read_to_end(unfinished)
        tells_to_come_again("/v1/chat/completions", second.result())
        assert first.result().status_code == 200
    assert ended(stopping)

    assert left.startswith(b"HTTP/1.1 503 ")
    assert error_of(left)["code"] == "gateway_stopping"
    assert house.nothing_held()
    assert sum(row.charged_nano_usd for row in house.rows()) == COST


def test_an_answer_that_cannot_be_recorded_in_time_is_withheld_and_free(
    start_gateway: Start, gateway: Gateway, house: House, upstream: Upstream
) -> None:
    """The row waits for a lock of another session when the time is over: its caller goes without the answer."""
    stopping = start_gateway("locked", SHUTDOWN_SECONDS="1")
    raw(stopping.url, house.key_text, WHOLE)  # everything that a call needs is loaded
    eventually(house.rows)
    with (
        psycopg.connect(database.conninfo()) as locking,
        psycopg.connect(database.conninfo(), autocommit=True) as watching,
    ):
        locking.execute("LOCK TABLE billing_usagerecord IN SHARE MODE")
        with closing(begin(stopping, house, WHOLE)) as connection:
            assert eventually(lambda: watching.execute(WAITS_FOR_A_LOCK).fetchone() == (1,))
            ask_to_end(stopping)
            told = read_to_end(connection)
        locking.rollback()
    assert ended(stopping)

    assert told.startswith(b"HTTP/1.1 503 ")
    assert error_of(told)["code"] == "gateway_stopping"
    assert house.nothing_held()
    rows = [(row.status, row.charged_nano_usd, row.absorbed_nano_usd) for row in house.rows()]
    assert sorted(rows) == [("adjustment", -COST, COST), ("ok", COST, 0), ("ok", COST, 0)]
    raw(gateway.url, house.key_text, WHOLE)
    assert house.counter("org") == {"spent": 2 * COST, "held": 0}


def test_an_answer_that_was_still_being_kept_is_withheld_and_its_idempotency_key_free(
    gateway: Gateway, house: House, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "KEEP_SECONDS", 60)
    monkeypatch.setattr(ending, "is_cut", False)
    house.change(content_retention_hours=1)
    call = pipeline.Incoming(WHOLE, f"Bearer {house.key_text}", feature="", address="", headers={}, idempotency_key="one")

    async def work() -> None:
        waiting = asyncio.create_task(pipeline.handle(call, codec=chat_completions))
        while (await database.rows(KEEPS_WAIT))[0]["count"] == 0:
            await asyncio.sleep(0.02)
        ending.is_cut = True
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        locking.rollback()

    with psycopg.connect(database.conninfo()) as locking:
        locking.execute("LOCK TABLE proxy_keptanswer IN SHARE MODE")
        as_worker(work())

    assert [(row.status, row.charged_nano_usd, row.absorbed_nano_usd) for row in house.rows()] == [("cut", 0, COST)]
    assert [row.error_code for row in house.rows()] == ["gateway_stopping"]
    assert house.held() == {}
    again = raw(gateway.url, house.key_text, WHOLE, **{"idempotency-key": "one"})
    assert (again.status_code, "x-gatehouse-replayed" in again.headers) == (200, False)


@contextlib.contextmanager
def waiting_for_a_lock(table: str) -> Iterator[Callable[[], bool]]:
    """Nobody writes to the table inside; says whether somebody wants to."""
    with (
        psycopg.connect(database.conninfo()) as locking,
        psycopg.connect(database.conninfo(), autocommit=True) as watching,
    ):
        locking.execute(f"LOCK TABLE {table} IN SHARE MODE".encode())
        yield lambda: bool(eventually(lambda: watching.execute(KEEPS_WAIT).fetchone() == (1,)))
        locking.rollback()


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_that_is_paid_for_is_given_though_its_history_is_not_kept_in_time(
    start_gateway: Start, house: House, upstream: Upstream, streamed: bool
) -> None:
    gateway = start_gateway("history", SHUTDOWN_SECONDS="1")
    house.change(content_retention_hours=1)
    upstream.on("scripted", stream(*frames("Hello")) if streamed else answer("Hello"))
    asked = {"model": "scripted", "input": "Tell me about the gate.", "store": True, "stream": streamed}
    with waiting_for_a_lock("proxy_keptresponse") as somebody_waits, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(raw, gateway.url, house.key_text, json.dumps(asked).encode(), path="/v1/responses")
        assert somebody_waits()
        ask_to_end(gateway)
        got = asking.result()
    assert ended(gateway)

    assert got.status_code == 200
    assert (b"response.completed" in got.content) == streamed
    assert b"Hello" in got.content
    (row,) = house.rows()
    assert (row.status, row.charged_nano_usd > 0) == ("ok", True)
    assert house.nothing_held()


def test_a_stream_that_was_still_being_kept_is_withheld_and_free_as_a_whole_answer_is(
    start_gateway: Start, gateway: Gateway, house: House, upstream: Upstream
) -> None:
    stopping = start_gateway("keeping", SHUTDOWN_SECONDS="1")
    house.change(content_retention_hours=1)
    upstream.on("scripted", stream(*frames("Hello")))
    with (
        waiting_for_a_lock("proxy_keptanswer") as somebody_waits,
        closing(begin(stopping, house, STREAM, headers={"idempotency-key": "one"})) as connection,
    ):
        assert somebody_waits()
        ask_to_end(stopping)
        told = read_to_end(connection)
    assert ended(stopping)

    assert b"Hello" in told
    assert b"[DONE]" not in told
    (row,) = house.rows()
    assert (row.status, row.error_code, row.http_status) == ("cut", "gateway_stopping", 503)
    assert (row.charged_nano_usd, row.absorbed_nano_usd) == (0, COST)
    assert house.nothing_held()
    again = raw(gateway.url, house.key_text, STREAM, **{"idempotency-key": "one"})
    assert (again.status_code, "x-gatehouse-replayed" in again.headers) == (200, False)


def test_a_caller_who_takes_nothing_has_not_hung_up(start_gateway: Start, house: House, upstream: Upstream) -> None:
    gateway = start_gateway("blocked", SHUTDOWN_SECONDS="1")
    upstream.on("scripted", stream(*[frame({"content": "word"}, padding="x" * 60_000)] * 400, ending="hang"))
    with closing(begin(gateway, house, STREAM)):
        assert eventually(lambda: upstream.received)
        assert not upstream.received[-1].answered.wait(1)
        ask_to_end(gateway)
        assert ended(gateway)

    (row,) = house.rows()
    assert (row.status, row.error_code) == ("cut", "gateway_stopping")
    assert 0 < row.charged_nano_usd == row.input_tokens * 1_000 + row.output_tokens * 4_000
    assert house.held() == {}


def test_whatever_stage_calls_are_at_each_has_one_row_that_charges_what_its_caller_got(
    start_gateway: Start, house: House, upstream: Upstream
) -> None:
    """Programs call as fast as they can while it stops; all are cut as soon as it is asked to end."""
    gateway = start_gateway("busy", SHUTDOWN_SECONDS="1")
    upstream.on("scripted", answer(before=0.02))
    upstream.on("pair", stream(*(part for text in frames("Hel", "lo", "!") for part in (text, 0.01))))
    with ThreadPoolExecutor(12) as pool:
        programs = [pool.submit(call_until_refused, gateway, house, number) for number in range(12)]
        assert eventually(lambda: len(upstream.received) > 100)
        gateway.listening.close()
        ask_to_end(gateway)
        told = [one for program in programs for one in program.result()]
    assert ended(gateway)

    rows = {str(row.call_id): row for row in house.rows()}
    assert sorted(rows) == sorted(call_id for call_id, _ in told)
    for call_id, complete in told:
        row = rows[call_id]
        assert (row.status, row.error_code) == (("ok", "") if complete else ("cut", "gateway_stopping"))
        got = row.input_tokens * 1_000 + row.output_tokens * 4_000
        assert row.charged_nano_usd == (COST if complete else got if row.streamed else 0)
    assert not all(complete for _, complete in told)
    assert house.held() == {}
    assert house.counter("org") == {"spent": sum(row.charged_nano_usd for row in rows.values()), "held": 0}


def call_until_refused(gateway: Gateway, house: House, number: int) -> list[tuple[str, bool]]:
    """The ids of its calls, and whether their answers were complete; all others were told that the gateway stops."""
    told: list[tuple[str, bool]] = []
    content = STREAM.replace(b"scripted", b"pair") if number % 2 else WHOLE
    while True:
        try:
            got = raw(gateway.url, house.key_text, content)
        except httpx.TransportError:
            return told
        complete = got.content.endswith(b"data: [DONE]\n\n") if number % 2 else got.status_code == 200
        assert complete or b"gateway_stopping" in got.content
        told.append((got.headers["x-request-id"], complete))


@pytest.fixture
def after_the_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "is_cut", True)


@pytest.mark.parametrize("asked", [WHOLE, STREAM])
def test_a_call_that_comes_to_its_provider_too_late_never_asks_it(
    house: House, upstream: Upstream, after_the_cut: None, asked: bytes
) -> None:
    call = pipeline.Incoming(asked, f"Bearer {house.key_text}", feature="", address="", headers={})
    with pytest.raises(GatewayStopping):
        as_worker(pipeline.handle(call, codec=chat_completions))
    assert upstream.received == []
    assert [(row.status, row.charged_nano_usd) for row in house.rows()] == [("cut", 0)]
    assert house.held() == {}


def test_a_second_signal_ends_it_at_once_and_others_settle_what_it_held(
    start_gateway: Start, house: House, upstream: Upstream, endless: None
) -> None:
    gateway = start_gateway("hurried", SHUTDOWN_SECONDS="3600", LEASE_SECONDS="4")
    with closing(begin(gateway, house, STREAM)) as connection:
        while b"Hello there" not in connection.recv(65536):
            pass
        ask_to_end(gateway)
        ask_to_end(gateway)  # as a service manager does that tells every process, and then the one above tells it again
        assert not eventually(lambda: gateway.child.exit_code is not None, seconds=1)
        ask_to_end(gateway, signal.SIGINT)
        assert ended(gateway)

    assert nothing_left_held(house)
    assert [(row.status, row.charged_nano_usd) for row in house.rows()] == [("abandoned", 0)]


def test_without_calls_it_ends_at_once_though_connections_are_open(start_gateway: Start) -> None:
    gateway = start_gateway("idle", SHUTDOWN_SECONDS="3600")
    with httpx.Client(base_url=gateway.url, trust_env=False) as client:
        assert client.get("/readyz").json()["status"] == "ok"
        ask_to_end(gateway)
        assert ended(gateway)
