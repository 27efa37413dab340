"""Simulations from the ledger's rows to the kept result: reading, running, progress, cancelling, failing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from django.db import connection
from django.http import Http404
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from guardrails import windows
from guardrails.models import Limit as LimitRow
from guardrails.models import Policy, Rule
from orgs.errors import NotAllowed, Refused
from orgs.models import Organization
from proxy import simulation_services as services
from proxy import tasks
from proxy.models import Simulation
from proxy.simulating import names, rows, running, spans
from proxy.simulating.proposal import Limit, Proposal, Target
from proxy.simulating.proposal import Rule as Listed
from tests.actors import World
from tests.ledger_rows import a_call, call_row, insert_calls, refused_row
from tests.proxy.simulations import DOLLAR, NOON, NOVEMBER, budget, made_calls, noahs_key, simulated, wanted

UTC_CALENDAR = windows.Calendar("UTC")


def period(world: World) -> rows.Period:
    return rows.Period(world.acme.pk, *NOVEMBER)


# --- from asking to the result --------------------------------------------------------------------


def test_who_would_have_been_refused_when_and_what_it_would_have_saved(world: World) -> None:
    ids = made_calls(world.key, 3, 3, 2, 1)
    made_calls(noahs_key(world), 4)
    targets = (Target("members", world.root.pk),)
    done = simulated(wanted(world, budget(5), targets=targets), by=world.actor("alice"))
    assert (done.status, done.progress, done.calls, done.error) == ("done", 100, 5, "")
    assert done.result["refused"] == [2, 4 * DOLLAR]
    assert done.result["passed"] == [3, 9 * DOLLAR]
    (first,) = done.result["firsts"]
    assert first["call_id"] == ids[1]
    assert first["subject"] == f"m{world.mia.pk}"
    assert first["at"] == round((NOON + timedelta(minutes=1)).timestamp() * 1000)
    assert done.result["names"][first["subject"]] == world.mia.name
    assert [one["call_id"] for one in done.result["sample"]] == [ids[1], ids[3]]


def test_nobody_would_have_been_refused_is_a_result(world: World) -> None:
    made_calls(world.key, 1, 1)
    done = simulated(wanted(world, budget(2)), by=world.actor("alice"))
    assert (done.status, done.result["refused"], done.result["passed"]) == ("done", [0, 0], [2, 2 * DOLLAR])


def test_a_period_without_calls_is_done_at_once(world: World) -> None:
    done = simulated(wanted(world, budget(2)), by=world.actor("alice"))
    assert (done.status, done.calls, done.result["passed"], done.result["sample"]) == ("done", 0, [0, 0], [])


def test_another_organisations_calls_are_never_read(world: World) -> None:
    made_calls(world.key, 9)
    done = simulated(wanted(world, budget(1), targets=(Target("group", world.other.root.pk),)), by=world.actor("charlie"))
    assert (done.calls, done.result["refused"]) == (0, [0, 0])


def test_the_month_so_far_counts_but_is_not_judged(world: World) -> None:
    made_calls(world.key, 4, at=NOON)
    made_calls(world.key, 2, 1, at=NOON + timedelta(days=5))
    late = spans.Span(NOON + timedelta(days=4), NOVEMBER.ends_at)
    done = simulated(wanted(world, budget(5), period=late), by=world.actor("alice"))
    assert (done.calls, done.result["refused"], done.result["passed"]) == (2, [1, 2 * DOLLAR], [1, 1 * DOLLAR])


@pytest.mark.parametrize(("window", "refused"), [("month", 0), ("quarter", 1), ("year", 1), ("total", 1)])
def test_each_window_begins_where_the_calendar_says(world: World, window: str, refused: int) -> None:
    made_calls(world.key, 4, at=datetime(2026, 10, 31, 23, tzinfo=UTC))
    made_calls(world.key, 2)
    assert simulated(wanted(world, budget(5, window)), by=world.actor("alice")).result["refused"][0] == refused


def test_a_row_recorded_after_the_period_began_counts_where_it_was_recorded(world: World) -> None:
    late = call_row(world.key, at=datetime(2026, 10, 31, 23, 59, tzinfo=UTC), charged_nano_usd=4 * DOLLAR)
    insert_calls(late, recorded_at=datetime(2026, 11, 1, 0, 1, tzinfo=UTC))
    made_calls(world.key, 2)
    assert simulated(wanted(world, budget(5)), by=world.actor("alice")).result["refused"] == [1, 2 * DOLLAR]


def test_what_was_refused_then_is_no_call_and_an_adjustment_only_spends(world: World) -> None:
    insert_calls(refused_row(world.key, at=NOON, call_count=50))
    insert_calls(call_row(world.key, at=NOON, status="adjustment", charged_nano_usd=4 * DOLLAR))
    made_calls(world.key, 2, at=NOON + timedelta(hours=1))
    done = simulated(wanted(world, budget(5), Limit("rpd", "day", 1)), by=world.actor("alice"))
    assert (done.calls, done.result["refused"], done.result["passed"]) == (2, [1, 2 * DOLLAR], [0, 0])


def test_every_day_of_the_period_is_there(world: World) -> None:
    made_calls(world.key, 1)
    days = simulated(wanted(world, budget(5)), by=world.actor("alice")).result["days"]
    today = timezone.now().date()
    assert [datetime.fromtimestamp(day["starts"], tz=UTC).date() for day in days] == [
        date(2026, 11, 1) + timedelta(days=n) for n in range(min(30, (today - date(2026, 11, 1)).days + 1))
    ]


def test_the_result_is_plain_json_and_names_outlive_their_key(world: World) -> None:
    made_calls(world.key, 9)
    done = simulated(wanted(world, budget(1), targets=(Target("keys", world.root.pk),)), by=world.actor("alice"))
    assert json.loads(json.dumps(done.result)) == done.result
    assert done.result["names"][f"k{world.key.pk}"] == f"Mia's key …{world.key.last_four}"


def test_names_of_what_is_gone_and_of_others_are_not_told(world: World) -> None:
    found = names.of_subjects({"org", "k999999999", f"g{world.other.root.pk}", f"a{world.assistant.pk}"}, world.acme)
    assert found == {
        "org": world.acme.name, "k999999999": "Key 999999999", f"g{world.other.root.pk}": f"Group {world.other.root.pk}",
        f"a{world.assistant.pk}": "Assistant",
    }  # fmt: skip


# --- reading --------------------------------------------------------------------------------------


def test_pages_follow_one_another_without_gap_or_repeat(world: World) -> None:
    insert_calls(*(call_row(world.key, at=NOON + timedelta(seconds=n)) for n in range(rows.PAGE // 100)))
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO billing_usagerecord SELECT made.* FROM billing_usagerecord u, generate_series(1, 120) n,"
            " LATERAL json_populate_record(u, json_build_object("
            "'call_id', left(replace(u.call_id::text, '-', ''), 16) || '8' || lpad(to_hex(n), 15, '0'))) made"
            " WHERE u.organization_id = %s",
            [world.acme.pk],
        )
    expected = rows.PAGE // 100 * 121
    ids = [row[0] for page in rows.pages(period(world), with_providers=False) for row in page]
    assert len(ids) == len(set(ids)) == expected == rows.count(period(world))
    assert ids == sorted(ids)


def test_a_row_says_all_that_a_replay_needs(world: World) -> None:
    a_call(
        world.key, at=NOON, input_tokens=7, output_tokens=5, cache_read_tokens=100, cache_write_5m_tokens=20,
        cache_write_1h_tokens=3, requested_model="fancy",
    )  # fmt: skip
    ((row,),) = rows.pages(period(world), with_providers=False)
    assert row[0].int >> 80 == round(NOON.timestamp() * 1000)
    charged = 7 * 1000 + 5 * 4000
    path = [world.root.pk, world.engineering.pk, world.platform.pk, world.gateway.pk, None]
    told = (round(NOON.timestamp()), charged, 135, 5, True, "fancy", 0, 1200, "")
    assert row[1:] == (*told, *path, world.mia.pk, world.key.pk, None)


def test_nothing_is_read_of_before_where_no_budget_needs_it(world: World) -> None:
    made_calls(world.key, 9, at=NOON - timedelta(days=20))
    cases: list[tuple[list[windows.Kind], int]] = [([], 0), (["day", "month"], 0), (["quarter"], 1), (["day", "total"], 1)]
    for kinds, found in cases:
        assert len(list(rows.spent_before(period(world), kinds=kinds, calendar=UTC_CALENDAR))) == found


# --- progress, cancelling, failing ----------------------------------------------------------------


@pytest.fixture
def always_telling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is told after every call."""
    monkeypatch.setattr(running, "TOLD_EVERY_SECONDS", 0)
    monkeypatch.setattr(running, "SLICE", 1)


