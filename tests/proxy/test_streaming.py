"""Relaying: what the caller gets and when, and that every ending leaves one row, no hold and a closed upstream."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from billing import ledger
from gateway_project.lib import database
from guardrails import admission, leases
from proxy import recording, streaming
from proxy.attempts import Opened
from proxy.call import Call
from proxy.errors import AttemptFailed
from proxy.protocols import chat_completions
from tests.coroutines import as_worker
from tests.house import House
from tests.proxy.calls import Part, admitted, bounded, opened
from tests.upstream import DONE, frame, frames

ROLE, HEL, LO, STOP, USAGE, END = frames("Hel", "lo")


async def relayed(call: Call, stream: Opened) -> list[bytes]:
    return [item async for item in streaming.relay(call, stream, chat_completions)]


def relay(house: House, stream: Opened, *, total: float = 30) -> list[bytes]:
    async def work() -> list[bytes]:
        return await relayed(bounded(await admitted(house, stream=True), total=total), stream)

    result: list[bytes] = as_worker(work())
    return result


async def is_recorded(call: Call) -> bool:
    return bool(await database.rows("SELECT 1 AS one FROM billing_usagerecord WHERE call_id = %s", (call.id,)))


def only_row(house: House) -> Any:
    """Every ending: one row, nothing held."""
    assert house.held() == {}
    (row,) = house.rows()
    assert house.counter("org") == {"spent": row.charged_nano_usd, "held": 0}
    return row


def error_in(last: bytes) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(last.removeprefix(b"data: "))["error"]
    return error


def test_the_last_frames_wait_for_the_row(house: House) -> None:
    async def work() -> tuple[list[bytes], bool, bool]:
        call = await admitted(house, stream=True)
        stream = streaming.relay(call, opened(ROLE, HEL, LO, STOP, USAGE, END), chat_completions)
        passing = [await anext(stream) for _ in range(4)]
        before = await is_recorded(call)
        last = await anext(stream)
        return [*passing, last], before, await is_recorded(call)

    items, before, after = as_worker(work())

    assert items == [b"", ROLE, HEL, LO, STOP + END]
    assert (before, after) == (False, True)
    row = only_row(house)
    assert (row.status, row.finish_reason, row.charged_nano_usd) == ("ok", "stop", 10 * 1_000 + 2 * 4_000)


def test_frames_that_came_before_the_headers_are_not_lost(house: House) -> None:
    assert relay(house, opened(LO, STOP, END, first=ROLE + HEL)) == [b"", ROLE + HEL, LO, STOP + END]
    assert only_row(house).usage_estimated


@pytest.mark.parametrize("every", [1, 2, 7, 61, 10_000])
def test_wherever_the_provider_cuts_its_bytes_the_caller_gets_the_same(house: House, every: int) -> None:
    whole = b"".join(frames("Hel", "\u2028lo\ud83d\ude00", "wörld"))
    chunks = [whole[start : start + every] for start in range(0, len(whole), every)]

    items = relay(house, opened(*chunks, wants_usage=True))

    assert b"".join(items) == whole
    # However large the last chunk, what tells the whole answer is in the last item alone.
    assert not any(b"finish_reason" in item and b'"stop"' in item for item in items[:-1])
    assert only_row(house).charged_nano_usd == 10 * 1_000 + 2 * 4_000


def test_with_two_choices_the_first_that_ends_is_not_held_back(house: House) -> None:
    first, second = frame({"content": "a"}), frame({"content": "b"}, index=1)
    stops = frame({}, finish="stop"), frame({}, finish="length", index=1)
    items = relay(house, opened(first, stops[0], second, stops[1], USAGE, DONE, n=2))

    assert items == [b"", first, stops[0], second, stops[1] + DONE]
    assert only_row(house).finish_reason == "stop"


def test_a_tool_call_without_any_text_is_output_that_is_charged(house: House) -> None:
    call = frame({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "look", "arguments": ""}}]})
    more = frame({"tool_calls": [{"index": 0, "function": {"arguments": '{"at":"it"}'}}]})
    stop = frame({}, finish="tool_calls")

    assert relay(house, opened(call, more, stop, DONE)) == [b"", call, more, stop + DONE]

    row = only_row(house)
    assert (row.finish_reason, row.usage_estimated, row.output_tokens) == ("tool_calls", True, 4)  # 15 characters, four a token
    assert row.charged_nano_usd > 0


def test_a_stream_that_says_nothing_but_done_is_free(house: House) -> None:
    assert relay(house, opened(DONE)) == [b"", DONE]
    row = only_row(house)
    assert (row.status, row.charged_nano_usd, row.finish_reason) == ("ok", 0, "")


def test_done_is_an_end_where_no_finish_reason_comes(house: House) -> None:
    assert relay(house, opened(HEL, LO, DONE))[-1] == DONE
    row = only_row(house)
    assert (row.status, row.output_tokens) == ("ok", 2)  # "Hello", four characters a token
    assert row.charged_nano_usd > 0


BROKEN = b"data: <html>\n\n"
OVERLOADED = b'data: {"error":{"message":"Busy","type":"overloaded_error"}}\n\n'


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ((HEL,), "provider_error"),
        ((HEL, AttemptFailed("timeout", "It stood still.")), "provider_timeout"),
        ((HEL, AttemptFailed("broken", "It broke off.")), "provider_error"),
        ((HEL, AttemptFailed("overloaded", "Busy.")), "provider_overloaded"),
        ((HEL, RuntimeError("secret")), "internal_error"),
        ((HEL, BROKEN), "provider_error"),
        ((HEL, OVERLOADED, DONE), "provider_overloaded"),
        ((HEL, STOP, OVERLOADED), "provider_overloaded"),
        ((HEL, STOP, AttemptFailed("broken", "It broke off.")), "provider_error"),
    ],
)
def test_a_provider_that_fails_costs_nothing_and_the_caller_is_told(house: House, parts: tuple[Part, ...], code: str) -> None:
    stream = opened(*parts)

    items = relay(house, stream)

    assert items[:2] == [b"", HEL]
    error = error_in(items[-1])
    assert error["gatehouse"]["code"] == code
    assert "secret" not in error["message"]
    assert not any(b"[DONE]" in item or b'"stop"' in item for item in items)
    assert stream.upstream.closed >= 1  # type: ignore[attr-defined]
    row = only_row(house)
    assert (row.status, row.error_code, row.charged_nano_usd, row.list_nano_usd) == ("failed", code, 0, 0)
    assert row.absorbed_nano_usd > 0
    assert error["gatehouse"]["request_id"] == str(row.call_id)


@pytest.mark.parametrize("taken", [0, 1, 2, 3])
def test_a_caller_who_leaves_pays_for_what_was_there_to_read(house: House, taken: int) -> None:
    stream = opened(HEL, LO, frame({"content": "!"}), 20.0)

    async def work() -> None:
        items = streaming.relay(await admitted(house, stream=True), stream, chat_completions)
        for _ in range(taken + 1):
            await anext(items)
        await items.aclose()  # type: ignore[attr-defined]

    as_worker(work())

    assert stream.upstream.closed == 1  # type: ignore[attr-defined]
    row = only_row(house)
    assert (row.status, row.http_status, row.usage_estimated) == ("cancelled", 499, True)
    assert row.output_tokens == -(-len("Hello!"[: (0, 3, 5, 6)[taken]]) // 4)
    assert row.charged_nano_usd == row.input_tokens * 1_000 + row.output_tokens * 4_000


def test_a_caller_who_is_cut_off_while_the_provider_thinks(house: House) -> None:
    stream = opened(HEL, 20.0)

    async def work() -> None:
        got: list[bytes] = []

        async def read() -> None:
            async for item in streaming.relay(await admitted(house, stream=True), stream, chat_completions):
                got.append(item)

        task = asyncio.create_task(read())
        while len(got) < 2:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    as_worker(work())

    assert stream.upstream.closed == 1  # type: ignore[attr-defined]
    assert only_row(house).status == "cancelled"


def test_one_who_leaves_instead_of_reading_the_last_frames_is_not_billed_twice(house: House) -> None:
    """The row is durable before they go out: leaving at that moment changes nothing."""

    async def work() -> None:
        items = streaming.relay(await admitted(house, stream=True), opened(HEL, STOP, USAGE, END), chat_completions)
        for _ in range(3):
            await anext(items)
        await items.aclose()  # type: ignore[attr-defined]

    as_worker(work())

    assert (only_row(house).status, only_row(house).charged_nano_usd) == ("ok", 10 * 1_000 + 2 * 4_000)


def test_a_provider_that_never_ends_is_cut_when_the_time_of_the_call_is_over(house: House) -> None:
    drip: list[Part] = [part for _ in range(500) for part in (frame({"content": "x"}), 0.02)]

    items = relay(house, opened(*drip), total=0.2)

    assert 2 < len(items) < 40
    assert error_in(items[-1])["code"] == "provider_timeout"
    row = only_row(house)
    assert (row.error_code, row.charged_nano_usd) == ("provider_timeout", 0)


def test_the_bound_never_fires_in_a_caller_who_reads_slowly(house: House) -> None:
    """Between two items the time is the caller's own: it is not cancelled there, and hears of the end when it asks."""

    async def work() -> list[bytes]:
        call = bounded(await admitted(house, stream=True), total=0.15)
        items: list[bytes] = []
        async for item in streaming.relay(call, opened(HEL, 0.0, LO, 0.0, STOP, END), chat_completions):
            items.append(item)
            await asyncio.sleep(0.2)
        return items

    items = as_worker(work())

    assert items[:2] == [b"", HEL]
    assert error_in(items[-1])["code"] == "provider_timeout"
    assert only_row(house).status == "failed"


