"""The same change for several members: each is a change of its own, and what a rule forbids for one is told, not done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from django.db import transaction

from orgs.actor import Actor
from orgs.errors import NotAllowed, Refused
from orgs.models import Group, Membership
from orgs.people import Person
from orgs.services.departures import move_member, remove_member
from orgs.services.members import resume_member, suspend_member


class Outcome(NamedTuple):
    """Names of those it was done for, and why not for the others."""

    done: list[str]
    refused: list[str]


def change_members(people: Iterable[Person], *, action: str, by: Actor, group: Group | None = None) -> Outcome:
    """`action` is suspend, resume, remove or move; a move goes to `group`, and is refused for who belongs to several groups."""
    changes: dict[str, Callable[[Membership], object]] = {
        "suspend": lambda membership: suspend_member(membership, by=by),
        "resume": lambda membership: resume_member(membership, by=by),
        "remove": lambda membership: remove_member(membership, by=by),
        "move": lambda membership: _moved(membership, group, by=by),
    }
    outcome = Outcome([], [])
    for person in people:
        try:
            if action == "move" and len(person.memberships) > 1:
                raise Refused(f"{person.user} belongs to several groups: move one of the memberships on its page.")
            with transaction.atomic():  # all of a person's memberships, or none: what is told is of the person
                for membership in person.memberships:
                    changes[action](membership)
            outcome.done.append(str(person.user))
        except Refused as refused:
            outcome.refused.append(f"{person.user}: {refused.message}")
        except NotAllowed as missing:
            outcome.refused.append(f"{person.user}: it needs “{missing.permission.label.lower()}” at {missing.group}.")
    return outcome


def _moved(membership: Membership, group: Group | None, *, by: Actor) -> Membership:
    if group is None:
        raise Refused("Choose a group.", field="group")
    return move_member(membership, group=group, by=by)
