"""Members inside messages, parts, tools and settings that are not read: named where they stand, and nothing else changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from anthropic.types import Message as AnthropicMessage
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessage
from openai.types.responses import Response

from proxy.errors import BadRequest
from proxy.protocols import registry, unread, unsaid
from tests.proxy.messages_wire import message
from tests.proxy.responses_wire import called, response, said, thought
from tests.proxy.test_unsaid import MINIMAL, SCHEMA, translated

Json = dict[str, Any]
EXACT = '{"type":"object","maximum":1e999,"multipleOf":1.0,"minimum":123456789012345678901234567890,"a":1,"a":2}'


def chat() -> Json:
    call = {"id": "c", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{}"}}
    mark = {"type": "ephemeral"}
    return {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": mark}]},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}]},
            {"role": "assistant", "thinking_blocks": [{"type": "thinking", "thinking": "t"}], "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "r"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
        "tool_choice": {"type": "function", "function": {"name": "f"}},
    }


def messages() -> Json:
    result = {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "r"}]}
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}
    used = {"type": "tool_use", "id": "c", "name": "f", "input": {"of": "the tool"}, "caller": {"type": "direct"}}
    return {
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [picture]},
            {"role": "assistant", "content": [used]},
            {"role": "user", "content": [result]},
        ],
        "tools": [{"name": "f", "input_schema": SCHEMA}],
        "tool_choice": {"type": "auto"},
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    }


def responses() -> Json:
    return {
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}}]},
            {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "t"}]},
            {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"},
            {"type": "function_call_output", "call_id": "c", "output": "r"},
        ],
        "tools": [{"type": "function", "name": "f", "parameters": SCHEMA}],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}},
        "reasoning": {"effort": "low"},
    }


WAYS: dict[str, Callable[[], Json]] = {"chat_completions": chat, "messages": messages, "responses": responses}
# Objects whose members are the callers' own: nothing in them is a member of the protocol.
THEIRS = ("parameters", "input_schema", "schema", "input", "caller")


def places(value: Any, path: str = "", *, inside: str = "") -> dict[str, list[Json]]:
    """Every object of the protocol's in a request, by its path without indexes."""
    found: dict[str, list[Json]] = {}
    if isinstance(value, list):
        for item in value:
            found = joined(found, places(item, path))
    elif isinstance(value, dict):
        found = {path: [value]} if path else {}
        for name, inner in value.items():
            if name not in THEIRS or (name == "input" and isinstance(inner, list)):
                found = joined(found, places(inner, f"{path}.{name}" if path else name))
    return found


def joined(one: dict[str, list[Json]], other: dict[str, list[Json]]) -> dict[str, list[Json]]:
    return {path: one.get(path, []) + other.get(path, []) for path in {**one, **other}}


CASES = [(caller, path) for caller, way in WAYS.items() for path in places(way())]


@pytest.mark.parametrize(("caller", "path"), CASES)
def test_what_no_provider_is_told_is_named_wherever_it_stands(caller: str, path: str) -> None:
    plain, marked = WAYS[caller](), WAYS[caller]()
    for place in places(marked)[path]:
        place.update(nobody_knows={"a": [1]}, absent=None)

    body, named = translated(caller, "converse", **marked)
    without, known = translated(caller, "converse", **plain)

    assert set(named) - set(known) == {f"{path}.nobody_knows"}
    assert body == without


def test_every_kind_of_place_is_tried() -> None:
    assert len(CASES) > 30
    assert {"messages.content.source", "messages.content.content", "input.content.prompt_cache_breakpoint"} <= {
        path for _, path in CASES
    }


def test_the_same_member_is_named_once_and_the_number_of_names_is_bounded() -> None:
    many = [{"role": "user", "content": "x", **{f"odd_{number}": 1 for number in range(40)}} for _ in range(3)]
    _, named = translated("chat_completions", "gemini", messages=many)
    assert named == tuple(f"messages.odd_{number}" for number in range(unsaid.MOST_NAMED))
    odd = {"role": "user", "content": "x", "a\r\nx-evil": 1, "é": 1}
    assert translated("chat_completions", "gemini", messages=[odd])[1] == ("other",)


