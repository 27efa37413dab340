"""`manage.py demo`: one organisation, the same key and passwords every time, and nobody else's touched."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.core.management import CommandError, call_command
from django.db.models import F
from django.db.models import Model as Table
from django.utils import timezone

from gateway_project.demo import company
from gateway_project.demo.organization import AGED
from gateway_project.management.commands.demo import DAYS
from guardrails.models import Binding
from orgs.models import ApiKey, Application, AuditEvent, Group, Organization, User
from orgs.services.organizations import create_organization
from orgs.verification import verify_organization
from proxy.models import Model
from tests.actors import make_user
from tests.demos import told
from tests.gateways import Gateway


# --- what it tells -----------------------------------------------------------------------------
@pytest.mark.usefixtures("nobody")
def test_it_tells_addresses_a_key_and_logins_and_nothing_else(settings: Any) -> None:
    settings.PUBLIC_URL = "http://127.0.0.1:8123"
    demo = told()
    assert list(demo) == ["gateway_url", "console_url", "api_key", "users"]
    assert demo["gateway_url"] == "http://127.0.0.1:8123"
    assert demo["console_url"] == "http://127.0.0.1:8123/"
    assert demo["api_key"].startswith("gh_sk_")
    assert all(list(user) == ["email", "password", "role"] for user in demo["users"])
    assert demo["users"][0]["role"] == "Super Admin"


@pytest.mark.usefixtures("nobody")
def test_members_made_their_keys_themselves_so_nobody_is_written_to() -> None:
    told()
    of_members = ApiKey.objects.exclude(member=None)
    assert of_members.exists()
    assert not of_members.exclude(created_by=F("member")).exists()


@pytest.mark.usefixtures("nobody")
def test_it_tells_the_same_every_time_and_makes_nothing_twice() -> None:
    first = told()
    counts = [model.objects.count() for model in (User, Organization, Group, ApiKey, Application, Binding, AuditEvent, Model)]
    assert told() == first
    assert told("--create") == first
    after = [model.objects.count() for model in (User, Organization, Group, ApiKey, Application, Binding, AuditEvent, Model)]
    assert after == counts


@pytest.mark.usefixtures("nobody")
def test_all_of_it_is_older_than_its_history_and_the_audit_trail_says_the_truth() -> None:
    told()
    now, half = timezone.now(), company.AGE / 2
    models: tuple[type[Table], ...] = (Organization, *AGED)
    made = {model.__name__: set(model._default_manager.values_list("created_at", flat=True)) for model in models}
    assert {name for name, moments in made.items() if not moments} == set(), "the demo shows each of them"
    assert {name for name, moments in made.items() if now - max(moments) < timedelta(days=DAYS)} == set()
    assert now - max(User.objects.values_list("date_joined", flat=True)) > timedelta(days=DAYS)
    events = AuditEvent.objects.filter(organization__kind="company")
    assert now - min(event.at for event in events) < half
    assert verify_organization(events[0].organization).faults == []


# --- other people's installation ---------------------------------------------------------------
@pytest.mark.usefixtures("nobody")
def test_an_installation_in_use_is_left_alone_unless_asked() -> None:
    create_organization("Acme", owner=make_user("alice@example.test"))
    with pytest.raises(CommandError, match="--create"):
        told()
    assert list(Organization.objects.values_list("name", flat=True)) == ["Acme"]
    assert not Model.objects.exists()
    told("--create")
    assert Organization.objects.filter(kind="company").count() == 2


@pytest.mark.usefixtures("nobody")
def test_nobody_elses_account_is_taken_over() -> None:
    taken = make_user("lena.novak@example.com", password="her own password")
    with pytest.raises(CommandError, match=r"lena\.novak@example\.com has an account here already"):
        told("--create")
    taken.refresh_from_db()
    assert taken.check_password("her own password")
    assert not Organization.objects.exists()


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize(("option", "value"), [("--days", "0"), ("--days", "9999"), ("--calls", "0"), ("--calls", "1000000")])
def test_a_history_out_of_bounds_is_refused(option: str, value: str) -> None:
    with pytest.raises(CommandError, match="Give --days from 1 to"):
        call_command("demo", "--history", option, value)


# --- through the proxy -------------------------------------------------------------------------
def test_its_key_works_as_told(lasting_demo: dict[str, Any], gateway: Gateway) -> None:
    body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5}
    headers = {"authorization": f"Bearer {lasting_demo['api_key']}"}
    answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=30, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-gatehouse-route"].startswith("sandbox;")
    assert answer.json()["model"] == "sandbox-fast"
