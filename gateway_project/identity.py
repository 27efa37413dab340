"""Accounts elsewhere that people may sign in with, as the installation's environment names them.

Each consists of a client id and its secret, as the provider's console gives them out; one half alone is a mistake that is
told at start-up. An organisation's own identity provider is no setting: it stands in the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured


def providers(variables: Mapping[str, str]) -> dict[str, Any]:
    """`SOCIALACCOUNT_PROVIDERS`, of those that are set. Raises ImproperlyConfigured."""
    google = _client("GOOGLE", variables.get("GOOGLE_CLIENT_ID", ""), variables.get("GOOGLE_CLIENT_SECRET", ""))
    github = _client("GITHUB", variables.get("GITHUB_CLIENT_ID", ""), variables.get("GITHUB_CLIENT_SECRET", ""))
    oidc = _client("OIDC", variables.get("OIDC_CLIENT_ID", ""), variables.get("OIDC_CLIENT_SECRET", ""))
    server = variables.get("OIDC_SERVER_URL", "")
    if bool(oidc) != bool(server):
        raise ImproperlyConfigured("OIDC_SERVER_URL, OIDC_CLIENT_ID and OIDC_CLIENT_SECRET are set together or not at all.")
    named: dict[str, Any] = {
        "provider_id": "oidc",
        "name": variables.get("OIDC_NAME", "OpenID Connect"),
        "settings": {"server_url": server},
    }
    found: dict[str, dict[str, Any]] = {
        "google": {"APPS": [google], "SCOPE": ["profile", "email"]},
        "github": {"APPS": [github], "SCOPE": ["user:email"]},
        "openid_connect": {"APPS": [{**named, **oidc} if oidc else {}]},
    }
    return {name: {"OAUTH_PKCE_ENABLED": True, **provider} for name, provider in found.items() if provider["APPS"] != [{}]}


def _client(name: str, client_id: str, secret: str) -> dict[str, Any]:
    if bool(client_id) != bool(secret):
        raise ImproperlyConfigured(f"{name}_CLIENT_ID and {name}_CLIENT_SECRET are set together or not at all.")
    return {"client_id": client_id, "secret": secret} if client_id else {}
