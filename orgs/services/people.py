"""What a person changes about themselves: outside any organisation, so in the trail of no organisation."""

from __future__ import annotations

from django.db import transaction

from orgs.audit import audit_as
from orgs.models import User
from orgs.origin import Origin
from orgs.services.changes import clean_name


@transaction.atomic
def rename_person(user: User, *, name: str, origin: Origin) -> None:
    """Raises Refused."""
    name = clean_name(name)
    before = User.objects.select_for_update(no_key=True).get(pk=user.pk).name
    if name == before:
        return
    user.name = name
    user.save(update_fields=["name"])
    audit_as(user, "person.renamed", organization=None, origin=origin, target=user, before={"name": before}, after={"name": name})
