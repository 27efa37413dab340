"""The YAML of an organisation, read into a declaration and written from one. Nothing here touches the database.

Amounts are exact both ways: `0.25` in the file never becomes a float. Numbers are read by
`gateway_project.lib.decimals`, as in the catalogue's file, never by YAML.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
import yaml
from msgspec import UNSET, UnsetType

from gateway_project.lib import decimals
from guardrails.as_code.declarations import Declaration, Declared

# Of what is wrong with a file; more is said to be there.
MOST_TOLD = 20
# How much a name that nothing has must be like one of ours to be a slip of it: 1 is the same.
LIKE = 0.75
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


def read(text: str) -> Reading:
    """Raises BadFile where nothing can be said of what it declares."""
    try:
        reading = Reading()
        kept = reading.kept(yaml.load(text, Loader=_Loader), Declaration, "")  # noqa: S506 a safe one
        if kept is UNSET:
            raise BadFile.of(reading.faults)
        reading.declared = msgspec.convert(kept, Declaration, builtin_types=(datetime,))
        return reading
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


class Figure(str):
    """Text that begins as a number does, and stands in the file without quotes. `tag`: what YAML takes it for."""

    tag: str


def _read(value: Any, options: Sequence[Any]) -> Any:
    """A number as it is written, where one may stand; else what msgspec calls it by its right name. Raises NoNumber."""
    if isinstance(value, str) and Decimal in options:
        return decimals.exact(value)
    if not isinstance(value, Figure):
        return value
    if int in options:
        return decimals.whole(value)
    if value.tag == "str" or (value.tag == "float" and str in options):
        return str(value)
    return {"int": 0, "float": 0.5}[value.tag]


class Reading:
    """What of a file has the right form, and all that has not, in its order: msgspec itself stops at the first of it.

    `lost` are the sections of which something is not declared: what is not found there may well be in the file.
    """

    declared: Declaration

    def __init__(self) -> None:
        self.faults: list[BadFile] = []
        self.lost: set[str] = set()

    def kept(self, value: Any, kind: Any, path: str) -> Any:
        """Plain values that convert to it; UNSET where none do."""
        options = [one for one in (get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)) if one is not UnsetType]
        for option in options:
            if get_origin(option) is list and isinstance(value, list):
                entries = [self.kept(entry, get_args(option)[0], f"{path}[{index}]") for index, entry in enumerate(value)]
                return [entry for entry in entries if entry is not UNSET]
            if isinstance(option, type) and issubclass(option, Declared) and isinstance(value, dict):
                return self._kept_fields(value, option, path)
        try:
            value = _read(value, options)
            msgspec.convert(value, Union[tuple(options)], builtin_types=(datetime,))  # noqa: UP007 made here
        except decimals.NoNumber as written:
            wanted = _WORDS["decimal" if Decimal in options else "int"]
            return self._fault(BadFile(path, f"must be {wanted} in decimal digits, not {str(written)[:40]}"))
        except msgspec.ValidationError as error:
            return self._fault(_bad(str(error), path))
        return value

    def _kept_fields(self, value: dict[Any, Any], kind: type[Declared], path: str) -> Any:
        fields, found, told = {field.encode_name: field for field in msgspec.structs.fields(kind)}, {}, set()
        for written, inner in value.items():
            name = self._meant(written, value, fields.keys(), path)
            if name in fields:
                found[name] = self.kept(inner, fields[name].type, _joined(path, name))
                told.add(name)
        required = {name for name, field in fields.items() if field.required}
        for name in (name for name in fields if name in required - told):
            self._fault(BadFile(_joined(path, name), "is missing"))
        kept = {name: inner for name, inner in found.items() if inner is not UNSET}
        # Without one of these nobody knows which thing it is. One that is all name may be named by what nobody can make out.
        naming = required | {*kind.NAMED_BY, "name"} & fields.keys()
        unknown = len(told) < len(value) and fields.keys() <= {*kind.NAMED_BY}
        if unknown or naming & (found.keys() | required) - kept.keys():
            return self._fault(None, path)
        return kept

    def _meant(self, written: Any, value: dict[Any, Any], names: Collection[str], path: str) -> str:
        """The field of this name, or the one that it is a slip of; '' where there is none."""
        if not isinstance(written, str):
            self._fault(BadFile(path, "has a field whose name is no text"))
            return ""
        if written in names:
            return written
        free = [name for name in names if name not in value]
        near = "".join(difflib.get_close_matches(written, free, n=1, cutoff=LIKE))
        self._fault(BadFile(_joined(path, written), f"there is no such field{near and f': is it {near}?'}"))
        if not path and not near:
            self.lost.update(free)
        return near

    def _fault(self, problem: BadFile | None, path: str = "") -> UnsetType:
        if problem is None:
            self.lost.add(path.partition("[")[0])
        else:
            self.faults.append(problem)
        return UNSET


def _bad(what: str, path: str) -> BadFile:
    """Of msgspec's "Expected `str`, got `int`"."""
    if found := re.fullmatch(r"Invalid enum value (.*)", what, re.DOTALL):
        return BadFile(path, f"{found[1]} is none of the values that it may have")
    if found := re.fullmatch(r"Expected `(.*)`, got `(.*)`", what):
        wanted, given = (" or ".join(_WORDS.get(word, word) for word in words.split(" | ")) for words in found.groups())
        return BadFile(path, f"must be {wanted}, not {given.removesuffix(' (put it in quotes)')}")
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
    text, tag = loader.construct_scalar(node), node.tag.removeprefix(_TAG)
    if tag == "str" and (node.style or not re.match("[-+.0-9]", text)):
        return text
    figure = Figure(text)
    figure.tag = tag
    return figure


for _tag in ("int", "float", "str"):
    _Loader.add_constructor(f"{_TAG}{_tag}", _as_written)


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
