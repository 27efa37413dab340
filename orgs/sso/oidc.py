"""OpenID Connect: the authorization code flow with PKCE, `state` and `nonce`, and an ID token that is verified by its signature.

Guarantees: the issuer of the discovery document is the one that was entered; a token is believed only with a signature by
one of the issuer's keys, for this client, in its time, and with the nonce of this very sign-in.
(https://openid.net/specs/openid-connect-core-1_0.html, sections 3.1.2 and 3.1.3.7)
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import quote_plus, urlencode

import jwt
from django.conf import settings
from django.core.cache import cache
from django.urls import reverse

from gateway_project.lib import crypto, outbound
from orgs.sso.errors import SsoFailed
from orgs.sso.fetching import fetch_json
from orgs.sso.identity import UID_LENGTH, Identity
from orgs.sso_models import SsoConnection

WELL_KNOWN = "/.well-known/openid-configuration"
SCOPE = "openid email profile"
# Signatures by the provider's private key only: one by a shared secret could be made by whoever holds that.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
CLOCK_SKEW_SECONDS = 60
REMEMBERED_SECONDS = 600
NEEDED = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri")


def redirect_uri(connection: SsoConnection) -> str:
    return settings.PUBLIC_URL + reverse("sso:callback", kwargs={"slug": connection.slug})


def discover(issuer: str) -> dict[str, Any]:
    """The provider's own description, fresh. Raises NotReached, SsoFailed."""
    found = fetch_json(issuer.rstrip("/") + WELL_KNOWN)
    if any(not isinstance(found.get(name), str) for name in NEEDED):
        raise SsoFailed(f"The discovery document lacks one of {', '.join(NEEDED)}.")
    if found["issuer"].rstrip("/") != issuer.rstrip("/"):
        raise SsoFailed("The discovery document names another issuer than the one entered.")
    if outbound.why_not(found["authorization_endpoint"].partition("?")[0]):
        raise SsoFailed("The discovery document names a sign-in page that is not at a public https:// address.")
    return found


