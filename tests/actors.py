"""The people of the tests: alice (Super Admin), lena (L1 Admin), sam (Sub-admin), mia (Member), charlie (another organisation).
Beside them `operator()`, who runs the installation.

The tree, with who stands where:

    Acme  alice
    ├── engineering (1)  lena
    │   └── platform (2)  sam, application "Assistant"
    │       └── gateway (3)  mia, her key
    │           └── core (4)
    └── sales (1)
        └── field (2)  noah
"""

from __future__ import annotations

import functools
import itertools
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction
from django.db.models import NOT_PROVIDED, Model
from django.test import Client
from django.utils import timezone

from billing.models import CreditEntry, CreditTransaction
from gateway_project.lib.crypto import digest
from orgs import epoch
from orgs.actor import Actor
from orgs.chain import link
from orgs.doors import LAST_ORGANIZATION
from orgs.keys import new_key_text
from orgs.middleware import SEEN
from orgs.models import ApiKey, Application, AuditEvent, AuditHead, Group, Membership, Organization, RoleGrant, User
from orgs.permissions import RoleName
from orgs.services.applications import create_application
from orgs.services.freezing import Operator
from orgs.services.groups import create_group
from orgs.services.keys import create_api_key
from orgs.services.members import add_member, grant_role
from orgs.services.organizations import create_organization, create_personal_account

PEOPLE = ("alice", "lena", "sam", "mia", "noah", "charlie")
FEATURES, STAGES = ["chat", "search"], ["production", "staging"]
# Name → parent, level, left and right number, as django-mptt gives them to groups in the order of their names; parents first.
TREE = {
    "root": ("", 0, 1, 14),
    "engineering": ("root", 1, 2, 9),
    "platform": ("engineering", 2, 3, 8),
    "gateway": ("platform", 3, 4, 7),
    "core": ("gateway", 4, 5, 6),
    "sales": ("root", 1, 10, 13),
    "field": ("sales", 2, 11, 12),
}
# Of whose rows the ids are drawn beforehand, since others refer to them.
Ids = dict[type[Model], Iterator[int]]
COUNTS: dict[type[Model], int] = {
    User: len(PEOPLE), Organization: 3, Group: len(TREE) + 2, Application: 1, ApiKey: 1, CreditTransaction: 1,
}  # fmt: skip
PLACES = {"lena": "engineering", "sam": "platform", "mia": "gateway", "noah": "field"}


@dataclass
class World:
    acme: Organization
    root: Group
    engineering: Group
    platform: Group
    gateway: Group
    core: Group
    sales: Group
    field: Group
    alice: User
    lena: User
    sam: User
    mia: User
    noah: User
    charlie: User
    other: Organization
    assistant: Application
    key: ApiKey
    key_text: str

    def actor(self, name: str) -> Actor:
        """As that person acts now, in its own company."""
        return Actor.load(getattr(self, name), organization=self.other if name == "charlie" else self.acme)

    def slug_of(self, name: str) -> str:
        """Of that person's own company."""
        return (self.other if name == "charlie" else self.acme).slug

    def group(self, name: str) -> Group:
        """As it is now; for a node of the other organisation say "elsewhere"."""
        return self.other.root if name == "elsewhere" else Group.objects.get(pk=getattr(self, name).pk)


def make_world(*, password: str | None = None, credit_nano_usd: int = 0) -> World:
    """Names and addresses are unique: several worlds fit in one database. Without a password nobody can sign in by form.
    `credit_nano_usd`: what alice has topped acme up with.

    Written as rows, all in one exchange, which takes a tenth of the time of the services and leaves one audit event, of the key;
    tests/orgs/test_world.py holds the rows against those of `make_world_by_services`.
    """
    tag, ids = secrets.token_hex(4), _draw_ids()
    users = _users(tag, password, ids)
    organizations = _organizations(tag, ids)
    acme, other, mias = organizations
    groups = _groups(acme, other, mias, ids=ids)
    memberships, grants = _memberships(
        [("alice", groups["root"]), ("charlie", groups["other"]), ("mia", groups["mias"])],
        [(name, groups[node]) for name, node in PLACES.items()],
        users=users,
    )
    assistant = Application(
        pk=next(ids[Application]),
        organization=acme,
        group_id=groups["platform"].pk,
        name="Assistant",
        slug="assistant",
        features=FEATURES,
        environments=STAGES,
    )
    key, text = _key(next(ids[ApiKey]), acme, groups["gateway"], users["mia"])
    with transaction.atomic(savepoint=False):
        everything = [*users.values(), *organizations, *groups.values(), *memberships, *grants, assistant, key]
        credit = _credit(next(ids[CreditTransaction]), acme, users["alice"], credit_nano_usd) if credit_nano_usd else ()
        _insert([*everything, *_created(key, acme, users["mia"]), *credit])
        epoch.changing(*(each.pk for each in organizations))
    del groups["other"], groups["mias"]
    made: dict[str, Any] = {**{name: _as_read(group) for name, group in groups.items()}, **users}
    return World(acme=acme, other=other, assistant=assistant, key=key, key_text=text, **made)


