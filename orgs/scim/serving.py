"""Rows as SCIM resources, and pages of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from scim2_models import ListResponse, Meta, Reference, SearchRequest

from orgs.scim import resources
from orgs.scim_models import DirectoryGroup, DirectoryUser

M = TypeVar("M", bound=Model)
_CLASSES: dict[tuple[Any, Any], Any] = {}


def user_resource(row: DirectoryUser, *, base: str) -> resources.User:
    name = resources.Name(
        formatted=row.formatted_name or None, family_name=row.family_name or None, given_name=row.given_name or None
    )
    return resources.User(
        id=str(row.pk),
        external_id=row.external_id or None,
        meta=_meta(row, "User", base=base),
        user_name=row.user_name,
        name=name if name.model_dump() else None,
        display_name=row.display_name or None,
        emails=[resources.Email(**email) for email in row.emails] or None,
        active=row.deactivated_at is None,
        groups=[resources.UserGroup(value=str(group.pk), display=group.display_name) for group in row.directory_groups.all()]
        or None,
    )


def group_resource(row: DirectoryGroup, *, base: str, with_people: bool = True) -> resources.Group:
    people = sorted(row.people.all(), key=lambda person: person.pk) if with_people else []
    return resources.Group(
        id=str(row.pk),
        external_id=row.external_id or None,
        meta=_meta(row, "Group", base=base),
        display_name=row.display_name,
        members=[_member(one, base=base) for one in people] or None,
    )


def _member(person: DirectoryUser, *, base: str) -> resources.GroupMember:
    return resources.GroupMember(value=str(person.pk), ref=Reference[resources.User](f"{base}/Users/{person.pk}"))


def of(message: Any, model: Any) -> Any:
    """`PatchOp[User]` and the like. Pydantic forgets such a class as soon as nobody holds it, and making it takes 10 ms."""
    if (message, model) not in _CLASSES:
        _CLASSES[message, model] = message[model]
    return _CLASSES[message, model]


def page_of(rows: QuerySet[M], asked: SearchRequest[Any], *, model: type[Any], show: Callable[[M], Any]) -> ListResponse[Any]:
    """`startIndex` counts from 1; `count` 0 asks for the number only."""
    start = asked.start_index_0 or 0
    count = min(resources.PAGE_SIZE if asked.count is None else asked.count, resources.MOST_RESULTS)
    found = [show(row) for row in rows[start : start + count]] if count else []
    answer: ListResponse[Any] = of(ListResponse, model)(
        total_results=rows.count(), start_index=start + 1, items_per_page=len(found), resources=found
    )
    return answer


def _meta(row: DirectoryUser | DirectoryGroup, kind: str, *, base: str) -> Meta:
    location = f"{base}/{kind}s/{row.pk}"
    return Meta(resource_type=kind, created=row.created_at, last_modified=row.changed_at, location=location)
