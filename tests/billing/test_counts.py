"""How many calls of a subject the ledger knows since a moment: those that were let through, by when they were admitted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from billing.counts import CALLS_SQL, calls_parameters
from gateway_project.lib import ids
from orgs.models import Organization
from tests.billing.rows import insert, new_organization

pytestmark = pytest.mark.django_db

MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
GROUP, MEMBER, KEY, APPLICATION = 9_000_010, 9_000_011, 9_000_012, 9_000_013
MINE: dict[str, Any] = {"group1_id": GROUP, "member_id": MEMBER, "api_key_id": KEY, "application_id": APPLICATION}


@pytest.fixture
def acme() -> Organization:
    return new_organization()


def calls(organization: Organization, subject: str, since: datetime = MIDNIGHT) -> int:
    with connection.cursor() as cursor:
        since_ms = int(since.timestamp() * 1000)
        cursor.execute(CALLS_SQL, calls_parameters(organization.pk, subject=subject, since_ms=since_ms))
        (found,) = cursor.fetchone()
    return int(found)


def call(organization: Organization, *, at: datetime | None = None, **fields: Any) -> None:
    more = {} if at is None else {"call_id": ids.first_id_at(at), "recorded_at": at}
    insert(organization.pk, **(MINE | more | fields))


def test_nobody_has_called_yet(acme: Organization) -> None:
    assert calls(acme, "org") == 0


@pytest.mark.parametrize("subject", ["org", "pool", f"g{GROUP}", f"m{MEMBER}", f"k{KEY}", f"a{APPLICATION}"])
def test_each_subject_counts_its_own_calls(acme: Organization, subject: str) -> None:
    call(acme)
    call(acme)
    call(acme, group1_id=None, group2_id=GROUP)
    call(acme, group1_id=1, member_id=1, api_key_id=1, application_id=1)
    call(new_organization())
    whole, deeper = subject in ("org", "pool"), not subject.startswith("g")
    assert calls(acme, subject) == (4 if whole else 3)
    assert calls(acme, subject.replace("9", "8")) == (4 if whole else 0)
    assert deeper or calls(acme, subject) == 3


def test_a_call_counts_from_when_it_was_admitted_whenever_it_ended(acme: Organization) -> None:
    """As it did in Redis: over midnight it belongs to the day before."""
    call(acme, at=MIDNIGHT)
    call(acme, at=MIDNIGHT - timedelta(milliseconds=1))
    call(acme, at=MIDNIGHT - timedelta(milliseconds=2), recorded_at=MIDNIGHT + timedelta(seconds=3))
    assert calls(acme, "org") == 1
    assert calls(acme, "org", since=MIDNIGHT - timedelta(milliseconds=1)) == 2
    assert calls(acme, "org", since=MIDNIGHT - timedelta(days=1)) == 3


def test_calls_that_failed_were_let_through_refusals_and_bookings_were_not(acme: Organization) -> None:
    for status in ("ok", "error", "cancelled", "abandoned"):
        call(acme, status=status)
    for status in ("refused", "adjustment"):
        call(acme, status=status)
    assert calls(acme, f"k{KEY}") == 4
