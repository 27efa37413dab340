"""What cannot be read back from the database: the demo key's text and the password of the demo's people.

Kept in `demo.json` in the state folder, readable by its owner alone. Lost, they are replaced, never recovered.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from django.conf import settings

FILE_NAME = "demo.json"


class Credentials(msgspec.Struct, frozen=True):
    """`organization_id` tells whose they are: a state folder may outlive its database."""

    organization_id: int
    api_key: str
    password: str


def path() -> Path:
    return Path(settings.GATEHOUSE_HOME) / FILE_NAME


def read() -> Credentials | None:
    """None where there are none, or none that can be understood."""
    try:
        return msgspec.json.decode(path().read_bytes(), type=Credentials)
    except (OSError, msgspec.DecodeError):
        return None


def write(credentials: Credentials) -> None:
    """Replaces the file in one step."""
    path().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path().with_name(f".{FILE_NAME}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(credentials)) + b"\n")
    temporary.replace(path())
