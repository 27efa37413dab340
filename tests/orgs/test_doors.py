"""Who gets through which door. The pages stand in door_urls.py."""

import re

import pytest
from django.test import Client
from django.utils import timezone

from orgs.models import Membership, Organization
from orgs.permissions import RoleName
from orgs.services.members import add_member, grant_role, suspend_member
from orgs.services.organizations import change_settings
from tests.actors import World

pytestmark = pytest.mark.urls("tests.orgs.door_urls")
ACTORS = ("alice", "lena", "sam", "mia", "charlie")


def sign_in(world: World, name: str) -> Client:
    client = Client()
    client.force_login(getattr(world, name))
    return client


@pytest.mark.parametrize(
    ("path", "codes"),
    [
        ("", (200, 200, 200, 200, 404)),
        ("guardrails/", (200, 200, 200, 403, 404)),
        ("either/", (200, 200, 200, 403, 404)),
        ("groups/{root}/", (200, 404, 404, 403, 404)),
        ("groups/{engineering}/", (200, 200, 404, 403, 404)),
        ("groups/{platform}/", (200, 200, 200, 403, 404)),
        ("groups/{core}/", (200, 200, 200, 403, 404)),
        ("groups/{field}/", (200, 404, 404, 403, 404)),
        ("groups/{elsewhere}/", (404, 404, 404, 403, 404)),
        ("groups/999999999999999999999999/", (404, 404, 404, 403, 404)),
        ("strict/", (200, 403, 403, 403, 404)),
    ],
)
def test_each_page_opens_for_whom_it_should(world: World, path: str, codes: tuple[int, ...]) -> None:
    names = ("root", "engineering", "platform", "core", "field", "elsewhere")
    url = f"/o/{world.acme.slug}/doors/" + path.format(**{name: world.group(name).pk for name in names})
    assert tuple(sign_in(world, name).get(url).status_code for name in ACTORS) == codes


def test_a_stranger_cannot_tell_an_organisation_from_none(world: World) -> None:
    client = sign_in(world, "charlie")
    real, none = client.get(f"/o/{world.acme.slug}/doors/"), client.get("/o/no-such-place/doors/")
    assert real.status_code == none.status_code == 404
    pages = {re.sub(r'"X-CSRFToken": "\w+"', "", response.content.decode()) for response in (real, none)}
    assert len(pages) == 1


def test_nobody_gets_in_without_signing_in(world: World, client: Client) -> None:
    url = f"/o/{world.acme.slug}/doors/guardrails/?period=7d"
    response = client.get(url)
    assert response.status_code == 302
    assert response.headers["location"] == f"/accounts/login/?next=/o/{world.acme.slug}/doors/guardrails/%3Fperiod%3D7d"
    assert client.get("/o/no-such-place/doors/").status_code == 302


def test_a_fragment_sends_the_whole_page_to_the_login(world: World, client: Client) -> None:
    page = f"/o/{world.acme.slug}/doors/"
    headers = {"HX-Request": "true", "HX-Current-URL": f"http://testserver{page}"}
    response = client.get(page + "guardrails/", headers=headers)
    assert response.headers["HX-Redirect"] == f"/accounts/login/?next={page}"
    foreign = client.get(page, headers={**headers, "HX-Current-URL": "https://elsewhere.example/steal"})
    assert foreign.headers["HX-Redirect"] == "/accounts/login/?next=/"


def test_the_403_says_what_is_missing_and_who_can_grant_it(world: World) -> None:
    response = sign_in(world, "mia").get(f"/o/{world.acme.slug}/doors/guardrails/")
    page = response.content.decode()
    assert response.status_code == 403
    assert "Manage guardrails" in page
    assert "Sam (Sub-admin) or Lena (L1 Admin) or Alice (Super Admin)" in page
    assert "Noah" not in page


def test_the_403_of_a_node_names_those_above_that_node(world: World) -> None:
    page = sign_in(world, "sam").get(f"/o/{world.acme.slug}/doors/strict/").content.decode()
    assert "Manage settings" in page
    assert "Alice (Super Admin)" in page
    assert "Lena" not in page


