"""What must be asked before a key is made or moved, somebody gets a seat or a group moves: a registry that the apps above
fill at start-up.

A check raises Refused, with words for whoever asked. It runs inside the change, under the organisation's lock, so that
two people cannot both take what is left for one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from orgs.actor import Actor
from orgs.models import ApiKey, Application, Group, User


class KeyCheck(Protocol):
    def __call__(self, group: Group, *, member: User | None, application: Application | None, made: bool = True) -> None:
        """`made` False: a key that is there already comes to the application; where it is at home nothing becomes more."""
        ...


class SeatCheck(Protocol):
    def __call__(self, group: Group, *, user: User | None) -> None:
        """`user` None: somebody without an account yet, who is invited."""
        ...


class MovedKeysCheck(Protocol):
    def __call__(self, keys: Collection[ApiKey], *, to: Group) -> None:
        """Keys, with their paths, that come to be at home in another group."""
        ...


class MoveCheck(Protocol):
    def __call__(self, group: Group, to: Group, by: Actor) -> None: ...


_key_checks: list[KeyCheck] = []
_seat_checks: list[SeatCheck] = []
_moved_keys_checks: list[MovedKeysCheck] = []
_move_checks: list[MoveCheck] = []


def before_key(check: KeyCheck) -> None:
    if check not in _key_checks:
        _key_checks.append(check)


def before_seat(check: SeatCheck) -> None:
    if check not in _seat_checks:
        _seat_checks.append(check)


def before_moved_keys(check: MovedKeysCheck) -> None:
    if check not in _moved_keys_checks:
        _moved_keys_checks.append(check)


def before_move(check: MoveCheck) -> None:
    if check not in _move_checks:
        _move_checks.append(check)


def refuse_key(group: Group, *, member: User | None, application: Application | None, made: bool = True) -> None:
    """Raises Refused."""
    for check in _key_checks:
        check(group, member=member, application=application, made=made)


def refuse_seat(group: Group, *, user: User | None) -> None:
    """Raises Refused."""
    for check in _seat_checks:
        check(group, user=user)


def refuse_moved_keys(keys: Collection[ApiKey], *, to: Group) -> None:
    """Raises Refused."""
    for check in _moved_keys_checks if keys else ():
        check(keys, to=to)


def refuse_move(group: Group, *, to: Group, by: Actor) -> None:
    """Raises Refused."""
    for check in _move_checks:
        check(group, to, by)
