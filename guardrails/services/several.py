"""The same change for several keys: each by itself, and what a rule forbids for one is told, not done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from orgs.actor import Actor
from orgs.errors import NotAllowed, Refused
from orgs.models import ApiKey
from orgs.services.keys import disable_key, enable_key, revoke_key

# More than a page of the list has.
MOST_KEYS = 200


class Outcome(NamedTuple):
    """Of one key: an empty refusal says that it was done."""

    key: ApiKey
    refusal: str


def _delete(key: ApiKey, *, by: Actor) -> ApiKey:
    """As on the key's own page: what can be undone comes before what cannot."""
    return revoke_key(key, by=by, in_use=False)


CHANGES: Mapping[str, Callable[..., ApiKey]] = MappingProxyType({"disable": disable_key, "enable": enable_key, "delete": _delete})


def change_keys(keys: Iterable[ApiKey], *, change: str, by: Actor) -> list[Outcome]:
    """`change` is one of CHANGES."""
    return [_changed(key, CHANGES[change], by=by) for key in keys]


def _changed(key: ApiKey, change: Callable[..., ApiKey], *, by: Actor) -> Outcome:
    try:
        return Outcome(change(key, by=by), "")
    except Refused as refused:
        return Outcome(key, refused.message)
    except NotAllowed as missing:
        return Outcome(key, f"You lack the permission “{missing.permission.label}” for it.")
