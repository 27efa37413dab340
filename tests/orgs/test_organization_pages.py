"""Making an organisation: by whom, under which address, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from orgs.actor import Actor
from orgs.models import Organization, User
from orgs.permissions import Permission
from tests.actors import make_user

pytestmark = pytest.mark.django_db
PAGE = "/organizations/new/"


@pytest.fixture
def zoe() -> User:
    return make_user("zoe@example.test", name="Zoe")


def posted(user: User, **typed: Any) -> Any:
    client = Client()
    client.force_login(user)
    return client.post(PAGE, {"name": "Tin Works", "time_zone": "Europe/Berlin", **typed})


@pytest.mark.parametrize(("slug", "made"), [("", "tin-works"), ("tin", "tin")])
def test_whoever_makes_it_is_its_super_admin(zoe: User, slug: str, made: str) -> None:
    response = posted(zoe, slug=slug)
    assert response.headers["location"] == f"/o/{made}/"
    organization = Organization.objects.get(slug=made)
    assert (organization.name, organization.time_zone, organization.kind) == ("Tin Works", "Europe/Berlin", "company")
    assert Actor.load(zoe, organization=organization).can(Permission.MANAGE_SETTINGS, organization.root)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"name": " "}, "This field is required"),
        ({"name": "x" * 121}, "at most 120 characters"),
        ({"slug": "Two Words"}, "Use small letters"),
        ({"slug": "-a"}, "Use small letters"),
        ({"slug": "a--b"}, "Use small letters"),
        ({"slug": "x" * 61}, "at most 60 characters"),
        ({"slug": "taken"}, "“taken” is taken"),
        ({"time_zone": "Mars/Base"}, "is not a time zone"),
    ],
)
def test_what_is_wrong_stands_at_its_field(zoe: User, typed: dict[str, str], words: str) -> None:
    Organization.objects.create(name="Other", slug="taken")
    response = posted(zoe, **typed)
    assert response.status_code == 422
    assert words in response.content.decode()
    assert not Organization.objects.filter(name="Tin Works").exists()


def test_an_installation_may_leave_it_to_its_operator(zoe: User, settings: Any) -> None:
    settings.ORGANIZATIONS_OPEN = False
    assert posted(zoe).status_code == 403
    zoe.is_staff = True
    zoe.save()
    assert posted(zoe).status_code == 302


@pytest.mark.parametrize("is_open", [True, False])
def test_the_switcher_offers_it_to_whoever_may(zoe: User, settings: Any, is_open: bool) -> None:
    posted(zoe)
    settings.ORGANIZATIONS_OPEN = is_open
    client = Client()
    client.force_login(zoe)
    assert (f'href="{PAGE}"' in client.get("/o/tin-works/").content.decode()) is is_open
