"""The hash chain of an audit trail: what is hashed, and what a reader finds who hashes it again. No Django, no network.

Each event carries the SHA-256 of the hash before it, a line feed and its own facts in canonical JSON. Guarantees: a fact
that was changed, an event that was taken out, put in or moved is found, at the event, as long as the hashes after it
are not all computed anew. Whoever may write to every table can do that; it shows only against a hash noted elsewhere
(`manage.py verify_audit --head`).

The canonical form: one JSON object of the facts, keys in the order of their letters, no spaces, everything beyond ASCII
as \\uXXXX. It can never change: every chain that was ever written rests on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

# What stands before the first event of a chain.
GENESIS = "0" * 64


class Row(NamedTuple):
    """One event as it is stored: its place, its hash, and the facts that the hash is of."""

    sequence: int
    hash: str
    facts: Mapping[str, Any]


class Fault(NamedTuple):
    sequence: int
    words: str


def canonical(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def link(previous: str, facts: Mapping[str, Any]) -> str:
    """The hash of an event that follows the one whose hash is `previous`; 64 hexadecimal digits."""
    return hashlib.sha256(previous.encode() + b"\n" + canonical(facts)).hexdigest()


def faults_in(rows: Iterable[Row], *, head: tuple[int, str], noted: tuple[int, str] | None = None) -> Iterator[Fault]:
    """`rows` by sequence; `head`: place and hash of the last event, as kept beside the trail; `noted`: of one, kept elsewhere."""
    place, previous, seen_noted = 0, GENESIS, noted is None or noted[0] == 0
    for row in rows:
        if row.sequence <= place:
            yield Fault(row.sequence, f"event {row.sequence} was added: its place is taken")
            continue
        if row.sequence > place + 1:
            yield Fault(place + 1, f"{_events(place + 1, row.sequence - 1)} removed")
        # After a gap the hash before is not known, so the event itself cannot be judged.
        elif link(previous, row.facts) != row.hash:
            yield Fault(row.sequence, f"event {row.sequence} was changed or moved, or what stood before it was replaced")
        if noted and noted[0] == row.sequence:
            seen_noted = True
            if noted[1] != row.hash:
                yield Fault(row.sequence, f"event {row.sequence} is not the one that was noted: the chain was written anew")
        place, previous = row.sequence, row.hash
    yield from _faults_at_the_end(place, previous, head=head)
    if noted and not seen_noted:
        yield Fault(noted[0], f"event {noted[0]}, which was noted, is missing")


def _faults_at_the_end(place: int, previous: str, *, head: tuple[int, str]) -> Iterator[Fault]:
    if head[0] > place:
        yield Fault(place + 1, f"{_events(place + 1, head[0])} removed from the end")
    elif head[0] < place:
        yield Fault(head[0] + 1, f"{_events(head[0] + 1, place)} added past the head")
    elif place and head[1] != previous:
        yield Fault(place, f"event {place} is not the one that the head names")


def _events(first: int, last: int) -> str:
    return f"event {first} was" if first == last else f"events {first} to {last} were"
