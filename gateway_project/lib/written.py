"""Queries whose SQL is written once in a process. Where a path of the tree is joined, Django takes longer to write it than
PostgreSQL to answer it, and every page asks the same few.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar, cast

from django.db import connections
from django.db.models import Model, QuerySet
from django.db.models.query import ModelIterable
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
        written, sql, parameters = self._written
        compiler = copy.copy(written)
        compiler.connection = connections[written.using]  # each thread has its own
        if written.query.select_for_update and compiler.connection.get_autocommit():
            raise TransactionManagementError("select_for_update cannot be used outside of a transaction.")
        filled = tuple(constant if at is None else values[at] for at, constant in parameters)
        vars(compiler)["as_sql"] = lambda: (sql, filled)
        return list(ModelIterable(cast("QuerySet[Row]", _Asked(compiler))))

    def sole(self, *values: Value | None) -> Row | None:
        """Of a query that finds one row at most: the row, or None."""
        return next(iter(self(*values)), None)

    def get(self, *values: Value | None) -> Row:
        """Raises DoesNotExist of the model."""
        row = self.sole(*values)
        if row is None:
            raise self._written[0].query.model.DoesNotExist
        return row

    @cached_property
    def _written(self) -> tuple[Any, str, list[tuple[int | None, Any]]]:
        """What wrote it; the SQL; of each parameter which value it is, or what it always is."""
        marks = [MARKS[kind](at) for at, kind in enumerate(self._kinds)]
        rows = self._query(*marks)
        compiler = rows.query.get_compiler(using=rows.db)
        sql, parameters = compiler.as_sql()
        places = [next((at for at, mark in enumerate(marks) if mark == each), None) for each in parameters]
        if {*places} - {None} != {*range(len(marks))}:
            raise TypeError("a value of the query is none of its parameters")
        return compiler, sql, list(zip(places, parameters, strict=True))


class _Asked:
    """As much of a QuerySet as its rows are made from."""

    _known_related_objects: ClassVar[dict[Any, Any]] = {}

    def __init__(self, compiler: Any) -> None:
        self.db, self._compiler = compiler.using, compiler

    @property
    def query(self) -> _Asked:
        """Itself, found anew: one that held itself would be garbage only for the collector of cycles."""
        return self

    def get_compiler(self, using: str) -> Any:
        return self._compiler
