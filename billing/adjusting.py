"""A charge that is taken back: one row more, which cancels what the call's own row charged.

Its id follows from the call's, so however often and by however many it is taken back, one row stands for it. It is booked when
it is recorded: a window or a month that is over keeps what it had.
"""

from __future__ import annotations

import hashlib
from uuid import UUID

import msgspec

from billing import replaying
from billing.ledger import RowRefused
from billing.rows import Recorded, Row
from gateway_project.lib import database, ids

ADJUSTMENT = "adjustment"
_COLUMNS = ", ".join(Row.__struct_fields__)
_ROW_SQL = f"SELECT {_COLUMNS} FROM billing_usagerecord WHERE call_id = %s"  # noqa: S608 - names of our own


async def row_of(call_id: UUID) -> Row | None:
    """What stands in the ledger under a call id. Raises DatabaseUnavailable."""
    found = await database.rows(_ROW_SQL, (call_id,))
    return msgspec.convert(found[0], Row) if found else None


def taken_back(row: Row, *, absorbed: bool = False) -> Row:
    """The row that cancels this one: who, what and where are the same, amounts and units are negative. It is recorded no
    earlier than this one: where the call's row is dated by a clock ahead of the database's, the window that holds it is left.

    `absorbed`: its provider is paid all the same, so what it costs by the list is the operator's now.
    """
    back = Row(
        call_id=adjusting_id(row.call_id),
        adjusts=row.call_id,
        status=ADJUSTMENT,
        http_status=200,
        **{name: getattr(row, name) for name in _ALIKE},
        **{name: -getattr(row, name) for name in _NEGATED},
        units={unit: -count for unit, count in row.units.items()},
        cost_parts={part: -cost for part, cost in row.cost_parts.items()},
        baseline_nano_usd=None if row.baseline_nano_usd is None else -row.baseline_nano_usd,
        # By this, what routing saved is told apart: it comes off where it was counted.
        decision={name: row.decision[name] for name in ("auto",) if name in row.decision},
    )
    if absorbed and not row.byok:
        back.absorbed_nano_usd += row.list_nano_usd
    return back


async def take_back(row: Row, *, absorbed: bool = False) -> Recorded:
    """Books it, unless it has been → the booking that stands. Raises RowRefused, DatabaseUnavailable."""
    adjusting = taken_back(row, absorbed=absorbed)
    standing = (await replaying.write([(adjusting, [])])).get(adjusting.call_id)
    if standing is None:
        raise RowRefused("the ledger takes no row for this adjustment")
    return standing.recorded


def adjusting_id(call_id: UUID) -> UUID:
    """Of the same moment, so it lies in the same partition."""
    digest = hashlib.blake2b(b"adjusts" + call_id.bytes, digest_size=10).digest()
    return ids.call_id_at(ids.time_of(call_id), random_bits=int.from_bytes(digest) >> 6)


def subjects_of(row: Row) -> list[str]:
    """Under which what the row charges is counted (billing/buckets.py)."""
    groups = (row.group1_id, row.group2_id, row.group3_id, row.group4_id)
    own = [("m", row.member_id), ("k", row.api_key_id), ("a", row.application_id)]
    named = [("g", group) for group in groups] + own
    return ["pool", "org", *(f"{letter}{number}" for letter, number in named if number is not None)]


_ALIKE = (
    "admitted_at", "recorded_at", "organization_id", "group0_id", "group1_id", "group2_id", "group3_id", "group4_id",
    "member_id", "api_key_id", "application_id", "feature", "environment", "protocol", "requested_model", "served_model",
    "provider", "deployment_id", "preset", "price_version_id", "unit_prices", "byok",
)  # fmt: skip
_NEGATED = (
    "input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens",
    "reasoning_tokens", "charged_nano_usd", "list_nano_usd", "absorbed_nano_usd", "cache_saving_nano_usd",
)  # fmt: skip
