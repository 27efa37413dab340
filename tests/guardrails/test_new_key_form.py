"""What the form of a new key says before it is filled in: what the organisation requires, and where no key more fits."""

import re
from typing import Any

import pytest

from guardrails.services.bindings import bind
from guardrails.services.policies import LimitSpec, create_policy
from orgs.models import ApiKey, Application
from orgs.services.organizations import change_settings
from tests.actors import World, signed_in

HTMX = {"hx-request": "true"}


def url(world: World, path: str = "new/") -> str:
    return f"/o/{world.acme.slug}/keys/{path}"


def opened(world: World, name: str = "mia", path: str = "new/", **chosen: Any) -> str:
    return signed_in(world, name).get(url(world, path), chosen, headers=HTMX).content.decode()


def posted(world: World, **fields: Any) -> Any:
    typed = {"name": "Trial", "group": world.gateway.pk, "budget_window": "month", **fields}
    return signed_in(world, "mia").post(url(world), typed, headers=HTMX)


def require(world: World) -> None:
    change_settings(world.acme, by=world.actor("alice"), attribution_required=True)


def label(page: str, field: str) -> str:
    return page[page.index(f'for="id_{field}"') :].partition("</label>")[0]


# --- attribution ----------------------------------------------------------------------------------
def test_what_nobody_requires_is_optional(world: World) -> None:
    page = opened(world, application=world.assistant.pk)
    assert "optional" in label(page, "application")
    assert "optional" in label(page, "environment")
    assert "takes no call without" not in page


def test_what_the_organisation_requires_of_calls_the_form_requires_and_says_why(world: World) -> None:
    require(world)
    page = opened(world, application=world.assistant.pk)
    assert "optional" not in label(page, "application") + label(page, "environment")
    assert "Acme takes no call without application, environment and feature. So all three are required." in re.sub(
        world.acme.name, "Acme", page
    )
    assert "Choose one" in opened(world)
    assert opened(world, path="new/attribution/").count("So all three are required.") == 1


@pytest.mark.parametrize("left_out", ["application", "environment", "features"])
def test_a_key_that_could_make_no_call_is_not_made(world: World, left_out: str) -> None:
    require(world)
    fields = {"application": world.assistant.pk, "environment": "production", "features": ["chat"]}
    answer = posted(world, **{name: value for name, value in fields.items() if name != left_out})
    assert answer.status_code == 422
    assert "takes no call without one: choose it." in answer.content.decode()
    assert not ApiKey.objects.filter(name="Trial").exists()
    assert posted(world, **fields).status_code == 200
    assert ApiKey.objects.get(name="Trial").features == ["chat"]


def test_where_there_is_nothing_to_choose_the_form_warns_and_makes_the_key(world: World) -> None:
    require(world)
    Application.objects.filter(pk=world.assistant.pk).update(environments=[])
    page = opened(world, application=world.assistant.pk)
    assert "This key can make no call yet" in page
    assert "Assistant has no environment: calls with the key are refused until there is one" in page
    Application.objects.filter(pk=world.assistant.pk).update(features=[])
    assert "Assistant has no environment and no feature:" in opened(world, application=world.assistant.pk)
    world.assistant.delete()
    assert "gateway and the groups above have no application: calls with the key are refused" in opened(world)
    assert posted(world).status_code == 200


# --- no key more ----------------------------------------------------------------------------------
def full(world: World, value: int = 1) -> None:
    policy = create_policy(world.acme, name="Few keys", limits=[LimitSpec("keys", "now", value)], by=world.actor("alice"))
    bind(policy, subject=world.platform, by=world.actor("alice"))


def test_where_no_key_more_fits_the_form_says_so_before_it_is_filled_in(world: World) -> None:
    assert "No more keys" not in opened(world)
    full(world)
    page = opened(world)
    assert "No more keys can be made here" in page
    assert "The policy “Few keys” on platform allows 1 API key, and there is 1 already." in page


def test_the_policy_is_linked_for_who_may_see_it(world: World) -> None:
    full(world)
    link = re.search(r'href="([^"]*)">Open the policy', opened(world, "sam", group=world.gateway.pk))
    assert link is not None
    assert signed_in(world, "sam").get(link[1]).status_code == 200


def test_another_group_with_room_says_nothing(world: World) -> None:
    full(world)
    assert "No more keys" in opened(world, "alice", path="new/attribution/", group=world.gateway.pk)
    assert "No more keys" not in opened(world, "alice", path="new/attribution/", group=world.field.pk)


def test_what_is_refused_after_all_is_said_once(world: World) -> None:
    full(world)
    answer = posted(world)
    assert answer.status_code == 422
    assert answer.content.decode().count("allows 1 API key,") == 1
