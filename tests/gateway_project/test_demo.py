"""`manage.py demo` where others are already: nobody's is touched. What it makes, test_demo_company.py looks at."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from django.core.management import CommandError, call_command

from orgs.models import Organization
from orgs.services.organizations import create_organization
from proxy.models import Model
from tests.actors import make_user
from tests.demos import told
from tests.gateways import Gateway


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
