"""What applies to a key: its path as subjects, and every policy bound to any of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from django.db import connection

from gateway_project.lib.money import NANO
from guardrails import limits
from guardrails.limits import Limit, Limits
from guardrails.models import Binding, Policy
from guardrails.models import Limit as LimitRow
from orgs.access import Node, Principal
from tests.actors import World

NOW = datetime(2026, 11, 20, 17, 30, tzinfo=UTC)
PATH = (Node(1, 0, "Acme"), Node(2, 1, "engineering"), Node(3, 2, "platform"))
MIA = Principal(
    organization_id=7,
    organization_name="Acme",
    time_zone="Asia/Kathmandu",
    attribution_required=False,
    path=PATH,
    member_id=40,
    member_name="Mia",
    key_id=50,
    key_name="Mia's key",
    application_id=60,
    application_name="Assistant",
    environment="production",
    features=(),
    expires_at=None,
)


def bound(kind: str = "budget", window: str = "month", value: int = 5, **subject: int) -> dict[str, Any]:
    nobody = dict.fromkeys(("group_id", "member_id", "api_key_id", "application_id"))
    return {**nobody, **subject, "policy": "a policy", "kind": kind, "window": window, "value": value}


def compiled(*rows: dict[str, Any], principal: Principal = MIA, pool: int = 9 * NANO) -> Limits:
    return limits.compiled(principal, rows, pool_nano_usd=pool, now=NOW)


def test_the_path_runs_from_the_key_to_the_pool() -> None:
    assert compiled().subjects == ("k50", "a60", "m40", "g3", "g2", "org", "pool")


def test_a_service_key_without_member_and_application_has_a_shorter_path() -> None:
    service = msgspec.structs.replace(MIA, member_id=None, application_id=None, path=PATH[:1])
    assert compiled(principal=service).subjects == ("k50", "org", "pool")


def test_the_pool_always_applies_and_stands_last() -> None:
    (pool,) = compiled().limits
    assert pool == Limit("budget", "total", 9 * NANO, 6, "credit pool", "Acme", "prepaid credit")
    assert pool.is_pool


def test_limits_stand_most_specific_first_and_name_their_node() -> None:
    found = compiled(
        bound(group_id=1),
        bound(group_id=2),
        bound(group_id=3),
        bound(member_id=40),
        bound(application_id=60),
        bound(api_key_id=50),
    ).limits

    assert [(limit.level, limit.node) for limit in found] == [
        ("key", "Mia's key"),
        ("application", "Assistant"),
        ("member", "Mia"),
        ("group", "platform"),
        ("group", "engineering"),
        ("organization", "Acme"),
        ("credit pool", "Acme"),
    ]


def test_several_policies_on_one_subject_all_apply_in_the_order_they_were_made() -> None:
    found = compiled(bound(api_key_id=50, value=3), bound("rpm", "minute", api_key_id=50), bound(api_key_id=50, value=2)).limits
    assert [(limit.kind, limit.value) for limit in found[:-1]] == [("budget", 3), ("rpm", 5), ("budget", 2)]


def test_what_is_bound_beside_the_path_does_not_apply() -> None:
    assert len(compiled(bound(group_id=99), bound(member_id=99), bound(api_key_id=99), bound(application_id=99)).limits) == 1


def test_a_binding_to_nothing_is_an_error_of_ours() -> None:
    with pytest.raises(ValueError, match="without a subject"):
        compiled(bound())


def test_budgets_have_the_windows_of_the_organisations_zone_and_rates_none() -> None:
    day, month, total, rate = compiled(
        bound(window="day", api_key_id=50),
        bound(window="month", api_key_id=50),
        bound(window="total", api_key_id=50),
        bound("rpm", "minute", api_key_id=50),
    ).limits[:4]

    midnight = datetime(2026, 11, 20, 18, 15, tzinfo=UTC) - timedelta(days=1)  # 00:00 of the 20th, 5:45 ahead
    assert (day.starts_ms, day.ends_ms) == (milliseconds(midnight), milliseconds(midnight + timedelta(days=1)))
    assert month.starts_ms == milliseconds(datetime(2026, 10, 31, 18, 15, tzinfo=UTC))
    assert (total.starts_ms, total.ends_ms, rate.starts_ms, rate.ends_ms) == (0, 0, 0, 0)


def test_the_words_of_the_script_count_subjects_from_one_and_keep_every_digit() -> None:
    limits = compiled(bound("rpm", "minute", 60, api_key_id=50), pool=9_100_000 * NANO + 1)
    assert msgspec.msgpack.decode(limits.packed) == ["r", "1", "60", "0", "0", "b", "7", "9100000000000001", "0", "0"]


def test_names_of_rates_travel_only_where_a_limit_is_one() -> None:
    assert compiled(pool=1).rate_keys == ()
    limits = compiled(bound("rpm", "minute", 60, api_key_id=50), pool=1)
    assert len(limits.rate_keys) == len(limits.counter_keys) == len(limits.subjects)


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def test_the_query_finds_what_is_bound_to_the_path_and_to_nothing_else(world: World) -> None:
    subjects: dict[str, dict[str, Any]] = {
        "root": {"group": world.root},
        "mine": {"group": world.gateway},
        "below": {"group": world.core},
        "beside": {"group": world.sales},
        "member": {"member": world.mia},
        "somebody": {"member": world.noah},
        "key": {"api_key": world.key},
        "application": {"application": world.assistant},
    }
    for name, subject in subjects.items():
        bind(world, name, **subject)

    with connection.cursor() as cursor:
        path = [group.pk for group in world.gateway.path()]
        cursor.execute(
            limits.LIMITS_SQL,
            {"organization": world.acme.pk, "groups": path, "member": world.mia.pk, "key": world.key.pk, "application": None},
        )
        names = [column.name for column in cursor.description or ()]
        found = [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]

    assert [row["policy"] for row in found] == ["root", "mine", "member", "key"]
    assert {row["value"] for row in found} == {NANO}


def bind(world: World, name: str, **subject: Any) -> None:
    policy = Policy.objects.create(organization=world.acme, name=name)
    LimitRow.objects.create(policy=policy, kind="budget", window="month", value=NANO)
    Binding.objects.create(policy=policy, organization=world.acme, **subject)
