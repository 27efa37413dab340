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

import secrets
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.hashers import make_password
from django.db import connection, transaction
from django.test import Client

from gateway_project.lib.crypto import digest
from orgs import epoch
from orgs.actor import Actor
from orgs.audit import audit_as
from orgs.keys import new_key_text
from orgs.models import ApiKey, Application, Group, Membership, Organization, RoleGrant, User
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

    def group(self, name: str) -> Group:
        """As it is now; for a node of the other organisation say "elsewhere"."""
        return self.other.root if name == "elsewhere" else Group.objects.get(pk=getattr(self, name).pk)


def make_world(*, password: str | None = None) -> World:
    """Names and addresses are unique: several worlds fit in one database. Without a password nobody can sign in by form.

    Written as rows, which takes a fifth of the time of the services and leaves one audit event, of the key; tests/orgs/
    test_world.py holds the rows against those of `make_world_by_services`.
    """
    tag = secrets.token_hex(4)
    with transaction.atomic():
        users = _write_users(tag, password)
        acme, other, mias = _write_organizations(tag, users)
        groups = _write_groups(acme, other, mias)
        _write_memberships(
            [("alice", groups["root"]), ("charlie", groups["other"]), ("mia", groups["mias"])],
            [(name, groups[node]) for name, node in PLACES.items()],
            users=users,
        )
        del groups["other"], groups["mias"]
        assistant = Application.objects.create(
            organization=acme,
            group=groups["platform"],
            name="Assistant",
            slug="assistant",
            features=FEATURES,
            environments=STAGES,
        )
        key, text = _write_key(acme, groups["gateway"], users["mia"])
    made: dict[str, Any] = {**groups, **users}
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
    """The browser of one of the world's people."""
    client = Client()
    client.force_login(getattr(world, name))
    return client


def _write_users(tag: str, password: str | None) -> dict[str, User]:
    hashed = make_password(password)
    users = {name: User(email=f"{name}.{tag}@example.test", name=name.title(), password=hashed) for name in PEOPLE}
    User.objects.bulk_create(users.values())
    return users


def _write_organizations(tag: str, users: dict[str, User]) -> list[Organization]:
    """Alice's, Charlie's, and Mia's own."""
    written = [Organization(name=f"{name} {tag}", slug=f"{name.lower()}-{tag}") for name in ("Acme", "Other")]
    written.append(Organization(name="Mia", slug=f"mia-{tag}", kind=Organization.Kind.PERSONAL))
    Organization.objects.bulk_create(written)
    for organization in written:
        epoch.changing(organization.pk)
    return written


def _write_groups(acme: Organization, *others: Organization) -> dict[str, Group]:
    """Acme's tree, and the roots "other" and "mias" of the others, in one statement: their ids are drawn beforehand."""
    nodes = [(acme, name, *place) for name, place in TREE.items()]
    nodes += [(one, name, "", 0, 1, 2) for one, name in zip(others, ("other", "mias"), strict=True)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('orgs_group_id_seq') FROM generate_series(1, %s)", [len(nodes)])
        ids = dict(zip((node[1] for node in nodes), (number for (number,) in cursor.fetchall()), strict=True))
    Group._base_manager.bulk_create(
        Group(
            pk=ids[name],
            organization_id=organization.pk,
            parent_id=ids.get(parent),
            name=name if parent else organization.name,
            level=level,
            lft=left,
            rght=right,
            tree_id=organization.pk,
        )  # type: ignore[no-untyped-call]
        for organization, name, parent, level, left, right in nodes
    )
    # As they are read, so that each looks for its parent when asked.
    found = {group.pk: group for group in Group.objects.filter(pk__in=ids.values())}
    return {name: found[number] for name, number in ids.items()}


def _write_memberships(owners: list[tuple[str, Group]], members: list[tuple[str, Group]], *, users: dict[str, User]) -> None:
    """Of those who own an organisation, who administer its root, and of its members: two of them are admins."""
    standing = [
        (name, {"user": users[name], "organization_id": group.organization_id, "group": group})
        for name, group in owners + members
    ]
    Membership.objects.bulk_create(Membership(**row) for _, row in standing)
    admins = standing[: len(owners)] + [each for each in standing[len(owners) :] if each[0] in ("lena", "sam")]
    RoleGrant.objects.bulk_create(RoleGrant(role=RoleName.ADMIN, **row) for _, row in admins)


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


def _write_key(organization: Organization, group: Group, member: User) -> tuple[ApiKey, str]:
    text = new_key_text()
    key = ApiKey.objects.create(
        organization=organization,
        group=group,
        member=member,
        name="Mia's key",
        public_id=text.public_id,
        digest=digest(text.text),
        last_four=text.last_four,
        created_by=member,
    )
    audit_as(member, "key.created", organization=organization, target=key)
    return key, text.text


def operator() -> Operator:
    """Of the installation; a member nowhere."""
    user = make_user(f"olive.{secrets.token_hex(4)}@example.test", name="Olive")
    User.objects.filter(pk=user.pk).update(is_staff=True)
    user.refresh_from_db()
    return Operator(user)
