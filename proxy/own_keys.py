"""An organisation's own provider keys, as one caller uses them.

Where a key of a deployment's provider stands on the caller's path, the deployment is called with it in place of the
operator's: the nearest node's key wins, and at one node a key for that very provider wins over one for its kind. Then calls
go to deployments with own keys alone, those of models to fall back to included, so that none is charged unexpectedly; a
key may say that the operator's follow where its own fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import structlog

from gateway_project.lib import crypto, database
from orgs.access import Principal
from proxy.deployments import Deployment
from proxy.errors import ProviderFailed
from proxy.providers import registry
from proxy.providers.base import Target

log = structlog.get_logger(__name__)

# Declared orders are small integers: the operator's deployments are tried after all with own keys.
LAST = 1_000_000

KEYS_SQL = """
SELECT k.id, k.organization_id, k.kind, k.provider_id, k.key_encrypted, k.base_url, k.falls_back
FROM proxy_providerkey k JOIN orgs_group g ON g.id = k.group_id
WHERE k.organization_id = %(organization)s AND k.group_id = ANY(%(groups)s) AND k.enabled
ORDER BY g.level DESC, k.provider_id NULLS LAST
"""


class Stored(NamedTuple):
    """The columns of KEYS_SQL."""

    id: int
    organization_id: int
    kind: str
    provider_id: int | None
    key_encrypted: str
    base_url: str
    falls_back: bool


class OwnKey(msgspec.Struct, frozen=True):
    """`secret` is in clear; None where it does not open. `provider_id`: for that declared provider alone."""

    id: int
    kind: str
    provider_id: int | None
    secret: str | None
    base_url: str = ""
    falls_back: bool = False

    def __repr__(self) -> str:
        return f"OwnKey({self.id}, {self.kind})"

    def fits(self, deployment: Deployment) -> bool:
        target = deployment.target
        return target.kind == self.kind if self.provider_id is None else target.provider_id == self.provider_id


async def of_path(principal: Principal) -> tuple[OwnKey, ...]:
    """Those that stand on the caller's path, the first that fits wins. Raises DatabaseUnavailable."""
    parameters = {"organization": principal.organization_id, "groups": [node.id for node in principal.path]}
    return tuple(opened(Stored(**row)) for row in await database.rows(KEYS_SQL, parameters))


def bound_to(organization_id: int, key_id: int) -> str:
    """What the encrypted value is bound to: moved to another row or organisation it does not open."""
    return f"{organization_id}|proxy_providerkey|{key_id}|key"


def applied(
    keys: Sequence[OwnKey], stages: Sequence[Sequence[Deployment]], *, own_only: bool = False
) -> list[tuple[Deployment, ...]]:
    """The deployments of the model asked for, then those of each it falls back to, as this caller reaches them.

    `own_only`: the operator's do not follow, whatever the keys say. Raises ProviderFailed where all that is left are keys
    that do not open: never the operator's in their place.
    """
    reached, may_charge = [], not own_only
    for stage in stages:
        found = [(deployment, next((key for key in keys if key.fits(deployment)), None)) for deployment in stage]
        own = [(deployment, key) for deployment, key in found if key is not None]
        may_charge &= not own or any(key.falls_back for _, key in own)
        rest = [deployment for deployment, key in found if key is None or key.falls_back] if may_charge else []
        usable = (_reached(deployment, key) for deployment, key in own if key.secret is not None)
        reached.append((*usable, *(_after(deployment) if own else deployment for deployment in rest)))
    if not any(reached):
        raise ProviderFailed("The organisation's own provider key cannot be opened.")
    return reached


def targeted(target: Target, key: OwnKey) -> Target:
    """Where a deployment is reached with this key."""
    target = msgspec.structs.replace(target, api_key=key.secret, unset_variable="")
    if not key.base_url:
        theirs = registry.PROVIDERS[target.kind].options_of_key
        options = {name: value for name, value in target.options.items() if name not in theirs}
        return msgspec.structs.replace(target, options=options)
    # The operator's headers and options may hold secrets: nothing of them goes to an address that a tenant gave.
    return msgspec.structs.replace(target, base_url=key.base_url, is_tenants=True, headers={}, options={})


def opened(row: Stored) -> OwnKey:
    """One that stands in the database."""
    secret = None
    try:
        secret = crypto.decrypt(row.key_encrypted, bound_to=bound_to(row.organization_id, row.id))
    except crypto.CannotDecrypt as error:
        log.error("provider_key.unusable", provider_key=row.id, reason=str(error))
    return OwnKey(row.id, row.kind, row.provider_id, secret, row.base_url, row.falls_back)


def _reached(deployment: Deployment, key: OwnKey) -> Deployment:
    # What the provider grants the operator a minute is not what it grants this key.
    target = targeted(deployment.target, key)
    return msgspec.structs.replace(deployment, target=target, own_key_id=key.id, rpm=None, tpm=None)


def _after(deployment: Deployment) -> Deployment:
    return msgspec.structs.replace(deployment, order=LAST + deployment.order)
