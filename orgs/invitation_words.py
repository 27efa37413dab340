"""How an invitation reads."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from gateway_project.lib.formatting import minute_words
from orgs.mail import is_printed
from orgs.models import Invitation, role_label


def invited_as(invitation: Invitation) -> str:
    """The role it gives, by the name it has at its group; "Member" without one."""
    if invitation.custom_role:
        return invitation.custom_role.name
    return role_label(invitation.role, level=invitation.group.level) if invitation.role else "Member"


def until_words(invitation: Invitation) -> str:
    """When it closes, for who is invited: by the clock of the organisation, as its maker reads it in the console."""
    zone = invitation.organization.time_zone
    return f"{minute_words(invitation.expires_at.astimezone(ZoneInfo(zone)))} ({zone})"


def uses_words(invitation: Invitation) -> str:
    if invitation.max_uses is None:
        return f"{invitation.uses:,} so far"
    return f"{invitation.uses:,} of {invitation.max_uses:,}"


def sent_words(invitation: Invitation) -> str:
    """What became of its mail."""
    if invitation.send_error or not invitation.email:
        return invitation.send_error
    if is_printed():
        return "No mail server is set: its mail stands in the log."
    return "" if invitation.sent_at else "The mail is on its way."
