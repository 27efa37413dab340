"""First steps of a new organisation check themselves off; a member's overview begins with its keys."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from analytics.first_steps import first_steps
from billing import credits
from gateway_project.lib.money import NANO
from guardrails.services.bindings import bind
from guardrails.services.policies import LimitSpec, create_policy
from orgs.actor import Actor
from orgs.models import AuditEvent, Organization
from orgs.services.groups import create_group
from orgs.services.keys import create_api_key
from orgs.services.members import add_member
from orgs.services.organizations import create_organization
from proxy import provider_keys
from proxy.models import Provider
from tests.actors import World, make_user, signed_in
from tests.ledger_rows import call_row, insert_calls, refused_row
from tests.orgs.test_group_pages import shown


@pytest.fixture
def fresh(db: None) -> Organization:
    return create_organization("Fresh", owner=make_user("zoe@example.test", name="Zoe"))


def owner_of(organization: Organization) -> Actor:
    return Actor.load(organization.memberships.get(user__name="Zoe").user, organization=organization)


def done(organization: Organization) -> list[str]:
    return [step.title for step in first_steps(owner_of(organization)) if step.is_done]


def test_each_step_checks_itself_off_by_what_is_there(fresh: Organization) -> None:
    zoe = owner_of(fresh)
    titles = [step.title for step in first_steps(zoe)]
    assert done(fresh) == []
    create_group(fresh.root, name="team", by=zoe)
    assert done(fresh) == titles[:1]
    add_member(make_user("yan@example.test"), group=fresh.root, by=zoe)
    assert done(fresh) == titles[:2]
    key, _ = create_api_key(fresh.root, name="key", member=zoe.user, by=zoe)
    assert done(fresh) == titles[:3]
    credits.top_up(fresh, amount_nano_usd=NANO, reference="first")
    assert done(fresh) == titles[:4]
    insert_calls(refused_row(key), call_row(key, status="failed"), call_row(key, status="cancelled"))
    assert done(fresh) == titles[:4]
    insert_calls(call_row(key))
    assert done(fresh) == titles[:5]
    bind(create_policy(fresh, name="P", limits=[LimitSpec("budget", "month", 5)], by=zoe), subject=fresh.root, by=zoe)
    assert done(fresh) == titles


def test_the_overview_of_its_super_admin_shows_them_until_they_are_closed(fresh: Organization) -> None:
    client, page = Client(), f"/o/{fresh.slug}/"
    client.force_login(fresh.memberships.get().user)
    assert f'hx-get="{page}first-steps/"' in shown(client.get(page))
    assert "0 of 6" in shown(client.get(f"{page}first-steps/"))
    for _ in range(2):
        assert client.post(f"{page}first-steps/close/").headers["location"] == page
    assert "first-steps" not in shown(client.get(page))
    assert client.get(f"{page}first-steps/").content == b""
    assert AuditEvent.objects.filter(organization=fresh, action="organization.first_steps_closed").count() == 1


def steps_shown(organization: Organization) -> str:
    client = Client()
    client.force_login(owner_of(organization).user)
    return shown(client.get(f"/o/{organization.slug}/first-steps/"))


def test_who_may_add_credit_is_led_there_and_who_may_not_is_told_whom_to_ask(fresh: Organization) -> None:
    zoe = owner_of(fresh).user
    assert "Whoever runs this gateway adds it: ask them." in steps_shown(fresh)
    assert "/platform/" not in steps_shown(fresh)
    zoe.is_staff = True
    zoe.save()
    assert f'<a href="/platform/organizations/{fresh.pk}/credit/">Get credit</a>' in steps_shown(fresh)
    assert "ask them" not in steps_shown(fresh)


def test_credit_that_is_spent_is_a_step_again(fresh: Organization) -> None:
    zoe = owner_of(fresh)
    key, _ = create_api_key(fresh.root, name="key", member=zoe.user, by=zoe)
    credits.top_up(fresh, amount_nano_usd=NANO, reference="first")
    assert "Get credit" in done(fresh)
    insert_calls(call_row(key, charged_nano_usd=NANO))
    assert "Get credit" not in done(fresh)


def test_provider_keys_of_its_own_need_no_credit(fresh: Organization) -> None:
    zoe = owner_of(fresh)
    provider = Provider.objects.create(name=f"provider of {fresh.slug}", kind="openai")
    place = provider_keys.Place(provider.kind, provider)
    provider_keys.add(fresh.root, place=place, name="Ours", secret="sk-live-abcdefgh1234", by=zoe)
    assert done(fresh) == ["Get credit"]
    assert "Calls on your own provider keys need none." in steps_shown(fresh)


def test_the_list_costs_few_statements(fresh: Organization, django_assert_max_num_queries: Any) -> None:
    client = Client()
    client.force_login(owner_of(fresh).user)
    with django_assert_max_num_queries(12):
        client.get(f"/o/{fresh.slug}/first-steps/")


@pytest.mark.parametrize("name", ["lena", "mia"])
def test_nobody_else_is_shown_them(world: World, name: str) -> None:
    assert "first-steps" not in shown(signed_in(world, name).get(f"/o/{world.acme.slug}/"))


def test_a_member_starts_with_its_keys_and_a_call_to_copy(world: World) -> None:
    text = shown(signed_in(world, "mia").get(f"/o/{world.acme.slug}/"))
    assert world.key.prefix in text
    assert "/chat/completions" in text
    assert "My keys" not in shown(signed_in(world, "sam").get(f"/o/{world.acme.slug}/"))
    assert "No API key yet" in shown(signed_in(world, "noah").get(f"/o/{world.acme.slug}/"))
