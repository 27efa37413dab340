"""The history of a policy in words, from the audit trail: who did what, and what stood there before and after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from gateway_project.lib.formatting import minute_words
from gateway_project.lib.money import limit_usd
from guardrails.limit_rows import CHOICES
from guardrails.models import Rule
from guardrails.policy_forms import AS_ABOVE, PolicyForm
from guardrails.policy_pages import REACH_WORDS, limit_words
from guardrails.services.policies import OWN_KEYS_IN
from orgs.models import AuditEvent, User

ACTIONS = {
    "policy.created": "created it",
    "policy.changed": "changed it",
    "policy.deleted": "deleted it",
    "policy.bound": "bound it to",
    "policy.unbound": "took it off",
    "policy.override_added": "made an exception for",
    "policy.override_ended": "ended the exception for",
    "policy.override_resumed": "brought back the exception for",
    "policy.usage_reset": "reset the usage of",
}
SWITCHED = {None: dict(AS_ABOVE)[""], True: dict(AS_ABOVE)["on"], False: dict(AS_ABOVE)["off"]}
SWITCHES = ("clamp", "observed_holds")
# What an empty list of what is allowed means.
EVERYTHING = {"models": "every model", "providers": "every provider", "addresses": "from anywhere", "members": "everyone"}


class Event(NamedTuple):
    who: str
    did: str
    what: str
    at: datetime
    changes: list[tuple[str, str, str]]


def events(found: Iterable[AuditEvent]) -> list[Event]:
    """One statement for the members named in all of them, if any are."""
    found = list(found)
    people = _people(found)
    return [
        Event(
            who=str(event.actor or "Gatehouse"),
            did=ACTIONS.get(event.action, event.action),
            what=_what(event),
            at=event.at,
            changes=_changes(event, people) if event.action == "policy.changed" else [],
        )
        for event in found
    ]


def _people(found: Iterable[AuditEvent]) -> dict[str, str]:
    """Ids in lists of members → their e-mail addresses."""
    lists = [facts.get(Rule.Kind.MEMBERS) for event in found for facts in (event.before, event.after)]
    ids = {int(entry) for entries in lists if isinstance(entries, list) for entry in entries if str(entry).isdigit()}
    if not ids:
        return {}
    return {str(pk): email for pk, email in User.objects.filter(pk__in=ids).values_list("pk", "email")}


def _what(event: AuditEvent) -> str:
    facts = event.after or event.before
    if event.action in ("policy.created", "policy.changed", "policy.deleted"):
        return ""
    name = str(facts.get("name", ""))
    if facts.get("reach"):
        return f"{name}: {REACH_WORDS.get(facts['reach'], facts['reach'])}"
    if not facts.get("limit"):
        return name
    kind, _, window = str(facts["limit"]).partition(" ")
    until = parse_datetime(str(facts.get("until") or ""))
    words = limit_words(kind, window, int(facts.get("amount", 0)))
    return f"{name}: {words}" + (f", until {minute_words(timezone.localtime(until))}" if until else "")


def _changes(event: AuditEvent, people: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(what, before, after) in words."""
    return [
        (_label(name), _fact(name, event.before.get(name), people), _fact(name, event.after.get(name), people))
        for name in {**event.before, **event.after}
    ]


def _label(name: str) -> str:
    """As the form calls it."""
    field = PolicyForm.base_fields.get(name)
    budget = CHOICES.get(name.removeprefix(f"{OWN_KEYS_IN} "), "") if name.startswith(OWN_KEYS_IN) else ""
    label = (
        (budget and f"Own provider keys in {budget.lower()}")
        or CHOICES.get(name)
        or str(field.label if field and field.label else name.replace("_", " "))
    )
    return label[0].upper() + label[1:]


def _fact(name: str, value: Any, people: Mapping[str, str]) -> str:
    if name in SWITCHES:
        return SWITCHED[value]
    if name.startswith(OWN_KEYS_IN):
        return "counted" if value else "not counted"
    if value is None:
        return EVERYTHING.get(name, "none")
    if isinstance(value, list):
        return ", ".join(_entry(name, str(entry), people) for entry in value)
    if name == "degrade_percent":
        return f"{value}%"
    if isinstance(value, int):
        return limit_usd(value) if name.startswith("budget") else f"{value:,}"
    return str(value)


def _entry(name: str, entry: str, people: Mapping[str, str]) -> str:
    return people.get(entry, "someone who left") if name == Rule.Kind.MEMBERS else entry
