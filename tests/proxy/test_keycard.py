"""One limit as `GET /v1/key` tells it: moments in whole seconds, as errors tell them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from guardrails.admission import Refused
from guardrails.headroom import Headroom
from proxy import keycard, refusals
from tests.proxy.calls import limit

AT, DAY_MS = 1_795_000_000_000, 86_400_000


def sent(entry: Headroom) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(keycard.figures(entry)))
    return found


@given(st.integers(min_value=AT, max_value=AT + 366 * DAY_MS))
def test_a_window_ends_at_the_same_moment_on_the_card_and_in_an_error(ends_ms: int) -> None:
    budget = limit(ends_ms=ends_ms)
    card = sent(Headroom(budget, 0, 0, datetime.fromtimestamp(ends_ms / 1000, tz=UTC)))
    error = refusals.error_of(Refused(budget, budget.value, 0, AT, 0), refusals.Needs())
    assert card["resets_at"] == (error.detail or {})["resets_at"]


def test_an_exception_that_ends_within_a_second_is_told_by_the_next_one() -> None:
    card = sent(Headroom(limit(ends_ms=AT + DAY_MS, until_ms=AT + 1), 0, 0, None))
    assert (card["changes_at"], card["resets_at"]) == ("2026-11-18T11:06:41Z", None)
