"""Invitations: made, taken back, sent and accepted.

Guarantees: nobody invites to more than they may give themselves, neither a role nor a group, and that is judged again when
it is accepted; an invitation never lets in more people than it says, whoever accepts at the same moment; one that is for an
address lets in nobody else; whatever is refused changes nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from allauth.account.models import EmailAddress
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils import timezone

from gateway_project.lib import crypto
from gateway_project.lib.crypto import digest
from gateway_project.lib.formatting import day_words
from gateway_project.lib.rows import sole
from orgs import checks
from orgs.actor import LINEAGE, Actor
from orgs.audit import Value, audit
from orgs.errors import Refused
from orgs.models import Group, Invitation, Membership, Organization, Role, User
from orgs.origin import NOWHERE, Origin
from orgs.permissions import Permission, RoleName
from orgs.powers import AnyRole, may_give, require_power
from orgs.services.changes import NAME_LENGTH, changing, fresh_group, one_line, refuse_archived
from orgs.services.members import fresh_role, insert_grant, refuse_suspended, refuse_unreached

TOKEN_BYTES = 32
MOST_USES = 10_000
# Of an organisation: mails go out in the installation's name.
MOST_A_DAY = 5_000
LONGEST_DAYS = 90


class Found(NamedTuple):
    """`mailed`: the token came with the mail, so whoever shows it reads the mails of that address."""

    invitation: Invitation
    mailed: bool


class Wrong(Refused):
    """The invitation is another person's: `needs` is "address" (sign in as somebody else) or "verification"."""

    def __init__(self, message: str, *, needs: str) -> None:
        super().__init__(message)
        self.needs = needs


def invite(
    group: Group,
    *,
    by: Actor,
    role: AnyRole | None = None,
    email: str = "",
    name: str = "",
    max_uses: int | None = 1,
    expires_at: datetime | None = None,
) -> Invitation:
    """`email`: for this person only, and one use. Nothing is sent yet. Raises Refused, NotAllowed."""
    with changing(by.organization):
        group = fresh_group(group)
        _refuse_group(group, by=by)
        role = fresh_role(role, by=by) if isinstance(role, Role) else role
        if role is not None:
            require_power(role, group, by=by)
            refuse_unreached(role, group)
        email = clean_email(email) if email else ""
        _refuse_address(email, group)
        checks.refuse_seat(group, user=None)
        made = _insert(group, by=by, role=role, email=email, name=name, max_uses=max_uses, expires_at=expires_at)
        audit("invitation.created", by=by, target=made, after=_facts(made))
    return made


def revoke_invitation(invitation: Invitation, *, by: Actor) -> Invitation:
    with changing(by.organization):
        invitation = _fresh(invitation)
        require_invitation(invitation, by=by)
        if invitation.is_open:
            invitation.revoked_at, invitation.sealed = timezone.now(), ""
            invitation.save(update_fields=["revoked_at", "sealed"])
            audit("invitation.revoked", by=by, target=invitation, before=_facts(invitation))
    return invitation


def require_invitation(invitation: Invitation, *, by: Actor) -> None:
    """Who takes an invitation back, sends it again or sees its link must be able to make it. Raises NotAllowed."""
    by.require(Permission.MANAGE_MEMBERS, invitation.group)
    if role := role_of(invitation):
        require_power(role, invitation.group, by=by)


def may_manage(invitation: Invitation, *, by: Actor) -> bool:
    role = role_of(invitation)
    return by.can(Permission.MANAGE_MEMBERS, invitation.group) and (not role or may_give(role, invitation.group, by=by))


def role_of(invitation: Invitation) -> AnyRole | None:
    return invitation.custom_role or (RoleName(invitation.role) if invitation.role else None)


def read_link(invitation: Invitation, *, by: Actor) -> str:
    """The token of an open one, for who could make it; that it was read is written down. Raises NotAllowed, CannotDecrypt."""
    require_invitation(invitation, by=by)
    with transaction.atomic():
        audit("invitation.link_read", by=by, target=invitation)
    return link_token(invitation)


def link_token(invitation: Invitation) -> str:
    """Of an open invitation. Raises CannotDecrypt where the key ring lacks its key."""
    return crypto.decrypt(invitation.sealed, bound_to=bound_to(invitation))


