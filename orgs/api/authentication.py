"""Who asks: a personal access token as bearer, or the console's session with its protection against forged requests."""

from __future__ import annotations

from typing import cast

from django.http import HttpRequest
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from orgs.models import AccessToken, User
from orgs.origin import origin_of
from orgs.services.tokens import token_of


class TokenAuthentication(BaseAuthentication):
    """Whoever sends a bearer is judged by it alone, whatever cookie comes along."""

    def authenticate(self, request: Request) -> tuple[User, AccessToken] | None:
        kind, _, text = request.headers.get("authorization", "").partition(" ")
        if not kind:
            return None
        token = token_of(text.strip()) if kind.lower() == "bearer" else None
        if token is None:
            raise AuthenticationFailed("This is no access token that works. Send `Authorization: Bearer gh_pat_…`.")
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class ConsoleSession(SessionAuthentication):
    """The signed-in browser; what changes something needs the CSRF token."""


class PersonThrottle(SimpleRateThrottle):
    """Per person, and per address of whoever is nobody."""

    scope = "api"
    rate = "600/min"

    def get_cache_key(self, request: Request, view: APIView) -> str:
        user = request.user
        ident = f"u{user.pk}" if isinstance(user, User) else f"a{origin_of(cast(HttpRequest, request)).ip}"
        return f"api-rate:{ident}"


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = TokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "A personal access token: `gh_pat_…`"}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = ConsoleSession
    name = "session"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid", "description": "The console's session, with X-CSRFToken"}
