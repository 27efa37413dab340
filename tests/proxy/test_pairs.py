"""Every protocol to every other: what both can say of a conversation arrives, and so does what both can say of an answer.

A client's request is written in its protocol's words, read, written for the provider, and read there; an answer goes the
other way, whole and as a stream that is cut anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import settings as limited
from hypothesis import strategies as st

from proxy.canonical.answer import (
    LENGTH,
    STOP,
    TOOL_CALLS,
    Answer,
    Choice,
    Citation,
    CitationDelta,
    Delta,
    Finished,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStarted,
)
from proxy.canonical.conversation import Conversation, Image, Message, Part, Text, Thinking, ToolResult, ToolUse
from proxy.canonical.joining import choices_of
from proxy.canonical.usage import Usage
from proxy.errors import BadRequest
from proxy.protocols import registry
from proxy.protocols.base import Quirks
from tests.examples import some
from tests.proxy import event_streams
from tests.proxy.conversations import answers, conversations
from tests.proxy.messages_wire import CALL

SPOKEN = sorted(registry.CHAT_CALLERS)
PAIRS = [(caller, provider) for caller in SPOKEN for provider in registry.CHAT_PROVIDERS if caller != provider]
# It takes temperatures, and effort by name.
CLAUDE = "claude-opus-4-6"
ASK: dict[str, dict[str, Any]] = {
    "chat_completions": {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream_options": {"include_usage": True},
    },
    "messages": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
    "responses": {"model": "m", "input": "Hi"},
}


# --- requests ----------------------------------------------------------------------------------
def passed_on(conversation: Conversation, protocol: str) -> Conversation:
    """As it is understood by whoever reads it in this protocol."""
    given: Any = {"model": CLAUDE, "stream": False, "max_tokens": None, "quirks": Quirks(takes=frozenset({"top_k"}))}
    body = registry.CHAT_PROVIDERS[protocol].write_request(conversation, **given).body
    return registry.CHAT_CALLERS[protocol].conversation(registry.CALLERS[protocol].parse(body, {}))


def flat(conversation: Conversation) -> list[tuple[str, Any]]:
    """Who says what, system prompts first; how it falls into messages is a protocol's own."""
    said = [(message.role, _plain(part)) for message in conversation.messages for part in message.parts]
    return sorted(said, key=lambda entry: entry[0] != "system")


def _plain(part: Part) -> Any:
    match part:
        case ToolUse():
            return ("call", part.id, part.name, json.loads(part.arguments))
        case ToolResult():
            return ("result", part.tool_use_id, tuple(_plain(inner) for inner in part.parts))
        case Text():
            return part.text
    return part


def settings(conversation: Conversation) -> dict[str, Any]:
    form, asked = conversation.format, conversation
    return {
        "tools": [(tool.name, tool.description or None, bytes(tool.parameters or b"")) for tool in asked.tools],
        "tool_choice": asked.tool_choice,
        "stop": asked.stop,
        "schema": None if form is None else bytes(form.schema or b""),
        "effort": None if asked.reasoning is None else asked.reasoning.effort,
        # Thought goes with no temperature at Claude.
        "temperature": None if asked.reasoning else asked.temperature,
    }


@limited(max_examples=some(25))
@given(conversations())
def test_what_both_can_say_of_a_conversation_arrives(asked: Conversation) -> None:
    assume(not any(text.isspace() for text in _leaves([_whole(part) for _, part in flat(asked)])))
    for caller, provider in PAIRS:
        if takes_stops(caller, provider, asked) and provider in SPOKEN:
            arrived = passed_on(passed_on(asked, caller), provider)
            assert flat(arrived) == flat(asked), (caller, provider)
            assert settings(arrived) == settings(asked), (caller, provider)
            least = 16 if "responses" in (caller, provider) else 1
            assert asked.max_tokens is None or arrived.max_tokens == max(asked.max_tokens, least)
        elif takes_stops(caller, provider, asked):
            arrives_somewhere(passed_on(asked, caller), provider, flat(asked))
        else:
            with pytest.raises(BadRequest) as refused:
                passed_on(passed_on(asked, caller), provider)
            assert refused.value.param == "stop"


def takes_stops(caller: str, provider: str, asked: Conversation) -> bool:
    is_blank = any(not text.strip() for text in asked.stop)
    return not (asked.stop and "responses" in (caller, provider)) and not (is_blank and "messages" in (caller, provider))


def arrives_somewhere(understood: Conversation, provider: str, said: list[tuple[str, Any]]) -> None:
    """Where nobody reads requests back: every text, name and argument is in the request."""
    given: Any = {"model": CLAUDE, "stream": False, "max_tokens": None, "quirks": Quirks()}
    body = json.loads(registry.CHAT_PROVIDERS[provider].write_request(understood, **given).body)
    assert set(_leaves([_whole(part) for _, part in said])) <= {
        piece for leaf in _leaves(body) for piece in (leaf, *leaf.split("\n"))
    }


