"""The only way for a view to load one thing by its id: absent, another organisation's and out of reach are the same 404."""

from __future__ import annotations

from collections.abc import Iterable

from django.http import Http404

from gateway_project.lib.rows import sole
from gateway_project.lib.written import Written
from orgs.actor import ABOVE, LINEAGE, OWN, Actor
from orgs.models import ApiKey, Application, Group, Membership, Role, RoleGrant, User
from orgs.origin import NOWHERE, Origin
from orgs.permissions import Permission
from orgs.selectors import members_visible_to, memberships_of, own_keys, roles_visible_to

# One thing of an organisation.
_GROUP: Written[Group] = Written(
    lambda there, pk: Group.objects.filter(organization=there, pk=pk).select_related(ABOVE), int, int
)
_MEMBERSHIP: Written[Membership] = Written(
    lambda there, pk: Membership.objects.filter(organization=there, pk=pk).select_related("user", LINEAGE), int, int
)
_APPLICATION: Written[Application] = Written(
    lambda there, pk: Application.objects.filter(organization=there, pk=pk).select_related(LINEAGE), int, int
)
_KEY: Written[ApiKey] = Written(
    lambda there, pk: ApiKey.objects.filter(organization=there, pk=pk).select_related(
        "member", "application", "created_by", LINEAGE
    ),
    int,
    int,
)
_GRANT: Written[RoleGrant] = Written(
    lambda there, pk: RoleGrant.objects.filter(organization=there, pk=pk).select_related("user", "custom_role", LINEAGE), int, int
)


def access_organization_by_slug(
    user: User, slug: str, *, origin: Origin = NOWHERE, among: Iterable[Membership] | None = None
) -> Actor:
    """Acting there. `among`: all its memberships, where they have been read. Raises Http404 where it does not belong."""
    found = memberships_of(user) if among is None else among
    own = sorted((one for one in found if one.organization.slug == slug), key=lambda membership: membership.pk)
    if not own:
        raise Http404("no such organisation")
    return Actor.of(user, own, organization=own[0].organization, ip=origin.ip, agent=origin.agent)


def access_group_by_id(actor: Actor, group_id: int, *permissions: Permission) -> Group:
    """Any one of the permissions is enough. Raises Http404."""
    group = _GROUP.sole(actor.organization.pk, group_id)
    if group is None or not any(actor.can(permission, group) for permission in permissions):
        raise Http404("no such group")
    return group


def access_member_by_id(actor: Actor, membership_id: int, permission: Permission) -> Membership:
    """One membership. A member may always see its own. Raises Http404."""
    membership = _MEMBERSHIP.sole(actor.organization.pk, membership_id)
    if membership is None:
        raise Http404("no such member")
    own = OWN.get(permission) is Permission.VIEW_OWN and membership in actor.memberships
    if not own and not actor.can(permission, membership.group):
        raise Http404("no such member")
    return membership


def access_application_by_id(actor: Actor, application_id: int, *permissions: Permission) -> Application:
    """Any one of the permissions is enough. Raises Http404."""
    application = _APPLICATION.sole(actor.organization.pk, application_id)
    if application is None or not any(actor.can(permission, application.group) for permission in permissions):
        raise Http404("no such application")
    return application


def access_key_by_id(actor: Actor, key_id: int, permission: Permission) -> ApiKey:
    """A member may always see and manage its own. Raises Http404."""
    key = _KEY.sole(actor.organization.pk, key_id)
    if key is None or not actor.can_with_key(permission, key):
        raise Http404("no such key")
    return key


def access_own_key_by_id(actor: Actor, key_id: int) -> ApiKey:
    """One to call with in its member's name, so nobody else's, whatever the actor may manage. Raises Http404."""
    key = sole(own_keys(actor).filter(pk=key_id))
    if key is None:
        raise Http404("no such key")
    return key


def access_role_by_id(actor: Actor, role_id: int) -> Role:
    """One that the actor may see; what it may do with it is the service's to say. Raises Http404."""
    role = sole(roles_visible_to(actor).filter(pk=role_id))
    if role is None:
        raise Http404("no such role")
    return role


def access_grant_by_id(actor: Actor, grant_id: int) -> RoleGrant:
    """One at a node whose members the actor manages. Raises Http404."""
    grant = _GRANT.sole(actor.organization.pk, grant_id)
    if grant is None or not actor.can(Permission.MANAGE_MEMBERS, grant.group):
        raise Http404("no such role")
    return grant


def access_person_by_id(actor: Actor, person_id: int, permission: Permission) -> tuple[User, list[Membership]]:
    """A person, with the memberships that the actor may see. Raises Http404 where there are none."""
    memberships = list(members_visible_to(actor, permission=permission).select_related("organization").filter(user=person_id))
    if not memberships:
        raise Http404("no such person")
    return memberships[0].user, memberships
