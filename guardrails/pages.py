"""What the key pages show, put together for their templates: rows, filters and links."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.http import QueryDict
from django.urls import reverse

from guardrails.models import Limit
from guardrails.selectors import STATUSES, KeyPage, limits_by_key
from orgs.actor import Actor
from orgs.models import ApiKey
from orgs.permissions import Permission

STATUS_WORDS = {"active": "Active", "disabled": "Disabled", "expired": "Expired", "revoked": "Deleted"}


class KeyRow(NamedTuple):
    key: ApiKey
    status: str
    limits: list[Limit]
    url: str


class KeyFilters(NamedTuple):
    """`wanted` are the arguments of selectors.key_page, the rest is what the filter bar shows."""

    wanted: dict[str, Any]
    status: str
    mine: bool
    search: str
    sees_others: bool

    @property
    def active(self) -> bool:
        return bool(self.status or self.mine or self.search)


def key_filters(query: QueryDict, *, actor: Actor) -> KeyFilters:
    status = query.get("status", "") if query.get("status") in STATUSES else ""
    search = query.get("q", "").strip()[:120]
    search = search if search.isprintable() else ""
    mine = query.get("whose") == "mine"
    wanted = {
        "status": status,
        "mine": mine,
        "search": search,
        "before": _id(query.get("before")),
        "after": _id(query.get("after")),
    }
    return KeyFilters(wanted, status, mine, search, actor.can_anywhere(Permission.VIEW_USAGE))


def key_rows(keys: Iterable[ApiKey]) -> list[KeyRow]:
    keys = list(keys)
    limits = limits_by_key(keys)
    return [KeyRow(key, STATUS_WORDS[key.status], limits.get(key.pk, []), key_url(key)) for key in keys]


def key_url(key: ApiKey) -> str:
    return reverse("guardrails:key", kwargs={"org": key.organization.slug, "key_id": key.pk})


def page_urls(query: QueryDict, page: KeyPage) -> dict[str, str]:
    """`older_url` and `newer_url`, empty at an end; filters stay."""
    kept = {name: value for name, value in query.items() if name not in ("before", "after") and value}
    older = f"?{urlencode(kept | {'before': page.older})}" if page.older else ""
    newer = f"?{urlencode(kept | {'after': page.newer})}" if page.newer else ""
    return {"older_url": older, "newer_url": newer}


def _id(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None
