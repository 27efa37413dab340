"""The page of own provider keys through HTTP: what is shown, what never is, and a test that really asks."""

from __future__ import annotations

from typing import Any

import pytest

from orgs.models import AuditEvent
from proxy import provider_keys
from proxy.models import Deployment, Model, Provider, ProviderKey
from proxy.provider_keys import Place
from tests.actors import World, signed_in
from tests.upstream import Upstream, answer, refuse

SECRET = "sk-live-abcdefgh1234"
HTMX = {"hx-request": "true"}


@pytest.fixture
def scripted(world: World, upstream: Upstream, empty_catalogue: None) -> Provider:
    """A provider that answers from `upstream`, serving one model."""
    provider = Provider.objects.create(name="scripted", kind="openai-compatible", base_url=upstream.url)
    model = Model.objects.create(name="m")
    Deployment.objects.create(model=model, provider=provider, upstream_model="upstream-m")
    return provider


@pytest.fixture
def key(world: World, scripted: Provider) -> ProviderKey:
    place = Place(scripted.kind, scripted)
    return provider_keys.add(world.engineering, place=place, name="Ours", secret=SECRET, by=world.actor("alice"))


def url(world: World, path: str = "") -> str:
    return f"/o/{world.acme.slug}/provider-keys/{path}"


def page(world: World, name: str = "alice") -> str:
    return signed_in(world, name).get(url(world)).content.decode()


def typed(world: World, scripted: Provider, **fields: Any) -> dict[str, Any]:
    place = f"openai-compatible:{scripted.pk}"
    return {"place": place, "group": world.engineering.pk, "name": "Ours", "secret": SECRET, **fields}


def outcome_of(world: World, key: ProviderKey) -> tuple[bool | None, str]:
    assert signed_in(world).post(url(world, f"{key.pk}/test/")).status_code == 302
    key.refresh_from_db()
    return key.test_passed, key.test_result


def test_without_a_key_it_says_what_one_is_for(world: World, scripted: Provider) -> None:
    assert "No key of your own yet" in page(world)


def test_where_no_provider_takes_a_key_none_is_offered(world: World, empty_catalogue: None) -> None:
    assert "No provider takes a key" in page(world)


def test_a_key_is_added_and_never_shown(world: World, scripted: Provider) -> None:
    client = signed_in(world, "lena")
    assert client.post(url(world, "new/"), typed(world, scripted, falls_back="on")).status_code == 302
    key = ProviderKey.objects.get(organization=world.acme)
    assert (key.group, key.provider, key.last_four, key.falls_back, key.created_by) == (
        world.engineering, scripted, "1234", True, world.lena,
    )  # fmt: skip
    for shown in (client.get(url(world)), client.get(url(world, f"{key.pk}/edit/"))):
        assert SECRET not in shown.content.decode()
        assert "no-store" in shown.headers["cache-control"]
    assert "…1234" in page(world)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"secret": ""}, "This field is required"),
        ({"name": " "}, "This field is required"),
        ({"place": "openai-compatible"}, "Select a valid choice"),
        ({"group": 0}, "Select a valid choice"),
        ({"base_url": "http://127.0.0.1/v1"}, "Only public addresses can be called"),
    ],
)
def test_what_is_wrong_is_said_and_the_key_is_not_echoed(
    world: World, scripted: Provider, wrong: dict[str, Any], says: str
) -> None:
    refused = signed_in(world).post(url(world, "new/"), typed(world, scripted, **wrong), headers=HTMX)
    assert (refused.status_code, ProviderKey.objects.filter(organization=world.acme).count()) == (422, 0)
    assert says in refused.content.decode()
    assert SECRET not in refused.content.decode()


def test_an_l1_admin_sees_and_offers_its_own_part_alone(world: World, scripted: Provider, key: ProviderKey) -> None:
    place = Place(scripted.kind, scripted)
    provider_keys.add(world.sales, place=place, name="Of sales", secret=SECRET, by=world.actor("alice"))
    assert "Of sales" in page(world)
    assert "Of sales" not in page(world, "lena")
    form = signed_in(world, "lena").get(url(world, "new/")).context["form"]
    assert {group.name for group in form.fields["group"].queryset} == {"engineering", "platform", "gateway", "core"}
    assert signed_in(world, "lena").post(url(world, "new/"), typed(world, scripted, group=world.root.pk)).status_code == 422


