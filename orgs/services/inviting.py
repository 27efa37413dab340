"""Inviting many at once: each invitation is a change of its own, and what a rule forbids for one is told, not done."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from orgs import invitation_mail
from orgs.actor import Actor
from orgs.errors import Refused
from orgs.models import Group, Invitation
from orgs.powers import AnyRole
from orgs.services.invitations import invite


class Invited(NamedTuple):
    made: list[Invitation]
    refused: list[str]


def invite_many(
    people: Iterable[tuple[str, str]], *, group: Group, by: Actor, role: AnyRole | None = None, expires_at: datetime | None = None
) -> Invited:
    """`people`: (address, name). Mails go out by the background worker. Raises NotAllowed."""
    outcome = Invited([], [])
    for email, name in people:
        try:
            outcome.made.append(invite(group, email=email, name=name, role=role, expires_at=expires_at, by=by))
        except Refused as refused:
            outcome.refused.append(refused.message)
    invitation_mail.queue(outcome.made)
    return outcome
