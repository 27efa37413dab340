"""Applications through HTTP: who sees and changes which, what the forms keep, and what stops."""

from __future__ import annotations

from typing import Any

import pytest

from orgs.models import Application
from orgs.services.applications import archive_application, create_application
from orgs.services.groups import archive_group
from orgs.services.keys import create_api_key
from tests.actors import World, signed_in
from tests.orgs.test_group_pages import HTMX, shown, url


def listed(world: World, name: str, query: str = "") -> list[str]:
    found = signed_in(world, name).get(url(world, area="applications") + query).context["applications"]
    return [one.name for one in found]


@pytest.fixture
def several(world: World) -> World:
    alice = world.actor("alice")
    create_application(world.engineering, name="Build", by=alice)
    create_application(world.sales, name="Leads", by=alice)
    archive_application(create_application(world.core, name="Old", by=alice), by=alice)
    return world


def test_everyone_sees_those_at_its_node_and_below(several: World, django_assert_max_num_queries: Any) -> None:
    assert listed(several, "alice") == ["Assistant", "Build", "Leads"]
    assert listed(several, "lena", "?archived=1") == ["Assistant", "Build", "Old"]
    client = signed_in(several, "sam")
    client.get(url(several, area="applications"))
    with django_assert_max_num_queries(12):
        assert [one.name for one in client.get(url(several, area="applications")).context["applications"]] == ["Assistant"]


@pytest.mark.parametrize("page", ["", "edit/", "archive/"])
def test_above_and_elsewhere_are_absent(several: World, page: str) -> None:
    build = Application.objects.get(organization=several.acme, name="Build")
    foreign = create_application(several.other.root, name="Foreign", by=several.actor("charlie"))
    for found in (build, foreign):
        assert signed_in(several, "sam").get(url(several, f"{found.pk}/{page}", area="applications")).status_code == 404


def test_a_page_of_one_application_names_its_keys(world: World, django_assert_max_num_queries: Any) -> None:
    key, _ = create_api_key(
        world.platform, name="nightly", application=world.assistant, environment="staging", by=world.actor("sam")
    )
    client = signed_in(world, "sam")
    client.get(url(world, area="applications"))
    with django_assert_max_num_queries(12):
        text = shown(client.get(url(world, f"{world.assistant.pk}/", area="applications")))
    assert f"/keys/{key.pk}/" in text
    assert "Service key" in text
    assert "/ engineering / platform" in text


def test_an_application_is_made_from_the_dialog(world: World) -> None:
    client = signed_in(world, "sam")
    sent = {
        "name": "Help desk",
        "group": world.gateway.pk,
        "environments": "production, staging",
        "features": "chat search,",
        "cost_center": "CC 1",
        "owner": world.mia.email,
    }
    response = client.post(url(world, "new/", area="applications"), sent, headers=HTMX)
    made = Application.objects.get(organization=world.acme, name="Help desk")
    assert response.headers["hx-redirect"] == url(world, f"{made.pk}/", area="applications")
    assert (made.features, made.environments, made.group) == (["chat", "search"], ["production", "staging"], world.gateway)
    assert (made.cost_center, made.owner) == ("CC 1", world.mia)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"name": ""}, "This field is required"),
        ({"name": "ASSISTANT"}, "“assistant” exists already"),
        ({"features": "two words! x"}, "“words!”: use letters, digits"),
        ({"environments": "x" * 31}, "use letters, digits"),
        ({"owner": "noah@example.test"}, "No active member that you see"),
        ({"cost_center": "x" * 61}, "at most 60 characters"),
        ({"group": "engineering"}, "Select a valid choice"),
        ({"group": "elsewhere"}, "Select a valid choice"),
    ],
)
def test_what_is_wrong_stands_at_its_field_and_what_was_typed_stays(world: World, sent: dict[str, str], words: str) -> None:
    groups = {"engineering": world.engineering.pk, "elsewhere": world.other.root.pk}
    typed = {"name": "New", "cost_center": "<9>", **sent, "group": groups.get(sent.get("group", ""), world.platform.pk)}
    response = signed_in(world, "sam").post(url(world, "new/", area="applications"), typed)
    assert response.status_code == 422
    assert words in shown(response)
    assert 'value="&lt;9&gt;"' in shown(response) or "cost_center" in sent
    assert world.acme.applications.count() == 1


def test_editing_says_why_a_label_stays(world: World) -> None:
    create_api_key(world.platform, name="nightly", application=world.assistant, environment="staging", by=world.actor("sam"))
    client, path = signed_in(world, "sam"), url(world, f"{world.assistant.pk}/edit/", area="applications")
    assert 'value="production, staging"' in shown(client.get(path))
    sent = {"name": "Helper", "group": world.platform.pk, "environments": "production", "features": "chat, search"}
    refused = client.post(path, sent)
    assert refused.status_code == 422
    assert "carries “staging”" in shown(refused)
    assert client.post(path, {**sent, "environments": "production staging"}).status_code == 302
    world.assistant.refresh_from_db()
    assert (world.assistant.name, world.assistant.slug) == ("Helper", "assistant")


def test_archiving_asks_for_the_name_and_can_be_taken_back(world: World) -> None:
    client, path = signed_in(world, "sam"), url(world, f"{world.assistant.pk}/", area="applications")
    assert client.post(f"{path}archive/", {"confirm": "assistant"}).status_code == 422
    assert client.post(f"{path}archive/", {"confirm": "Assistant"}).status_code == 302
    assert "Archived" in shown(client.get(path))
    assert client.post(f"{path}restore/").status_code == 302
    world.assistant.refresh_from_db()
    assert world.assistant.archived_at is None


def test_no_key_is_offered_where_none_can_be_made(world: World) -> None:
    client, page = signed_in(world, "alice"), url(world, f"{world.assistant.pk}/", area="applications")
    assert client.get(page).context["may_make_keys"]
    archive_group(world.engineering, by=world.actor("alice"))
    assert not client.get(page).context["may_make_keys"]
