"""The way of a page to a row of the directory."""

from __future__ import annotations

from django.http import Http404

from orgs.actor import Actor
from orgs.scim_models import DirectoryGroup


def access_directory_group_by_id(actor: Actor, group_id: int) -> DirectoryGroup:
    """For whoever may change the settings of the organisation as a whole. Raises Http404."""
    row = DirectoryGroup.objects.filter(organization=actor.organization, pk=group_id).select_related("group").first()
    if row is None:
        raise Http404("no such group of the directory")
    return row
