"""What a caller is told when a limit refuses it, to the letter, in every protocol: status, headers, body.

Here as the functions say it, with every figure; test_errors_at_the_door.py has what a real gateway sends.
The pictures are in `contract/<protocol>.json`. Programs branch on them, so a difference is a decision, and read in review:
`manage.py shell -c "from tests.proxy import test_error_contract; test_error_contract.draw()"` draws them anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from gateway_project.lib.money import NANO
from guardrails.admission import Refused
from guardrails.rules import Approval, Rule, Rules
from proxy import errors, permits, refusals
from proxy.call import Call
from proxy.errors import CODES, ProxyError
from proxy.idempotency import Completed, already_completed
from proxy.protocols import chat_completions, messages, responses
from proxy.refusals import Needs
from tests.proxy.calls import body, caller, deployment, limit, model

FOLDER = Path(__file__).with_name("contract")
SHAPES: dict[str, ModuleType] = {"chat_completions": chat_completions, "messages": messages, "responses": responses}
AT, RESETS, HOUR = 1_795_000_000_000, 1_795_100_000_000, 3_600_000
CALL_ID = UUID("01a1f9ea-0000-7184-97ad-1a1e75ffc990")
REQUEST_ID = "01a1f9eb-0000-7184-97ad-1a1e75ffc990"


def budget(window: str, **fields: Any) -> ProxyError:
    ends = 0 if window == "total" else RESETS
    refused = Refused(limit(window=window, value=2 * NANO, ends_ms=ends, **fields), NANO, NANO // 4, AT, 0)
    return refusals.error_of(refused, Needs(nano_usd=NANO + 1, shortened=window == "year"))


def rate(kind: str, window: str, *, retry_ms: int, tokens: int = 0) -> ProxyError:
    ends = AT + retry_ms if kind == "rpd" else 0
    return refusals.error_of(
        Refused(limit(kind=kind, window=window, value=60, ends_ms=ends), 60, 0, AT, retry_ms), Needs(tokens), bound="max_tokens"
    )


def ruled(check: Callable[[Call], object], *, address: str = "203.0.113.7", asks: int | None = None, **rule: Any) -> ProxyError:
    """What a caller under one rule is told by one check."""
    where: dict[str, Any] = {"level": "group", "node": "Engineering", "policy": "Research"}
    rules = Rules(rules=(Rule(**where, **rule),)) if rule else Rules(approval=Approval(since_ms=0))
    call = Call("chat_completions", caller(limit(kind="max_tokens", window="call", value=100), rules=rules), address=address)
    call.request = chat_completions.parse(body(**({"max_tokens": asks} if asks else {})))
    with pytest.raises(ProxyError) as raised:
        check(call)
    return raised.value


def check_model(call: Call) -> None:
    permits.check_model(call, model(name="scripted"))


def check_providers(call: Call) -> None:
    permits.allowed_deployments(call, model(deployment(provider="scripted"), name="scripted"))


def cases() -> dict[str, ProxyError]:
    windows = ("day", "week", "month", "quarter", "year", "total")
    return {
        **{f"budget {window}": budget(window) for window in windows},
        "budget after a reset": budget("month", forgiven=NANO // 2),
        "pool": refusals.error_of(
            Refused(limit(level="credit pool", node="Acme", policy="prepaid credit", window="total", value=NANO), NANO, 0, AT, 0),
            Needs(nano_usd=1),
        ),
        "rpm": rate("rpm", "minute", retry_ms=1_200),
        "tpm": rate("tpm", "minute", retry_ms=30_000),
        "tpm, more than a minute allows": rate("tpm", "minute", retry_ms=60_000, tokens=61),
        "rpd": rate("rpd", "day", retry_ms=5 * HOUR),
        "rpd, just before midnight": rate("rpd", "day", retry_ms=20_000),
        "parallel": rate("parallel", "now", retry_ms=1_000),
        "max_tokens": ruled(permits.most_tokens, asks=101),
        "models": ruled(check_model, kind="models", entries=("other-*",)),
        "blocked_models": ruled(check_model, kind="blocked_models", entries=("script*",)),
        "approval": ruled(check_model),
        "providers": ruled(check_providers, kind="providers", entries=("elsewhere",)),
        "addresses": ruled(permits.check_caller, kind="addresses", entries=("10.0.0.0/8",)),
        "addresses, from nowhere": ruled(permits.check_caller, kind="addresses", entries=("10.0.0.0/8",), address=""),
        "members": ruled(permits.check_caller, kind="members", entries=("99",)),
        "idempotency key, answered": already_completed(Completed(CALL_ID, "ok", 18_000)),
        "idempotency key, hung up": already_completed(Completed(CALL_ID, "cancelled", 0)),
        # The others as they come, each leaf of the tree once.
        **{f"code {code}": leaf() for code, leaf in CODES.items() if leaf.status >= 400},
    }


def drawn(error: ProxyError, codec: ModuleType) -> dict[str, Any]:
    return {
        "status": error.status,
        "headers": errors.headers(error, request_id=REQUEST_ID),
        "body": json.loads(codec.render_error(error, request_id=REQUEST_ID)),
    }


def picture(shape: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{shape}.json").read_text())
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", cases())
def test_it_is_told_as_it_always_was(name: str, shape: str) -> None:
    assert drawn(cases()[name], SHAPES[shape]) == picture(shape)[name]


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_is_drawn_that_no_longer_is(shape: str) -> None:
    assert picture(shape).keys() == cases().keys()


@pytest.mark.parametrize("name", cases())
def test_its_headers_say_whether_to_try_again(name: str) -> None:
    error = cases()[name]
    headers = errors.headers(error, request_id=REQUEST_ID)
    if error.status in (402, 403):
        assert headers["x-should-retry"] == "false"
        assert "retry-after" not in headers
    if error.status == 429 and not name.startswith("code "):
        assert int(headers["retry-after"]) >= 1
        assert headers.get("x-should-retry", "true") == ("false" if "more than" in name or name == "rpd" else "true")


@pytest.mark.parametrize("name", [name for name in cases() if not name.startswith(("code ", "idempotency "))])
def test_a_limit_says_which_it_is_and_whom_to_ask(name: str) -> None:
    detail = cases()[name].detail or {}
    assert {"level", "node", "kind", "ask"} <= detail.keys()
    assert "policy" in detail or name == "approval"
    if name.partition(" ")[0] in ("budget", "pool", "rpm", "tpm,", "tpm", "rpd", "rpd,", "parallel"):
        assert {"kind", "window", "limit", "spent", "held", "resets_at"} <= detail.keys()
    assert ("needed" in detail) == name.startswith(("budget", "pool"))


def draw() -> None:
    FOLDER.mkdir(exist_ok=True)
    for shape, codec in SHAPES.items():
        found = {name: drawn(error, codec) for name, error in cases().items()}
        (FOLDER / f"{shape}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
