"""Why a sign-in at an organisation's identity provider does not come about.

Exception
├── SsoFailed       what came from the identity provider cannot be believed or read
│   └── NotReached      it did not answer, or not as it must
└── (orgs.errors.Refused: it is believed, and that person is not let in)
"""

from __future__ import annotations


class SsoFailed(Exception):
    """`message` is written for the person who signs in, or tests; it holds nothing that came with the answer but error codes."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NotReached(SsoFailed):
    pass
