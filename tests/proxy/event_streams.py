"""Amazon's binary event streams, written by hand: length, length of the headers, checksum, headers, payload, checksum."""

import json
import struct
from binascii import crc32
from typing import Any


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """Headers of type 7 (text)."""
    written = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack("!H", len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(written) + len(payload), len(written))
    body = prelude + struct.pack("!I", crc32(prelude)) + written + payload
    return body + struct.pack("!I", crc32(body))


def event(name: str, payload: Any) -> bytes:
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, json.dumps(payload, ensure_ascii=False).encode())


def events(*told: tuple[str, Any]) -> bytes:
    return b"".join(event(name, payload) for name, payload in told)


def exception(name: str, message: str) -> bytes:
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, json.dumps({"message": message}).encode())
