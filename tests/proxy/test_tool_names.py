"""Names of tools that a provider does not take: an alias on the way there, the caller's own on the way back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.canonical.answer import Answer, Choice, Delta, TextDelta, ToolDelta, ToolStarted
from proxy.canonical.conversation import Conversation, Message, Text, Tool, ToolChoice, ToolUse
from proxy.protocols import registry, tool_names

LONG = "mcp__plugin_atlassian_atlassian__createCompassComponentRelationship"
USER = Message("user", (Text("?"),))


def asked(*names: str) -> Conversation:
    called = Message("assistant", (Text("so"), *(ToolUse(f"c{at}", name, "{}") for at, name in enumerate(names))))
    return Conversation(
        messages=(USER, called), tools=tuple(Tool(name) for name in names), tool_choice=ToolChoice("tool", names[0])
    )


@pytest.mark.parametrize(
    ("protocol", "name", "kept"),
    [
        ("converse", "look", True),
        ("converse", LONG, False),
        ("converse", "a.b", False),
        ("chat_completions", "a.b", True),
        ("chat_completions", LONG, False),
        ("gemini", LONG, False),
        ("messages", LONG, True),
        ("messages", "a.b", False),
        ("responses", LONG, True),
        ("responses", "n" * 129, False),
    ],
)
def test_a_name_is_changed_only_where_it_would_be_refused(protocol: str, name: str, kept: bool) -> None:
    fitted, names = tool_names.fitted(asked(name), protocol)
    assert (fitted.tools[0].name == name, names == {}) == (kept, kept)
    assert fitted.messages[0] == USER


def test_every_protocol_says_what_it_takes() -> None:
    for protocol in registry.CHAT_PROVIDERS:
        assert tool_names.fitted(asked("f"), protocol) == (asked("f"), {})


@given(
    st.lists(st.text(min_size=1, max_size=200), min_size=1, max_size=5, unique=True), st.sampled_from([*registry.CHAT_PROVIDERS])
)
def test_declared_called_and_chosen_have_one_name_and_it_comes_back(given_names: list[str], protocol: str) -> None:
    fitted, names = tool_names.fitted(asked(*given_names), protocol)

    sent = [tool.name for tool in fitted.tools]
    assert len(set(sent)) == len(given_names)
    assert [part.name for part in fitted.messages[1].parts if isinstance(part, ToolUse)] == sent
    assert fitted.tool_choice == ToolChoice("tool", sent[0])
    again, _ = tool_names.fitted(fitted, protocol)
    assert again == fitted
    whole = Answer((Choice((Text("x"), *(ToolUse(f"c{at}", name, "{}") for at, name in enumerate(sent)))),))
    told = tool_names.answer_of(whole, names).choices[0].parts
    assert [part.name for part in told if isinstance(part, ToolUse)] == given_names
    deltas: tuple[Delta, ...] = (
        TextDelta("x"),
        *(ToolStarted(at, "c", name) for at, name in enumerate(sent)),
        ToolDelta(0, "{}"),
    )
    streamed = tool_names.deltas_of(deltas, names)
    assert [delta.name for delta in streamed if isinstance(delta, ToolStarted)] == given_names
    assert len(streamed) == len(deltas)


def test_without_a_choice_none_is_made() -> None:
    fitted, _ = tool_names.fitted(Conversation(messages=(USER,), tools=(Tool(LONG),), tool_choice=ToolChoice("auto")), "converse")
    assert fitted.tool_choice == ToolChoice("auto")
    assert tool_names.fitted(Conversation(messages=(USER,), tools=(Tool(LONG),)), "converse")[0].tool_choice is None
