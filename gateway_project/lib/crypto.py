"""Secrets at rest. API keys are only ever kept as digests; provider credentials are encrypted, bound to their row.

Digest: HMAC-SHA-256 under the installation's pepper (a leaked table alone cannot be searched).
Encryption: AES-256-GCM under a key ring `id:base64,id:base64` of which the first encrypts; stored as
`v1.<key id>.<nonce>.<ciphertext>` with the row's name as associated data, so a value moved to another row does not open.
Contents are sealed the same way, as bytes: `v1`, the length of the key id (one byte), key id, nonce, ciphertext.
"""

import base64
import hashlib
import hmac
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

SEALED = b"v1"
NONCE_BYTES = 12


class CannotDecrypt(Exception):
    """The key ring lacks the key, or the value was changed or moved from another row."""


def digest(secret: str) -> bytes:
    """32 bytes; the same secret gives the same digest on one installation only."""
    return hmac.digest(settings.GATEHOUSE_PEPPER.encode(), secret.encode(), hashlib.sha256)


def encrypt(text: str, *, bound_to: str) -> str:
    key_id, key = next(iter(_key_ring().items()))
    nonce = secrets.token_bytes(NONCE_BYTES)
    ciphertext = AESGCM(key).encrypt(nonce, text.encode(), bound_to.encode())
    return f"v1.{key_id}.{_text(nonce)}.{_text(ciphertext)}"


def decrypt(stored: str, *, bound_to: str) -> str:
    """Raises CannotDecrypt."""
    try:
        version, rest = stored.split(".", 1)
        key_id, nonce, ciphertext = rest.rsplit(".", 2)  # the id may have dots of its own: `2026.11`
        key = _key_ring()[key_id]
        if version != "v1":
            raise CannotDecrypt(f"unknown format {version}")
        return AESGCM(key).decrypt(_bytes(nonce), _bytes(ciphertext), bound_to.encode()).decode()
    except (ValueError, KeyError, InvalidTag) as error:
        raise CannotDecrypt(f"a value of {bound_to} cannot be decrypted with this key ring") from error


def reencrypted(stored: str, *, bound_to: str) -> str | None:
    """The same secret under the first key of the ring; None where it is under that already. Raises CannotDecrypt."""
    text = decrypt(stored, bound_to=bound_to)
    used = stored.split(".", 1)[1].rsplit(".", 2)[0]
    return None if used == next(iter(_key_ring())) else encrypt(text, bound_to=bound_to)


def seal(content: bytes, *, bound_to: str) -> bytes:
    key_id, key = next(iter(_key_ring().items()))
    nonce = secrets.token_bytes(NONCE_BYTES)
    name = key_id.encode()
    return SEALED + bytes([len(name)]) + name + nonce + AESGCM(key).encrypt(nonce, content, bound_to.encode())


def unseal(sealed: bytes, *, bound_to: str) -> bytes:
    """Raises CannotDecrypt."""
    try:
        named = len(SEALED) + 1
        name_ends = named + sealed[len(SEALED)]
        nonce_ends = name_ends + NONCE_BYTES
        if not sealed.startswith(SEALED):
            raise CannotDecrypt("unknown format")
        key = _key_ring()[sealed[named:name_ends].decode()]
        return AESGCM(key).decrypt(sealed[name_ends:nonce_ends], sealed[nonce_ends:], bound_to.encode())
    except (ValueError, KeyError, IndexError, InvalidTag) as error:
        raise CannotDecrypt(f"contents of {bound_to} cannot be decrypted with this key ring") from error


def _key_ring() -> dict[str, bytes]:
    pairs = (entry.split(":", 1) for entry in settings.GATEHOUSE_KEYS.split(","))
    return {key_id.strip(): base64.urlsafe_b64decode(value) for key_id, value in pairs}


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
