"""What is said of a group or an application: cleaned, compared, and as it stands in the audit trail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from orgs.audit import Value
from orgs.models import Application, Group, Organization, User
from orgs.services.changes import COST_CENTER_LENGTH, KIND_LENGTH, clean_labels, clean_line, clean_name, require_owner

CLEANED: dict[str, Callable[[Any], Any]] = {
    "name": clean_name,
    "kind": partial(clean_line, field="kind", length=KIND_LENGTH),
    "cost_center": partial(clean_line, field="cost_center", length=COST_CENTER_LENGTH),
    "features": partial(clean_labels, field="features"),
    "environments": partial(clean_labels, field="environments"),
}


def clean_about(wanted: Mapping[str, Any], *, organization: Organization, standing: int | None = None) -> dict[str, Any]:
    """As far as it is given. `standing`: the owner so far, by id, who may have left since. Raises Refused."""
    cleaned = {field: CLEANED[field](value) if field in CLEANED else value for field, value in wanted.items()}
    owner: User | None = cleaned.get("owner")
    if owner is not None and owner.pk != standing:
        require_owner(owner, organization)
    return cleaned


def differences(row: Group | Application, cleaned: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of the fields that would change: as they are, as they shall be."""
    after = {field: value for field, value in cleaned.items() if value != getattr(row, field)}
    return {field: getattr(row, field) for field in after}, after


def audited(facts: Mapping[str, Any]) -> dict[str, Value]:
    """Rows by their ids."""
    return {field: value.pk if isinstance(value, User | Group) else value for field, value in facts.items()}
