"""What limits are set on: groups (the root group stands for the organisation), members, keys, applications."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from django.db.models import Count, Q, QuerySet, Window

from guardrails.compiling import subject_name
from guardrails.models import Binding, Policy
from orgs.actor import ABOVE, LINEAGE, Actor
from orgs.models import ApiKey, Application, Group, Membership, Organization, User
from orgs.permissions import Permission
from orgs.selectors import unarchived, within

Subject = Group | User | ApiKey | Application

COLUMNS: dict[type[Subject], str] = {Group: "group", User: "member", ApiKey: "api_key", Application: "application"}
WORDS = {"group": "group", "member": "member", "api_key": "key", "application": "application"}
LETTERS = {"g": "group", "m": "member", "k": "api_key", "a": "application"}
MOST_FOUND = 8
# On each row that is found: how many match, those that are left off too.
MATCHING = "matching"


class Found(NamedTuple):
    """One subject as pages show it. `token` names it in forms: g7, m7, k7, a7; `where` says more than its name."""

    token: str
    name: str
    where: str
    word: str


class Finds(NamedTuple):
    """The first ones of each kind, and in words how many more there are: "12 more members", "3 more keys"."""

    found: list[Found]
    more: list[str]


def column_of(subject: Subject) -> str:
    """Its column in the tables of bindings and overrides."""
    # Not by `type`: the user of a request is loaded when it is first looked at.
    return next(column for kind, column in COLUMNS.items() if isinstance(subject, kind))


def token_of(subject: Subject) -> str:
    return f"{column_of(subject).replace('api_key', 'key')[0]}{subject.pk}"


def counter_of(subject: Subject) -> str:
    """The name of its counter."""
    ids = {f"{column}_id": None for column in COLUMNS.values()} | {f"{column_of(subject)}_id": subject.pk}
    root = subject.pk if isinstance(subject, Group) and subject.parent_id is None else 0
    return subject_name(ids, root_group_id=root)


def nodes_of(subject: Subject, *, organization: Organization) -> list[Group]:
    """Where it stands in the tree. A member's limits count all its keys, so: at every node it belongs to."""
    if isinstance(subject, Group):
        return [subject]
    if isinstance(subject, User):
        members = Membership.objects.filter(user=subject, organization=organization).select_related(LINEAGE)
        return [member.group for member in members]
    return [subject.group]


def nodes_governed(policy: Policy) -> list[Group]:
    """Every node at which something is that this policy is bound to."""
    bindings = Binding.objects.filter(policy=policy).select_related(LINEAGE, f"api_key__{LINEAGE}", f"application__{LINEAGE}")
    nodes = {node.pk: node for binding in bindings if (node := _node(binding)) is not None}
    if members := [binding.member_id for binding in bindings if binding.member_id]:
        belongs = Membership.objects.filter(user__in=members, organization=policy.organization_id).select_related(LINEAGE)
        nodes |= {membership.group_id: membership.group for membership in belongs}
    return list(nodes.values())


def _node(binding: Binding) -> Group | None:
    thing = binding.api_key or binding.application
    return thing.group if thing else binding.group


def find(actor: Actor, token: str) -> Subject | None:
    """What a token of a form names, if the actor may manage its guardrails."""
    column, number = LETTERS.get(token[:1]), token[1:]
    if column is None or not (number.isascii() and number.isdigit()) or len(number) > 18:
        return None
    found = _rows(column, actor, actor.scope(Permission.MANAGE_GUARDRAILS), pk=Q(pk=int(number)))
    return found[0] if found else None


def search(actor: Actor, words: str) -> Finds:
    """Groups, members, keys and applications whose guardrails the actor may manage, by any part of their names."""
    found, more, scope = list[Subject](), list[str](), actor.scope(Permission.MANAGE_GUARDRAILS)
    for column in LETTERS.values():
        rows = _rows(column, actor, scope, pk=_matching(column, words), home="group")
        found += rows
        if rows and (others := getattr(rows[0], MATCHING) - len(rows)):
            more.append(f"{others:,} more {WORDS[column]}{'' if others == 1 else 's'}")
    homes = _homes([subject for subject in found if isinstance(subject, User)], actor.organization)
    return Finds([described(subject, homes) for subject in found], more)


def described(subject: Subject, homes: Mapping[int, list[str]] | None = None) -> Found:
    """`homes`: the groups of members, by their id."""
    if isinstance(subject, Group):
        path = " / ".join(node.name for node in subject.path()[:-1])
        return Found(token_of(subject), subject.name, path or "the whole organisation", "group")
    if isinstance(subject, User):
        where = ", ".join((homes or {}).get(subject.pk, [])) or subject.email
        return Found(token_of(subject), subject.display_name, where, "member")
    return Found(token_of(subject), subject.name, subject.group.name, WORDS[column_of(subject)])


def _homes(users: Iterable[User], organization: Organization) -> dict[int, list[str]]:
    homes: dict[int, list[str]] = {}
    members = Membership.objects.filter(user__in=list(users), organization=organization)
    for user_id, name in members.values_list("user_id", "group__name"):
        homes.setdefault(user_id, []).append(name)
    return homes


def _rows(column: str, actor: Actor, scope: list[Group], *, pk: Q, home: str = LINEAGE) -> list[Subject]:
    """Rows of one kind where the actor may set guardrails, the first ones that match; `home`: of keys and applications."""
    organization = actor.organization
    if not scope:
        return []
    if column == "group":
        groups = Group.objects.filter(pk, within(scope), organization=organization).filter(unarchived())
        return _first(groups.select_related(ABOVE).order_by("lft"))
    if column == "member":
        here, members = within(scope, field="group"), Membership.objects.filter(organization=organization)
        users = User.objects.filter(pk, pk__in=members.filter(here).values("user"))
        users = users.exclude(pk__in=members.filter(~here).values("user"))
        return _first(users.order_by("name", "email"))
    if column == "api_key":
        keys = ApiKey.objects.filter(pk, within(scope, field="group"), organization=organization, revoked_at=None)
        return _first(keys.select_related("member", home).order_by("name", "pk"))
    applications = Application.objects.filter(pk, within(scope, field="group"), organization=organization, archived_at=None)
    return _first(applications.select_related(home).order_by("name", "pk"))


def _first(rows: QuerySet[Any]) -> list[Any]:
    return list(rows.annotate(**{MATCHING: Window(Count("pk"))})[:MOST_FOUND])


def _matching(column: str, words: str) -> Q:
    if column == "member":
        return Q(name__icontains=words) | Q(email__icontains=words)
    if column == "api_key":
        return Q(name__icontains=words) | Q(last_four=words[-4:]) if words else Q()
    return Q(name__icontains=words)
