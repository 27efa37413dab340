"""One row of a table."""

from __future__ import annotations

from typing import TypeVar

from django.db.models import Model, QuerySet

Row = TypeVar("Row", bound=Model)


def sole(rows: QuerySet[Row]) -> Row | None:
    """The row of a set that an id has narrowed to one; None where it is empty.

    In place of `first`: that puts an order to the statement, and Django then holds each of its columns against the order,
    which takes longer than the row does where a path of the tree is joined.
    """
    return next(iter(rows.order_by()), None)