def make_world_by_services() -> World:
    """The same through the services, audited."""
    tag = secrets.token_hex(4)
    users = {name: make_user(f"{name}.{tag}@example.test", name=name.title()) for name in PEOPLE}
    acme = create_organization(f"Acme {tag}", owner=users["alice"])
    other = create_organization(f"Other {tag}", owner=users["charlie"])
    create_personal_account(users["mia"])
    alice = Actor.load(users["alice"], organization=acme)
    groups = _make_tree(acme, alice)
    for name, node in PLACES.items():
        add_member(users[name], group=groups[node], by=alice)
    for name, node in (("lena", "engineering"), ("sam", "platform")):
        grant_role(users[name], role=RoleName.ADMIN, group=groups[node], by=alice)
    assistant = create_application(groups["platform"], name="Assistant", features=FEATURES, environments=STAGES, by=alice)
    mia = Actor.load(users["mia"], organization=acme)
    key, text = create_api_key(groups["gateway"], name="Mia's key", member=mia.user, by=mia)
    made: dict[str, Any] = {**groups, **users}
    return World(acme=acme, other=other, assistant=assistant, key=key, key_text=text, **made)


def make_user(email: str, *, name: str = "", password: str | None = None) -> User:
    return User.objects.create_user(email, password, name=name)


def signed_in(world: World, name: str = "alice") -> Client:
    """The browser of one of the world's people, in use: no page need write down the organisation or the moment."""
    client = Client()
    vars(client)["begins_with"] = {LAST_ORGANIZATION: world.slug_of(name), SEEN: int(timezone.now().timestamp())}
    client.force_login(getattr(world, name))
    return client


def _draw_ids() -> Ids:
    asked = " UNION ALL ".join(
        f"SELECT '{model._meta.db_table}', nextval('{model._meta.db_table}_id_seq') FROM generate_series(1, {count})"  # noqa: S608 - names of our own
        for model, count in COUNTS.items()
    )
    with connection.cursor() as cursor:
        cursor.execute(asked)
        drawn = cursor.fetchall()
    return {model: iter([number for table, number in drawn if table == model._meta.db_table]) for model in COUNTS}


def _insert(rows: list[Model]) -> None:
    """All in one exchange. Rows of one table stand side by side, either all with an id or all without."""
    statements, parameters = [], []
    own = connections[DEFAULT_DB_ALIAS]  # not the one that looks itself up whenever it is asked for something
    for _, same in itertools.groupby(rows, type):
        those = list(same)
        statement, fields = _statement(type(those[0]), with_ids=bool(those[0].pk))
        statements.append(statement)
        columns = [{column: getattr(row, name) for column, name in fields.items()} for row in those]
        parameters.append(json.dumps(columns, default=_as_text))
    with own.cursor() as cursor:
        cursor.execute(";".join(statements), parameters)
    for row in rows:
        row._state.adding, row._state.db = False, own.alias


@functools.cache
def _statement(model: type[Model], *, with_ids: bool) -> tuple[str, dict[str, str]]:
    """Its one parameter are the rows as JSON, which PostgreSQL takes apart faster than Django writes them; column → attribute.

    A column with a default of the database's is left to that.
    """
    every = [field for field in model._meta.concrete_fields if with_ids or not field.primary_key]
    fields = {str(field.column): field.attname for field in every if field.db_default is NOT_PROVIDED}
    table, names = model._meta.db_table, ", ".join(f'"{column}"' for column in fields)
    return f'INSERT INTO "{table}" ({names}) SELECT {names} FROM json_populate_recordset(NULL::"{table}", %s)', fields  # noqa: S608 - names of our own


def _as_text(value: datetime | bytes) -> str:
    return rf"\x{value.hex()}" if isinstance(value, bytes) else value.isoformat()


def _users(tag: str, password: str | None, ids: Ids) -> dict[str, User]:
    hashed = make_password(password)
    return {
        name: User(pk=next(ids[User]), email=f"{name}.{tag}@example.test", name=name.title(), password=hashed) for name in PEOPLE
    }


def _organizations(tag: str, ids: Ids) -> list[Organization]:
    """Alice's, Charlie's, and Mia's own."""
    numbers = ids[Organization]
    made = [Organization(pk=next(numbers), name=f"{name} {tag}", slug=f"{name.lower()}-{tag}") for name in ("Acme", "Other")]
    return [*made, Organization(pk=next(numbers), name="Mia", slug=f"mia-{tag}", kind=Organization.Kind.PERSONAL)]


