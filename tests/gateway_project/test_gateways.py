"""The test run's own web processes: if these are wrong, so is every test that uses them."""

from collections.abc import Callable

import httpx
import pytest

from tests.gateways import Gateway, database_url_of_tests
from tests.skips import skips_fail

pytestmark = pytest.mark.usefixtures("committed_db")


def ready(gateway: Gateway) -> dict[str, str]:
    answer: dict[str, str] = httpx.get(f"{gateway.url}/readyz", trust_env=False).raise_for_status().json()
    return answer


def test_a_gateway_serves_on_the_test_database(gateway: Gateway) -> None:
    assert ready(gateway) == {"status": "ok", "postgres": "ok", "redis": "ok"}
    assert "/test_" in database_url_of_tests()


def test_two_gateways_are_two_processes_on_two_ports(gateway: Gateway, second_gateway: Gateway) -> None:
    assert gateway.pid != second_gateway.pid
    assert gateway.url != second_gateway.url
    assert ready(second_gateway)["status"] == "ok"


def test_a_killed_gateway_starts_again_at_the_same_address(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway("killed")
    url, pid = gateway.url, gateway.pid
    gateway.kill()
    assert gateway.pid == 0
    gateway.start()
    assert gateway.url == url
    assert gateway.pid != pid
    assert ready(gateway)["status"] == "ok"


def test_what_a_gateway_says_is_in_its_log(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway("broken-redis", REDIS_URL="redis://127.0.0.1:1/0")
    assert httpx.get(f"{gateway.url}/readyz", trust_env=False).status_code == 503
    assert "Traceback" not in gateway.logged()


@pytest.mark.parametrize(("value", "fail"), [("true", True), ("1", True), ("", False), ("false", False)])
def test_in_ci_a_skipped_test_is_a_failure(monkeypatch: pytest.MonkeyPatch, value: str, fail: bool) -> None:
    monkeypatch.delenv("GATEHOUSE_NO_SKIPS", raising=False)
    monkeypatch.setenv("CI", value)
    assert skips_fail() is fail
