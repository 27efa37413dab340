"""What an identity provider says of a person, whichever protocol it speaks."""

from __future__ import annotations

from dataclasses import dataclass

UID_LENGTH = 512


@dataclass(frozen=True)
class Identity:
    """`uid` is what the provider knows the person by and never gives to another one. `email` is in lower case; "" for none.

    `email_denied`: the provider itself says that the address is not verified.
    """

    uid: str
    email: str
    name: str = ""
    email_denied: bool = False

    @property
    def domain(self) -> str:
        return self.email.rpartition("@")[2]
