"""The call log and the page of one call: who sees which, filters, pages without gap or repeat, exact arithmetic."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics import selectors
from analytics.call_story import story_of
from analytics.filters import Filters
from billing.ledger import Attempt
from billing.models import UsageRecord
from gateway_project.lib.ids import new_call_id
from gateway_project.lib.money import cost_of
from orgs.models import ApiKey
from orgs.services.keys import create_api_key
from proxy.models import Model
from proxy.naming_services import PresetWords, create_preset
from tests.actors import World, make_world, signed_in
from tests.examples import some
from tests.ledger_rows import a_call, call_row, insert_attempts, insert_calls, refused_row


def open_as(world: World, name: str, path: str = "", **extra: Any) -> Any:
    client = Client()
    client.force_login(getattr(world, name))
    return client.get(f"/o/{world.acme.slug}/calls/{path}", **extra)


def ids(response: Any) -> list[UUID]:
    return [UUID(row.url.rstrip("/").rpartition("/")[2]) for row in response.context["rows"]]


def key_of(world: World, group: str, name: str) -> ApiKey:
    key, _ = create_api_key(world.group(group), name=f"{name}'s key", member=getattr(world, name), by=world.actor("alice"))
    return key


# --- the log --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count"), [("alice", 3), ("lena", 2), ("sam", 1), ("mia", 1), ("noah", 1)])
def test_each_person_sees_its_own_part_of_the_tree(world: World, name: str, count: int) -> None:
    insert_calls(call_row(world.key), call_row(key_of(world, "field", "noah")), call_row(key_of(world, "engineering", "lena")))
    assert len(ids(open_as(world, name))) == count


def test_the_path_at_the_time_of_the_call_decides(world: World) -> None:
    a_call(world.key, group1_id=world.sales.pk, group2_id=world.field.pk, group3_id=None, member_id=None)
    assert ids(open_as(world, "sam")) == []
    assert len(ids(open_as(world, "alice"))) == 1


def test_another_organisation_does_not_exist(world: World) -> None:
    assert open_as(world, "charlie").status_code == 404


def test_newest_first_with_their_figures(world: World) -> None:
    now = timezone.now()
    old, new = (a_call(world.key, at=now - timedelta(minutes=minutes)) for minutes in (9, 3))
    response = open_as(world, "mia")
    assert ids(response) == [new, old]
    page = response.content.decode()
    for shown in ("Mia", "sandbox-standard", "1,000", "500", "$0.0030", "1.20", "Completed"):
        assert shown in page


def test_pages_follow_one_another_while_calls_arrive(world: World) -> None:
    now = timezone.now() - timedelta(hours=1)
    made = insert_calls(*(call_row(world.key, at=now + timedelta(seconds=number)) for number in range(130)))
    response, seen = open_as(world, "mia"), []
    while True:
        seen += ids(response)
        a_call(world.key)
        if not response.context["older_url"]:
            break
        response = open_as(world, "mia", response.context["older_url"])
    assert seen == made[::-1]
    back = open_as(world, "mia", response.context["newer_url"])
    assert ids(back) == made[::-1][50:100]


@settings(max_examples=some(12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 7))
def test_no_page_skips_or_repeats_a_call(db: None, milliseconds: list[int], size: int) -> None:
    """Many calls of one millisecond differ in their random bits alone."""
    world = make_world()
    since = timezone.now() - timedelta(hours=1)
    made = sorted(insert_calls(*(call_row(world.key, at=since + timedelta(milliseconds=wait + 1)) for wait in milliseconds)))
    calls = selectors.calls_visible_to(world.actor("mia"))
    seen: list[UUID] = []
    before = None
    while True:
        page = selectors.call_page(selectors.calls_of(calls, since=since, filters=Filters()), before=before, size=size)
        seen += [call.pk for call in page.calls]
        before = page.older
        if before is None:
            break
    assert seen == made[::-1]
    up: list[UUID] = []
    after: UUID | None = made[0]
    while after is not None:
        page = selectors.call_page(selectors.calls_of(calls, since=since, filters=Filters()), after=after, size=size)
        up += [call.pk for call in page.calls][::-1]
        after = page.newer
    assert up == made[1:]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 4),
        ("?status=ok", 2),
        ("?status=refused", 1),
        ("?status=nonsense", 4),
        ("?status=adjustment", 4),
        ("?status=zz&model=large", 1),
        ("?model=large", 1),
        ("?key={world.key.pk}", 3),
        ("?member={world.noah.pk}", 1),
        ("?group={world.sales.pk}", 1),
        ("?group={world.platform.pk}&status=ok", 1),
        ("?period=24h", 4),
        ("?period=30d", 5),
        ("?key=x&member=&group=99999999999999999999", 4),
        ("?before=nonsense&after=", 4),
    ],
)
def test_filters_stand_in_the_address(world: World, query: str, count: int) -> None:
    at = timezone.now()
    insert_calls(
        call_row(world.key, at=at),
        call_row(world.key, at=at, status="failed", requested_model="large"),
        refused_row(world.key, at=at),
        call_row(key_of(world, "field", "noah"), at=at),
        call_row(world.key, at=at - timedelta(days=20)),
    )
    response = open_as(world, "alice", query.format(world=world))
    assert response.status_code == 200
    assert len(ids(response)) == count


@pytest.mark.parametrize(("page", "status"), [("calls/", "zz"), ("calls/", "adjustment"), ("", "zz"), ("", "failed")])
def test_a_status_that_is_none_is_nowhere_on_the_page(world: World, page: str, status: str) -> None:
    response = signed_in(world, "alice").get(f"/o/{world.acme.slug}/{page}", {"status": status})
    selects = {select["name"]: select for select in response.context["selects"]}
    offered = [option["value"] for option in selects["status"]["options"]] if page else []
    assert status not in offered
    assert response.context["narrowed"] is (status == "failed")
    assert [chip["label"] for chip in response.context["chips"]] == (["Status: failed"] if status == "failed" else [])


def test_what_was_asked_for_and_what_answered_are_both_shown_and_found(world: World) -> None:
    chosen = {"auto": {"asked": "auto", "need": 0.2, "model": "small", "others": []}}
    create_preset(world.gateway, name="polite", words=PresetWords("auto"), by=world.actor("sam"))
    by_auto, by_preset, plain = (
        call_row(world.key, requested_model="auto", served_model="small-2026", decision=chosen, provider="p"),
        call_row(world.key, requested_model="preset:polite", served_model="large", usage_estimated=True, output_tokens=1056),
        call_row(world.key, requested_model="large", served_model="large"),
    )
    insert_calls(by_auto, by_preset, plain)
    page = open_as(world, "mia", "").content.decode()
    assert 'title="What answered: p / small-2026">small<' in page
    assert "≈ 1,056" in page
    for model, rows in (("auto", [by_auto]), ("small", [by_auto]), ("large", [plain, by_preset]), ("preset:polite", [by_preset])):
        assert set(ids(open_as(world, "mia", f"?model={model}"))) == {row.call_id for row in rows}
    offered = next(one for one in open_as(world, "mia", "").context["selects"] if one["name"] == "model")
    names = [option["value"] for option in offered["options"]]
    assert names[1:5] == ["auto", "auto:cheap", "auto:best", "preset:polite"]


def test_a_calls_own_page_leads_back_to_the_log(world: World) -> None:
    insert_calls(row := call_row(world.key))
    client = Client()
    client.force_login(world.mia)
    log = f"/o/{world.acme.slug}/calls/"
    assert f'<a class="gh-back" href="{log}">' in client.get(f"{log}{row.call_id}/").content.decode()


def test_the_group_looked_at_is_named_only_to_those_who_see_it(world: World) -> None:
    def chips(name: str, group: int) -> list[str]:
        return [chip["label"] for chip in open_as(world, name, f"?group={group}").context["chips"]]

    assert chips("alice", world.sales.pk) == ["Group: sales"]
    assert chips("mia", world.sales.pk) == ["One group"]


def test_a_request_id_or_its_beginning_finds_the_call(world: World) -> None:
    made = insert_calls(*(call_row(world.key, at=timezone.now() - timedelta(minutes=minutes)) for minutes in range(3)))
    assert ids(open_as(world, "mia", f"?q={made[1]}")) == [made[1]]
    assert ids(open_as(world, "mia", f"?q={str(made[1])[:15]}")) == [made[1]]
    assert ids(open_as(world, "mia", "?q=hello")) == []
    assert "No call matches" in open_as(world, "mia", "?q=hello").content.decode()
    assert ids(open_as(world, "noah", f"?q={made[1]}")) == []


@pytest.mark.parametrize("name", ["alice", "sam", "mia"])
def test_the_log_takes_at_most_eight_statements(world: World, name: str, django_assert_max_num_queries: Any) -> None:
    service, _ = create_api_key(world.platform, name="service", application=world.assistant, by=world.actor("alice"))
    insert_calls(*(call_row(key, feature="chat", decision={"auto": {}}) for _ in range(30) for key in (world.key, service)))
    Model.objects.get_or_create(name="m")
    client = Client()
    client.force_login(getattr(world, name))
    client.get(f"/o/{world.acme.slug}/calls/")  # the first visit keeps where one was
    with django_assert_max_num_queries(8):
        assert client.get(f"/o/{world.acme.slug}/calls/").status_code == 200


def test_an_empty_log_says_where_to_begin(world: World) -> None:
    assert "No calls in this period" in open_as(world, "mia").content.decode()


# --- one call -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "status"), [("alice", 200), ("lena", 200), ("sam", 200), ("mia", 200), ("noah", 404), ("charlie", 404)]
)
def test_a_call_exists_for_those_who_may_see_it(world: World, name: str, status: int) -> None:
    call_id = a_call(world.key)
    assert open_as(world, name, f"{call_id}/").status_code == status


def test_a_call_of_another_organisation_is_absent(world: World) -> None:
    key, _ = create_api_key(world.other.root, name="k", member=world.charlie, by=world.actor("charlie"))
    call_id = a_call(key)
    assert open_as(world, "alice", f"{call_id}/").status_code == 404
    assert open_as(world, "alice", f"{new_call_id()}/").status_code == 404


def test_it_is_a_drawer_with_htmx_and_a_page_without(world: World) -> None:
    call_id = a_call(world.key)
    assert "<html" in open_as(world, "mia", f"{call_id}/").content.decode()
    drawer = open_as(world, "mia", f"{call_id}/", headers={"hx-request": "true"}).content.decode()
    assert "<html" not in drawer
    assert 'id="drawer-title"' in drawer


def test_its_page_tells_the_whole_story(world: World, django_assert_max_num_queries: Any) -> None:
    decision = {
        "level": "key",
        "node": "Mia's key",
        "policy": "P",
        "window": "month",
        "limit": 5 * 10**9,
        "left": 1_234_500_000_000,
    }
    call_id = a_call(world.key, decision=decision, application_id=world.assistant.pk, feature="chat", environment="production")
    insert_attempts(
        Attempt(call_id, 1, 1, "first", "x-1", "error", 503, "overloaded", 90),
        Attempt(call_id, 2, 2, "second", "x-2", "ok", 200, "", 1100),
    )
    client = Client()
    client.force_login(world.mia)
    with django_assert_max_num_queries(12):
        page = client.get(f"/o/{world.acme.slug}/calls/{call_id}/").content.decode()
    for shown in (
        str(call_id),
        "Tightest limit: $5 on the key Mia&#x27;s key, $1,234.50 left this month",
        "answered 503, overloaded",
        "second / x-2",
        "× $1",
        "= $0.001",
        "= $0.002",
        "$0.003",
        "engineering / platform / gateway",
        "Assistant",
        "production",
        "not stored",
    ):
        assert shown in page, shown


@pytest.mark.parametrize(
    ("kind", "judged", "query"),
    [
        ("max_tokens", {"limit": 100, "asked": 101}, "&amp;max_tokens=101"),
        ("addresses", {"address": "2001:db8::7"}, "&amp;address=2001%3Adb8%3A%3A7"),
        ("addresses", {"address": None}, ""),
        ("max_tokens", {"limit": 100}, ""),
        ("budget", {"call": {"input_tokens": 812, "max_tokens": 4000, "n": 1}}, "&amp;input_tokens=812&amp;max_tokens=4000"),
        ("budget", {"call": {"input_tokens": 0, "n": 3}}, "&amp;input_tokens=0&amp;n=3"),
        ("budget", {"call": {"input_tokens": 9, "reserve_tokens": 25_000}}, "&amp;input_tokens=9&amp;reserve_tokens=25000"),
    ],
)
def test_a_refused_call_can_be_judged_again_as_it_was(world: World, kind: str, judged: dict[str, Any], query: str) -> None:
    decision = {"level": "key", "node": "k", "policy": "P", "kind": kind, "ask": "an admin", **judged}
    insert_calls(row := refused_row(world.key, decision=decision, requested_model="m", feature=""))
    page = open_as(world, "alice", f"{row.call_id}/").content.decode()
    assert f'/explain/?key={world.key.public_id}&amp;model=m{query}"' in page


def test_a_refused_call_names_the_limit_with_its_figures(world: World) -> None:
    insert_calls(row := refused_row(world.key))
    page = open_as(world, "mia", f"{row.call_id}/").content.decode()
    assert "Refused: budget exceeded" in page
    assert "has used $0.0099, with $0 held, of $0.01 this month" in page
    assert "No tokens were billed" in page


def test_a_rate_is_counted_not_paid(world: World) -> None:
    decision = {"level": "key", "node": "k", "window": "minute", "limit": 60, "spent": 60, "held": 0}
    insert_calls(row := refused_row(world.key, decision=decision, error_code="rate_limit_exceeded"))
    assert "has used 60 requests" in open_as(world, "mia", f"{row.call_id}/").content.decode()


TOKENS = st.integers(0, 10**7)
PRICE = st.integers(0, 10**11)


@given(TOKENS, TOKENS, TOKENS, PRICE, PRICE, PRICE)
def test_the_arithmetic_shown_is_exact(
    input_: int, cached: int, output: int, price: int, cached_price: int, output_price: int
) -> None:
    prices = {"input": (input_, price), "cache_read": (cached, cached_price), "output": (output, output_price)}
    parts = {kind: cost_of(tokens, unit) for kind, (tokens, unit) in prices.items() if tokens}
    call = UsageRecord(
        input_tokens=input_,
        cache_read_tokens=cached,
        output_tokens=output,
        unit_prices={kind: unit for kind, (_, unit) in prices.items()},
        cost_parts=parts,
        status="ok",
        http_status=200,
        protocol="chat_completions",
    )
    story = story_of(call, attempts=[], path=[])
    assert story.total == sum(parts.values()) == sum(part.cost_nano_usd for part in story.parts)
    for part in story.parts:
        assert part.tokens is not None
        assert part.unit_nano_usd is not None
        assert cost_of(part.tokens, part.unit_nano_usd) == part.cost_nano_usd


def test_tokens_that_a_part_was_not_made_of_are_not_shown_beside_it() -> None:
    """Pictures are counted among the input tokens, and billed apart."""
    call = UsageRecord(
        input_tokens=1500,
        unit_prices={"input": 10**9, "image_input": 2 * 10**9, "request": 7},
        cost_parts={"input": 1_000_000, "image_input": 1_000_000, "request": 7},
        status="ok",
        http_status=200,
        protocol="chat_completions",
    )
    parts = {part.kind: part for part in story_of(call, attempts=[], path=[]).parts}
    assert parts["Input"].tokens is None
    assert parts["Image input"].tokens is None
    assert parts["Request"].unit_nano_usd is None
