"""Examples of JSON schemas: valid by the judgement of another, whatever a schema is made of."""

from __future__ import annotations

import enum
import json
from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from proxy.sandbox.examples import DEEPEST, MOST, example


class Colour(enum.Enum):
    RED = "red"


class Point(BaseModel):
    x: Annotated[int, Field(ge=3)]
    y: Annotated[float, Field(gt=1, lt=2)]


class Leaf(BaseModel):
    kind: Literal["leaf"]


class Branch(BaseModel):
    kind: Literal["branch"]
    points: Annotated[list[Point], Field(min_length=2)]


class Everything(BaseModel):
    name: Annotated[str, Field(min_length=30, max_length=40)]
    short: Annotated[str, Field(max_length=3)]
    perhaps: int | None
    either: Leaf | Branch
    colour: Colour
    moment: datetime
    day: date
    id: UUID
    flag: bool
    few: Annotated[int, Field(le=-5)]
    many: dict[str, int]
    nothing: None
    unset: str = "given"
    child: Everything | None = None


def test_programs_types_can_read_their_examples() -> None:
    for model in (Everything, Branch, Leaf, Point):
        assert isinstance(model.model_validate(example(model.model_json_schema())), model)


def test_only_what_is_required_is_there() -> None:
    assert set(example(Everything.model_json_schema())) == set(Everything.model_fields) - {"unset", "child"}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({}, {}),
        ({"const": 5}, 5),
        ({"enum": ["b", "a"]}, "b"),
        ({"type": ["null", "integer"]}, 1),
        ({"type": "null"}, None),
        ({"type": "array"}, []),
        ({"type": "string", "format": "date"}, "2026-01-01"),
        ({"type": "string", "minLength": 9}, "sandboxsandbox"),
        ({"type": "integer", "minimum": 7}, 7),
        ({"type": "integer", "exclusiveMaximum": 0}, -1),
        ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, True),
        ({"allOf": [{"$ref": "#/definitions/a~1b"}], "definitions": {"a/b": {"const": "x"}}}, "x"),
        ({"properties": {"a": {"type": "string"}}, "required": ["a", "b"]}, {"a": "sandbox", "b": {}}),
    ],
)
def test_each_word_of_a_schema(schema: dict[str, Any], value: Any) -> None:
    jsonschema_rs.validate(schema, value)
    assert example(schema) == value


def test_one_that_requires_itself_ends() -> None:
    found, depth = example({"type": "object", "properties": {"me": {"$ref": "#"}}, "required": ["me"]}), 0
    while found:
        found, depth = found["me"], depth + 1
    assert depth == DEEPEST + 1


def test_no_schema_makes_it_large() -> None:
    assert len(example({"type": "array", "minItems": 10**9, "items": {"type": "null"}})) == MOST
    assert len(example({"type": "string", "minLength": 10**9})) < 2 * MOST


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=3), lambda part: st.lists(part, max_size=3))
NAMES = [
    "type",
    "properties",
    "required",
    "items",
    "enum",
    "const",
    "$ref",
    "anyOf",
    "allOf",
    "minimum",
    "minLength",
    "minItems",
    "#",
]


@given(st.dictionaries(st.sampled_from(NAMES), JSON | st.dictionaries(st.sampled_from(NAMES), JSON, max_size=3), max_size=5))
def test_what_is_no_schema_breaks_nothing(schema: Any) -> None:
    assert json.loads(json.dumps(example(schema), allow_nan=False)) == example(schema), "JSON can say it"
