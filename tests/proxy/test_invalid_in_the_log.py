"""Of an invalid request the call log says what was wrong: all of its body, or which member; what stood there it does not keep."""

from __future__ import annotations

from html import unescape
from typing import Any

import httpx
import pytest

from tests.actors import signed_in
from tests.gateways import Gateway
from tests.house import House, eventually

SECRET = "the-prompt-of-a-careless-program"
USER: dict[str, Any] = {"role": "user", "content": "Hello"}
CASES = {
    b'{"model": "scripted", "messages": [': "The request body is not valid JSON: it ends in the middle.",
    b"": "The request body is empty: JSON is expected.",
    b'{"model": "scripted", "messages": "%s"}' % SECRET.encode(): "Invalid request: messages",
    b'{"model": "scripted", "messages": [{"role": 7, "content": "%s"}]}' % SECRET.encode(): "Invalid request: messages[0].role",
    b'{"messages": [{"role": "user", "content": "%s"}]}' % SECRET.encode(): "Invalid request: model",
}


def refused(gateway: Gateway, house: House, body: bytes) -> None:
    headers = {"authorization": f"Bearer {house.key_text}", "content-type": "application/json"}
    assert httpx.post(f"{gateway.url}/v1/chat/completions", headers=headers, content=body).status_code == 400


def page(house: House, path: str) -> str:
    return unescape(signed_in(house.world, "mia").get(f"/o/{house.organization.slug}/calls/{path}").content.decode())


@pytest.mark.parametrize(("body", "said"), CASES.items(), ids=range(len(CASES)))
def test_the_row_and_the_drawer_say_what_was_wrong(gateway: Gateway, house: House, body: bytes, said: str) -> None:
    refused(gateway, house, body)
    (row,) = eventually(house.rows)
    assert f">{said}</div>" in page(house, "")
    drawer = page(house, f"{row.call_id}/")
    assert "Refused: invalid request" in drawer
    assert said.removeprefix("Invalid request: ") in drawer
    assert SECRET not in str(row.decision)
    assert SECRET not in drawer


def test_the_log_is_narrowed_to_a_reason(gateway: Gateway, house: House) -> None:
    refused(gateway, house, b"{")
    eventually(house.rows)
    reason = ">The request body is not valid JSON: it ends in the middle.</div>"
    assert reason in page(house, "?reason=invalid_request&status=refused")
    chosen = page(house, "?reason=budget_exceeded")
    assert reason not in chosen
    assert "No call matches" in chosen
    assert '<option value="budget_exceeded" selected>Budget exceeded</option>' in chosen
    unknown = page(house, "?reason=nonsense")
    assert reason in unknown
    assert '<option value="nonsense"' not in unknown
