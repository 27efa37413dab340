"""The only way for a view to load one thing by its id: absent, another organisation's and out of reach are the same 404."""

from __future__ import annotations

from django.http import Http404

from orgs.actor import ABOVE, LINEAGE, OWN, Actor
from orgs.models import ApiKey, Application, Group, Membership
from orgs.permissions import Permission
from orgs.selectors import own_keys


def access_group_by_id(actor: Actor, group_id: int, permission: Permission) -> Group:
    """Raises Http404."""
    group: Group | None = Group.objects.filter(organization=actor.organization, pk=group_id).select_related(ABOVE).first()
    if group is None or not actor.can(permission, group):
        raise Http404("no such group")
    return group


def access_member_by_id(actor: Actor, membership_id: int, permission: Permission) -> Membership:
    """One membership. A member may always see its own. Raises Http404."""
    members = Membership.objects.filter(organization=actor.organization, pk=membership_id)
    membership = members.select_related("user", LINEAGE).first()
    if membership is None:
        raise Http404("no such member")
    own = OWN.get(permission) is Permission.VIEW_OWN and membership in actor.memberships
    if not own and not actor.can(permission, membership.group):
        raise Http404("no such member")
    return membership


def access_application_by_id(actor: Actor, application_id: int, permission: Permission) -> Application:
    """Raises Http404."""
    applications = Application.objects.filter(organization=actor.organization, pk=application_id)
    application = applications.select_related(LINEAGE).first()
    if application is None or not actor.can(permission, application.group):
        raise Http404("no such application")
    return application


def access_key_by_id(actor: Actor, key_id: int, permission: Permission) -> ApiKey:
    """A member may always see and manage its own. Raises Http404."""
    keys = ApiKey.objects.filter(organization=actor.organization, pk=key_id)
    key = keys.select_related("member", "application", LINEAGE).first()
    if key is None or not actor.can_with_key(permission, key):
        raise Http404("no such key")
    return key


def access_own_key_by_id(actor: Actor, key_id: int) -> ApiKey:
    """One to call with in its member's name, so nobody else's, whatever the actor may manage. Raises Http404."""
    key: ApiKey | None = own_keys(actor).filter(pk=key_id).first()
    if key is None:
        raise Http404("no such key")
    return key
