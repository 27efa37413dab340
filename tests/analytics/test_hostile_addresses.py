"""Whatever stands in the address of a page, it is a page: never an error, never somebody else's calls, never a script."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from django.http import QueryDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.filters import Filters, url_with
from guardrails.models import Binding, Limit, Policy
from orgs.models import ApiKey, Membership, User
from tests.actors import World, key_row, signed_in
from tests.examples import some
from tests.ledger_rows import call_row, insert_calls

NAMES = ("period", "group", "member", "key", "application", "model", "status", "q", "before", "after", "environment", "page", "")
SPITEFUL = (
    "' OR 1=1 --", "%(scope)s", "%s", "{0}", "\x00", "\ud7ff", "\u2028", "<script>alert(1)</script>", "9" * 400, "-1", "1e9",
    "٣", "null", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "{" + "f" * 32 + "}", "7d",
    "24h", "ok", "../../etc/passwd", "\N{RIGHT-TO-LEFT OVERRIDE}abc", "a" * 5000, "\r\nSet-Cookie: x=1", "%", "%25", "\\",
    '"', "&", "9223372036854775807", "9223372036854775808",
)  # fmt: skip
VALUES = st.sampled_from(SPITEFUL) | st.text(max_size=30)
QUERIES = st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=5)
PAGES = ("", "calls/", "usage/keys/")


@settings(max_examples=some(20), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=QUERIES, page=st.sampled_from(PAGES))
def test_any_query_whatever_is_answered(world: World, query: list[tuple[str, str]], page: str) -> None:
    response = signed_in(world, "alice").get(f"/o/{world.acme.slug}/{page}?{urlencode(query, errors='replace')}")
    assert response.status_code == 200
    assert b"<script>alert(1)" not in response.content


RAW = ("%ff=%fe", "group=%00", "period=%", "a" * 2000, "&&&=&", "period=7d;drop", "key=1&key=2&key=x" * 50, "q=%ed%a0%80")


def test_bytes_that_are_no_text_are_answered_too(world: World) -> None:
    client = signed_in(world, "mia")
    for page in PAGES:
        for raw in RAW:
            assert client.get(f"/o/{world.acme.slug}/{page}?{raw}").status_code == 200, raw


@pytest.mark.parametrize("path", ["usage/keys/{}/limits/", "usage/keys/{}/calls/", "calls/{}/"])
def test_a_row_that_cannot_be_is_absent(world: World, path: str) -> None:
    client = signed_in(world, "alice")
    for row in ("0", "9223372036854775807", "9223372036854775808", "-1", "x", "9" * 60, "%00"):
        assert client.get(f"/o/{world.acme.slug}/{path.format(row)}").status_code == 404, row


@given(QUERIES, st.sampled_from(["period", "group", "model"]), st.none() | VALUES)
def test_a_link_reads_back_as_what_it_was_made_of(query: list[tuple[str, str]], name: str, value: str | None) -> None:
    given_query = QueryDict(urlencode(query, errors="replace"))
    link = url_with(given_query, {name: value}, path="/o/x/")
    assert link.startswith("/o/x/")
    assert link.isascii()
    read = QueryDict(link.partition("?")[2])
    kept = {key: given_query[key] for key in given_query if key not in ("before", "after", name) and given_query[key]}
    assert {key: read[key] for key in read if key != name} == kept
    assert read.get(name, "") == (value or "").encode(errors="replace").decode()


@given(QUERIES)
def test_filters_hold_nothing_but_ids_and_short_text(query: list[tuple[str, str]]) -> None:
    filters = Filters.of(QueryDict(urlencode(query, errors="replace")))
    sql, values = filters.sql()
    assert set(values) == set(Filters._fields)
    assert len(filters.model) <= 200
    assert len(filters.status) <= 12
    # Values travel as parameters: the statement is made of our own words only.
    assert set(sql.replace("%(", "").replace(")s", "")) <= set("abcdefghijklmnopqrstuvwxyz_0123456789 =,()NDATI")


# --- few statements, however large the organisation ---------------------------------------------
def grow(world: World, *, people: int) -> World:
    """So many members with a key and a budget each, and calls of all of them; written as rows."""
    acme, names = world.acme, [f"Person {number}" for number in range(people)]
    persons = User.objects.bulk_create(User(email=f"p{at}.{acme.slug}@example.test", name=name) for at, name in enumerate(names))
    Membership.objects.bulk_create(Membership(user=person, organization=acme, group=world.platform) for person in persons)
    keys = ApiKey.objects.bulk_create(key_row(world.platform, person, name=f"Key of {person}") for person in persons)
    policies = Policy.objects.bulk_create(Policy(organization=acme, name=f"P of {name}") for name in names)
    Limit.objects.bulk_create(Limit(policy=policy, kind="budget", window="month", value=10**9) for policy in policies)
    Binding.objects.bulk_create(
        Binding(organization=acme, policy=policy, api_key=key) for policy, key in zip(policies, keys, strict=True)
    )
    insert_calls(*(call_row(key) for key in keys for _ in range(2)))
    return world


@pytest.fixture
def crowd(world: World) -> World:
    return grow(world, people=40)


def test_no_page_takes_more_statements_for_many_people(crowd: World, django_assert_max_num_queries: Any) -> None:
    keys = urlencode([("key", str(pk)) for pk in ApiKey.objects.filter(organization=crowd.acme).values_list("pk", flat=True)])
    for name in ("alice", "lena", "sam"):
        client = signed_in(crowd, name)
        client.get(f"/o/{crowd.acme.slug}/")  # the first visit writes into the session
        for page in ("", "?period=24h", "calls/", "calls/?status=ok&period=30d", f"usage/keys/?{keys}"):
            with django_assert_max_num_queries(12):
                assert client.get(f"/o/{crowd.acme.slug}/{page}").status_code == 200
