"""What is done to keys through HTTP: edited, given a new text, several at once, and what their history says of it."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from gateway_project.lib.crypto import digest
from guardrails.key_forms import EditKeyForm
from guardrails.key_lines import ACTIONS
from guardrails.services.key_limits import set_key_limits
from guardrails.services.several import change_keys
from orgs.audit import audit
from orgs.models import ApiKey, Application, Membership
from orgs.services.applications import archive_application
from orgs.services.departures import move_member
from orgs.services.keys import create_api_key, disable_key, edit_key, enable_key, rotate_key
from tests.actors import World, signed_in

ROOT = Path(__file__).parents[2]
HTMX = {"hx-request": "true"}


def key_url(world: World, path: str = "", key: ApiKey | None = None) -> str:
    return f"/o/{world.acme.slug}/keys/{(key or world.key).pk}/{path}"


def shown(response: Any) -> str:
    text: str = response.content.decode()
    return text


def as_it_is(key: ApiKey) -> ApiKey:
    return ApiKey.objects.get(pk=key.pk)


# --- a new text -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("grace", "hours"), [("none", 0), ("hour", 1), ("day", 24), ("week", 168), ("month", 720)])
def test_a_new_text_is_shown_once_and_the_old_one_stops_when_chosen(world: World, grace: str, hours: int) -> None:
    client, before = signed_in(world, "mia"), timezone.now()
    response = client.post(key_url(world, "rotate/"), {"grace": grace}, headers=HTMX)
    key, secret = as_it_is(world.key), response.context["secret"]
    assert response.status_code == 200
    assert bytes(key.digest) == digest(secret)
    assert bytes(key.old_digest or b"") == digest(world.key_text)
    assert key.old_until is not None
    assert before + timedelta(hours=hours) <= key.old_until <= timezone.now() + timedelta(hours=hours)
    page = shown(client.get(key_url(world)))
    assert secret not in page
    assert ("Two texts work for this key" in page) == bool(hours)
    assert ("The old text, ending in" in shown(response)) == bool(hours)


def test_the_old_text_is_stopped_before_its_time(world: World) -> None:
    rotate_key(world.key, by=world.actor("mia"), old_until=timezone.now() + timedelta(days=1))
    page = shown(signed_in(world, "mia").post(key_url(world, "rotate/end/"), follow=True))
    assert "refused from the next call on" in page
    assert "Two texts work for this key" not in page
    assert not as_it_is(world.key).has_two_texts


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({}, "grace"),
        ({"grace": "never"}, "grace"),
        ({"grace": "moment"}, "old_until"),
        ({"grace": "moment", "old_until": "soon"}, "old_until"),
        ({"grace": "moment", "old_until": "2020-01-01T00:00"}, "old_until"),
        ({"grace": "moment", "old_until": "2999-01-01T00:00"}, "old_until"),
    ],
)
def test_a_senseless_moment_is_named_and_the_text_stays(world: World, typed: dict[str, str], field: str) -> None:
    response = signed_in(world, "mia").post(key_url(world, "rotate/"), typed, headers=HTMX)
    assert response.status_code == 422
    assert set(response.context["form"].errors) == {field}
    assert bytes(as_it_is(world.key).digest) == digest(world.key_text)


def test_a_moment_of_ones_own_is_in_the_organisations_time_zone(world: World) -> None:
    world.acme.time_zone = "Asia/Tokyo"
    world.acme.save()
    moment = timezone.now() + timedelta(days=2)
    typed = {"grace": "moment", "old_until": f"{moment + timedelta(hours=9):%Y-%m-%dT%H:%M}"}
    assert signed_in(world, "mia").post(key_url(world, "rotate/"), typed).status_code == 200
    assert as_it_is(world.key).old_until == moment.replace(second=0, microsecond=0)


# --- edit -----------------------------------------------------------------------------------------


def test_name_attribution_and_end_are_edited(world: World) -> None:
    typed = {"name": "Nightly", "application": world.assistant.pk, "environment": "staging", "features": ["search"]}
    client = signed_in(world, "mia")
    response = client.post(key_url(world, "edit/"), {**typed, "expires_on": "2099-12-31"}, headers=HTMX)
    assert response["HX-Redirect"] == key_url(world)
    key = as_it_is(world.key)
    assert (key.name, key.application, key.environment, key.features) == ("Nightly", world.assistant, "staging", ["search"])
    assert f"{key.expires_at:%Y-%m-%d %H:%M}" == "2100-01-01 00:00"
    page = shown(client.get(key_url(world, "edit/"), headers=HTMX))
    assert 'value="2099-12-31"' in page
    assert page.count("checked") == 1
    assert '<option value="staging" selected>' in page


def test_the_fields_of_another_application_follow_its_choice(world: World) -> None:
    page = shown(
        signed_in(world, "mia").get(key_url(world, "edit/"), {"part": "attribution", "application": str(world.assistant.pk)})
    )
    assert "production" in page
    assert "<form" not in page


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"name": ""}, "name"), ({"application": "7"}, "application"), ({"expires_on": "2001-01-01"}, "expires_on")],
)
def test_bad_input_is_kept_and_changes_nothing(world: World, wrong: dict[str, str], field: str) -> None:
    response = signed_in(world, "mia").post(key_url(world, "edit/"), {"name": "Typed", **wrong}, headers=HTMX)
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert as_it_is(world.key).name == "Mia's key"


def test_an_admins_end_is_put_off_by_no_member(world: World) -> None:
    edit_key(world.key, name="Mia's key", by=world.actor("sam"), expires_at=timezone.now() + timedelta(days=3))
    response = signed_in(world, "mia").post(key_url(world, "edit/"), {"name": "Mia's key", "expires_on": "2099-01-01"})
    assert response.status_code == 422
    assert "An admin has set" in " ".join(response.context["form"].errors["expires_on"])


def test_an_end_to_the_minute_and_one_that_is_over_stay_while_their_day_stays(world: World) -> None:
    for end in (timezone.now() + timedelta(days=3, minutes=7), timezone.now() - timedelta(days=3)):
        world.key.expires_at = end
        form = EditKeyForm({"name": "x", "expires_on": EditKeyForm(key=world.key).initial["expires_on"]}, key=world.key)
        assert form.is_valid(), form.errors
        assert form.expires_at == end


def test_a_service_key_keeps_its_application(world: World) -> None:
    key, _ = create_api_key(world.platform, name="nightly", application=world.assistant, by=world.actor("sam"))
    response = signed_in(world, "sam").post(key_url(world, "edit/", key), {"name": "hourly", "environment": "production"})
    assert response.status_code == 302
    assert (as_it_is(key).name, as_it_is(key).application) == ("hourly", world.assistant)


# --- several at once ------------------------------------------------------------------------------


def several(world: World) -> list[ApiKey]:
    mia = world.actor("mia")
    return [create_api_key(world.gateway, name=name, member=world.mia, by=mia)[0] for name in ("one", "two", "three")]


def bulk(world: World, name: str, action: str, keys: list[ApiKey], **typed: str) -> Any:
    wanted = {"action": action, "key": [str(key.pk) for key in keys], **typed}
    return signed_in(world, name).post(f"/o/{world.acme.slug}/keys/several/", wanted, headers=HTMX)


def statuses(keys: list[ApiKey]) -> list[str]:
    return [as_it_is(key).status for key in keys]


def test_several_keys_are_disabled_enabled_and_deleted_after_one_question(world: World) -> None:
    keys = several(world)
    query = "&".join(["action=disable", *(f"key={key.pk}" for key in keys)])
    asked = signed_in(world, "mia").get(f"/o/{world.acme.slug}/keys/several/?{query}")
    assert asked.status_code == 200
    assert all(key.prefix in shown(asked) for key in keys)
    assert statuses(keys) == ["active"] * 3
    assert bulk(world, "mia", "disable", keys)["HX-Redirect"]
    assert statuses(keys) == ["disabled"] * 3
    assert bulk(world, "mia", "enable", keys[:1])["HX-Redirect"]
    wrong = bulk(world, "mia", "delete", keys[1:], confirm="delete all")
    assert (wrong.status_code, statuses(keys)) == (422, ["active", "disabled", "disabled"])
    assert bulk(world, "mia", "delete", keys[1:], confirm="delete 2 keys")["HX-Redirect"]
    assert statuses(keys) == ["active", "revoked", "revoked"]


def test_what_is_refused_is_told_key_by_key_and_the_rest_is_done(world: World) -> None:
    keys = several(world)
    disable_key(keys[0], by=world.actor("sam"))
    disable_key(keys[1], by=world.actor("mia"))
    response = bulk(world, "mia", "enable", keys)
    assert response.status_code == 422
    refusals = {outcome.key.name: outcome.refusal for outcome in response.context["outcomes"]}
    assert "Manage keys" in refusals.pop("one")
    assert refusals == {"two": "", "three": ""}
    assert statuses(keys) == ["disabled", "active", "active"]
    refused = bulk(world, "mia", "delete", keys[1:], confirm="delete 2 keys")
    assert shown(refused).count("Disable it first") == 2


def test_keys_out_of_sight_are_left_out(world: World) -> None:
    laptop, _ = create_api_key(world.root, name="Laptop", member=world.alice, by=world.actor("alice"))
    response = bulk(world, "mia", "disable", [world.key, laptop])
    assert response["HX-Redirect"]
    assert statuses([world.key, laptop]) == ["disabled", "active"]
    assert bulk(world, "mia", "disable", [laptop]).status_code == 422
    assert bulk(world, "noah", "disable", [world.key]).status_code == 422


@pytest.mark.parametrize(
    "query", ["", "?action=disable", "?action=burn&key=1", "?action=delete&key=x&key=%00&key=9999999999999999999"]
)
def test_a_senseless_address_says_what_to_do(world: World, query: str) -> None:
    response = signed_in(world, "mia").get(f"/o/{world.acme.slug}/keys/several/{query}")
    assert response.status_code == 422
    assert "Tick the keys in the list" in shown(response)


# --- history --------------------------------------------------------------------------------------


def test_the_history_says_who_did_what_in_words(world: World, django_assert_max_num_queries: Any) -> None:
    sam, mia = world.actor("sam"), world.actor("mia")
    edit_key(world.key, name="Renamed", application=world.assistant, features=["chat"], by=mia)
    edit_key(
        world.key,
        name="Renamed",
        application=world.assistant,
        features=["chat"],
        expires_at=timezone.now() + timedelta(days=9),
        by=sam,
    )
    set_key_limits(world.key, by=sam, monthly_nano_usd=25 * 10**9, rpm=60, rules={"models": ["gpt-*"]})
    rotate_key(world.key, by=mia, old_until=timezone.now() + timedelta(days=1))
    disable_key(world.key, by=sam)
    client = signed_in(world, "mia")
    with django_assert_max_num_queries(12):
        response = client.get(key_url(world, "history/"))
    events = response.context["events"]
    assert [(event.who, event.did) for event in events] == [
        ("Sam", "disabled it"),
        ("Mia", "gave it a new text"),
        ("Sam", "set its limits"),
        ("Sam", "changed it"),
        ("Mia", "changed it"),
        ("Mia", "made it"),
    ]
    assert ("Monthly budget", "none", "$25.00") in events[2].changes
    assert ("Requests per minute", "none", "60") in events[2].changes
    assert ("Allowed models", "none", "gpt-*") in events[2].changes
    assert [what for what, _, _ in events[3].changes] == ["Valid until"]
    assert ("Application", "none", "Assistant") in events[4].changes
    assert ("Features", "none", "chat") in events[4].changes
    assert "the old one works until" in events[1].what


def test_lines_of_another_thing_with_the_same_number_are_not_the_keys(world: World) -> None:
    other = Application(pk=world.key.pk, name="Another", group=world.platform)
    audit("application.created", by=world.actor("alice"), target=other)
    assert len(signed_in(world, "mia").get(key_url(world, "history/")).context["events"]) == 1


@pytest.mark.parametrize("whose", ["service", "member"])
def test_a_key_of_an_archived_application_is_renamed_and_keeps_it(world: World, whose: str) -> None:
    sam = world.actor("sam")
    member = world.mia if whose == "member" else None
    home = world.gateway if member else world.platform
    key, _ = create_api_key(home, name="old", member=member, application=world.assistant, environment="staging", by=sam)
    archive_application(world.assistant, by=sam)
    client, page = signed_in(world, "sam"), f"/o/{world.acme.slug}/keys/{key.pk}/edit/"
    form = client.get(page).context["form"]
    there = {name: form[name].value() or "" for name in ("environment", "expires_on")}
    sent = {**there, "name": "new"} | ({"application": world.assistant.pk} if member else {})
    assert client.post(page, sent).status_code == 302
    fresh = ApiKey.objects.get(pk=key.pk)
    assert (fresh.name, fresh.application, fresh.environment) == ("new", world.assistant, "staging")


def test_the_history_of_a_key_says_where_it_was_moved(world: World) -> None:
    membership = Membership.objects.get(user=world.mia, organization=world.acme)
    move_member(membership, group=world.core, by=world.actor("sam"))
    page = signed_in(world, "mia").get(key_url(world, "history/"))
    newest = page.context["events"][0]
    assert (newest.who, newest.did, newest.what) == ("Sam", "moved it to", "core")


def test_whatever_is_done_to_a_key_has_words_for_its_history() -> None:
    """Of every action that the sources write."""
    sources = [path.read_text() for app in ("orgs", "guardrails", "proxy") for path in (ROOT / app).rglob("*.py")]
    written = {action for text in sources for action in re.findall(r'"(key\.[a-z_]+)"', text)}
    assert {"key.created", "key.moved"} <= written
    assert written <= ACTIONS.keys()


def test_a_key_that_somebody_enables_meanwhile_is_not_deleted_with_others(world: World) -> None:
    mia = world.actor("mia")
    seen = disable_key(world.key, by=mia)
    enable_key(world.key, by=mia)
    [outcome] = change_keys([seen], change="delete", by=mia)
    assert outcome.refusal == "Disable it first: that can be undone."
    assert as_it_is(world.key).status == "active"
    [outcome] = change_keys([disable_key(world.key, by=mia)], change="delete", by=mia)
    assert (outcome.refusal, as_it_is(world.key).status) == ("", "revoked")