def test_a_worker_without_its_lease_stops_relaying(house: House) -> None:
    async def work() -> list[bytes]:
        items: list[bytes] = []
        async for item in streaming.relay(await admitted(house, stream=True), opened(HEL, LO, STOP, END), chat_completions):
            items.append(item)
            if item == HEL:
                leases.current().renewed_at -= 3600
        leases.current().renewed_at += 3600
        return items

    items = as_worker(work())

    assert items[:2] == [b"", HEL]
    assert LO not in items
    assert error_in(items[-1])["code"] == "guardrails_unavailable"
    assert only_row(house).charged_nano_usd == 0


def test_an_answer_that_was_closed_as_abandoned_meanwhile_is_withheld(house: House) -> None:
    async def work() -> list[bytes]:
        call = await admitted(house, stream=True)
        stream = streaming.relay(call, opened(HEL, STOP, END), chat_completions)
        items = [await anext(stream), await anext(stream)]
        await ledger.current().record(recording.cancelled(call), [])
        assert call.held is not None
        await admission.release(call.held)
        return [*items, *[item async for item in stream]]

    items = as_worker(work())

    assert error_in(items[-1])["code"] == "guardrails_unavailable"
    assert STOP not in b"".join(items)
    assert (only_row(house).status, only_row(house).charged_nano_usd) == ("cancelled", 0)


def test_many_streams_at_once_do_not_mix(house: House) -> None:
    async def one(number: int) -> tuple[int, bytes]:
        parts = frames(*(f"{number}-{word} " for word in range(5)), usage=(100, number))
        items = await relayed(await admitted(house, stream=True), opened(*(p for part in parts for p in (part, 0.001))))
        return number, b"".join(items)

    async def work() -> list[tuple[int, bytes]]:
        return await asyncio.gather(*map(one, range(1, 21)))

    for number, items in as_worker(work()):
        assert all(f'"{number}-{word} "'.encode() in items for word in range(5))
    assert house.held() == {}
    assert sorted(row.output_tokens for row in house.rows()) == list(range(1, 21))
    assert house.counter("org")["spent"] == sum(100 * 1_000 + number * 4_000 for number in range(1, 21))


def test_what_is_told_of_each_error_has_a_code_of_its_own() -> None:
    told = {type(streaming.told(error)).code for error in (TimeoutError(), leases.LeaseLost(), ValueError("x"))}
    assert told == {"provider_timeout", "guardrails_unavailable", "internal_error"}
    failure = AttemptFailed("rate_limited", "Later.", retry_after=7)
    assert (streaming.told(failure).status, streaming.told(failure).retry_after) == (503, 7)
