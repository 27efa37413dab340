"""A first simulation of a new installation: it begins with days that have calls, and its page says what each figure counts."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from html import unescape

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from guardrails import windows
from orgs.models import Organization
from proxy.models import Simulation
from proxy.simulating import spans
from proxy.simulating.proposal import Target
from tests.actors import World, signed_in
from tests.ledger_rows import call_row, insert_calls, refused_row
from tests.proxy.simulations import budget, made_calls, noahs_key, simulated, typed, wanted


def address(world: World, path: str = "new/") -> str:
    return f"/o/{world.acme.slug}/guardrails/simulations/{path}"


def page(world: World, path: str = "new/") -> str:
    return unescape(signed_in(world, "alice").get(address(world, path)).content.decode())


def last_month(world: World) -> spans.Span:
    return spans.last_month(now=timezone.now(), calendar=windows.Calendar.of(world.acme))


def chosen(world: World) -> str:
    found = re.search(r'name="span" value="([a-z_]+)"[^>]* checked', page(world))
    assert found
    return found[1]


def called_on(world: World, *days: int, before: datetime | None = None) -> None:
    """A call an hour after the beginning of each of these days of the month before this one, counted from 0."""
    starts = before or last_month(world).starts_at
    insert_calls(*(call_row(world.key, at=starts + timedelta(days=day, hours=1)) for day in days))


@pytest.mark.parametrize(
    ("days", "span"),
    [((), "this_month"), ((27,), "this_month"), ((3, 3, 3, 3, 3, 9, 27), "this_month"), ((0, 1, 2, 26), "last_month")],
)
def test_it_begins_with_the_month_before_only_where_that_has_calls_on_more_than_few_days(
    world: World, days: tuple[int, ...], span: str
) -> None:
    called_on(world, *days)
    assert chosen(world) == span


def test_only_calls_of_the_month_and_of_the_organisation_that_were_let_through_count(world: World) -> None:
    month = last_month(world)
    called_on(world, 1, 2, 3)
    called_on(world, -1, -2, (month.ends_at - month.starts_at).days)
    insert_calls(*(refused_row(world.key, at=month.starts_at + timedelta(days=day)) for day in (5, 6, 7)))
    assert chosen(world) == "this_month"


def test_days_are_those_of_the_organisation(world: World) -> None:
    Organization.objects.filter(pk=world.acme.pk).update(time_zone="Asia/Kathmandu", reset_hour=6)
    world.acme.refresh_from_db()
    called_on(world, 0, 1, 2, 3)
    assert chosen(world) == "last_month"
    Organization.objects.filter(pk=world.acme.pk).update(reset_hour=8)
    assert chosen(world) == "this_month"


def test_what_was_sent_stays_chosen(world: World) -> None:
    sent = typed(world, span="last_month", budget_month="nothing")
    shown = signed_in(world, "alice").post(address(world), sent).content.decode()
    assert re.search(r'name="span" value="last_month"[^>]* checked', shown)


def test_the_form_costs_few_queries(world: World, django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    page(world)
    with django_assert_max_num_queries(12):
        page(world)


def test_a_policy_that_must_be_chosen_is_never_called_optional(world: World) -> None:
    label = page(world)
    label = label[label.index('for="id_policy"') :]
    assert "optional" not in label[: label.index("</label>")]
    sent = typed(world, source="policy")
    assert "Choose the policy to try." in signed_in(world, "alice").post(address(world), sent).content.decode()
    assert not Simulation.objects.filter(organization=world.acme).exists()


def test_the_page_says_which_calls_each_figure_counts(world: World) -> None:
    made_calls(world.key, 1, 1, 1)
    made_calls(noahs_key(world), 1)
    done = simulated(wanted(world, budget(50), targets=(Target("group", world.engineering.pk),)), by=world.actor("alice"))
    shown = page(world, f"{done.pk}/")
    assert "4 calls of the whole organisation in " in shown
    assert "; 3 of them fall under what was tried" in shown
    assert "0% of 3 calls under what was tried" in shown
