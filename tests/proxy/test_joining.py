"""The pieces of a stream put together again."""

from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from proxy.canonical.answer import (
    Choice,
    Delta,
    Finished,
    LogprobsDelta,
    RefusalDelta,
    SignatureDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStarted,
)
from proxy.canonical.conversation import Refusal, Text, Thinking, ToolUse
from proxy.canonical.joining import choices_of

TEXTS = st.text(min_size=1, max_size=8)
SPOKEN = st.one_of(
    TEXTS.map(Text),
    TEXTS.map(Refusal),
    st.builds(Thinking, TEXTS, TEXTS),
    TEXTS.map(lambda data: Thinking(redacted=data)),
    st.builds(lambda id, name, arguments: ToolUse(id, name, f'{{"a":"{arguments}"}}'), TEXTS, TEXTS, st.text("abc", max_size=9)),
)
Spoken = Text | Refusal | Thinking | ToolUse


def said(part: Spoken, *, tool: int, choice: int, size: int) -> list[Delta]:
    """The part in pieces of `size` characters."""

    def pieces(text: str) -> list[str]:
        return [text[at : at + size] for at in range(0, len(text), size)]

    match part:
        case Text(text):
            return [TextDelta(piece, choice) for piece in pieces(text)]
        case Refusal(text):
            return [RefusalDelta(piece, choice) for piece in pieces(text)]
        case Thinking(redacted=str(redacted)):
            return [SignatureDelta(redacted=redacted, choice=choice)]
        case Thinking():
            return [
                *(ThinkingDelta(piece, choice) for piece in pieces(part.text)),
                SignatureDelta(part.signature or "", None, choice),
            ]
        case ToolUse():
            return [
                ToolStarted(tool, part.id, part.name, None, choice),
                *(ToolDelta(tool, p, choice) for p in pieces(part.arguments)),
            ]


def apart(parts: list[Spoken]) -> bool:
    """Text after text is one text in a stream."""
    return not any(type(one) is type(other) and isinstance(one, Text | Refusal) for one, other in pairwise(parts))


CHOICES = st.lists(st.lists(SPOKEN, max_size=5).filter(apart), min_size=1, max_size=3)


@given(CHOICES, st.integers(1, 5), st.integers(0, 2**32))
def test_whatever_was_cut_up_is_whole_again(choices: list[list[Spoken]], size: int, order: int) -> None:
    """Choices may be told in any order, each in its own."""
    random = Random(order)  # noqa: S311 - a draw for each piece would take longer than all the rest
    queues: list[list[Delta]] = []
    for choice, parts in enumerate(choices):
        told = [delta for at, part in enumerate(parts) for delta in said(part, tool=at, choice=choice, size=size)]
        queues.append([*told, Finished("stop", "END", choice)])
    deltas: list[Delta] = [Started("id", "model")]
    while any(queues):
        deltas.append(random.choice([queue for queue in queues if queue]).pop(0))

    assert choices_of(deltas) == tuple(Choice(tuple(parts), "stop", "END") for parts in choices)


def test_calls_that_are_open_at_once_are_kept_apart() -> None:
    deltas: list[Delta] = [
        ToolStarted(0, "a", "f", "sig"),
        ToolStarted(1, "b", "g"),
        ToolDelta(1, "[1"),
        ToolDelta(0, "{}"),
        ToolDelta(1, "]"),
    ]
    assert choices_of(deltas) == (Choice((ToolUse("a", "f", "{}", "sig"), ToolUse("b", "g", "[1]"))),)


def test_a_call_without_arguments_has_none() -> None:
    assert choices_of([ToolStarted(0, "a", "f")])[0].parts == (ToolUse("a", "f", "{}"),)


def test_a_signature_without_thought_is_thought_of_its_own() -> None:
    deltas: list[Delta] = [TextDelta("x"), SignatureDelta("s"), ThinkingDelta("hm")]
    assert choices_of(deltas)[0].parts == (Text("x"), Thinking(signature="s"), Thinking("hm"))


def test_log_probabilities_of_all_pieces_are_kept() -> None:
    alone: list[Delta] = [LogprobsDelta(Raw(b'{"refusal":[1]}'))]
    assert choices_of(alone)[0].logprobs == Raw(b'{"refusal":[1]}')
    pieces: list[Delta] = [
        TextDelta("a", logprobs=Raw(b'{"content":[{"token":"a"}]}')),
        TextDelta("b"),
        LogprobsDelta(Raw(b'{"content":[{"token":"b"}]}')),
        LogprobsDelta(Raw(b'{"content":null}')),
    ]
    assert choices_of(pieces)[0].logprobs == Raw(b'{"content":[{"token":"a"},{"token":"b"}]}')
