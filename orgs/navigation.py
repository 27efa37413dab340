"""The console's main menu: a registry that the apps above fill in their AppConfig.ready(), each with what it needs to be seen."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from django.urls import reverse

from orgs.actor import Actor
from orgs.permissions import Permission


class Section(Enum):
    """Parts of the menu, in their order, by the words above them."""

    FIRST = ""
    BUILD = "Build"
    GOVERN = "Govern"
    PROVIDERS = "Providers"
    ORGANISATION = "Organisation"


_ORDER = list(Section)


@dataclass(frozen=True)
class Entry:
    """`url_name` takes the organisation's slug as `org`; `icon` is a symbol of the sprite; low `position` stands first in its
    section.

    `everywhere`: the page is of the organisation as a whole, so the permission counts at the root only. `badge`: the
    page that answers how many things wait there, loaded after the page, for whoever has `badge_permission` somewhere.
    `also_with`: further permissions any of which opens the page. `tabs`: it is the door to an area of these pages, and leads to
    the first that may be seen; at each of them it is the active one.
    `shortcut`: the letter that leads there after a `g`.
    """

    label: str
    url_name: str
    icon: str
    permission: Permission
    position: int
    section: Section = Section.FIRST
    everywhere: bool = False
    badge: str = ""
    badge_permission: Permission = Permission.VIEW_OWN
    also_with: tuple[Permission, ...] = ()
    tabs: tuple[Entry, ...] = ()
    shortcut: str = ""

    def may_be_seen_by(self, actor: Actor) -> bool:
        """Whether its page opens: a test holds the permissions against those of the page's door."""
        judge = actor.can_everywhere if self.everywhere else actor.can_anywhere
        return any(tab.may_be_seen_by(actor) for tab in self.tabs) or any(
            judge(permission) for permission in (self.permission, *self.also_with)
        )

    def pages(self, actor: Actor) -> list[str]:
        """Names of URLs: where it leads, then those at which it is active, too."""
        if not self.tabs:
            return [self.url_name]
        return [tab.url_name for tab in sorted(self.tabs, key=lambda tab: not tab.may_be_seen_by(actor))]


@dataclass(frozen=True)
class Link:
    label: str
    url: str
    icon: str
    section: str
    active: bool
    badge_url: str = ""
    shortcut: str = ""


ENTRIES: list[Entry] = []
# The tabs of the area "Groups & members".
TABS: list[Entry] = []


def register(entry: Entry) -> None:
    if entry not in ENTRIES:
        ENTRIES.append(entry)


def links(actor: Actor, *, path: str, entries: Iterable[Entry] | None = None) -> list[Link]:
    """What the actor may see. Active is the entry whose URL is the longest beginning of `path`."""
    found = sorted(ENTRIES if entries is None else entries, key=lambda entry: (_ORDER.index(entry.section), entry.position))
    seen = [entry for entry in found if entry.may_be_seen_by(actor)]
    addresses = [[_address(name, actor) for name in entry.pages(actor)] for entry in seen]
    active = max((url for urls in addresses for url in urls if path.startswith(url)), key=len, default=None)
    return [_link(entry, urls[0], actor=actor, active=active in urls) for entry, urls in zip(seen, addresses, strict=True)]


def _address(url_name: str, actor: Actor) -> str:
    return _url(url_name, actor.organization.slug)


@functools.lru_cache(maxsize=4096)
def _url(url_name: str, org: str) -> str:
    """Kept: each page has some thirty of them, the same for everyone in the organisation."""
    return reverse(url_name, kwargs={"org": org})


def _link(entry: Entry, url: str, *, actor: Actor, active: bool) -> Link:
    has_badge = entry.badge and actor.can_anywhere(entry.badge_permission)
    badge_url = _address(entry.badge, actor) if has_badge else ""
    return Link(entry.label, url, entry.icon, entry.section.value, active, badge_url, entry.shortcut)
