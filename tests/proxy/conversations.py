"""Conversations and answers of every shape, for tests of the codecs: hypothesis strategies and a telling example."""

from __future__ import annotations

import msgspec
from hypothesis import strategies as st
from msgspec import Raw

from proxy.canonical.answer import CONTENT_FILTER, FINISH_REASONS, LENGTH, STOP, TOOL_CALLS, Answer, Choice
from proxy.canonical.conversation import (
    Conversation,
    Format,
    Image,
    Message,
    Reasoning,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from proxy.canonical.usage import Usage

SCHEMA = Raw(b'{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}')

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
name = st.from_regex(r"[a-z][a-z0-9_]{0,11}", fullmatch=True)
arguments = st.dictionaries(name, st.one_of(st.integers(-9, 9), text, st.none()), max_size=3).map(
    lambda value: msgspec.json.encode(value).decode()
)
picture = st.sampled_from(["aGVsbG8=", "d29ybGQ="]).map(lambda data: Image("image/png", data))


@st.composite
def turns(draw: st.DrawFn) -> tuple[Message, ...]:
    """A question, perhaps tools that were used and their results, and so on; ends with what the model has to answer."""
    messages: list[Message] = []
    if draw(st.booleans()):
        messages.append(Message("system", (Text(draw(text)),)))
    for turn in range(draw(st.integers(1, 3))):
        asked = draw(st.lists(st.one_of(text.map(Text), picture), min_size=1, max_size=3))
        messages.append(Message("user", tuple(asked)))
        if draw(st.booleans()):
            calls = tuple(ToolUse(f"call_{turn}_{at}", draw(name), draw(arguments)) for at in range(draw(st.integers(1, 2))))
            said = (Text(draw(text)),) if draw(st.booleans()) else ()
            messages.append(Message("assistant", (*said, *calls)))
            messages += [Message("tool", (ToolResult(call.id, (Text(draw(text)),)),)) for call in calls]
        if draw(st.booleans()):
            messages.append(Message("assistant", (Text(draw(text)),)))
    if messages[-1].role == "assistant":
        messages.append(Message("user", (Text(draw(text)),)))
    return tuple(messages)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    tools = tuple(Tool(tool, draw(st.none() | text), SCHEMA) for tool in draw(st.lists(name, max_size=3, unique=True)))
    choices = [ToolChoice("auto"), ToolChoice("required"), ToolChoice("none")]
    choices += [ToolChoice("tool", tools[0].name)] if tools else []
    return Conversation(
        messages=draw(turns()),
        tools=tools,
        tool_choice=draw(st.none() | st.sampled_from(choices)) if tools else None,
        max_tokens=draw(st.none() | st.integers(1, 9_999)),
        temperature=draw(st.none() | st.sampled_from([0.0, 0.5, 1.0])),
        stop=tuple(draw(st.lists(text, max_size=2))),
        format=draw(st.none() | st.just(Format("schema", "place", SCHEMA, True))),
        reasoning=draw(st.none() | st.sampled_from([Reasoning("low"), Reasoning("high")])),
    )


usages = st.builds(
    Usage,
    input_uncached=st.integers(0, 9_999),
    cache_read=st.integers(0, 9_999),
    output=st.integers(60, 9_999),
    reasoning=st.integers(0, 60),
)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """One choice, as most protocols know it: thought, text, tool calls, in this order."""
    calls = tuple(ToolUse(f"call_{at}", draw(name), draw(arguments)) for at in range(draw(st.integers(0, 2))))
    said = (Text(draw(text)),) if draw(st.booleans()) or not calls else ()
    thought = (Thinking(draw(text)),) if draw(st.booleans()) else ()
    reason = TOOL_CALLS if calls else draw(st.sampled_from([STOP, LENGTH, CONTENT_FILTER]))
    assert reason in FINISH_REASONS
    return Answer((Choice((*thought, *said, *calls), reason),), draw(usages), "upstream-1", "upstream-model")
