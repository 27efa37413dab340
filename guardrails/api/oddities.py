"""What is odd about what was saved, in the answers about one policy, binding or key; lists of many leave it out."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers


class Warned(serializers.Serializer[Any]):
    warnings = serializers.ListField(
        child=serializers.CharField(),
        help_text="What is odd though it is valid, for people: a limit above that of its parent, names of nothing offered.",
    )