def test_suspended_admins_are_not_named_and_get_nowhere(world: World) -> None:
    suspend_member(world.actor("sam").memberships[0], by=world.actor("lena"))
    page = sign_in(world, "mia").get(f"/o/{world.acme.slug}/doors/guardrails/").content.decode()
    assert "Lena (L1 Admin) or Alice (Super Admin)" in page
    assert "Sam" not in page
    assert sign_in(world, "sam").get(f"/o/{world.acme.slug}/doors/").status_code == 403


def test_whoever_is_suspended_is_told_so_and_whom_to_ask(world: World) -> None:
    suspend_member(world.actor("mia").memberships[0], by=world.actor("lena"))
    response = sign_in(world, "mia").get(f"/o/{world.acme.slug}/doors/")
    page = response.content.decode()
    assert (response.status_code, "Your membership is suspended" in page) == (403, True)
    assert "your membership of gateway was suspended" in page
    assert "Ask Sam (Sub-admin) or Lena (L1 Admin) or Alice (Super Admin) to resume it." in page
    assert "permission" not in page


def test_whoever_is_let_in_elsewhere_lacks_a_permission(world: World) -> None:
    add_member(world.mia, group=world.sales, by=world.actor("alice"))
    suspend_member(Membership.objects.get(user=world.mia, group=world.gateway), by=world.actor("lena"))
    page = sign_in(world, "mia").get(f"/o/{world.acme.slug}/doors/guardrails/").content.decode()
    assert "It needs the permission" in page
    assert "suspended" not in page


def test_the_last_super_admin_who_is_suspended_is_sent_to_nobody(world: World) -> None:
    Membership.objects.filter(user=world.alice, organization=world.acme).update(suspended_at=timezone.now())
    page = sign_in(world, "alice").get(f"/o/{world.acme.slug}/doors/").content.decode()
    assert f"your membership of {world.root} was suspended. Nothing is deleted." in page
    assert "to resume it" not in page


def test_a_role_granted_meanwhile_counts_on_the_next_request(world: World) -> None:
    client, url = sign_in(world, "mia"), f"/o/{world.acme.slug}/doors/either/"
    assert client.get(url).status_code == 403
    grant_role(world.mia, role=RoleName.FINANCE, group=world.sales, by=world.actor("alice"))
    assert client.get(url).status_code == 200


def test_a_view_knows_its_organisation_and_actor(world: World) -> None:
    response = sign_in(world, "lena").get(f"/o/{world.acme.slug}/doors/", REMOTE_ADDR="203.0.113.9")
    assert response.content.decode() == f"{world.acme.slug} L1 Admin 203.0.113.9"


def test_times_are_shown_in_the_organisations_time_zone(world: World) -> None:
    change_settings(world.acme, time_zone="Asia/Kathmandu", by=world.actor("alice"))
    assert sign_in(world, "mia").get(f"/o/{world.acme.slug}/doors/clock/").content == b"Asia/Kathmandu"


def test_pages_of_an_organisation_stay_in_no_cache(world: World) -> None:
    for name in ("alice", "mia"):
        response = sign_in(world, name).get(f"/o/{world.acme.slug}/doors/guardrails/")
        assert "no-store" in response.headers["Cache-Control"]


def test_a_view_still_decides_about_methods(world: World) -> None:
    assert sign_in(world, "mia").post(f"/o/{world.acme.slug}/doors/").status_code == 405


def test_pages_of_the_person_need_a_sign_in_and_no_organisation(world: World, client: Client) -> None:
    assert client.get("/profile/").status_code == 302
    assert sign_in(world, "noah").get("/profile/").status_code == 200
    assert client.get("/public/").status_code == 200


def test_one_is_at_home_in_ones_personal_account_only(world: World) -> None:
    own = Organization.objects.get(kind="personal", memberships__user=world.mia)
    assert sign_in(world, "mia").get(f"/o/{own.slug}/doors/guardrails/").status_code == 200
    assert sign_in(world, "alice").get(f"/o/{own.slug}/doors/").status_code == 404
