"""What of a JSON schema Anthropic and Amazon Bedrock enforce; the rest is told, what would be another question is not."""

from __future__ import annotations

import json
from typing import Any

import pydantic
import pytest
from anthropic import transform_schema
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from proxy.protocols.narrow_schemas import MAX_BYTES, MAX_DEFINITIONS, narrowed

STRING = {"type": "string"}
CLOSED = {"type": "object", "properties": {"a": STRING}, "required": ["a"], "additionalProperties": False}


def told(schema: Any) -> Any:
    raw = narrowed(Raw(json.dumps(schema).encode()))
    return None if raw is None else json.loads(bytes(raw))


def within(schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": schema}, "additionalProperties": False}


@pytest.mark.parametrize(
    "schema",
    [
        CLOSED,
        within({"type": ["string", "null"], "description": "d", "default": None}),
        within({"type": "array", "items": {"enum": [1, "a", None]}, "minItems": 1}),
        within({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}),
        {"$ref": "#/$defs/A", "$defs": {"A": within({"$ref": "#/$defs/B"}), "B": {"const": "b"}}},
    ],
)
def test_what_is_enforced_keeps_its_bytes(schema: Any) -> None:
    raw = Raw(json.dumps(schema, indent=1).encode())
    assert narrowed(raw) == raw


@pytest.mark.parametrize(
    ("schema", "enforced"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 5}, {"type": "integer", "description": '{"minimum":1,"maximum":5}'}),
        (
            {"type": "string", "description": "A code.", "pattern": "^[A-Z]+$"},
            {"type": "string", "description": 'A code.\n\n{"pattern":"^[A-Z]+$"}'},
        ),
        ({"type": "string", "format": "phone"}, {"type": "string", "description": '{"format":"phone"}'}),
        ({"type": "array", "items": STRING, "minItems": 2}, {"type": "array", "items": STRING, "description": '{"minItems":2}'}),
        ({"oneOf": [STRING, {"type": "null"}]}, {"anyOf": [STRING, {"type": "null"}]}),
        ({"type": "object", "properties": {"a": STRING}}, {**within(STRING), "properties": {"a": STRING}}),
        ({"type": "object", "properties": {}}, {**within(STRING), "properties": {}}),
        ({"type": ["object", "null"], "properties": {}}, {**within(STRING), "type": ["object", "null"], "properties": {}}),
    ],
)
def test_what_is_not_enforced_is_told_and_objects_are_closed(schema: Any, enforced: Any) -> None:
    assert told(schema) == enforced
    assert told(within(schema)) == within(enforced)
    assert told({"$schema": "x", **schema}) == enforced


REFERENCE = {"$ref": "#/$defs/A"}


@pytest.mark.parametrize(
    ("beside", "enforced"),
    [
        ({}, REFERENCE),
        ({"type": "object", "$comment": "x"}, REFERENCE),
        ({"description": "An a."}, {"anyOf": [REFERENCE], "description": "An a."}),
        ({"title": "A", "default": None}, {"anyOf": [REFERENCE], "title": "A", "default": None}),
        ({"description": "An a.", "maxItems": 3}, {"anyOf": [REFERENCE], "description": 'An a.\n\n{"maxItems":3}'}),
    ],
)
def test_a_reference_stands_alone_and_what_is_said_of_it_around_it(beside: Any, enforced: Any) -> None:
    definitions = {"$defs": {"A": CLOSED}}
    once = told({**within({**REFERENCE, **beside}), **definitions})
    assert once == {**within(enforced), **definitions}
    assert told(once) == once
    assert told({**REFERENCE, **beside, **definitions}) == {**REFERENCE, **definitions}


def test_a_field_of_pydantic_s_keeps_its_description() -> None:
    class Home(pydantic.BaseModel):
        street: Street = pydantic.Field(description="Where one lives.")

    assert told(Home.model_json_schema())["properties"]["street"] == {
        "anyOf": [{"$ref": "#/$defs/Street"}],
        "description": "Where one lives.",
    }


def test_what_is_no_object_may_be_joined() -> None:
    schema = within({"allOf": [STRING, {"enum": ["a", "b"]}]})
    assert told(schema) == schema
    assert told({"allOf": [CLOSED]}) == {"allOf": [CLOSED]}


