"""The text of an API key: `gh_sk_<public id>_<secret>`. The public id finds and names it, the secret is never stored."""

import secrets
import string
from typing import NamedTuple

PREFIX = "gh_sk"
PUBLIC_ID_LENGTH = 12
# 43 letters and digits: 256 bits.
SECRET_LENGTH = 43
PUBLIC_ID_ALPHABET = string.ascii_lowercase + string.digits
SECRET_ALPHABET = string.ascii_letters + string.digits


class KeyText(NamedTuple):
    public_id: str
    secret: str

    @property
    def text(self) -> str:
        return f"{PREFIX}_{self.public_id}_{self.secret}"

    @property
    def last_four(self) -> str:
        return self.secret[-4:]


def new_key_text(public_id: str = "") -> KeyText:
    """Of a new key; with `public_id`, another text of the key that has it."""
    return KeyText(public_id or _random(PUBLIC_ID_ALPHABET, PUBLIC_ID_LENGTH), _random(SECRET_ALPHABET, SECRET_LENGTH))


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))
