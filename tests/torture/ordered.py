"""Whether a run did what it was asked to do. What breaks when nobody calls any more proves nothing, so it does not count."""

from __future__ import annotations

from tests.torture.history import Disturbance, Finding, History, Kind


def not_done(history: History) -> list[Finding]:
    order = history.order
    wanted: list[tuple[str, int, int]] = [
        ("calls", order.calls, len(history.calls)),
        ("SIGKILLs of workers", order.kills, len(_under_load(history, "kill"))),
        ("flushes of Valkey", order.flushes, len(_under_load(history, "flush"))),
        ("restarts of Valkey", order.restarts, len(_under_load(history, "restart"))),
        (f"stops of PostgreSQL for {order.stop_seconds:g} s", order.stops, len(_long_enough(history))),
    ]
    return [Finding(0, f"{done:,} of {asked:,} {what} under load") for what, asked, done in wanted if done < asked]


def _under_load(history: History, kind: Kind) -> list[Disturbance]:
    return [one for one in history.disturbances if one.kind == kind and one.began <= history.loaded_until]


def _long_enough(history: History) -> list[Disturbance]:
    """Calls went on all the time."""
    return [
        one
        for one in _under_load(history, "stop")
        if min(one.ended, history.loaded_until) - one.began >= history.order.stop_seconds
    ]
