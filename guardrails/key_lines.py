"""What was done to a key in words, from the audit trail: who did what, and what stood there before and after."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from gateway_project.lib.formatting import minute_words
from gateway_project.lib.money import limit_usd
from guardrails.policy_history import Event
from guardrails.services.key_limits import KEY_LIMITS_SET, WORDS
from orgs.models import Application, AuditEvent, Group

MOVED = "key.moved"
ACTIONS = {
    "key.created": "made it",
    "key.edited": "changed it",
    "key.expiry_set": "changed it",
    "key.renamed": "renamed it",
    "key.rotated": "gave it a new text",
    "key.old_text_ended": "ended its old text",
    "key.disabled": "disabled it",
    "key.enabled": "enabled it",
    MOVED: "moved it to",
    "key.revoked": "deleted it",
    KEY_LIMITS_SET: "set its limits",
}
CHANGING = ("key.edited", "key.expiry_set", "key.renamed", KEY_LIMITS_SET)
MOMENTS = ("expires_at", "old_until")
LISTS = {"models": "allowed models", "blocked_models": "blocked models", "addresses": "allowed addresses"}
LABELS = {"expires_at": "Valid until", **{name: words.capitalize() for name, words in {**WORDS, **LISTS}.items()}}


def events(found: Iterable[AuditEvent]) -> list[Event]:
    """One statement for the applications named in all of them, if any are, and one for the groups it was moved to."""
    found = list(found)
    moved = {event.after.get("group") for event in found if event.action == MOVED}
    groups = dict(Group.objects.filter(pk__in=moved).values_list("pk", "name")) if moved else {}
    ids = {facts.get("application") for event in found for facts in (event.before, event.after)} - {None}
    names = dict(Application.objects.filter(pk__in=ids).values_list("pk", "name")) if ids else {}
    return [
        Event(
            who=str(event.actor or "Gatehouse"),
            did=ACTIONS.get(event.action, event.action),
            what=_what(event, groups),
            at=event.at,
            changes=_changes(event, names) if event.action in CHANGING else [],
        )
        for event in found
    ]


def _what(event: AuditEvent, groups: dict[int, str]) -> str:
    if event.action == MOVED:
        return groups.get(event.after["group"], "another group")
    if event.action != "key.rotated":
        return ""
    return f"ending in {event.after['last_four']}; the old one works until {_moment(event.after['old_until'])}"


def _changes(event: AuditEvent, applications: dict[int, str]) -> list[tuple[str, str, str]]:
    """(what, before, after) of what differs."""
    before, after = event.before, event.after
    return [
        (
            LABELS.get(name, name.replace("_", " ").capitalize()),
            _fact(name, before.get(name), applications),
            _fact(name, after.get(name), applications),
        )
        for name in {**before, **after}
        if (before.get(name) or None) != (after.get(name) or None)
    ]


def _fact(name: str, value: Any, applications: dict[int, str]) -> str:
    if value is None or value in ("", []):
        return "none"
    if name == "application":
        return applications.get(value, "one that is gone")
    if name in MOMENTS:
        return _moment(value)
    if isinstance(value, list):
        return ", ".join(str(entry) for entry in value)
    if isinstance(value, int):
        return limit_usd(value) if name.endswith("_nano_usd") else f"{value:,}"
    return str(value)


def _moment(text: str) -> str:
    moment = parse_datetime(text)
    return minute_words(timezone.localtime(moment)) if moment else text