@pytest.mark.parametrize(
    ("beside", "enforced"),
    [
        ({}, REFERENCE),
        ({"title": "A", "default": None}, {"anyOf": [REFERENCE], "title": "A", "default": None}),
        ({"description": "An a."}, {"anyOf": [REFERENCE], "description": "An a."}),
    ],
)
def test_a_reference_that_alone_is_joined_is_that_reference(beside: Any, enforced: Any) -> None:
    """So pydantic up to 2.8 and many generators of OpenAPI wrote a reference of which something is said."""
    schema = {**within({"allOf": [REFERENCE], **beside}), "$defs": {"A": CLOSED}}
    assert told(schema) == {**within(enforced), "$defs": {"A": CLOSED}}
    assert told({"allOf": [REFERENCE], **beside, "$defs": {"A": CLOSED}}) == {**REFERENCE, "$defs": {"A": CLOSED}}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        [],
        {"description": "anything"},
        {"type": "object"},
        {"type": "object", "additionalProperties": STRING},
        {"type": "object", "properties": {"a": STRING}, "additionalProperties": STRING},
        {"type": "object", "properties": {"a": STRING}, "additionalProperties": True},
        {"type": "object", "properties": {"a": STRING}, "additionalProperties": {}},
        {"type": "object", "properties": {"a": STRING}, "unevaluatedProperties": True},
        {"type": "object", "properties": {}, "patternProperties": {"^x-": STRING}},
        {"type": "object", "properties": {}, "patternProperties": {"^x-": STRING}, "additionalProperties": False},
        {**within({**REFERENCE, "description": "An a.", "patternProperties": {"^x-": STRING}}), "$defs": {"A": CLOSED}},
        {"type": ["object", "null"]},
        {"type": ["object", "null"], "properties": {"a": STRING}, "additionalProperties": True},
        within({}),
        within({"type": "array", "items": {}}),
        within({"enum": [{"a": 1}]}),
        {"$ref": "#/$defs/A", "$defs": {"A": within({"$ref": "#/$defs/A"})}},
        {"$ref": "#/$defs/A", "$defs": {"A": within({"$ref": "#/$defs/B"}), "B": within({"$ref": "#/$defs/A"})}},
        within({"$ref": "#"}),
        within({"$ref": "https://example.com/schema.json"}),
        {"allOf": [{"$ref": "#/$defs/A"}, CLOSED], "$defs": {"A": CLOSED}},
        {"allOf": [REFERENCE], "properties": {"b": STRING}, "$defs": {"A": CLOSED}},
        {"allOf": [{**REFERENCE, "$defs": {"A": CLOSED}}], "$defs": {"A": CLOSED}},
        {"oneOf": [STRING], "anyOf": [{"type": "null"}]},
        within({"anyOf": [STRING], "oneOf": [STRING]}),
        within({"const": {"a": 1}}),
        within({"const": [1]}),
        {"allOf": [CLOSED, within(STRING)]},
        {"allOf": [STRING, {"anyOf": [CLOSED]}]},
        {**CLOSED, "anyOf": [within(STRING)]},
        {**CLOSED, "allOf": [within(STRING)]},
        {"allOf": [CLOSED], "anyOf": [within(STRING)]},
        {**within({"$ref": "#/$defs/A", "properties": {"b": STRING}}), "$defs": {"A": CLOSED}},
        {"anyOf": 5},
        {"type": "object", "properties": 5},
        {"type": "string", "enum": 5},
    ],
)
def test_what_would_become_another_question_is_not_narrowed(schema: Any) -> None:
    assert told(schema) is None


def chain(length: int) -> dict[str, Any]:
    """Definitions of which each is the next one."""
    links = {f"d{at}": {"$ref": f"#/$defs/d{at + 1}"} for at in range(length - 1)}
    return {"$ref": "#/$defs/d0", "$defs": {**links, f"d{length - 1}": STRING}}


@pytest.mark.parametrize("length", [2, MAX_DEFINITIONS])
def test_definitions_that_lead_to_each_other_are_enforced_unless_they_lead_back(length: int) -> None:
    schema = chain(length)
    assert told(schema) == schema
    schema["$defs"][f"d{length - 1}"] = {"$ref": f"#/$defs/d{length // 2}"}
    assert told(schema) is None


def test_what_is_larger_than_a_provider_compiles_is_not_narrowed() -> None:
    """It would be read while every other call waits."""
    assert told(chain(MAX_DEFINITIONS + 1)) is None
    two_kinds = chain(MAX_DEFINITIONS)
    assert told({**two_kinds, "definitions": {"e": STRING}}) is None
    bare = len(json.dumps({"type": "string", "title": ""}))
    assert told({"type": "string", "title": "t" * (MAX_BYTES - bare)}) is not None
    assert told({"type": "string", "title": "t" * (MAX_BYTES - bare + 1)}) is None


def test_what_is_no_schema_is_not_narrowed() -> None:
    assert narrowed(None) is None
    assert narrowed(Raw(b"{")) is None
    assert narrowed(Raw(b'{"items":' * 5000 + b"1" + b"}" * 5000)) is None


class Street(pydantic.BaseModel):
    number: int = pydantic.Field(ge=1, le=99_999)
    name: str = pydantic.Field(min_length=1, description="As on the sign.")


class Person(pydantic.BaseModel):
    streets: list[Street] = pydantic.Field(max_length=3)
    mail: pydantic.UUID4 | None
    age: float = pydantic.Field(multiple_of=0.5)


def test_it_enforces_what_the_official_sdk_would_have_enforced() -> None:
    def bare(schema: Any) -> Any:
        if isinstance(schema, list):
            return [bare(one) for one in schema]
        kept = {name: value for name, value in schema.items() if name != "description"} if isinstance(schema, dict) else schema
        return {name: bare(value) for name, value in kept.items()} if isinstance(kept, dict) else kept

    schema = Person.model_json_schema()
    assert bare(told(schema)) == bare(transform_schema(schema))


SCHEMAS = st.recursive(
    st.sampled_from([STRING, {"type": "integer", "minimum": 2}, {"enum": ["a"]}, {}, {"type": "object"}]),
    lambda inner: st.one_of(
        st.builds(lambda one: {"type": "array", "items": one, "maxItems": 4}, inner),
        st.builds(lambda one: {"anyOf": [one, {"type": "null"}]}, inner),
        st.builds(lambda one: {"type": "object", "properties": {"p": one}}, inner),
    ),
    max_leaves=6,
)


@given(SCHEMAS)
def test_what_was_narrowed_once_stays_as_it_is(schema: Any) -> None:
    once = told(schema)
    assert once is None or told(once) == once
