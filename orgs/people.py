"""People at and below the nodes whose members the actor manages: the list, its filters, and one of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import CharField, Exists, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Coalesce, Lower, NullIf

from orgs.actor import Actor
from orgs.models import ApiKey, AuditEvent, Group, Membership, RoleGrant, User
from orgs.permissions import Permission
from orgs.selectors import keys_visible_to, with_groups, within

PAGE_SIZE = 50
HISTORY_LENGTH = 30
STATUSES = {"active": "Active", "suspended": "Suspended", "frozen": "Frozen"}


class Wanted(NamedTuple):
    """`role` is "member" (no role at all), a shipped role's name or "role-<id>"; `after` and `before` are people's ids."""

    search: str = ""
    group: int | None = None
    role: str = ""
    status: str = ""
    after: int | None = None
    before: int | None = None


class Person(NamedTuple):
    """What the actor may see of one: memberships and grants in its subtrees."""

    user: User
    memberships: list[Membership]
    grants: list[RoleGrant]

    @property
    def status(self) -> str:
        if not self.user.is_active:
            return STATUSES["frozen"]
        suspended = sum(1 for membership in self.memberships if membership.suspended_at)
        if not suspended:
            return STATUSES["active"]
        return STATUSES["suspended"] if suspended == len(self.memberships) else "Partly suspended"

    @property
    def tone(self) -> str:
        return {STATUSES["active"]: "ok", STATUSES["frozen"]: "bad"}.get(self.status, "warn")

    @property
    def since(self) -> datetime:
        return min(membership.created_at for membership in self.memberships)


class PeoplePage(NamedTuple):
    """By name. `previous` and `following` are the people to go on from; None at an end."""

    people: list[Person]
    previous: int | None
    following: int | None


def people_page(actor: Actor, wanted: Wanted, *, tree: list[Group]) -> PeoplePage:
    """`tree`: the groups whose members the actor manages."""
    scope = actor.scope(Permission.MANAGE_MEMBERS)
    users = _users(actor, scope, wanted)
    found, previous, following = _paged(users, wanted)
    return PeoplePage(people_of(found, actor=actor, scope=scope, tree=tree), previous, following)


def people_of(
    users: Iterable[User], *, actor: Actor, scope: list[Group] | None = None, tree: Iterable[Group] = ()
) -> list[Person]:
    """These, as far as the actor sees them; in the same order, without those it does not see. `tree`: groups that are read."""
    users, scope = list(users), actor.scope(Permission.MANAGE_MEMBERS) if scope is None else scope
    here = Q(within(scope, field="group"), organization=actor.organization, user__in=users)
    belongs = list(Membership.objects.filter(here))
    held = list(RoleGrant.objects.filter(here).select_related("custom_role"))
    with_groups([*belongs, *held], tree=tree)
    memberships: defaultdict[int, list[Membership]] = defaultdict(list)
    for membership in belongs:
        memberships[membership.user_id].append(membership)
    grants: defaultdict[int, list[RoleGrant]] = defaultdict(list)
    for grant in sorted(held, key=lambda grant: (grant.group.level, grant.pk)):
        grant.organization = actor.organization
        grants[grant.user_id].append(grant)
    return [Person(user, memberships[user.pk], grants[user.pk]) for user in users if memberships[user.pk]]


def people_with_ids(ids: Iterable[int]) -> QuerySet[User]:
    """Of anywhere: `people_of` leaves out whom its actor does not see."""
    return User.objects.filter(pk__in=list(ids)).order_by("email")


def keys_of(user: User, *, actor: Actor) -> QuerySet[ApiKey]:
    """The person's keys that the actor may see, deleted ones left out."""
    return keys_visible_to(actor).select_related("organization").filter(member=user, revoked_at=None)


def history_of(user: User, memberships: Iterable[Membership], *, actor: Actor) -> QuerySet[AuditEvent]:
    """What happened to the person's memberships and roles at the nodes whose audit trail the actor may read; newest first."""
    readable = Group.objects.filter(within(actor.scope(Permission.VIEW_AUDIT)), organization=actor.organization)
    ids = [str(membership.pk) for membership in memberships]
    person = Q(after__user=user.pk) | Q(before__user=user.pk)
    about = Q(object_type="membership", object_id__in=ids) | Q(object_type__in=("membership", "rolegrant")) & person
    events = AuditEvent.objects.filter(about, organization=actor.organization, group__in=readable.values("pk"))
    return events.select_related("actor").order_by("-at", "-pk")[:HISTORY_LENGTH]


def _users(actor: Actor, scope: list[Group], wanted: Wanted) -> QuerySet[User]:
    here = within(scope, field="group")
    memberships = Membership.objects.filter(here, organization=actor.organization, user=OuterRef("pk"))
    if wanted.group is not None:
        memberships = memberships.filter(within(Group.objects.filter(pk=wanted.group), field="group"))
    if wanted.status in ("active", "suspended"):
        memberships = memberships.filter(suspended_at__isnull=wanted.status == "active")
    users = User.objects.filter(Exists(memberships))
    if wanted.status:
        users = users.filter(is_active=wanted.status != "frozen")
    if wanted.role:
        users = users.filter(_holding(wanted.role, RoleGrant.objects.filter(here, organization=actor.organization)))
    if wanted.search:
        users = users.filter(Q(name__icontains=wanted.search) | Q(email__icontains=wanted.search))
    name = Lower(Coalesce(NullIf("name", Value("")), "email", output_field=CharField()))
    return users.annotate(sorted_by=name)


def _holding(role: str, grants: QuerySet[RoleGrant]) -> Q:
    own = grants.filter(user=OuterRef("pk"))
    if role == "member":
        return ~Q(Exists(own))
    if role.startswith("role-"):
        return Q(Exists(own.filter(custom_role_id=int(role.removeprefix("role-")))))
    return Q(Exists(own.filter(role=role)))


def _paged(users: QuerySet[Any], wanted: Wanted) -> tuple[list[User], int | None, int | None]:
    order = ("sorted_by", "pk")
    if wanted.before is not None:
        found = list(_beside(users, wanted.before, backwards=True).order_by("-sorted_by", "-pk")[: PAGE_SIZE + 1])
        more, found = len(found) > PAGE_SIZE, found[:PAGE_SIZE][::-1]
        return found, found[0].pk if more else None, found[-1].pk if found else None
    if wanted.after is not None:
        users = _beside(users, wanted.after, backwards=False)
    found = list(users.order_by(*order)[: PAGE_SIZE + 1])
    more, found = len(found) > PAGE_SIZE, found[:PAGE_SIZE]
    return found, found[0].pk if wanted.after is not None and found else None, found[-1].pk if more else None


def _beside(users: QuerySet[Any], person_id: int, *, backwards: bool) -> QuerySet[Any]:
    """Those after, or before, this person in the order of names; a person who is gone begins the list."""
    known = User.objects.filter(pk=person_id).values("name", "email").first()
    if known is None:
        return users
    name, step = (known["name"] or known["email"]), "lt" if backwards else "gt"
    place: dict[str, Any] = {f"sorted_by__{step}": Lower(Value(name))}
    return users.filter(Q(**place) | Q(**{"sorted_by": Lower(Value(name)), f"pk__{step}": person_id}))
