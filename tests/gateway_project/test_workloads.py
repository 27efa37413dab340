"""The shape of the demo's past, and the file that remembers its key; what rows come of it, see test_history.py."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_project.demo import credentials, workloads
from gateway_project.demo.catalogue import FAMILIAR
from gateway_project.demo.credentials import Credentials
from gateway_project.lib.money import parse_usd
from proxy.sandbox.catalogue import MODELS as SANDBOX

DATES = st.dates(date(2020, 1, 1), date(2040, 1, 1))


@given(until=DATES, days=st.integers(0, 370))
def test_a_period_is_every_day_once_and_ends_today(until: date, days: int) -> None:
    found = workloads.period(until, days=days)
    assert len(found) == days + 1
    assert found[-1] == until
    assert {later - earlier for earlier, later in pairwise(found)} <= {timedelta(days=1)}


@given(until=DATES, days=st.integers(1, 370), calls=st.integers(1, 200_000))
def test_calls_are_shared_out_without_loss(until: date, days: int, calls: int) -> None:
    period = workloads.period(until, days=days)
    shared = workloads.calls_by_day(period, calls=calls)
    assert list(shared) == period
    assert min(shared.values()) >= 1
    # Each day is rounded by half a call at most, or raised to the one it must have.
    assert calls - len(period) / 2 <= sum(shared.values()) <= calls + len(period)


@given(day=DATES)
def test_a_weekend_weighs_less_for_every_workload(day: date) -> None:
    monday, saturday = day - timedelta(days=day.weekday()), day - timedelta(days=day.weekday() - 5)
    for workload in workloads.WORKLOADS:
        assert 0 < workload.weight(saturday) < workload.weight(monday) == workload.share


def test_shares_make_a_whole_and_names_are_told_apart() -> None:
    assert sum(workload.share for workload in workloads.WORKLOADS) == pytest.approx(1)
    assert len({workload.key for workload in workloads.WORKLOADS}) == len(workloads.WORKLOADS)


@pytest.mark.parametrize("workload", workloads.WORKLOADS, ids=lambda workload: workload.key)
def test_parts_of_a_workload_are_shares(workload: workloads.Workload) -> None:
    for share in (workload.cached, workload.streamed, workload.rate_limited):
        assert 0 <= share <= 1
    assert workload.context_scale >= 1
    assert all(weight > 0 for weight in workload.models.values())
    assert sum(workload.rhythm.hours) > 0


def test_the_outage_hits_a_model_that_is_used_then() -> None:
    outage = workloads.OUTAGE
    users = [workload for workload in workloads.WORKLOADS if outage.model in workload.models]
    assert any(workload.rhythm.hours[hour] for workload in users for hour in outage.hours)


def test_every_model_of_the_past_can_be_called_today() -> None:
    offered = {model.name for model in FAMILIAR} | set(SANDBOX)
    assert set(workloads.SPEEDS) <= offered
    assert {model.served_by for model in FAMILIAR} <= set(SANDBOX)


@pytest.mark.parametrize("model", FAMILIAR, ids=lambda model: model.name)
def test_known_prices_are_amounts_in_the_usual_order(model: object) -> None:
    assert isinstance(model, tuple)
    _, _, whole, cached, out, _ = model
    assert 0 < parse_usd(cached) < parse_usd(whole) < parse_usd(out)


KNOWN = Credentials(organization_id=7, api_key="gh_sk_a_b", password="p")


def test_what_is_remembered_is_read_again_and_replaced_whole(state_folder: Path) -> None:
    assert credentials.read() is None
    credentials.write(KNOWN)
    assert credentials.read() == KNOWN
    credentials.write(Credentials(organization_id=8, api_key="x", password="y"))
    assert credentials.read() == Credentials(organization_id=8, api_key="x", password="y")
    assert [path.name for path in state_folder.iterdir()] == [credentials.FILE_NAME]
    assert credentials.path().stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"organization_id":"7","api_key":"a","password":"b"}', b'{"api_key":"a"}', b"\xff\xfe{"],
)
def test_what_cannot_be_understood_is_as_if_forgotten(state_folder: Path, content: bytes) -> None:
    credentials.path().write_bytes(content)
    assert credentials.read() is None


def test_a_state_folder_that_is_missing_is_made_for_its_owner_alone(state_folder: Path) -> None:
    from django.test import override_settings

    with override_settings(GATEHOUSE_HOME=state_folder / "new"):
        assert credentials.read() is None
        credentials.write(KNOWN)
        assert credentials.read() == KNOWN
    assert (state_folder / "new").stat().st_mode & 0o777 == 0o700
