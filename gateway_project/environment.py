"""Where the settings come from: the process environment first, then the state folder's own `environment` file.

`manage.py up` writes that file (mode 0600): generated secrets, and the addresses of the embedded
servers it runs. So every other command, started in another shell, finds the running Gatehouse.
"""

import base64
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

HOME_VARIABLE = "GATEHOUSE_HOME"
FILE_NAME = "environment"
GENERATED = ("SECRET_KEY", "GATEHOUSE_PEPPER", "GATEHOUSE_KEYS")


def home(variables: Mapping[str, str] = os.environ) -> Path:
    """The state folder: everything Gatehouse keeps on this machine lies below it."""
    default = Path(__file__).resolve().parent.parent / ".gatehouse"
    return Path(variables.get(HOME_VARIABLE) or default).resolve()


def read_file(folder: Path) -> dict[str, str]:
    """The `NAME=value` lines of the folder's environment file; empty where there is none."""
    try:
        text = (folder / FILE_NAME).read_text()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, value in pairs}


def write_file(folder: Path, values: Mapping[str, str]) -> None:
    """Replaces the file in one step; only its owner can read it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = folder / f".{FILE_NAME}.{os.getpid()}"
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write("# Written by `manage.py up`. Holds secrets: keep it private, keep it in the backup.\n")
        file.writelines(f"{name}={value}\n" for name, value in sorted(values.items()))
    temporary.replace(folder / FILE_NAME)


def generate_secrets() -> dict[str, str]:
    """Fresh values for what must be random and must then stay: sessions, key digests, encrypted credentials."""
    return {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "GATEHOUSE_PEPPER": secrets.token_urlsafe(32),
        "GATEHOUSE_KEYS": f"k1:{base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()}",
    }


def load() -> dict[str, str]:
    """What the settings read: the process environment wins over the file."""
    return {**read_file(home()), **os.environ}
