"""Pages of a list by keyset: `?limit=…&cursor=…`; what is written meanwhile shifts nothing."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from rest_framework import serializers

from orgs.api.errors import InvalidCursor
from orgs.api.fields import Query

DEFAULT_LIMIT, MOST = 50, 100
Row = TypeVar("Row", bound=Model)


class Paging(Query):
    """What every list may be asked for; what else one may be is a field of a subclass."""

    limit = serializers.IntegerField(min_value=1, max_value=MOST, default=DEFAULT_LIMIT, help_text="How many at most.")
    cursor = serializers.CharField(required=False, max_length=200, help_text="`next_cursor` of the page before.")


def page_of(
    rows: QuerySet[Row], *, limit: int, cursor: str = "", key: str = "pk", parse: Callable[[str], Any] = int
) -> tuple[list[Row], str | None]:
    """The rows of this page, the newest first, and the cursor of the next; None at the end. Raises InvalidCursor."""
    if cursor:
        rows = rows.filter(**{f"{key}__lt": _parsed(cursor, parse)})
    found = list(rows.order_by(f"-{key}")[: limit + 1])
    more, found = len(found) > limit, found[:limit]
    return found, _cursor(getattr(found[-1], key)) if more else None


def _cursor(value: Any) -> str:
    return base64.urlsafe_b64encode(str(value).encode()).decode().rstrip("=")


def _parsed(cursor: str, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii"))
    except (ValueError, binascii.Error):
        raise InvalidCursor from None
