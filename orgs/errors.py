"""Why a change is not made.

Exception
├── Refused        a rule forbids it, whoever asks; `field` names the form field it is about, if any
├── NotAllowed     this person lacks a permission there (a PermissionDenied: the console answers 403)
├── SecondFactorMissing  the organisation requires one (a PermissionDenied too)
└── OrganizationFrozen   the operator has stopped it: nobody inside may do anything (a PermissionDenied too)
"""

from __future__ import annotations

from django.core.exceptions import PermissionDenied

from orgs.models import Group
from orgs.permissions import Permission


class Refused(Exception):
    """The message is written for the person who asked."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class NotAllowed(PermissionDenied):
    """`group` is where the permission is missing; None: everywhere in the organisation."""

    def __init__(self, permission: Permission, *, group: Group | None = None) -> None:
        super().__init__(f"Missing permission: {permission.label}")
        self.permission = permission
        self.group = group


class OrganizationFrozen(PermissionDenied):
    """Its people get a page that says so."""


class SecondFactorMissing(PermissionDenied):
    """The organisation opens to people with a second factor only, and this person has none."""
