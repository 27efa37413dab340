"""Lone surrogate halves in JSON text: `"\\ud83d"` without its partner, cut from an emoji by a JavaScript client.

JSON allows the escape, msgspec refuses it, and a gateway must not fail a call for it. So the bytes that
pass through stay as they are, and what is read is a copy in which the halves are replaced.
"""

import re
from collections.abc import Callable

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
