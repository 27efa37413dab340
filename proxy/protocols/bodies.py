"""Callers' JSON bodies: what the gateway reads is typed, every top-level member is also kept as raw JSON.

Guarantees: what is kept is what the caller wrote, byte for byte, lone surrogate halves included; of a member given
twice the last counts; a body that is no such JSON is a BadRequest that names the member.
"""

import re
import secrets
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Raw

from proxy.errors import BadRequest
from proxy.protocols import surrogates

T = TypeVar("T")
_read_members = msgspec.json.Decoder(dict[str, Raw]).decode
NULL = Raw(b"null")


class BodyReader(Generic[T]):
    """`used` names the members whose text the gateway itself uses: those must be sound Unicode."""

    def __init__(self, type: type[T], *, used: tuple[str, ...] = ("model", "user")) -> None:
        self._decode = msgspec.json.Decoder(type).decode
        self._used = used

    def read(self, body: bytes) -> tuple[T, dict[str, Raw]]:
        """Raises BadRequest, with the path of the offending member as `param`."""
        try:
            if not body.isascii():
                body.decode()
            return self._decode(body), _read_members(body)
        except msgspec.ValidationError as error:
            raise wrong_type(error) from error
        except msgspec.DecodeError as error:
            if surrogates.suspected(body):
                return self._read_with_surrogates(body)
            raise BadRequest(f"The request body is not valid JSON: {error}.") from error
        except UnicodeDecodeError as error:
            raise BadRequest("The request body is not valid UTF-8.") from error
        except RecursionError as error:
            raise BadRequest("The request body is nested too deeply.") from error

    def _read_with_surrogates(self, body: bytes) -> tuple[T, dict[str, Raw]]:
        """Members hide lone halves behind a random mark while msgspec reads, and get them back as they were; what is read
        has U+FFFD in their place."""
        mark = secrets.token_hex(8).encode()
        hidden = surrogates.replace_halves(body, lambda half: mark + half + b"~")
        if hidden == body:
            raise BadRequest("The request body is not valid JSON.")
        read, _ = self.read(surrogates.readable(body))
        _, fields = self.read(hidden)
        used = [bytes(fields[name]) for name in self._used if name in fields]
        if any(mark.decode() in name for name in fields) or any(mark in raw for raw in used):
            raise BadRequest("A name in the request is not valid Unicode.")
        shown = re.compile(mark + rb"([dD][0-9a-fA-F]{3})~")
        return read, {name: Raw(shown.sub(rb"\\u\1", bytes(raw))) for name, raw in fields.items()}


def decoded(raw: Raw | None) -> Any:
    """A member as its meaning, lone surrogate halves replaced; None where it is absent."""
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(surrogates.readable(bytes(raw)))


def wrong_type(error: msgspec.ValidationError, *, within: str = "") -> BadRequest:
    """`within`: the path of the member that was read by itself."""
    sentence, _, path = str(error).partition(" - at `$")
    param = (within + path.rstrip("`")).lstrip(".") or None
    return BadRequest(f"{param or 'The request body'}: {sentence}.", param=param)
