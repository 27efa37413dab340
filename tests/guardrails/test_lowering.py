"""A budget lowered to what is spent already stops calls: the form says whose before it saves, and is sent again."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from guardrails.models import Limit, Policy
from guardrails.selectors import own_limits
from guardrails.services.bindings import bind
from guardrails.services.key_limits import set_key_limits
from guardrails.services.overrides import add_override
from guardrails.services.policies import LimitSpec, create_policy
from orgs.models import ApiKey
from tests.actors import World, key_row, signed_in
from tests.ledger_rows import call_row, insert_calls

DOLLAR = 10**9
# Statements of one page (design: at most 12).
MOST = 12


def made(world: World, *subjects: str, reach: str = "self", name: str = "Team", dollars: int = 10) -> Policy:
    limits = [LimitSpec("budget", "year", dollars * DOLLAR), LimitSpec("rpm", "minute", 60)]
    policy = create_policy(world.acme, name=name, limits=limits, by=world.actor("alice"))
    for subject in subjects:
        bind(policy, subject=getattr(world, subject), reach=reach, by=world.actor("alice"))
    return policy


@pytest.fixture
def spent(world: World) -> World:
    """Mia has spent $3 with a key of hers, in engineering."""
    insert_calls(call_row(world.key, charged_nano_usd=3 * DOLLAR))
    return world


def address(world: World, policy: Policy) -> str:
    return f"/o/{world.acme.slug}/guardrails/{policy.pk}/edit/"


def saying(dollars: str, **more: Any) -> dict[str, Any]:
    return {"name": "Renamed", "limit": ["budget year", "rpm minute"], "value": [dollars, "60"], **more}


def sent(world: World, policy: Policy, dollars: str, **more: Any) -> tuple[int, str]:
    answer = signed_in(world, "alice").post(address(world, policy), saying(dollars, **more))
    return answer.status_code, unescape(answer.content.decode())


def confirmation(page: str) -> str:
    found = re.search(r'name="confirm" value="([^"]+)"', page)
    assert found
    return found[1]


def budget(policy: Policy) -> int:
    return Limit.objects.get(policy=policy, kind="budget").value // DOLLAR


def test_it_is_said_whose_calls_stop_and_saved_once_that_is_confirmed(spent: World) -> None:
    policy = made(spent, "mia", "engineering", "noah")
    status, page = sent(spent, policy, "3")
    assert (status, budget(policy)) == (422, 10)
    assert "of 2 that this policy governs" in page
    for name in ("Mia", "engineering"):
        assert f"{name} has already spent $3.00 of $3.00 per year: calls are refused until Jan 1, " in page
    assert "Save, and refuse calls" in page
    assert 'value="Renamed"' in page
    answer = signed_in(spent, "alice").post(address(spent, policy), saying("3", confirm=confirmation(page)), follow=True)
    (told,) = answer.context["messages"]
    assert (told.level_tag, budget(policy)) == ("warning", 3)
    assert str(told) == "Saved. Calls of 2 that it governs are refused from the next one on."


def test_another_figure_is_asked_about_anew(spent: World) -> None:
    policy = made(spent, "mia")
    confirmed = confirmation(sent(spent, policy, "3")[1])
    status, page = sent(spent, policy, "2", confirm=confirmed)
    assert (status, budget(policy)) == (422, 10)
    assert "$3.00 of $2.00 per year" in page


def test_own_keys_that_begin_to_count_are_asked_about_anew(spent: World) -> None:
    noahs = key_row(spent.field, spent.noah, name="Noah's key")
    noahs.save()
    insert_calls(call_row(noahs, charged_nano_usd=0, list_nano_usd=4 * DOLLAR, byok=True))
    policy = made(spent, "mia", "noah")
    confirmed = confirmation(sent(spent, policy, "3")[1])
    status, page = sent(spent, policy, "3", own_keys=["on", ""], confirm=confirmed)
    assert (status, budget(policy)) == (422, 10)
    assert "Noah has already spent $4.00 of $3.00 per year" in page
    assert sent(spent, policy, "3", own_keys=["on", ""], confirm=confirmation(page))[0] == 302


def test_own_keys_that_begin_to_count_are_asked_about_anew_where_they_stop_nobody_else(spent: World) -> None:
    policy = made(spent, "mia")
    confirmed = confirmation(sent(spent, policy, "3")[1])
    assert (sent(spent, policy, "3", own_keys=["on", ""], confirm=confirmed)[0], budget(policy)) == (422, 10)


def test_who_came_under_the_policy_since_it_was_asked_is_named_first(spent: World) -> None:
    policy = made(spent, "mia")
    confirmed = confirmation(sent(spent, policy, "3")[1])
    bind(policy, subject=spent.engineering, reach="self", by=spent.actor("alice"))
    status, page = sent(spent, policy, "3", confirm=confirmed)
    assert (status, budget(policy)) == (422, 10)
    assert "engineering has already spent $3.00 of $3.00 per year" in page
    assert sent(spent, policy, "3", confirm=confirmation(page))[0] == 302


def test_spending_that_goes_on_is_not_asked_about_anew(spent: World) -> None:
    policy = made(spent, "mia")
    confirmed = confirmation(sent(spent, policy, "3")[1])
    insert_calls(call_row(spent.key, charged_nano_usd=DOLLAR))
    assert sent(spent, policy, "3", confirm=confirmed)[0] == 302


@pytest.mark.parametrize("dollars", ["3.01", "20"])
def test_what_leaves_room_is_saved_at_once(spent: World, dollars: str) -> None:
    policy = made(spent, "mia")
    assert sent(spent, policy, dollars)[0] == 302


def test_what_governs_nobody_is_saved_at_once(spent: World) -> None:
    policy = made(spent)
    assert sent(spent, policy, "1")[0] == 302
    assert budget(policy) == 1


def test_a_budget_that_was_spent_before_is_no_matter_where_it_is_not_lowered(spent: World) -> None:
    policy = made(spent, "mia", dollars=2)
    assert sent(spent, policy, "2")[0] == 302
    assert Policy.objects.get(pk=policy.pk).name == "Renamed"


def test_a_new_budget_is_asked_about_and_one_that_counts_own_keys_from_now_on(spent: World) -> None:
    policy = made(spent, "mia", dollars=4)
    fields = saying("4") | {"limit": ["budget year", "budget total"], "value": ["4", "1"]}
    client = signed_in(spent, "alice")
    assert "of $1.00 in total: calls are refused." in client.post(address(spent, policy), fields).content.decode()
    insert_calls(call_row(spent.key, charged_nano_usd=0, list_nano_usd=2 * DOLLAR, byok=True))
    assert sent(spent, policy, "4")[0] == 302
    status, page = sent(spent, policy, "4", own_keys=["on", ""])
    assert status == 422
    assert "has already spent $5.00 of $4.00 per year" in page


def test_exceptions_count(spent: World) -> None:
    policy = made(spent, "mia", "engineering")
    limit, until = policy.limits.get(kind="budget"), timezone.now() + timedelta(days=1)
    add_override(limit, subject=spent.mia, amount=DOLLAR, until=until, by=spent.actor("alice"))
    status, page = sent(spent, policy, "3")
    assert status == 422
    assert "of 1 that this policy governs" in page
    assert "engineering has already spent" in page


@pytest.mark.parametrize(("reach", "name"), [("members", "Mia"), ("keys", "Mia's key")])
def test_those_whom_a_default_comes_to_are_named(spent: World, reach: str, name: str) -> None:
    policy = made(spent, "engineering", reach=reach)
    status, page = sent(spent, policy, "1")
    assert (status, budget(policy)) == (422, 10)
    assert "of 1 that this policy governs" in page
    assert f"{name} has already spent $3.00 of $1.00 per year" in page


@pytest.mark.parametrize(("reach", "subject"), [("members", "mia"), ("keys", "key")])
def test_a_default_does_not_stop_who_has_a_policy_or_a_nearer_default(spent: World, reach: str, subject: str) -> None:
    policy = made(spent, "root", reach=reach)
    assert sent(spent, policy, "3")[0] == 422
    nearer = made(spent, "platform", reach=reach, name="Nearer")
    assert sent(spent, policy, "2")[0] == 302
    assert sent(spent, nearer, "2")[0] == 422
    made(spent, subject, name="Own")
    assert sent(spent, nearer, "2", name="Nearer")[0] == 302


def test_a_few_are_named_and_the_rest_counted(spent: World) -> None:
    keys = ApiKey.objects.bulk_create(key_row(spent.gateway, spent.mia, name=f"key {number}") for number in range(7))
    insert_calls(*(call_row(key, charged_nano_usd=(number + 1) * DOLLAR) for number, key in enumerate(keys)))
    _, page = sent(spent, made(spent, "engineering", reach="keys"), "2")
    assert "of 7 that this policy governs" in page
    assert re.findall(r"<li>(key \d) has", page) == ["key 6", "key 5", "key 4", "key 3"]
    assert "And 2 more." in page


def statements(queries: Any) -> list[str]:
    """Without those that only frame a test's transactions."""
    return [query["sql"][:100] for query in queries if "SAVEPOINT" not in query["sql"]]


