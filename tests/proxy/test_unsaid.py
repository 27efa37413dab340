"""Nothing that a caller says is dropped without a word: it is in the provider's request, or named, or refused by name."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from anthropic.types.message_create_params import MessageCreateParamsBase
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from proxy.call import Call
from proxy.canonical.conversation import CacheMark, Conversation, File, Image, Message, Reasoning, Text, Tool
from proxy.deployments import Deployment
from proxy.errors import BadRequest
from proxy.exchange import Exchange
from proxy.protocols import registry, unsaid
from proxy.protocols.base import Quirks, Written
from proxy.providers import registry as providers
from proxy.recording import _decision
from tests.proxy.calls import deployment, held, planned_call

SCHEMA = {"type": "object", "properties": {}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
JSON_SCHEMA = {"type": "json_schema", "name": "a", "schema": SCHEMA}
MINIMAL: dict[str, dict[str, Any]] = {
    "chat_completions": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
    "responses": {"model": "m", "input": "Hi"},
    "messages": {"model": "m", "max_tokens": 4000, "messages": [{"role": "user", "content": "Hi"}]},
}
# A value for every member of the SDKs' own types that asks for something.
SHARED: dict[str, Any] = {
    "metadata": {"a": "b"},
    "moderation": {"policy": "strict"},
    "parallel_tool_calls": False,
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "explicit"},
    "prompt_cache_retention": "24h",
    "safety_identifier": "s",
    "service_tier": "flex",
    "store": True,
    "stream_options": {"include_obfuscation": False},
    "temperature": 0.5,
    "top_p": 0.5,
    "top_logprobs": 2,
    "user": "u",
}
VALUES: dict[str, dict[str, Any]] = {
    "chat_completions": {
        **SHARED,
        "audio": {"voice": "alloy", "format": "mp3"},
        "frequency_penalty": 0.5,
        "function_call": {"name": "f"},
        "functions": [{"name": "f"}],
        "logit_bias": {"50256": -100},
        "logprobs": True,
        "max_completion_tokens": 77,
        "max_tokens": 77,
        "modalities": ["text", "audio"],
        "n": 2,
        "prediction": {"type": "content", "content": "x"},
        "presence_penalty": 0.5,
        "reasoning_effort": "low",
        "response_format": {"type": "json_object"},
        "seed": 7,
        "stop": ["END"],
        "tool_choice": "required",
        "tools": [TOOL],
        "verbosity": "low",
        "web_search_options": {},
        "top_k": 5,
        "min_p": 0.1,
    },
    "responses": {
        **SHARED,
        "access_programs": ["x"],
        "background": True,
        "context_management": [{"type": "compaction"}],
        "conversation": "conv_1",
        "image": {"a": 1},
        "include": ["message.output_text.logprobs"],
        "instructions": "Be brief.",
        "max_output_tokens": 77,
        "max_tool_calls": 3,
        "previous_response_id": "resp_1",
        "prompt": {"id": "p"},
        "reasoning": {"effort": "low"},
        "text": {"format": JSON_SCHEMA, "verbosity": "low"},
        "tool_choice": "required",
        "tools": [{"type": "function", "name": "f", "parameters": SCHEMA}],
        "truncation": "auto",
        "top_k": 5,
        "min_p": 0.1,
    },
    "messages": {
        "cache_control": {"type": "ephemeral"},
        "container": "c",
        "diagnostics": {"a": 1},
        "inference_geo": "us",
        "metadata": {"user_id": "u"},
        "output_config": {"effort": "low"},
        "service_tier": "standard_fast",
        "speed": "fast",
        "stop_sequences": ["END"],
        "system": "Be brief.",
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "tool_choice": {"type": "any"},
        "tools": [{"name": "f", "input_schema": SCHEMA}],
        "user_profile_id": "x",
        "workspace_id": "x",
        "context_management": {"edits": []},
        "temperature": 0.5,
        "top_p": 0.5,
        "top_k": 5,
        "min_p": 0.1,
    },
}
# What the gateway itself does, whoever answers: it keeps responses, tells metadata again, and never pads a stream.
AT_HOME = {
    "chat_completions": {"stream_options"},
    "responses": {"stream_options", "store", "metadata", "previous_response_id"},
    "messages": set(),
}
# Members that only mean something beside another one.
BESIDE = {
    "tool_choice": "tools",
    "function_call": "functions",
    "parallel_tool_calls": "tools",
    "top_logprobs": "logprobs",
}
# What a member is called where it is told by another name.
ALIASES = {
    "user": {"user", "safety_identifier"},
    "metadata": {"metadata", "metadata.user_id"},
    "text": {"text.verbosity"},
}
MODELS = {"converse": "anthropic.claude-sonnet-4-5-v1:0", "gemini": "gemini-3-flash", "messages": "claude-opus-4-1"}
PAIRS = [(caller, target) for caller in MINIMAL for target in registry.CHAT_PROVIDERS if caller != target]


def write(conversation: Conversation, target: str, quirks: Quirks | None = None, model: str | None = None) -> Written:
    given: Any = {"model": model or MODELS.get(target, "up"), "stream": False, "max_tokens": None, "quirks": quirks or Quirks()}
    return registry.CHAT_PROVIDERS[target].write_request(conversation, **given)


def translated(caller: str, target: str, quirks: Quirks | None = None, **members: Any) -> tuple[bytes, tuple[str, ...]]:
    """The request, and what the caller is told of it."""
    asked = registry.CALLERS[caller].parse(json.dumps(MINIMAL[caller] | members).encode(), {})
    codec = registry.CHAT_CALLERS[caller]
    written = write(codec.conversation(asked), target, quirks)
    return written.body, unsaid.told(written.unsaid, codec.SPELLED)


@pytest.mark.parametrize(
    ("protocol", "type"),
    [
        ("chat_completions", CompletionCreateParamsBase),
        ("responses", ResponseCreateParamsBase),
        ("messages", MessageCreateParamsBase),
    ],
)
def test_the_values_above_cover_what_the_sdks_can_say(protocol: str, type: Any) -> None:
    assert not set(type.__annotations__) - set(VALUES[protocol]) - set(MINIMAL[protocol])


@pytest.mark.parametrize(("caller", "target"), PAIRS)
def test_every_member_is_said_or_named_or_refused(caller: str, target: str) -> None:
    for name, value in VALUES[caller].items():
        said, named, refused = outcome(caller, target, name, value)
        if name in AT_HOME[caller]:
            assert not named, name
        elif refused is not None:
            assert refused, f"{name} is refused without a name"
        else:
            assert said or named & ALIASES.get(name, {name}), (name, named)


def outcome(caller: str, target: str, name: str, value: Any) -> tuple[bool, set[str], str | None]:
    """Whether a member changes the request, what the caller is told, and which member was refused."""
    other = BESIDE.get(name, "")
    beside = {other: VALUES[caller][other]} if other in VALUES[caller] else {}
    try:
        without, _ = translated(caller, target, **beside)
        said, named = translated(caller, target, **beside | {name: value})
    except BadRequest as refused:
        return False, set(), refused.param or ""
    return said != without, set(named), None


@pytest.mark.parametrize(("caller", "target"), PAIRS)
def test_what_asks_for_nothing_is_not_named(caller: str, target: str) -> None:
    quiet: Any = {
        "chat_completions": {"store": False, "service_tier": "auto", "seed": None, "modalities": ["text"], "logit_bias": None},
        "responses": {"store": False, "truncation": "disabled", "reasoning": {}, "service_tier": "default", "metadata": {}},
        "messages": {"service_tier": "standard_only", "inference_geo": "global", "speed": "standard", "metadata": {}},
    }[caller]
    assert translated(caller, target, **quiet) == (translated(caller, target)[0], ())


SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.floats(0, 1),
    "top_p": st.floats(0.1, 1),
    "top_k": st.integers(1, 50),
    "seed": st.integers(0, 99),
    "frequency_penalty": st.floats(-2, 2),
    "presence_penalty": st.floats(-2, 2),
    "logit_bias": st.just(Raw(b'{"1":2}')),
    "reasoning": st.builds(
        Reasoning, st.sampled_from([None, "none", "low", "max"]), st.none() | st.integers(1, 9000), st.booleans()
    ),
    "verbosity": st.sampled_from(["low", "high"]),
    "user": st.sampled_from(["u", "u" * 300]),
    "prompt_cache_key": st.just("k"),
    "parallel_tools": st.just(False),
}
NAMES = st.sampled_from(
    [
        "claude-opus-4-1",
        "claude-sonnet-5",
        "claude-3-5-haiku",
        "anthropic.claude-3-haiku-v1:0",
        "amazon.nova-2-lite-v1:0",
        "llama",
    ]
)
USER = Message("user", (Text("Hi"),))


@given(st.data(), st.sampled_from(sorted(registry.CHAT_PROVIDERS)), st.sampled_from(sorted(SETTINGS)), NAMES)
def test_a_setting_that_is_not_named_changes_the_request(data: st.DataObject, target: str, name: str, model: str) -> None:
    """Whatever else is asked for. What silence says (no thought) need not be said."""
    value = data.draw(SETTINGS[name])
    others = {other: data.draw(SETTINGS[other]) for other in data.draw(st.sets(st.sampled_from(sorted(SETTINGS)))) - {name}}
    tools = (Tool("f"),)
    without = write(Conversation(messages=(USER,), tools=tools, max_tokens=9000, **others), target, model=model)
    written = write(Conversation(messages=(USER,), tools=tools, max_tokens=9000, **others, **{name: value}), target, model=model)

    silent = name == "reasoning" and (value.effort == "none" or value == Reasoning())
    # Of two ways to draw the next token, newer models take one: the other is named.
    assert name in written.unsaid or written.body != without.body or silent or {"temperature", "top_p"} & set(written.unsaid)
    assert set(written.unsaid) <= {*others, name}


@given(st.dictionaries(st.text(max_size=80), st.integers(), max_size=30))
def test_names_of_any_kind_break_no_header_and_say_no_contents(members: dict[str, int]) -> None:
    told = unsaid.told(tuple(members), {})
    line = ", ".join(told)
    assert line.isascii()
    assert "\n" not in line
    assert len(told) == len(set(told)) <= unsaid.MOST_NAMED
    assert all(word in members or word == "other" for word in told)


# --- what providers take -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "passed", "told"),
    [
        ("vllm", {"top_k": 5, "min_p": 0.1, "chat_template_kwargs": {"enable_thinking": False}}, ()),
        ("openrouter", {"top_k": 5, "min_p": 0.1}, ("chat_template_kwargs",)),
        ("openai", {}, ("top_k", "chat_template_kwargs", "min_p")),
        ("openai-compatible", {}, ("top_k", "chat_template_kwargs", "min_p")),
    ],
)
def test_vendors_members_reach_those_who_take_them(kind: str, passed: dict[str, Any], told: tuple[str, ...]) -> None:
    given = {"top_k": 5, "min_p": 0.1, "chat_template_kwargs": {"enable_thinking": False}}
    body, named = translated("messages", "chat_completions", providers.provider(kind).quirks, **given)
    written = json.loads(body)
    assert {name: written[name] for name in given if name in written} == passed
    assert set(named) == set(told)


def test_mistral_is_told_nothing_that_it_refuses() -> None:
    given = {"seed": 7, "safety_identifier": "u", "prompt_cache_key": "k", "text": {"verbosity": "low"}}
    body, named = translated("responses", "chat_completions", providers.provider("mistral").quirks, **given)
    assert json.loads(body).keys() == {"model", "messages", "random_seed"}
    assert named == ("text.verbosity", "safety_identifier", "prompt_cache_key")


def test_an_installation_says_what_else_its_server_takes() -> None:
    kind = providers.provider("openai-compatible").configured({"takes": ["top_k", "mirostat"]})
    body, named = translated("messages", "chat_completions", kind.quirks, top_k=5, mirostat=2, min_p=1)
    assert (json.loads(body)["top_k"], json.loads(body)["mirostat"], named) == (5, 2, ("min_p",))


@pytest.mark.parametrize(
    "given", ["top_k", 7, [1], ["max_tokens"], ["max_completion_tokens"], ["generationConfig"], ["a b"], ["messages"]]
)
def test_what_the_gateway_writes_itself_is_not_taken_on_trust(given: Any) -> None:
    with pytest.raises(providers.BadOptions, match=r"options\.takes"):
        providers.provider("vllm").configured({"takes": given})


@pytest.mark.parametrize(
    ("caller", "target", "members", "param"),
    [
        ("chat_completions", "converse", {"logprobs": True}, "logprobs"),
        ("chat_completions", "messages", {"logprobs": True}, "logprobs"),
        ("responses", "converse", {"include": ["message.output_text.logprobs"]}, "logprobs"),
        ("chat_completions", "gemini", {"web_search_options": {}}, "web_search_options"),
        ("chat_completions", "gemini", {"modalities": ["audio"]}, "audio"),
        ("chat_completions", "converse", {"modalities": ["image"]}, "modalities"),
        ("chat_completions", "responses", {"stop": "x"}, "stop"),
        ("chat_completions", "converse", {"n": 2}, "n"),
    ],
)
def test_what_would_be_missed_in_the_answer_is_refused(caller: str, target: str, members: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        translated(caller, target, **members)
    assert refused.value.param == param


def test_what_stands_on_parts_and_tools_is_named() -> None:
    parts = (Text("a", CacheMark()), Image("image/png", "QUJD", detail="low"), File("application/pdf", "QUJD", cite=True))
    conversation = Conversation(messages=(Message("user", parts),), tools=(Tool("f", strict=True),))
    assert {target: set(write(conversation, target).unsaid) for target in registry.CHAT_PROVIDERS} == {
        "chat_completions": {"cache_control", "citations"},
        "responses": {"cache_control", "citations"},
        "messages": {"detail", "strict"},
        "gemini": {"cache_control", "detail", "strict", "citations"},
        "converse": {"detail"},
    }
    named: dict[str, Any] = {"messages": [{"role": "user", "name": "ann", "content": "Hi"}]}
    assert translated("chat_completions", "gemini", **named)[1] == ("messages.name",)


def test_every_setting_is_tried() -> None:
    assert {*unsaid.SETTINGS, "parallel_tools"} == set(SETTINGS)


@pytest.mark.parametrize(
    ("caller", "tool", "named"),
    [
        (
            "messages",
            {"name": "f", "input_schema": SCHEMA, "input_examples": [{}], "defer_loading": True},
            {"input_examples", "defer_loading"},
        ),
        ("messages", {"name": "f", "input_schema": {"defer_loading": True}, "description": "input_examples"}, set()),
        ("responses", {"type": "function", "name": "f", "parameters": SCHEMA, "output_schema": SCHEMA}, {"output_schema"}),
    ],
)
def test_what_only_one_protocols_tools_have_is_named(caller: str, tool: dict[str, Any], named: set[str]) -> None:
    assert set(translated(caller, "gemini", tools=[tool])[1]) == {f"tools.{name}" for name in named}


@pytest.mark.parametrize(("asked", "sent", "named"), [(1.5, 1.0, ("temperature",)), (1.0, 1.0, ()), (0, 0.0, ())])
def test_a_temperature_that_is_lowered_is_named(asked: float, sent: float, named: tuple[str, ...]) -> None:
    body, told = translated("chat_completions", "messages", temperature=asked)
    assert (json.loads(body)["temperature"], told) == (sent, named)


@pytest.mark.parametrize(("breakpoint", "ttl"), [({"mode": "explicit"}, "5m"), ({"mode": "explicit", "ttl": "30m"}, "1h")])
def test_breakpoints_of_openai_are_claudes_too(breakpoint: dict[str, str], ttl: str) -> None:
    marked = {"text": "Hi", "prompt_cache_breakpoint": breakpoint}
    asked: dict[str, dict[str, Any]] = {
        "chat_completions": {"messages": [{"role": "user", "content": [{"type": "text", **marked}]}]},
        "responses": {"input": [{"role": "user", "content": [{"type": "input_text", **marked}]}]},
    }
    for caller, members in asked.items():
        body, named = translated(caller, "messages", **members)
        (block,) = json.loads(body)["messages"][0]["content"]
        assert block["cache_control"] == {"type": "ephemeral"} | ({"ttl": ttl} if ttl != "5m" else {})
        assert named == ()
    assert translated("responses", "gemini", **asked["responses"])[1] == ("prompt_cache_breakpoint",)


# --- where it is told --------------------------------------------------------------------------
def test_what_was_left_out_stands_on_the_call_and_of_the_last_try_only() -> None:
    claude = msgspec.structs.replace(deployment(provider="claude"), provider=providers.provider("anthropic"))
    call = planned_call(claude, seed=7, top_k=3, frequency_penalty=0.5)
    call.held = held()
    assert told_after(call, claude, sent=b'"top_k":3') == ["seed", "frequency_penalty"]
    assert told_after(call, deployment(), sent=b'"seed":7') is None


def told_after(call: Call, tried: Deployment, *, sent: bytes) -> Any:
    """What the call's row would say after a try at a deployment."""
    assert sent in Exchange(call, tried).body()
    told = _decision(call).get("ignored")
    assert list(call.ignored) == (told or [])
    return told
