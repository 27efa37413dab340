"""A SCIM filter (RFC 7644, 3.4.2.2) as a condition of the database. What is not listed is no filter: `invalidFilter`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import and_, or_
from typing import Any, NamedTuple

from django.db.models import Q
from scim2_models import InvalidFilterException, ScimFilter
from scim2_models.path import (
    AttrPath,
    CompareOperator,
    Comparison,
    FilterNode,
    FilterVisitor,
    LogicalExpr,
    LogicalOperator,
    Not,
    Present,
    ValuePath,
)

from gateway_project.lib.queries import id_in

LOOKUPS = {
    CompareOperator.eq: "exact",
    CompareOperator.co: "contains",
    CompareOperator.sw: "startswith",
    CompareOperator.ew: "endswith",
}


class Column(NamedTuple):
    """`exact`: capitals count. `lookup` leads to what is compared; empty text is absence."""

    lookup: str
    exact: bool = False


USER_COLUMNS = {
    "id": Column("pk", exact=True),
    "externalid": Column("external_id", exact=True),
    "username": Column("user_name"),
    "displayname": Column("display_name"),
    "name.givenname": Column("given_name"),
    "name.familyname": Column("family_name"),
    "name.formatted": Column("formatted_name"),
    # Only the account's own address can be searched for.
    "emails": Column("user__email"),
    "emails.value": Column("user__email"),
    "active": Column("deactivated_at"),
    "groups.value": Column("directory_groups__pk", exact=True),
}
GROUP_COLUMNS = {
    "id": Column("pk", exact=True),
    "externalid": Column("external_id", exact=True),
    "displayname": Column("display_name"),
    "members": Column("people__pk", exact=True),
    "members.value": Column("people__pk", exact=True),
}


def condition(wanted: ScimFilter[Any] | None, columns: Mapping[str, Column]) -> Q:
    """Raises InvalidFilterException."""
    return _Conditions(columns).visit(wanted.ast) if wanted is not None else Q()


class _Conditions(FilterVisitor[Q]):
    def __init__(self, columns: Mapping[str, Column]) -> None:
        self.columns = columns

    def visit_comparison(self, node: Comparison) -> Q:
        column = self._column(node.attr_path)
        if node.op is CompareOperator.ne:
            return ~self._compared(column, CompareOperator.eq, node.value)
        return self._compared(column, node.op, node.value)

    def visit_present(self, node: Present) -> Q:
        column = self._column(node.attr_path)
        if column.lookup == "deactivated_at":
            return Q(pk__isnull=False)
        absent = Q(**{f"{column.lookup}__isnull": True})
        return ~absent if column.lookup.endswith("pk") else ~(absent | Q(**{column.lookup: ""}))

    def visit_not(self, node: Not) -> Q:
        return ~self.visit(node.expr)

    def visit_logical_expr(self, node: LogicalExpr) -> Q:
        return reduce(and_ if node.op is LogicalOperator.and_ else or_, (self.visit(term) for term in node.terms))

    def visit_value_path(self, node: ValuePath) -> Q:
        """`emails[type eq "work" and value eq "…"]`: the account's address is of every type."""
        if node.attr_path.attr.casefold() != "emails":
            raise InvalidFilterException(detail=f"{node.attr_path.attr} cannot be searched by the parts of its values.")
        return reduce(and_, [self._email_part(term) for term in _terms(node.val_filter)])

    def _email_part(self, term: FilterNode) -> Q:
        if not isinstance(term, Comparison) or term.attr_path.attr.casefold() not in {"type", "primary", "value"}:
            raise InvalidFilterException(detail="Of an e-mail address the parts type, primary and value can be compared.")
        return self._compared(Column("user__email"), term.op, term.value) if term.attr_path.attr.casefold() == "value" else Q()

    def _column(self, path: AttrPath) -> Column:
        name = path.attr + (f".{path.sub_attr}" if path.sub_attr else "")
        column = self.columns.get(name.casefold())
        if column is None:
            raise InvalidFilterException(detail=f"{name} cannot be searched for.")
        return column

    def _compared(self, column: Column, op: CompareOperator, value: Any) -> Q:
        if op not in LOOKUPS:
            raise InvalidFilterException(detail=f"The operator {op.value} is not supported.")
        if column.lookup == "deactivated_at":
            return _is_active(op, value)
        if column.lookup.endswith("pk"):
            return _is_row(column.lookup, op, value)
        if not isinstance(value, str) or "\0" in value:
            raise InvalidFilterException(detail=f"“{value}” is no text to compare with.")
        return Q(**{f"{column.lookup}__{'' if column.exact else 'i'}{LOOKUPS[op]}": value})


def _terms(node: FilterNode) -> tuple[FilterNode, ...]:
    return node.terms if isinstance(node, LogicalExpr) and node.op is LogicalOperator.and_ else (node,)


def _is_active(op: CompareOperator, value: Any) -> Q:
    if op is not CompareOperator.eq or not isinstance(value, bool):
        raise InvalidFilterException(detail="active is true or false.")
    return Q(deactivated_at__isnull=value)


def _is_row(lookup: str, op: CompareOperator, value: Any) -> Q:
    """An id that was never given out matches nothing."""
    if op is not CompareOperator.eq:
        raise InvalidFilterException(detail="Ids are compared by eq only.")
    number = id_in(str(value))
    return Q(**{lookup: number}) if number is not None else Q(pk__in=[])
