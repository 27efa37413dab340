"""Lists as files to take along: CSV that a spreadsheet shows and does not run, streamed a batch at a time."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Iterable, Iterator
from io import StringIO

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

# How a cell begins that a spreadsheet takes for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def harmless(value: object) -> str:
    """The text of a cell; an apostrophe before whatever would be run. None is empty."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def csv_lines(rows: Iterable[Iterable[object]]) -> str:
    """The cells as they are: those that people have written must be `harmless`."""
    buffer = StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()


def streamed(parts: Iterator[str], *, content_type: str, name: str, request: HttpRequest) -> StreamingHttpResponse:
    """`parts` may ask the database: a reader who is slow should find no transaction of theirs open between two of them."""
    content = _awaited(parts) if isinstance(request, ASGIRequest) else parts
    answer = StreamingHttpResponse(content, content_type=content_type)
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


async def _awaited(parts: Iterator[str]) -> AsyncIterator[str]:
    following = sync_to_async(lambda: next(parts, None))
    while (part := await following()) is not None:
        yield part
