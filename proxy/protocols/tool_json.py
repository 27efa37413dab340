"""A tool call's arguments: JSON text with some protocols, an object with others."""

import msgspec
from msgspec import Raw

_members = msgspec.json.Decoder(dict[str, Raw]).decode
EMPTY = Raw(b"{}")


def as_object(arguments: str) -> Raw:
    """The same bytes, where they are a JSON object. What a model wrote wrongly is not lost: it becomes a member of one."""
    if not arguments.strip():
        return EMPTY
    try:
        _members(arguments)
    except (msgspec.DecodeError, RecursionError):
        return Raw(msgspec.json.encode({"raw_arguments": arguments}))
    return Raw(arguments.encode())


def is_complete(arguments: str) -> bool:
    """Whether nothing can follow."""
    try:
        _members(arguments)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
