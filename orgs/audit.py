"""The audit trail: one row per critical action, written in the transaction of the change itself or not at all."""

from __future__ import annotations

from collections.abc import Mapping

from django.db import models, transaction

from orgs.actor import Actor
from orgs.models import AuditEvent

# What a JSON column keeps as it is: amounts in nano-dollars as integers, moments as ISO 8601 text.
Value = str | int | bool | None | list[str]


def audit(
    action: str,
    *,
    by: Actor,
    target: models.Model,
    before: Mapping[str, Value] | None = None,
    after: Mapping[str, Value] | None = None,
) -> AuditEvent:
    """`action` is "<thing>.<what happened>": "key.disabled". Give it no secret. Raises RuntimeError outside a transaction."""
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("write the audit event inside the transaction of the change")
    return AuditEvent.objects.create(
        organization=by.organization,
        actor=by.user,
        ip=by.ip,
        action=action,
        object_type=target._meta.model_name or "",
        object_id=str(target.pk),
        object_label=str(target)[:200],
        before=dict(before or {}),
        after=dict(after or {}),
    )
