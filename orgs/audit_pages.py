"""What the templates of the audit trail show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from django.http import QueryDict
from django.urls import reverse

from orgs.audit_selectors import Filters, Page
from orgs.audit_words import action_words, thing_words
from orgs.models import AuditCheck

PERIOD_WORDS = {"24h": "24 h", "7d": "7 d", "30d": "30 d", "90d": "90 d", "all": "All"}
KEPT = ("period", "actor", "action", "target", "q")


def url_with(query: QueryDict, changed: Mapping[str, str | None]) -> str:
    """The page's URL with these parameters; a None takes one away. Another filter begins at the first page."""
    kept: dict[str, str | None] = {**{name: str(query[name]) for name in KEPT if query.get(name)}, **changed}
    return "?" + urlencode({name: value for name, value in kept.items() if value})


def bar(query: QueryDict, filters: Filters, *, offered: tuple[list[str], dict[int, str]], page: Page) -> dict[str, Any]:
    actions, people = offered
    acted = [(str(pk), name) for pk, name in people.items()]
    done = sorted(((action, action_words(action)) for action in actions), key=lambda choice: choice[1])
    return {
        "periods": [
            {"label": label, "url": url_with(query, {"period": name}), "active": name == filters.period}
            for name, label in PERIOD_WORDS.items()
        ],
        "selects": [
            _select("actor", "Actor", acted, chosen="" if filters.actor is None else str(filters.actor), every="Everybody"),
            _select("action", "Action", done, chosen=filters.action, every="Every action"),
        ],
        "chips": [{"label": _target_words(filters.target, page), "remove_url": url_with(query, {"target": None})}]
        if filters.target
        else [],
        "keep": {name: query[name] for name in ("period", "target", "q") if query.get(name)},
        "search_keep": {name: query[name] for name in KEPT if name != "q" and query.get(name)},
    }


def _target_words(target: str, page: Page) -> str:
    kind, _, named = target.partition(":")
    label = page.events[0].object_label if page.events else named
    return f"{thing_words(kind)}: {label}"[:80]


def _select(name: str, label: str, options: list[tuple[str, str]], *, chosen: str, every: str) -> dict[str, Any]:
    """What the URL asks for stays chosen, even where it does not occur."""
    if chosen and chosen not in dict(options):
        options = [*options, (chosen, action_words(chosen) if name == "action" else chosen)]
    shown = [{"value": value, "label": words} for value, words in [("", every), *options]]
    return {"name": name, "label": label, "value": chosen, "options": shown}


def export_urls(query: QueryDict, *, org: str) -> list[tuple[str, str]]:
    address = reverse("audit:export", kwargs={"org": org})
    return [(label, address + url_with(query, {"format": form})) for form, label in (("csv", "CSV"), ("jsonl", "JSON Lines"))]


def rows(page: Page, *, org: str) -> list[dict[str, Any]]:
    return [
        {
            "event": event,
            "url": reverse("audit:event", kwargs={"org": org, "sequence": event.sequence}),
            "words": action_words(event.action),
            "thing": thing_words(event.object_type),
            "denied": event.action == "access.denied",
        }
        for event in page.events
    ]


def badge(check: AuditCheck | None, count: int) -> dict[str, Any]:
    """What is known of the chain: the latest verification, and how many events came after it."""
    if check is None:
        return {"tone": "muted", "words": "Not verified yet", "count": count}
    if check.fault_count:
        return {"tone": "bad", "words": "Chain broken", "check": check, "count": count}
    return {"tone": "ok", "words": "Chain verified", "check": check, "count": count, "since": max(0, count - check.event_count)}
