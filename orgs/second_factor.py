"""Who has a second factor, and what an organisation that requires one does without it.

A second factor is an authenticator app or a passkey; recovery codes alone are none. Whoever has one is asked for it at every
sign-in, whatever came first (allauth's stages), so that having one is enough to know here.
"""

from __future__ import annotations

from allauth.mfa.models import Authenticator
from django.db.models import Exists, OuterRef, QuerySet

from orgs.models import Membership, Organization, User

FACTORS = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)


def has_second_factor(user: User) -> bool:
    return bool(Authenticator.objects.filter(user=user, type__in=FACTORS).exists())


def people_without_second_factor(organization: Organization) -> QuerySet[User]:
    """Its people whom the rule would keep out, or does."""
    protected = Authenticator.objects.filter(user=OuterRef("pk"), type__in=FACTORS)
    live = Membership.objects.filter(user=OuterRef("pk"), organization=organization, suspended_at=None)
    return User.objects.filter(Exists(live), ~Exists(protected), is_active=True).order_by("email")


def keeps_out(organization: Organization, user: User) -> bool:
    return organization.second_factor_required and not has_second_factor(user)
