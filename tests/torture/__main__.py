"""`python -m tests.torture`: breaks a whole Gatehouse in every way for some minutes, and judges whether its money stayed exact.

Prints a table; the exit code is 1 if anything was charged beyond a limit, refused without reason, lost, charged twice or left
held, or if a counter does not equal the ledger. Everything is on loopback and in a throwaway folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pickle
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from tests.torture import midnight
from tests.torture.stage import Stage, set_up_django

FINDINGS = 3


def main() -> None:
    sys.exit(_tortured())


def _tortured() -> int:
    arguments = _arguments()
    home = Path(tempfile.mkdtemp(prefix="gatehouse-torture-"))
    home.chmod(0o711)  # as root, the servers' own account passes through
    stage = Stage(home)
    try:
        stage.start()
        set_up_django()
        return asyncio.run(_run(stage, arguments))
    finally:
        stage.close()
        if arguments.keep:
            _say(f"Logs are in {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=50, help="SIGKILLs of random workers")
    parser.add_argument("--flushes", type=int, default=2, help="FLUSHALLs of Valkey")
    parser.add_argument("--restarts", type=int, default=1, help="restarts of Valkey with lost writes")
    parser.add_argument(
        "--postgres-stops", type=int, default=1, help="stops of PostgreSQL, clean or by SIGKILL, for some seconds"
    )
    parser.add_argument("--postgres-stop-seconds", type=float, default=5.0, help="how long it stays away each time")
    parser.add_argument(
        "--joint", type=int, default=1, help="of these, how many end with a FLUSHALL just before PostgreSQL is back"
    )
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--seconds", type=float, default=400.0, help="how long calls are issued at least")
    parser.add_argument("--concurrency", type=int, default=48)
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for a midnight to fall within the run")
    parser.add_argument("--naive", action="store_true", help="the same against a gateway that checks, then charges")
    parser.add_argument("--json", type=Path, help="writes the figures there")
    parser.add_argument("--keep", action="store_true", help="keeps the folder with logs and history")
    return parser.parse_args()


async def _run(stage: Stage, arguments: argparse.Namespace) -> int:
    from tests.torture import checker, company, table
    from tests.torture.drive import Drive, Options
    from tests.torture.provider import Provider

    options = Options(
        calls=arguments.calls, workers=arguments.workers, kills=arguments.kills, flushes=arguments.flushes,
        restarts=arguments.restarts, stops=arguments.postgres_stops, stop_seconds=arguments.postgres_stop_seconds,
        seed=arguments.seed, seconds=arguments.seconds, concurrency=arguments.concurrency, naive=arguments.naive,
        joint=arguments.joint,
    )  # fmt: skip
    zones = stage.home / "zones"
    midnight.look_in(zones)
    near = midnight.choose(datetime.now(UTC), seconds=options.seconds, patience=arguments.patience, folder=zones)
    provider = await Provider().start()
    tortured = await asyncio.to_thread(_prepare, stage, options, provider.url, near.zone)
    rates = {name: [rates.input, rates.output] for name, rates in company.MODELS.items()}
    naive = {"NAIVE_UPSTREAM": provider.url, "NAIVE_RATES": json.dumps(rates)} if options.naive else None
    await asyncio.to_thread(stage.open_workers, options.workers, naive=naive)
    _say(f"Seed {options.seed}, {options.calls:,} calls, {options.workers} workers. {_rollover(near)}")
    await asyncio.sleep(near.wait)
    drive = Drive(stage, tortured, options, zone=ZoneInfo(near.zone))
    history = await drive.run()
    await provider.stop()
    if arguments.keep:
        (stage.home / "history").write_bytes(pickle.dumps(replace(history, zone=None)))  # type: ignore[arg-type]
    verdict = checker.judge(history)
    proof, words = (0, "") if options.naive else await asyncio.to_thread(stage.prove_counters)
    found = table.figures(history, verdict, seconds=drive.seconds, changes=drive.changes)
    found["prove_counters"] = "not asked" if options.naive else f"exit code {proof}"
    _say(table.text(found, verdict, rollover="" if near.at else f"({_rollover(near)})", when=table.timeline(history)))
    if proof:
        _say(words)
    if arguments.json:
        sentences = {name: [list(finding) for finding in some[:FINDINGS]] for name, some in verdict.findings.items()}
        arguments.json.write_text(json.dumps({**found, "findings": sentences}, indent=1))
    return int(not verdict.sound or bool(proof))


def _prepare(stage: Stage, options: Any, upstream_url: str, zone: str) -> Any:
    from django.db import connections

    from tests.torture import company

    company.declare_models(upstream_url)
    built = company.build(time_zone=zone)
    connections.close_all()
    return built


def _rollover(near: midnight.Midnight) -> str:
    if near.at is None:
        return "no midnight near enough"
    return f"midnight in {near.zone} at {near.at:%H:%M:%S} UTC, waiting {near.wait:.0f} s"


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
