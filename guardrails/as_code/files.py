"""The YAML of an organisation, read into a declaration and written from one. Nothing here touches the database.

Amounts are exact both ways: `0.25` in the file never becomes a float.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import islice
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
import yaml
from msgspec import UnsetType

from guardrails.as_code.declarations import Declaration, Declared

# Of what is wrong with a file; more is said to be there.
MOST_TOLD = 20
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
    """It cannot be applied, and nothing was changed. `path` leads to what is wrong: `groups[2].children[0].kind`.

    `others`: what else is wrong, as far as it can be told before that is mended.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason
        self.others: list[BadFile] = []

    @classmethod
    def of(cls, problems: Sequence[BadFile]) -> BadFile:
        """At least one."""
        first, *first.others = problems
        return first


def read(text: str) -> Declaration:
    """Raises BadFile."""
    try:
        plain = yaml.load(text, Loader=_Loader)  # noqa: S506 a safe one
        if faults := list(islice(_faults(plain, Declaration, ""), MOST_TOLD + 1)):
            raise BadFile.of(faults)
        return msgspec.convert(plain, Declaration, builtin_types=(datetime,))
    except BadFile:
        raise
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


def _faults(value: Any, kind: Any, path: str) -> Iterator[BadFile]:
    """All that is wrong with the form of what stands there, in its order: msgspec itself stops at the first of it."""
    options = [one for one in (get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)) if one is not UnsetType]
    for option in options:
        if get_origin(option) is list and isinstance(value, list):
            for index, entry in enumerate(value):
                yield from _faults(entry, get_args(option)[0], f"{path}[{index}]")
            return
        if isinstance(option, type) and issubclass(option, Declared) and isinstance(value, dict):
            yield from _faults_of_fields(value, option, path)
            return
    try:
        msgspec.convert(value, Union[tuple(options)], builtin_types=(datetime,))  # noqa: UP007 made here
    except msgspec.ValidationError as error:
        yield _bad(str(error), path)


def _faults_of_fields(value: dict[Any, Any], kind: type[Declared], path: str) -> Iterator[BadFile]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name, inner in value.items():
        if not isinstance(name, str):
            yield BadFile(path, "has a field whose name is no text")
        elif name in fields:
            yield from _faults(inner, fields[name].type, _joined(path, name))
        else:
            yield BadFile(_joined(path, name), "there is no such field")
    missing = (name for name, field in fields.items() if field.required and name not in value)
    yield from (BadFile(_joined(path, name), "is missing") for name in missing)


def _bad(what: str, path: str) -> BadFile:
    """Of msgspec's "Expected `str`, got `int`"."""
    if found := re.fullmatch(r"Invalid enum value (.*)", what, re.DOTALL):
        return BadFile(path, f"{found[1]} is none of the values that it may have")
    if found := re.fullmatch(r"Expected `(.*)`, got `(.*)`", what):
        wanted, given = (" or ".join(_WORDS.get(word, word) for word in words.split(" | ")) for words in found.groups())
        return BadFile(path, f"must be {wanted}, not {given.removesuffix(' (put it in quotes)')}")
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
