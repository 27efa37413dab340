"""The page of an organisation's directory: its token, shown once, and what the directory's groups give."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from orgs.models import AuditEvent
from orgs.permissions import Permission
from orgs.scim_models import DirectoryGroup, Provisioning
from orgs.services.members import grant_role
from orgs.services.organizations import create_personal_account
from orgs.services.roles import create_role
from orgs.sso_models import SsoConnection
from tests.actors import World
from tests.orgs.scim.directory import Caller, connect, domain_of, nodes_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(world: World) -> Client:
    client = Client()
    client.force_login(world.alice)
    return client


def url(world: World, name: str, **more: int) -> str:
    return reverse(f"provisioning:{name}", kwargs={"org": world.acme.slug, **more})


def token_in(page: str) -> str:
    found = re.findall(r"gh_scim_[A-Za-z0-9]{43}", page)
    assert found
    return str(found[0])


def issue(world: World, client: Client) -> str:
    answer = client.post(url(world, "token"), {"group": world.sales.pk})
    assert answer.status_code == 200
    return token_in(answer.content.decode())


def test_a_token_is_shown_once_and_kept_as_a_digest(world: World, client: Client) -> None:
    assert "No directory yet" in client.get(url(world, "page")).content.decode()
    token = issue(world, client)
    row = Provisioning.objects.get(organization=world.acme)
    assert (row.group, row.last_four, row.issued_by) == (world.sales, token[-4:], world.alice)
    assert token.encode() not in bytes(row.digest or b"")
    page = client.get(url(world, "page")).content.decode()
    assert token not in page
    assert f"…{token[-4:]}" in page
    assert "/scim/v2" in page
    assert "no domain is verified" in page
    event = AuditEvent.objects.filter(organization=world.acme).latest("pk")
    assert (event.action, event.after) == ("provisioning.token_issued", {"last_four": token[-4:], "group": world.sales.pk})


def test_when_it_was_last_used_is_shown(world: World, client: Client) -> None:
    token = issue(world, client)
    assert "never" in client.get(url(world, "page")).content.decode()
    assert Caller(token)("GET", "Users").status == 200
    row = Provisioning.objects.get(organization=world.acme)
    assert row.last_used_at
    assert Caller(token)("GET", "Users").status == 200
    assert Provisioning.objects.get(organization=world.acme).last_used_at == row.last_used_at
    Provisioning.objects.filter(pk=row.pk).update(last_used_at=row.last_used_at - timedelta(minutes=2))
    assert Caller(token)("GET", "Users").status == 200
    assert Provisioning.objects.filter(pk=row.pk, last_used_at__gte=row.last_used_at).exists()


def test_a_new_token_ends_the_one_before_and_revoking_ends_both(world: World, client: Client) -> None:
    old = issue(world, client)
    new = issue(world, client)
    assert [Caller(token)("GET", "Users").status for token in (old, new)] == [401, 200]
    asked = client.get(url(world, "revoke")).content.decode()
    assert "Whom it brought in stays a member" in asked
    assert client.post(url(world, "revoke")).headers["location"] == url(world, "page")
    assert Caller(new)("GET", "Users").status == 401
    assert client.post(url(world, "revoke")).status_code == 302
    told = AuditEvent.objects.filter(organization=world.acme, action__startswith="provisioning.").order_by("pk")
    actions = told.values_list("action", flat=True)
    assert [action.partition(".")[2] for action in actions] == ["token_issued", "token_rotated", "token_revoked"]
    assert Caller(issue(world, client))("GET", "Users").status == 200


def test_the_group_of_newcomers_can_be_chosen(world: World, client: Client) -> None:
    scim = connect(world)
    first = scim.user(f"first@{domain_of(world.acme)}")
    assert client.post(url(world, "default_group"), {"group": world.field.pk}).status_code == 302
    second = scim.user(f"second@{domain_of(world.acme)}")
    people = [
        AuditEvent.objects.get(action="directory.user_created", object_id=made["id"]).after["user"] for made in (first, second)
    ]
    groups = [list(nodes_of(person, world.acme)) for person in people]
    assert groups == [[world.root.name], ["field"]]


def test_a_group_of_the_directory_is_linked_on_the_page(world: World, client: Client) -> None:
    scim = connect(world)
    ada = scim.user(f"ada@{domain_of(world.acme)}")
    row = DirectoryGroup.objects.get(pk=scim.group("Engineers", ada["id"])["id"])
    link = url(world, "link", directory_group_id=row.pk)
    assert "What Engineers gives" in client.get(link).content.decode()
    done = client.post(link, {"group": world.engineering.pk, "role": "auditor"}, HTTP_HX_REQUEST="true")
    assert done.headers["HX-Redirect"] == url(world, "page")
    page = client.get(url(world, "page")).content.decode()
    assert '<td data-label="Makes them members of">engineering</td>' in page
    assert '<td data-label="Role there">Auditor</td>' in page
    own = create_role(world.root, name="Key keeper", permissions=[Permission.MANAGE_KEYS], by=world.actor("alice"))
    assert f'value="role-{own.pk}">Key keeper' in client.get(link).content.decode()
    client.post(link, {"group": world.engineering.pk, "role": f"role-{own.pk}"})
    assert '<td data-label="Role there">Key keeper</td>' in client.get(url(world, "page")).content.decode()
    assert f'value="role-{own.pk}" selected' in client.get(link).content.decode()


@pytest.mark.parametrize(
    "data", [{"group": ""}, {"group": "x"}, {"group": "{other}"}, {"group": "{archived}"}, {"group": "9" * 30}, {}]
)
def test_a_bad_choice_is_said_and_changes_nothing(world: World, client: Client, data: dict[str, str]) -> None:
    type(world.field).objects.filter(pk=world.sales.pk).update(archived_at="2026-01-01T00:00:00Z")
    ids: dict[str, Any] = {"other": world.other.root.pk, "archived": world.field.pk}
    filled = {name: value.format(**ids) for name, value in data.items()}
    assert client.post(url(world, "token"), filled).status_code == 422
    assert not Provisioning.objects.filter(organization=world.acme).exists()


def test_a_role_needs_a_group(world: World, client: Client) -> None:
    row = DirectoryGroup.objects.get(pk=connect(world).group("Engineers")["id"])
    link = url(world, "link", directory_group_id=row.pk)
    for data in ({"group": "", "role": "admin"}, {"group": str(world.sales.pk), "role": "owner"}):
        assert client.post(link, data).status_code == 422
    row.refresh_from_db()
    assert (row.group, row.role) == (None, "")


def test_another_organisations_group_is_absent(world: World, client: Client) -> None:
    theirs = connect(world, organization="other", owner="charlie").group("Theirs")
    for method in (client.get, client.post):
        assert method(url(world, "link", directory_group_id=int(theirs["id"]))).status_code == 404


def test_a_personal_account_has_no_directory(world: World) -> None:
    home = create_personal_account(world.mia)
    client = Client()
    client.force_login(world.mia)
    answer = client.post(reverse("provisioning:token", kwargs={"org": home.slug}), {"group": home.root.pk})
    assert answer.status_code == 422
    assert "has no directory" in answer.content.decode()


def test_the_page_costs_few_queries(world: World, client: Client, django_assert_max_num_queries: Any) -> None:
    scim = connect(world)
    for number in range(4):
        scim.group(f"Group {number}", scim.user(f"person{number}@{domain_of(world.acme)}")["id"])
    with django_assert_max_num_queries(12):
        assert client.get(url(world, "page")).status_code == 200


def test_who_manages_settings_alone_opens_no_door_to_every_role(world: World) -> None:
    """A directory could make its holder a Super Admin, and an identity provider sign it in as anybody."""
    scim, alice = connect(world, group=world.sales), world.actor("alice")
    made = scim.group("Engineers")
    held = Provisioning.objects.get(organization=world.acme).digest
    named = [Permission.MANAGE_SETTINGS, Permission.GRANT_ROLES, Permission.VIEW_USAGE]
    grant_role(world.noah, role=create_role(world.root, name="Settings", permissions=named, by=alice), group=world.root, by=alice)
    noah = Client()
    noah.force_login(world.noah)
    assert noah.get(url(world, "page")).status_code == 200
    connection = {"kind": "oidc", "name": "Mine", "group": world.field.pk, "admits_new": "on"}
    for address, form in (
        (url(world, "token"), {"group": world.sales.pk}),
        (url(world, "link", directory_group_id=int(made["id"])), {"group": world.root.pk, "role": "admin"}),
        (f"/o/{world.acme.slug}/security/sso/new/", connection),
    ):
        assert noah.post(address, form).status_code == 403
    assert Provisioning.objects.get(organization=world.acme).digest == held
    assert DirectoryGroup.objects.get(pk=made["id"]).group is None
    assert not SsoConnection.objects.filter(organization=world.acme).exists()
