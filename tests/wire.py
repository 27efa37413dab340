"""A wire to PostgreSQL that tests can cut: everything passes through it until it is told otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from django.db import connection

Mode = Literal["through", "refused", "silent", "lose the next answer", "lose the next answer, then refuse"]


class Wire:
    """`silent` takes connections and what is sent, and answers nothing."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.mode: Mode = "through"
        self.connections = 0
        self._settings = settings
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self, mode: Mode) -> None:
        """Breaks what is connected; new connections fare as `mode` says."""
        self.mode = mode
        for writer in list(self._writers):
            writer.transport.abort()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.mode == "refused":
            writer.transport.abort()
            return
        server_reader, server_writer = await self._connect()
        both = {writer, server_writer}
        self._writers |= both
        answers = asyncio.create_task(self._answers(server_reader, writer))
        try:
            while sent := await reader.read(65536):
                server_writer.write(sent)
        except ConnectionError:
            pass
        finally:
            answers.cancel()
            self._writers -= both
            for end in both:
                end.transport.abort()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while received := await reader.read(65536):
            if self.mode.startswith("lose the next answer"):
                self.cut("through" if self.mode == "lose the next answer" else "refused")
                break
            if self.mode != "silent":
                writer.write(received)
        writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = str(self._settings["HOST"]), int(self._settings["PORT"] or 5432)
        if host.startswith("/"):
            return await asyncio.open_unix_connection(Path(host) / f".s.PGSQL.{port}")
        return await asyncio.open_connection(host or "127.0.0.1", port)


@asynccontextmanager
async def wired() -> AsyncIterator[Wire]:
    """New connections of coroutines to PostgreSQL go over the wire."""
    real = connection.settings_dict
    wire = Wire(dict(real))
    server = await asyncio.start_server(wire.accept, "127.0.0.1", 0)
    real.update(HOST="127.0.0.1", PORT=str(server.sockets[0].getsockname()[1]))
    try:
        yield wire
    finally:
        real.update(HOST=wire._settings["HOST"], PORT=wire._settings["PORT"])
        server.close()