def test_changing_keeps_the_key_unless_another_is_given(world: World, key: ProviderKey) -> None:
    client = signed_in(world)
    assert client.post(url(world, f"{key.pk}/edit/"), {"name": "Theirs", "base_url": ""}).status_code == 302
    stored = ProviderKey.objects.get(pk=key.pk)
    assert (stored.name, stored.key_encrypted) == ("Theirs", key.key_encrypted)
    moved = client.post(url(world, f"{key.pk}/edit/"), {"name": "Theirs", "base_url": "https://1.1.1.1/v1"})
    assert moved.status_code == 422
    assert "only ever sent where it was entered for" in moved.content.decode()
    client.post(url(world, f"{key.pk}/edit/"), {"name": "Theirs", "base_url": "", "secret": "sk-another-key-9876"})
    assert ProviderKey.objects.get(pk=key.pk).last_four == "9876"


def test_a_test_asks_the_provider_as_a_call_would(world: World, key: ProviderKey, upstream: Upstream) -> None:
    upstream.then(answer("OK"))
    passed, result = outcome_of(world, key)
    assert passed is True
    assert result.startswith("upstream-m answered in")
    (received,) = upstream.received
    assert received.headers["authorization"] == f"Bearer {SECRET}"
    assert (received.json["model"], received.json["max_tokens"], "stream" in received.json) == ("upstream-m", 16, False)
    assert "Works" in page(world)
    event = AuditEvent.objects.get(organization=world.acme, action="provider_key.tested")
    assert event.after == {"passed": True, "result": result}


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (refuse(401, f"Incorrect API key provided: {SECRET}."), "401"),
        (refuse(500, "boom"), "500"),
        (answer(headers={"content-type": "text/html"}), "HTML"),
    ],
)
def test_a_failed_test_says_why_without_the_key(
    world: World, key: ProviderKey, upstream: Upstream, script: Any, says: str
) -> None:
    upstream.then(script)
    passed, result = outcome_of(world, key)
    assert passed is False
    assert says in result
    assert SECRET not in result
    shown = page(world)
    assert "Failed" in shown
    assert SECRET not in shown


def test_a_test_connects_to_no_private_address_that_a_tenant_gave(world: World, key: ProviderKey, upstream: Upstream) -> None:
    ProviderKey.objects.filter(pk=key.pk).update(base_url=upstream.url)
    assert outcome_of(world, key) == (False, "The provider cannot be reached.")
    assert upstream.received == []


def test_a_key_whose_models_are_gone_or_that_does_not_open_says_so(world: World, key: ProviderKey, upstream: Upstream) -> None:
    Model.objects.update(enabled=False)
    assert "nothing to ask" in outcome_of(world, key)[1]
    ProviderKey.objects.filter(pk=key.pk).update(key_encrypted="v1.gone.AAAA.AAAA")
    assert "cannot be opened" in outcome_of(world, key)[1]
    assert upstream.received == []


def test_off_on_and_gone(world: World, key: ProviderKey) -> None:
    client = signed_in(world)
    client.post(url(world, f"{key.pk}/disable/"))
    assert not ProviderKey.objects.get(pk=key.pk).enabled
    assert "Off" in page(world)
    client.post(url(world, f"{key.pk}/enable/"))
    assert ProviderKey.objects.get(pk=key.pk).enabled
    asked = client.get(url(world, f"{key.pk}/delete/"))
    assert "Delete Ours?" in asked.content.decode()
    assert client.post(url(world, f"{key.pk}/delete/")).status_code == 302
    assert not ProviderKey.objects.filter(pk=key.pk).exists()
    assert client.post(url(world, f"{key.pk}/delete/")).status_code == 404
