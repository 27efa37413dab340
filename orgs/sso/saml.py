"""SAML 2.0, the service provider's side: metadata, a request by redirect, an answer by form.

Guarantees, beside what python3-saml checks (signature, issuer, audience, destination, recipient, times): the assertion itself
is signed, it names us as its audience, it is believed once, and the person is named by something lasting.

Imported when it is needed: lxml and xmlsec weigh on every process that loads them, and most serve no sign-in.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from cryptography import x509
from django.conf import settings
from django.core.cache import cache
from django.urls import reverse
from lxml.etree import LxmlError
from onelogin.saml2.authn_request import OneLogin_Saml2_Authn_Request
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Names
from onelogin.saml2.errors import OneLogin_Saml2_Error, OneLogin_Saml2_ValidationError
from onelogin.saml2.idp_metadata_parser import OneLogin_Saml2_IdPMetadataParser
from onelogin.saml2.response import OneLogin_Saml2_Response
from onelogin.saml2.settings import OneLogin_Saml2_Settings

from gateway_project.lib import outbound
from orgs.sso.errors import SsoFailed
from orgs.sso.identity import UID_LENGTH, Identity
from orgs.sso_models import URL_LENGTH, SsoConnection

# An answer with a few attributes has some ten thousand characters.
MOST_RESPONSE = 256_000
MOST_CERTIFICATES = 10
# How long an assertion that names no end of its own is remembered as used.
REPLAY_SECONDS = 24 * 3600
EMAIL = (
    "urn:oid:0.9.2342.19200300.100.1.3",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
    "email", "mail", "Email", "emailAddress", "emailaddress",
)  # fmt: skip
NAME = ("urn:oid:2.16.840.1.113730.3.1.241", "http://schemas.microsoft.com/identity/claims/displayname", "displayName", "name")
GIVEN = ("urn:oid:2.5.4.42", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/givenname", "givenName", "firstName")
FAMILY = ("urn:oid:2.5.4.4", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/surname", "sn", "surname", "lastName")
UNREADABLE = "This is not SAML metadata of an identity provider."


class Provider(NamedTuple):
    """What an identity provider's metadata says. Certificates are DER in base64."""

    entity_id: str
    sso_url: str
    certificates: list[str]


class Answer(NamedTuple):
    """`in_response_to`: the id of the request that it answers; "" where the provider began by itself."""

    identity: Identity
    in_response_to: str


def acs_url(connection: SsoConnection) -> str:
    return settings.PUBLIC_URL + reverse("sso:acs", kwargs={"slug": connection.slug})


def entity_id(connection: SsoConnection) -> str:
    return settings.PUBLIC_URL + reverse("sso:metadata", kwargs={"slug": connection.slug})


def read_metadata(xml: bytes) -> Provider:
    """Of the first identity provider in it. Raises SsoFailed."""
    try:
        found = OneLogin_Saml2_IdPMetadataParser.parse(xml).get("idp", {})
    except (OneLogin_Saml2_Error, LxmlError, ValueError) as error:
        raise SsoFailed(UNREADABLE) from error
    certificates = found.get("x509certMulti", {}).get("signing") or [found.get("x509cert", "")]
    return checked(found.get("entityId") or "", found.get("singleSignOnService", {}).get("url") or "", certificates)


def checked(entity: str, sso_url: str, certificates: list[str]) -> Provider:
    """Raises SsoFailed."""
    if not entity or not certificates or not certificates[0]:
        raise SsoFailed(f"{UNREADABLE} It needs an entityID and a signing certificate.")
    if not sso_url:
        raise SsoFailed("The metadata names no sign-in page with the binding HTTP-Redirect.")
    if len(entity) > URL_LENGTH or len(sso_url) > URL_LENGTH or len(certificates) > MOST_CERTIFICATES:
        raise SsoFailed("The metadata is longer than this gateway keeps.")
    if outbound.why_not(sso_url.partition("?")[0]):
        raise SsoFailed("The metadata names a sign-in page that is not at a public https:// address.")
    for certificate in certificates:
        certificate_of(certificate)
    return Provider(entity, sso_url, certificates)


def certificate_of(text: str) -> x509.Certificate:
    """Raises SsoFailed."""
    try:
        return x509.load_der_x509_certificate(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error) as error:
        raise SsoFailed("The metadata holds a certificate that cannot be read.") from error


def metadata(connection: SsoConnection) -> bytes:
    """Ours, for the identity provider. Single logout is not offered: a session ends here by signing out here."""
    configured = OneLogin_Saml2_Settings(_settings(connection), sp_validation_only=True)
    found: bytes | str = configured.get_sp_metadata()
    return found if isinstance(found, bytes) else found.encode()


def request_url(connection: SsoConnection, *, state: str) -> tuple[str, str]:
    """Where to send the browser, and the id of the request. `state` comes back as RelayState and is not believed."""
    request = OneLogin_Saml2_Authn_Request(OneLogin_Saml2_Settings(_settings(connection)))
    asked = urlencode({"SAMLRequest": request.get_request(), "RelayState": state})
    return f"{connection.sso_url}{'&' if '?' in connection.sso_url else '?'}{asked}", request.get_id()


