"""One Gatehouse per state folder, and what a killed one left behind.

The lock is the kernel's (flock), so it ends with its holder however that ends. The locked file says who holds it and which
processes belong to it: where the holder was killed and could not stop them, the next start does.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from gateway_project.embedded.child import Child
from gateway_project.embedded.errors import StartError

FILE_NAME = "up.lock"
PATIENCE_SECONDS = 10.0


class StateLock:
    def __init__(self, home: Path, *, url: str) -> None:
        self.home, self.url = home, url
        self.descriptor = -1

    def acquire(self) -> None:
        """Raises StartError where another Gatehouse runs on this folder. Ends what a killed one left running."""
        self.descriptor = os.open(self.home / FILE_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = self._read()
            self.release()  # whose lock it is, keeps its record
            raise StartError(
                f"Gatehouse already runs on {self.home} (process {holder.get('pid', '?')}, {holder.get('url', '?')}): "
                "stop it first, or set GATEHOUSE_HOME and PORT for a second one."
            ) from None
        with contextlib.suppress(ValueError, TypeError):  # a record of another release
            for _, pid, born in self._read().get("children", []):
                end_leftover(pid, born)
        self.record([])

    def record(self, children: list[Child]) -> None:
        if self.descriptor < 0:
            return
        running = [[child.name, child.pid, birth(child.pid)] for child in children if child.pid]
        content = {"pid": os.getpid(), "url": self.url, "children": running}
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, json.dumps(content).encode(), 0)

    def release(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _read(self) -> dict[str, Any]:
        with contextlib.suppress(ValueError):
            content = json.loads(os.pread(self.descriptor, 65536, 0))
            return content if isinstance(content, dict) else {}
        return {}


def birth(pid: int) -> str:
    """When the process began, as the system tells it: with the pid it names one process. Empty where there is none."""
    with contextlib.suppress(OSError):
        if Path("/proc/self/stat").exists():
            text = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # the name before may hold spaces
            return "" if text[0] == "Z" else text[19]
        command = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
    return ""


def end_leftover(pid: int, born: str) -> None:
    """SIGTERM (a fast shutdown to PostgreSQL as well: nobody is connected any more), then SIGKILL for the whole group."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    number = signal.SIGTERM
    while born and birth(pid) == born:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number) if number is signal.SIGTERM else os.killpg(pid, number)
        if time.monotonic() > deadline:
            number = signal.SIGKILL
        time.sleep(0.05)
