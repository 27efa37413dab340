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
from django.db import transaction
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
# By level: name → parent, left and right number, as django-mptt gives them to groups in the order of their names.
TREE = (
    {"engineering": ("root", 2, 9), "sales": ("root", 10, 13)},
    {"platform": ("engineering", 3, 8), "field": ("sales", 11, 12)},
    {"gateway": ("platform", 4, 7)},
    {"core": ("gateway", 5, 6)},
)


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
        acme, other = _write_organizations(tag, users)
        groups = _write_tree(acme)
        places = {"lena": "engineering", "sam": "platform", "mia": "gateway", "noah": "field"}
        Membership.objects.bulk_create(
            Membership(user=users[name], organization=acme, group=groups[node]) for name, node in places.items()
        )
        RoleGrant.objects.bulk_create(
            RoleGrant(user=users[name], organization=acme, group=groups[places[name]], role=RoleName.ADMIN)
            for name in ("lena", "sam")
        )
        assistant = Application.objects.create(
            organization=acme,
            group=groups["platform"],
            name="Assistant",
            slug="assistant",
            features=FEATURES,
            environments=STAGES,
        )
        key, text = _write_key(groups["gateway"], users["mia"])
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
    for name, node in (("lena", "engineering"), ("sam", "platform"), ("mia", "gateway"), ("noah", "field")):
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


def _write_organizations(tag: str, users: dict[str, User]) -> tuple[Organization, Organization]:
    """With their root groups and owners; and Mia's own."""
    acme, other = (Organization(name=f"{name} {tag}", slug=f"{name.lower()}-{tag}") for name in ("Acme", "Other"))
    own = Organization(name="Mia", slug=f"mia-{tag}", kind=Organization.Kind.PERSONAL)
    owners = {"alice": acme, "charlie": other, "mia": own}
    Organization.objects.bulk_create(owners.values())
    roots = [Group(organization=one, name=one.name, level=0, lft=1, rght=2, tree_id=one.pk) for one in owners.values()]  # type: ignore[no-untyped-call]
    Group._base_manager.bulk_create(roots)
    standing = [
        {"user": users[name], "organization": root.organization, "group": root} for name, root in zip(owners, roots, strict=True)
    ]
    Membership.objects.bulk_create(Membership(**row) for row in standing)
    RoleGrant.objects.bulk_create(RoleGrant(role=RoleName.ADMIN, **row) for row in standing)
    for organization in owners.values():
        epoch.changing(organization.pk)
    return acme, other


def _write_tree(organization: Organization) -> dict[str, Group]:
    """Parents before their children, so that each row finds its parent's id."""
    groups = {"root": organization.root}
    for level, nodes in enumerate(TREE, start=1):
        for name, (parent, left, right) in nodes.items():
            groups[name] = Group(
                organization=organization,
                parent=groups[parent],
                name=name,
                level=level,
                lft=left,
                rght=right,
                tree_id=organization.pk,
            )  # type: ignore[no-untyped-call]
        Group._base_manager.bulk_create(groups[name] for name in nodes)
    Group.objects.filter(pk=groups["root"].pk).update(rght=14)
    # The ancestors of each have to show the root as it is now.
    return {name: Group.objects.get(pk=group.pk) for name, group in groups.items()}


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


def _write_key(group: Group, member: User) -> tuple[ApiKey, str]:
    text = new_key_text()
    key = ApiKey.objects.create(
        organization=group.organization,
        group=group,
        member=member,
        name="Mia's key",
        public_id=text.public_id,
        digest=digest(text.text),
        last_four=text.last_four,
        created_by=member,
    )
    audit_as(member, "key.created", organization=group.organization, target=key)
    return key, text.text


def operator() -> Operator:
    """Of the installation; a member nowhere."""
    user = make_user(f"olive.{secrets.token_hex(4)}@example.test", name="Olive")
    User.objects.filter(pk=user.pk).update(is_staff=True)
    user.refresh_from_db()
    return Operator(user)
