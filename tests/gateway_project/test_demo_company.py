"""The demo organisation: who and what is in it, and how it outlives lost credentials."""

from __future__ import annotations

import ipaddress
import secrets
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from django.db.models import F, Sum
from django.db.models import Model as Table
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from billing import credits, prices
from billing.models import CreditEntry, PriceVersion
from billing.pricing import Rates
from gateway_project.demo import catalogue, company, credentials, organization
from gateway_project.demo.organization import AGED
from gateway_project.lib.crypto import digest
from gateway_project.management.commands.demo import DAYS
from guardrails.models import Binding, Limit
from orgs.actor import Actor
from orgs.models import ApiKey, Application, AuditEvent, Group, Membership, Organization, User
from orgs.permissions import RoleName
from orgs.services.keys import revoke_key
from orgs.services.organizations import change_settings
from orgs.verification import verify_organization
from proxy.models import Alias, Deployment, Model, Preset, RoutingChoice
from proxy.sandbox import catalogue as sandbox
from tests.demos import printed, told


def founder(northwind: Organization) -> Actor:
    return Actor.load(User.objects.get(email=company.FOUNDER.email), organization=northwind)


def key_row(text: str) -> ApiKey:
    return ApiKey.objects.get(digest=digest(text))


def sign_in(email: str, password: str) -> Client:
    client = Client(REMOTE_ADDR=str(ipaddress.IPv6Address(secrets.randbits(128))))
    client.post("/accounts/login/", {"login": email, "password": password})
    return client


# --- what it tells -----------------------------------------------------------------------------
@pytest.mark.usefixtures("northwind")
def test_it_tells_addresses_a_key_and_logins_and_nothing_else(settings: Settings) -> None:
    settings.PUBLIC_URL = "http://127.0.0.1:8123"
    demo = told()
    assert list(demo) == ["gateway_url", "console_url", "api_key", "users"]
    assert demo["gateway_url"] == "http://127.0.0.1:8123"
    assert demo["console_url"] == "http://127.0.0.1:8123/"
    assert demo["api_key"].startswith("gh_sk_")
    assert all(list(user) == ["email", "password", "role"] for user in demo["users"])
    assert demo["users"][0]["role"] == "Super Admin"


@pytest.mark.usefixtures("northwind")
def test_members_made_their_keys_themselves_so_nobody_is_written_to() -> None:
    of_members = ApiKey.objects.exclude(member=None)
    assert of_members.exists()
    assert not of_members.exclude(created_by=F("member")).exists()


@pytest.mark.usefixtures("northwind")
def test_it_tells_the_same_every_time_and_makes_nothing_twice() -> None:
    first = told()
    counts = [model.objects.count() for model in (User, Organization, Group, ApiKey, Application, Binding, AuditEvent, Model)]
    assert told() == first
    assert told("--create") == first
    after = [model.objects.count() for model in (User, Organization, Group, ApiKey, Application, Binding, AuditEvent, Model)]
    assert after == counts


@pytest.mark.usefixtures("northwind")
def test_all_of_it_is_older_than_its_history_and_the_audit_trail_says_the_truth() -> None:
    now, half = timezone.now(), company.AGE / 2
    models: tuple[type[Table], ...] = (Organization, *AGED)
    made = {model.__name__: set(model._default_manager.values_list("created_at", flat=True)) for model in models}
    assert {name for name, moments in made.items() if not moments} == set(), "the demo shows each of them"
    assert {name for name, moments in made.items() if now - max(moments) < timedelta(days=DAYS)} == set()
    assert now - max(User.objects.values_list("date_joined", flat=True)) > timedelta(days=DAYS)
    events = AuditEvent.objects.filter(organization__kind="company")
    assert now - min(event.at for event in events) < half
    assert verify_organization(events[0].organization).faults == []


@pytest.mark.usefixtures("northwind")
def test_for_people_it_prints_lines() -> None:
    lines = printed()
    assert told()["api_key"] in lines
    assert "ruth.bergmann@example.com" in lines
    assert "{" not in lines


def test_the_roles_it_tells_are_the_roles_they_have(northwind: Organization) -> None:
    for login in told()["users"]:
        user = User.objects.get(email=login["email"])
        assert Actor.load(user, organization=northwind).role_label == login["role"], user
    assert {login["role"] for login in told()["users"]} == {
        "Super Admin", "L1 Admin", "Sub-admin", "Member", "Finance", "Auditor", "Team lead",
    }  # fmt: skip


def test_its_people_can_sign_in_and_land_in_the_company(northwind: Organization) -> None:
    for login in (told()["users"][0], told()["users"][-1]):
        client = sign_in(login["email"], login["password"])
        assert client.get("/").headers["location"] == f"/o/{northwind.slug}/"
    assert sign_in(login["email"], "not the password").get("/").headers["location"].startswith("/accounts/login/")


def test_everybody_has_a_personal_account(northwind: Organization) -> None:
    members = User.objects.filter(memberships__organization=northwind).distinct()
    personal = Organization.objects.filter(kind="personal", memberships__user__in=members)
    assert personal.distinct().count() == members.count() == len(company.PEOPLE)


# --- what it makes -----------------------------------------------------------------------------
def test_the_tree_uses_every_level_and_everybody_stands_somewhere(northwind: Organization) -> None:
    assert set(northwind.groups.values_list("level", flat=True)) == {0, 1, 2, 3, 4}
    assert Membership.objects.filter(organization=northwind).count() >= 12
    assert northwind.grants.filter(role=RoleName.ADMIN, group__level=1).count() == 2


def test_people_are_invited_and_a_role_is_its_own(northwind: Organization) -> None:
    assert [invitation.status for invitation in northwind.invitations.all()] == ["open"] * 3
    assert northwind.roles.get().grants.count() == 1


