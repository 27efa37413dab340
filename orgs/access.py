"""Who is calling: an API key's text → Principal.

Guarantees: a malformed, unknown, revoked, disabled or expired key, and a key of a suspended or frozen
member or of a frozen organisation, is refused with its own stable code; the text is never compared with anything but its digest,
so timing tells nothing about stored keys. Does not guarantee freshness: callers cache a Principal only
under the organisation's epoch (orgs/epoch.py).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway_project.lib import database
from gateway_project.lib.crypto import digest

KEY = re.compile(r"gh_sk_[a-z0-9]{6,16}_[A-Za-z0-9_-]{20,64}")
MAX_HEADER = 512

# A key as its caller shows it; or its id, where the console has judged who may use it.
KeyReference = str | int


class KeyRefused(Exception):
    """`code` is one of invalid_api_key, key_revoked, key_disabled, key_expired, account_frozen."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Node(msgspec.Struct, frozen=True):
    """One group on the path. `level` 0 is the root."""

    id: int
    level: int
    name: str


class Principal(msgspec.Struct, frozen=True):
    """The caller of one key. `path` runs from the root to the key's home node."""

    organization_id: int
    organization_name: str
    time_zone: str
    attribution_required: bool
    path: tuple[Node, ...]
    member_id: int | None
    member_name: str
    key_id: int
    key_name: str
    application_id: int | None
    application_name: str
    environment: str
    features: tuple[str, ...]
    expires_at: datetime | None
    week_start: int = 0
    fiscal_month: int = 1
    reset_hour: int = 0
    admit_unguarded: bool = False
    approval_since: datetime | None = None
    content_retention_hours: int = 0
    content_sample_percent: int = 100
    zdr_only: bool = False
    # Of a caller that shows the text a rotation has replaced: when that text stops.
    replaced_at: datetime | None = None

    def refuse_expired(self, now: datetime) -> None:
        """Raises KeyRefused once the time of the key or of its text is over; a cached principal must be asked at every call."""
        if self.replaced_at is not None and self.replaced_at <= now:
            raise KeyRefused(
                "key_expired",
                f"This API key has a new text: the old one stopped working at {self.replaced_at:%Y-%m-%d %H:%M} UTC.",
            )
        if self.expires_at is not None and self.expires_at <= now:
            raise KeyRefused("key_expired", f"This API key expired at {self.expires_at:%Y-%m-%d %H:%M} UTC.")


def bearer(authorization: str | None) -> str:
    """The key in an `Authorization: Bearer …` header. Raises KeyRefused for every other shape."""
    if not authorization:
        raise KeyRefused("invalid_api_key", "No API key was given: send it as `Authorization: Bearer gh_sk_…`.")
    scheme, _, text = authorization.partition(" ")
    text = text.strip()
    if scheme.lower() != "bearer" or len(text) > MAX_HEADER or not KEY.fullmatch(text):
        raise KeyRefused("invalid_api_key", _mistaken(scheme, text))
    return text


def _mistaken(scheme: str, text: str) -> str:
    """What was sent in a key's place, told by how it begins and never by more of it."""
    if scheme.lower() != "bearer":
        if scheme.startswith("gh_sk_"):
            return "The word `Bearer` and a space are missing before the API key: `Authorization: Bearer gh_sk_…`."
        return "The header Authorization has to read `Bearer`, a space, and an API key: `Authorization: Bearer gh_sk_…`."
    if text.startswith("gh_pat_"):
        return "This is a personal access token, which opens /api/v1. Calls take an API key: `gh_sk_…`."
    if text.startswith("gh_scim_"):
        return "This is a directory's token, which opens /scim/v2. Calls take an API key: `gh_sk_…`."
    if not text.startswith("gh_sk_"):
        return "This is no API key of this gateway: one begins with `gh_sk_`. A provider's own key opens nothing here."
    return "This is no complete Gatehouse API key: one reads `gh_sk_`, twelve characters, `_`, and a secret of 43."


async def organization_of(key: KeyReference) -> int:
    """The organisation of a key; it never changes. Raises KeyRefused, DatabaseUnavailable."""
    found = await _rows_of(key, "SELECT k.organization_id FROM orgs_apikey k")
    if not found:
        raise KeyRefused("invalid_api_key", "This API key does not exist.")
    return int(found[0]["organization_id"])


