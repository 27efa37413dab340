"""An audit event in words: what was done, and what stood there before and after."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from django.utils import timezone
from django.utils.formats import date_format

from gateway_project.lib.money import limit_usd
from orgs.models import AuditEvent, Group, User

# Things whose name in the trail is not what people call them; every other is called by its own name.
THINGS = {
    "key": "API key",
    "api_token": "Access token",
    "scim": "SCIM",
    "sso": "SSO",
    "mfa": "Second factor",
    "organization": "organisation",
    "apikey": "API key",
    "rolegrant": "role",
    "membership": "member",
    "routingchoice": "routing",
    "providerkey": "provider key",
}
# Facts whose name would not be read as what it means.
LABELS = {"zdr_only": "Zero data retention only", "organization": "organisation"}
# How facts write a moment: always aware, mostly in UTC.
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?[+-]\d\d:\d\d")
GROUPS, PEOPLE = ("group", "parent", "groups"), ("user", "member", "owner", "members")


class Change(NamedTuple):
    """`before` and `after` are empty where there is nothing to say; `kind` is added, removed, changed or same."""

    label: str
    before: str
    after: str
    kind: str


def action_words(action: str) -> str:
    """ "key.limits_set" → "API key limits set"."""
    thing, _, what = action.partition(".")
    words = f"{THINGS.get(thing, _spaced(thing))} {_spaced(what)}".strip()
    return words[:1].upper() + words[1:]


def thing_words(object_type: str) -> str:
    return THINGS.get(object_type, _spaced(object_type))


def changes_of(event: AuditEvent) -> list[Change]:
    """One for each fact, in the order in which they were told; with the names that groups and people bear today."""
    names = _names_in([event.before, event.after])
    return [_change(name, event, names) for name in {**event.before, **event.after}]


def _change(name: str, event: AuditEvent, names: Mapping[tuple[str, int], str]) -> Change:
    before, after = (_value(name, facts[name], names) if name in facts else "" for facts in (event.before, event.after))
    kinds = {(True, True): "changed", (True, False): "removed", (False, True): "added"}
    kind = "same" if before == after else kinds[name in event.before, name in event.after]
    label = LABELS.get(name) or _spaced(name.removesuffix("_nano_usd"))
    return Change(label[:1].upper() + label[1:], before, after, kind)


def _value(name: str, value: Any, names: Mapping[tuple[str, int], str]) -> str:
    match value:
        case None | "" | []:
            return "–"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(_value(name, one, names) for one in value)
        case int() if name.endswith("nano_usd"):
            return limit_usd(value)
        case str() if MOMENT.fullmatch(value):
            return _moment(value)
        case int() if (named := names.get((_kind(name), value))) is not None:
            return named
    return str(value)


def _moment(written: str) -> str:
    """By the clock of the organisation. What only looks like a moment stays as it is."""
    try:
        return date_format(timezone.localtime(datetime.fromisoformat(written)), "M j, Y, H:i:s T")
    except ValueError:
        return written


def _names_in(facts: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int], str]:
    """Names of the groups and people whose ids stand in the facts: at most one statement for each."""
    ids: dict[str, set[int]] = {"group": set(), "person": set()}
    for name, value in (fact for one in facts for fact in one.items()):
        if kind := _kind(name):
            ids[kind] |= {one for one in (value if isinstance(value, list) else [value]) if type(one) is int}
    found: dict[tuple[str, int], str] = {}
    if ids["group"]:
        groups = Group.objects.filter(pk__in=ids["group"]).values_list("pk", "name")
        found |= {("group", pk): name for pk, name in groups}
    if ids["person"]:
        found |= {("person", user.pk): str(user) for user in User.objects.filter(pk__in=ids["person"])}
    return found


def _kind(name: str) -> str:
    return "group" if name in GROUPS else "person" if name in PEOPLE else ""


def _spaced(name: str) -> str:
    return name.replace("_", " ").replace(".", " ")
