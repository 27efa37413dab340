"""What one worker saw of a deployment since it last told the others. Pure: the clock's seconds are handed in.

Which failures say something about a deployment is decided here: never what the caller must change, never a hang-up.
"""

from __future__ import annotations

import msgspec

from proxy.errors import AttemptFailed

# Attempts are counted in buckets of time; so many of them are the window in which the error rate is judged.
BUCKET_MS, BUCKETS = 5_000, 6
# How long a circuit stays open at first; each probe that fails doubles it (lua/report.lua).
PAUSE_MS = 5_000
# A wrong credential does not mend itself: somebody must change it.
AUTH_PAUSE_MS = 30_000
AT_ONCE = ("rate_limited", "auth")
LEAST_ASKED_SECONDS, MOST_ASKED_SECONDS = 1.0, 300.0


def counts(failure: AttemptFailed) -> bool:
    """Whether it says something about the deployment. Of a refused request only its model's name is ours; tools, which a
    model may fail to call, are always the caller's: nobody's tools close it to everybody."""
    return failure.kind not in ("bad_request", "untranslatable", "unmade_call") or failure.code == "model_not_found"


def asked_ms(failure: AttemptFailed) -> int:
    """How long the provider asks to be left alone, within bounds; 0 where it asks for nothing."""
    if failure.kind != "rate_limited" or failure.retry_after is None:
        return 0
    return round(1000 * min(max(failure.retry_after, LEAST_ASKED_SECONDS), MOST_ASKED_SECONDS))


def pause_ms(failure: AttemptFailed) -> int:
    """For how long one such failure opens a circuit that was closed."""
    return asked_ms(failure) or (AUTH_PAUSE_MS if failure.kind == "auth" else PAUSE_MS)


class Report(msgspec.Struct):
    """Sums; `success_began` and `failure_began` are when the latest of each began."""

    succeeded: int = 0
    failed: int = 0
    success_began: float = 0.0
    failure_began: float = 0.0
    error: str = ""
    at_once: bool = False
    pause_ms: int = PAUSE_MS
    asked_ms: int = 0
    first_tokens: int = 0
    first_tokens_ms: float = 0.0
    answers: int = 0
    output_tokens: int = 0
    output_seconds: float = 0.0
    probe_over: bool = False
    corrections: dict[int, int] = {}

    def success(self, *, began: float, first_token_ms: float | None) -> None:
        self.succeeded += 1
        self.success_began = max(self.success_began, began)
        if first_token_ms is not None:
            self.first_tokens += 1
            self.first_tokens_ms += first_token_ms

    def failure(self, failure: AttemptFailed, *, began: float) -> None:
        self.failed += 1
        self.failure_began = max(self.failure_began, began)
        self.error = failure.kind
        self.at_once = self.at_once or failure.kind in AT_ONCE
        self.pause_ms = max(self.pause_ms, AUTH_PAUSE_MS if failure.kind == "auth" else PAUSE_MS)
        self.asked_ms = max(self.asked_ms, asked_ms(failure))

    def answered(self, *, tokens: int, seconds: float) -> None:
        self.answers += 1
        self.output_tokens += tokens
        self.output_seconds += seconds

    def correct(self, *, second: int, tokens: int) -> None:
        self.corrections[second] = self.corrections.get(second, 0) + tokens

    def words(self, *, of: str, served_by: str, now: float, may_open: bool) -> list[object]:
        """As lua/report.lua reads them. `of`: the deployment's `health_name`; `served_by`: `refused.served_by`."""
        return [
            self.succeeded,
            self.failed,
            round(1000 * (now - self.success_began)) if self.succeeded else 0,
            round(1000 * (now - self.failure_began)) if self.failed else 0,
            self.error,
            self.at_once,
            self.pause_ms,
            self.asked_ms,
            self.first_tokens,
            self.first_tokens_ms / self.first_tokens if self.first_tokens else 0.0,
            self.answers,
            self.output_tokens / self.output_seconds if self.answers else 0.0,
            self.probe_over,
            may_open,
            [word for entry in self.corrections.items() for word in entry],
            of,
            served_by,
        ]
