"""Lone surrogate halves in JSON text: `"\\ud83d"` without its partner, cut from an emoji by a JavaScript client.

JSON allows the escape, msgspec refuses it, and a gateway must not fail a call for it. So the bytes that
pass through stay as they are, and what is read is a copy in which the halves are replaced: between two protocols a
half is told as U+FFFD, in requests and answers, whole and streamed.
"""

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

T = TypeVar("T")

_SUSPECT = re.compile(rb"\\u[dD][89a-fA-F]")
# Whole pairs, lone halves, and escaped backslashes, after which a `u` begins no escape. Other escapes need no look.
_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([dD][89a-fA-F][0-9a-fA-F]{2})|\\)")


def suspected(json: bytes) -> bool:
    """Cheap: whether any surrogate escape occurs, paired or not."""
    return _SUSPECT.search(json) is not None


def replace_halves(json: bytes, replacement: Callable[[bytes], bytes]) -> bytes:
    """`replacement` gets the four hexadecimal digits of each lone half."""
    return _ESCAPE.sub(lambda found: replacement(found[1]) if found[1] else found[0], json)


def readable(json: bytes) -> bytes:
    """The same JSON with each lone half replaced by U+FFFD: for reading only, never for passing on."""
    return replace_halves(json, lambda _: rb"\ufffd") if suspected(json) else json


def decoded(decode: Callable[[bytes], T], json: bytes) -> T:
    """What a decoder makes of it, halves replaced where there are any. Raises like the decoder."""
    try:
        return decode(json)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        return decode(readable(json))


def sound(decode: Callable[[bytes], object], text: str) -> bytes | None:
    """JSON text that is what a decoder reads, halves replaced where there are any; None for what is not."""
    json = text.encode()
    try:
        decode(json)
    except (msgspec.DecodeError, RecursionError):
        mended = readable(json)
        return None if mended == json else sound(decode, mended.decode())
    return json
