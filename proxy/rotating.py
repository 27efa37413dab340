"""All that is stored encrypted, under the first key of the ring.

Idempotent and resumable: each batch is a transaction of its own, and what is under the first key already stays as it
is. What it says is the same, so no worker needs to hear of it; each must have the new key in its ring before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from allauth.mfa.models import Authenticator
from django.db import models, transaction

from gateway_project.lib import crypto
from orgs.adapters import SECOND_FACTOR
from orgs.models import Invitation
from orgs.services.invitations import bound_to as bound_to_invitation
from orgs.sso_models import SsoConnection
from proxy.catalogue import bound_to as bound_to_provider
from proxy.models import Provider, ProviderKey
from proxy.own_keys import bound_to as bound_to_key

BATCH = 100


class Store(NamedTuple):
    """A column with encrypted text in it, and what each row's is bound to. `inside`: the names of a JSON object that hold it."""

    title: str
    model: type[models.Model]
    column: str
    bound_to: Callable[[Any], str]
    inside: tuple[str, ...] = ()


PROVIDERS = Store("operator's providers", Provider, "api_key_encrypted", bound_to_provider)
PROVIDER_KEYS = Store("own provider keys", ProviderKey, "key_encrypted", lambda key: bound_to_key(key.organization_id, key.pk))
# Of open ones, which their makers may copy again.
INVITATIONS = Store("links of invitations", Invitation, "sealed", bound_to_invitation)
CONNECTIONS = Store("secrets of single sign-on", SsoConnection, "secret_encrypted", lambda row: row.secret_bound_to)
# The names are allauth's: of an authenticator app, of recovery codes.
SECOND_FACTORS = Store("second factors", Authenticator, "data", lambda _: SECOND_FACTOR, inside=("secret", "seed"))
STORES = (PROVIDERS, PROVIDER_KEYS, INVITATIONS, CONNECTIONS, SECOND_FACTORS)


class Rotated(NamedTuple):
    """How many were encrypted anew, were under the first key already, and do not open: these stay as they are."""

    changed: int = 0
    current: int = 0
    unreadable: tuple[str, ...] = ()

    def plus(self, other: Rotated) -> Rotated:
        return Rotated(self.changed + other.changed, self.current + other.current, self.unreadable + other.unreadable)


def rotate(store: Store, *, batch: int = BATCH) -> Rotated:
    done, last = Rotated(), 0
    while True:
        with transaction.atomic():
            rows = list(store.model._default_manager.filter(pk__gt=last).select_for_update().order_by("pk")[:batch])
            for row in rows:
                done = done.plus(_rotated(row, store))
        if len(rows) < batch:
            return done
        last = rows[-1].pk


def _rotated(row: models.Model, store: Store) -> Rotated:
    value = getattr(row, store.column)
    holder = value if store.inside else {store.column: value}
    done = Rotated()
    for name in store.inside or (store.column,):
        if not (stored := holder.get(name)):
            continue
        try:
            fresh = crypto.reencrypted(stored, bound_to=store.bound_to(row))
        except crypto.CannotDecrypt as error:
            done = done.plus(Rotated(unreadable=(str(error),)))
            continue
        if fresh is None:
            done = done.plus(Rotated(current=1))
            continue
        holder[name] = fresh
        done = done.plus(Rotated(changed=1))
    if done.changed:
        setattr(row, store.column, holder if store.inside else holder[store.column])
        row.save(update_fields=[store.column])
    return done
