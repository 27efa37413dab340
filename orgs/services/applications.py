from __future__ import annotations

import secrets
from collections.abc import Iterable

from django.utils.text import slugify

from orgs.actor import Actor
from orgs.audit import Value, audit
from orgs.errors import Refused
from orgs.models import Application, Group
from orgs.permissions import Permission
from orgs.services.changes import changing, clean_labels, clean_name, fresh_group, refuse_archived


def create_application(
    group: Group, *, name: str, by: Actor, features: Iterable[str] = (), environments: Iterable[str] = ()
) -> Application:
    """Keys at home in its group and below may name it, one of its environments and some of its features."""
    with changing(by.organization):
        group = fresh_group(group)
        by.require(Permission.MANAGE_APPLICATIONS, group)
        refuse_archived(group)
        name = clean_name(name)
        slug = slugify(name)[:60].strip("-") or f"application-{secrets.token_hex(3)}"
        if Application.objects.filter(organization=by.organization, slug=slug).exists():
            raise Refused(f"An application with the address “{slug}” exists already: choose another name.", field="name")
        application = Application.objects.create(
            organization=by.organization,
            group=group,
            name=name,
            slug=slug,
            features=clean_labels(features, field="features"),
            environments=clean_labels(environments, field="environments"),
        )
        after: dict[str, Value] = {"group": group.pk, "features": application.features, "environments": application.environments}
        audit("application.created", by=by, target=application, after=after)
    return application
