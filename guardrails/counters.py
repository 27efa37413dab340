"""Names of the keys in Redis. All keys of an organisation share the hash tag `{id}`, so Redis Cluster keeps them together."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

# Organisations in which some worker holds something: what the resolver of dead workers' holds walks through.
ACTIVE_ORGANIZATIONS = "gh:active"


def holds(organization_id: int) -> str:
    """Hash: call id → `amount|admitted ms|worker|subjects|context`."""
    return f"gh:{{{organization_id}}}:holds"


def counter(organization_id: int, subject: str) -> str:
    return f"gh:{{{organization_id}}}:c:{subject}"


def rate(organization_id: int, subject: str) -> str:
    return f"gh:{{{organization_id}}}:r:{subject}"


def tombstone(organization_id: int, call_id: UUID | str) -> str:
    """Set once a call is settled."""
    return f"gh:{{{organization_id}}}:t:{call_id}"


def worker(worker_id: str) -> str:
    """Expires when the worker stops renewing it."""
    return f"gh:worker:{worker_id}"


def counters(organization_id: int, subjects: Iterable[str]) -> list[str]:
    return [counter(organization_id, subject) for subject in subjects]
