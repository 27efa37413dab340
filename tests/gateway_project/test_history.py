"""The demo's history: invented calls that add up, written once, that no counter misses."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db.models import Sum
from django.utils import timezone

from billing.models import CallAttempt, PriceVersion, UsageRecord
from billing.pricing import Rates
from gateway_project.demo import company, history, workloads
from gateway_project.lib import database
from gateway_project.lib.ids import time_of
from gateway_project.lib.money import cost_of, parse_usd
from guardrails import windows
from guardrails.models import Binding, Limit
from orgs.models import ApiKey, Application, Organization
from proxy.models import Preset
from tests.demos import printed

BERLIN = ZoneInfo("Europe/Berlin")


def write(northwind: Organization, *, days: int = 10, calls: int = 400, **options: Any) -> history.Written:
    return history.write(northwind, days=days, calls=calls, **options)


def rows(northwind: Organization) -> list[UsageRecord]:
    return list(history.rows_of(northwind).order_by("call_id"))


def local_day(row: UsageRecord) -> date:
    return row.admitted_at.astimezone(BERLIN).date()


# --- what a row says ---------------------------------------------------------------------------
def test_every_row_is_billed_by_its_own_tokens_and_prices(northwind: Organization) -> None:
    write(northwind)
    rates = {row.pk: msgspec.convert(row.rates, Rates) for row in PriceVersion.objects.all()}
    charged = [row for row in rows(northwind) if row.charged_nano_usd]
    assert len(charged) > 300
    for row in charged:
        price = rates[row.price_version_id or 0]
        parts = {"input": row.input_tokens, "cache_read": row.cache_read_tokens, "output": row.output_tokens}
        by_hand = sum(cost_of(tokens, price.of(kind)) for kind, tokens in parts.items())
        assert row.charged_nano_usd == row.list_nano_usd == sum(row.cost_parts.values()) == by_hand
        assert row.charged_nano_usd <= row.reserved_nano_usd


def test_every_day_is_billed_at_the_prices_that_it_began_with(northwind: Organization) -> None:
    sku, now = f"model:{company.BASELINE}", timezone.now()
    first = PriceVersion.objects.filter(sku=sku).latest("valid_from")
    # Every price has a working day: on Sundays nobody may have asked for this model.
    for days, rates in ((9, {**first.rates, "output": first.rates["output"] * 2}), (5, {}), (4, first.rates)):
        PriceVersion.objects.create(sku=sku, valid_from=now - timedelta(days=days), source="test", rates=rates)
    write(northwind, days=14, calls=1_200, now=now)
    used = set()
    for row in rows(northwind):
        if row.requested_model == company.BASELINE and row.charged_nano_usd:
            began = datetime.combine(local_day(row), time(), tzinfo=BERLIN)
            assert row.price_version_id == PriceVersion.objects.filter(sku=sku, valid_from__lte=began).latest("valid_from").pk
            used.add(row.price_version_id)
    assert len(used) == 3


def test_only_answers_are_charged_and_every_try_has_its_attempt(northwind: Organization) -> None:
    write(northwind, calls=2_000)
    statuses = Counter(row.status for row in rows(northwind))
    assert set(statuses) == {"ok", "cancelled", "failed", "refused"}
    assert statuses["ok"] > 0.9 * sum(statuses.values())
    for row in rows(northwind):
        assert (row.charged_nano_usd > 0) == (row.status in {"ok", "cancelled"})
        assert bool(row.error_code) == (row.status in {"failed", "refused"})
        assert row.attempt_count == (0 if row.status == "refused" else 1)
    tried = [row.call_id for row in rows(northwind) if row.attempt_count]
    assert CallAttempt.objects.filter(call_id__in=tried, number=1).count() == len(tried)


def test_rows_lie_in_the_past_under_ids_of_their_time(northwind: Organization) -> None:
    now = timezone.now()
    write(northwind, days=5, now=now)
    for row in rows(northwind):
        assert abs(time_of(row.call_id) - row.admitted_at) < timedelta(milliseconds=2)
        assert row.admitted_at <= row.recorded_at < now - history.GAP
        assert row.latency_ms is not None
        assert row.first_token_ms is None or row.first_token_ms <= row.latency_ms
    days = {local_day(row) for row in rows(northwind)}
    today = (now - history.GAP).astimezone(BERLIN).date()
    assert days >= {today - timedelta(days=distance) for distance in range(1, 6)}
    assert days <= {today - timedelta(days=distance) for distance in range(6)}


def test_rows_say_that_they_are_invented_and_whose_they_are(northwind: Organization) -> None:
    write(northwind)
    keys = {key.pk: key for key in ApiKey.objects.filter(organization=northwind).select_related("group", "application")}
    for row in rows(northwind):
        key = keys[row.api_key_id]
        assert row.route_reason.startswith("demo history to 20")
        levels = [row.group0_id, row.group1_id, row.group2_id, row.group3_id, row.group4_id]
        assert [level for level in levels if level is not None] == key.group.lineage()
        assert (row.member_id, row.application_id, row.environment) == (key.member_id, key.application_id, key.environment)
        assert row.feature in key.features or (not row.feature and not key.features)
        assert row.provider in {"sandbox", ""}


def test_savings_are_told_against_the_baseline_at_its_price_then(northwind: Organization) -> None:
    write(northwind)
    rates = {row.pk: msgspec.convert(row.rates, Rates) for row in PriceVersion.objects.all()}
    opus = [row for row in rows(northwind) if row.requested_model == company.BASELINE and row.charged_nano_usd]
    assert opus
    assert all(row.baseline_nano_usd == row.list_nano_usd for row in opus)
    price = rates[opus[0].price_version_id or 0]
    for row in rows(northwind):
        parts = {"input": row.input_tokens, "cache_read": row.cache_read_tokens, "output": row.output_tokens}
        by_hand = sum(cost_of(tokens, price.of(kind)) for kind, tokens in parts.items())
        assert row.baseline_nano_usd == (by_hand if row.charged_nano_usd else None)
    saved = sum(row.baseline_nano_usd - row.list_nano_usd for row in rows(northwind) if row.baseline_nano_usd is not None)
    assert saved > parse_usd("0.1")


def test_presets_are_called_by_those_below_them_and_served_by_their_model(northwind: Organization) -> None:
    write(northwind, calls=2_000)
    of_presets = [row for row in rows(northwind) if row.preset]
    assert {row.preset for row in of_presets} == {preset.name for preset in company.PRESETS}
    for row in of_presets:
        preset = Preset.objects.get(organization=northwind, name=row.preset)
        assert row.requested_model == f"preset:{row.preset}"
        assert preset.group_id in [getattr(row, f"group{level}_id") for level in range(5)]
    assert {row.served_model for row in of_presets if row.charged_nano_usd} == {"sandbox-standard"}


def test_a_preset_that_is_gone_is_called_no_more(northwind: Organization) -> None:
    Preset.objects.filter(organization=northwind, name="plain-words").update(archived_at=timezone.now())
    write(northwind, calls=1_000)
    assert {row.preset for row in rows(northwind)} == {"", "code-review"}


# --- its shape ---------------------------------------------------------------------------------
def test_there_are_about_as_many_calls_as_asked_for(northwind: Organization) -> None:
    written = write(northwind, days=30, calls=3_000)
    assert 0.9 * 3_000 < written.calls < 1.05 * 3_000
    assert written.calls == len(rows(northwind))


def test_a_year_is_possible_and_months_long_past_have_partitions(northwind: Organization) -> None:
    write(northwind, days=365, calls=400)
    assert {row.admitted_at.month for row in rows(northwind)} == set(range(1, 13))


def test_working_days_are_busier_and_use_grows() -> None:
    days = workloads.period(date(2026, 11, 20), days=28)
    calls = workloads.calls_by_day(days, calls=20_000)
    for day in days[:-2]:
        saturday = day - timedelta(days=day.weekday() - 5)
        if saturday in calls and day.weekday() < 5:
            assert calls[day] > 1.5 * calls[saturday]
    assert calls[days[27]] > 1.5 * calls[days[6]]
    assert abs(sum(calls.values()) - 20_000) < 20


@pytest.mark.parametrize("calls", [1, 7, 100])
def test_every_day_has_a_call_however_few_there_are(calls: int) -> None:
    assert min(workloads.calls_by_day(workloads.period(date(2026, 11, 20), days=30), calls=calls).values()) >= 1


@pytest.mark.parametrize("workload", workloads.WORKLOADS, ids=lambda workload: workload.key)
def test_a_workload_is_whole(workload: workloads.Workload) -> None:
    assert len(workload.rhythm.hours) == 24
    assert set(workload.models) <= set(workloads.SPEEDS)


@pytest.mark.parametrize("end", [datetime(2026, 10, 31, 20, tzinfo=UTC), datetime(2027, 2, 28, 12, tzinfo=UTC)])
def test_no_budget_is_used_up_by_it_and_one_nearly_is(northwind: Organization, end: datetime) -> None:
    """At the end of a month all thirty days lie in one window."""
    write(northwind, days=30, calls=20_000, now=end)
    used: dict[str, float] = {}
    for binding in Binding.objects.filter(organization=northwind).select_related("policy"):
        for limit in Limit.objects.filter(policy=binding.policy, kind="budget"):
            spent = spent_on(northwind, binding, limit, end)
            assert spent < limit.value, (binding, limit)
            used[str(binding)] = max(used.get(str(binding), 0), spent / limit.value)
    assert used["Claims pilot on Claims Extraction"] > 0.85
    assert used["Company budget on Northwind Health"] < 0.5


def spent_on(northwind: Organization, binding: Binding, limit: Limit, moment: datetime) -> int:
    """By the rows, in the window that holds the moment."""
    window = windows.containing(moment, limit.window, "Europe/Berlin")  # type: ignore[arg-type]
    found = history.rows_of(northwind)
    if window.starts_at is not None:
        found = found.filter(recorded_at__gte=window.starts_at)
    if binding.group is not None:
        found = found.filter(**{f"group{binding.group.level}_id": binding.group.pk})
    if binding.reach != "self":
        column = "api_key" if binding.reach == "keys" else "member"
        governed = Binding.objects.filter(organization=northwind, policy__dedicated=False, **{f"{column}__isnull": False})
        each = found.exclude(**{column: None}).exclude(**{f"{column}__in": governed.values(column)}).values(column)
        return max((one["total"] for one in each.annotate(total=Sum("charged_nano_usd"))), default=0)
    for column in ("member", "api_key", "application"):
        if (subject := getattr(binding, column)) is not None:
            found = found.filter(**{column: subject})
    return int(found.aggregate(total=Sum("charged_nano_usd"))["total"] or 0)


def test_a_budget_in_total_refuses_what_would_pass_it(northwind: Organization) -> None:
    claims = Application.objects.get(organization=northwind, name="Claims Extraction")
    limit = Limit.objects.get(policy__bindings__application=claims, window="total")
    Limit.objects.filter(pk=limit.pk).update(value=parse_usd("0.3"))
    write(northwind, days=20, calls=2_000)
    of_claims = [row for row in rows(northwind) if row.application_id == claims.pk]
    refused = [row for row in of_claims if row.error_code == "budget_exceeded"]
    assert parse_usd("0.15") < sum(row.charged_nano_usd for row in of_claims) <= parse_usd("0.3")
    assert len(refused) > 10
    assert refused[-1].decision["policy"] == "Claims pilot"


# --- once, and whole ---------------------------------------------------------------------------
def test_a_second_run_writes_nothing_not_even_next_week(northwind: Organization) -> None:
    now = timezone.now()
    first = write(northwind, now=now)
    assert write(northwind, now=now) == history.Written(0, 0)
    assert write(northwind, now=now + timedelta(days=7)) == history.Written(0, 0)
    assert len(rows(northwind)) == first.calls


class Interrupted(Exception):
    pass


def test_an_interrupted_run_is_completed_by_the_next(northwind: Organization) -> None:
    days: list[date] = []

    def stop_after_three(day: date, calls: int) -> None:
        days.append(day)
        if len(days) == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        write(northwind, progress=stop_after_three)
    assert days == sorted(days, reverse=True)
    before = {row.call_id for row in rows(northwind)}
    assert len({local_day(row) for row in rows(northwind)}) <= 4
    written = write(northwind, now=timezone.now() + timedelta(days=2))
    assert written.days == 7
    after = [row.call_id for row in rows(northwind)]
    assert before < set(after)
    assert len(after) == len(set(after)) == len(before) + written.calls


def test_the_command_tells_how_far_it_is_and_what_it_did(northwind: Organization) -> None:
    lines = printed("--history", "--days", "10", "--calls", "100").splitlines()
    assert ["5 of 10 days" in lines[0], "10 of 10 days" in lines[1]] == [True, True]
    assert lines[2].startswith(f"demo history: {len(rows(northwind))} calls written in ")
    assert printed("--history", "--days", "10") == "demo history: it is there already, nothing was written\n"


@pytest.mark.usefixtures("northwind")
def test_two_at_once_do_not_mix() -> None:
    with psycopg.connect(database.conninfo()) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [history._LOCK])
        with pytest.raises(CommandError, match="being written by another process"):
            call_command("demo", "--history", "--days", "1")
