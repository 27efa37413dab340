"""Members whose domain signs in by single sign-on only: every other way is refused to them.

Super Admins keep a way of their own, by password or passkey, so that a broken identity provider locks nobody out for good.
Each use of it is in the audit trail.
"""

from __future__ import annotations

from django.db import transaction

from orgs.actor import Actor
from orgs.audit import audit
from orgs.models import User
from orgs.origin import Origin
from orgs.permissions import Permission
from orgs.sso_models import Domain, SsoConnection


def connection_for(email: str, *, required: bool = False) -> SsoConnection | None:
    """Where an address signs in, by its domain alone. `required`: only where no other way is open to members."""
    name = email.rpartition("@")[2].strip().lower()
    domain = Domain.objects.filter(name=name, verified_at__isnull=False)
    organizations = (domain.filter(sso_required=True) if required else domain).values("organization")
    open_ones = SsoConnection.objects.filter(enabled=True, organization__frozen_at=None)
    return open_ones.filter(organization__in=organizations).select_related("organization").first()


def keeps_address(user: User) -> bool:
    """Whether the main address has to stay: by another one a member would sign in as it likes."""
    connection = connection_for(user.email, required=True)
    return connection is not None and Actor.load(user, organization=connection.organization).belongs


def instead(user: User, origin: Origin) -> SsoConnection | None:
    """The connection that this person has to sign in by, in place of what was tried; None where that is fine."""
    connection = connection_for(user.email, required=True)
    if connection is None or user.is_staff:
        return None
    actor = Actor.load(user, organization=connection.organization, ip=origin.ip, agent=origin.agent)
    if actor.can_everywhere(Permission.GRANT_ROLES):
        with transaction.atomic():
            audit("sso.bypassed", by=actor, target=connection)
        return None
    return connection if actor.belongs else None
