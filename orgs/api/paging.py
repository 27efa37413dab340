"""Pages of a list by keyset: `?limit=…&cursor=…`; what is written meanwhile shifts nothing."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from rest_framework.request import Request

from orgs.api.errors import InvalidCursor

DEFAULT_LIMIT, MOST = 50, 100
Row = TypeVar("Row", bound=Model)


def page_of(
    rows: QuerySet[Row], request: Request, *, key: str = "pk", parse: Callable[[str], Any] = int
) -> tuple[list[Row], str | None]:
    """The rows of this page, the newest first, and the cursor of the next; None at the end. Raises InvalidCursor."""
    limit, cursor = _limit(request.GET.get("limit", "")), request.GET.get("cursor", "")
    if cursor:
        rows = rows.filter(**{f"{key}__lt": _parsed(cursor, parse)})
    found = list(rows.order_by(f"-{key}")[: limit + 1])
    more, found = len(found) > limit, found[:limit]
    return found, _cursor(getattr(found[-1], key)) if more else None


def _limit(text: str) -> int:
    return min(max(int(text), 1), MOST) if text.isascii() and text.isdigit() and len(text) < 10 else DEFAULT_LIMIT


def _cursor(value: Any) -> str:
    return base64.urlsafe_b64encode(str(value).encode()).decode().rstrip("=")


def _parsed(cursor: str, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii"))
    except (ValueError, binascii.Error):
        raise InvalidCursor from None
