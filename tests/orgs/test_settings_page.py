"""The settings of an organisation: what its Super Admins see and save."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from orgs.models import AuditEvent, Organization
from tests.actors import World

pytestmark = pytest.mark.django_db


def page_of(world: World) -> str:
    return f"/o/{world.acme.slug}/settings/"


def client_of(world: World, name: str) -> Client:
    client = Client()
    client.force_login(getattr(world, name))
    return client


def form_of(world: World, **changed: Any) -> dict[str, Any]:
    kept = {"name": world.acme.name, "time_zone": "UTC", "week_start": "0", "fiscal_month": "1", "reset_hour": "0"}
    return {**kept, "content_retention_hours": "0", "content_sample_percent": "100", **changed}


def save(world: World, **changed: Any) -> Organization:
    answer = client_of(world, "alice").post(page_of(world), form_of(world, **changed))
    assert (answer.status_code, answer.headers["location"]) == (302, page_of(world))
    return Organization.objects.get(pk=world.acme.pk)


def refused(world: World, **changed: Any) -> str:
    answer = client_of(world, "alice").post(page_of(world), form_of(world, **changed))
    assert answer.status_code == 422
    assert not AuditEvent.objects.filter(organization=world.acme, action="organization.changed").exists()
    return unescape(answer.content.decode())


def test_the_page_shows_what_is_set(world: World) -> None:
    chosen: dict[str, Any] = {"time_zone": "Asia/Kathmandu", "week_start": 6, "fiscal_month": 7, "reset_hour": 5}
    Organization.objects.filter(pk=world.acme.pk).update(**chosen)

    page = client_of(world, "alice").get(page_of(world)).content.decode()

    assert 'value="Asia/Kathmandu"' in page
    assert '<option value="6" selected>Sunday</option>' in page
    assert '<option value="7" selected>July</option>' in page
    assert '<option value="5" selected>05:00</option>' in page
    assert '<option value="America/Santiago"></option>' in page
    assert "US/Pacific" not in page


def test_each_part_of_the_page_has_its_anchor(world: World) -> None:
    for where, parts in ((world.acme, 6), (Organization.objects.get(kind="personal", memberships__user=world.mia), 5)):
        owner = "mia" if where != world.acme else "alice"
        page = client_of(world, owner).get(f"/o/{where.slug}/settings/").content.decode()
        toc = page[page.index('aria-label="Sections"') : page.index("<form", page.index('aria-label="Sections"'))]
        anchors = re.findall(r'href="#([a-z]+)"', toc)
        assert anchors == re.findall(r'<section class="card[^"]*" id="([a-z]+)"', page)
        assert len(anchors) == parts


def test_a_page_costs_few_queries(world: World, django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    client = client_of(world, "alice")
    client.get(page_of(world))
    with django_assert_max_num_queries(12):
        client.get(page_of(world))


def test_everything_is_saved_at_once_and_said(world: World) -> None:
    client = client_of(world, "alice")
    wanted = form_of(
        world,
        name="Acme Two",
        time_zone="America/Santiago",
        week_start="6",
        fiscal_month="4",
        reset_hour="5",
        attribution_required="on",
        admit_unguarded="on",
        content_retention_hours="48",
        content_sample_percent="25",
    )

    page = client.post(page_of(world), wanted, follow=True).content.decode()

    saved = Organization.objects.get(pk=world.acme.pk)
    assert (saved.name, saved.time_zone, saved.root.name) == ("Acme Two", "America/Santiago", "Acme Two")
    assert (saved.week_start, saved.fiscal_month, saved.reset_hour) == (6, 4, 5)
    assert (saved.attribution_required, saved.admit_unguarded, saved.approval_since) == (True, True, None)
    assert (saved.content_retention_hours, saved.content_sample_percent) == (48, 25)
    assert "The settings are saved." in page


def test_zero_data_retention_is_switched_on_and_off_and_takes_no_kept_contents_with_it(world: World) -> None:
    told = refused(world, zdr_only="on", content_retention_hours="48")
    assert "With zero data retention no contents are kept here either" in told
    assert re.search(r'<input[^>]*name="zdr_only"[^>]* checked', told)
    assert save(world, zdr_only="on").zdr_only
    assert re.search(r'<input[^>]*name="zdr_only"[^>]* checked', client_of(world, "alice").get(page_of(world)).content.decode())
    assert not save(world).zdr_only


def test_saving_what_stands_there_changes_nothing(world: World) -> None:
    save(world)
    assert not AuditEvent.objects.filter(organization=world.acme, action="organization.changed").exists()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"time_zone": "Mars/Olympus"}, "is not a time zone"),
        ({"time_zone": "localtime"}, "is not a time zone"),
        ({"name": "bell\x07"}, "visible characters"),
        ({"week_start": "7"}, "Select a valid choice"),
        ({"fiscal_month": "0"}, "Select a valid choice"),
        ({"reset_hour": "noon"}, "Select a valid choice"),
        ({"content_retention_hours": "721"}, "less than or equal to 720"),
        ({"content_retention_hours": "-1"}, "greater than or equal to 0"),
        ({"content_retention_hours": ""}, "This field is required"),
        ({"content_sample_percent": "0"}, "greater than or equal to 1"),
        ({"content_sample_percent": "101"}, "less than or equal to 100"),
        ({"content_sample_percent": "half"}, "Enter a whole number"),
        ({"approval_required": "on", "approval_from": "yesterday"}, "Enter a valid date"),
        ({"approval_required": "on", "approval_from": "0001-01-01"}, "Enter a valid date"),
    ],
)
def test_a_setting_that_makes_no_sense_is_told_at_its_field(world: World, changed: dict[str, str], told: str) -> None:
    assert told in refused(world, **changed)


def test_what_was_typed_stays_when_something_is_wrong(world: World) -> None:
    page = refused(world, time_zone="Mars", name="Acme Three", reset_hour="6")
    assert 'value="Acme Three"' in page
    assert '<option value="6" selected>' in page


def test_approval_counts_from_now_on_unless_a_day_is_given(world: World) -> None:
    before = timezone.now()
    saved = save(world, approval_required="on")
    assert saved.approval_since is not None
    assert before <= saved.approval_since <= timezone.now()


def test_approval_counts_from_the_beginning_of_a_day_in_the_organisations_time(world: World) -> None:
    saved = save(world, time_zone="Asia/Kathmandu", approval_required="on", approval_from="2026-11-01")
    assert saved.approval_since == datetime(2026, 10, 31, 18, 15, tzinfo=UTC)


def test_the_moment_of_the_switch_survives_saving_another_setting(world: World) -> None:
    since = timezone.now() - timedelta(days=3)
    Organization.objects.filter(pk=world.acme.pk).update(approval_since=since)

    saved = save(world, approval_required="on", approval_from=f"{since:%Y-%m-%d}", reset_hour="4")

    assert (saved.approval_since, saved.reset_hour) == (since, 4)


def test_the_date_of_approval_outlives_a_while_without_it(world: World) -> None:
    since = timezone.now() - timedelta(days=30)
    Organization.objects.filter(pk=world.acme.pk).update(approval_since=since)
    client, day = client_of(world, "alice"), f"{since:%Y-%m-%d}"

    client.post(page_of(world), form_of(world, approval_from=day))
    off = Organization.objects.get(pk=world.acme.pk).approval_since
    shown = client.get(page_of(world)).content.decode()
    client.post(page_of(world), form_of(world, approval_required="on", approval_from=day))

    assert off is None
    assert f'value="{day}"' in shown
    assert Organization.objects.get(pk=world.acme.pk).approval_since == since


@pytest.mark.parametrize(
    ("typed", "zone"),
    [
        ("Tokyo", "Asia/Tokyo"),
        ("new york", "America/New_York"),
        ("  MEXICO   city ", "America/Mexico_City"),
        ("europe/berlin", "Europe/Berlin"),
        ("america/port of spain", "America/Port_of_Spain"),
        ("Singapore", "Singapore"),
        ("utc", "UTC"),
    ],
)
def test_a_city_will_do_for_a_time_zone(world: World, typed: str, zone: str) -> None:
    assert save(world, time_zone=typed).time_zone == zone


@pytest.mark.parametrize("typed", ["Indianapolis", "Pacific", "York", "", "Asia"])
def test_a_city_that_two_zones_are_called_after_will_not(world: World, typed: str) -> None:
    refused(world, time_zone=typed)


def test_approval_can_be_switched_off(world: World) -> None:
    Organization.objects.filter(pk=world.acme.pk).update(approval_since=timezone.now())
    assert save(world, approval_from="2026-11-01").approval_since is None


@pytest.mark.parametrize("name", ["lena", "sam", "mia"])
def test_only_who_manages_the_whole_organisation_may_see_and_save_them(world: World, name: str) -> None:
    client = client_of(world, name)
    assert client.get(page_of(world)).status_code == 403
    assert client.post(page_of(world), form_of(world, name="Mine")).status_code == 403
    assert Organization.objects.get(pk=world.acme.pk).name == world.acme.name


@pytest.mark.parametrize(("name", "listed"), [("alice", True), ("lena", False), ("sam", False), ("mia", False)])
def test_the_menu_leads_there_for_who_may_open_it(world: World, name: str, listed: bool) -> None:
    page = client_of(world, name).get(f"/o/{world.acme.slug}/keys/").content.decode()
    assert (f'href="{page_of(world)}"' in page) is listed


@pytest.mark.parametrize(("name", "warned"), [("alice", True), ("lena", False), ("mia", False)])
def test_who_can_end_it_is_warned_on_every_page_while_calls_pass_unguarded(world: World, name: str, warned: bool) -> None:
    keys, client = f"/o/{world.acme.slug}/keys/", client_of(world, name)
    assert "Fail-open" not in client.get(keys).content.decode()

    Organization.objects.filter(pk=world.acme.pk).update(admit_unguarded=True)

    assert ("Fail-open" in client.get(keys).content.decode()) is warned


def test_a_personal_account_has_settings_too(world: World) -> None:
    own = Organization.objects.get(kind="personal", memberships__user=world.mia)
    answer = client_of(world, "mia").post(f"/o/{own.slug}/settings/", form_of(world, name="Mia", time_zone="Europe/Berlin"))
    assert answer.status_code == 302
    own.refresh_from_db()
    assert own.time_zone == "Europe/Berlin"
