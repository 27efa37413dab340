"""Models first offered after a moment, for the approvals of guardrails: by the same date that calls are judged by."""

from __future__ import annotations

from datetime import datetime

from django.db import connection

from guardrails.new_models import NewModel
from proxy import listed
from proxy.models import Model, Provider


def newly_offered(since: datetime) -> list[NewModel]:
    """Models of every kind that somebody serves, the newest first; one statement."""
    found = Model.objects.filter(enabled=True, deployments__provider__enabled=True, created_at__gt=since)
    return [NewModel(*row) for row in found.distinct().order_by("-created_at", "name").values_list("name", "created_at")]


def by_own_name(name: str) -> NewModel | None:
    """`<provider>/<its own name>`, since the price list has had it and the provider has been declared; two statements."""
    account, _, upstream = name.partition("/")
    provider = Provider.objects.filter(name=account, enabled=True).first() if upstream else None
    if provider is None:
        return None
    with connection.cursor() as cursor:
        cursor.execute(listed.LISTED_SQL, {"skus": listed.skus(provider.kind, upstream)})
        known_at = [moment for _, moment in cursor.fetchall()]
    return NewModel(name, max(provider.created_at, min(known_at))) if known_at else None
