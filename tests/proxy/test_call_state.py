"""A call before its stages have filled it in, and its clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from proxy.call import Call
from tests.proxy.calls import caller, held, planned_call


def test_what_a_stage_has_not_filled_in_cannot_be_read() -> None:
    call = Call("chat_completions", caller())
    with pytest.raises(RuntimeError, match="not been read"):
        _ = call.asked
    with pytest.raises(RuntimeError, match="not been planned"):
        _ = call.planned
    assert (call.first_token_ms(), call.clamped, call.attempts) == (None, False, [])


def test_its_beginning_stands_in_its_id() -> None:
    call = Call("chat_completions", caller())
    assert abs(datetime.now(UTC) - call.began_at) < timedelta(seconds=2)
    assert call.began_at.tzinfo is UTC


def test_each_call_has_an_id_and_attempts_of_its_own() -> None:
    one, other = Call("chat_completions", caller()), Call("chat_completions", caller())
    assert one.id != other.id
    assert one.attempts is not other.attempts


def test_durations_are_whole_milliseconds_from_its_start() -> None:
    call = planned_call()
    call.started -= 1.5
    call.first_token = call.started + 0.2504
    assert 1500 <= call.elapsed_ms() < 3000
    assert call.first_token_ms() == 250
    assert call.elapsed_ms(call.started + 1.0) >= 500


@pytest.mark.parametrize("clamped", [True, False])
def test_it_is_clamped_as_its_hold_is(clamped: bool) -> None:
    call = planned_call()
    call.held = held(clamped=clamped)
    assert call.clamped is clamped
