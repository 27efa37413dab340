"""Permissions as people read them: by the menu they are about, each in a sentence."""

from __future__ import annotations

from typing import NamedTuple

from orgs.permissions import COUNTS_BELOW, MEMBER, UPPER_ONLY, Permission

AREAS: dict[str, dict[Permission, str]] = {
    "Usage": {Permission.VIEW_USAGE: "See usage, calls and keys of others"},
    "People": {
        Permission.MANAGE_MEMBERS: "Invite, move, suspend and remove members",
        Permission.GRANT_ROLES: "Grant and end roles, make roles",
    },
    "Structure": {
        Permission.MANAGE_GROUPS: "Make, rename, move and archive groups",
        Permission.MANAGE_APPLICATIONS: "Applications, their features and environments",
    },
    "Keys": {
        Permission.MANAGE_KEYS: "Make, limit, disable and delete API keys",
        Permission.MANAGE_PROVIDER_KEYS: "Own keys of providers",
    },
    "Models and limits": {
        Permission.MANAGE_GUARDRAILS: "Policies and what they bind",
        Permission.MANAGE_ROUTING: "Aliases and presets",
    },
    "Money": {
        Permission.VIEW_BILLING: "See credit and costs",
        Permission.TOP_UP: "Add credit",
    },
    "Organisation": {
        Permission.MANAGE_SETTINGS: "Settings",
        Permission.VIEW_AUDIT: "Read the audit trail",
    },
}
OTHER = "Other"


class Line(NamedTuple):
    permission: Permission
    words: str
    note: str


def areas() -> dict[str, list[Line]]:
    """Every permission that a role can have; one without words of its own is under Other."""
    described = {permission for area in AREAS.values() for permission in area}
    others = {permission: permission.label for permission in Permission if permission not in described | MEMBER}
    found = {**AREAS, OTHER: others}
    return {name: [Line(one, words, note(one)) for one, words in area.items()] for name, area in found.items() if area}


def note(permission: Permission) -> str:
    """Where it counts, if not everywhere at a role's node and below."""
    if permission in UPPER_ONLY:
        return "counts where it is granted on level 0 or 1"
    return "counts below its group; at the root there too" if permission in COUNTS_BELOW else ""
