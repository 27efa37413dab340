"""Whole answers of providers, read as what they ought to be."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from proxy.protocols.base import BrokenReply

T = TypeVar("T")


def read(decode: Callable[[bytes], T], body: bytes, *, expected: str) -> T:
    """`expected` says what it is not, where it is something else. Raises BrokenReply."""
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenReply("broken", f"The provider's answer is no {expected}.") from error
