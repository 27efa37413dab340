"""What the page of an organisation's directory shows, and the door to its rows."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Count, OuterRef
from django.http import Http404, HttpRequest
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


def access_directory_group_by_id(actor: Actor, group_id: int) -> DirectoryGroup:
    """For whoever may change the settings of the organisation as a whole. Raises Http404."""
    row = DirectoryGroup.objects.filter(organization=actor.organization, pk=group_id).select_related("group").first()
    if row is None:
        raise Http404("no such group of the directory")
    return row


def page_context(request: HttpRequest, actor: Actor) -> dict[str, Any]:
    people = DirectoryUser.objects.filter(organization=actor.organization)
    groups = DirectoryGroup.objects.filter(organization=actor.organization).select_related("group")
    return {
        "row": provisioning_of(actor),
        "base_url": request.build_absolute_uri(reverse("scim:config")).rpartition("/")[0],
        **people.aggregate(people=Count("pk"), deactivated=Count("deactivated_at")),
        "groups": groups.annotate(people_count=Count("people")).order_by("display_name")[:MOST_GROUPS],
    }
