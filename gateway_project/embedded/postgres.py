"""The embedded PostgreSQL: unix socket only, password (SCRAM), data kept between runs."""

import os
import re
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

from gateway_project.embedded import binaries, places
from gateway_project.embedded.child import Child
from gateway_project.embedded.errors import StartError
from gateway_project.embedded.places import Place

USER = DATABASE = "gatehouse"
CREATE = f"CREATE DATABASE {DATABASE}\n"
NOISE = re.compile("^LOG: ")  # each start and stop is a dozen lines of it; when a start fails they say why
READY_LINE = 7  # of postmaster.pid, as pg_ctl reads it
OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    # Statements and row values may hold what callers sent: errors of statements are not logged, only the server's own affairs.
    "log_min_messages": "log",
    "log_checkpoints": "off",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_line_prefix": "",
}
# For tests: survives a killed process, not a power cut; nobody replicates it, and what is counted of it nobody reads.
FAST_OPTIONS = {
    **{"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off", "track_counts": "off"},
    **{"wal_level": "minimal", "max_wal_senders": "0", "update_process_title": "off", "io_method": "sync"},
}
# Of glibc (mallopt(3)): else a server process hands its memory back after each statement, and takes it again for the next.
FAST_VARIABLES = {"MALLOC_TRIM_THRESHOLD_": "67108864", "MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TOP_PAD_": "2097152"}


class Postgres:
    def __init__(self, place: Place, *, password: str, fast: bool = False) -> None:
        self.place, self.password, self.fast = place, password, fast
        self.data = place.data / "postgres"
        self.programs = places.reachable(binaries.postgres_folder(), program="bin/postgres", place=place) / "bin"

    def url(self, database: str = DATABASE) -> str:
        return f"postgresql://{USER}:{quote(self.password, safe='')}@{quote(str(self.place.sockets), safe='')}/{database}"

    def prepare(self) -> bool:
        """Creates the cluster where there is none yet; true if it did. Raises StartError."""
        version_file = self.data / "PG_VERSION"
        if version_file.exists():
            self._check_version(version_file.read_text().strip())
            (self.data / "postmaster.pid").unlink(missing_ok=True)  # the state folder's lock is ours: whoever wrote it is gone
            return False
        if self.data.exists() and any(self.data.iterdir()):
            raise StartError(f"{self.data} is not empty, yet holds no PostgreSQL data: move it away.")
        password_file = self._write_password_file()
        try:
            self._initialise(password_file)
        finally:
            password_file.unlink()
        return True

    def child(self) -> Child:
        options = {**OPTIONS, "unix_socket_directories": str(self.place.sockets), **(FAST_OPTIONS if self.fast else {})}
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return Child(
            "postgres",
            argv=[str(self.programs / "postgres"), "-D", str(self.data), *settings],
            ready=self._is_ready,
            folder=self.data,
            variables=self._variables(),
            account=self.place.account,
            stop_signal=signal.SIGINT,  # "fast shutdown": ends sessions, writes a checkpoint
            stop_seconds=20,
            noise=NOISE,
        )

    def _is_ready(self, pid: int) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, PermissionError):
            return False
        return len(lines) > READY_LINE and lines[0] == str(pid) and lines[READY_LINE].strip() == "ready"

    def _check_version(self, version: str) -> None:
        if version != binaries.POSTGRES_MAJOR:
            raise StartError(
                f"{self.data} was written by PostgreSQL {version}, this Gatehouse brings {binaries.POSTGRES_MAJOR}: "
                "dump it with the old release and load it into the new one."
            )

    def _write_password_file(self) -> Path:
        path = self.place.data / f"password-{secrets.token_hex(4)}"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self.password)
        if self.place.account.switch:
            os.chown(path, self.place.account.uid, self.place.account.gid)
        return path

    def _initialise(self, password_file: Path) -> None:
        """Beside its final place, and renamed when complete: what an interrupted first start left is thrown away by the next."""
        temporary = self.place.data / "postgres.new"
        shutil.rmtree(temporary, ignore_errors=True)
        argv = [str(self.programs / "initdb"), "-D", str(temporary), "--username", USER, "--pwfile", str(password_file)]
        # Rounds slow down who guesses a password that people chose. This one is drawn, and each connection would go through them.
        argv += ["--auth=scram-sha-256", "--set", "scram_iterations=1"]
        argv += ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        self._run(*argv, "--no-sync")
        self._run(str(self.programs / "postgres"), "--single", "-D", str(temporary), "-c", "fsync=off", "postgres", text=CREATE)
        if not self.fast:
            self._run(str(self.programs / "initdb"), "--sync-only", "-D", str(temporary))
        temporary.rename(self.data)

    def _run(self, *argv: str, text: str = "") -> None:
        account = self.place.account
        result = subprocess.run(  # noqa: S603 - our own programs
            argv,
            input=text,
            cwd=self.place.data,
            env=self._variables(),
            capture_output=True,
            text=True,
            user=account.uid if account.switch else None,
            group=account.gid if account.switch else None,
            extra_groups=[] if account.switch else None,
            check=False,
        )
        if result.returncode:
            tail = "".join(f"\n  postgres | {line}" for line in (result.stdout + result.stderr).splitlines()[-8:])
            raise StartError(f"PostgreSQL could not create its files in {self.data}.{tail}")

    def _variables(self) -> dict[str, str]:
        return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", **(FAST_VARIABLES if self.fast else {})}