def seen_progress(made: Simulation) -> Iterator[int]:
    """Every progress that stood in the database while the task ran."""
    seen: list[int] = []

    def look(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        result = execute(sql, parameters, many, context)
        if sql.startswith("UPDATE") and '"progress"' in sql and '"run"' in sql:
            seen.append(Simulation.objects.values_list("progress", flat=True).get(pk=made.pk))
        return result

    with connection.execute_wrapper(look):
        tasks.simulate(made.pk, 1)
    yield from seen


@pytest.mark.usefixtures("always_telling")
def test_progress_rises_to_the_end(world: World) -> None:
    made_calls(world.key, *[1] * 10)
    made = services.start(wanted(world, budget(5)), by=world.actor("alice"))
    assert list(seen_progress(made)) == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99, 100]


@pytest.mark.usefixtures("always_telling")
def test_a_cancelled_run_stops_at_its_next_look(world: World) -> None:
    made_calls(world.key, *[1] * 10)
    made = services.start(wanted(world, budget(5)), by=world.actor("alice"))
    looked = []

    def cancel_at_the_third(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        if sql.startswith("UPDATE") and '"progress"' in sql:
            looked.append(sql)
            if len(looked) == 3:
                Simulation.objects.filter(pk=made.pk).update(status="cancelled")
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(cancel_at_the_third):
        tasks.simulate(made.pk, 1)
    made.refresh_from_db()
    assert (made.status, made.progress, made.result, len(looked)) == ("cancelled", 10, {}, 3)


@pytest.mark.usefixtures("always_telling")
def test_a_deleted_one_stops_too(world: World) -> None:
    made_calls(world.key, *[1] * 3)
    made = services.start(wanted(world, budget(5)), by=world.actor("alice"))
    pk = made.pk

    def delete_once_running(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        if "count(*)" in sql:
            Simulation.objects.filter(pk=pk).delete()
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(delete_once_running):
        tasks.simulate(pk, 1)
    assert not Simulation.objects.filter(pk=pk).exists()


def test_a_message_that_comes_late_twice_or_for_nothing_changes_nothing(world: World) -> None:
    made_calls(world.key, 9)
    done = simulated(wanted(world, budget(5)), by=world.actor("alice"))
    tasks.simulate(done.pk, 1)
    tasks.simulate(done.pk, 7)
    tasks.simulate(10**15, 1)
    again = Simulation.objects.get(pk=done.pk)
    assert (again.status, again.finished_at, again.result) == ("done", done.finished_at, done.result)


def test_a_run_that_its_worker_left_is_begun_anew(world: World) -> None:
    made_calls(world.key, 9)
    made = services.start(wanted(world, budget(5)), by=world.actor("alice"))
    Simulation.objects.filter(pk=made.pk).update(status="running", progress=60)
    tasks.simulate(made.pk, 1)
    made.refresh_from_db()
    assert (made.status, made.result["refused"]) == ("done", [1, 9 * DOLLAR])


def test_what_fails_says_so_and_is_not_left_running(world: World) -> None:
    made = services.start(wanted(world, budget(5)), by=world.actor("alice"))
    Simulation.objects.filter(pk=made.pk).update(proposal={"limits": "nonsense"})
    tasks.simulate(made.pk, 1)
    made.refresh_from_db()
    assert (made.status, made.error, made.result) == ("failed", running.BROKEN, {})
    assert made.finished_at is not None


def test_one_that_takes_too_long_says_what_to_do(world: World) -> None:
    from billiard.exceptions import SoftTimeLimitExceeded

    made = services.start(wanted(world, budget(5)), by=world.actor("alice"))

    def too_long(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        if "count(*)" in sql:
            raise SoftTimeLimitExceeded
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(too_long):
        tasks.simulate(made.pk, 1)
    made.refresh_from_db()
    assert (made.status, made.error) == ("failed", running.TOO_LONG)


# --- asking ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "group", "allowed"),
    [
        ("alice", "root", True),
        ("alice", "core", True),
        ("lena", "platform", True),
        ("lena", "engineering", False),
        ("lena", "field", False),
        ("sam", "gateway", True),
        ("mia", "gateway", False),
        ("charlie", "root", False),
    ],
)
def test_it_takes_the_permission_at_every_node(world: World, name: str, group: str, allowed: bool) -> None:
    for kind in ("group", "members", "keys"):
        asked = wanted(world, budget(5), targets=(Target(kind, getattr(world, group).pk),))
        if allowed:
            made = services.start(asked, by=world.actor(name))
            services.cancel(made, by=world.actor(name))
        else:
            with pytest.raises(NotAllowed):
                services.start(asked, by=world.actor(name))


def test_an_application_needs_it_at_its_group(world: World) -> None:
    asked = wanted(world, budget(5), targets=(Target("application", world.assistant.pk),))
    assert services.start(asked, by=world.actor("lena")).group_ids == [world.platform.pk]
    with pytest.raises(NotAllowed):
        services.start(asked, by=world.actor("sam"))
    with pytest.raises(NotAllowed):
        services.start(wanted(world, budget(5), targets=(Target("application", 10**12),)), by=world.actor("alice"))


def test_only_those_above_every_subject_see_it(world: World) -> None:
    both = (Target("group", world.gateway.pk), Target("group", world.field.pk))
    wide = services.start(wanted(world, budget(5), targets=both), by=world.actor("alice"))
    narrow = services.start(wanted(world, budget(5), targets=both[:1]), by=world.actor("sam"))
    seen = {name: set(services.visible_to(world.actor(name))) for name in ("alice", "lena", "sam", "mia", "charlie")}
    assert seen == {"alice": {wide, narrow}, "lena": {narrow}, "sam": {narrow}, "mia": set(), "charlie": set()}
    for name, found in (("lena", wide), ("charlie", narrow)):
        with pytest.raises(Http404):
            services.access_simulation_by_id(world.actor(name), found.pk)


def test_no_more_than_a_few_at_once(world: World) -> None:
    alice = world.actor("alice")
    running_ones = [services.start(wanted(world, budget(5)), by=alice) for _ in range(services.MOST_UNFINISHED)]
    with pytest.raises(Refused, match="have not ended"):
        services.start(wanted(world, budget(5)), by=alice)
    assert services.cancel(running_ones[0], by=alice)
    assert not services.cancel(running_ones[0], by=alice)
    with pytest.raises(Refused, match="It has not ended yet"):
        services.start_again(running_ones[1], by=alice)
    services.start_again(running_ones[0], by=alice)
    services.cancel(running_ones[0], by=alice)
    services.start(wanted(world, budget(5)), by=alice)
    with pytest.raises(Refused, match="have not ended"):
        services.start_again(running_ones[0], by=alice)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"limits": ()}, "at least one limit"),
        ({"targets": ()}, "at least one"),
        ({"name": "\x00"}, "visible"),
        ({"period": spans.Span(NOON, NOON + timedelta(days=401))}, "At most 400 days"),
        ({"targets": tuple(Target("group", n) for n in range(501))}, "At most 500"),
    ],
)
def test_what_makes_no_sense_is_refused(world: World, change: dict[str, Any], says: str) -> None:
    asked = wanted(world, budget(5))._replace(**change)
    with pytest.raises(Refused, match=says):
        services.start(asked, by=world.actor("alice"))