def test_there_are_keys_of_people_and_of_services(northwind: Organization) -> None:
    keys = ApiKey.objects.filter(organization=northwind)
    assert keys.count() >= 15
    assert keys.filter(member=None).count() >= 5
    assert keys.exclude(member=None).count() >= 5
    assert keys.exclude(disabled_at=None).count() == 1


def test_limits_stand_on_every_level(northwind: Organization) -> None:
    bound = Binding.objects.filter(organization=northwind)
    assert bound.filter(group=northwind.root).exists()
    for subject in ("group__level", "member", "api_key", "application"):
        assert bound.filter(**{f"{subject}__gte": 1}).exists(), subject
    limits = Limit.objects.filter(policy__organization=northwind)
    assert set(limits.values_list("kind", "window")) == {
        ("budget", "day"), ("budget", "month"), ("budget", "quarter"), ("budget", "total"), ("rpm", "minute"), ("tpm", "minute"),
        ("parallel", "now"), ("max_tokens", "call"), ("keys", "now"), ("seats", "now"),
    }  # fmt: skip


def test_members_and_keys_have_defaults_and_one_policy_degrades(northwind: Organization) -> None:
    defaults = Binding.objects.filter(organization=northwind).exclude(reach="self")
    assert set(defaults.values_list("reach", flat=True)) == {"members", "keys"}
    (thrift,) = northwind.policies.exclude(degrade_percent=None)
    assert (thrift.degrade_percent, thrift.degrade_model) == (90, "sandbox-fast")


def test_the_quickstart_key_has_an_attribution_and_no_limit_of_its_own(northwind: Organization) -> None:
    key = key_row(told()["api_key"])
    assert (key.name, key.member, key.group) == (company.QUICKSTART, founder(northwind).user, northwind.root)
    assert (key.application.name if key.application else "", key.environment, key.features) == (
        "Playground", "development", ["quickstart"],
    )  # fmt: skip
    assert not Binding.objects.filter(api_key=key).exists()
    assert not Binding.objects.filter(member=key.member).exists()


def test_its_credit_is_booked_in_double_entry(northwind: Organization) -> None:
    entries = CreditEntry.objects.filter(organization=northwind)
    assert entries.aggregate(total=Sum("amount_nano_usd"))["total"] == 0
    assert credits.funded(northwind) == company.TOP_UP_NANO_USD


@pytest.mark.usefixtures("northwind")
def test_every_model_is_served_by_the_sandbox_and_says_so() -> None:
    names = {model.name for model in sandbox.catalogue()} | {model.name for model in catalogue.FAMILIAR}
    assert set(Model.objects.values_list("name", flat=True)) == names
    assert set(Deployment.objects.values_list("provider__name", "provider__kind")) == {("sandbox", "sandbox")}
    long_ago = timezone.now() - timedelta(days=400)
    for name in names:
        assert prices.price_for([f"model:{name}"], at=long_ago), name


@pytest.mark.usefixtures("northwind")
def test_what_the_operator_made_of_a_model_stays() -> None:
    dearer = Rates(input=9_000_000_000, output=9_000_000_000)
    prices.declare("model:gpt-5-mini", rates=dearer, source="catalogue")
    Model.objects.get(name="sandbox-hang").delete()
    told()
    price = prices.price_for(["model:gpt-5-mini"], at=timezone.now())
    assert price is not None
    assert price.rates == dearer
    assert Model.objects.filter(name="sandbox-hang").exists()
    assert PriceVersion.objects.filter(sku="model:sandbox-hang").count() == 1


def test_models_have_names_of_the_company_and_presets_to_share(northwind: Organization) -> None:
    assert dict(Alias.objects.filter(organization=northwind).values_list("name", "model")) == company.ALIASES
    shared = {preset.name: (preset.group.name, preset.model) for preset in Preset.objects.filter(organization=northwind)}
    assert shared == {preset.name: (preset.group, preset.model) for preset in company.PRESETS}
    assert RoutingChoice.objects.get(organization=northwind).baseline_model == company.BASELINE


# --- what is remembered ------------------------------------------------------------------------
def test_only_the_owner_can_read_what_is_remembered(northwind: Organization, state_folder: Path) -> None:
    assert stat.S_IMODE((state_folder / credentials.FILE_NAME).stat().st_mode) == 0o600
    known = credentials.read()
    assert known is not None
    assert known.organization_id == northwind.pk


@pytest.mark.parametrize("broken", [None, "", "{}", "not JSON", '{"organization_id": 1, "api_key": "k", "password": "p"}'])
def test_lost_credentials_are_replaced(northwind: Organization, state_folder: Path, broken: str | None) -> None:
    before = told()
    if broken is None:
        (state_folder / credentials.FILE_NAME).unlink()
    else:
        (state_folder / credentials.FILE_NAME).write_text(broken)
    after = told()
    assert Organization.objects.filter(kind="company").get() == northwind
    assert after["api_key"] != before["api_key"]
    assert key_row(after["api_key"]).status == "active"
    login = after["users"][0]
    assert User.objects.get(email=login["email"]).check_password(login["password"])
    assert told() == after


def test_a_deleted_key_is_replaced(northwind: Organization) -> None:
    before = told()["api_key"]
    revoke_key(key_row(before), by=founder(northwind))
    after = told()["api_key"]
    assert after != before
    assert key_row(after).application_id == key_row(before).application_id


def test_it_is_found_under_another_name(northwind: Organization) -> None:
    before = told()
    change_settings(northwind, by=founder(northwind), name="Something Else")
    assert told() == before
    assert organization.find() == northwind
