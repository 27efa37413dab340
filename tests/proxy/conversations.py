"""Conversations and answers of every shape, for tests of the codecs: hypothesis strategies and a telling example."""

from __future__ import annotations

from itertools import product
from string import ascii_lowercase, digits

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
# Each draw has its price, and a strategy that is made while drawing twenty of them: all are made here, names without a regular
# expression, dictionaries of pairs, and what is one of few things is drawn at once.
name = st.text(ascii_lowercase + digits + "_", min_size=1, max_size=12).map(
    lambda drawn: drawn if drawn[0].isalpha() else f"a{drawn[1:]}"
)
arguments = st.lists(st.tuples(name, st.one_of(st.integers(-9, 9), text, st.none())), max_size=3).map(
    lambda members: msgspec.json.encode(dict(members)).decode()
)
asked = st.lists(
    st.one_of(text.map(Text), st.sampled_from([Image("image/png", data) for data in ("aGVsbG8=", "d29ybGQ=")])),
    min_size=1,
    max_size=3,
)
# Of each turn: how many tools are called, whether something is said with the calls, and after their results.
shapes = st.lists(st.sampled_from(list(product((0, 0, 1, 2), (False, True), (False, True)))), min_size=1, max_size=3)
may_be = st.booleans()


@st.composite
def turns(draw: st.DrawFn) -> tuple[Message, ...]:
    """A question, perhaps tools that were used and their results, and so on; ends with what the model has to answer."""
    messages: list[Message] = []
    if draw(may_be):
        messages.append(Message("system", (Text(draw(text)),)))
    for turn, (count, speaks, concludes) in enumerate(draw(shapes)):
        messages.append(Message("user", tuple(draw(asked))))
        if count:
            calls = tuple(ToolUse(f"call_{turn}_{at}", draw(name), draw(arguments)) for at in range(count))
            said = (Text(draw(text)),) if speaks else ()
            messages.append(Message("assistant", (*said, *calls)))
            messages += [Message("tool", (ToolResult(call.id, (Text(draw(text)),)),)) for call in calls]
        if concludes:
            messages.append(Message("assistant", (Text(draw(text)),)))
    if messages[-1].role == "assistant":
        messages.append(Message("user", (Text(draw(text)),)))
    return tuple(messages)


history = turns()
tools = st.lists(st.tuples(name, st.none() | text), max_size=3).map(
    lambda drawn: tuple(Tool(tool, description, SCHEMA) for tool, description in dict(drawn).items())
)
bounds = st.none() | st.integers(1, 9_999)
stops = st.lists(text, max_size=2).map(tuple)
settings = st.sampled_from(
    list(
        product(
            (None, None, None, None, ToolChoice("auto"), ToolChoice("required"), ToolChoice("none"), ToolChoice("tool")),
            (None, None, None, 0.0, 0.5, 1.0),
            (None, Format("schema", "place", SCHEMA, True)),
            (None, None, Reasoning("low"), Reasoning("high")),
        )
    )
)


def of_these(tools: tuple[Tool, ...], choice: ToolChoice | None) -> ToolChoice | None:
    """Where one must be called, the first."""
    if not tools or choice is None or choice.mode != "tool":
        return choice if tools else None
    return ToolChoice("tool", tools[0].name)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    known = draw(tools)
    choice, temperature, format, reasoning = draw(settings)
    return Conversation(
        messages=draw(history),
        tools=known,
        tool_choice=of_these(known, choice),
        max_tokens=draw(bounds),
        temperature=temperature,
        stop=draw(stops),
        format=format,
        reasoning=reasoning,
    )


usages = st.builds(
    Usage,
    input_uncached=st.integers(0, 9_999),
    cache_read=st.integers(0, 9_999),
    output=st.integers(60, 9_999),
    reasoning=st.integers(0, 60),
)


# How many tools are called, whether something is said, whether it was thought about, and why it ended.
endings = st.sampled_from(list(product((0, 1, 2), (False, True), (False, True), (STOP, LENGTH, CONTENT_FILTER))))


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """One choice, as most protocols know it: thought, text, tool calls, in this order."""
    count, speaks, thinks, reason = draw(endings)
    calls = tuple(ToolUse(f"call_{at}", draw(name), draw(arguments)) for at in range(count))
    said = (Text(draw(text)),) if speaks or not calls else ()
    thought = (Thinking(draw(text)),) if thinks else ()
    reason = TOOL_CALLS if calls else reason
    assert reason in FINISH_REASONS
    return Answer((Choice((*thought, *said, *calls), reason),), draw(usages), "upstream-1", "upstream-model")
