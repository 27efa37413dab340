"""Queries whose SQL is written once in a process. Where a path of the tree is joined, Django takes longer to write it than
PostgreSQL to answer it, and every page asks the same few.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

from django.db import connections
from django.db.models import Model, QuerySet
from django.db.models.query import get_related_populators
from django.db.transaction import TransactionManagementError

from gateway_project.lib.queries import LARGEST_ID

Row = TypeVar("Row", bound=Model)
Value = int | str
# What stands for a value while the SQL is written: nothing of its kind is like it, and every column takes it.
MARKS: dict[type[Value], Callable[[int], Value]] = {int: lambda at: -7_000_000 - at, str: "\x02{}\x03".format}


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
        written, sql, parameters, converters, rows = self._written
        compiler = copy.copy(written)
        compiler.connection = connections[written.using]  # each thread has its own
        if written.query.select_for_update and compiler.connection.get_autocommit():
            raise TransactionManagementError("select_for_update cannot be used outside of a transaction.")
        filled = tuple(constant if at is None else values[at] for at, constant in parameters)
        vars(compiler).update(as_sql=lambda: (sql, filled), get_converters=lambda columns: converters)
        return [rows.made(row) for row in compiler.results_iter()]

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
        sql, parameters = compiler.as_sql()
        places = [next((at for at, mark in enumerate(marks) if mark == each), None) for each in parameters]
        if {*places} - {None} != {*range(len(marks))}:
            raise TypeError("a value of the query is none of its parameters")
        converters = compiler.get_converters([column for column, *_ in compiler.select])
        return _Query(compiler, sql, list(zip(places, parameters, strict=True)), converters, _Rows(compiler))


class _Rows:
    """How a row becomes an object, as Django's ModelIterable does it, which finds that out anew for every query."""

    def __init__(self, compiler: Any) -> None:
        kind = compiler.klass_info
        columns = kind["select_fields"]
        self._model, self._using = kind["model"], compiler.using
        self._own = slice(columns[0], columns[-1] + 1)
        self._names = [column.target.attname for column, *_ in compiler.select[self._own]]
        self._related = get_related_populators(kind, compiler.select, compiler.using)  # type: ignore[call-arg] # declared for Django 6

    def made(self, row: Sequence[Any]) -> Any:
        one = self._model.from_db(self._using, self._names, row[self._own])
        for each in self._related:
            each.populate(row, one)
        return one


class _Query(NamedTuple):
    """What wrote it; of each parameter which value it is, or what it always is; what the columns' values pass through."""

    compiler: Any
    sql: str
    parameters: list[tuple[int | None, Any]]
    converters: Any
    rows: _Rows
