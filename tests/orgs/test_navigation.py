"""The menu and what else every page knows. Pages and entries are those of door_urls.py."""

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.urls import NoReverseMatch
from pytest_django import DjangoAssertNumQueries, Settings

from orgs import navigation
from orgs.context import console
from orgs.doors import LAST_ORGANIZATION
from orgs.models import Organization
from orgs.navigation import Entry, Section, links
from orgs.permissions import Permission
from tests.actors import World

pytestmark = pytest.mark.urls("tests.orgs.door_urls")

ENTRIES = [
    Entry("Guardrails", "doors:guardrails", "shield", Permission.MANAGE_GUARDRAILS, position=5, section=Section.GOVERN),
    Entry("Overview", "doors:overview", "layout-dashboard", Permission.VIEW_OWN, position=10),
    Entry("Times", "doors:clock", "clock", Permission.VIEW_OWN, position=20),
]


def request_of(world: World, name: str, path: str, *, last: str = "") -> HttpRequest:
    request = RequestFactory().get(path)
    request.user = getattr(world, name)
    request.session = SessionStore()
    request.session[LAST_ORGANIZATION] = last
    return request


def test_the_menu_shows_what_one_may_open_in_order(world: World) -> None:
    base = f"/o/{world.acme.slug}/doors/"
    menu = links(world.actor("lena"), path=base, entries=ENTRIES)
    assert [(link.label, link.url, link.section) for link in menu] == [
        ("Overview", base, ""),
        ("Times", f"{base}clock/", ""),
        ("Guardrails", f"{base}guardrails/", "Govern"),
    ]
    assert [link.label for link in links(world.actor("mia"), path=base, entries=ENTRIES)] == ["Overview", "Times"]


@pytest.mark.parametrize(
    ("path", "active"), [("", ["Overview"]), ("clock/", ["Times"]), ("clock/7/", ["Times"]), ("strict/", ["Overview"])]
)
def test_the_longest_beginning_of_the_path_is_active(world: World, path: str, active: list[str]) -> None:
    menu = links(world.actor("alice"), path=f"/o/{world.acme.slug}/doors/{path}", entries=ENTRIES)
    assert [link.label for link in menu if link.active] == active


def test_outside_the_organisation_nothing_is_active(world: World) -> None:
    assert not any(link.active for link in links(world.actor("alice"), path="/accounts/email/", entries=ENTRIES))


def test_an_entry_without_a_page_is_an_error(world: World) -> None:
    entry = Entry("Nowhere", "doors:nowhere", "x", Permission.VIEW_OWN, position=1)
    with pytest.raises(NoReverseMatch):
        links(world.actor("alice"), path="/", entries=[entry])


def test_an_entry_is_registered_once() -> None:
    entry = Entry("Twice", "doors:clock", "clock", Permission.VIEW_OWN, position=99)
    before = list(navigation.ENTRIES)
    try:
        navigation.register(entry)
        navigation.register(entry)
        assert [*before, entry] == navigation.ENTRIES
    finally:
        navigation.ENTRIES[:] = before


def test_a_page_knows_viewer_organisation_and_organisations(world: World) -> None:
    context = console(request_of(world, "mia", "/accounts/email/"))
    viewer = context["viewer"]
    assert (viewer.email, viewer.display_name, viewer.initials, viewer.role_label) == (world.mia.email, "Mia", "M", "Member")
    assert context["organization"] == world.acme
    own = Organization.objects.get(kind="personal", memberships__user=world.mia)
    assert [(choice.name, choice.kind, choice.initial, choice.switch_url) for choice in context["organizations"]] == [
        (world.acme.name, "company", "A", f"/switch/{world.acme.slug}/"),
        ("Mia", "personal", "M", f"/switch/{own.slug}/"),
    ]


def test_outside_an_organisation_the_last_one_stays_in_view(world: World) -> None:
    own = Organization.objects.get(kind="personal", memberships__user=world.mia)
    context = console(request_of(world, "mia", "/accounts/email/", last=own.slug))
    assert context["organization"] == own
    assert context["viewer"].role_label == "Owner"
    assert console(request_of(world, "mia", "/", last=world.other.slug))["organization"] == world.acme


def test_strangers_and_people_without_an_organisation_see_an_empty_frame(world: World, rf: RequestFactory) -> None:
    assert console(rf.get("/")) == {}
    world.noah.memberships.all().delete()
    context = console(request_of(world, "noah", "/"))
    assert not context["organization"]
    assert list(context["navigation"]) == list(context["organizations"]) == []
    assert context["viewer"].role_label == ""


def test_a_page_that_shows_nothing_of_it_costs_no_query(world: World, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    request = request_of(world, "mia", "/")
    with django_assert_num_queries(0):
        console(request)


def test_the_whole_frame_costs_at_most_four_queries(world: World, django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    request = request_of(world, "mia", "/")
    with django_assert_max_num_queries(4):
        context = console(request)
        for name in ("navigation", "organizations", "viewer", "organization"):
            str(context[name])


def test_a_page_with_its_frame_costs_few_queries(
    world: World, settings: Settings, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    """Session, person, organisation, memberships, grants, organisations of the switcher."""
    settings.USERSESSIONS_TRACK_ACTIVITY = False
    client = Client()
    client.force_login(world.alice)
    client.get(f"/o/{world.acme.slug}/doors/chrome/")
    with django_assert_max_num_queries(6):
        page = client.get(f"/o/{world.acme.slug}/doors/chrome/").content.decode()
    assert world.acme.name in page
    assert "Super Admin" in page
