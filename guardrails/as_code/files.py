"""The YAML of an organisation, read into a declaration and written from one. Nothing here touches the database.

Amounts are exact both ways: `0.25` in the file never becomes a float.
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
import yaml

from guardrails.as_code.declarations import Declaration

_TAG = "tag:yaml.org,2002:"
# As msgspec calls them, and as people do.
_WORDS = {
    "array": "a list",
    "object": "a mapping",
    "str": "text (put it in quotes)",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "empty",
    "decimal": "an amount of US dollars",
    "date": "a day",
    "datetime": "a moment with its time zone, such as 2027-01-31T00:00:00Z",
}


class BadFile(ValueError):
    """It cannot be applied, and nothing was changed. `path` leads to what is wrong: `groups[2].children[0].kind`."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


def read(text: str) -> Declaration:
    """Raises BadFile."""
    try:
        return msgspec.convert(yaml.load(text, Loader=_Loader), Declaration, builtin_types=(datetime,))  # noqa: S506 a safe one
    except msgspec.ValidationError as error:
        raise _bad(str(error)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise BadFile(f"line {mark.line + 1 if mark else 1}", f"not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise BadFile("", f"not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise BadFile("", "something in it contains itself, or is nested without end") from None


def write(declared: Declaration) -> str:
    plain = msgspec.to_builtins(declared, builtin_types=(datetime, Decimal))
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _bad(complaint: str) -> BadFile:
    """Of msgspec's "Expected `str`, got `int` - at `$.groups[0].kind`"."""
    what, _, where = complaint.partition(" - at ")
    path = re.sub(r"^.*\$\.?", "", where.rstrip("`"))
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL):
        return BadFile(_joined(path, found[1]), "there is no such field")
    if found := re.fullmatch(r"Object missing required field `(.*)`", what):
        return BadFile(_joined(path, found[1]), "is missing")
    if found := re.fullmatch(r"Invalid enum value (.*)", what, re.DOTALL):
        return BadFile(path, f"{found[1]} is none of the values that it may have")
    if found := re.fullmatch(r"Expected `(.*)`, got `(.*)`", what):
        wanted, given = (" or ".join(_WORDS.get(word, word) for word in words.split(" | ")) for words in found.groups())
        return BadFile(path, f"must be {wanted}, not {given.removesuffix(' (put it in quotes)')}")
    if where.startswith("`key`"):
        return BadFile(path, "has a field whose name is no text")
    if what == "Invalid decimal string":
        return BadFile(path, f"must be {_WORDS['decimal']}")
    if "timezone" in what:
        return BadFile(path, f"must be {_WORDS['datetime']}")
    return BadFile(path, what[:1].lower() + what[1:].replace("`", ""))


def _joined(path: str, field: str) -> str:
    return f"{path}.{field[:80]}" if path else field[:80]


class _Loader(yaml.SafeLoader):
    """Refuses what YAML itself lets pass: a key that stands twice, and characters that nothing here may hold."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{name[:80]!r} stands twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        text = str(super().construct_scalar(node))
        if not " ".join(text.split()).isprintable():
            raise yaml.constructor.ConstructorError(None, None, "a text holds characters that cannot be shown", node.start_mark)
        return text


def _as_written(loader: _Loader, node: yaml.ScalarNode) -> str:
    return loader.construct_scalar(node)


_Loader.add_constructor(f"{_TAG}float", _as_written)


class _Dumper(yaml.SafeDumper):
    """Writes nothing as a reference to another place of the file."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.SequenceNode:
    """Of plain values on one line."""
    return dumper.represent_sequence(f"{_TAG}seq", values, flow_style=not any(isinstance(value, dict) for value in values))


def _amount(dumper: yaml.SafeDumper, amount: Decimal) -> yaml.ScalarNode:
    text = f"{amount:f}"
    return dumper.represent_scalar(f"{_TAG}{'float' if '.' in text else 'int'}", text)


def _moment(dumper: yaml.SafeDumper, moment: datetime) -> yaml.ScalarNode:
    return dumper.represent_scalar(f"{_TAG}timestamp", moment.isoformat())


_Dumper.add_representer(list, _list)
_Dumper.add_representer(Decimal, _amount)
_Dumper.add_representer(datetime, _moment)