def sent_back(caller: str) -> Json:
    """An answer as the SDK gives it, said again."""
    asked = {"role": "user", "content": "Hi"}
    if caller == "responses":
        answered = Response.model_validate(response(thought("why"), said("a"), called("f", "{}")))
        return {"input": answered.to_dict()["output"]}
    if caller == "chat_completions":
        told: Json = {"role": "assistant", "content": "a", "refusal": None, "annotations": [], "tool_calls": None}
        return {"messages": [asked, ChatCompletionMessage.model_validate(told).to_dict()]}
    blocks: list[Json] = [
        {"type": "thinking", "thinking": "t", "signature": "s"},
        {"type": "text", "text": "a", "citations": None},
        {"type": "tool_use", "id": "c", "name": "f", "input": {}, "caller": {"type": "direct"}},
    ]
    whole = AnthropicMessage.model_validate(json.loads(message(*blocks, stop="tool_use"))).to_dict()
    return {"messages": [asked, {"role": "assistant", "content": whole["content"]}]}


@pytest.mark.parametrize("caller", sorted(WAYS))
def test_what_a_model_has_said_may_be_sent_back_as_its_sdk_has_it(caller: str) -> None:
    """Ids, states and notes of an answer ask for nothing, so nothing is named."""
    assert translated(caller, "gemini", **sent_back(caller))[1] == ()


def test_how_far_a_cache_reaches_is_anthropics_own_and_named_with_its_mark() -> None:
    """Claude Code says it in every call."""
    system = [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "scope": "global"}}]
    assert translated("messages", "gemini", system=system)[1] == ("cache_control",)
    assert translated("messages", "converse", system=system)[1] == ()


@pytest.mark.parametrize("odd", ["", ',"odd":1'])
def test_schemas_stay_byte_for_byte_beside_what_is_taken_out(odd: str) -> None:
    tool = f'[{{"type":"function","function":{{"name":"f","parameters":{EXACT}{odd}}}}}]'
    body = json.dumps(MINIMAL["chat_completions"])[:-1] + f',"tools":{tool}}}'
    conversation = registry.CHAT_CALLERS["chat_completions"].conversation(
        registry.CALLERS["chat_completions"].parse(body.encode(), {})
    )
    assert [bytes(one.parameters or b"").decode() for one in conversation.tools] == [EXACT]
    assert conversation.unsaid == (("tools.function.odd",) if odd else ())


@pytest.mark.parametrize("caller", sorted(WAYS))
def test_half_a_character_and_what_is_wrong_are_told_as_ever(caller: str) -> None:
    key = "input" if caller == "responses" else "messages"
    halved = {key: [{"role": "user", "content": "HALF", "odd": "HALF"}]}
    body = json.dumps(MINIMAL[caller] | halved).replace("HALF", "a\\ud83d").encode()
    conversation = registry.CHAT_CALLERS[caller].conversation(registry.CALLERS[caller].parse(body, {}))
    assert conversation.unsaid == (f"{key}.odd",)
    assert "\N{REPLACEMENT CHARACTER}" in str(conversation.messages[0].parts[0])

    with pytest.raises(BadRequest) as refused:
        translated(caller, "gemini", tools=[{"odd": 1, "type": 7}])
    assert refused.value.param == "tools[0].type"


class _Leaf(msgspec.Struct, forbid_unknown_fields=True):
    a: Any = None
    inner: list[_Leaf] | None = None


@given(
    st.recursive(
        st.fixed_dictionaries({}, optional={"a": st.integers(), "odd": st.integers() | st.none()}),
        lambda inner: st.fixed_dictionaries({}, optional={"a": st.none(), "x": st.lists(inner), "inner": st.lists(inner)}),
        max_leaves=8,
    )
)
def test_it_reads_what_it_would_have_read_without(given_: Json) -> None:
    def known(value: Json) -> Json:
        kept = {name: inner for name, inner in value.items() if name in ("a", "inner")}
        return kept | ({"inner": [known(one) for one in kept["inner"]]} if "inner" in kept else {})

    def odd(value: Json, path: str = "") -> set[str]:
        own = {path + name for name, inner in value.items() if name in ("x", "odd") and inner is not None}
        return own.union(*(odd(inner, f"{path}inner.") for inner in value.get("inner", ())))

    read, named = unread.Known[_Leaf](_Leaf).read(json.dumps(given_).encode())
    assert read == msgspec.convert(known(given_), _Leaf)
    assert set(named) == odd(given_)


@pytest.mark.parametrize("depth", [unread.MOST_NESTED // 2 + 1, 600])
def test_what_is_nested_beyond_measure_is_a_bad_request(depth: int) -> None:
    """Every level is read anew with all that is in it."""

    def deep(depth: int) -> bytes:
        return b'{"odd":1,"inner":[' * depth + b"{}" + b"]}" * depth

    assert unread.Known[_Leaf](_Leaf).read(deep(unread.MOST_NESTED // 2))[1][:2] == ("odd", "inner.odd")
    with pytest.raises(BadRequest, match="nested too deeply"):
        unread.Known[_Leaf](_Leaf).read(deep(depth))
