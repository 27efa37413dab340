"""The audit trail: one row per critical action, written in the transaction of the change itself or not at all.

Events of an organisation form a chain (orgs/chain.py), those of no organisation another. A chain grows under the lock of
its head, which is taken last: organisation, then anything else, then the head. So events of one chain are written one after
the other, and a gap in their numbers can only be a row that was taken out.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from django.db import models, transaction
from django.db.models import Field
from django.utils import timezone

from gateway_project.lib.written import Written
from orgs.actor import Actor
from orgs.chain import link
from orgs.models import AuditEvent, AuditHead, Group, Organization, User
from orgs.origin import NOWHERE, Origin, clean_ip

# What a JSON column keeps as it is: amounts in nano-dollars as integers, moments as ISO 8601 text.
Value = str | int | bool | None | list[str]
_HEAD: Written[AuditHead] = Written(lambda chain: AuditHead.objects.select_for_update().filter(pk=chain), int)


def audit(
    action: str,
    *,
    by: Actor,
    target: models.Model,
    before: Mapping[str, Value] | None = None,
    after: Mapping[str, Value] | None = None,
    group: Group | None = None,
) -> AuditEvent:
    """`action` is "<thing>.<what happened>": "key.disabled". Give it no secret. Raises RuntimeError outside a transaction.

    `group` is the node that the event is about, whose admins may read it: the target's own where none is given; an event about
    no node is read by who may read the whole trail.
    """
    return audit_as(
        by.account, action, organization=by.organization, origin=by.origin, target=target, before=before, after=after, group=group
    )


def audit_as(
    user: User | None,
    action: str,
    *,
    organization: Organization | None,
    target: models.Model,
    origin: Origin = NOWHERE,
    before: Mapping[str, Value] | None = None,
    after: Mapping[str, Value] | None = None,
    group: Group | None = None,
) -> AuditEvent:
    """For what nobody does as a member: sign-ins, the operator's acts (no organisation), the gateway's own (no user)."""
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("write the audit event inside the transaction of the change")
    event = AuditEvent(
        organization=organization,
        actor=user,
        ip=clean_ip(origin.ip),
        agent=origin.agent,
        action=action,
        group_id=group.pk if group else _node_of(target),
        object_type=target._meta.model_name or "",
        object_id=str(target.pk),
        object_label=str(target)[:200],
        before=_plain(before),
        after=_plain(after),
    )
    return _append(event)


def _append(event: AuditEvent) -> AuditEvent:
    head = _locked_head(AuditHead.chain_of(event.organization_id))
    # Read under the lock: moments of a chain are in the order of its events.
    event.at, event.sequence = timezone.now(), head.sequence + 1
    event.hash = link(head.hash, event.facts())
    _insert(event, head)
    return event


def _insert(event: AuditEvent, head: AuditHead) -> None:
    """Both rows in one exchange, by SQL that is written once: whoever waits for the head waits for no more than it takes."""
    connection, (statement, fields) = transaction.get_connection(), _statement()
    values = [field.get_db_prep_save(getattr(event, field.attname), connection) for field in fields]
    with connection.cursor() as cursor:
        cursor.execute(statement, [*values, event.sequence, event.hash, head.pk])
        event.pk = cursor.fetchone()[0]
    event._state.adding, event._state.db = False, connection.alias


@functools.cache
def _statement() -> tuple[str, list[Field[Any, Any]]]:
    """It returns the event's id; the fields that are its first parameters."""
    fields = [field for field in AuditEvent._meta.concrete_fields if not field.primary_key]
    columns, places = ", ".join(f'"{field.column}"' for field in fields), ", ".join(["%s"] * len(fields))
    event, head = AuditEvent._meta.db_table, AuditHead._meta.db_table
    return (
        f'WITH event AS (INSERT INTO "{event}" ({columns}) VALUES ({places}) RETURNING id)'  # noqa: S608 - names of our own
        f' UPDATE "{head}" SET sequence = %s, hash = %s WHERE chain = %s RETURNING (SELECT id FROM event)',
        fields,
    )


def _locked_head(chain: int) -> AuditHead:
    head = _HEAD.sole(chain)
    if head is None:
        # Two first events at once: one of them makes the row, the other waits for it here.
        AuditHead.objects.bulk_create([AuditHead(chain=chain)], ignore_conflicts=True)
        head = _HEAD.get(chain)
    return head


def _node_of(target: models.Model) -> int | None:
    found = target.pk if isinstance(target, Group) else getattr(target, "group_id", None)
    return found if isinstance(found, int) else None


def _plain(facts: Mapping[str, Value] | None) -> dict[str, Any]:
    """As the column gives it back: enums become texts and keys too, or the hash of what is read would be another."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(facts or {})))
    return plain
