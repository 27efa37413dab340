from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from django.db.models import Count, Sum

from billing.models import UsageRecord
from gateway_project.demo import credentials, trace
from gateway_project.lib.money import NANO
from gateway_project.replay import sending, summary
from gateway_project.replay.sending import Outcome, Target

MODEL = "sandbox-instant"
CONCURRENCY, MOST_CONCURRENCY = 32, 1_024
PROGRESS_SECONDS = 2.0


class Command(BaseCommand):
    help = "Sends the calls of a trace through the gateway by HTTP and prints what came of them."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "trace", nargs="?", type=Path, default=trace.CONVERSATION, help="CSV, gzip or plain (a shipped sample)"
        )
        parser.add_argument("--calls", type=int, help="how many; beyond its end the trace begins again (all, once)")
        parser.add_argument("--speed", type=float, default=1.0, help="times faster than recorded; 0: as fast as possible (1)")
        parser.add_argument("--key", help="API key (the demo organisation's)")
        parser.add_argument("--url", help="of the gateway (this installation's)")
        parser.add_argument("--model", default=MODEL, help=f"one that the sandbox serves ({MODEL})")
        parser.add_argument("--stream", action="store_true", help="ask for streams")
        parser.add_argument("--concurrency", type=int, default=CONCURRENCY, help=f"calls at once at most ({CONCURRENCY})")
        parser.add_argument("--json", action="store_true", help="the summary as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        _refuse_senseless(options)
        target = Target(_url(options["url"]), _key(options["key"]), options["model"], options["stream"])
        try:
            recorded = trace.read(options["trace"], calls=options["calls"])
            calls = trace.repeated(recorded, count=options["calls"] or len(recorded))
            asyncio.run(sending.check(target))
            began = time.monotonic()
            outcomes = asyncio.run(
                sending.send(
                    calls,
                    target=target,
                    speed=options["speed"],
                    concurrency=options["concurrency"],
                    progress=self._progress(options["calls"] or len(recorded)),
                )
            )
        except (trace.BadTrace, sending.Unusable) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError("Interrupted; no summary.") from None
        seconds = time.monotonic() - began
        result = summary.of(outcomes, seconds=seconds, stream_cost_usd=_ledger_cost(outcomes) if options["stream"] else None)
        self.stdout.write(json.dumps(result.as_json(), indent=2) if options["json"] else "\n".join(result.lines()))
        if result.failed:
            raise CommandError(f"{result.failed:,} of {result.calls:,} calls were not answered.")

    def _progress(self, count: int) -> Callable[[int], None]:
        """A line every other second, on the side of the output that scripts do not read."""
        next_line = time.monotonic() + PROGRESS_SECONDS

        def tell(done: int) -> None:
            nonlocal next_line
            if time.monotonic() >= next_line:
                next_line = time.monotonic() + PROGRESS_SECONDS
                self.stderr.write(f"{done:,} of {count:,} calls", style_func=str)

        return tell


def _refuse_senseless(options: dict[str, Any]) -> None:
    if options["calls"] is not None and options["calls"] < 1:
        raise CommandError("--calls: give at least 1.")
    if not (math.isfinite(options["speed"]) and options["speed"] >= 0):
        raise CommandError("--speed: give 0 or more.")
    if not 1 <= options["concurrency"] <= MOST_CONCURRENCY:
        raise CommandError(f"--concurrency: give 1 to {MOST_CONCURRENCY:,}.")


def _url(given: str | None) -> str:
    return (given or settings.PUBLIC_URL).rstrip("/").removesuffix("/v1")


def _key(given: str | None) -> str:
    known = credentials.read()
    if given:
        return given
    if known is None:
        raise CommandError("There is no demo organisation whose key could be used: give --key, or run `manage.py demo` first.")
    return known.api_key


def _ledger_cost(outcomes: list[Outcome]) -> Decimal | None:
    """What streams cost is in the ledger once they have ended; None where it is another installation's."""
    answered = [outcome.request_id for outcome in outcomes if not outcome.error and outcome.request_id]
    try:
        found = UsageRecord.objects.filter(call_id__in=answered).aggregate(rows=Count("*"), charged=Sum("charged_nano_usd"))
    except DatabaseError:
        return None
    return Decimal(found["charged"]) / NANO if answered and found["rows"] == len(answered) else None
