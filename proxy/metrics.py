"""What `/metrics` tells of calls. Labels are model, provider and status only: keys and organisations would be too many."""

from __future__ import annotations

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


def observe(row: Row, *, model: str) -> None:
    """`model` is a name of the catalogue, or empty: never what a caller made up."""
    CALLS.labels(model, row.provider, row.status).inc(row.call_count)
    if row.status == "refused":
        return
    cached = row.cache_read_tokens + row.cache_write_5m_tokens + row.cache_write_1h_tokens
    TOKENS.labels(model, row.provider, "input").inc(row.input_tokens + cached)
    TOKENS.labels(model, row.provider, "output").inc(row.output_tokens)
    CHARGED.labels(model, row.provider).inc(row.charged_nano_usd)
    if row.latency_ms is not None:
        LATENCY.labels(model, row.provider).observe(row.latency_ms / 1000)
    if row.first_token_ms is not None:
        FIRST_TOKEN.labels(model).observe(row.first_token_ms / 1000)


def circuit(provider: str, model: str, state: str) -> None:
    CIRCUIT.labels(provider, model).set(CIRCUIT_STATES.index(state))
