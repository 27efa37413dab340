"""Stored credentials under the first key of the ring: the operator's, the organisations' own, and links of invitations.

Idempotent and resumable: each batch is a transaction of its own, and what is under the first key already stays as it
is. What it says is the same, so no worker needs to hear of it; each must have the new key in its ring before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from django.db import models, transaction

from gateway_project.lib import crypto
from orgs.models import Invitation
from orgs.services.invitations import bound_to as bound_to_invitation
from proxy.catalogue import bound_to as bound_to_provider
from proxy.models import Provider, ProviderKey
from proxy.own_keys import bound_to as bound_to_key

BATCH = 100


class Rotated(NamedTuple):
    """How many were encrypted anew, were under the first key already, and do not open: these stay as they are."""

    changed: int = 0
    current: int = 0
    unreadable: tuple[str, ...] = ()

    def plus(self, other: Rotated) -> Rotated:
        return Rotated(self.changed + other.changed, self.current + other.current, self.unreadable + other.unreadable)


def rotate_providers(*, batch: int = BATCH) -> Rotated:
    return _rotate(Provider, "api_key_encrypted", bound_to_provider, batch)


def rotate_provider_keys(*, batch: int = BATCH) -> Rotated:
    return _rotate(ProviderKey, "key_encrypted", lambda key: bound_to_key(key.organization_id, key.pk), batch)


def rotate_invitations(*, batch: int = BATCH) -> Rotated:
    """The links of open invitations, which their makers may copy again."""
    return _rotate(Invitation, "sealed", bound_to_invitation, batch)


def _rotate(model: type[models.Model], column: str, bound_to: Callable[[Any], str], batch: int) -> Rotated:
    done, last = Rotated(), 0
    while True:
        with transaction.atomic():
            rows = list(model._default_manager.filter(pk__gt=last).select_for_update().order_by("pk")[:batch])
            for row in rows:
                done = done.plus(_rotated(row, column, bound_to(row)))
        if len(rows) < batch:
            return done
        last = rows[-1].pk


def _rotated(row: models.Model, column: str, bound_to: str) -> Rotated:
    stored = getattr(row, column)
    if not stored:
        return Rotated()
    try:
        fresh = crypto.reencrypted(stored, bound_to=bound_to)
    except crypto.CannotDecrypt as error:
        return Rotated(unreadable=(str(error),))
    if fresh is None:
        return Rotated(current=1)
    setattr(row, column, fresh)
    row.save(update_fields=[column])
    return Rotated(changed=1)