def bound_to(invitation: Invitation) -> str:
    return f"invitation:{invitation.organization_id}:{invitation.pk}"


def fresh_mail_token(invitation: Invitation) -> str:
    """For the mail that is sent now; the one before no longer opens it."""
    token = _new_token()
    Invitation.objects.filter(pk=invitation.pk).update(mail_digest=digest(token))
    return token


def find(token: str) -> Found | None:
    if not 20 <= len(token) <= 100:
        return None
    hashed = digest(token)
    invitations = Invitation.objects.select_related("organization", "created_by", "custom_role", LINEAGE)
    by_link = sole(invitations.filter(digest=hashed))
    if by_link is not None:
        return Found(by_link, mailed=False)
    by_mail = sole(invitations.filter(mail_digest=hashed))
    return Found(by_mail, mailed=True) if by_mail else None


def refuse_closed(invitation: Invitation) -> None:
    """What stands in the way whoever accepts. Raises Refused."""
    words = {
        "accepted": "This invitation was accepted already.",
        "used up": "This invitation was used as often as it may be.",
        "expired": f"This invitation expired on {_closed_on(invitation)}.",
        "revoked": "This invitation was taken back.",
    }
    if not invitation.is_open:
        raise Refused(f"{words[invitation.status]} Ask for a new one.")
    if invitation.organization.frozen_at:
        raise Refused(f"{invitation.organization} is frozen at present.")
    if archived := invitation.group.closed_by:
        raise Refused(f"{archived} was archived since. Ask for a new invitation.")
    inviter = Actor.load(invitation.created_by, organization=invitation.organization)
    if not invitation.created_by.is_active or not may_manage(invitation, by=inviter):
        raise Refused(f"{invitation.created_by} may no longer invite to this. Ask for a new invitation.")


def _closed_on(invitation: Invitation) -> str:
    return day_words(invitation.expires_at.astimezone(ZoneInfo(invitation.organization.time_zone)))


def refuse_person(found: Found, user: User) -> None:
    """Why this person cannot accept it. Raises Refused; Wrong where another sign-in, or a verified address, would do."""
    invitation = found.invitation
    if invitation.email and not _has_address(user, invitation.email, proven=found.mailed):
        own = EmailAddress.objects.filter(user=user, email__iexact=invitation.email).exists()
        if own or user.email.lower() == invitation.email.lower():
            raise Wrong(f"Verify the address {invitation.email} first: the invitation is for it.", needs="verification")
        raise Wrong(f"This invitation is for {invitation.email}, and you are signed in as {user.email}.", needs="address")
    if Membership.objects.filter(user=user, group=invitation.group).exists():
        raise Refused(f"You belong to {invitation.group} already.")


def accept(found: Found, *, user: User, origin: Origin = NOWHERE) -> Membership:
    """The person becomes a member, with the role if there is one. Raises Refused with nothing changed."""
    with changing(found.invitation.organization):
        found = Found(_fresh(found.invitation), found.mailed)
        invitation = found.invitation
        refuse_closed(invitation)
        refuse_person(found, user)
        refuse_suspended(user, invitation.group)
        checks.refuse_seat(invitation.group, user=user)
        by = Actor(user, invitation.organization, (), (), belongs=False, ip=origin.ip, agent=origin.agent)
        membership = Membership.objects.create(user=user, organization=invitation.organization, group=invitation.group)
        after: dict[str, Value] = {"user": user.pk, "group": invitation.group_id, "invitation": invitation.pk}
        audit("member.invited", by=by, target=membership, after=after)
        _grant(invitation, user, by=by)
        _count(invitation)
        if invitation.name and not user.name:
            User.objects.filter(pk=user.pk, name="").update(name=invitation.name)
    return membership


def clean_email(text: str) -> str:
    """Raises Refused."""
    email = text.strip().lower()
    try:
        validate_email(email)
    except ValidationError as wrong:
        raise Refused(f"“{email[:80]}” is no e-mail address.", field="email") from wrong
    if len(email) > 254:
        raise Refused("This e-mail address is too long.", field="email")
    return email


