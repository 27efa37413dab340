"""From rows in PostgreSQL to the result: the same as a naive replay of the same calls, and however many pages they fill."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guardrails.windows import Calendar
from orgs.models import ApiKey
from orgs.services.keys import create_api_key
from proxy.models import Simulation
from proxy.simulating import rows, spans
from proxy.simulating.proposal import Limit, Proposal, Rule, Target
from proxy.simulating.result import TOP_SUBJECTS
from tests.actors import World
from tests.examples import some
from tests.ledger_rows import call_row, insert_calls
from tests.proxy.naive_replay import Call, Naive, governing
from tests.proxy.simulations import DOLLAR, NOON, noahs_key, simulated, wanted

PERIOD = spans.Span(NOON - timedelta(days=1), NOON + timedelta(days=4))
BUDGET_WINDOWS: tuple[Any, ...] = ("day", "week", "month", "quarter", "year", "total")
DOLLARS = st.integers(0, 30).map(lambda n: n * DOLLAR)
LIMITS = st.lists(
    st.one_of(
        st.builds(Limit, st.just("budget"), st.sampled_from(BUDGET_WINDOWS), DOLLARS, st.booleans()),
        st.builds(Limit, st.just("rpm"), st.just("minute"), st.integers(1, 3)),
        st.builds(Limit, st.just("tpm"), st.just("minute"), st.integers(1, 4000)),
        st.builds(Limit, st.just("rpd"), st.just("day"), st.integers(1, 4)),
        st.builds(Limit, st.just("parallel"), st.just("now"), st.integers(1, 2)),
        st.builds(Limit, st.just("max_tokens"), st.just("call"), st.integers(1, 999)),
    ),
    min_size=1, max_size=4, unique_by=lambda limit: (limit.kind, limit.window),
)  # fmt: skip
RULES = st.lists(
    st.builds(
        Rule, st.just("providers"), st.lists(st.sampled_from(["main", "spare"]), min_size=1, max_size=2, unique=True).map(tuple)
    ),
    max_size=1,
)
# How a row tells who could have taken the call: its provider and the order in its decision → what that means.
ROUTES: list[tuple[str, list[list[str]] | None, tuple[str, ...]]] = [
    ("main", None, ("main",)),
    ("spare", [["main", "m", "order"], ["spare", "s", "order"]], ("main", "spare")),
    ("main", [["third", "m", "circuit open"], ["main", "m", "order"], ["spare", "s", "fallback model"]], ("third", "main")),
    ("third", [["spare", "m", "sticky"], ["third", "m", "weight"]], ("spare", "third")),
    ("third", None, ("third",)),
    ("", None, ()),
]
# Key, minutes from noon, seconds until it was recorded, dollars, output tokens, status, milliseconds it ran, its route.
CALLS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.one_of(st.integers(-3, 3), st.integers(-60 * 24 * 3, 60 * 24 * 5), st.integers(-60 * 24 * 40, 0)),
        st.sampled_from([0, 2, 90, 4000]),
        st.integers(0, 9),
        st.integers(0, 1200),
        st.sampled_from(["ok", "ok", "ok", "cancelled", "failed", "adjustment"]),
        st.sampled_from([None, 0, 1200, 200_000]),
        st.sampled_from(ROUTES),
    ),
    max_size=25,
)
TARGETS = st.lists(
    st.tuples(st.sampled_from(["group", "members", "keys"]), st.integers(0, 3)), min_size=1, max_size=3, unique=True
)


def keys_of(world: World) -> list[ApiKey]:
    own, _ = create_api_key(world.engineering, name="Lena's key", member=world.lena, by=world.actor("lena"))
    return [world.key, noahs_key(world), own]


def written(keys: list[ApiKey], drawn: tuple[Any, ...], number: int) -> Call:
    """Puts the call into the ledger → what the naive replay knows of it."""
    which, minutes, late, dollars, output, status, ran, (provider, order, providers) = drawn
    key = keys[which]
    at = NOON + timedelta(minutes=minutes, milliseconds=number)
    decision = {} if order is None else {"order": order}
    row = call_row(key, at=at, status=status, output_tokens=output, latency_ms=ran, provider=provider, decision=decision)
    row.byok = number % 3 == 0
    row.charged_nano_usd, row.list_nano_usd = 0 if row.byok else dollars * DOLLAR, dollars * DOLLAR
    (call_id,) = insert_calls(row, recorded_at=at + timedelta(seconds=late))
    made = Call(
        at=call_id.int >> 80,
        recorded=int((at + timedelta(seconds=late)).timestamp()),
        charged=row.charged_nano_usd,
        tokens=row.input_tokens + output,
        output=output,
        groups=tuple(group.pk for group in key.group.path()),
        member=key.member_id,
        key=key.pk,
        application=key.application_id,
        is_call=status != "adjustment",
        own=row.own_nano_usd,
        ran=ran,
        providers=providers,
    )
    return made


@settings(max_examples=some(20), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    LIMITS,
    RULES,
    CALLS,
    TARGETS,
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
    st.integers(0, 6),
    st.sampled_from([0, 5]),
)
def test_it_equals_a_naive_replay_of_the_same_calls(
    world: World,
    limits: list[Limit],
    rules: list[Rule],
    drawn: list[Any],
    chosen: list[Any],
    zone: str,
    week_start: int,
    reset_hour: int,
) -> None:
    with transaction.atomic():
        groups = [world.root, world.engineering, world.platform, world.sales]
        targets = tuple(Target(kind, groups[which].pk) for kind, which in chosen)
        organization = world.acme
        for name, value in (("time_zone", zone), ("week_start", week_start), ("reset_hour", reset_hour)):
            setattr(organization, name, value)
        organization.save()
        keys = keys_of(world)
        calls = [written(keys, one, number) for number, one in enumerate(drawn)]
        starts, ends = (round(moment.timestamp() * 1000) for moment in PERIOD)
        done = simulated(wanted(world, *limits, rules=tuple(rules), targets=targets, period=PERIOD), by=world.actor("alice"))
        naive = Naive(
            msgspec.convert(done.proposal, Proposal), Calendar.of(organization), [one for one in calls if one.at < starts]
        )
        expected = naive.replay([one for one in calls if starts <= one.at < ends])
        transaction.set_rollback(True)
    assert done.status == "done", done.error
    charged = {one.id.int >> 80: one.charged for one in calls}
    assert done.result["refused"] == [len(expected), sum(charged[call_id.int >> 80] for call_id, _, _ in expected)]
    assert {one["number"]: one["calls"] for one in done.result["limits"]} == Counter(number for _, number, _ in expected)
    told = {(one["subject"], one["number"]): one["calls"] for one in done.result["subjects"]}
    lines = Counter((subject, number) for _, number, subject in expected)
    assert (told.items() <= lines.items(), len(told)) == (True, min(len(lines), TOP_SUBJECTS))
    assert sorted(one["at"] for one in done.result["sample"]) == sorted(call_id.int >> 80 for call_id, _, _ in expected)
    governed = [one for one in calls if one.is_call and starts <= one.at < ends and governing(one, naive.proposal)]
    assert done.result["passed"][0] == len(governed) - len(expected)


def many_calls(key: ApiKey, *, count: int) -> None:
    """One every second from the period's first day on, a cent each."""
    insert_calls(call_row(key, at=PERIOD.starts_at, charged_nano_usd=DOLLAR // 100))
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO billing_usagerecord SELECT made.* FROM billing_usagerecord u, generate_series(1, %s) n,"
            " LATERAL (SELECT u.recorded_at + n * interval '1 second' AS moment) at,"
            " LATERAL json_populate_record(u, json_build_object("
            " 'call_id', lpad(to_hex((extract(epoch FROM at.moment) * 1000)::bigint), 12, '0') || '70008'"
            " || lpad(to_hex(n), 15, '0'),"
            " 'admitted_at', at.moment, 'recorded_at', at.moment)) made WHERE u.api_key_id = %s",
            [count - 1, key.pk],
        )


def test_pages_longer_than_one_are_all_replayed(world: World) -> None:
    count = rows.PAGE * 2 + 500
    many_calls(world.key, count=count)
    done = simulated(wanted(world, Limit("budget", "total", 100 * DOLLAR), period=PERIOD), by=world.actor("alice"))
    assert (done.status, done.calls) == ("done", count)
    assert done.result["passed"] == [10_000, 100 * DOLLAR]
    assert done.result["refused"][0] == count - 10_000
    at = datetime.fromtimestamp(done.result["firsts"][0]["at"] / 1000, tz=UTC)
    assert at == PERIOD.starts_at + timedelta(seconds=10_000)


@pytest.mark.parametrize("with_providers", [False, True])
def test_what_is_read_is_read_by_the_index_on_calls(world: World, with_providers: bool) -> None:
    """Whatever the planner thinks of so small a table: sorting is not needed, so a page costs what a page costs."""
    insert_calls(call_row(world.key, at=NOON))
    parameters = rows._parameters(rows.Period(world.acme.pk, *PERIOD))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_bitmapscan = off")
        cursor.execute("SET LOCAL enable_sort = off")
        cursor.execute(f"EXPLAIN {rows.page_sql(with_providers=with_providers)}", parameters)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Index Scan" in plan
    # Within one row its providers may be sorted, never the rows.
    assert "Sort" not in plan.partition("SubPlan")[0]


@pytest.mark.parametrize("status", ["refused"])
def test_rows_that_were_refused_are_not_even_read(world: World, status: str) -> None:
    insert_calls(call_row(world.key, at=NOON, status=status))
    assert rows.count(rows.Period(world.acme.pk, *PERIOD)) == 0
    assert not Simulation.objects.filter(organization=world.acme).exists()