def _whole(part: Any) -> Any:
    """What of a part must be found again: ids may be changed."""
    if isinstance(part, Image):
        return part.data
    return part if isinstance(part, str) else list(part[2:])


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from (value, *value.split("\n"))
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from _leaves(inner)


# --- answers -----------------------------------------------------------------------------------
def said_by(provider: str, answer: Answer) -> bytes:
    """A whole answer in a provider's words."""
    (choice,) = answer.choices
    if provider == "gemini":
        return json.dumps(_gemini(choice)).encode()
    if provider == "converse":
        reason = {STOP: "end_turn", LENGTH: "max_tokens", TOOL_CALLS: "tool_use"}.get(choice.finish_reason, "content_filtered")
        content = [_converse(part) for part in choice.parts]
        return json.dumps({"output": {"message": {"content": content}}, "stopReason": reason}).encode()
    asked = registry.CALLERS[provider].parse(json.dumps(ASK[provider]).encode(), {})
    return registry.CHAT_CALLERS[provider].render_answer(answer, request=asked, call_id=CALL)


def _gemini(choice: Choice) -> dict[str, Any]:
    parts: list[Any] = []
    for part in choice.parts:
        if isinstance(part, ToolUse):
            parts.append({"functionCall": {"id": part.id, "name": part.name, "args": json.loads(part.arguments)}})
        else:
            parts.append({"text": part.text} | ({"thought": True} if isinstance(part, Thinking) else {}))  # type: ignore[union-attr]
    reason = {STOP: "STOP", TOOL_CALLS: "STOP", LENGTH: "MAX_TOKENS"}.get(choice.finish_reason, "SAFETY")
    return {"candidates": [{"content": {"parts": parts}, "finishReason": reason}]}


def _converse(part: Any) -> dict[str, Any]:
    if isinstance(part, ToolUse):
        return {"toolUse": {"toolUseId": part.id, "name": part.name, "input": json.loads(part.arguments)}}
    return {"reasoningContent": {"reasoningText": {"text": part.text}}} if isinstance(part, Thinking) else {"text": part.text}


def heard(caller: str, provider: str, answer: Answer) -> Answer:
    """What the caller reads of a provider's answer."""
    read = registry.CHAT_PROVIDERS[provider].read_answer(said_by(provider, answer))
    asked = registry.CALLERS[caller].parse(json.dumps(ASK[caller]).encode(), {})
    body = registry.CHAT_CALLERS[caller].render_answer(read, request=asked, call_id=CALL)
    return registry.CHAT_PROVIDERS[caller].read_answer(body)


def plain(choice: Choice) -> tuple[list[Any], str]:
    parts = [_plain(part) if isinstance(part, ToolUse) else (type(part).__name__, part.text) for part in choice.parts]  # type: ignore[union-attr]
    return parts, choice.finish_reason


@given(answers())
def test_what_both_can_say_of_an_answer_arrives(answer: Answer) -> None:
    for caller, provider in PAIRS:
        arrived = heard(caller, provider, answer)
        assert plain(arrived.choices[0]) == plain(answer.choices[0]), (caller, provider)
        assert arrived.usage == answer.usage or provider not in SPOKEN, (caller, provider)


usages = st.builds(
    Usage,
    input_uncached=st.integers(0, 999),
    cache_read=st.integers(0, 999),
    cache_write_5m=st.integers(0, 999),
    cache_write_1h=st.integers(0, 999),
    output=st.integers(0, 999),
)


@given(usages)
def test_cached_tokens_are_told_to_every_caller(used: Usage) -> None:
    """Only Messages tells lifetimes; nobody counts a token twice."""
    arrived = {caller: heard(caller, "messages", Answer((Choice((Text("x"),), STOP),), used)).usage for caller in SPOKEN}
    merged = msgspec.structs.replace(used, cache_write_5m=used.cache_write_5m + used.cache_write_1h, cache_write_1h=0)
    assert arrived == {"messages": used, "chat_completions": merged, "responses": merged}


# --- streams -----------------------------------------------------------------------------------
def deltas_of(answer: Answer) -> list[Delta]:
    found: list[Delta] = [Started("x", "m")]
    (choice,) = answer.choices
    calls = 0
    for part in choice.parts:
        match part:
            case Thinking():
                found.append(ThinkingDelta(part.text))
            case Text():
                found += [TextDelta(part.text), *map(CitationDelta, choice.citations)]
            case ToolUse():
                found += [ToolStarted(calls, part.id, part.name), ToolDelta(calls, part.arguments)]
                calls += 1
    return [*found, Finished(choice.finish_reason)]


