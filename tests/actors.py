"""The people of the tests: alice (Super Admin), lena (L1 Admin), sam (Sub-admin), mia (Member), charlie (another organisation).
Beside them `operator()`, who runs the installation.

The tree, with who stands where; everything is made through the services:

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

from orgs.actor import Actor
from orgs.models import ApiKey, Application, Group, Organization, User
from orgs.permissions import RoleName
from orgs.services.applications import create_application
from orgs.services.freezing import Operator
from orgs.services.groups import create_group
from orgs.services.keys import create_api_key
from orgs.services.members import add_member, grant_role
from orgs.services.organizations import create_organization, create_personal_account

PEOPLE = ("alice", "lena", "sam", "mia", "noah", "charlie")


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
    """Names and addresses are unique: several worlds fit in one database. Without a password nobody can sign in by form."""
    tag = secrets.token_hex(4)
    users = {name: make_user(f"{name}.{tag}@example.test", name=name.title(), password=password) for name in PEOPLE}
    acme = create_organization(f"Acme {tag}", owner=users["alice"])
    other = create_organization(f"Other {tag}", owner=users["charlie"])
    create_personal_account(users["mia"])
    alice = Actor.load(users["alice"], organization=acme)
    groups = _make_tree(acme, alice)
    for name, node in (("lena", "engineering"), ("sam", "platform"), ("mia", "gateway"), ("noah", "field")):
        add_member(users[name], group=groups[node], by=alice)
    for name, node in (("lena", "engineering"), ("sam", "platform")):
        grant_role(users[name], role=RoleName.ADMIN, group=groups[node], by=alice)
    assistant = create_application(
        groups["platform"], name="Assistant", features=["chat", "search"], environments=["production", "staging"], by=alice
    )
    mia = Actor.load(users["mia"], organization=acme)
    key, text = create_api_key(groups["gateway"], name="Mia's key", member=mia.user, by=mia)
    made: dict[str, Any] = {**groups, **users}
    return World(acme=acme, other=other, assistant=assistant, key=key, key_text=text, **made)


def make_user(email: str, *, name: str = "", password: str | None = None) -> User:
    return User.objects.create_user(email, password, name=name)


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


def operator() -> Operator:
    """Of the installation; a member nowhere."""
    user = make_user(f"olive.{secrets.token_hex(4)}@example.test", name="Olive")
    User.objects.filter(pk=user.pk).update(is_staff=True)
    user.refresh_from_db()
    return Operator(user)
