"""Names of the keys in Redis. All keys of an organisation share the hash tag `{id}`, so Redis Cluster keeps them together.

What a generation counted lies under its token (guardrails/generations.py): a new generation begins empty.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

# Organisations in which some worker holds something: what the resolver of dead workers' holds walks through.
ACTIVE_ORGANIZATIONS = "gh:active"
# `<run id of the server>:<token>`: what this server has counted since it was last empty, new or behind.
GENERATION = "gh:generation"
# Hash run, token, since: a generation that is being prepared.
NEXT_GENERATION = "gh:generation:next"


def generation(organization_id: int) -> str:
    """The organisation's copy of GENERATION, in reach of its scripts."""
    return f"gh:{{{organization_id}}}:gen"


def asserted(token: str) -> str:
    """Set: workers that have told the generation being prepared what they hold."""
    return f"gh:asserted:{token}"


def holds(organization_id: int, token: str) -> str:
    """Hash: call id → `amount|own|state|admitted ms|tokens|token subjects|live subjects|worker|subjects|context`.

    `own` is the part of the amount that can only be spent on own provider keys (lua/amounts.lua).

    State is r (running), s (the row is in a spool) or c (claimed by a resolver). The two lists are positions in
    `subjects`, from 1.
    """
    return f"gh:{{{organization_id}}}:{token}:holds"


def counter(organization_id: int, token: str, subject: str) -> str:
    return f"gh:{{{organization_id}}}:{token}:c:{subject}"


def rate(organization_id: int, token: str, subject: str) -> str:
    return f"gh:{{{organization_id}}}:{token}:r:{subject}"


def tombstone(organization_id: int, token: str, call_id: UUID | str) -> str:
    """Set once a call is settled."""
    return f"gh:{{{organization_id}}}:{token}:t:{call_id}"


def worker(worker_id: str) -> str:
    """Expires when the worker stops renewing it."""
    return f"gh:worker:{worker_id}"


def counters(organization_id: int, token: str, subjects: Iterable[str]) -> list[str]:
    return [counter(organization_id, token, subject) for subject in subjects]


def rates(organization_id: int, token: str, subjects: Iterable[str]) -> list[str]:
    return [rate(organization_id, token, subject) for subject in subjects]
