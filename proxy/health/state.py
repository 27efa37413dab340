"""What is known of one deployment. Pure: no clock, no Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

Circuit = Literal["closed", "half-open", "open"]

# Tokens of an answer whose time is compared: deployments differ in how soon they begin and in how fast they go on.
USUAL_ANSWER = 300


class Health(msgspec.Struct, frozen=True):
    """As it was last read. `probe_at`: seconds of the reader's clock from which a probe may be sent; None: the circuit is closed.

    `attempts` and `failures` are those of the last half minute; the averages are None where nothing was measured lately.
    """

    probe_at: float | None = None
    opened_by: str = ""
    first_token_ms: float | None = None
    tokens_per_second: float | None = None
    attempts: int = 0
    failures: int = 0
    last_error: str = ""

    def circuit(self, now: float) -> Circuit:
        if self.probe_at is None:
            return "closed"
        return "open" if now < self.probe_at else "half-open"

    @property
    def error_rate(self) -> float:
        """From 0 to 1."""
        return self.failures / self.attempts if self.attempts else 0.0

    @property
    def answer_ms(self) -> float | None:
        """How long an answer of usual length takes; None where its speed was not measured.

        Of whole answers only the speed is known, the wait for the first token included.
        """
        if not self.tokens_per_second:
            return None
        return (self.first_token_ms or 0.0) + 1000 * USUAL_ANSWER / self.tokens_per_second


UNKNOWN = Health()


def from_reply(words: Sequence[int | bytes], *, now: float) -> Health:
    """One entry of what lua/report.lua returns. `now`: seconds of the reader's clock."""
    opened, left_ms, opened_by, first_token, speed, attempts, failures, error = words
    return Health(
        probe_at=now + int(left_ms) / 1000 if int(opened) else None,
        opened_by=_text(opened_by),
        first_token_ms=float(first_token) if first_token else None,
        tokens_per_second=float(speed) if speed else None,
        attempts=int(attempts),
        failures=int(failures),
        last_error=_text(error),
    )


def _text(word: int | bytes) -> str:
    return word.decode() if isinstance(word, bytes) else ""