def a_policy(organization: Organization, **limits: int) -> Policy:
    policy = Policy.objects.create(organization=organization, name=f"House rules {uuid4().hex[:6]}")
    for kind, value in limits.items():
        window = {"parallel": "now", "rpm": "minute", "budget": "month", "keys": "now"}[kind]
        LimitRow.objects.create(policy=policy, kind=kind, window=window, value=value)
    return policy


def test_a_policy_is_taken_as_it_is_and_what_cannot_be_replayed_is_named(world: World) -> None:
    policy = a_policy(world.acme, budget=5 * DOLLAR, parallel=2, keys=3)
    Rule.objects.create(policy=policy, kind="blocked_models", entries=["big-*"])
    Rule.objects.create(policy=policy, kind="providers", entries=["main"])
    Rule.objects.create(policy=policy, kind="addresses", entries=["10.0.0.0/8"])
    Policy.objects.filter(pk=policy.pk).update(degrade_percent=80, degrade_model="small")
    policy.refresh_from_db()
    Rule.objects.create(policy=policy, kind="models", entries=[])
    made = services.start(wanted(world, policy=policy), by=world.actor("alice"))
    proposal = Proposal(
        (budget(5), Limit("parallel", "now", 2)), (Listed("blocked_models", ("big-*",)), Listed("providers", ("main",))),
        (Target("group", world.root.pk),), (services.ADDRESSES, services.DEGRADING),
    )  # fmt: skip
    assert msgspec.convert(made.proposal, Proposal) == proposal


