"""`GET /v1/models` in the two shapes that official SDKs read at this one address. Sans-IO.

OpenAI's shape holds more members here than there: window, output cap, capabilities, prices, dates. Anthropic's is theirs,
dates and bounds included, and lists what Messages can be sent to.
Sources: openai-python `Model`; anthropic-sdk-python `ModelInfo`, `SyncPage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import Any

import msgspec

from proxy.errors import BadRequest

MAX_PAGE = 1000


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One model. `created` in Unix seconds; `pricing` as `proxy.shown_prices` has it; dates where they are known."""

    id: str
    object: str = "model"
    created: int
    owned_by: str
    kind: str = "chat"
    context_window: int | None = None
    max_output_tokens: int | None = None
    capabilities: Sequence[str] = ()
    pricing: dict[str, Any] | None = None
    deprecated_on: date | None = None
    retires_on: date | None = None
    replaced_by: str | None = None


class Page(msgspec.Struct, frozen=True):
    """What part of Anthropic's list is asked for: at most `limit`, after or before one of its models."""

    limit: int = MAX_PAGE
    after_id: str = ""
    before_id: str = ""


def page_of(parameters: dict[str, str]) -> Page:
    """Raises BadRequest."""
    limit = parameters.get("limit", str(MAX_PAGE))
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= MAX_PAGE:
        raise BadRequest(f"limit: must be a whole number from 1 to {MAX_PAGE}.", param="limit")
    return Page(int(limit), parameters.get("after_id", ""), parameters.get("before_id", ""))


def openai_one(entry: ModelEntry) -> bytes:
    return msgspec.json.encode(entry)


def openai_list(entries: Sequence[ModelEntry]) -> bytes:
    return msgspec.json.encode({"object": "list", "data": entries})


def anthropic_one(entry: ModelEntry, *, today: date) -> bytes:
    return msgspec.json.encode(_anthropic(entry, today))


def anthropic_list(entries: Sequence[ModelEntry], page: Page, *, today: date) -> bytes:
    """Raises BadRequest where the page begins or ends at a model that is not there."""
    chat = [entry for entry in entries if entry.kind == "chat"]
    if page.before_id:
        found = chat[: _place(chat, page.before_id, "before_id")]
        data, more = found[-page.limit :], len(found) > page.limit
    else:
        found = chat[_place(chat, page.after_id, "after_id") + 1 if page.after_id else 0 :]
        data, more = found[: page.limit], len(found) > page.limit
    shown = [_anthropic(entry, today) for entry in data]
    ends = {"first_id": data[0].id if data else None, "last_id": data[-1].id if data else None}
    return msgspec.json.encode({"data": shown, "has_more": more, **ends})


def _place(entries: Sequence[ModelEntry], name: str, param: str) -> int:
    place = next((place for place, entry in enumerate(entries) if entry.id == name), None)
    if place is None:
        raise BadRequest(f"{param}: there is no model {name[:100]!r} in this list.", param=param)
    return place


def _anthropic(entry: ModelEntry, today: date) -> dict[str, Any]:
    deprecated = entry.retires_on is not None or (entry.deprecated_on is not None and entry.deprecated_on <= today)
    return {
        "type": "model",
        "id": entry.id,
        "display_name": entry.id,
        "created_at": _rfc3339(datetime.fromtimestamp(entry.created, UTC)),
        "lifecycle": "deprecated" if deprecated else "active",
        "max_input_tokens": entry.context_window,
        "max_tokens": entry.max_output_tokens,
        "deprecated_at": _midnight(entry.deprecated_on) if deprecated else None,
        "retires_at": _midnight(entry.retires_on),
    }


def _midnight(day: date | None) -> str | None:
    return None if day is None else _rfc3339(datetime.combine(day, time(), tzinfo=UTC))


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
