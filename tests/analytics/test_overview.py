"""The overview: exact sums of the right calls for each person, in few statements, with or without rollups."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from analytics.rollups import roll_up_usage
from billing import credits
from guardrails.services.bindings import bind
from guardrails.services.key_limits import set_key_limits
from guardrails.services.policies import LimitSpec, create_policy
from orgs.models import ApiKey
from orgs.services.keys import create_api_key
from tests.actors import World
from tests.ledger_rows import a_call, call_row, insert_calls, refused_row

COST = 3_000_000  # of a call as tests/ledger_rows.py makes it
DOLLAR = 10**9


def open_as(world: World, name: str, query: str = "") -> Any:
    client = Client()
    client.force_login(getattr(world, name))
    return client.get(f"/o/{world.acme.slug}/{query}")


def limits_as(world: World, name: str) -> Any:
    """What the page loads beside its chart."""
    return open_as(world, name, "usage/limits/")


def key_of(world: World, group: str, name: str) -> ApiKey:
    key, _ = create_api_key(world.group(group), name=f"{name}'s key", member=getattr(world, name), by=world.actor("alice"))
    return key


@pytest.fixture
def calls(world: World) -> World:
    """An hour ago: three of Mia's, two of Noah's, one each of Alice's and Lena's."""
    at = timezone.now() - timedelta(hours=1)
    rows = [call_row(world.key, at=at) for _ in range(3)]
    rows += [call_row(key_of(world, "field", "noah"), at=at) for _ in range(2)]
    rows += [call_row(key_of(world, "root", "alice"), at=at), call_row(key_of(world, "engineering", "lena"), at=at)]
    insert_calls(*rows)
    return world


@pytest.mark.parametrize(("name", "count"), [("alice", 7), ("lena", 4), ("sam", 3), ("mia", 3), ("noah", 2)])
def test_each_person_sees_its_own_part_of_the_tree(calls: World, name: str, count: int) -> None:
    usage = open_as(calls, name).context["usage"]
    assert (usage.total.calls, usage.total.charged, usage.total.tokens) == (count, count * COST, count * 1500)


def test_another_organisation_does_not_exist(calls: World) -> None:
    assert open_as(calls, "charlie").status_code == 404


def test_an_admin_sees_its_own_calls_elsewhere_too(world: World) -> None:
    """Lena is an admin of engineering; what she did at sales is hers to see, what others did there is not."""
    at = timezone.now()
    insert_calls(
        call_row(key_of(world, "field", "noah"), at=at),
        call_row(key_of(world, "field", "noah"), at=at, member_id=world.lena.pk),
    )
    assert open_as(world, "lena").context["usage"].total.calls == 1


def test_rolled_up_or_not_the_figures_are_the_same(calls: World) -> None:
    before = open_as(calls, "alice").context["usage"]
    roll_up_usage()
    a_call(calls.key, at=timezone.now())
    after = open_as(calls, "alice").context["usage"]
    assert after.total.calls == before.total.calls + 1
    assert [share.name for share in after.members] == [share.name for share in before.members]


def test_slots_and_models_sum_up_to_the_total(world: World) -> None:
    now = timezone.now()
    for days, model in ((0, "a"), (1, "b"), (1, "a"), (6, "b"), (29, "a")):
        a_call(world.key, at=now - timedelta(days=days), requested_model=model)
    usage = open_as(world, "mia").context["usage"]
    assert sum(sums.calls for sums in usage.by_slot) == usage.total.calls == 5
    assert {share.name: share.sums.calls for share in usage.models} == {"a": 3, "b": 2}
    assert [sums.calls for sums in usage.by_model["b"]][-7:] == [1, 0, 0, 0, 0, 1, 0]


def test_the_period_before_is_compared(world: World) -> None:
    now = timezone.now()
    for days in (0, 8, 9):
        a_call(world.key, at=now - timedelta(days=days))
    context = open_as(world, "mia", "?period=7d").context
    assert (context["usage"].total.calls, context["usage"].before.calls) == (1, 2)
    assert context["tiles"][1].delta == "-50%"


def test_errors_and_refusals_are_told_apart(world: World) -> None:
    at = timezone.now()
    statuses = ("ok", "failed", "cut", "abandoned", "cancelled")
    insert_calls(*(call_row(world.key, at=at, status=status) for status in statuses), refused_row(world.key, at=at, call_count=7))
    total = open_as(world, "mia").context["usage"].total
    assert (total.calls, total.errors, total.refused) == (12, 3, 7)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("?group={world.sales.pk}", 2),
        ("?group={world.gateway.pk}", 3),
        ("?group={world.root.pk}", 7),
        ("?member={world.mia.pk}", 3),
        ("?key={world.key.pk}", 3),
        ("?model=sandbox-standard", 7),
        ("?model=other", 0),
        ("?member={world.mia.pk}&group={world.sales.pk}", 0),
        ("?group=x&member=-1&period=nonsense", 7),
    ],
)
def test_filters_narrow_the_view(calls: World, query: str, count: int) -> None:
    response = open_as(calls, "alice", query.format(world=calls))
    assert response.status_code == 200
    assert response.context["usage"].total.calls == count


def test_a_filter_never_widens_what_a_member_sees(calls: World) -> None:
    assert open_as(calls, "mia", f"?member={calls.noah.pk}").context["usage"].total.calls == 0
    assert open_as(calls, "mia", f"?group={calls.root.pk}").context["usage"].total.calls == 3


def test_groups_compared_are_those_below_the_one_looked_at(calls: World) -> None:
    def groups(name: str, query: str = "") -> dict[str, int]:
        return {share.name: share.sums.calls for share in open_as(calls, name, query).context["usage"].groups}

    assert groups("alice") == {"engineering": 4, "sales": 2}
    assert groups("lena") == {"platform": 3}
    assert groups("alice", f"?group={calls.platform.pk}") == {"gateway": 3}


def test_budgets_come_with_what_was_spent(calls: World) -> None:
    alice = calls.actor("alice")
    bind(
        create_policy(calls.acme, name="P", limits=[LimitSpec("budget", "month", DOLLAR)], by=alice),
        subject=calls.sales,
        by=alice,
    )
    set_key_limits(calls.key, by=alice, total_nano_usd=4 * COST)
    budgets = {used.label: (used.spent, used.limit.value) for used in limits_as(calls, "alice").context["budgets"]}
    assert budgets["Mia's key · in total"] == (3 * COST, 4 * COST)
    assert next(iter(budgets)) == "Mia's key · in total"
    assert [used.limit.node for used in limits_as(calls, "mia").context["budgets"]] == ["Mia's key"]
    assert [used.limit.node for used in limits_as(calls, "noah").context["budgets"]] == []


def test_credit_is_shown_to_those_who_may_see_billing(calls: World) -> None:
    credits.top_up(calls.acme, amount_nano_usd=DOLLAR, reference="t", by=calls.alice)
    assert limits_as(calls, "alice").context["credit"] == DOLLAR - 7 * COST
    assert limits_as(calls, "mia").context["credit"] is None
    for opened in (open_as, limits_as):
        assert "Credit left" in opened(calls, "alice").content.decode()
        assert "Credit left" not in opened(calls, "mia").content.decode()


@pytest.mark.parametrize("name", ["alice", "sam", "mia"])
@pytest.mark.parametrize("part", ["", "usage/limits/"])
def test_the_page_takes_at_most_twelve_statements(calls: World, name: str, part: str, django_assert_max_num_queries: Any) -> None:
    alice = calls.actor("alice")
    for subject in (calls.root, calls.sales, calls.platform, calls.mia):
        bind(
            create_policy(calls.acme, name=f"P {subject}", limits=[LimitSpec("budget", "day", DOLLAR)], by=alice),
            subject=subject,
            by=alice,
        )
    client = Client()
    client.force_login(getattr(calls, name))
    client.get(f"/o/{calls.acme.slug}/{part}")
    with django_assert_max_num_queries(12):
        assert client.get(f"/o/{calls.acme.slug}/{part}").status_code == 200


def test_the_chart_is_a_table_without_script(calls: World) -> None:
    page = open_as(calls, "mia").content.decode()
    assert 'data-chart="spend-values"' in page
    assert page.count("$0.0090") >= 2


def test_an_empty_organisation_says_what_to_do(world: World) -> None:
    response = open_as(world, "noah")
    assert response.status_code == 200
    assert "Make an API key and paste its snippet" in response.content.decode()


def test_whoever_has_a_key_is_not_told_to_make_its_first(world: World) -> None:
    page = open_as(world, "mia").content.decode()
    assert "No calls in this period" in page
    assert "snippet to paste" in page
    assert "The last 30 days" not in page
    month = open_as(world, "mia", "?period=month").content.decode()
    assert "No calls in this period yet" in month
    assert 'href="?period=30d"' in month
    for text in (page, month):
        assert "Make an API key" not in text


def test_only_reading(world: World) -> None:
    client = Client()
    client.force_login(world.mia)
    assert client.post(f"/o/{world.acme.slug}/").status_code == 405


def test_a_filter_without_a_control_is_a_chip_that_can_be_taken_away(calls: World) -> None:
    insert_calls(call_row(calls.key, application_id=calls.assistant.pk))
    response = open_as(calls, "alice", f"?application={calls.assistant.pk}&model=sandbox-standard&period=7d")
    assert response.context["usage"].total.calls == 1
    (chip,) = response.context["chips"]
    assert (chip["label"], chip["remove_url"]) == ("Application: Assistant", "?model=sandbox-standard&period=7d")
    assert response.context["keep"] == {"period": "7d", "application": str(calls.assistant.pk)}


def test_tiles_lead_to_the_calls_they_count(calls: World) -> None:
    tiles = {tile.label: tile.url for tile in open_as(calls, "alice", f"?member={calls.mia.pk}").context["tiles"]}
    assert tiles["Calls"] == f"/o/{calls.acme.slug}/calls/?member={calls.mia.pk}&period=30d"
    assert tiles["Errors"].endswith(f"?member={calls.mia.pk}&period=30d&status=failed")


def test_filters_that_match_nothing_can_be_cleared(calls: World) -> None:
    page = open_as(calls, "alice", "?model=none").content.decode()
    assert "No call matches" in page
    assert f'href="/o/{calls.acme.slug}/"' in page


def test_averages_of_a_member_leave_service_keys_out(calls: World) -> None:
    insert_calls(call_row(calls.key, member_id=None, charged_nano_usd=10**12))
    page = open_as(calls, "lena")
    averages = {average.label: average for average in page.context["averages"]}
    assert (averages["Members who called"].value, averages["Spend per member"].value) == ("2", "$0.0060")
    assert averages["Spend per member"].note == "$0.0120 in all, service keys left out"
    assert averages["Spend per member"].note in page.content.decode()
    assert "Spend per member" not in {average.label for average in open_as(calls, "mia").context["averages"]}
