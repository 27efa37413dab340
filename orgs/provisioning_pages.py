"""What the page of an organisation's directory shows."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Count, OuterRef
from django.http import HttpRequest
from django.urls import reverse

from orgs.actor import Actor
from orgs.scim_models import DirectoryGroup, DirectoryUser, Provisioning
from orgs.sso_models import Domain

MOST_GROUPS = 200


def provisioning_of(actor: Actor) -> Provisioning | None:
    """With `domains`, the names that the organisation has verified."""
    verified = Domain.objects.filter(organization=OuterRef("organization"), verified_at__isnull=False).order_by("name")
    rows = Provisioning.objects.filter(organization=actor.organization).annotate(domains=ArraySubquery(verified.values("name")))
    return rows.select_related("group", "issued_by").first()


def page_context(request: HttpRequest, actor: Actor) -> dict[str, Any]:
    people = DirectoryUser.objects.filter(organization=actor.organization)
    groups = DirectoryGroup.objects.filter(organization=actor.organization).select_related("group", "custom_role")
    return {
        "row": provisioning_of(actor),
        "base_url": request.build_absolute_uri(reverse("scim:config")).rpartition("/")[0],
        **people.aggregate(people=Count("pk"), deactivated=Count("deactivated_at")),
        "groups": groups.annotate(people_count=Count("people")).order_by("display_name")[:MOST_GROUPS],
    }
