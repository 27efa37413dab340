"""A tool call's arguments: JSON text with some protocols, an object with others."""

import msgspec
from msgspec import Raw

from proxy.protocols import surrogates

_members = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode
EMPTY = Raw(b"{}")
# Under which a model's own text stands that is no object: the caller has shown it what was wrong, and it shall see it.
UNREADABLE = "unreadable_arguments"


def as_object(arguments: str) -> Raw:
    """The same bytes, where they are a JSON object. What is none is not lost: it becomes a member of one."""
    text = arguments.strip()
    if not text:
        return EMPTY
    sound = surrogates.sound(_members, text)
    return Raw(_encode({UNREADABLE: arguments})) if sound is None else Raw(sound)


def is_complete(arguments: str) -> bool:
    """Whether nothing can follow."""
    return surrogates.sound(_members, arguments) is not None


def as_text(given: Raw) -> str:
    """Of an object in an answer: compact, `{}` where it is absent or null."""
    text = bytes(given)
    return "{}" if text in (b"", b"null") else msgspec.json.format(text, indent=-1).decode()
