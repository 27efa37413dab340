"""What happens to an account when the organisation that has proven its address's domain vouches for whose it is.

Whoever signs up can type any address. Until somebody has confirmed it, the account may be a stranger's, who waits for the owner
of the address to be given something here: so everything ends by which that stranger could come back.
"""

from __future__ import annotations

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.utils import timezone

from orgs.models import AccessToken, Organization, User
from orgs.services.sessions import end_all
from orgs.sso_models import Domain


def vouches_for(organization: Organization, email: str) -> bool:
    """Whether the address lies in a domain that the organisation has verified."""
    name = email.rpartition("@")[2].lower()
    return Domain.objects.filter(organization=organization, name=name, verified_at__isnull=False).exists()


def hand_over(user: User) -> None:
    """To the owner of its address: nothing happens where that was confirmed, nor to an operator's. Part of a change."""
    confirmed = EmailAddress.objects.filter(user=user, email__iexact=user.email, verified=True)
    if user.is_staff or user.is_superuser or confirmed.exists():
        return
    user.set_unusable_password()
    user.save(update_fields=["password"])
    Authenticator.objects.filter(user=user).delete()
    SocialAccount.objects.filter(user=user).delete()
    # To each of them a new password, or a code, can be sent.
    EmailAddress.objects.filter(user=user).exclude(email__iexact=user.email).delete()
    AccessToken.objects.filter(user=user, revoked_at=None).update(revoked_at=timezone.now())
    end_all(user)


def confirm_address(user: User) -> None:
    """Its own. Part of a change."""
    first = not EmailAddress.objects.filter(user=user, primary=True).exists()
    found = EmailAddress.objects.filter(user=user, email__iexact=user.email).first()
    if found is None:
        EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=first)
    elif not found.verified:
        EmailAddress.objects.filter(pk=found.pk).update(verified=True, primary=found.primary or first)
