"""Figures for monitors: what was called, and nothing that a caller made up."""

from collections.abc import Callable

import httpx
import openai
import pytest

from tests.gateways import Gateway
from tests.house import MESSAGES, House
from tests.upstream import Upstream, answer


def figures(gateway: Gateway, **headers: str) -> dict[str, float]:
    text = httpx.get(f"{gateway.url}/metrics", headers=headers).text
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in text.splitlines() if line[:1] != "#")}


def test_calls_tokens_and_charges_are_counted(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("scripted", answer(usage=(10, 2)))
    before = figures(gateway)
    for _ in range(3):
        house.client(gateway.url).chat.completions.create(model="scripted", messages=MESSAGES)
    after = figures(gateway)

    def grown(name: str, labels: str) -> float:
        key = f'{name}{{{labels}model="scripted",provider="scripted"'
        found = [name for name in after if name.startswith(key)]
        return sum(after[name] - before.get(name, 0) for name in found)

    assert grown("gatehouse_calls_total", "") == 3
    assert grown("gatehouse_charged_nano_usd_total", "") == 3 * 18_000
    assert grown("gatehouse_call_seconds_count", "") == 3


def test_a_made_up_model_is_no_label(gateway: Gateway, house: House) -> None:
    with pytest.raises(openai.NotFoundError):
        house.client(gateway.url).chat.completions.create(model="made-up-by-me", messages=MESSAGES)

    assert not any("made-up-by-me" in name for name in figures(gateway))


def test_a_token_keeps_others_out(start_gateway: Callable[..., Gateway]) -> None:
    private = start_gateway("private", METRICS_TOKEN="open-sesame")

    assert httpx.get(f"{private.url}/metrics").status_code == 401
    assert httpx.get(f"{private.url}/metrics", headers={"authorization": "Bearer nonsense"}).status_code == 401
    assert figures(private, authorization="Bearer open-sesame")
