"""How e-mail leaves: Django's settings for it, from one URL or from single values; without either it is printed to the log.

`smtp://user:password@host:587` begins encrypted as soon as the server offers a way (STARTTLS, which is insisted on),
`smtps://…:465` encrypted from the first byte, `smtp+plain://…:25` never: for a relay on the same machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

CONSOLE = "gateway_project.printed_mail.EmailBackend"
SMTP = "django.core.mail.backends.smtp.EmailBackend"
PORTS = {"smtp": 587, "smtps": 465, "smtp+plain": 25}
SECONDS = 20


def settings(variables: Mapping[str, str]) -> dict[str, Any]:
    """The names that Django knows, with their values. Raises ImproperlyConfigured."""
    url = variables.get("EMAIL_URL") or _url(variables)
    backend = variables.get("EMAIL_BACKEND") or (SMTP if url else CONSOLE)
    sender = variables.get("EMAIL_FROM") or "Gatehouse <gatehouse@localhost>"
    return {"EMAIL_BACKEND": backend, "DEFAULT_FROM_EMAIL": sender, "SERVER_EMAIL": sender, **(_server(url) if url else {})}


def _url(variables: Mapping[str, str]) -> str:
    """Of the single values; '' where no host is named."""
    host = variables.get("EMAIL_HOST", "")
    security = variables.get("EMAIL_SECURITY", "starttls")
    schemes = {"starttls": "smtp", "tls": "smtps", "none": "smtp+plain"}
    if security not in schemes:
        raise ImproperlyConfigured(f"EMAIL_SECURITY is one of {', '.join(schemes)}.")
    login = f"{quote(variables.get('EMAIL_USER', ''), safe='')}:{quote(variables.get('EMAIL_PASSWORD', ''), safe='')}@"
    port = variables.get("EMAIL_PORT", "")
    return f"{schemes[security]}://{login}{host}{':' + port if port else ''}" if host else ""


def _server(url: str) -> dict[str, Any]:
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS[parts.scheme]
    except (KeyError, ValueError) as error:
        raise ImproperlyConfigured(f"EMAIL_URL reads smtp://user:password@host:587 ({', '.join(PORTS)}).") from error
    if not parts.hostname:
        raise ImproperlyConfigured("EMAIL_URL names no host.")
    return {
        "EMAIL_HOST": parts.hostname,
        "EMAIL_PORT": port,
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_TLS": parts.scheme == "smtp",
        "EMAIL_USE_SSL": parts.scheme == "smtps",
        "EMAIL_TIMEOUT": SECONDS,
    }
