"""The short form of `make torture`, and the same against a naive gateway: the judge has to find what that does wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests import children
from tests.forks import Forks

KILLS = 4
# Option → figure: each happens once.
SERVERS = {"--flushes": "flushes", "--restarts": "restarts with lost writes", "--postgres-stops": "PostgreSQL stops"}
SHORT = ("--calls", "650", "--seconds", "14", "--workers", "2", "--kills", str(KILLS), "--patience", "0")
# What is wrong with it shows early.
SHORTER = ("--calls", "400", "--seconds", "8")
GIVEN_BY_THE_RUN = ("DATABASE_URL", "REDIS_URL", "BROKER_URL", "CHANNELS_URL")
FAILURES = (
    *("phantom refusals", "lost rows", "double charges", "unsettled holds", "differing counters", "closed keys served"),
    "not done",
)


def times(count: int, *options: str) -> list[str]:
    return [word for name in options for word in (name, str(count))]


def torture(forks: Forks, folder: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    """A process with servers of its own → exit code, figures, what it printed."""
    figures = folder / "figures.json"
    variables = {name: value for name, value in os.environ.items() if name not in GIVEN_BY_THE_RUN}
    command = ("-m", "tests.torture.__main__", "--json", str(figures), *SHORT, *words)
    code, printed = children.run(forks, *command, variables=variables, seconds=280, shares=True)
    assert figures.exists(), printed
    return code, json.loads(figures.read_text()), printed


@pytest.mark.timeout(300)  # forty seconds on a machine with nothing else to do
def test_money_stays_exact_whatever_breaks(forks: Forks, tmp_path: Path) -> None:
    code, figures, printed = torture(forks, tmp_path, "--seed", "11", *times(1, *SERVERS))

    assert code == 0, printed
    assert {name: figures[name] for name in ("overshoot USD", *FAILURES)} == {"overshoot USD": "0", **dict.fromkeys(FAILURES, 0)}
    assert {name: figures[name] for name in ("kills", *SERVERS.values())} == {
        "kills": KILLS,
        **dict.fromkeys(SERVERS.values(), 1),
        "flushes": 2,  # one of them while PostgreSQL is away
    }
    assert figures["prove_counters"] == "exit code 0"
    # A run in which little happened would prove nothing.
    assert figures["calls"] >= 650
    assert figures["/readyz without PostgreSQL"]["degraded"] > 0
    assert sum(figures["limits and keys"].get(name, 0) for name in ("keys revoked", "keys switched off")) > 1
    assert figures["answered"] > 40
    assert figures["refused or failed"]["budget_exceeded"] > 20
    assert figures["callers who left"] > 20
    assert figures["limits and keys"]["limits lowered"] > 5
    assert figures["limits and keys"]["limits raised"] > 5


@pytest.mark.timeout(300)
def test_a_gateway_that_checks_and_then_charges_is_caught(forks: Forks, tmp_path: Path) -> None:
    code, figures, printed = torture(forks, tmp_path, "--naive", "--seed", "11", *SHORTER, *times(0, *SERVERS))

    assert code == 1, printed
    assert float(figures["overshoot USD"]) > 0
    assert figures["lost rows"] > 0
    assert "NOT EXACT." in printed
