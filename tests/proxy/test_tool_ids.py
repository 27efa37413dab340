"""Ids of calls that another provider made, where they are longer than OpenAI takes them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.canonical.conversation import Conversation, Message, Text, ToolResult, ToolUse
from proxy.protocols import chat_completions, responses
from proxy.providers import registry

KIMIS = "functions.mcp__github__create_pull_request_review:12"
NOT_OPENAI = sorted(registry.PROVIDERS.keys() - {"openai", "azure"})


def sent(codec: Any, *ids: str, kind: str = "openai", model: str = "gpt-4.1") -> Any:
    calls = Message("assistant", tuple(ToolUse(id, "f", "{}") for id in ids))
    results = Message("tool", tuple(ToolResult(id, (Text("r"),)) for id in ids))
    asked = Conversation(messages=(Message("user", (Text("?"),)), calls, results))
    quirks = registry.provider(kind).quirks
    return json.loads(codec.write_request(asked, model=model, stream=False, max_tokens=None, quirks=quirks).body)


def in_chat(request: Any) -> list[str]:
    """The ids of calls, once their results are seen to name the same."""
    called = [call["id"] for call in request["messages"][1]["tool_calls"]]
    assert [turn["tool_call_id"] for turn in request["messages"][2:]] == called
    return called


def in_responses(request: Any) -> list[str]:
    called = [item["call_id"] for item in request["input"] if item["type"] == "function_call"]
    assert [item["call_id"] for item in request["input"] if item["type"] == "function_call_output"] == called
    return called


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=120), min_size=1, max_size=4, unique=True))
def test_each_result_answers_its_call_and_no_id_is_too_long(ids: list[str]) -> None:
    called = in_chat(sent(chat_completions, *ids))
    assert all(len(id) <= 40 for id in called)
    assert [one for one, id in zip(called, ids, strict=True) if len(id) <= 40] == [id for id in ids if len(id) <= 40]

    called = in_responses(sent(responses, *ids))
    assert len(set(called)) == len(ids)
    assert all(len(id) <= 64 for id in called)


@pytest.mark.parametrize("kind", NOT_OPENAI)
def test_who_bounds_no_ids_gets_them_unchanged(kind: str) -> None:
    ids = [KIMIS, "x" * 200]
    assert in_chat(sent(chat_completions, *ids, kind=kind)) == ids
    assert in_responses(sent(responses, *ids, kind=kind)) == ids


@pytest.mark.parametrize("model", ["Kimi-K2.5", "agents"])
def test_kimi_gets_its_own_ids_back_where_azure_serves_it_and_others_shorter_ones(model: str) -> None:
    own, other = in_chat(sent(chat_completions, KIMIS, "x" * 200, kind="azure", model=model))
    assert own == KIMIS
    assert len(other) <= 40


@pytest.mark.parametrize("model", ["gpt-35-turbo", "gpt-4o", "gpt-5.1", "gpt-oss-120b", "o3", "chatgpt-4o-latest"])
def test_a_conversation_that_kimi_began_goes_on_at_openai(model: str) -> None:
    (shorter,) = in_chat(sent(chat_completions, KIMIS, kind="azure", model=model))
    assert len(shorter) <= 40