def streamed(caller: str, deltas: list[tuple[Delta, ...]], usage: Usage | None) -> bytes:
    asked = registry.CALLERS[caller].parse(json.dumps(ASK[caller] | {"stream": True}).encode(), {})
    renderer = registry.CHAT_CALLERS[caller].renderer(asked, call_id=CALL)
    return b"".join(map(renderer.feed, deltas)) + renderer.end(usage)


def stream_by(provider: str, answer: Answer) -> bytes:
    (choice,) = answer.choices
    if provider == "gemini":
        return b"data: " + json.dumps(_gemini(choice)).encode() + b"\n\n"
    if provider == "converse":
        return _converse_stream(choice)
    return streamed(provider, [(delta,) for delta in deltas_of(answer)], answer.usage)


def _converse_stream(choice: Choice) -> bytes:
    events: list[tuple[str, Any]] = [("messageStart", {})]
    for at, part in enumerate(choice.parts):
        block = _converse(part)
        delta: Any = block
        if "toolUse" in block:
            start = {name: block["toolUse"][name] for name in ("toolUseId", "name")}
            events.append(("contentBlockStart", {"contentBlockIndex": at, "start": {"toolUse": start}}))
            delta = {"toolUse": {"input": json.dumps(block["toolUse"]["input"])}}
        elif "reasoningContent" in block:
            delta = {"reasoningContent": {"text": part.text}}  # type: ignore[union-attr]
        events += [
            ("contentBlockDelta", {"contentBlockIndex": at, "delta": delta}),
            ("contentBlockStop", {"contentBlockIndex": at}),
        ]
    reason = {STOP: "end_turn", LENGTH: "max_tokens", TOOL_CALLS: "tool_use"}.get(choice.finish_reason, "content_filtered")
    return event_streams.events(*events, ("messageStop", {"stopReason": reason}))


def read(protocol: str, stream: bytes, cut: int) -> tuple[list[tuple[Delta, ...]], Usage | None]:
    reader = registry.CHAT_PROVIDERS[protocol].reader(n=1, wants_usage=True, deltas=True)
    frames = [*reader.feed(stream[:cut]), *reader.feed(stream[cut:]), *reader.flush()]
    assert not [frame.error for frame in frames if frame.error]
    return [frame.deltas for frame in frames if frame.deltas], reader.usage


@given(answers(), st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_stream_says_the_same_wherever_either_side_of_it_is_cut(answer: Answer, where: tuple[float, float]) -> None:
    for caller, provider in PAIRS:
        stream = stream_by(provider, answer)
        deltas, usage = read(provider, stream, int(where[0] * len(stream)))
        told = streamed(caller, deltas, usage)
        arrived, counted = read(caller, told, int(where[1] * len(told)))
        (choice,) = choices_of(delta for some in arrived for delta in some)
        assert plain(choice) == plain(answer.choices[0]), (caller, provider)
        assert counted == usage == answer.usage or provider not in SPOKEN, (caller, provider)


@pytest.mark.parametrize(("caller", "provider"), [pair for pair in PAIRS if pair[1] in SPOKEN])
def test_a_page_that_is_cited_is_cited_to_every_caller(caller: str, provider: str) -> None:
    said = "Zürich 😀"
    page = Citation(0, len(said), "https://a.example/", "A page")
    answer = Answer((Choice((Text(said),), STOP, citations=(page,)),), Usage(output=1))
    assert heard(caller, provider, answer).choices[0].citations == (page,)
    stream = stream_by(provider, answer)
    for cut in range(0, len(stream), len(stream) // 500 + 1):
        deltas, _ = read(provider, stream, cut)
        assert choices_of(delta for some in deltas for delta in some)[0].citations == (page,)
    arrived, _ = read(caller, streamed(caller, deltas, answer.usage), 0)
    assert choices_of(delta for some in arrived for delta in some)[0].citations == (page,)


def test_settings_of_sampling_keep_their_value_where_both_have_them() -> None:
    messages = (Message("user", (Text("Hi"),)),)
    asked = Conversation(messages=messages, top_p=0.5, top_k=7, seed=3, frequency_penalty=0.5, presence_penalty=-0.5)
    chat, claude = passed_on(asked, "chat_completions"), passed_on(asked, "messages")
    assert (chat.top_p, chat.top_k, chat.seed, chat.frequency_penalty, chat.presence_penalty) == (0.5, 7, 3, 0.5, -0.5)
    assert (claude.top_p, claude.top_k) == (0.5, 7)
    assert passed_on(asked, "responses").top_p == 0.5