def test_asking_costs_few_statements_and_nothing_where_no_budget_is_lowered(spent: World) -> None:
    policy = made(spent, "root", "mia", "key", "noah")
    bind(policy, subject=spent.engineering, reach="keys", by=spent.actor("alice"))
    client = signed_in(spent, "alice")
    client.get(address(spent, policy))
    with CaptureQueriesContext(
        connection,
    ) as asked:
        assert client.post(address(spent, policy), saying("1")).status_code == 422
    assert len(statements(asked)) <= MOST, statements(asked)
    with CaptureQueriesContext(connection) as saved:
        assert client.post(address(spent, policy), saying("10")).status_code == 302
    assert not [query for query in saved if "spendbucket" in query["sql"] or "usagerecord" in query["sql"]]


# --- a key's own budget ---------------------------------------------------------------------------


def key_answer(client: Client, world: World, **fields: str) -> tuple[int, str]:
    answer = client.post(f"/o/{world.acme.slug}/keys/{world.key.pk}/limits/", fields)
    return answer.status_code, unescape(answer.content.decode())


def test_a_keys_own_budget_is_asked_about_too(spent: World) -> None:
    client = signed_in(spent, "mia")
    status, page = key_answer(client, spent, monthly_nano_usd="2", rpm="7")
    assert (status, own_limits(spent.key).monthly_nano_usd) == (422, None)
    assert "Mia's key has already spent $3.00 of $2.00 per month: calls are refused until " in page
    assert "that this policy governs" not in page
    assert 'name="rpm" value="7"' in page
    assert key_answer(client, spent, monthly_nano_usd="2", rpm="7", confirm=confirmation(page))[0] == 302
    assert "Mia's key has already spent $3.00" in unescape(client.get(f"/o/{spent.acme.slug}/keys/").content.decode())
    assert own_limits(spent.key).monthly_nano_usd == 2 * DOLLAR
    assert key_answer(client, spent, monthly_nano_usd="2", rpm="8")[0] == 302  # it stands already


def test_a_keys_budget_with_room_is_saved_at_once(spent: World) -> None:
    set_key_limits(spent.key, by=spent.actor("mia"), total_nano_usd=9 * DOLLAR)
    assert key_answer(signed_in(spent, "mia"), spent, total_nano_usd="4")[0] == 302


def test_asking_about_a_key_costs_few_statements(spent: World) -> None:
    client = signed_in(spent, "mia")
    client.get(f"/o/{spent.acme.slug}/keys/{spent.key.pk}/limits/")
    with CaptureQueriesContext(connection) as asked:
        assert key_answer(client, spent, monthly_nano_usd="2")[0] == 422
    assert len(statements(asked)) <= MOST, statements(asked)
