"""Who acts when a directory calls: an organisation's token, nobody's account.

Guarantees: a token opens its own organisation and no other; only its digest is compared; a frozen organisation's opens
nothing; every event it causes stands in that organisation's trail, without an actor and with the token's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Model
from django.utils import timezone

from gateway_project.lib.crypto import digest
from gateway_project.lib.rows import sole
from orgs.actor import LINEAGE
from orgs.audit import Value, audit_as
from orgs.keys import SECRET_LENGTH, new_key_text
from orgs.models import Group, Organization
from orgs.origin import NOWHERE, Origin
from orgs.scim_models import Provisioning

TOKEN = re.compile(rf"gh_scim_[A-Za-z0-9]{{{SECRET_LENGTH}}}")
# "Last used" need not be truer than this: a directory sends thousands of calls in a row.
NOTED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class Directory:
    provisioning: Provisioning
    origin: Origin = NOWHERE

    @property
    def organization(self) -> Organization:
        return self.provisioning.organization

    def audit(
        self,
        action: str,
        *,
        target: Model,
        before: Mapping[str, Value] | None = None,
        after: Mapping[str, Value] | None = None,
        group: Group | None = None,
    ) -> None:
        after = {**(after or {}), "by": str(self.provisioning)}
        audit_as(
            None,
            action,
            organization=self.organization,
            origin=self.origin,
            target=target,
            before=before,
            after=after,
            group=group,
        )


def new_token() -> str:
    return f"gh_scim_{new_key_text().secret}"


def directory_of(authorization: str, *, origin: Origin) -> Directory | None:
    """Whose token an `Authorization: Bearer …` header holds; None where it is nobody's."""
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() != "bearer" or not TOKEN.fullmatch(text.strip()):
        return None
    found = sole(Provisioning.objects.select_related("organization", LINEAGE).filter(digest=digest(text.strip())))
    if found is None:
        return None
    now = timezone.now()
    if found.last_used_at is None or found.last_used_at < now - NOTED_EVERY:
        Provisioning.objects.filter(pk=found.pk).update(last_used_at=now)
    return Directory(found, origin)
