"""Undoing the compression of an answer, piece by piece (RFC 9110, section 8.4.1). Pure.

A broken end is no error here: whether an answer is complete its protocol tells.
"""

from __future__ import annotations

import zlib
from typing import Protocol

# How a member of gzip begins.
MAGIC = b"\x1f\x8b"


class Unpacking(Protocol):
    def feed(self, data: bytes) -> bytes:
        """What the next piece stands for, all of it. Raises zlib.error."""
        ...


def unpacking_of(coding: str) -> Unpacking:
    """`coding`: deflate, gzip, or gzip's older name x-gzip."""
    return _Deflate() if coding == "deflate" else _Gzip()


class _Gzip:
    """One member after the other (RFC 1952, section 2.2), as whoever compresses in parts sends them. Zeros may lie between, and
    what follows without being a member is nobody's: other clients forgive it, too.
    """

    def __init__(self) -> None:
        self._member = _member()
        self._next = b""  # the first byte of a member, maybe
        self._is_over = False

    def feed(self, data: bytes) -> bytes:
        parts = []
        while data and not self._is_over:
            if self._member.eof and not (data := self._begin(data)):
                break
            parts.append(self._member.decompress(data))
            data = self._member.unused_data
        return b"".join(parts)

    def _begin(self, data: bytes) -> bytes:
        """What of it belongs to another member, which is begun; nothing where that cannot be told yet."""
        data = (self._next + data).lstrip(b"\0")
        self._next = data if data == MAGIC[:1] else b""
        if data.startswith(MAGIC):
            self._member = _member()
            return data
        self._is_over = not MAGIC.startswith(data)
        return b""


class _Deflate:
    """In zlib's format, as the name means, or bare, as some understood it: the first two bytes tell."""

    def __init__(self) -> None:
        self._begun = b""
        self._stream: zlib._Decompress | None = None

    def feed(self, data: bytes) -> bytes:
        if self._stream is None:
            self._begun += data
            if len(self._begun) < 2:
                return b""
            data, is_zlib = self._begun, self._begun[0] & 0x0F == 8 and int.from_bytes(self._begun[:2]) % 31 == 0
            self._stream = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        return self._stream.decompress(data)


def _member() -> zlib._Decompress:
    return zlib.decompressobj(zlib.MAX_WBITS | 16)
