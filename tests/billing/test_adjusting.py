"""A charge that is taken back: whatever was charged, row and adjusting row cancel each other out, and there is one of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import adjusting
from billing.rows import Row
from gateway_project.lib import ids

AMOUNTS = st.integers(-(10**15), 10**15)


def row(**fields: Any) -> Row:
    given_: dict[str, Any] = {
        "call_id": ids.new_call_id(), "admitted_at": datetime.now(UTC), "organization_id": 1, "group0_id": 1, "api_key_id": 4,
        "protocol": "videos", "status": "ok", "http_status": 200,
    }  # fmt: skip
    return Row(**{**given_, **fields})


@given(charged=AMOUNTS, listed=AMOUNTS, baseline=st.none() | AMOUNTS, seconds=st.integers(1, 600), byok=st.booleans())
def test_the_two_cancel_each_other_out(charged: int, listed: int, baseline: int | None, seconds: int, byok: bool) -> None:
    call = row(
        charged_nano_usd=charged, list_nano_usd=listed, baseline_nano_usd=baseline, units={"second": seconds},
        cost_parts={"second": charged}, byok=byok, member_id=3, group1_id=2, feature="chat",
    )  # fmt: skip
    back = adjusting.taken_back(call)
    for name in Row.__struct_fields__:
        was, now = getattr(call, name), getattr(back, name)
        if name.endswith("nano_usd") or name.endswith("tokens"):
            assert (was or 0) + (now or 0) == 0, name
        elif name in ("units", "cost_parts"):
            assert {part: count + now[part] for part, count in was.items()} == dict.fromkeys(was, 0)
    assert (back.own_nano_usd, back.adjusts, back.status) == (-call.own_nano_usd, call.call_id, "adjustment")
    assert (back.member_id, back.group1_id, back.feature, back.byok) == (3, 2, "chat", byok)


@pytest.mark.parametrize(("byok", "absorbed"), [(False, 7), (True, 0)])
def test_what_the_provider_is_paid_all_the_same_is_the_operators(byok: bool, absorbed: int) -> None:
    """Own provider keys are paid by the organisation, whoever is told what."""
    call = row(charged_nano_usd=0 if byok else 5, list_nano_usd=7, absorbed_nano_usd=0 if byok else 2, byok=byok)
    back = adjusting.taken_back(call, absorbed=True)
    assert call.charged_nano_usd + back.charged_nano_usd == call.list_nano_usd + back.list_nano_usd == 0
    assert call.absorbed_nano_usd + back.absorbed_nano_usd == absorbed


@given(milliseconds=st.integers(0, 253_402_300_799_999), low=st.integers(0, 2**62 - 1), high=st.integers(0, 2**12 - 1))
def test_its_id_follows_from_the_calls_and_lies_in_the_same_moment(milliseconds: int, low: int, high: int) -> None:
    call_id = UUID(int=milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)
    found = adjusting.adjusting_id(call_id)
    assert found == adjusting.adjusting_id(call_id) != call_id
    assert (found.int >> 80, found.version, found.variant) == (milliseconds, 7, call_id.variant)


@pytest.mark.parametrize(
    ("fields", "subjects"),
    [
        ({}, ["pool", "org", "k4"]),
        ({"group1_id": 2, "group2_id": 5, "member_id": 3}, ["pool", "org", "g2", "g5", "m3", "k4"]),
        ({"application_id": 9, "group4_id": 8}, ["pool", "org", "g8", "k4", "a9"]),
    ],
)
def test_every_subject_of_a_row_is_named(fields: dict[str, int], subjects: list[str]) -> None:
    assert adjusting.subjects_of(row(**fields)) == subjects


def test_what_is_taken_back_is_written_as_any_other_row() -> None:
    back = adjusting.taken_back(row(charged_nano_usd=5))
    assert msgspec.json.decode(msgspec.json.encode(back), type=Row) == back
