"""What Celery's beat would run of the gateway's own background work, in this process, without a broker."""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from django.db import connections

APPS = ("proxy.", "billing.", "guardrails.")
SOONER = {"proxy.tasks.resolve_holds": 1.0}  # seconds


class Beat:
    """`turn` runs whatever is due; failures (a server is away) are counted, and tried again in the next turn."""

    def __init__(self) -> None:
        from gateway_project.celery import app

        app.loader.import_default_modules()
        self.tasks: dict[str, tuple[Any, float]] = {}
        self.failures: dict[str, int] = {}
        self._due: dict[str, float] = {}
        for entry in settings.CELERY_BEAT_SCHEDULE.values():
            name, every = str(entry["task"]), entry["schedule"]
            if name.startswith(APPS) and isinstance(every, float | int):
                self.tasks[name] = (app.tasks[name], SOONER.get(name, float(every)))

    def turn(self) -> None:
        for name, (task, every) in self.tasks.items():
            if self._due.get(name, 0) > time.monotonic():
                continue
            try:
                task.run()
                self._due[name] = time.monotonic() + every
            except Exception as error:
                kind = f"{name}: {type(error).__name__}"
                self.failures[kind] = self.failures.get(kind, 0) + 1
                connections.close_all()
