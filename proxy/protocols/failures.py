"""A provider's error, whatever its shape, read into an AttemptFailed: kind, short scrubbed message, the provider's code.

Kinds follow the status; where there is none (an error object sent with 200, or inside a stream) the
object's own `code` or `type` decides. Nothing of a provider's answer but its error sentence is kept.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from proxy.errors import AttemptFailed, Kind
from proxy.protocols import surrogates

MAX_MESSAGE = 500
# An answer with 200 is read as a failure only in place of a stream.
NO_STREAM = "The provider answered without a stream though one was asked for."
# What looks like a credential in a provider's sentence ("Incorrect API key provided: sk-…").
_SECRET = re.compile(r"(?i)\b(?:bearer\s+\S+|(?:sk|gsk|pk|rk|xai|gh_sk|AIza)[-_]?[A-Za-z0-9_\-.*]{6,})")
_SECONDS = re.compile(r"(\d{1,6}(?:\.\d{1,9})?)s")
_SPACE = re.compile(r"[\s\x00-\x1f\x7f]+")

_BY_STATUS: dict[int, Kind] = {
    400: "bad_request",
    401: "auth",
    403: "auth",
    404: "bad_request",
    408: "timeout",
    413: "bad_request",
    422: "bad_request",
    429: "rate_limited",
    503: "overloaded",
    504: "timeout",
    524: "timeout",
    529: "overloaded",
}
_BY_WORD: tuple[tuple[str, Kind], ...] = (
    ("rate_limit", "rate_limited"),
    ("overloaded", "overloaded"),
    ("timeout", "timeout"),
    ("invalid_request", "bad_request"),
    ("invalid_prompt", "bad_request"),
    ("context_length", "bad_request"),
    ("authentication", "auth"),
)
# Google refuses a key with the status 400.
_REFUSED_KEYS = ("API_KEY_INVALID", "API_KEY_EXPIRED")


class _Error(msgspec.Struct):
    message: str = ""
    type: str = ""
    code: str | None = None
    param: str | None = None
    # Google's: why, and for how long (seconds).
    reason: str = ""
    retry_after: float | None = None


def scrub(text: str, *, secrets: Iterable[str] = ()) -> str:
    """One short line without anything that looks like a credential, the `secrets` themselves above all."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "[redacted]")
    return _SPACE.sub(" ", _SECRET.sub("[redacted]", text)).strip()[:MAX_MESSAGE]


def read_failure(
    body: bytes, *, status: int | None, retry_after: float | None = None, secrets: Iterable[str] = ()
) -> AttemptFailed:
    """`status` is None for an error object that came without an error status. Never raises."""
    error = _read(body)
    if error is None:
        kind = _BY_STATUS.get(status or 0, "status")
        # An error page of a machine in between says nothing about the caller's request.
        kind = "broken" if kind == "bad_request" else kind
        message = NO_STREAM if status is None else f"The provider answered {status} without an error message."
        return AttemptFailed(kind, message, status=status, retry_after=retry_after)
    if status is None and (error.code or "").isdigit():
        status = int(error.code or 0)
    kind = _kind(error, status)
    return AttemptFailed(
        kind,
        _sentence(kind, scrub(error.message, secrets=secrets), status),
        status=status,
        code=_code(error),
        param=scrub(error.param, secrets=secrets) if error.param else None,
        retry_after=error.retry_after if retry_after is None else retry_after,
    )


def _sentence(kind: Kind, message: str, status: int | None) -> str:
    if kind == "auth":
        return "The provider refused the gateway's credentials."
    if kind == "bad_request":
        return message or "The provider refused the request."
    answered = f"The provider answered {status}" if status else "The provider reported an error"
    return f"{answered}: {message}" if message else f"{answered}."


def _kind(error: _Error, status: int | None) -> Kind:
    if error.reason in _REFUSED_KEYS:
        return "auth"
    if status is not None:
        return _BY_STATUS.get(status, "status")
    said = f"{error.type} {error.code}".lower()
    return next((kind for word, kind in _BY_WORD if word in said), "status")


def _code(error: _Error) -> str | None:
    """The provider's code if it is a word; some put the status there."""
    return error.code if error.code and re.fullmatch(r"[A-Za-z][\w.\-]{0,63}", error.code) else None


def _read(body: bytes) -> _Error | None:
    """`{"error": {…}}`, `{"error": "…"}`, `[{"error": …}]`, `{"message": …}` and `{"detail": "…"}` occur in the wild."""
    try:
        answer: Any = msgspec.json.decode(surrogates.readable(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(answer, list) and answer:
        answer = answer[0]
    if not isinstance(answer, dict):
        return None
    error = answer.get("error") or answer
    if isinstance(error, str):
        return _Error(message=error, code=_text(answer.get("code")))
    if not isinstance(error, dict):
        return None
    message = error.get("message") or error.get("Message") or error.get("detail") or ""
    reason, wait = _details(error.get("details"))
    read = _Error(
        message=message if isinstance(message, str) else "",
        type=_text(error.get("type")) or "",
        code=_text(error.get("code")),
        param=_text(error.get("param")),
        reason=reason,
        retry_after=wait,
    )
    return read if read.message or read.type or read.code else None


def _details(given: object) -> tuple[str, float | None]:
    """Google's ErrorInfo and RetryInfo: https://cloud.google.com/apis/design/errors#error_details"""
    details = [entry for entry in given if isinstance(entry, dict)] if isinstance(given, list) else []
    reasons = [entry["reason"] for entry in details if isinstance(entry.get("reason"), str)]
    waits = [_SECONDS.fullmatch(entry["retryDelay"]) for entry in details if isinstance(entry.get("retryDelay"), str)]
    return next(iter(reasons), ""), next((float(wait[1]) for wait in waits if wait), None)


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
