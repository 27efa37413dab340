"""What the settings say of the keys that "Require attribution" stops."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from orgs.attributed import attributed
from orgs.models import ApiKey
from orgs.services.organizations import change_settings
from tests.actors import World, key_row, signed_in


def shown(world: World) -> str:
    page: str = signed_in(world, "alice").get(f"/o/{world.acme.slug}/settings/").content.decode()
    return " ".join(page.split())


def keys(world: World, *declared: dict[str, Any]) -> None:
    everything = {"application": world.assistant, "environment": "production", "features": ["chat"]}
    rows = [key_row(world.gateway, world.mia, name=one.get("name", "k")) for one in declared]
    for row, one in zip(rows, declared, strict=True):
        for name, value in (everything | one).items():
            setattr(row, name, value)
    ApiKey.objects.bulk_create(rows)


def test_keys_that_could_make_no_call_are_counted(world: World) -> None:
    past = timezone.now() - timedelta(days=1)
    lacking: list[dict[str, Any]] = [{"application": None}, {"environment": ""}, {"features": []}]
    keys(world, {}, {"features": ["chat", "search"]}, *lacking)
    keys(world, *({"features": [], over: past} for over in ("disabled_at", "revoked_at", "expires_at")))
    assert attributed(world.acme) == (6, 4, 1)  # mia's own key declares nothing
    assert "4 of 6 active keys</a> lack an application, environment or feature: once this is saved, all calls" in shown(world)
    assert "1 more declares several features: each call must name one of them" in shown(world)
    change_settings(world.acme, by=world.actor("alice"), attribution_required=True)
    assert "lack an application, environment or feature: all calls with them are refused." in shown(world)


def test_the_link_leads_to_those_very_keys(world: World) -> None:
    keys(world, {}, {"environment": "", "name": "Nameless"})
    address = f"/o/{world.acme.slug}/keys/?status=active&watch=unattributed"
    assert address.replace("&", "&amp;") in shown(world)
    rows = signed_in(world, "alice").get(address).context["rows"]
    assert {row.key.name for row in rows} == {"Nameless", world.key.name}


def test_where_every_key_says_what_it_is_for_that_is_said(world: World) -> None:
    ApiKey.objects.filter(pk=world.key.pk).update(application=world.assistant, environment="production", features=["chat"])
    assert "Every active key names an application, an environment and at least one feature." in shown(world)
    ApiKey.objects.filter(pk=world.key.pk).update(disabled_at=timezone.now())
    assert "There is no active key yet." in shown(world)
