"""Which account an address of a directory stands for.

Guarantees: an organisation reaches accounts whose address lies in a domain that it has proven to be its own, and those that
belong to it already; no other. An account that exists is joined as it is: its name, address, password and second factor,
and whatever it has elsewhere, are never touched; unless nobody has confirmed its address, so that it may be a stranger's,
and it is no operator's.
Only an account that was made for the directory, and belongs to no other company and no operator, follows its name and address.
"""

from __future__ import annotations

from typing import Any

from allauth.account.models import EmailAddress
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from scim2_models import InvalidValueException, UniquenessException

from orgs.models import Membership, Organization, User
from orgs.scim import resources
from orgs.services.vouching import confirm_address, hand_over, vouches_for

NAME_LENGTH = 120


def address_of(wanted: resources.User) -> str:
    """Raises InvalidValueException where it names none."""
    found = named_address(wanted.user_name, [email.model_dump() for email in wanted.emails or []])
    if found is None:
        raise InvalidValueException(detail="userName, or one of emails, is the e-mail address to sign in with.")
    return found


def named_address(user_name: str | None, emails: list[dict[str, Any]]) -> str | None:
    """The user name where it is an address; else the primary, or first, address."""
    primary = sorted(emails, key=lambda email: not email.get("primary"))
    texts = (text or "" for text in (user_name, *(email.get("value") for email in primary)))
    return next((address for address in (text.strip().lower() for text in texts) if _is_address(address)), None)


def account_of(address: str, *, name: str, organization: Organization) -> tuple[User, bool]:
    """The account, and whether it was made for it. Raises InvalidValueException where the address is out of reach.

    A member whose address nobody has confirmed is handed over, too: an invitation's link lets in whoever has it.
    """
    user = User.objects.filter(email=address).first()
    if not vouches_for(organization, address):
        if user is not None and Membership.objects.filter(user=user, organization=organization).exists():
            return user, False
        raise InvalidValueException(detail=f"{address} lies in no verified domain of {organization}.")
    _refuse_elsewhere(address, user)
    if user is not None:
        hand_over(user)
        confirm_address(user)
        return user, False
    user = User.objects.create_user(address, name=name[:NAME_LENGTH])
    # The domain is the organisation's, and its directory says whose address this is.
    EmailAddress.objects.create(user=user, email=address, primary=True, verified=True)
    return user, True


def readdress(user: User, address: str, *, organization: Organization) -> None:
    """The account signs in with this address from now on; the one before is free for whoever gets it next.

    Raises InvalidValueException where the address is out of reach, UniquenessException where it is another account's.
    """
    if not vouches_for(organization, address):
        raise InvalidValueException(detail=f"{address} lies in no verified domain of {organization}.")
    if User.objects.filter(email=address).exclude(pk=user.pk).exists():
        raise UniquenessException(detail=f"{address} is another account's.")
    _refuse_elsewhere(address, user)
    EmailAddress.objects.filter(user=user, email__iexact=user.email).exclude(email__iexact=address).delete()
    User.objects.filter(pk=user.pk).update(email=address)
    user.email = address
    EmailAddress.objects.filter(user=user).update(primary=False)
    given = {"email": address, "verified": True, "primary": True}
    EmailAddress.objects.update_or_create(user=user, email__iexact=address, defaults=given)


def _refuse_elsewhere(address: str, user: User | None) -> None:
    if EmailAddress.objects.filter(email__iexact=address, verified=True).exclude(user=user).exists():
        raise InvalidValueException(detail=f"{address} is a further address of another account.")


def _is_address(text: str) -> bool:
    try:
        validate_email(text)
    except ValidationError:
        return False
    return len(text) <= 254
