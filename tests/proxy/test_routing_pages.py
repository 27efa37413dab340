"""The routing page through HTTP: aliases, what `auto` chooses from, and deployments with what is known of their health."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gateway_project.lib import redis
from orgs.models import AuditEvent
from proxy.choice_services import choice_of
from proxy.health import keys
from proxy.health.reports import BUCKET_MS
from proxy.models import Alias, Deployment, Model, Preset, Provider
from proxy.naming_services import PresetWords, create_alias, create_preset
from tests.actors import World, signed_in

HTMX = {"hx-request": "true"}


@pytest.fixture
def deployments(empty_catalogue: None) -> list[Deployment]:
    """Of "large" two, of "small" one; ids far from those that other tests leave something about in Redis."""
    made = []
    for at, (name, place) in enumerate((("large", "first"), ("large", "second"), ("small", "first"))):
        provider, _ = Provider.objects.get_or_create(name=place, kind="openai")
        model, _ = Model.objects.get_or_create(name=name, defaults={"fallbacks": ["small"] if name == "large" else []})
        pk = 7 * 10**12 + time.time_ns() % 10**9 * 10 + at
        made.append(Deployment.objects.create(pk=pk, model=model, provider=provider, upstream_model=f"{name}-up", order=at + 1))
    Deployment.objects.filter(pk=made[0].pk).update(rpm=60, tpm=90_000, zdr=True)
    return made


def url(world: World, path: str = "") -> str:
    return f"/o/{world.acme.slug}/routing/{path}"


def shown(response: Any) -> str:
    text: str = response.content.decode()
    return text


# --- deployments ----------------------------------------------------------------------------------


def test_every_model_is_shown_with_its_deployments_and_what_they_promise(world: World, deployments: list[Deployment]) -> None:
    page = shown(signed_in(world, "sam").get(url(world)))
    assert "falls back to small" in page
    assert "among equals by weight" in page
    assert "0 of 60 requests" in page
    assert "0 of 90,000 tokens" in page
    assert "Zero data retention" in page
    assert page.count("Not seen yet") == 3


def test_health_is_what_the_workers_know_together(world: World, deployments: list[Deployment]) -> None:
    now = time.time_ns() // 10**6
    bucket = now // 1000
    first, second, third = (str(one.pk) for one in deployments)
    state: dict[Any, Any] = {"opened": 1, "till": now + 60_000, "why": "rate_limited", "error": "rate_limited", "error_at": now}
    redis.client().hset(keys.state(first), mapping={**state, "first_token": "412.4", "speed": "83.2"})
    redis.client().hset(keys.state(second), mapping={"opened": 1, "till": now - 1, "error": "timeout", "error_at": now})
    redis.client().hset(keys.state(third), mapping={"opened": 1, "till": now - 1, "error": "status", "error_at": now})
    redis.client().hset(keys.quota(first), mapping={f"r{bucket}": 12, f"t{bucket}": 3400})
    try:
        page = shown(signed_in(world, "sam").get(url(world, "deployments/")))
    finally:
        redis.client().delete(*map(keys.state, (first, second, third)), keys.quota(first))
    assert "Circuit open" in page
    assert "Probing" in page
    assert "rate limited" in page
    assert "too slow" in page
    assert "answered with an error" in page
    assert "refused the request" not in page
    assert "412\N{NO-BREAK SPACE}ms" in page
    assert ">83<" in page
    assert "12 of 60 requests" in page
    assert "3,400 of 90,000 tokens" in page


@pytest.mark.parametrize(
    ("succeeded", "failed", "pill"),
    [(0, 1, "Failing"), (1, 3, "Failing"), (2, 2, "Healthy"), (9, 1, "Healthy"), (1, 0, "Healthy")],
)
def test_what_mostly_fails_does_not_look_healthy(
    world: World, deployments: list[Deployment], succeeded: int, failed: int, pill: str
) -> None:
    first, bucket = str(deployments[0].pk), time.time_ns() // 10**6 // BUCKET_MS
    redis.client().hset(keys.state(first), mapping={f"s{bucket}": succeeded, f"f{bucket}": failed})
    try:
        page = shown(signed_in(world, "sam").get(url(world, "deployments/")))
    finally:
        redis.client().delete(keys.state(first))
    assert {word for word in ("Failing", "Healthy") if word in page} == {pill}
    assert f"{failed} of {succeeded + failed}" in page


@pytest.mark.usefixtures("empty_catalogue")
def test_without_a_model_it_says_whose_matter_that_is(world: World) -> None:
    assert "No model is offered yet" in shown(signed_in(world, "sam").get(url(world)))


def test_the_page_costs_the_same_for_many(
    world: World, deployments: list[Deployment], django_assert_max_num_queries: Any
) -> None:
    for number in range(5):
        create_alias(world.gateway, name=f"a{number}", model="large", by=world.actor("alice"))
    client = signed_in(world, "lena")
    client.get(url(world))
    with django_assert_max_num_queries(12):
        assert "a4" in shown(client.get(url(world)))


# --- aliases --------------------------------------------------------------------------------------


def test_an_alias_is_made_changed_and_deleted(world: World, deployments: list[Deployment]) -> None:
    client = signed_in(world, "sam")
    assert 'value="auto:best"' in shown(client.get(url(world, "aliases/new/"), headers=HTMX))
    made = {"name": "our-best", "model": "large", "group": world.gateway.pk}
    assert client.post(url(world, "aliases/new/"), made, headers=HTMX)["HX-Redirect"] == url(world)
    alias = Alias.objects.get(organization=world.acme)
    assert (alias.name, alias.model, alias.group) == ("our-best", "large", world.gateway)
    assert "our-best" in shown(client.get(url(world)))

    assert client.post(url(world, f"aliases/{alias.pk}/edit/"), {"model": "small"}).status_code == 302
    alias.refresh_from_db()
    assert alias.model == "small"

    create_preset(world.gateway, name="polite", words=PresetWords("our-best"), by=world.actor("sam"))
    address = url(world, f"aliases/{alias.pk}/delete/")
    assert "The preset polite goes to it" in shown(client.get(address))
    assert client.post(address, {"confirm": "our"}).status_code == 422
    assert client.post(address, {"confirm": "our-best"}, headers=HTMX)["HX-Redirect"] == url(world)
    assert not Alias.objects.filter(pk=alias.pk).exists()


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"name": "auto"}, "name"), ({"name": "Large"}, "name"), ({"model": "nothing"}, "model"), ({"group": "0"}, "group")],
)
def test_what_is_wrong_stands_beside_its_field(
    world: World, deployments: list[Deployment], fields: dict[str, str], field: str
) -> None:
    good = {"name": "ours", "model": "large", "group": str(world.platform.pk)}
    response = signed_in(world, "sam").post(url(world, "aliases/new/"), good | fields)
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert not Alias.objects.filter(organization=world.acme).exists()


def test_a_group_above_is_no_choice_and_its_alias_is_seen_and_left_alone(world: World, deployments: list[Deployment]) -> None:
    above = create_alias(world.root, name="ours", model="large", by=world.actor("alice"))
    theirs = create_alias(world.sales, name="theirs", model="large", by=world.actor("alice"))
    client = signed_in(world, "sam")
    fields = {"name": "mine", "model": "large", "group": world.engineering.pk}
    assert client.post(url(world, "aliases/new/"), fields).status_code == 422
    page = shown(client.get(url(world)))
    assert "ours" in page
    assert "theirs" not in page
    assert url(world, f"aliases/{above.pk}/edit/") not in page
    for path in ("edit/", "delete/"):
        assert client.post(url(world, f"aliases/{above.pk}/{path}"), {"model": "small", "confirm": "ours"}).status_code == 403
        assert client.post(url(world, f"aliases/{theirs.pk}/{path}")).status_code == 404
        assert signed_in(world, "charlie").post(url(world, f"aliases/{above.pk}/{path}")).status_code == 404
    assert Alias.objects.filter(pk=above.pk, model="large").exists()


# --- what auto chooses from -----------------------------------------------------------------------


def test_candidates_are_added_moved_and_removed_without_javascript(world: World, deployments: list[Deployment]) -> None:
    client = signed_in(world, "alice")
    for name in ("large", "small"):
        assert client.post(url(world, "auto/add/"), {"model": name})["location"] == f"{url(world)}#auto"
    page = shown(client.post(url(world, "auto/move/"), {"model": "small", "to": "weaker"}, follow=True))
    assert page.index("Move small up") < page.index("Move large up")
    client.post(url(world, "auto/remove/"), {"model": "large"})
    assert choice_of(world.acme).auto_candidates == ["small"]
    assert "no chat model" in shown(client.post(url(world, "auto/add/"), {"model": "nothing"}, follow=True))
    assert AuditEvent.objects.filter(organization=world.acme, action="routing.changed").count() == 4


def test_with_htmx_only_the_card_comes_back(world: World, deployments: list[Deployment]) -> None:
    client = signed_in(world, "alice")
    card = client.post(url(world, "auto/add/"), {"model": "large"}, headers=HTMX)
    assert shown(card).lstrip().startswith("<section")
    again = client.post(url(world, "auto/add/"), {"model": "large"}, headers=HTMX)
    assert again.status_code == 422
    assert "among them already" in shown(again)


def test_the_baseline_is_chosen_and_a_model_that_is_gone_is_said_to_be(world: World, deployments: list[Deployment]) -> None:
    client = signed_in(world, "alice")
    client.post(url(world, "baseline/"), {"model": "large"})
    client.post(url(world, "auto/add/"), {"model": "large"})
    assert choice_of(world.acme).baseline_model == "large"
    Model.objects.filter(name="large").update(enabled=False)
    page = shown(client.get(url(world)))
    assert "The baseline is not offered any more" in page
    assert "Not offered</span>" in page
    client.post(url(world, "baseline/"), {"model": ""})
    assert choice_of(world.acme).baseline_model == ""


def test_others_than_a_super_admin_see_what_is_chosen(world: World, deployments: list[Deployment]) -> None:
    signed_in(world, "alice").post(url(world, "auto/add/"), {"model": "large"})
    page = shown(signed_in(world, "lena").get(url(world)))
    assert "A Super Admin chooses both" in page
    assert "auto/move/" not in page


# --- presets --------------------------------------------------------------------------------------


def presets_url(world: World, path: str = "") -> str:
    return f"/o/{world.acme.slug}/presets/{path}"


def typed(world: World, **fields: Any) -> dict[str, Any]:
    return {"name": "polite", "group": world.platform.pk, "model": "large", **fields}


def test_a_preset_is_shared_with_those_below(world: World, deployments: list[Deployment]) -> None:
    assert "Share what works" in shown(signed_in(world, "sam").get(presets_url(world)))
    assert "No preset is shared with you" in shown(signed_in(world, "mia").get(presets_url(world)))
    fields = {
        "description": "For letters", "system_prompt": "Be <polite>.", "temperature": "0.2", "max_tokens": "500",
        "reasoning_effort": "low", "stop": "END\n\nSTOP",
    }  # fmt: skip
    made = signed_in(world, "sam").post(presets_url(world, "new/"), typed(world, **fields))
    assert made["location"] == presets_url(world)
    preset = Preset.objects.get(organization=world.acme)
    assert preset.parameters == {"temperature": 0.2, "max_tokens": 500, "reasoning_effort": "low", "stop": ["END", "STOP"]}

    listed = shown(signed_in(world, "mia").get(presets_url(world)))
    assert "preset:polite" in listed
    assert "at most 500 output tokens" in listed
    assert f"For keys in {world.acme.name} / engineering / platform and below" in listed
    assert "shared by Sam" in listed
    assert "Archive" not in listed
    one = shown(signed_in(world, "mia").get(presets_url(world, f"{preset.pk}/"), headers=HTMX))
    assert "Be &lt;polite&gt;." in one
    assert "model=&quot;preset:polite&quot;" in one or 'model="preset:polite"' in one
    for stranger, status in (("noah", 404), ("charlie", 404)):
        assert signed_in(world, stranger).get(presets_url(world, f"{preset.pk}/")).status_code == status
        assert "preset:polite" not in shown(signed_in(world, stranger).get(presets_url(world)))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "a b"}, "name"),
        ({"name": ""}, "name"),
        ({"model": "nothing"}, "model"),
        ({"model": "preset:polite"}, "model"),
        ({"temperature": "3"}, "temperature"),
        ({"temperature": "nan"}, "temperature"),
        ({"top_p": "0"}, "top_p"),
        ({"max_tokens": "9999999999"}, "max_tokens"),
        ({"reasoning_effort": "much"}, "reasoning_effort"),
        ({"stop": "a\nb\nc\nd\ne"}, "stop"),
        ({"system_prompt": "x" * 20_001}, "system_prompt"),
        ({"description": "x" * 201}, "description"),
        ({"group": "0"}, "group"),
    ],
)
def test_a_bad_preset_is_sent_back(world: World, deployments: list[Deployment], fields: dict[str, str], field: str) -> None:
    response = signed_in(world, "sam").post(presets_url(world, "new/"), typed(world, **fields))
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert not Preset.objects.filter(organization=world.acme).exists()


def test_it_is_edited_archived_and_undone(world: World, deployments: list[Deployment]) -> None:
    preset = create_preset(world.platform, name="polite", words=PresetWords("large", "Old"), by=world.actor("sam"))
    client = signed_in(world, "sam")
    address = presets_url(world, f"{preset.pk}/edit/")
    form = shown(client.get(address))
    assert 'value="Old"' in form
    assert 'name="name"' not in form
    assert client.post(address, {"model": "auto", "name": "other"}).status_code == 302
    preset.refresh_from_db()
    assert (preset.name, preset.model, preset.description) == ("polite", "auto", "")

    page = shown(client.post(presets_url(world, f"{preset.pk}/archive/"), follow=True))
    assert f'hx-post="{presets_url(world, f"{preset.pk}/restore/")}"' in page
    assert "Bring back" in page
    assert signed_in(world, "mia").get(presets_url(world, f"{preset.pk}/")).status_code == 404
    assert "Archived" in shown(client.get(presets_url(world, f"{preset.pk}/")))
    again = client.post(presets_url(world, f"{preset.pk}/restore/"), headers=HTMX)
    assert again["HX-Redirect"] == presets_url(world)
    preset.refresh_from_db()
    assert preset.archived_at is None


def test_an_archived_one_whose_name_was_taken_stays_archived(world: World, deployments: list[Deployment]) -> None:
    client = signed_in(world, "sam")
    first = create_preset(world.platform, name="polite", words=PresetWords("large"), by=world.actor("sam"))
    client.post(presets_url(world, f"{first.pk}/archive/"))
    create_preset(world.platform, name="polite", words=PresetWords("small"), by=world.actor("sam"))
    assert "already" in shown(client.post(presets_url(world, f"{first.pk}/restore/"), follow=True))


def test_a_preset_from_above_is_used_and_left_alone(world: World, deployments: list[Deployment]) -> None:
    preset = create_preset(world.root, name="polite", words=PresetWords("large"), by=world.actor("alice"))
    client = signed_in(world, "sam")
    listed = shown(client.get(presets_url(world)))
    assert "preset:polite" in listed
    assert "For every key" in listed
    for path in ("edit/", "archive/", "restore/"):
        assert client.post(presets_url(world, f"{preset.pk}/{path}")).status_code == 403
        assert signed_in(world, "charlie").post(presets_url(world, f"{preset.pk}/{path}")).status_code == 404
    assert client.get(presets_url(world, f"{preset.pk}/archive/")).status_code == 405


def test_the_list_costs_the_same_for_many(
    world: World, deployments: list[Deployment], django_assert_max_num_queries: Any
) -> None:
    for number in range(6):
        create_preset(world.gateway, name=f"p{number}", words=PresetWords("large"), by=world.actor("alice"))
    client = signed_in(world, "sam")
    client.get(presets_url(world))
    with django_assert_max_num_queries(12):
        assert "preset:p5" in shown(client.get(presets_url(world)))
