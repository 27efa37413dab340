"""What a replay amounted to. Money is exact: the sum of what the answers said, digit by digit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from gateway_project.replay.sending import Outcome


class Summary(NamedTuple):
    """`cost_usd` is None where some complete answer's cost is not known. Latencies are those of complete answers."""

    calls: int
    answered: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal | None
    errors: dict[str, int]
    p50_ms: float | None
    p99_ms: float | None
    seconds: float

    @property
    def failed(self) -> int:
        return self.calls - self.answered

    def _cost(self) -> str | None:
        """Every digit, and no zeros after the last."""
        return None if self.cost_usd is None else f"{self.cost_usd.normalize():f}"

    def as_json(self) -> dict[str, Any]:
        """Dollars as text, so that no digit is lost."""
        rounded = {"p50_ms": _rounded(self.p50_ms), "p99_ms": _rounded(self.p99_ms), "seconds": _rounded(self.seconds)}
        return {**self._asdict(), **rounded, "cost_usd": self._cost()}

    def lines(self) -> list[str]:
        cost = "not known: answers do not tell" if self.cost_usd is None else f"${self._cost()}"
        rate = self.calls / self.seconds if self.seconds else 0
        errors = ", ".join(f"{count} × {code}" for code, count in self.errors.items()) or "none"
        latency = "" if self.p50_ms is None else f"p50 {self.p50_ms:,.0f} ms, p99 {self.p99_ms:,.0f} ms"
        return [
            f"Calls     {self.calls:,} in {self.seconds:,.1f} s ({rate:,.1f} per second), {self.answered:,} answered",
            f"Tokens    {self.input_tokens:,} in, {self.output_tokens:,} out",
            f"Cost      {cost}",
            f"Errors    {errors}",
            f"Latency   {latency or 'no call was answered'}",
        ]


def of(outcomes: Sequence[Outcome], *, seconds: float, stream_cost_usd: Decimal | None = None) -> Summary:
    """`stream_cost_usd`: what the ledger says of answers that carry no cost themselves."""
    answered = [outcome for outcome in outcomes if not outcome.error]
    told = [outcome.cost_usd for outcome in answered if outcome.cost_usd is not None]
    cost = sum(told, Decimal(0)) if len(told) == len(answered) else stream_cost_usd
    latencies = sorted(outcome.latency_ms for outcome in answered)
    return Summary(
        calls=len(outcomes),
        answered=len(answered),
        input_tokens=sum(outcome.input_tokens for outcome in answered),
        output_tokens=sum(outcome.output_tokens for outcome in answered),
        cost_usd=cost,
        errors=dict(Counter(outcome.error for outcome in outcomes if outcome.error).most_common()),
        p50_ms=percentile(latencies, 0.50),
        p99_ms=percentile(latencies, 0.99),
        seconds=seconds,
    )


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Nearest rank: the smallest value that at least this share does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 1)
