"""What the approval of new models would stop, said before it is saved. The catalogue stands above this app, and so do the
sums of calls: whoever has both says at start-up how to read them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from django.utils import timezone

from orgs.actor import Actor


class Lost(NamedTuple):
    """A model that needs an approval, and its completed calls of the last 30 days; `approved_for`: groups whose calls go on."""

    model: str
    calls: int
    keys: int
    approved_for: list[str]


class Reach(NamedTuple):
    """Declared models, how many of them are new since a moment and not approved for everybody, and what of those is in use."""

    since: datetime
    models: int
    waiting: int
    lost: list[Lost]

    @property
    def token(self) -> str:
        """From when on, and which models: a form that carries it has been asked about these."""
        said = "\n".join([self.since.isoformat(), *sorted(one.model for one in self.lost)])
        return hashlib.blake2s(said.encode(), digest_size=16).hexdigest()

    @property
    def calls(self) -> int:
        return sum(one.calls for one in self.lost)


Reader = Callable[[Actor, datetime], Reach]

_readers: list[Reader] = []


def read_with(reader: Reader) -> None:
    """`reader` takes who asks and since when a model is new."""
    _readers[:] = [reader]


def reach(actor: Actor, *, since: datetime | None) -> Reach:
    """`since` None: from now on. Raises RuntimeError where no reader was named."""
    if not _readers:
        raise RuntimeError("nobody knows the models: call approvals.read_with at start-up")
    return _readers[0](actor, since or timezone.now())


def newly_stopped(actor: Actor, *, since: datetime | None, sent: Mapping[str, str]) -> Reach | None:
    """What is in use and would be refused from now on, unless the form that was sent has been asked about it already."""
    before = actor.organization.approval_since
    if since is None or (before is not None and since >= before):
        return None
    found = reach(actor, since=since)
    stopped = {one.model for one in reach(actor, since=before).lost} if before else set[str]()
    lost = [one for one in found.lost if one.model not in stopped]
    found = found._replace(lost=lost)
    return found if lost and sent.get("confirm_approval") != found.token else None
