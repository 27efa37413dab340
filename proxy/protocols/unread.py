"""Members inside a request (of messages, parts, tools, settings) that a codec does not read: found, and named.

A codec's types forbid members that they do not have, which costs nothing where there are none. Only a request that has some
is looked through member by member: these are taken out, and all else stays byte for byte as it was. Names are paths without
indexes, such as `messages.content.caption`, each once. What is null asks for nothing.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Generic, TypeVar, get_args

import msgspec
from msgspec import Raw, Struct

from proxy.errors import BadRequest
from proxy.protocols.bodies import NULL

T = TypeVar("T")
# Lists and objects in each other: twice as many as any request has. Each level is read anew.
MOST_NESTED = 24
# What msgspec says of a member that a type forbids.
_FORBIDDEN = "Object contains unknown field"
_items = msgspec.json.Decoder(list[Raw]).decode
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_write = msgspec.json.Encoder().encode


class Known(Generic[T]):
    """Reads what a type says, and tells what it does not. `within`: the path of what is read."""

    def __init__(self, known: Any, *, within: str = "") -> None:
        self._decode: Any = msgspec.json.Decoder(known).decode
        self._type = _struct_of(known)
        self._within = within

    def read(self, json: bytes) -> tuple[T, tuple[str, ...]]:
        """Raises like msgspec, and BadRequest."""
        try:
            return self._decode(json), ()
        except msgspec.ValidationError as error:
            if not str(error).startswith(_FORBIDDEN):
                raise
        found: dict[str, None] = {}
        try:
            known = _known(Raw(json), self._type, self._within, found)
        except RecursionError as error:
            raise BadRequest("The request body is nested too deeply.") from error
        return self._decode(known), tuple(found)


def _known(raw: Raw, struct: Any, path: str, found: dict[str, None], depth: int = 0) -> Raw:
    """Without the members that the type does not have, at any depth; those are `found`. Raises BadRequest."""
    if depth > MOST_NESTED:
        raise BadRequest("The request body is nested too deeply.")
    first = bytes(raw).lstrip()[:1]
    if first == b"[":
        return Raw(_write([_known(item, struct, path, found, depth + 1) for item in _items(raw)]))
    if first != b"{":
        return raw
    types, kept = _types(struct), {}
    for name, value in _members(raw).items():
        inner = f"{path}.{name}" if path else name
        if name not in types:
            if value != NULL:
                found[inner] = None
        else:
            kept[name] = value if types[name] is None else _known(value, types[name], inner, found, depth + 1)
    return Raw(_write(kept))


@cache
def _types(struct: Any) -> dict[str, Any]:
    """The members of a type; of each the type of the objects in it, None where it is no type of ours."""
    return {field.encode_name: _struct_of(field.type) for field in msgspec.structs.fields(struct)}


def _struct_of(annotation: Any) -> Any:
    """The one type of ours in an annotation: msgspec takes no union of two. None where it has none."""
    if isinstance(annotation, type) and issubclass(annotation, Struct):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _struct_of(inner)) is not None), None)
