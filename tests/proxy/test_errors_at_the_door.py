"""What a real gateway sends a caller whom a limit refuses, to the letter, in each protocol: status, every header, body.

The picture of each case is in `contract/at_the_door.json`, by shape. A case without one is drawn, and fails so that
somebody reads what was drawn; to draw a case anew, take it out of the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from billing import credits
from gateway_project.lib.money import NANO
from orgs.models import ApiKey, Membership
from orgs.services.changes import changing
from orgs.services.keys import disable_key, revoke_key
from orgs.services.members import suspend_member
from tests.gateways import Gateway
from tests.house import House, raw
from tests.proxy.calls import body
from tests.upstream import Upstream, answer

Sent = dict[str, Any]
PICTURES = Path(__file__).with_name("contract") / "at_the_door.json"
ASK = [{"role": "user", "content": "Tell me about the gate."}]
# Path, the prompt, and the member that bounds the answer.
SHAPES: dict[str, tuple[str, dict[str, Any], str]] = {
    "chat_completions": ("/v1/chat/completions", {"messages": ASK}, "max_tokens"),
    "chat_completions, the newer name": ("/v1/chat/completions", {"messages": ASK}, "max_completion_tokens"),
    "messages": ("/v1/messages", {"messages": ASK}, "max_tokens"),
    "responses": ("/v1/responses", {"input": "Tell me about the gate."}, "max_output_tokens"),
}
# Of the server, not of the answer.
UNSEEN = {"date", "server", "content-length"}
# Waiting as long as an SDK waits is of no use.
NOT_SOON = {"rpd", "tpm, more than a minute allows"}
# Nobody in the organisation can change it: the provider or the operator does.
OF_NOBODY = {"zero retention, asked for", "no price"}


class Case:
    """`prepare` sets the limit up. `most`: tokens asked for; `after`: calls made before; `headers` beside the key's."""

    def __init__(
        self,
        prepare: Callable[[House], object],
        *,
        model: str = "scripted",
        most: int = 50,
        after: int = 0,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.prepare = prepare
        self.model = model
        self.most = most
        self.after = after
        self.headers = headers or {}


def limited(kind: str, window: str, value: int, **case: Any) -> Case:
    return Case(lambda house: house.policy((kind, window, value)), **case)


def ruled(**rules: list[str]) -> Case:
    return Case(lambda house: house.policy(rules=rules))


def switched(**settings: Any) -> Case:
    return Case(lambda house: house.change(**settings))


def at_the_key(change: Callable[..., object]) -> Case:
    return Case(lambda house: change(house.key, by=house.world.actor("alice")))


def expired(house: House) -> None:
    with changing(house.organization):
        ApiKey.objects.filter(pk=house.key.pk).update(expires_at=datetime(2026, 1, 1, tzinfo=UTC))


def suspended(house: House) -> None:
    membership = Membership.objects.get(user=house.world.mia, group__organization=house.organization)
    suspend_member(membership, by=house.world.actor("alice"))


def without_credit(house: House) -> None:
    credits.adjust(house.organization, amount_nano_usd=-1000 * NANO, reference="none left", note="a test")


def several(house: House) -> None:
    """Each of them refuses: the dearest news first."""
    house.policy(("budget", "day", 0), ("rpm", "minute", 0), rules={"models": ["other-*"]}, to={"group": house.world.root})


CASES = {
    **{f"budget {window}": limited("budget", window, 0) for window in ("day", "week", "month", "quarter", "year", "total")},
    "pool": Case(without_credit),
    "rpm": limited("rpm", "minute", 1, after=1),
    "rpd": limited("rpd", "day", 1, after=1),
    "tpm": limited("tpm", "minute", 95, after=1),
    "tpm, more than a minute allows": limited("tpm", "minute", 60, most=1000),
    "parallel": limited("parallel", "now", 0),
    "max_tokens": limited("max_tokens", "call", 100, most=101),
    "models": ruled(models=["other-*"]),
    "blocked_models": ruled(blocked_models=["script*"]),
    "providers": ruled(providers=["elsewhere"]),
    "addresses": ruled(addresses=["10.0.0.0/8"]),
    "members": ruled(members=["1"]),
    "approval": switched(approval_since=datetime(2020, 1, 1, tzinfo=UTC)),
    "attribution": switched(attribution_required=True),
    "zero retention": switched(zdr_only=True),
    "zero retention, asked for": Case(lambda house: None, headers={"x-gatehouse-zdr": "true"}),
    "no price": Case(lambda house: house.policy(("budget", "month", NANO)), model="unpriced"),
    "no such model": Case(lambda house: None, model="nowhere"),
    "several at once": Case(several),
    "revoked key": at_the_key(revoke_key),
    "disabled key": at_the_key(disable_key),
    "expired key": Case(expired),
    "frozen account": Case(suspended),
}


def sent_to(client: httpx.Client, shape: str, case: Case, *, key: str, stream: bool = False) -> Sent:
    path, prompt, bound = SHAPES[shape]
    asked = {"model": case.model, **prompt, bound: case.most, **({"stream": True} if stream else {})}
    got = client.post(path, json=asked, headers={"authorization": f"Bearer {key}", **case.headers})
    headers = {name: value for name, value in got.headers.items() if name not in UNSEEN}
    return {"status": got.status_code, "headers": headers, "body": got.json()}


def settled(sent: Sent) -> Sent:
    """What is another in every run, replaced: ids, moments, and the names of this test's organisation."""
    ids = {sent["headers"]["x-request-id"], sent["headers"]["request-id"], sent["body"]["error"]["gatehouse"]["request_id"]}
    assert len(ids) == 1
    text = json.dumps(sent).replace(ids.pop(), "ID")
    text = re.sub(r"\bAcme [0-9a-f]{8}\b", "Acme", text)
    text = re.sub(r'"resets_at": "[0-9TZ:-]{20}"', '"resets_at": "MOMENT"', text)
    text = re.sub(r"resets on [0-9-]{10} at [0-9:]{5} UTC", "resets on MOMENT", text)
    text = re.sub(r"again in [0-9,]+ seconds?\b", "again in SECONDS", text)
    found: Sent = json.loads(re.sub(r'"retry-after": "[1-9][0-9]*"', '"retry-after": "SECONDS"', text))
    return found


def pictures() -> dict[str, dict[str, Sent]]:
    found: dict[str, dict[str, Sent]] = json.loads(PICTURES.read_text()) if PICTURES.exists() else {}
    return found


def drawn(name: str, found: dict[str, Sent]) -> dict[str, Sent]:
    """The case's picture. Raises AssertionError where there was none, once it is drawn."""
    known = pictures()
    if name not in known:
        known[name] = found
        PICTURES.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")
        raise AssertionError(f"{name} is drawn: read it in {PICTURES.name}")
    return known[name]


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=30, trust_env=False) as made:
        yield made


