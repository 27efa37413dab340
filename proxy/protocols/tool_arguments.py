"""A tool call's arguments for protocols in which they are an object, not text."""

import msgspec
from msgspec import Raw

from proxy.canonical.conversation import ToolUse
from proxy.protocols import surrogates

_members = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode
EMPTY = Raw(b"{}")
# Under which a model's own text stands that is no object: the caller has shown it what was wrong, and it shall see it.
UNREADABLE = "unreadable_arguments"


def as_object(call: ToolUse) -> Raw:
    """The arguments as they are; what is no JSON object, as one that quotes it."""
    text = call.arguments.strip()
    if not text:
        return EMPTY
    sound = surrogates.sound(_members, text)
    return Raw(_encode({UNREADABLE: call.arguments})) if sound is None else Raw(sound)


def as_text(given: Raw) -> str:
    """Of an object in an answer: compact, `{}` where it is absent or null."""
    text = bytes(given)
    return "{}" if text in (b"", b"null") else msgspec.json.format(text, indent=-1).decode()
