"""A calendar is changed while money is spent: windows move, and every figure is read again from the ledger."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import openai
import pytest

from billing.buckets import spend_parameters
from gateway_project.lib.money import NANO
from guardrails.windows import BOUNDED, Calendar, containing
from orgs.services.changes import time_zones
from orgs.services.organizations import Settings, change_settings
from proxy import spend
from tests.billing import rows
from tests.coroutines import as_worker
from tests.gateways import Gateway
from tests.house import MESSAGES, House
from tests.ledger_rows import a_call
from tests.upstream import Upstream, answer

NOW = datetime.now(UTC)
HOUR = NOW.replace(minute=0, second=0, microsecond=0)
TODAY = HOUR.replace(hour=0)
TEN_CENTS: dict[str, Any] = {"model": "output-only", "messages": MESSAGES, "max_tokens": 1000}


class Way(NamedTuple):
    """A setting that moves the beginning of the running window to before and to after a moment of the past."""

    window: str
    moment: datetime
    before: Settings
    after: Settings


def zone_with_midnight_at(hour: int) -> str:
    """In UTC. The sign in these names is turned round: Etc/GMT+5 is five hours behind."""
    return f"Etc/GMT+{hour}" if hour <= 12 else f"Etc/GMT-{24 - hour}"


WAYS = {
    "time zone": Way(
        "day",
        HOUR - timedelta(hours=1),
        {"time_zone": zone_with_midnight_at((HOUR.hour - 4) % 24)},
        {"time_zone": zone_with_midnight_at(HOUR.hour)},
    ),
    "reset hour": Way("day", HOUR - timedelta(hours=1), {"reset_hour": (HOUR.hour - 4) % 24}, {"reset_hour": HOUR.hour}),
    "week start": Way(
        "week", TODAY - timedelta(hours=1), {"week_start": (TODAY.weekday() - 3) % 7}, {"week_start": TODAY.weekday()}
    ),
    "fiscal month": Way(
        "year",
        TODAY.replace(day=1) - timedelta(hours=1),
        {"fiscal_month": (TODAY.month - 2) % 12 + 1},
        {"fiscal_month": TODAY.month},
    ),
}


def outcome(client: openai.OpenAI) -> str:
    """Of one call of $0.10."""
    try:
        client.chat.completions.create(**TEN_CENTS)
    except openai.PermissionDeniedError as error:
        return str(error.code)
    return "passed"


def passed(client: openai.OpenAI, *, attempts: int) -> int:
    """How many pass, one after the other; every other one must be refused for its budget."""
    outcomes = [outcome(client) for _ in range(attempts)]
    assert set(outcomes) <= {"passed", "budget_exceeded"}
    return outcomes.count("passed")


@pytest.mark.parametrize("setting", WAYS)
def test_what_was_spent_is_summed_anew_by_the_new_calendar(
    gateway: Gateway, second_gateway: Gateway, house: House, upstream: Upstream, setting: str
) -> None:
    """$0.60 of a dollar was spent at a moment that lies in the window by one calendar and before it by the other."""
    way, alice = WAYS[setting], house.world.actor("alice")
    upstream.on("output-only", answer(usage=(10, 1000)))
    a_call(house.key, at=way.moment, charged_nano_usd=6 * NANO // 10)
    house.limit("budget", NANO, window=way.window)
    one, two = house.client(gateway.url), house.client(second_gateway.url)

    change_settings(house.organization, by=alice, **way.before)
    assert (passed(one, attempts=5), passed(two, attempts=1)) == (4, 0)

    change_settings(house.organization, by=alice, **way.after)
    assert (passed(two, attempts=4), passed(one, attempts=3)) == (4, 2)

    # And back: $1.60 stand against a dollar now, so nothing passes, on either worker.
    change_settings(house.organization, by=alice, **way.before)
    assert (passed(one, attempts=1), passed(two, attempts=1)) == (0, 0)
    assert house.counter("org") == {"spent": 16 * NANO // 10, "held": 0}
    assert house.nothing_held()


@pytest.mark.parametrize("setting", WAYS)
def test_changing_the_calendar_under_load_opens_no_gap_and_refuses_nothing_wrongly(
    gateway: Gateway, second_gateway: Gateway, house: House, upstream: Upstream, setting: str
) -> None:
    """All calls of this test lie in the running window by both calendars: ten of ten cents fit into a dollar, always."""
    way, alice, changes = WAYS[setting], house.world.actor("alice"), 0
    upstream.on("output-only", answer(usage=(10, 1000), before=0.4))
    house.limit("budget", NANO, window=way.window)
    clients = [house.client(gateway.url), house.client(second_gateway.url)]

    with ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(outcome, clients[number % 2]) for number in range(60)]
        while not all(call.done() for call in calls):
            change_settings(house.organization, by=alice, **(way.after if changes % 2 else way.before))
            changes += 1
            time.sleep(0.15)
    outcomes = Counter(call.result() for call in calls)

    assert changes >= 2
    assert outcomes == {"passed": 10, "budget_exceeded": 50}
    assert house.counter("org") == {"spent": NANO, "held": 0}
    assert house.nothing_held()


def test_no_window_of_any_zone_begins_where_the_ledger_cannot_be_summed() -> None:
    calendars = [Calendar(name, hour % 7, hour % 12 + 1, hour) for name in sorted(time_zones()) for hour in (0, 1, 2, 3, 23)]
    starts = {containing(NOW, kind, calendar).starts_at for calendar in calendars for kind in BOUNDED}

    known = {start for start in starts if start is not None}
    assert spend_parameters(1, subjects=["org"], starts=known)["starts"] == sorted(known)
    assert len(known) > 100


def test_a_start_beside_a_quarter_of_an_hour_would_be_told_not_rounded() -> None:
    with pytest.raises(ValueError, match="does not begin a quarter of an hour"):
        spend_parameters(1, subjects=["org"], starts=[datetime(2009, 3, 8, 3, 31, tzinfo=UTC)])


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize(
    "calendar",
    [
        Calendar("Asia/Kathmandu"),
        Calendar("Australia/Lord_Howe", reset_hour=2),
        Calendar("Pacific/Chatham", week_start=6),
        Calendar("America/St_Johns", reset_hour=1, week_start=3),
    ],
    ids=lambda calendar: calendar.time_zone,
)
def test_a_baseline_is_exact_to_the_microsecond(committed_db: None, calendar: Calendar, closed: bool) -> None:
    acme, expected = rows.new_organization().pk, {}
    starts = {start for kind in ("day", "week", "month") if (start := containing(NOW, kind, calendar).starts_at) is not None}
    for number, start in enumerate(sorted(starts)):
        rows.insert(acme, charged=10**number, recorded_at=start - timedelta(microseconds=1))
        rows.insert(acme, charged=5 * 10**number, recorded_at=start)
        expected[start] = sum(6 * 10**earlier for earlier in range(number)) + 10**number
    if closed:
        rows.close_everything()

    milliseconds = {round(start.timestamp() * 1000): before for start, before in expected.items()}
    found = as_worker(spend.SOURCE.spend(organization_id=acme, starts_by_subject={"org": list(milliseconds)}))

    assert {start: found.before["org", start] for start in milliseconds} == milliseconds
    assert found.spent == {"org": sum(6 * 10**number for number in range(len(starts)))}
