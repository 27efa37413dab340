"""The operator's lists of people and organisations, and the brake as its pages offer it."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from analytics.models import UsageRollup
from orgs.models import Organization, User
from orgs.operator_pages import PAGE_SIZE
from orgs.services.organizations import create_personal_account
from tests.actors import World, operator

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(operator().user)
    return client


def page(client: Client, name: str, **query: str) -> str:
    answer = client.get(reverse(f"platform:{name}"), query)
    assert answer.status_code == 200
    assert "no-store" in answer.headers["cache-control"]
    return unescape(answer.content.decode())


def test_only_an_operators_menu_leads_there(world: World, client: Client) -> None:
    member = Client()
    member.force_login(world.alice)
    assert 'href="/platform/"' not in member.get(f"/o/{world.acme.slug}/").content.decode()
    assert '<a href="/platform/" aria-current="page">' in page(client, "people")


@pytest.mark.parametrize("words", ["mia.{}", "Mia {}", "acme {}", "MIA.{}"])
def test_people_are_found_by_name_address_and_company(world: World, client: Client, words: str) -> None:
    tag = world.acme.name.removeprefix("Acme ")
    User.objects.filter(pk=world.mia.pk).update(name=f"Mia {tag}")
    shown = page(client, "people", q=words.format(tag))
    assert world.mia.email in shown
    assert (world.noah.email in shown) == words.startswith("acme")
    assert world.acme.name in shown


def test_the_state_stands_in_the_address(world: World, client: Client) -> None:
    User.objects.filter(pk=world.mia.pk).update(frozen_at=datetime.now(UTC), is_active=False, frozen_reason="Sold her keys")
    shown = page(client, "people", state="frozen")
    assert world.mia.email in shown
    assert "Sold her keys" in shown
    assert world.noah.email not in shown
    assert "Nobody matches" in page(client, "people", q="nobody at all")


@pytest.mark.parametrize(
    "query",
    [{"page": "-1"}, {"page": "9" * 30}, {"page": "9" * 5000}, {"page": "x"}, {"q": "\0"}, {"kind": "huge"}, {"page": "²"}],
)
def test_a_bent_address_is_no_error(world: World, client: Client, query: dict[str, str]) -> None:
    for name in ("people", "organizations"):
        assert client.get(reverse(f"platform:{name}"), query).status_code == 200


def test_long_lists_have_pages(client: Client) -> None:
    tag = secrets.token_hex(4)
    User.objects.bulk_create(User(email=f"{number:03}.{tag}@example.test") for number in range(PAGE_SIZE + 1))
    first, second = page(client, "people", q=tag), page(client, "people", q=tag, page="2")
    assert (first.count(tag + "@"), f"?q={tag}&page=2" in first) == (2 * PAGE_SIZE, True)
    assert f"{PAGE_SIZE:03}.{tag}@" in second
    assert f"?q={tag}&page=1" in second


def test_organisations_show_who_is_in_and_what_was_spent(world: World, client: Client) -> None:
    now = datetime.now(UTC)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for hour, amount in ((month, 1_500_000_000), (month - timedelta(hours=1), 7_000_000_000)):
        UsageRollup.objects.create(
            hour=hour, organization_id=world.acme.pk, group0_id=world.root.pk, api_key_id=world.key.pk, calls=12_345,
            **dict.fromkeys(("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens"), 0),
            charged_nano_usd=amount, list_nano_usd=amount, latency_ms_sum=0,
        )  # fmt: skip
    shown = page(client, "organizations", q=world.acme.slug)
    assert "$1.50" in shown
    assert "12,345" in shown
    assert '<td data-label="Members" class="is-number">5</td>' in shown
    assert world.other.slug not in shown


def test_personal_accounts_can_be_left_out(world: World, client: Client) -> None:
    home = create_personal_account(world.mia)
    assert home.slug in page(client, "organizations", q=home.slug)
    assert "No organisation matches" in page(client, "organizations", kind="personal", q=world.acme.slug)
    assert "No organisation matches" in page(client, "organizations", kind="company", q=home.slug)


def test_each_list_costs_few_queries(world: World, client: Client, django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    for name in ("people", "organizations"):
        with django_assert_max_num_queries(10):
            page(client, name)


def test_a_person_is_frozen_and_unfrozen_by_the_pages(world: World, client: Client) -> None:
    url = reverse("platform:freeze_person", args=[world.mia.pk])
    asked = client.get(url).content.decode()
    assert "Freeze Mia?" in asked
    assert "refused from the next call on" in asked
    refused = client.post(url, {"reason": ""})
    assert refused.status_code == 422
    assert User.objects.get(pk=world.mia.pk).is_active
    done = client.post(url, {"reason": "Sold her keys"}, HTTP_HX_REQUEST="true")
    assert done.headers["HX-Redirect"] == reverse("platform:people")
    mia = User.objects.get(pk=world.mia.pk)
    assert (mia.is_active, mia.frozen_reason) == (False, "Sold her keys")
    assert client.post(reverse("platform:unfreeze_person", args=[world.mia.pk])).status_code == 302
    assert User.objects.get(pk=world.mia.pk).is_active


def test_an_organisation_is_frozen_and_unfrozen_by_the_pages(world: World, client: Client) -> None:
    url = reverse("platform:freeze_organization", args=[world.acme.pk])
    too_long = client.post(url, {"reason": "x" * 201})
    assert too_long.status_code == 422
    assert "x" * 201 in too_long.content.decode()
    assert client.post(url, {"reason": "Unpaid"}).headers["location"] == reverse("platform:organizations")
    assert Organization.objects.get(pk=world.acme.pk).frozen_reason == "Unpaid"
    assert "Unpaid" in page(client, "organizations", state="frozen")
    client.post(reverse("platform:unfreeze_organization", args=[world.acme.pk]))
    assert Organization.objects.get(pk=world.acme.pk).frozen_at is None


def test_what_is_refused_is_said_and_what_is_absent_is_absent(world: World, client: Client) -> None:
    home = create_personal_account(world.mia)
    answer = client.post(reverse("platform:freeze_organization", args=[home.pk]), {"reason": "abuse"})
    assert answer.status_code == 422
    assert "with its person" in answer.content.decode()
    thawed = client.post(reverse("platform:unfreeze_organization", args=[home.pk]), follow=True)
    assert "with its person" in thawed.content.decode()
    for name in ("freeze_person", "freeze_organization"):
        assert client.get(reverse(f"platform:{name}", args=[0])).status_code == 404


def test_a_frozen_operator_sees_nothing(client: Client) -> None:
    User.objects.filter(is_staff=True).update(is_active=False)
    assert client.get(reverse("platform:people")).status_code == 302
