"""The command palette: what it finds, for whom, and at what cost."""

from collections import Counter
from typing import Any

import pytest
from django.test import Client

from guardrails.services.bindings import bind
from guardrails.services.policies import LimitSpec, create_policy
from orgs import navigation
from orgs.permissions import RoleName
from orgs.services.keys import create_api_key
from orgs.services.members import grant_role
from proxy.models import Deployment, Model, Provider
from tests.actors import World, signed_in
from tests.ledger_rows import call_row, insert_calls


def found(world: World, name: str, search: str) -> dict[str, list[str]]:
    client = Client()
    client.force_login(getattr(world, name))
    response = client.get(f"/o/{world.acme.slug}/find/", {"q": search}, headers={"hx-request": "true"})
    assert response.status_code == 200
    return {section.title: [hit.label for hit in section.hits] for section in response.context["sections"]}


def test_without_a_word_it_offers_the_pages_of_the_menu(world: World) -> None:
    menu = [link.label for link in navigation.links(world.actor("mia"), path="")]
    assert found(world, "mia", "") == {"Pages": menu}
    assert "Settings" in found(world, "alice", "")["Pages"]
    assert "Settings" not in menu


@pytest.mark.parametrize(
    ("name", "search", "title", "labels"),
    [
        ("mia", "call L", "Pages", ["Call log"]),
        ("alice", "mia", "API keys", ["Mia's key"]),
        ("mia", "mia's", "API keys", ["Mia's key"]),
        ("noah", "mia", "API keys", None),
        ("alice", "noah", "Members", ["Noah"]),
        ("lena", "noah", "Members", None),
        ("alice", "gate", "Groups", ["gateway"]),
        ("noah", "gate", "Groups", None),
        ("sam", "assist", "Applications", ["Assistant"]),
        ("noah", "assist", "Applications", None),
    ],
)
def test_it_finds_what_one_may_see_and_nothing_else(
    world: World, name: str, search: str, title: str, labels: list[str] | None
) -> None:
    assert found(world, name, search).get(title) == labels


@pytest.mark.parametrize(("name", "search"), [("alice", "gate"), ("mia", "gate"), ("sam", "assist"), ("alice", "noah")])
def test_a_hit_leads_to_a_page_that_opens(world: World, name: str, search: str) -> None:
    client = signed_in(world, name)
    response = client.get(f"/o/{world.acme.slug}/find/", {"q": search}, headers={"hx-request": "true"})
    urls = [hit.url for section in response.context["sections"] for hit in section.hits]
    assert urls
    assert {client.get(url).status_code for url in urls} == {200}


@pytest.mark.parametrize(("role", "seen"), [(RoleName.FINANCE, True), (RoleName.AUDITOR, True), (None, False)])
def test_who_sees_all_usage_finds_calls_and_people_and_each_hit_opens(world: World, role: RoleName | None, seen: bool) -> None:
    row = call_row(world.key)
    insert_calls(row)
    if role is not None:
        grant_role(world.noah, role=role, group=world.root, by=world.actor("alice"))
    client, hits = signed_in(world, "noah"), []
    for search in ("mia", "gateway", row.call_id.hex):
        response = client.get(f"/o/{world.acme.slug}/find/", {"q": search}, headers={"hx-request": "true"})
        hits += [(section.title, hit.url) for section in response.context["sections"] for hit in section.hits]
    expected = ["API keys", "Members", "Groups", "Calls"] if seen else []
    assert [title for title, _ in hits] == expected
    assert {client.get(url).status_code for _, url in hits} == ({200} if seen else set())


def test_a_policy_is_found_by_who_sees_what_it_is_bound_to(world: World) -> None:
    alice = world.actor("alice")
    for name, subject in (("Field work", world.field), ("Work on the platform", world.platform), ("Work of nobody", None)):
        made = create_policy(world.acme, name=name, limits=[LimitSpec("rpm", "minute", 9)], by=alice)
        if subject is not None:
            bind(made, subject=subject, by=alice)
    assert found(world, "alice", "WORK") == {"Policies": ["Field work", "Work of nobody", "Work on the platform"]}
    assert found(world, "sam", "work").get("Policies") == ["Work of nobody", "Work on the platform"]
    assert "Policies" not in found(world, "mia", "work")
    hit = signed_in(world, "sam").get(f"/o/{world.acme.slug}/find/", {"q": "work on"}).context["sections"][0].hits[0]
    assert signed_in(world, "sam").get(hit.url).status_code == 200


def test_keys_are_found_by_what_is_shown_of_them(world: World) -> None:
    assert found(world, "mia", world.key.prefix)["API keys"] == ["Mia's key"]
    assert found(world, "noah", world.key.prefix) == {}


@pytest.mark.usefixtures("empty_catalogue")
def test_models_are_found_by_a_part_of_their_name(world: World) -> None:
    provider = Provider.objects.create(name="p", kind="sandbox")
    for name, enabled in (("vendor/large-1", True), ("vendor/large-0", False)):
        model = Model.objects.create(name=name, enabled=enabled)
        Deployment.objects.create(model=model, provider=provider, upstream_model="x")
    assert found(world, "mia", "LARGE") == {"Models": ["vendor/large-1"]}


def test_a_call_is_found_by_the_beginning_of_its_id(world: World) -> None:
    row = call_row(world.key)
    insert_calls(row)
    assert found(world, "mia", str(row.call_id)) == {"Calls": [str(row.call_id)]}
    assert found(world, "lena", f"req_{row.call_id.hex[:20]}") == {"Calls": [str(row.call_id)]}
    assert found(world, "noah", str(row.call_id)) == {}


def test_of_many_hits_a_few_are_shown(world: World, django_assert_max_num_queries: Any) -> None:
    for number in range(9):
        create_api_key(world.gateway, name=f"mia {number}", member=world.mia, by=world.actor("mia"))
    client = Client()
    client.force_login(world.alice)
    client.get(f"/o/{world.acme.slug}/find/")  # the first visit keeps where one was
    with django_assert_max_num_queries(12):
        response = client.get(f"/o/{world.acme.slug}/find/", {"q": "mia"})
    assert "<html" in response.content.decode()
    counts = {section.title: len(section.hits) for section in response.context["sections"]}
    assert counts["API keys"] == 5


@pytest.mark.parametrize("search", ["%00", "\x00", "x" * 500, "%", "_", "<script>", "''"])
def test_senseless_words_find_nothing(world: World, search: str) -> None:
    assert not found(world, "alice", search).get("Members")


def test_what_nobody_is_called_is_said_without_markup(world: World) -> None:
    client = Client()
    client.force_login(world.mia)
    page = client.get(f"/o/{world.acme.slug}/find/", {"q": "<b>none"}, headers={"hx-request": "true"}).content.decode()
    assert "Nothing is called “&lt;b&gt;none”" in page


def test_no_two_pages_have_the_same_shortcut(world: World) -> None:
    letters = Counter(entry.shortcut for entry in navigation.ENTRIES if entry.shortcut)
    assert [letter for letter, count in letters.items() if count > 1] == []
    assert {entry.label for entry in navigation.ENTRIES if not entry.shortcut} == set(), "the list of shortcuts would lack them"
    assert all(len(letter) == 1 and letter.isascii() and letter.islower() for letter in letters)
    page = Client()
    page.force_login(world.mia)
    shown = page.get(f"/o/{world.acme.slug}/keys/").content.decode()
    assert 'data-go="k"' in shown
    assert 'data-go="s"' not in shown