def already(emails: Iterable[str], group: Group) -> dict[str, str]:
    """Of these addresses, who is a member of the group or has an open invitation to it, and which of the two."""
    emails = list(emails)
    members = Membership.objects.filter(group=group, user__email__in=emails).values_list("user__email", flat=True)
    waiting = Invitation.objects.filter(
        group=group, email__in=emails, revoked_at=None, uses=0, expires_at__gt=timezone.now()
    ).values_list("email", flat=True)
    return {**dict.fromkeys(waiting, "is invited already"), **{email.lower(): "is a member already" for email in members}}


def _refuse_group(group: Group, *, by: Actor) -> None:
    by.require(Permission.MANAGE_MEMBERS, group)
    refuse_archived(group)
    if by.organization.kind == Organization.Kind.PERSONAL:
        raise Refused("A personal account has one member: create an organisation to work with others.")
    day = Invitation.objects.filter(organization=by.organization, created_at__gt=timezone.now() - timedelta(days=1))
    if day.count() >= MOST_A_DAY:
        raise Refused(f"{MOST_A_DAY:,} invitations were made within a day: wait until tomorrow.")


def _refuse_address(email: str, group: Group) -> None:
    if email and (words := already([email], group).get(email)):
        raise Refused(f"{email} {words} in {group}.", field="email")


def _insert(
    group: Group, *, by: Actor, role: AnyRole | None, email: str, name: str, max_uses: int | None, expires_at: datetime | None
) -> Invitation:
    now = timezone.now()
    expires_at = expires_at or now + timedelta(days=7)
    if not now < expires_at <= now + timedelta(days=LONGEST_DAYS + 1):
        raise Refused(f"An invitation is open for 1 to {LONGEST_DAYS} days.", field="days")
    max_uses = 1 if email else max_uses
    if max_uses is not None and not 1 <= max_uses <= MOST_USES:
        raise Refused(f"An invitation can be used 1 to {MOST_USES:,} times.", field="max_uses")
    token = _new_token()
    made = Invitation.objects.create(
        organization=by.organization,
        group=group,
        role="" if role is None or isinstance(role, Role) else role.value,
        custom_role=role if isinstance(role, Role) else None,
        email=email,
        name="".join(filter(str.isprintable, one_line(name)))[:NAME_LENGTH],
        digest=digest(token),
        max_uses=max_uses,
        expires_at=expires_at,
        created_by=by.user,
    )
    made.sealed = crypto.encrypt(token, bound_to=bound_to(made))
    made.save(update_fields=["sealed"])
    return made


def _grant(invitation: Invitation, user: User, *, by: Actor) -> None:
    if role := role_of(invitation):
        try:
            grant = insert_grant(user, role=role, group=invitation.group)
        except Refused:  # granted meanwhile: there is nothing to give
            return
        name = role.name if isinstance(role, Role) else role.value
        after: dict[str, Value] = {"user": user.pk, "group": invitation.group_id, "role": name, "invitation": invitation.pk}
        audit("role.granted", by=by, target=grant, after=after)


def _count(invitation: Invitation) -> None:
    invitation.uses += 1
    if not invitation.is_open:
        invitation.sealed = ""
    invitation.save(update_fields=["uses", "sealed"])


def _fresh(invitation: Invitation) -> Invitation:
    related = ("organization", "created_by", "custom_role", LINEAGE)
    found = Invitation.objects.select_related(*related).filter(pk=invitation.pk).first()
    if found is None:
        raise Refused("This invitation no longer exists.")
    return found


def _has_address(user: User, email: str, *, proven: bool) -> bool:
    """Whether the address is the person's: verified, or shown to be by the token of a mail that went there."""
    own = EmailAddress.objects.filter(user=user, email__iexact=email)
    if own.filter(verified=True).exists():
        return True
    return proven and (own.exists() or user.email.lower() == email.lower())


def _new_token() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)


def _facts(invitation: Invitation) -> dict[str, Value]:
    role = role_of(invitation)
    return {
        "group": invitation.group_id,
        "role": role.name if isinstance(role, Role) else (role.value if role else ""),
        "email": invitation.email,
        "max_uses": invitation.max_uses,
        "expires_at": invitation.expires_at.isoformat(),
    }
