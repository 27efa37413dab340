"""Identifiers. A call's id is a UUIDv7 (RFC 9562, section 5.7): its first 48 bits are the Unix time in milliseconds.

So ids sort by time, the ledger is partitioned by them, and one id can live in one partition only.
"""

import secrets
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62


def new_call_id() -> UUID:
    milliseconds = time.time_ns() // 1_000_000
    return _uuid7(milliseconds, secrets.randbits(74))


def call_id_at(moment: datetime, *, random_bits: int) -> UUID:
    """The id of a call admitted at a moment of the past (aware datetime). `random_bits`: 74 of them."""
    return _uuid7(_milliseconds(moment), random_bits)


def first_id_at(moment: datetime) -> UUID:
    """The smallest id of a moment (aware datetime): a bound for "calls since" queries and partitions."""
    return _uuid7(_milliseconds(moment), 0)


def time_of(call_id: UUID) -> datetime:
    return _EPOCH + timedelta(milliseconds=call_id.int >> 80)


def _milliseconds(moment: datetime) -> int:
    """In integers: `timestamp() * 1000` is a float, and falls one short now and then."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _uuid7(milliseconds: int, random_bits: int) -> UUID:
    high, low = random_bits >> 62, random_bits & ((1 << 62) - 1)
    return UUID(int=milliseconds << 80 | _VERSION_7 | high << 64 | _VARIANT | low)
