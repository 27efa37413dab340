"""A tool call's arguments: JSON text with some protocols, an object with others."""

import msgspec
from msgspec import Raw

from proxy.protocols import surrogates

_members = msgspec.json.Decoder(dict[str, Raw]).decode
EMPTY = Raw(b"{}")


def as_object(arguments: str) -> Raw:
    """The same bytes, where they are a JSON object. What a model wrote wrongly is not lost: it becomes a member of one."""
    if not arguments.strip():
        return EMPTY
    sound = surrogates.sound(_members, arguments)
    return Raw(msgspec.json.encode({"raw_arguments": arguments})) if sound is None else Raw(sound)


def is_complete(arguments: str) -> bool:
    """Whether nothing can follow."""
    return surrogates.sound(_members, arguments) is not None
