"""What the settings page shows of a calendar that is being chosen."""

import re
from datetime import UTC, datetime

import pytest
from django.test import Client

from guardrails.calendar_views import running_windows
from guardrails.windows import Calendar
from orgs.models import Organization
from tests.actors import World

pytestmark = pytest.mark.django_db
# A Friday; the clocks of Berlin go back on 25 October.
NOVEMBER = datetime(2026, 11, 20, 12, tzinfo=UTC)


def shown(calendar: Calendar, now: datetime = NOVEMBER) -> dict[str, tuple[str, str]]:
    return {
        window.label: (f"{window.starts_at:%a %d %b %Y %H:%M}", f"{window.ends_at:%a %d %b %Y %H:%M}")
        for window in running_windows(calendar, now=now)
    }


def preview(world: World, **query: str) -> str:
    client = Client()
    client.force_login(world.alice)
    answer = client.get(f"/o/{world.acme.slug}/settings/calendar/", query)
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


def test_every_window_is_shown_in_the_calendars_own_time() -> None:
    assert shown(Calendar("Asia/Kathmandu", week_start=6, fiscal_month=4, reset_hour=5)) == {
        "Today": ("Fri 20 Nov 2026 05:00", "Sat 21 Nov 2026 05:00"),
        "This week": ("Sun 15 Nov 2026 05:00", "Sun 22 Nov 2026 05:00"),
        "This month": ("Sun 01 Nov 2026 05:00", "Tue 01 Dec 2026 05:00"),
        "This quarter": ("Thu 01 Oct 2026 05:00", "Fri 01 Jan 2027 05:00"),
        "This fiscal year": ("Wed 01 Apr 2026 05:00", "Thu 01 Apr 2027 05:00"),
    }


@pytest.mark.parametrize(
    ("moment", "hours"), [("2026-10-25T12:00+00:00", "25"), ("2026-03-29T12:00+00:00", "23"), ("2026-11-20T12:00+00:00", "")]
)
def test_a_day_that_is_longer_or_shorter_says_so(moment: str, hours: str) -> None:
    today, week, *_ = running_windows(Calendar("Europe/Berlin"), now=datetime.fromisoformat(moment))
    assert (today.hours, week.hours) == (hours, "")


def test_half_hours_are_told() -> None:
    today, *_ = running_windows(Calendar("Australia/Lord_Howe"), now=datetime(2026, 4, 5, 1, tzinfo=UTC))
    assert today.hours == "24.5"


def test_the_page_asks_with_what_is_chosen_so_far(world: World) -> None:
    page = preview(world, time_zone="Asia/Tokyo", week_start="6", fiscal_month="4", reset_hour="5")
    assert "Now in Asia/Tokyo" in page
    assert len(re.findall(r"began \w{3}, \w{3} \d+, \d{4}, 05:00", page)) == 5
    assert "This week began Sun" in page
    assert re.search(r"This fiscal year began \w{3}, Apr 1,", page)


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"time_zone": "Mars/Olympus", "week_start": "7", "fiscal_month": "13", "reset_hour": "24"},
        {"time_zone": "../../etc/passwd", "week_start": "-1", "fiscal_month": "٣", "reset_hour": "5.5"},
        {"time_zone": "x" * 5000, "week_start": "9" * 5000, "fiscal_month": "0", "reset_hour": ""},
    ],
)
def test_what_makes_no_sense_yet_is_shown_as_it_is_kept(world: World, query: dict[str, str]) -> None:
    Organization.objects.filter(pk=world.acme.pk).update(time_zone="Asia/Kolkata", week_start=5, fiscal_month=7, reset_hour=3)

    page = preview(world, **query)

    assert "Now in Asia/Kolkata" in page
    assert len(re.findall(r"began \w{3}, \w{3} \d+, \d{4}, 03:00", page)) == 5
    assert "This week began Sat" in page
    assert re.search(r"This fiscal year began \w{3}, Jul 1,", page)
