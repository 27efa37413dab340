"""For test_forks.py. `python -m tests.gateway_project.process_told FILE` writes down what this process is; with "-" for the file
it waits for a signal."""

from __future__ import annotations

import atexit
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from django.conf import settings

from gateway_project.embedded import web


def told() -> dict[str, Any]:
    from django.core.cache import caches
    from django.db import connections

    return {
        "database": repr(connections["default"].settings_dict),  # which completes the setting
        "settings": {name: shown(getattr(settings, name)) for name in sorted(dir(settings)) if name.isupper()},
        "cache": repr(vars(caches["default"])["_servers"]),
        "logging": {name: logging.getLogger(name).getEffectiveLevel() for name in ("", "django", "proxy", "uvicorn")},
        "variables": dict(os.environ),
        "words": sys.argv[1:],
        "group": os.getpgid(0) == os.getpid(),
        "descriptors": sorted(os.readlink(path) for path in map(str, Path("/proc/self/fd").iterdir()) if os.path.islink(path)),
        "threads": threading.active_count(),
        "signals": {number: repr(signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)},
    }


def shown(value: object) -> str:
    return repr(sorted(value) if isinstance(value, set) else value)


def main() -> None:
    if sys.argv[1] == "-":
        sys.stderr.write("waiting\n")
        signal.pause()
    web.load_code()
    atexit.register(sys.stderr.write, "the last words\n")
    Path(sys.argv[1]).write_text(json.dumps(told()))
    sys.stderr.write("written\n")
    sys.exit(3)


if __name__ == "__main__":
    main()
