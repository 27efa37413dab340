"""Undoing the compression of an answer, piece by piece (RFC 9110, section 8.4.1). Pure.

A broken end is no error here: whether an answer is complete its protocol tells.
"""

from __future__ import annotations

import zlib
from typing import Protocol


class Unpacking(Protocol):
    def feed(self, data: bytes) -> bytes:
        """What the next piece stands for, all of it. Raises zlib.error."""
        ...


def unpacking_of(coding: str) -> Unpacking:
    """`coding`: deflate, gzip, or gzip's older name x-gzip."""
    return _Deflate() if coding == "deflate" else _Gzip()


class _Gzip:
    """One member after the other (RFC 1952, section 2.2), as whoever compresses in parts sends them. Zeros may lie between."""

    def __init__(self) -> None:
        self._member = _member()

    def feed(self, data: bytes) -> bytes:
        parts = []
        while data:
            if self._member.eof:
                data = data.lstrip(b"\0")
                self._member = _member()
            parts.append(self._member.decompress(data))
            data = self._member.unused_data
        return b"".join(parts)


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
