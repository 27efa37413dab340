"""Exceptions: so much more until a date, a budget that counts anew, and how they end."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from guardrails.models import Limit, Override
from guardrails.services.bindings import bind
from guardrails.services.overrides import add_override, end_override, reset_usage, resume_override
from guardrails.services.policies import MAX_BUDGET_NANO_USD, MAX_RPM, LimitSpec, create_policy
from orgs.errors import NotAllowed, Refused
from orgs.models import AuditEvent
from orgs.services.organizations import change_settings
from tests.actors import World
from tests.ledger_rows import call_row, insert_calls

CENT = 10_000_000
DOLLAR = 10**9


def limit_on(world: World, subject: str = "mia", *, kind: str = "budget", window: str = "month", **options: Any) -> Limit:
    limits = [LimitSpec(kind, window, DOLLAR if kind == "budget" else 10)]
    policy = create_policy(world.acme, name=f"{kind} {subject}", limits=limits, by=world.actor("alice"))
    bind(policy, subject=getattr(world, subject), by=world.actor("alice"), **options)
    return policy.limits.get()


def tomorrow() -> datetime:
    return timezone.now() + timedelta(days=1)


def spend(world: World, amount: int, *, at: datetime | None = None) -> None:
    insert_calls(call_row(world.key, at=at, charged_nano_usd=amount))


# --- more -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "window"), [("budget", "day"), ("rpm", "minute"), ("rpd", "day"), ("parallel", "now"), ("keys", "now")]
)
def test_any_limit_may_be_widened_for_a_time(world: World, kind: str, window: str) -> None:
    limit, until = limit_on(world, kind=kind, window=window), tomorrow()
    override = add_override(limit, subject=world.mia, amount=5, until=until, reason=" launch  week ", by=world.actor("sam"))
    assert (override.kind, override.amount, override.until, override.reason) == ("extra", 5, until, "launch week")
    event = AuditEvent.objects.filter(organization=world.acme, action="policy.override_added").latest("pk")
    assert (event.actor, event.object_id) == (world.sam, str(limit.policy_id))
    assert event.after["limit"] == f"{kind} {window}"
    assert (event.after["name"], event.after["amount"]) == ("Mia", 5)


@pytest.mark.parametrize("amount", [0, -1, 5 * 10**18])
def test_an_amount_out_of_range_is_refused(world: World, amount: int) -> None:
    with pytest.raises(Refused) as refused:
        add_override(limit_on(world), subject=world.mia, amount=amount, until=tomorrow(), by=world.actor("sam"))
    assert refused.value.field == "amount"


@pytest.mark.parametrize("days", [0, -1, 40_000])
def test_an_end_that_is_past_or_far_off_is_refused(world: World, days: int) -> None:
    until = timezone.now() + timedelta(days=days)
    with pytest.raises(Refused) as refused:
        add_override(limit_on(world), subject=world.mia, amount=1, until=until, by=world.actor("sam"))
    assert refused.value.field == "until"


@pytest.mark.parametrize(
    ("kind", "window", "amount", "words"),
    [
        ("budget", "month", 0, "more than zero"),
        ("budget", "month", MAX_BUDGET_NANO_USD + 1, r"At most \$4,000,000,000.00 more"),
        ("rpm", "minute", MAX_RPM + 1, "At most 1,000,000 more"),
    ],
)
def test_an_amount_out_of_bounds_is_told_which(world: World, kind: str, window: str, amount: int, words: str) -> None:
    limit = limit_on(world, kind=kind, window=window)
    with pytest.raises(Refused, match=words) as refused:
        add_override(limit, subject=world.mia, amount=amount, until=tomorrow(), by=world.actor("sam"))
    assert refused.value.field == "amount"
    most = amount - 1 if amount else 1
    assert add_override(limit, subject=world.mia, amount=most, until=tomorrow(), by=world.actor("sam")).amount == most


@pytest.mark.parametrize("name", ["mia", "noah", "charlie"])
def test_nobody_widens_its_own_or_anothers_limits(world: World, name: str) -> None:
    limit = limit_on(world)
    with pytest.raises((NotAllowed, Refused)):
        add_override(limit, subject=world.mia, amount=1, until=tomorrow(), by=world.actor(name))
    assert not limit.overrides.exists()


def test_an_admins_own_node_belongs_to_the_admin_above(world: World) -> None:
    limit = limit_on(world, "platform")
    with pytest.raises(NotAllowed):
        add_override(limit, subject=world.platform, amount=1, until=tomorrow(), by=world.actor("sam"))
    add_override(limit, subject=world.platform, amount=1, until=tomorrow(), by=world.actor("lena"))
    root = limit_on(world, "root", kind="rpm", window="minute")
    with pytest.raises(NotAllowed):
        add_override(root, subject=world.root, amount=1, until=tomorrow(), by=world.actor("lena"))
    add_override(root, subject=world.root, amount=1, until=tomorrow(), by=world.actor("alice"))


def test_what_a_policy_does_not_govern_has_no_exception_to_it(world: World) -> None:
    with pytest.raises(Refused, match="does not govern") as refused:
        add_override(limit_on(world), subject=world.key, amount=1, until=tomorrow(), by=world.actor("sam"))
    assert refused.value.field == "subject"


@pytest.mark.parametrize(
    ("reach", "subject", "reaches"),
    [
        ("members", "mia", True),
        ("members", "key", False),
        ("keys", "key", True),
        ("keys", "mia", False),
        ("members", "noah", False),
    ],
)
def test_a_default_takes_exceptions_for_those_it_comes_to(world: World, reach: str, subject: str, reaches: bool) -> None:
    limit = limit_on(world, "engineering", reach=reach)
    wanted: dict[str, Any] = {"subject": getattr(world, subject), "amount": 1, "until": tomorrow(), "by": world.actor("alice")}
    if reaches:
        assert add_override(limit, **wanted).subject == getattr(world, subject)
    else:
        with pytest.raises(Refused, match="does not govern"):
            add_override(limit, **wanted)


# --- resets ---------------------------------------------------------------------------------------


def test_a_reset_forgives_what_the_window_counts_until_it_ends(world: World) -> None:
    change_settings(world.acme, by=world.actor("alice"), time_zone="Europe/Berlin")
    world.acme.refresh_from_db()
    limit = limit_on(world)
    spend(world, 3 * CENT)
    spend(world, 7 * CENT, at=timezone.now() - timedelta(days=40))
    override = reset_usage(limit, subject=world.mia, by=world.actor("sam"), reason="agreed")
    assert (override.kind, override.amount) == ("reset", 3 * CENT)
    assert override.until is not None
    assert timezone.now() < override.until < timezone.now() + timedelta(days=32)
    assert AuditEvent.objects.filter(organization=world.acme, action="policy.usage_reset").count() == 1


def test_a_budget_in_total_is_reset_for_ever(world: World) -> None:
    limit = limit_on(world, window="total")
    spend(world, 7 * CENT, at=timezone.now() - timedelta(days=40))
    override = reset_usage(limit, subject=world.mia, by=world.actor("sam"))
    assert (override.amount, override.until) == (7 * CENT, None)


def test_a_second_reset_forgives_what_came_since(world: World) -> None:
    limit, sam = limit_on(world), world.actor("sam")
    spend(world, 3 * CENT)
    first = reset_usage(limit, subject=world.mia, by=sam)
    with pytest.raises(Refused, match="nothing to reset"):
        reset_usage(limit, subject=world.mia, by=sam)
    spend(world, 2 * CENT)
    assert reset_usage(limit, subject=world.mia, by=sam).amount == 2 * CENT
    end_override(first, by=sam)
    assert reset_usage(limit, subject=world.mia, by=sam).amount == 3 * CENT


def test_only_budgets_are_reset(world: World) -> None:
    with pytest.raises(Refused, match="budget"):
        reset_usage(limit_on(world, kind="rpd", window="day"), subject=world.mia, by=world.actor("sam"))


# --- their end ------------------------------------------------------------------------------------


def widened(world: World) -> Override:
    return add_override(limit_on(world), subject=world.mia, amount=1, until=tomorrow(), by=world.actor("sam"))


def test_an_exception_is_ended_and_counts_again(world: World) -> None:
    override, sam = widened(world), world.actor("sam")
    for _ in range(2):
        assert end_override(override, by=sam).revoked_at is not None
    for _ in range(2):
        assert resume_override(override, by=sam).revoked_at is None
    actions = AuditEvent.objects.filter(organization=world.acme, action__startswith="policy.override").order_by("pk")
    assert [event.action for event in actions] == [
        "policy.override_added",
        "policy.override_ended",
        "policy.override_resumed",
    ]


@pytest.mark.parametrize("name", ["mia", "noah", "charlie"])
def test_others_end_nothing(world: World, name: str) -> None:
    override = widened(world)
    with pytest.raises((NotAllowed, Refused)):
        end_override(override, by=world.actor(name))
    override.refresh_from_db()
    assert override.revoked_at is None


def test_what_is_over_is_over(world: World) -> None:
    override = widened(world)
    Override.objects.filter(pk=override.pk).update(until=timezone.now() - timedelta(seconds=1))
    for attempt in (end_override, resume_override):
        with pytest.raises(Refused, match="over"):
            attempt(override, by=world.actor("sam"))


def test_a_reset_does_not_come_back_beside_the_one_that_took_its_place(world: World) -> None:
    limit, sam = limit_on(world), world.actor("sam")
    spend(world, 3 * CENT)
    first = reset_usage(limit, subject=world.mia, by=sam)
    end_override(first, by=sam)
    second = reset_usage(limit, subject=world.mia, by=sam)
    with pytest.raises(Refused, match="reset again since"):
        resume_override(first, by=sam)
    end_override(second, by=sam)
    assert resume_override(first, by=sam).revoked_at is None