PRINCIPAL_SQL = """
SELECT k.id AS key_id, k.name AS key_name, k.environment, k.features, k.expires_at, k.disabled_at, k.revoked_at, k.member_id,
       o.id AS organization_id, o.name AS organization_name, o.time_zone, o.attribution_required,
       o.week_start, o.fiscal_month, o.reset_hour, o.admit_unguarded, o.approval_since,
       o.content_retention_hours, o.content_sample_percent, o.zdr_only, o.frozen_at AS organization_frozen_at,
       CASE WHEN k.old_digest = %(digest)s THEN k.old_until END AS replaced_at,
       coalesce(u.name, '') AS member_name, coalesce(u.is_active, true) AS member_active, a.id AS application_id,
       coalesce(a.name, '') AS application_name, a.archived_at AS application_archived_at,
       k.member_id IS NULL OR (
           EXISTS (
               SELECT FROM orgs_membership m
               WHERE m.user_id = k.member_id AND m.organization_id = k.organization_id AND m.suspended_at IS NULL
           ) AND NOT EXISTS (
               SELECT FROM orgs_membership m JOIN orgs_group g ON g.id = m.group_id
               WHERE m.user_id = k.member_id AND m.suspended_at IS NOT NULL
                 AND g.tree_id = home.tree_id AND g.lft <= home.lft AND g.rght >= home.rght
           )
       ) AS is_member,
       (SELECT g.name FROM orgs_group g WHERE g.tree_id = home.tree_id AND g.lft <= home.lft AND g.rght >= home.rght
          AND g.archived_at IS NOT NULL ORDER BY g.level LIMIT 1) AS archived_group,
       (SELECT json_agg(json_build_object('id', g.id, 'level', g.level, 'name', g.name) ORDER BY g.level)
          FROM orgs_group g WHERE g.tree_id = home.tree_id AND g.lft <= home.lft AND g.rght >= home.rght) AS path
FROM orgs_apikey k
JOIN orgs_organization o ON o.id = k.organization_id
JOIN orgs_group home ON home.id = k.group_id
LEFT JOIN orgs_user u ON u.id = k.member_id
LEFT JOIN orgs_application a ON a.id = k.application_id
"""
# A rotated key has two texts; each of the three columns has an index of its own.
BY_TEXT, BY_ID = " WHERE k.digest = %(digest)s OR k.old_digest = %(digest)s", " WHERE k.id = %(id)s"


async def _rows_of(key: KeyReference, query: str) -> list[dict[str, Any]]:
    """At most one row: no two keys share a text. Raises DatabaseUnavailable."""
    if isinstance(key, int):
        return await database.rows(query + BY_ID, {"id": key, "digest": None})
    return await database.rows(query + BY_TEXT, {"digest": digest(key)})


async def principal_of(key: KeyReference) -> Principal:
    """The principal as PostgreSQL has it now. Raises KeyRefused, DatabaseUnavailable."""
    found = await _rows_of(key, PRINCIPAL_SQL)
    if not found:
        raise KeyRefused("invalid_api_key", "This API key does not exist.")
    row = found[0]
    _refuse_closed(row)
    principal = _principal(row)
    principal.refuse_expired(datetime.now(UTC))
    return principal


async def principal_by_id(key_id: int) -> tuple[Principal, KeyRefused | None]:
    """Of a key whose text nobody showed, and why it would be refused. Raises LookupError, DatabaseUnavailable."""
    found = await _rows_of(key_id, PRINCIPAL_SQL)
    if not found:
        raise LookupError(f"no key {key_id}")
    principal = _principal(found[0])
    try:
        _refuse_closed(found[0])
        principal.refuse_expired(datetime.now(UTC))
    except KeyRefused as refusal:
        return principal, refusal
    return principal, None


def _principal(row: dict[str, Any]) -> Principal:
    return msgspec.convert(
        {name: row[name] for name in Principal.__struct_fields__}, Principal, strict=False, from_attributes=False
    )


def _refuse_closed(row: dict[str, Any]) -> None:
    if row["revoked_at"]:
        raise KeyRefused("key_revoked", "This API key was deleted.")
    if row["disabled_at"]:
        raise KeyRefused("key_disabled", "This API key is disabled. Whoever manages it can enable it in the console.")
    if row["organization_frozen_at"]:
        raise KeyRefused("account_frozen", "The operator of this gateway has frozen the organisation of this API key.")
    if not row["member_active"] or not row["is_member"]:
        raise KeyRefused("account_frozen", "The member this API key belongs to is suspended or has left the organisation.")
    if row["application_archived_at"]:
        raise KeyRefused("key_disabled", "The application this API key belongs to is archived.")
    if row["archived_group"] is not None:
        raise KeyRefused("key_disabled", f"The group {row['archived_group']}, in which this API key is at home, is archived.")
