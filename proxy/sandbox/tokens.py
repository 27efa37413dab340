"""The sandbox provider's credential: derived from SECRET_KEY, so every process of an installation agrees on it."""

import hashlib
import hmac

from django.conf import settings


def token() -> str:
    """What the gateway sends as its bearer token, so that nobody uses the sandbox around the gateway."""
    return "sandbox-" + hmac.digest(settings.SECRET_KEY.encode(), b"sandbox provider", hashlib.sha256).hex()


def accepts(authorization: str) -> bool:
    """Whether an Authorization header carries the token; constant time."""
    return hmac.compare_digest(authorization.encode(), f"Bearer {token()}".encode())
