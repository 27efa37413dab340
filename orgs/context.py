"""What every console page knows: the viewer, the organisation, where one can go."""

from typing import Any

from django.http import HttpRequest


def console(request: HttpRequest) -> dict[str, Any]:
    return {}
