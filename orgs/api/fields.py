"""Fields of the API beyond the framework's own, and the base of what is sent to it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

LARGEST_ID = 2**63 - 1
# Moments beyond make no sense, and near the ends of what a date can be no time zone can show them.
FIRST_YEAR, LAST_YEAR = 2000, 2100


class Body(serializers.Serializer[Any]):
    """What is sent. A field that does not exist is refused: a typing error must not look like success."""

    what: ClassVar[str] = "field"

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := sorted(set(map(str, data)) - set(self.fields))):
            raise serializers.ValidationError({unknown[0]: f"There is no such {self.what}."})
        return super().to_internal_value(data)


class Query(Body):
    """What an address asks for after its "?"; this one: nothing."""

    what = "parameter"


class IdField(serializers.IntegerField):
    def __init__(self, **options: Any) -> None:
        super().__init__(**{"min_value": 1, "max_value": LARGEST_ID, **options})


class MomentField(serializers.DateTimeField):
    """With its offset from UTC: without one nobody knows whose noon is meant."""

    default_error_messages: ClassVar[dict[str, Any]] = {
        "naive": "Say the offset from UTC, as in 2026-01-31T12:00:00Z.",
        "far": f"Give a moment from {FIRST_YEAR} on and before {LAST_YEAR}.",
    }

    def enforce_timezone(self, value: datetime) -> datetime:
        if timezone.is_naive(value):
            self.fail("naive")
        if not FIRST_YEAR <= value.year < LAST_YEAR:
            self.fail("far")
        return super().enforce_timezone(value)


@extend_schema_field({"type": "string", "pattern": "^-?[0-9]{1,19}$", "description": "An integer, as digits"})
class BigNumberField(serializers.Field[int, str | int, str, Any]):
    """An exact integer as a text of digits: nano-dollars grow beyond what JSON readers keep exact."""

    def to_representation(self, value: int) -> str:
        return str(value)

    def to_internal_value(self, data: str | int) -> int:
        text = str(data)
        if isinstance(data, bool | float) or not text.removeprefix("-").isascii() or not text.removeprefix("-").isdigit():
            raise serializers.ValidationError("Give an integer as digits.")
        if len(text) > 20 or abs(int(text)) > LARGEST_ID:
            raise serializers.ValidationError("This number is too large.")
        return int(text)
