"""Whom an identity of an organisation's identity provider signs in.

A tenant runs its identity provider: it can claim any address and any id. So an identity counts only for addresses in domains
that the organisation has proven, and it never opens an account that the organisation does not vouch for:

1. The address must lie in a verified domain of the very organisation, at every sign-in, and so must the account's own.
2. An operator's account is never opened: it reaches every tenant.
3. An identity that is known opens its account as long as that is a live member. Removed or suspended stays out.
4. An identity that is new takes an existing account only if that is a member already, has no identity here yet, and is no
   Super Admin's; or if its holder is signed in to it in this very browser. Whatever a member's account can be opened with
   ends then, if nobody has confirmed its address: somebody else may have made it.
5. Where nobody has the address, an account is made, and a membership in the connection's group.
"""

from __future__ import annotations

from typing import NamedTuple

from allauth.account.models import EmailAddress
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.utils import timezone

from orgs import checks
from orgs.actor import Actor
from orgs.audit import Value, audit
from orgs.errors import Refused
from orgs.models import Membership, User
from orgs.origin import Origin
from orgs.permissions import Permission
from orgs.services.changes import changing, fresh_group, refuse_archived
from orgs.services.organizations import create_personal_account
from orgs.services.vouching import confirm_address, hand_over, vouches_for
from orgs.sso.identity import Identity
from orgs.sso_models import SsoConnection, SsoIdentity

NAME_LENGTH = 120


class Verdict(NamedTuple):
    """`user` None: an account is to be made. `link`: the identity, where it is known; `joins`: becomes a member."""

    user: User | None
    link: SsoIdentity | None
    joins: bool


def judge(connection: SsoConnection, identity: Identity, *, signed_in: User | None) -> Verdict:
    """What a sign-in would do, without doing it. Raises Refused."""
    _refuse_foreign_address(connection, identity)
    link = connection.identities.filter(uid=identity.uid).select_related("user").first()
    user = link.user if link else User.objects.filter(email__iexact=identity.email).first()
    _refuse_second_address(identity, user)
    if user is None:
        return Verdict(None, None, joins=_admits(connection))
    _refuse_foreign_account(connection, user)
    actor = Actor.load(user, organization=connection.organization)
    if link:
        _refuse_former_member(actor)
        return Verdict(user, link, joins=False)
    if user != signed_in:
        _refuse_unproven(actor, connection)
    if SsoIdentity.objects.filter(connection=connection, user=user).exists():
        raise Refused(f"{user.email} is connected to another person of {connection}. An administrator can disconnect it.")
    if actor.belongs:
        _refuse_former_member(actor)
        return Verdict(user, None, joins=False)
    return Verdict(user, None, joins=_admits(connection))


def admit(connection: SsoConnection, identity: Identity, *, signed_in: User | None, origin: Origin) -> User:
    """The account to sign in. Raises Refused."""
    verdict = judge(connection, identity, signed_in=signed_in)
    if verdict.user and verdict.link:
        SsoIdentity.objects.filter(pk=verdict.link.pk).update(last_used_at=timezone.now())
        return verdict.user
    try:
        with changing(connection.organization):
            return _first_time(connection, identity, signed_in=signed_in, origin=origin)
    except IntegrityError as error:
        raise Refused("Somebody signed in the same way at the same moment. Try again.") from error


def _first_time(connection: SsoConnection, identity: Identity, *, signed_in: User | None, origin: Origin) -> User:
    """Judged again under the lock."""
    verdict = judge(connection, identity, signed_in=signed_in)
    user = verdict.user or _new_user(identity)
    if verdict.user and user != signed_in:
        hand_over(user)
    confirm_address(user)
    if verdict.joins:
        _join(connection, user, origin=origin)
    actor = Actor.load(user, organization=connection.organization, ip=origin.ip, agent=origin.agent)
    link = SsoIdentity.objects.create(connection=connection, user=user, uid=identity.uid)
    after: dict[str, Value] = {"user": user.pk, "email": identity.email}
    after |= {"account made": verdict.user is None, "joined": verdict.joins}
    audit("sso.connected", by=actor, target=link, after=after)
    return user


def _refuse_foreign_address(connection: SsoConnection, identity: Identity) -> None:
    try:
        User._meta.get_field("email").clean(identity.email, None)
    except ValidationError as error:
        raise Refused(f"{connection} sent no e-mail address. An administrator has to release it to Gatehouse.") from error
    if identity.email_denied:
        raise Refused(f"{connection} says that {identity.email} is not verified.")
    if not vouches_for(connection.organization, identity.email):
        raise Refused(f"{identity.email} is not in a domain that {connection.organization} has verified.")


def _refuse_foreign_account(connection: SsoConnection, user: User) -> None:
    if user.is_staff or user.is_superuser:
        raise Refused("An operator of this installation signs in by password or passkey, not at an organisation's provider.")
    if not vouches_for(connection.organization, user.email):
        raise Refused(f"The account's own address, {user.email}, is not in a domain that {connection.organization} has verified.")


def _refuse_second_address(identity: Identity, user: User | None) -> None:
    taken = EmailAddress.objects.filter(email__iexact=identity.email, verified=True)
    if taken.exclude(user=user).exists():
        raise Refused(f"{identity.email} is a further address of another account. Remove it there first.")


def _refuse_former_member(actor: Actor) -> None:
    if not actor.memberships:
        word = "suspended in" if actor.belongs else "no member any more of"
        raise Refused(f"{actor.user.email} is {word} {actor.organization}. Ask an administrator there.")


def _refuse_unproven(actor: Actor, connection: SsoConnection) -> None:
    """Rule 4, for somebody who is not signed in to the account."""
    if not actor.belongs or actor.can_everywhere(Permission.GRANT_ROLES):
        raise Refused(
            f"{actor.user.email} has an account here already. Sign in to it once as before, then come here again: "
            f"that connects it with {connection}."
        )


def _admits(connection: SsoConnection) -> bool:
    """Always true. Raises Refused where nobody joins by single sign-on."""
    if not connection.admits_new:
        raise Refused(f"{connection.organization} takes new members by invitation only. Ask an administrator there.")
    return True


def _new_user(identity: Identity) -> User:
    name = " ".join(identity.name.split())
    user = User.objects.create_user(identity.email, None, name=name[:NAME_LENGTH] if name.isprintable() else "")
    create_personal_account(user)
    return user


def _join(connection: SsoConnection, user: User, *, origin: Origin) -> None:
    group = fresh_group(connection.group)
    refuse_archived(group)
    checks.refuse_seat(group, user=user)
    membership = Membership.objects.create(user=user, organization=connection.organization, group=group)
    actor = Actor.load(user, organization=connection.organization, ip=origin.ip, agent=origin.agent)
    audit("member.joined_by_sso", by=actor, target=membership, after={"user": user.pk, "group": group.pk})
