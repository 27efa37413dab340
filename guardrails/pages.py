"""What the key pages show, put together for their templates: rows, filters and links."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.http import QueryDict
from django.urls import reverse

from gateway_project.lib.queries import id_in, search_in
from guardrails.models import Limit
from guardrails.selectors import (
    EXPIRES_SOON,
    LONG_UNUSED,
    MINE,
    SERVICE,
    STATUSES,
    WATCHES,
    KeyPage,
    Narrowed,
    limits_by_key,
    offered,
)
from orgs.actor import Actor
from orgs.models import ApiKey, Group
from orgs.permissions import Permission
from orgs.selectors import tree_visible_to

WATCH_WORDS = {
    "expiring": f"End within {EXPIRES_SOON.days} days",
    "unused": f"Not used for {LONG_UNUSED.days} days",
    "unattributed": "Lacks attribution",
}


class KeyRow(NamedTuple):
    key: ApiKey
    status: str
    limits: list[Limit]
    url: str
    may_manage: bool


class Choice(NamedTuple):
    """A select of the filter bar; `options` of value and label, the first of them for no filter."""

    name: str
    label: str
    value: str
    options: list[tuple[str, str]]


class KeyFilters(NamedTuple):
    """`narrowed`, `before` and `after` are what selectors.key_page takes; `choices` is what the filter bar offers, of these
    groups: `tree`."""

    narrowed: Narrowed
    before: int | None
    after: int | None
    choices: list[Choice]
    tree: list[Group]

    @property
    def search(self) -> str:
        return self.narrowed.search

    @property
    def active(self) -> bool:
        return self.narrowed != Narrowed()


def key_filters(query: QueryDict, *, actor: Actor) -> KeyFilters:
    narrowed = _narrowed(query)
    tree = tree_visible_to(actor, Permission.VIEW_USAGE) if actor.can_anywhere(Permission.VIEW_USAGE) else []
    choices = _choices(narrowed, tree, actor=actor)
    return KeyFilters(narrowed, id_in(query.get("before")), id_in(query.get("after")), choices, tree)


def _narrowed(query: QueryDict) -> Narrowed:
    whose = query.get("member", "")
    return Narrowed(
        status=_one_of(STATUSES, query.get("status")),
        search=search_in(query.get("q"), 120),
        group=id_in(query.get("group")),
        whose=_one_of((MINE, SERVICE), whose),
        member=id_in(whose),
        application=id_in(query.get("application")),
        watch=_one_of(WATCHES, query.get("watch")),
    )


def _choices(narrowed: Narrowed, tree: list[Group], *, actor: Actor) -> list[Choice]:
    """Whoever sees nothing but its own keys needs neither groups nor people to choose from."""
    status = [("", "Not deleted"), *ApiKey.STATUS_WORDS.items()]
    watch = [("", "Ending, unused"), *WATCH_WORDS.items()]
    plain = [Choice("status", "Status", narrowed.status, status), Choice("watch", "What to look after", narrowed.watch, watch)]
    if not actor.can_anywhere(Permission.VIEW_USAGE):
        return plain
    groups = [(str(group.pk), "\u2003" * group.level + group.name) for group in tree]
    found = offered(actor)
    people = [(str(member), name) for member, name in found.members if member != actor.user.pk]
    whose = [("", "Everyone's"), (MINE, "My keys"), (SERVICE, "Service keys"), *people]
    applications = [("", "Any application"), *((str(application), name) for application, name in found.applications)]
    return [
        Choice("group", "Group", _text(narrowed.group), [("", "All groups"), *groups]),
        Choice("member", "Whose keys", narrowed.whose or _text(narrowed.member), whose),
        Choice("application", "Application", _text(narrowed.application), applications),
        *plain,
    ]


def key_rows(keys: Iterable[ApiKey], *, actor: Actor) -> list[KeyRow]:
    keys = list(keys)
    limits = limits_by_key(keys)
    return [
        KeyRow(
            key,
            key.status_words,
            limits.get(key.pk, []),
            key_url(key),
            not key.revoked_at and actor.can_with_key(Permission.MANAGE_KEYS, key),
        )
        for key in keys
    ]


def key_url(key: ApiKey) -> str:
    return reverse("guardrails:key", kwargs={"org": key.organization.slug, "key_id": key.pk})


def page_urls(query: QueryDict, page: KeyPage) -> dict[str, str]:
    """`older_url` and `newer_url`, empty at an end; filters stay."""
    kept = {name: value for name, value in query.items() if name not in ("before", "after") and value}
    older = f"?{urlencode(kept | {'before': page.older})}" if page.older else ""
    newer = f"?{urlencode(kept | {'after': page.newer})}" if page.newer else ""
    return {"older_url": older, "newer_url": newer}


def key_page_parts(key: ApiKey, *, actor: Actor, tab: str) -> dict[str, Any]:
    """What every tab of a key's page needs."""
    return {
        "key": key,
        "status": key.status_words,
        "path": key.group.path(),
        "tab": tab,
        "may_manage": not key.revoked_at and actor.can_with_key(Permission.MANAGE_KEYS, key),
        "is_own": key.member_id == actor.user.pk,
    }


def _one_of(words: Iterable[str], word: str | None) -> str:
    return word if word and word in words else ""


def _text(number: int | None) -> str:
    return "" if number is None else str(number)
