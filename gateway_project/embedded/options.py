"""What the process environment asks `manage.py up` for."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway_project import environment
from gateway_project.embedded.errors import StartError
from gateway_project.embedded.postgres import Postgres
from gateway_project.embedded.valkey import Valkey

PASSWORD = "POSTGRES_PASSWORD"  # noqa: S105 - the name of a variable


@dataclass(frozen=True, slots=True)
class Options:
    """A server is embedded unless its address is given."""

    home: Path
    port: int
    workers: int
    shutdown_seconds: int
    embed_postgres: bool
    embed_valkey: bool

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "Options":
        """Raises StartError for a value that cannot be used."""
        home = environment.home(variables)
        given = {**environment.read_file(home), **variables}
        return cls(
            home=home,
            port=number(variables, "PORT", default=8000, highest=65535),
            workers=number(variables, "WEB_WORKERS", default=1, highest=64),
            # Of a person at a terminal, who waits: shorter than for a web process behind a load balancer.
            shutdown_seconds=number(given, "SHUTDOWN_SECONDS", default=5, highest=3600),
            embed_postgres=not variables.get("DATABASE_URL"),
            embed_valkey=not variables.get("REDIS_URL"),
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def number(variables: Mapping[str, str], name: str, *, default: int, highest: int) -> int:
    text = variables.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= highest):
        raise StartError(f"{name} has to be a whole number from 1 to {highest}, not {text!r}.")
    return int(text)


def write_environment(options: Options, *, postgres: Postgres | None, valkey: Valkey | None) -> None:
    """Other commands read the file. Secrets, once generated, stay; what the process environment gives is not copied into it."""
    values = environment.read_file(options.home)
    for name, value in environment.generate_secrets().items():
        if name not in os.environ:
            values.setdefault(name, value)
    values["PORT"] = str(options.port)
    for name, server in (("DATABASE_URL", postgres), ("REDIS_URL", valkey)):
        values.pop(name, None)
        if server is not None:
            values[name] = server.url()
    if postgres is not None:
        values[PASSWORD] = postgres.password
    environment.write_file(options.home, values)
