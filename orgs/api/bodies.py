from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser


class TooDeep(ParseError):
    default_detail = "This JSON is nested too deeply."


class FlatJson(JSONParser):
    """No deeper than a program can read; how large it may be is Django's to say (DATA_UPLOAD_MAX_MEMORY_SIZE)."""

    def parse(self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise TooDeep from None
