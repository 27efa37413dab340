"""The front door of a real web process: which path leads where."""

import asyncio
from typing import Any

import httpx
import pytest

from gateway_project import asgi
from tests.gateways import Gateway


def get(gateway: Gateway, path: str) -> httpx.Response:
    return httpx.get(gateway.url + path, timeout=10, trust_env=False)


def test_a_living_process_says_so(gateway: Gateway) -> None:
    response = get(gateway, "/livez")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_a_process_with_its_servers_is_ready(gateway: Gateway) -> None:
    response = get(gateway, "/readyz")
    assert (response.status_code, response.json()) == (200, {"status": "ok", "postgres": "ok", "redis": "ok"})


def test_figures_are_prometheus_text(gateway: Gateway) -> None:
    response = get(gateway, "/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert "# TYPE python_info gauge" in response.text


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/nowhere"])
def test_the_proxys_paths_answer_in_openais_shape(gateway: Gateway, path: str) -> None:
    response = get(gateway, path)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_url")


def test_the_sandbox_answers_for_itself(gateway: Gateway) -> None:
    response = get(gateway, "/sandbox/v1/models")
    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")


def test_everything_else_is_the_consoles(gateway: Gateway) -> None:
    assert "content-security-policy" in get(gateway, "/accounts/login/").headers
    assert get(gateway, "/v1x").headers["content-type"].startswith("text/html")


def test_a_websocket_is_closed() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(asgi.application({"type": "websocket", "path": "/v1/chat/completions"}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1000}]


@pytest.mark.parametrize(
    "path", ["/chat/completions", "/models", "/key", "/responses", "/messages", "/embeddings", "/audio/speech", "/images/edits"]
)
@pytest.mark.parametrize("slip", ["{path}", "/v1{path}/", "/v1/v1{path}", "//v1{path}"])
def test_a_slip_in_the_base_url_is_told_what_was_meant_in_json(gateway: Gateway, path: str, slip: str) -> None:
    response = httpx.post(gateway.url + slip.format(path=path), content=b"{}")
    assert (response.status_code, response.json()["error"]["gatehouse"]["code"]) == (404, "unknown_url")
    assert f"Did you mean /v1{path}?" in response.json()["error"]["message"]
