"""Why a call has no whole answer, in words: of the codes of proxy/errors.py, as they stand in the rows of the ledger."""

from __future__ import annotations

from typing import Any

from billing.models import UsageRecord
from gateway_project.lib.formatting import code_words
from proxy.errors import (
    CODES,
    BadRequest,
    InvalidApiKey,
    MethodNotAllowed,
    NotInPlan,
    ResponseNotFound,
    UnknownUrl,
    VideoNotFound,
)


def words(code: str) -> str:
    """ "ip_not_allowed" → "IP not allowed"."""
    said = code_words(code)
    return said[:1].upper() + said[1:]


# What the log can be narrowed to. Who has no key, is at no address of ours, or asks for what is kept already, has no row; a
# code that is reserved is nobody's.
_NO_ROW = (InvalidApiKey, MethodNotAllowed, UnknownUrl, ResponseNotFound, VideoNotFound, NotInPlan)
REASONS = dict(sorted(((code, words(code)) for code, leaf in CODES.items() if leaf not in _NO_ROW), key=lambda one: one[1]))


def reason_of(call: UsageRecord) -> str:
    """In one line, '' where there was a whole answer: "Invalid request: messages[0].role"."""
    if not call.error_code:
        return ""
    member, body = where_invalid(call)
    return body or f"{words(call.error_code)}{f': {member}' if member else ''}"


def where_invalid(call: UsageRecord) -> tuple[str, str]:
    """Of an invalid request the member that is wrong, or what is wrong with the whole body; '' for what is not known.

    Nor is it known of a row of several calls: they have their code in common, and it remembers the first one's place.
    """
    is_one = call.error_code == BadRequest.code and call.call_count == 1
    found: Any = call.decision.get("invalid") if is_one else None
    if not isinstance(found, dict):
        return "", ""
    return str(found.get("member", "")), str(found.get("body", ""))
