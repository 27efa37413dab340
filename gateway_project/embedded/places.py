"""Where the embedded servers live and as whom they run.

* As an ordinary user: below the state folder, as that user.
* As root: PostgreSQL refuses to run as root, so both servers run as an unprivileged account. No parent folder is
  ever opened for it: where the state folder cannot be entered by that account, a folder under /var/lib is used, and said.
* A unix socket's path holds about a hundred bytes: below a deep state folder the sockets go to a short folder in /tmp,
  and that is said.

Every folder made here is 0700 and belongs to the servers' account.
"""

import hashlib
import os
import pwd
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path

from gateway_project.embedded.errors import StartError

ACCOUNT_NAMES = ("postgres", "nobody")
FALLBACK_FOLDER = Path("/var/lib/gatehouse")
SOCKET_PATH_BYTES = 103  # macOS; Linux has 107
LONGEST_SOCKET_NAME = ".s.PGSQL.5432.lock"


@dataclass(frozen=True, slots=True)
class Account:
    """An operating-system account; `switch` is true where a child has to change to it."""

    uid: int
    gid: int
    switch: bool

    def may_enter(self, folder: Path) -> bool:
        """Whether the account can pass through the folder and everything above it that exists."""
        return all(self._has(path, execute=True) for path in (folder, *folder.parents) if path.exists())

    def may_run(self, program: Path) -> bool:
        return self.may_enter(program.parent) and self._has(program, execute=True) and self._has(program, execute=False)

    def _has(self, path: Path, *, execute: bool) -> bool:
        if not self.switch:
            return os.access(path, os.X_OK if execute else os.R_OK)
        status = path.stat()
        bit = 0o1 if execute else 0o4
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid == self.gid else 0
        return bool(status.st_mode & (bit << shift))


@dataclass(frozen=True, slots=True)
class Place:
    """`data` holds what must be kept, `sockets` the two unix sockets; `notes` are sentences for the person at the terminal."""

    account: Account
    data: Path
    sockets: Path
    notes: list[str] = field(default_factory=list)

    def make(self, name: str) -> Path:
        """A private folder for one server below `data`."""
        return make_private(self.data / name, self.account)


def choose(home: Path, *, fallback: Path = FALLBACK_FOLDER) -> Place:
    """Folders and account for this state folder, created. Raises StartError where that is not possible."""
    make_home(home)
    account = choose_account(home / "servers")
    notes: list[str] = []
    data = home / "servers"
    if not account.may_enter(home):
        if data.exists():
            raise StartError(
                f"PostgreSQL's account can no longer enter {home}, where its data lies: `chmod o+x` it and the folders above."
            )
        data = fallback / _digest(home)
        account = choose_account(data)
        notes.append(f"Database files are kept in {data}: the account that runs PostgreSQL cannot enter {home}.")
        fallback.mkdir(parents=True, exist_ok=True, mode=0o755)
    make_private(data, account)
    sockets = data / "sockets"
    if len(os.fsencode(sockets / LONGEST_SOCKET_NAME)) > SOCKET_PATH_BYTES:
        sockets = Path("/tmp") / f"gatehouse-{account.uid}-{_digest(home)}"  # noqa: S108 - ownership and mode are checked below
        notes.append(f"Sockets are kept in {sockets}: the path of the state folder is too long for a unix socket.")
    make_private(sockets, account)
    return Place(account=account, data=data, sockets=sockets, notes=notes)


def make_home(home: Path) -> None:
    """As root others may pass through (never list) the state folder, so that PostgreSQL's account reaches its own below."""
    try:
        if not home.exists():
            home.mkdir(parents=True, mode=0o700)
            home.chmod(0o711 if os.geteuid() == 0 else 0o700)
        probe = home / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StartError(
            f"The state folder {home} cannot be written ({error.strerror}): set GATEHOUSE_HOME to a folder that can."
        ) from error


def choose_account(existing: Path) -> Account:
    if os.geteuid() != 0:
        return Account(uid=os.geteuid(), gid=os.getegid(), switch=False)
    if existing.exists() and (status := existing.stat()).st_uid != 0:
        return Account(uid=status.st_uid, gid=status.st_gid, switch=True)
    for name in ACCOUNT_NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(uid=entry.pw_uid, gid=entry.pw_gid, switch=True)
    raise StartError(
        "PostgreSQL does not run as root and there is no account `nobody` to run it as: start Gatehouse as an ordinary user."
    )


def make_private(folder: Path, account: Account) -> Path:
    """The folder, 0700 and owned by the account. One that exists and belongs to somebody else is refused, not taken over."""
    try:
        folder.mkdir(mode=0o700)
        if account.switch:
            os.chown(folder, account.uid, account.gid)
    except FileExistsError:
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != account.uid:
            raise StartError(
                f"{folder} exists and belongs to another account: remove it, or set GATEHOUSE_HOME to another folder."
            ) from None
        folder.chmod(0o700)
    except OSError as error:
        raise StartError(
            f"{folder} cannot be created ({error.strerror}): set GATEHOUSE_HOME to a folder that can be written."
        ) from error
    return folder


def reachable(folder: Path, *, program: str, place: Place) -> Path:
    """The folder of programs itself, or a copy in the state folder where the servers' account cannot run them in place."""
    if place.account.may_run(folder / program):
        return folder
    copy = place.data / f"programs-{folder.name}"
    if not (copy / program).exists() or (copy / program).stat().st_mtime_ns != (folder / program).stat().st_mtime_ns:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a", "pkgconfig"))
        for path in (copy, *copy.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        place.notes.append(f"Server programs are copied to {copy}: the account that runs PostgreSQL cannot enter {folder}.")
    return copy


def _digest(home: Path) -> str:
    return hashlib.sha256(os.fsencode(home)).hexdigest()[:10]
