"""The policy stands on whatever the console answers, and its pages keep to it."""

from __future__ import annotations

import asyncio
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client

from gateway_project.lib.csp import POLICY, ContentSecurityPolicyMiddleware
from tests.gateways import Gateway

HEADER = "Content-Security-Policy"
PUBLIC = ("/accounts/login/", "/accounts/signup/", "/accounts/password/reset/")
REDIRECTED = ("/", "/accounts/login", "/accounts/logout/")


class Page(HTMLParser):
    """What a browser under the policy would refuse to run or load."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[str] = []
        self._in_script = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        address = named.get("src") or (named.get("href") if tag == "link" else None) or ""
        self._in_script = tag == "script" and named.get("type") != "application/json"
        if any(name.startswith("on") for name in named):
            self.refused.append(f"<{tag} with {' '.join(named)}>")
        if address.startswith(("http:", "https:", "//", "javascript:")) or (named.get("href") or "").startswith("javascript:"):
            self.refused.append(f"<{tag} {address}>")

    def handle_data(self, text: str) -> None:
        if self._in_script and text.strip():
            self.refused.append(text.strip()[:80])

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False


@pytest.mark.django_db
@pytest.mark.parametrize("path", [*PUBLIC, *REDIRECTED, "/no-such-page/", "/o/no-such-company/calls/"])
def test_pages_redirects_and_errors_carry_the_policy(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.headers[HEADER] == POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.django_db
@pytest.mark.parametrize("path", PUBLIC)
def test_pages_need_nothing_that_the_policy_forbids(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    page = Page()
    page.feed(answer.content.decode())
    assert page.refused == []


def test_the_reader_of_pages_would_notice() -> None:
    page = Page()
    page.feed(
        '<a onclick="x()">a</a><script>run()</script><script src="https://cdn.example/x.js"></script><a href="javascript:x">'
    )
    assert len(page.refused) == 4


@pytest.mark.django_db
def test_a_form_without_its_token_is_refused_under_the_policy() -> None:
    answer = Client(enforce_csrf_checks=True).post("/accounts/login/", {"login": "a@example.test"})
    assert answer.status_code == 403
    assert answer.headers[HEADER] == POLICY


@pytest.mark.parametrize("path", ["/accounts/login/", "/no-such-page"])
def test_a_web_process_sends_it_too(gateway: Gateway, path: str) -> None:
    assert httpx.get(gateway.url + path, trust_env=False).headers[HEADER] == POLICY


def test_the_proxy_and_the_probes_carry_none(gateway: Gateway) -> None:
    for path in ("/v1/models", "/livez", "/sandbox/v1/models"):
        assert HEADER.lower() not in httpx.get(gateway.url + path, trust_env=False).headers


def test_a_view_may_set_a_stricter_one() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(headers={HEADER: "default-src 'none'"})

    answer: Any = ContentSecurityPolicyMiddleware(view)(HttpRequest())
    assert answer.headers[HEADER] == "default-src 'none'"


def test_both_kinds_of_views_are_served() -> None:
    async def later(request: HttpRequest) -> HttpResponse:
        return HttpResponse("later")

    def at_once(request: HttpRequest) -> HttpResponse:
        return HttpResponse("at once")

    awaited: Any = ContentSecurityPolicyMiddleware(later)(HttpRequest())
    answer: Any = ContentSecurityPolicyMiddleware(at_once)(HttpRequest())
    assert asyncio.run(awaited).headers[HEADER] == answer.headers[HEADER] == POLICY


def test_scripts_come_from_here_alone_and_nobody_frames_us() -> None:
    rules = dict(rule.strip().split(" ", 1) for rule in POLICY.split(";"))
    assert rules["script-src"] == rules["default-src"] == rules["form-action"] == "'self'"
    assert rules["frame-ancestors"] == rules["object-src"] == rules["base-uri"] == "'none'"
    assert "unsafe-eval" not in POLICY