@pytest.mark.parametrize("name", CASES)
def test_each_protocol_is_sent_what_is_drawn(client: httpx.Client, house: House, upstream: Upstream, name: str) -> None:
    case = CASES[name]
    case.prepare(house)
    upstream.on("scripted", answer(usage=(10, 90)))
    for _ in range(case.after):
        assert raw(str(client.base_url).rstrip("/"), house.key_text, body(max_tokens=50)).status_code == 200
    assert house.nothing_held()

    whole = {shape: sent_to(client, shape, case, key=house.key_text) for shape in SHAPES}
    streamed = {shape: sent_to(client, shape, case, key=house.key_text, stream=True) for shape in SHAPES}

    found = {shape: settled(sent) for shape, sent in whole.items()}
    assert found == drawn(name, found)
    assert found == {shape: settled(sent) for shape, sent in streamed.items()}
    assert len(upstream.received) == case.after


@pytest.mark.parametrize("name", CASES)
def test_the_pictures_say_whether_to_try_again_and_whom_to_ask(name: str) -> None:
    for shape, sent in pictures()[name].items():
        status, headers, error = sent["status"], sent["headers"], sent["body"]["error"]
        assert ("retry-after" in headers) == (status == 429)
        assert headers.get("x-should-retry") == ("false" if status in (402, 403) or name in NOT_SOON else None)
        if status in (402, 403, 429) and name not in OF_NOBODY:
            assert {"level", "node", "kind", "ask"} <= error["gatehouse"].keys()
        assert ("type" in sent["body"]) == (shape == "messages")


def test_nothing_is_drawn_that_no_longer_is() -> None:
    assert pictures().keys() == CASES.keys()
    assert {shape for picture in pictures().values() for shape in picture} == SHAPES.keys()
