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
from proxy.protocols.counts import MOST_ASKED

T = TypeVar("T")
_read_members = msgspec.json.Decoder(dict[str, Raw]).decode
NULL = Raw(b"null")
# Read as if they could be null, so that their absence is told in a sentence of its own.
NEEDED = ("model", "messages", "input", "prompt")
# What msgspec calls types, as JSON does; "object" and "null" it calls so itself.
_WORDS = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "array": "list"}
_TYPES = re.compile("`([^`]*)`")
# How gzip and zstd begin.
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
_COMPLAINTS = {"Input data was truncated": "it ends in the middle"}


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
            raise BadRequest(no_json(body, error)) from error
        except UnicodeDecodeError as error:
            wrong = "compressed: it is taken as plain JSON only" if body.startswith(_COMPRESSED) else "not valid UTF-8"
            raise BadRequest(f"The request body is {wrong}.") from error
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


def bound(read: msgspec.Struct, fields: dict[str, Raw], *names: str) -> None:
    """Members that say how long an answer may be: what is beyond any answer is taken, and sent, as the most that is asked for."""
    for name in names:
        if (getattr(read, name) or 0) > MOST_ASKED:
            setattr(read, name, MOST_ASKED)
            fields[name] = Raw(b"%d" % MOST_ASKED)


def no_json(body: bytes, error: msgspec.DecodeError) -> str:
    if not body.strip():
        return "The request body is empty: JSON is expected."
    return f"The request body is not valid JSON: {_COMPLAINTS.get(str(error), str(error).removeprefix('JSON is malformed: '))}."


def wrong_type(error: msgspec.ValidationError, *, within: str = "") -> BadRequest:
    """`within`: the path of the member that was read by itself."""
    sentence, _, path = str(error).partition(" - at `$")
    param = (within + path.rstrip("`")).lstrip(".") or None
    if sentence.startswith("Expected "):
        sentence = _TYPES.sub(lambda types: _in_words(types[1], may_be_null=param not in NEEDED), sentence)
    return BadRequest(f"{param or 'The request body'}: {sentence}.", param=param)


def _in_words(types: str, *, may_be_null: bool) -> str:
    """ "str | array | null" → "string or list"."""
    named = types.split(" | ")
    kept = named if may_be_null or len(named) == 1 else [name for name in named if name != "null"]
    return " or ".join(_WORDS.get(name, name) for name in kept)