def published_keys(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that can verify a signature, as JSON Web Keys. Raises NotReached, SsoFailed."""
    listed = fetch_json(document["jwks_uri"]).get("keys")
    keys = [raw for raw in listed if _key(raw) is not None] if isinstance(listed, list) else []
    if not keys:
        raise SsoFailed("The provider publishes no key that could verify a signature.")
    return keys


def authorization_url(connection: SsoConnection, *, state: str, nonce: str, verifier: str, email: str) -> str:
    """Raises NotReached, SsoFailed."""
    endpoint = _document(connection)["authorization_endpoint"]
    asked = {
        "response_type": "code",
        "client_id": connection.client_id,
        "redirect_uri": redirect_uri(connection),
        "scope": SCOPE,
        "state": state,
        "nonce": nonce,
        "code_challenge": _challenge(verifier),
        "code_challenge_method": "S256",
        **({"login_hint": email} if email else {}),
    }
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}"


def redeem(connection: SsoConnection, *, code: str, nonce: str, verifier: str) -> Identity:
    """Who has signed in. Raises NotReached, SsoFailed."""
    document = _document(connection)
    answer = _tokens(connection, document, code=code, verifier=verifier)
    claims = verified_claims(connection, document, str(answer.get("id_token") or ""), nonce=nonce)
    if not claims.get("email") and isinstance(document.get("userinfo_endpoint"), str) and answer.get("access_token"):
        claims = _userinfo(document["userinfo_endpoint"], str(answer["access_token"]), claims)
    return _identity(claims)


def verified_claims(connection: SsoConnection, document: dict[str, Any], token: str, *, nonce: str) -> dict[str, Any]:
    """Raises NotReached, SsoFailed."""
    try:
        header = jwt.get_unverified_header(token)
        key = _signing_key(connection, document, header)
        claims: dict[str, Any] = jwt.decode(
            token,
            key=key.key,
            algorithms=[key.algorithm_name],
            audience=connection.client_id,
            issuer=document["issuer"],
            leeway=CLOCK_SKEW_SECONDS,
            options={"require": ["exp", "iat", "iss", "aud", "sub"]},
        )
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        # The kind of error is all that is told: its text may quote the token.
        raise SsoFailed(f"The identity provider's ID token is not valid ({type(error).__name__}).") from error
    audiences = claims["aud"]
    if isinstance(audiences, list) and len(audiences) > 1 and claims.get("azp") != connection.client_id:
        raise SsoFailed("The identity provider's ID token was issued to another client.")
    if not nonce or claims.get("nonce") != nonce:
        raise SsoFailed("The identity provider's ID token belongs to another sign-in.")
    return claims


def forget(connection: SsoConnection) -> None:
    """What is remembered of the provider, when it may be another one now."""
    cache.delete_many([_cached(connection, "document"), _cached(connection, "keys")])


def _document(connection: SsoConnection) -> dict[str, Any]:
    cached = cache.get(_cached(connection, "document"))
    if cached is None:
        cached = discover(connection.issuer)
        cache.set(_cached(connection, "document"), cached, REMEMBERED_SECONDS)
    found: dict[str, Any] = cached
    return found


def _signing_key(connection: SsoConnection, document: dict[str, Any], header: dict[str, Any]) -> jwt.PyJWK:
    """Of the keys last seen; a key that is not among them may be new. Raises NotReached, SsoFailed."""
    name = _cached(connection, "keys")
    found = _fitting(cache.get(name) or [], header)
    if found is None:
        fresh = published_keys(document)
        cache.set(name, fresh, REMEMBERED_SECONDS)
        found = _fitting(fresh, header)
    if found is None:
        raise SsoFailed("The identity provider's ID token is signed by a key that the provider does not publish.")
    return found


def _fitting(published: list[dict[str, Any]], header: dict[str, Any]) -> jwt.PyJWK | None:
    """The one that the token's header names; without a name there must be only one of its algorithm."""
    keys = [key for raw in published if (key := _key(raw)) is not None and key.algorithm_name == header.get("alg")]
    named = [key for key in keys if key.key_id == header.get("kid")]
    if named or header.get("kid") is not None:
        return named[0] if named else None
    return keys[0] if len(keys) == 1 else None


def _key(raw: Any) -> jwt.PyJWK | None:
    """None for one that is not for signatures, or of a kind that is not known here."""
    if not isinstance(raw, dict) or raw.get("use", "sig") != "sig":
        return None
    try:
        key = jwt.PyJWK.from_dict(raw)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    return key if key.algorithm_name in ALGORITHMS else None


def _tokens(connection: SsoConnection, document: dict[str, Any], *, code: str, verifier: str) -> dict[str, Any]:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri(connection),
        "code_verifier": verifier,
    }
    secret = _secret(connection)
    methods = document.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
    if "client_secret_basic" not in methods:
        return fetch_json(document["token_endpoint"], form={**form, "client_id": connection.client_id, "client_secret": secret})
    # Both are form-encoded before they are joined: RFC 6749, section 2.3.1.
    pair = f"{quote_plus(connection.client_id)}:{quote_plus(secret)}"
    headers = {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return fetch_json(document["token_endpoint"], form=form, headers=headers)


def _secret(connection: SsoConnection) -> str:
    try:
        return crypto.decrypt(connection.secret_encrypted, bound_to=connection.secret_bound_to)
    except crypto.CannotDecrypt as error:
        raise SsoFailed("The client secret cannot be opened with this installation's key ring. Enter it again.") from error


def _userinfo(endpoint: str, access_token: str, claims: dict[str, Any]) -> dict[str, Any]:
    """For providers that put no address into the token. Raises NotReached, SsoFailed."""
    told = fetch_json(endpoint, headers={"Authorization": f"Bearer {access_token}"})
    if told.get("sub") != claims["sub"]:
        raise SsoFailed("The identity provider's userinfo is about somebody else.")
    return {**told, **claims}


def _identity(claims: dict[str, Any]) -> Identity:
    uid, email, name = (claims.get(claim) for claim in ("sub", "email", "name"))
    if not isinstance(uid, str) or not 0 < len(uid) <= UID_LENGTH:
        raise SsoFailed("The identity provider's ID token names nobody.")
    return Identity(
        uid=uid,
        email=email.strip().lower() if isinstance(email, str) else "",
        name=name if isinstance(name, str) else "",
        # Some providers give it as text. Left out, it says nothing: the address's domain decides.
        email_denied=claims.get("email_verified", True) in (False, "false"),
    )


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def _cached(connection: SsoConnection, what: str) -> str:
    return f"sso:{connection.pk}:{what}"
