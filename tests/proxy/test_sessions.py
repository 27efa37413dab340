"""Which session a call belongs to: the one its caller names, else the one its prompt begins."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.canonical.request import Request
from proxy.sessions import LEAST_TOKENS, PREFIX_BYTES, session_of

LONG = "Answer as the gatekeeper would. " * 200


def request(*, tokens: int = LEAST_TOKENS, user: str | None = None, metadata: Any = None, **fields: Any) -> Request:
    raw = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in fields.items()}
    return Request("chat_completions", "m", raw, input_tokens_estimate=tokens, user=user, metadata=metadata)


def messages(*texts: str, system: str = LONG) -> list[dict[str, str]]:
    turns = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]
    return [{"role": "system", "content": system}, *turns]


def session(asked: Request, *, key_id: int = 1, named: str = "") -> bytes | None:
    return session_of(asked, key_id=key_id, named=named)


@pytest.mark.parametrize(
    "naming",
    [
        {"prompt_cache_key": "s"},
        {"metadata": {"session_id": "s"}},
        {"metadata": {"conversation_id": "s"}},
        {"metadata": {"user_id": "s"}},
        {"user": "s"},
    ],
)
def test_whatever_its_caller_names_it_by_is_the_session(naming: dict[str, Any]) -> None:
    first, second = request(tokens=5, messages=messages("a"), **naming), request(messages=messages("b"), **naming)
    assert session(first) == session(second) == session(request(), named="s") is not None
    assert session(first) != session(first, key_id=2)
    assert session(first) != session(first, named="t")  # the header counts before anything in the body


@pytest.mark.parametrize("naming", [{"prompt_cache_key": 5}, {"metadata": {"session_id": ["s"]}}, {"user": ""}, {"metadata": {}}])
def test_a_name_that_is_none_is_not_taken_for_one(naming: dict[str, Any]) -> None:
    assert session(request(tokens=5, **naming)) is None


def test_a_prompt_that_no_provider_caches_has_no_session() -> None:
    assert session(request(tokens=LEAST_TOKENS - 1, messages=messages("a"))) is None
    assert session(request(tokens=LEAST_TOKENS)) is None  # nothing to tell it by


@given(st.lists(st.text(max_size=30), min_size=1, max_size=6))
def test_a_conversation_that_goes_on_stays_the_same_session(texts: list[str]) -> None:
    opening = "x" * PREFIX_BYTES
    begun, later = (messages(opening, *more, system="Be kind.") for more in ([], texts))
    assert session(request(messages=begun)) == session(request(messages=later)) is not None


@pytest.mark.parametrize("member", ["system", "instructions", "messages", "input", "contents", "tools"])
def test_prompts_that_begin_differently_are_different_sessions(member: str) -> None:
    openings: list[dict[str, Any]] = [{member: text + LONG} for text in "ab"]
    one, other = (session(request(**opening)) for opening in openings)
    assert one != other
    assert None not in (one, other)


def test_nothing_of_the_prompt_can_be_read_from_it() -> None:
    found = session(request(messages=messages("a")))
    assert found is not None
    assert len(found) == 16