def _groups(acme: Organization, *others: Organization, ids: Ids) -> dict[str, Group]:
    """Acme's tree, and the roots "other" and "mias" of the others."""
    nodes = [(acme, name, *place) for name, place in TREE.items()]
    nodes += [(one, name, "", 0, 1, 2) for one, name in zip(others, ("other", "mias"), strict=True)]
    numbers = {node[1]: next(ids[Group]) for node in nodes}
    return {
        name: Group(
            pk=numbers[name],
            organization_id=organization.pk,
            parent_id=numbers.get(parent),
            name=name if parent else organization.name,
            level=level,
            lft=left,
            rght=right,
            tree_id=organization.pk,
        )  # type: ignore[no-untyped-call]
        for organization, name, parent, level, left, right in nodes
    }


def _as_read(group: Group) -> Group:
    """So that it looks for its parent and its organisation when asked."""
    names = [field.attname for field in Group._meta.concrete_fields]
    return Group.from_db(connection.alias, names, [getattr(group, name) for name in names])


def _memberships(
    owners: list[tuple[str, Group]], members: list[tuple[str, Group]], *, users: dict[str, User]
) -> tuple[list[Membership], list[RoleGrant]]:
    """Of those who own an organisation, who administer its root, and of its members: two of them are admins."""
    standing = [
        (name, {"user_id": users[name].pk, "organization_id": group.organization_id, "group_id": group.pk})
        for name, group in owners + members
    ]
    admins = standing[: len(owners)] + [each for each in standing[len(owners) :] if each[0] in ("lena", "sam")]
    return [Membership(**row) for _, row in standing], [RoleGrant(role=RoleName.ADMIN, **row) for _, row in admins]


def _make_tree(organization: Organization, by: Actor) -> dict[str, Group]:
    groups = {"root": organization.root}
    for name, parent in (
        ("engineering", "root"),
        ("platform", "engineering"),
        ("gateway", "platform"),
        ("core", "gateway"),
        ("sales", "root"),
        ("field", "sales"),
    ):
        groups[name] = create_group(groups[parent], name=name, by=by)
    # Each insertion moved what stands to its right: read them all again.
    return {name: Group.objects.get(pk=group.pk) for name, group in groups.items()}


def _key(number: int, organization: Organization, group: Group, member: User) -> tuple[ApiKey, str]:
    text = new_key_text()
    key = ApiKey(
        pk=number,
        organization=organization,
        group=group,
        member=member,
        name="Mia's key",
        public_id=text.public_id,
        digest=digest(text.text),
        last_four=text.last_four,
        created_by=member,
    )
    return key, text.text


def key_row(group: Group, member: User, *, name: str) -> ApiKey:
    """One more, to be written as a row; nobody is told its text."""
    text = new_key_text()
    return ApiKey(
        organization=group.organization,
        group=group,
        member=member,
        created_by=member,
        name=name,
        public_id=text.public_id,
        digest=digest(text.text),
        last_four=text.last_four,
    )


def _created(key: ApiKey, organization: Organization, member: User) -> tuple[AuditEvent, AuditHead]:
    """The first event of the organisation's trail, and the trail's head."""
    event = AuditEvent(
        organization=organization,
        actor=member,
        action="key.created",
        group_id=key.group_id,
        object_type="apikey",
        object_id=str(key.pk),
        object_label=str(key),
        at=timezone.now(),
        sequence=1,
    )
    head = AuditHead(chain=organization.pk, sequence=1)
    head.hash = event.hash = link(head.hash, event.facts())
    return event, head


def _credit(number: int, organization: Organization, by: User, amount: int) -> tuple[Model, ...]:
    moved = CreditTransaction(pk=number, organization=organization, kind="top_up", reference="test", created_by=by)
    sides = {CreditEntry.Account.POOL: amount, CreditEntry.Account.FUNDING: -amount}
    entries = [
        CreditEntry(transaction=moved, organization=organization, account=account, amount_nano_usd=side)
        for account, side in sides.items()
    ]
    return moved, *entries


def with_session(key: str | None) -> Client:
    """The browser of whoever signed in with this session; of nobody."""
    client = Client()
    if key:
        client.cookies[settings.SESSION_COOKIE_NAME] = key
    return client


def operator() -> Operator:
    """Of the installation; a member nowhere."""
    user = make_user(f"olive.{secrets.token_hex(4)}@example.test", name="Olive")
    User.objects.filter(pk=user.pk).update(is_staff=True)
    user.refresh_from_db()
    return Operator(user)
