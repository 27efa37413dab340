"""JSON schemas as Anthropic and Amazon Bedrock enforce them, which is less than JSON Schema can say: all else is a 400 there.

A keyword that is not enforced (`minimum`, `maxLength`, `pattern`) is told in the description, as Anthropic's own SDKs do,
and an object that does not say what else it may hold is closed. What would become another question is not narrowed: objects
of any other members, values of any type, schemas that hold themselves.
Source: https://platform.claude.com/docs/en/build-with-claude/structured-outputs,
https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html
"""

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

import msgspec
from msgspec import Raw

_KEPT = frozenset({"type", "title", "description", "required", "enum", "const", "default"})
# `additionalProperties` is always false in the end.
_NOTES = frozenset({"additionalProperties", "$schema", "$id", "$comment", "examples"})
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
# Beside a reference they narrow what it points at; other words say something of it. A type it has itself.
_NARROWING = frozenset({"properties", "required", "items", "enum", "const", "anyOf", "oneOf", "allOf"})
# To close an object that says it is open would ask for another one.
_MEMBERS = frozenset({"properties", "additionalProperties"})
_OTHER_MEMBERS = ("additionalProperties", "unevaluatedProperties")
_DEFINITIONS = ("$defs", "definitions")
_SAYS = ("type", "enum", "const", "anyOf", "allOf", "$ref")
_read = msgspec.json.Decoder().decode
_write = msgspec.json.Encoder().encode
# A schema is read while every other call waits, and no provider compiles one as large.
MAX_BYTES = 64 * 1024
MAX_DEFINITIONS = 500
Schema = dict[str, Any]


class _TooWide(Exception):
    """It cannot be enforced."""


def narrowed(schema: Raw | None) -> Raw | None:
    """The same bytes where nothing has to change; None where it cannot be enforced."""
    if schema is None or len(memoryview(schema)) > MAX_BYTES:
        return None
    try:
        given = _read(schema)
        told = _narrow(given)
        _check_references(told)
    except (_TooWide, CycleError, TypeError, msgspec.DecodeError, RecursionError):  # or is no schema
        return None
    return schema if told == given else Raw(_write(told))


def _narrow(given: Any) -> Schema:
    if not isinstance(given, dict):
        raise _TooWide
    if "$ref" in given:
        return _reference(given)
    match given:
        case {"allOf": [{"$ref": str(to), **beside}]} if not beside:
            return _reference({name: value for name, value in given.items() if name != "allOf"} | {"$ref": to})
    kept: Schema = {}
    rest: Schema = {}
    for name, value in given.items():
        enforced = _enforced(name, value)
        kept |= enforced
        if not enforced and name not in _NOTES:
            rest[name] = value
    _check(given, kept)
    if _is_object(kept):
        kept["additionalProperties"] = False
    if rest:
        told = _write(rest).decode()
        kept["description"] = f"{kept['description']}\n\n{told}" if kept.get("description") else told
    return kept


def _reference(given: Schema) -> Schema:
    """Nothing may stand beside it but, at the root, what it points at: what is said of it goes around it. Raises _TooWide."""
    if given.keys() & _NARROWING:
        raise _TooWide
    definitions = {name: _each(given[name]) for name in _DEFINITIONS if name in given}
    words = {name: value for name, value in given.items() if name not in ("$ref", "type", *_DEFINITIONS, *_NOTES)}
    if definitions or not words:
        return {"$ref": given["$ref"]} | definitions
    return _narrow({"anyOf": [{"$ref": given["$ref"]}], **words})


def _enforced(name: str, value: Any) -> Schema:
    """A keyword as it is enforced; empty where it is not."""
    match name:
        case "properties" | "$defs" | "definitions":
            return {name: _each(value)}
        case "items":
            return {name: _narrow(value)}
        case "anyOf" | "oneOf":
            return {"anyOf": [_narrow(one) for one in value]}
        case "allOf":
            return {name: [_narrow(one) for one in value]}
        case "minItems":
            return {name: value} if value in (0, 1) else {}
        case "format":
            return {name: value} if value in _FORMATS else {}
    return {name: value} if name in _KEPT else {}


def _each(given: Any) -> Schema:
    if not isinstance(given, dict):
        raise _TooWide
    return {name: _narrow(value) for name, value in given.items()}


def _is_object(schema: Schema) -> bool:
    return schema.get("type") == "object" or (isinstance(schema.get("type"), list) and "object" in schema["type"])


def _check(given: Schema, kept: Schema) -> None:
    """Raises _TooWide."""
    is_open = any(given.get(name, False) is not False for name in _OTHER_MEMBERS) or not given.keys() & _MEMBERS
    if not any(name in kept for name in _SAYS) or (_is_object(kept) and is_open) or "patternProperties" in given:
        raise _TooWide
    if ("anyOf" in given and "oneOf" in given) or not _agree(kept):
        raise _TooWide
    if any(isinstance(value, dict | list) for value in (*kept.get("enum", ()), kept.get("const"))):
        raise _TooWide


def _agree(kept: Schema) -> bool:
    """Whether what is said together can be met together: objects closed one by one admit no member of each other's."""
    branches = kept.get("allOf", ())
    if any("$ref" in one for one in branches) or _is_object(kept) + ("anyOf" in kept) + ("allOf" in kept) > 1:
        return False
    return len(branches) < 2 or not any(_is_object(one) or "anyOf" in one or "allOf" in one for one in branches)


def _check_references(schema: Schema) -> None:
    """Raises _TooWide or CycleError unless each leads to a definition of this schema, and none back to where it stands."""
    defined = {f"#/{kind}/{name}": value for kind in _DEFINITIONS for name, value in schema.get(kind, {}).items()}
    if len(defined) > MAX_DEFINITIONS or not defined.keys() >= set(_references(schema)):
        raise _TooWide
    TopologicalSorter({name: set(_references(value)) for name, value in defined.items()}).prepare()


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
