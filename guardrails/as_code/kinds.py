"""What is common to all kinds of things that a file may hold.

A kind says which things there are, how one is read from its row, and how the services make and change one: `found`, `read`,
`create`, `change`. An export is what `read` says; applying writes where a file says something else than `read`, and reports what
`read` says before and after. So the two directions cannot disagree.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

from django.db.models import Model
from msgspec import UNSET

from guardrails.as_code.declarations import Declaration, Declared
from guardrails.as_code.faults import Follows, Remains, Several
from guardrails.as_code.files import BadFile
from orgs.actor import Actor
from orgs.errors import Refused
from orgs.models import User

D = TypeVar("D", bound=Declared)
R = TypeVar("R", bound=Model)


@dataclass(frozen=True)
class Entry(Generic[D]):
    """A thing in the file. `where` is its path there, `key` what it is known by."""

    where: str
    key: str
    declared: D


class Kind(ABC, Generic[D, R]):
    """`rows` are those that are in use, by key: what is archived no file speaks of. `problems`: what is wrong with the file's, by
    the order of the things in the file; `failed` are the keys of those that it could not make. `is_partial`: of those in the file
    some have not the right form, and nobody knows which they are. `notes`: what else a change of one does, by key."""

    word: ClassVar[str]
    section: ClassVar[str]
    form: ClassVar[type[Declared]]

    def __init__(self, by: Actor) -> None:
        self.by = by
        self.rows: dict[str, R] = {}
        self.problems: list[BadFile] = []
        self.notes: dict[str, str] = {}
        self.failed: set[str] = set()
        self.is_partial = False
        for row in self.found():
            key = self.key_of(row)
            if key in self.rows:
                raise BadFile("", f"two {self.word}s are “{key}”: no file could tell them apart, so rename one of them first")
            self.rows[key] = row

    @abstractmethod
    def found(self) -> Iterable[R]:
        """Those that are in use."""

    @abstractmethod
    def read(self, row: R) -> D:
        """All of it."""

    def key(self, declared: D) -> str:
        """Raises Refused; so does the one of a kind whose key also needs the place where the file has it: see `entries`."""
        raise Refused(f"What is declared does not say which {self.word} it is.")

    def key_of(self, row: R) -> str:
        return self.key(self.read(row))

    def create(self, entry: Entry[D]) -> R:
        """Raises Refused; so does the one of a kind whose rows no file makes."""
        raise Refused(f"A file makes no {self.word}.")

    def change(self, row: R, wanted: dict[str, Any]) -> R:
        """`wanted`: what the file says otherwise than `read`. Raises Refused; so does the one of a kind that is all key."""
        raise Refused(f"A file changes no {self.word}.")

    def title(self, row: R) -> str:
        """As the report calls it."""
        return str(row)

    def entries(self, file: Declaration) -> Iterator[Entry[D]]:
        listed = getattr(file, self.section)
        for index, declared in enumerate([] if listed is UNSET else listed):
            where = f"{self.section}[{index}]"
            try:
                key = self.key(declared)
            except Refused as refused:
                self.problems.append(self.bad(where, refused))
            else:
                yield Entry(where, key, declared)

    def write(self, file: Declaration) -> set[str]:
        """Makes and changes what the file names, and says which those are. What is wrong does not end it: so all is found."""
        named: dict[str, str] = {}
        for entry in self.entries(file):
            if entry.key in named:
                again = f"names the {self.word} “{entry.key}” again, after {named[entry.key]}"
                self.problems.append(BadFile(entry.where, again))
                continue
            named[entry.key] = entry.where
            self._ask(entry)
        return set(named)

    def _ask(self, entry: Entry[D]) -> None:
        """Writes it, or tells all that is wrong with it and writes the rest of it, so that what needs it is judged, too."""
        remains = Remains(entry.declared, named=entry.where)
        while remains.left is not None:
            try:
                return self._write(replace(entry, declared=remains.left))
            except Refused as refused:
                each = refused.each if isinstance(refused, Several) else [refused]
                told = [one for one in each if not isinstance(one, Follows)]
                places = [self.place(one.field or "") for one in told]
                new = [one for one, place in zip(told, places, strict=True) if remains.is_new(place)]
                self.problems += [self.bad(entry.where, one) for one in new]
                if len(told) < len(each):
                    break
                remains.leave_out(places)
        self.failed.add(entry.key)

    def made(self, key: str) -> R | None:
        """One of the file or beside it; None where there is none. Raises Follows."""
        found = self.rows.get(key)
        if found is None and (self.is_partial or key in self.failed):
            raise Follows(f"The {self.word} “{key}” could not be made.")
        return found

    def _write(self, entry: Entry[D]) -> None:
        row = self.rows.get(entry.key)
        if row is None:
            self.rows[entry.key] = self.create(entry)
            return
        now = self.read(row)
        wanted = {field: value for field, value in given(entry.declared).items() if value != getattr(now, field)}
        if wanted:
            self.rows[entry.key] = self.change(row, wanted)

    def bad(self, where: str, refused: Refused) -> BadFile:
        field = self.place(refused.field or "")
        return BadFile(f"{where}.{field}" if field else where, refused.message)

    def place(self, field: str) -> str:
        """Where the file has what a service calls so; empty: nowhere."""
        return field if field.partition("[")[0] in self.form.__struct_fields__ else ""

    def person(self, address: str | None, *, field: str = "owner") -> User | None:
        """Raises Refused."""
        if address is None:
            return None
        found = User.objects.filter(email__iexact=address.strip(), memberships__organization=self.by.organization).first()
        if found is None:
            raise Refused(f"Nobody with the address “{address[:80]}” belongs to {self.by.organization}.", field=field)
        return found


def given(declared: Declared) -> dict[str, Any]:
    """What is said of a thing, beside which one it is."""
    fields = (field for field in declared.__struct_fields__ if field not in declared.NAMED_BY)
    return {field: value for field in fields if (value := getattr(declared, field)) is not UNSET}


def flat(facts: Mapping[str, Any], *, above: str = "") -> dict[str, Any]:
    """{"limits": {"rpm": 60}} → {"limits.rpm": 60}"""
    found: dict[str, Any] = {}
    for name, value in facts.items():
        found |= flat(value, above=f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return found