def test_a_policy_of_which_nothing_can_be_replayed_is_refused(world: World) -> None:
    with pytest.raises(Refused, match="nothing that the ledger") as refused:
        services.start(wanted(world, policy=a_policy(world.acme, keys=2)), by=world.actor("alice"))
    assert refused.value.field == "policy"


def test_run_again_it_takes_the_policy_as_it_is_by_then(world: World) -> None:
    made_calls(world.key, 3, 3)
    policy = a_policy(world.acme, budget=5 * DOLLAR)
    alice = world.actor("alice")
    done = simulated(wanted(world, policy=policy), by=alice)
    assert done.result["refused"][0] == 1
    LimitRow.objects.filter(policy=policy).update(value=2 * DOLLAR)
    services.start_again(done, by=alice)
    done.refresh_from_db()
    assert (done.status, done.run, done.progress, done.result) == ("queued", 2, 0, {})
    tasks.simulate(done.pk, 1)
    done.refresh_from_db()
    assert done.status == "queued", "the earlier run is not heard any more"
    tasks.simulate(done.pk, 2)
    done.refresh_from_db()
    assert done.result["refused"][0] == 2


def test_run_again_after_its_policy_was_deleted_it_keeps_what_it_had(world: World) -> None:
    policy = a_policy(world.acme, budget=5 * DOLLAR)
    done = simulated(wanted(world, policy=policy), by=world.actor("alice"))
    policy.delete()
    services.start_again(done, by=world.actor("alice"))
    tasks.simulate(done.pk, 2)
    done.refresh_from_db()
    assert (done.status, done.policy, len(done.proposal["limits"])) == ("done", None, 1)


