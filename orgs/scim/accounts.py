"""Which account an address of a directory stands for.

Guarantees: an organisation reaches accounts whose address lies in a domain that it has proven to be its own, and those that
belong to it already; no other. An account that exists is joined as it is: its name, address, password and second factor,
and whatever it has elsewhere, are never touched; unless nobody has confirmed its address, so that it may be a stranger's.
"""

from __future__ import annotations

from allauth.account.models import EmailAddress
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from scim2_models import InvalidValueException

from orgs.models import Membership, Organization, User
from orgs.scim import resources
from orgs.services.vouching import confirm_address, hand_over, vouches_for

NAME_LENGTH = 120


def address_of(wanted: resources.User) -> str:
    """The user name where it is an address; else the primary, or first, address. Raises InvalidValueException."""
    primary = sorted(wanted.emails or [], key=lambda email: not email.primary)
    for text in (wanted.user_name, *(email.value for email in primary)):
        address = (text or "").strip().lower()
        if _is_address(address):
            return address
    raise InvalidValueException(detail="userName, or one of emails, is the e-mail address to sign in with.")


def account_of(address: str, *, name: str, organization: Organization) -> tuple[User, bool]:
    """The account, and whether it was made for it. Raises InvalidValueException where the address is out of reach."""
    user = User.objects.filter(email=address).first()
    if user is not None and Membership.objects.filter(user=user, organization=organization).exists():
        return user, False
    if not vouches_for(organization, address):
        raise InvalidValueException(detail=f"{address} lies in no verified domain of {organization}.")
    if EmailAddress.objects.filter(email__iexact=address, verified=True).exclude(user=user).exists():
        raise InvalidValueException(detail=f"{address} is a further address of another account.")
    if user is not None:
        hand_over(user)
        confirm_address(user)
        return user, False
    user = User.objects.create_user(address, name=name[:NAME_LENGTH])
    # The domain is the organisation's, and its directory says whose address this is.
    EmailAddress.objects.create(user=user, email=address, primary=True, verified=True)
    return user, True


def _is_address(text: str) -> bool:
    try:
        validate_email(text)
    except ValidationError:
        return False
    return len(text) <= 254
