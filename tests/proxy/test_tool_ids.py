"""Ids of calls that another provider made, where they are longer than OpenAI takes them."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.canonical.conversation import Conversation, Message, Text, ToolResult, ToolUse
from proxy.protocols import chat_completions, responses
from proxy.protocols.base import Quirks


def sent(codec: Any, *ids: str) -> Any:
    calls = Message("assistant", tuple(ToolUse(id, "f", "{}") for id in ids))
    results = Message("tool", tuple(ToolResult(id, (Text("r"),)) for id in ids))
    asked = Conversation(messages=(Message("user", (Text("?"),)), calls, results))
    return json.loads(codec.write_request(asked, model="m", stream=False, max_tokens=None, quirks=Quirks()).body)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=120), min_size=1, max_size=4, unique=True))
def test_each_result_answers_its_call_and_no_id_is_too_long(ids: list[str]) -> None:
    turns = sent(chat_completions, *ids)["messages"]
    called = [call["id"] for call in turns[1]["tool_calls"]]
    assert [turn["tool_call_id"] for turn in turns[2:]] == called
    assert all(len(id) <= 40 for id in called)
    assert [one for one, id in zip(called, ids, strict=True) if len(id) <= 40] == [id for id in ids if len(id) <= 40]

    items = sent(responses, *ids)["input"]
    called = [item["call_id"] for item in items if item["type"] == "function_call"]
    assert [item["call_id"] for item in items if item["type"] == "function_call_output"] == called
    assert len(set(called)) == len(ids)
    assert all(len(id) <= 64 for id in called)