# --- periods --------------------------------------------------------------------------------------


CALENDARS = st.builds(
    windows.Calendar,
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "America/Santiago", "Australia/Lord_Howe"]),
    st.integers(0, 6), st.integers(1, 12), st.integers(0, 23),
)  # fmt: skip
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2029, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))  # noqa: DTZ001


@given(MOMENTS, CALENDARS)
def test_months_are_those_of_budgets(now: datetime, calendar: windows.Calendar) -> None:
    last, this = spans.last_month(now=now, calendar=calendar), spans.this_month(now=now, calendar=calendar)
    assert last.ends_at == this.starts_at <= now < this.ends_at
    assert windows.containing(last.starts_at, "month", calendar) == windows.Window(*last)


@given(st.dates(date(2024, 1, 1), date(2029, 1, 1)), st.integers(0, 60), CALENDARS)
def test_days_follow_one_another_whatever_clocks_do(first: date, more: int, calendar: windows.Calendar) -> None:
    last = first + timedelta(days=more)
    span = spans.days(first, last, calendar=calendar)
    assert spans.days(first, first, calendar=calendar).starts_at == span.starts_at
    assert spans.days(last + timedelta(days=1), last + timedelta(days=1), calendar=calendar).starts_at == span.ends_at
    starts = list(windows.starts_between(span.starts_at, span.ends_at, "day", calendar))
    assert (len(starts), starts[0]) == (more + 1, span.starts_at)
