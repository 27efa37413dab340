"""What `/metrics` tells of calls. Labels are model, provider and status only: keys and organisations would be too many."""

from __future__ import annotations

import functools
from typing import NamedTuple

from prometheus_client import Counter, Gauge, Histogram

from billing.ledger import Row

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

CALLS = Counter("gatehouse_calls", "Calls by how they ended", ["model", "provider", "status"])
TOKENS = Counter("gatehouse_tokens", "Tokens by direction", ["model", "provider", "direction"])
UNGUARDED = Counter("gatehouse_unguarded_calls", "Calls let through while limits could not be checked")
CHARGED = Counter("gatehouse_charged_nano_usd", "Charged, in nano-dollars", ["model", "provider"])
LATENCY = Histogram("gatehouse_call_seconds", "From request to the end of the answer", ["model", "provider"], buckets=SECONDS)
FIRST_TOKEN = Histogram(
    "gatehouse_first_token_seconds", "From request to the first frame of a stream", ["model"], buckets=SECONDS
)
# As this worker knows it. `model` is the provider's own name for it.
CIRCUIT = Gauge("gatehouse_deployment_circuit", "0 closed, 1 half-open, 2 open", ["provider", "model"])
FAILURES = Counter("gatehouse_deployment_failures", "Attempts that failed, by kind of failure", ["provider", "model", "kind"])
KEY_REFUSALS = Counter("gatehouse_provider_key_refusals", "Attempts that a provider refused for the operator's key", ["provider"])
CIRCUIT_STATES = ("closed", "half-open", "open")


class _Series(NamedTuple):
    """What every answered call of one model at one provider counts in."""

    input: Counter
    output: Counter
    charged: Counter
    latency: Histogram


# Looking a series up by its labels takes longer than counting in it.
@functools.lru_cache(maxsize=4096)
def _series(model: str, provider: str) -> _Series:
    return _Series(
        TOKENS.labels(model, provider, "input"),
        TOKENS.labels(model, provider, "output"),
        CHARGED.labels(model, provider),
        LATENCY.labels(model, provider),
    )


_ended = functools.lru_cache(maxsize=4096)(CALLS.labels)


def observe(row: Row, *, model: str) -> None:
    """`model` is a name of the catalogue, or empty: never what a caller made up."""
    _ended(model, row.provider, row.status).inc(row.call_count)
    if row.status == "refused":
        return
    series = _series(model, row.provider)
    series.input.inc(row.input_tokens + row.cache_read_tokens + row.cache_write_5m_tokens + row.cache_write_1h_tokens)
    series.output.inc(row.output_tokens)
    series.charged.inc(row.charged_nano_usd)
    if row.latency_ms is not None:
        series.latency.observe(row.latency_ms / 1000)
    if row.first_token_ms is not None:
        FIRST_TOKEN.labels(model).observe(row.first_token_ms / 1000)


def circuit(provider: str, model: str, state: str) -> None:
    CIRCUIT.labels(provider, model).set(CIRCUIT_STATES.index(state))
