"""Queries whose SQL is written once in a process, and planned a few times in a connection. Where a path of the tree is joined,
Django takes longer to write it, and PostgreSQL to plan it, than to answer it; and every page asks the same few.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from hashlib import sha256
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model, QuerySet
from django.db.models.query import get_related_populators
from django.db.transaction import TransactionManagementError
from psycopg import Connection, sql

from gateway_project.lib.queries import LARGEST_ID

Row = TypeVar("Row", bound=Model)
Value = int | str
# What a value is to PostgreSQL: an id of any column, or a text of whatever type the column is.
TYPES: dict[type[Value], str] = {int: "bigint", str: "unknown"}
# What stands for a value while the SQL is written: nothing of its kind is like it, and every column takes it.
MARKS: dict[type[Value], Callable[[int], Value]] = {int: lambda at: -7_000_000 - at, str: "\x02{}\x03".format}

# A statement that cannot run as it was planned, is not there, or is there although nobody knows
# (https://www.postgresql.org/docs/current/errcodes-appendix.html).
LOST = frozenset({"0A000", "26000", "42P05"})
# The names of what PostgreSQL keeps in each connection.
KEPT: WeakKeyDictionary[Connection[Any], set[str]] = WeakKeyDictionary()


class Written(Generic[Row]):
    """`Written(lambda user: Membership.objects.filter(user=user), int)`, called with an id in place of the user.

    A value is an id or a text, of the kind that is named in its place, for columns to be equal to. `query` is asked once, by the
    first call: it has no other way to tell one call from another than these values.
    """

    def __init__(self, query: Callable[..., QuerySet[Row]], *kinds: type[Value]) -> None:
        self._query, self._kinds = query, kinds

    def __call__(self, *values: Value | None) -> list[Row]:
        """None equals nothing, and neither does a number that no column holds. Raises TransactionManagementError where rows would
        be locked for nothing: Django asks only while it writes the SQL."""
        if any(value is None or (isinstance(value, int) and abs(value) > LARGEST_ID) for value in values):
            return []
        written, statement, rows = self._written
        connection = connections[written.using]  # each thread has its own
        if written.query.select_for_update and connection.get_autocommit():
            raise TransactionManagementError("select_for_update cannot be used outside of a transaction.")
        return [rows.made(row) for row in rows.converted(statement.found(connection, values), connection)]

    def sole(self, *values: Value | None) -> Row | None:
        """Of a query that finds one row at most: the row, or None."""
        return next(iter(self(*values)), None)

    def get(self, *values: Value | None) -> Row:
        """Raises DoesNotExist of the model."""
        row = self.sole(*values)
        if row is None:
            raise self._written.compiler.query.model.DoesNotExist
        return row

    @cached_property
    def _written(self) -> _Query:
        marks = [MARKS[kind](at) for at, kind in enumerate(self._kinds)]
        found = self._query(*marks)
        compiler = found.query.get_compiler(using=found.db)
        text, parameters = compiler.as_sql()
        places = [next((at for at, mark in enumerate(marks) if mark == each), None) for each in parameters]
        if {*places} - {None} != {*range(len(marks))}:
            raise TypeError("a value of the query is none of its parameters")
        filled = [sql.Literal(each) if at is None else sql.SQL(f"${at + 1}") for at, each in zip(places, parameters, strict=True)]
        return _Query(compiler, _Statement(compiler.query.model._meta.db_table, text, filled, self._kinds), _Rows(compiler))


class _Statement:
    """Kept by PostgreSQL under a name, in each connection from its first use on
    (https://www.postgresql.org/docs/current/sql-prepare.html). By its SQL, since psycopg's own statements go with every rollback.
    """

    def __init__(self, table: str, text: str, parameters: Sequence[sql.Composable], kinds: Sequence[type[Value]]) -> None:
        """`parameters`: in place of each %s of `text`, a constant or $1, $2, …, which are of these `kinds`."""
        self._text, self._parameters = text, parameters
        self._types = _listed(TYPES[kind] for kind in kinds)
        # What it is makes its name: whoever finds the name taken finds the same statement there.
        said = sha256(f"{self._types} {self._filled(None)}".encode()).hexdigest()
        self._name = f"{table}_{said[:16]}"
        self._execute = f"EXECUTE {self._name}{_listed('%s' for _ in kinds)}"

    def found(self, connection: BaseDatabaseWrapper, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The rows. Raises what Django raises; where PostgreSQL has forgotten what it kept, or a column of it is of another type
        since, the connection ends with this page."""
        with connection.cursor() as cursor:
            try:
                self._prepare(connection)
                cursor.execute(self._execute, values)
                found: list[tuple[Any, ...]] = cursor.fetchall()
            except DatabaseError as error:
                if getattr(error.__cause__, "sqlstate", None) in LOST:
                    connection.close_at = 0.0
                raise
        return found

    def _prepare(self, connection: BaseDatabaseWrapper) -> None:
        """Where it is not yet; no statement of the page."""
        own = connection.connection
        kept = KEPT.setdefault(own, set())
        if self._name in kept:
            return
        connection.validate_no_broken_transaction()
        with connection.wrap_database_errors, own.cursor() as cursor:
            cursor.execute(f"PREPARE {self._name}{self._types} AS {self._filled(own)}")
        kept.add(self._name)

    def _filled(self, connection: Connection[Any] | None) -> str:
        return self._text % tuple(part.as_string(connection) for part in self._parameters)


def _listed(words: Iterable[str]) -> str:
    """In brackets, but nothing where there are none."""
    return f"({', '.join(words)})".replace("()", "")


class _Rows:
    """How a row becomes an object, as Django's ModelIterable does it, which finds that out anew for every query."""

    def __init__(self, compiler: Any) -> None:
        kind = compiler.klass_info
        columns = kind["select_fields"]
        self._model, self._using = kind["model"], compiler.using
        self._own = slice(columns[0], columns[-1] + 1)
        self._names = [column.target.attname for column, *_ in compiler.select[self._own]]
        self._compiler, self._converters = compiler, compiler.get_converters([column for column, *_ in compiler.select])
        self._related = get_related_populators(kind, compiler.select, compiler.using)  # type: ignore[call-arg] # declared for Django 6

    def converted(self, rows: list[tuple[Any, ...]], connection: BaseDatabaseWrapper) -> Iterable[Sequence[Any]]:
        if not self._converters:
            return rows
        compiler = copy.copy(self._compiler)
        compiler.connection = connection
        found: Iterable[Sequence[Any]] = compiler.apply_converters(rows, self._converters)
        return found

    def made(self, row: Sequence[Any]) -> Any:
        one = self._model.from_db(self._using, self._names, row[self._own])
        for each in self._related:
            each.populate(row, one)
        return one


class _Query(NamedTuple):
    """What wrote it, what it asks PostgreSQL, and what becomes of the rows."""

    compiler: Any
    statement: _Statement
    rows: _Rows
