"""How an address signs in: what the sign-in page asks before anybody types a secret.

The answer depends on the address's domain only, never on whether somebody here has the address: the page must look the
same for the known and the unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.urls import reverse

from orgs.sso.required import connection_for


@dataclass(frozen=True)
class SignIn:
    """`url` begins the sign-in at the address's own identity provider, the connection `slug`; empty: here, by password, passkey
    or code."""

    url: str = ""
    slug: str = ""


def sign_in_for(email: str) -> SignIn:
    """`email` is a valid address, in any capitals."""
    connection = connection_for(email)
    return SignIn(reverse("sso:start", kwargs={"slug": connection.slug}), connection.slug) if connection else SignIn()
