"""Models first offered after a moment, for the approvals of guardrails: by the same date that calls are judged by."""

from __future__ import annotations

from datetime import datetime

from guardrails.new_models import NewModel
from proxy.models import Model


def newly_offered(since: datetime) -> list[NewModel]:
    """Chat models that somebody serves, the newest first; one statement."""
    found = Model.objects.filter(kind=Model.Kind.CHAT, enabled=True, deployments__provider__enabled=True, created_at__gt=since)
    return [NewModel(*row) for row in found.distinct().order_by("-created_at", "name").values_list("name", "created_at")]
