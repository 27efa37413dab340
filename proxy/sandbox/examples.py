"""An example of a JSON schema: what the sandbox calls tools with, and says where structured output is asked for.

Objects have their required members, lists as many as they must. It knows what programs' own types become: references, choices
between types, bounds and formats; a `pattern` it does not heed.
"""

from __future__ import annotations

from typing import Any, TypeGuard

# One that requires itself has no end.
DEEPEST = 24
WORD = "sandbox"
FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "PT1H",
    "email": "sandbox@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}
MOST = 200  # characters or members, whatever a schema demands


def example(schema: Any, *, root: Any = None, depth: int = 0) -> Any:
    """The simplest value of it. What is no schema has any value; whatever nests too deeply ends in null."""
    root = schema if root is None else root
    if not isinstance(schema, dict):
        return WORD
    if depth > DEEPEST:
        return None
    schema = _settled(schema, root)
    if "const" in schema:
        return schema["const"]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    match _type(schema):
        case "object":
            members = _mapping(schema.get("properties"))
            return {name: example(members.get(name, {}), root=root, depth=depth + 1) for name in _names(schema.get("required"))}
        case "array":
            return [example(schema.get("items", {}), root=root, depth=depth + 1) for _ in range(_count(schema.get("minItems")))]
        case "integer" | "number" as kind:
            return _number(schema, whole=kind == "integer")
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _text(schema)


def _settled(schema: dict[str, Any], root: Any) -> dict[str, Any]:
    """With what it refers to or chooses between in its place, one of them."""
    for _ in range(DEEPEST):
        if isinstance(reference := schema.get("$ref"), str):
            schema = _mapping(_found(root, reference))
        elif isinstance(options := next((schema[word] for word in ("anyOf", "oneOf", "allOf") if word in schema), None), list):
            given = {name: value for name, value in schema.items() if name not in ("anyOf", "oneOf", "allOf")}
            schema = {**given, **next((one for one in options if isinstance(one, dict) and one.get("type") != "null"), {})}
        else:
            break
    return schema


def _found(root: Any, reference: str) -> Any:
    """RFC 6901, within the document: "#/$defs/Address"."""
    found = root
    for name in reference.removeprefix("#").strip("/").split("/") if reference != "#" else ():
        found = _mapping(found).get(name.replace("~1", "/").replace("~0", "~"))
    return found


def _type(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    return kind if isinstance(kind, str) else "object" if "properties" in schema or not schema else "string"


def _number(schema: dict[str, Any], *, whole: bool) -> int | float:
    step = 1 if whole else 0.5
    low, high = _bound(schema, "inimum", step), _bound(schema, "aximum", -step)
    found = 1 if low is None else max(1, low)
    return found if high is None else min(found, high)


def _bound(schema: dict[str, Any], word: str, step: float) -> int | float | None:
    beside, itself = schema.get(f"exclusiveM{word}"), schema.get(f"m{word}")
    if _is_number(beside):
        return beside + step
    return itself if _is_number(itself) else None


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(schema: dict[str, Any]) -> str:
    text = FORMATS.get(str(schema.get("format")), WORD)
    while len(text) < _count(schema.get("minLength")):
        text += WORD
    longest = schema.get("maxLength")
    return text[:longest] if isinstance(longest, int) and longest >= 0 else text


def _count(value: Any) -> int:
    return min(max(value, 0), MOST) if isinstance(value, int) else 0


def _names(value: Any) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