def read_answer(connection: SsoConnection, encoded: str) -> Answer:
    """Verified, and from now on used. Raises SsoFailed."""
    response = _verified(connection, encoded)
    _use_once(connection, response)
    return Answer(_identity(response), response.get_in_response_to() or "")


def _verified(connection: SsoConnection, encoded: str) -> Any:
    if not encoded or len(encoded) > MOST_RESPONSE:
        raise SsoFailed("The identity provider sent no SAML response, or one that is too long.")
    here = urlsplit(acs_url(connection))
    request = {"https": "on" if here.scheme == "https" else "off", "http_host": here.netloc, "script_name": here.path}
    try:
        response = OneLogin_Saml2_Response(OneLogin_Saml2_Settings(_settings(connection)), encoded)
        response.is_valid({**request, "get_data": {}, "post_data": {}}, raise_exceptions=True)
        audiences = response.get_audiences()
    except OneLogin_Saml2_ValidationError as error:
        raise SsoFailed(_reason(error)) from error
    except (OneLogin_Saml2_Error, LxmlError, ValueError) as error:
        raise SsoFailed("The identity provider's SAML response cannot be read.") from error
    if not audiences:
        raise SsoFailed("The identity provider's assertion is not made out to this service: its audience is missing.")
    return response


REASONS = {
    OneLogin_Saml2_ValidationError.INVALID_SIGNATURE: "its signature is not the identity provider's",
    OneLogin_Saml2_ValidationError.NO_SIGNATURE_FOUND: "it is not signed",
    OneLogin_Saml2_ValidationError.NO_SIGNED_ASSERTION: "its assertion is not signed",
    OneLogin_Saml2_ValidationError.WRONG_AUDIENCE: "it is made out to another service (its audience)",
    OneLogin_Saml2_ValidationError.WRONG_ISSUER: "it comes from another identity provider (its issuer)",
    OneLogin_Saml2_ValidationError.WRONG_DESTINATION: "it is meant for another address (its destination)",
    OneLogin_Saml2_ValidationError.ASSERTION_EXPIRED: "it has expired",
    OneLogin_Saml2_ValidationError.ASSERTION_TOO_EARLY: "it is not valid yet: is a clock wrong?",
    OneLogin_Saml2_ValidationError.SESSION_EXPIRED: "it has expired",
    OneLogin_Saml2_ValidationError.WRONG_SUBJECTCONFIRMATION: "it is not for this sign-in, or has expired",
    OneLogin_Saml2_ValidationError.STATUS_CODE_IS_NOT_SUCCESS: "the identity provider says that the sign-in did not succeed",
}


def _reason(error: OneLogin_Saml2_ValidationError) -> str:
    return f"The SAML response cannot be accepted: {REASONS.get(error.code, 'it is not as the standard wants it')}."


def _use_once(connection: SsoConnection, response: Any) -> None:
    """By the assertion's id, which is signed. Raises SsoFailed."""
    ends = response.get_assertion_not_on_or_after()
    # As long as it would be valid, the allowed difference of clocks included.
    left = max(int(ends - time.time()), 0) + 2 * Names.ALLOWED_CLOCK_DRIFT if ends else REPLAY_SECONDS
    name = hashlib.sha256(f"{connection.pk}|{response.get_assertion_id()}".encode()).hexdigest()
    if not cache.add(f"sso:assertion:{name}", 1, min(left, REPLAY_SECONDS)):
        raise SsoFailed("This SAML response has been used already. Begin again.")


def _identity(response: Any) -> Identity:
    uid, form = (response.get_nameid() or "").strip(), response.get_nameid_format()
    if not uid or len(uid) > UID_LENGTH or form == Names.NAMEID_TRANSIENT:
        raise SsoFailed("The identity provider names the person by nothing lasting: give a persistent NameID, or the address.")
    attributes: dict[str, list[Any]] = response.get_attributes()
    email = _first(attributes, EMAIL) or (uid if form == Names.NAMEID_EMAIL_ADDRESS else "")
    name = _first(attributes, NAME) or f"{_first(attributes, GIVEN)} {_first(attributes, FAMILY)}".strip()
    return Identity(uid=uid, email=email.lower(), name=name)


def _first(attributes: dict[str, list[Any]], names: tuple[str, ...]) -> str:
    texts = (value.strip() for name in names for value in attributes.get(name, []) if isinstance(value, str))
    return next((text for text in texts if text), "")


def _settings(connection: SsoConnection) -> dict[str, Any]:
    return {
        "strict": True,
        "sp": {
            "entityId": entity_id(connection),
            "assertionConsumerService": {"url": acs_url(connection), "binding": Names.BINDING_HTTP_POST},
            "NameIDFormat": Names.NAMEID_UNSPECIFIED,
        },
        "idp": {
            "entityId": connection.issuer,
            "singleSignOnService": {"url": connection.sso_url, "binding": Names.BINDING_HTTP_REDIRECT},
            "x509certMulti": {"signing": connection.certificates},
        },
        "security": {
            "wantAssertionsSigned": True,
            "wantAttributeStatement": False,
            "wantNameId": True,
            "requestedAuthnContext": False,
            "rejectDeprecatedAlgorithm": True,
            "allowRepeatAttributeName": True,
            "allowSingleLabelDomains": True,
        },
    }
