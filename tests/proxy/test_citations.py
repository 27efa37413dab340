"""Citations and log probabilities between protocols: whole and streamed, wherever a stream is cut, by the SDKs' own types."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from anthropic.types import Message as AnthropicMessage
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from openai.types.chat import ChatCompletion
from pydantic import TypeAdapter

from proxy.canonical.answer import (
    STOP,
    Answer,
    Choice,
    Citation,
    CitationDelta,
    Delta,
    Finished,
    Place,
    Started,
    TextDelta,
    ToolDelta,
    ToolStarted,
)
from proxy.canonical.conversation import Text, Thinking, ToolUse
from proxy.canonical.joining import choices_of
from proxy.protocols import citations, messages, registry
from proxy.protocols.base import Quirks
from tests.proxy import event_streams
from tests.proxy.messages_wire import CALL, asked, block, event
from tests.proxy.responses_wire import assembled, events_in, frames_of, response, said, sound_response

PAGE = Citation(0, 4, "https://a.example/", "A page")
LATER = Citation(6, 11, "https://b.example/ü", "Ü", "the words")
TEXT = "Zürich wins."
CALLERS: dict[str, dict[str, Any]] = {
    "chat_completions": {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True},
    "messages": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], "stream": True},
    "responses": {"model": "m", "input": "Hi", "stream": True},
}
_anthropic_event: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def rendered(caller: str, answer: Answer) -> Any:
    request = registry.CALLERS[caller].parse(json.dumps(CALLERS[caller]).encode(), {})
    return json.loads(registry.CHAT_CALLERS[caller].render_answer(answer, request=request, call_id=CALL))


def streamed(caller: str, *deltas: Delta) -> bytes:
    request = registry.CALLERS[caller].parse(json.dumps(CALLERS[caller]).encode(), {})
    renderer = registry.CHAT_CALLERS[caller].renderer(request, call_id=CALL)
    return b"".join(renderer.feed((delta,)) for delta in deltas) + renderer.end(None)


def read(protocol: str, stream: bytes, cut: int = 0) -> list[Delta]:
    reader = registry.CHAT_PROVIDERS[protocol].reader(n=1, wants_usage=True, deltas=True)
    frames = [*reader.feed(stream[:cut]), *reader.feed(stream[cut:]), *reader.flush()]
    assert not [frame.error for frame in frames if frame.error]
    return [delta for frame in frames for delta in frame.deltas]


def cited(answer: Answer) -> tuple[Citation, ...]:
    return answer.choices[0].citations


def pages(found: Any) -> list[tuple[int, int, str | None]]:
    return [(one.start, one.end, one.url) for one in found]


# --- what providers say ------------------------------------------------------------------------
ANNOTATED = [
    {"type": "url_citation", "url_citation": {"start_index": 0, "end_index": 4, "url": PAGE.url, "title": PAGE.title}},
    {"type": "url_citation", "url_citation": {"start_index": 6, "end_index": 11, "url": LATER.url, "title": LATER.title}},
]
CHAT = {"choices": [{"index": 0, "message": {"content": TEXT, "annotations": ANNOTATED}, "finish_reason": "stop"}]}
RESPONSE = response(
    said("Before. "),
    said(TEXT, number=1, content=[
        {"type": "output_text", "text": TEXT, "logprobs": [], "annotations": [
            {"type": "file_citation", "file_id": "f", "filename": "f", "index": 0},
            *({"type": "url_citation", **one["url_citation"]} for one in ANNOTATED),  # type: ignore[dict-item]
        ]},
    ]),
)  # fmt: skip
SEARCHED = {"type": "web_search_result_location", "url": PAGE.url, "title": PAGE.title, "cited_text": "q", "encrypted_index": "E"}
CHARS = {
    "type": "char_location", "cited_text": "d", "document_index": 1, "document_title": "Doc", "file_id": None,
    "start_char_index": 2, "end_char_index": 5,
}  # fmt: skip
CLAUDE = {
    "content": [
        {"type": "text", "text": "Zür", "citations": None},
        {"type": "text", "text": "ich", "citations": [SEARCHED, CHARS]},
        {"type": "text", "text": " wins.", "citations": [{"type": "from_the_future"}, 7]},
    ],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
FROM_CLAUDE = (
    Citation(3, 6, PAGE.url, PAGE.title, "q"),
    Citation(3, 6, None, "Doc", "d", Place(1, "char", 2, 5)),
)
CONVERSE_CITED = {"citations": [
    {"title": "Doc", "sourceContent": [{"text": "d"}], "location": {"documentPage": {"documentIndex": 1, "start": 2, "end": 5}}},
    {"title": "A page", "location": {"web": {"url": PAGE.url, "domain": "a.example"}}},
    {"location": {"from": "the future"}},
]}  # fmt: skip
CONVERSE = {
    "output": {"message": {"content": [
        {"text": "Zür"}, {"citationsContent": {"content": [{"text": "i"}, {"text": "ch"}], **CONVERSE_CITED}}, {"text": " wins."},
    ]}},
    "stopReason": "end_turn",
}  # fmt: skip
FROM_CONVERSE = (Citation(3, 6, None, "Doc", "d", Place(1, "page", 2, 5)), Citation(3, 6, PAGE.url, "A page"))
GROUNDED = {
    "groundingChunks": [{"web": {"uri": PAGE.url, "title": "A page"}}, {"web": {"uri": LATER.url, "title": "Ü"}}, {"web": {}}],
    "groundingSupports": [
        {"segment": {"endIndex": 7, "text": "Zürich"}, "groundingChunkIndices": [0, 2, 9]},
        {"segment": {"startIndex": 8, "endIndex": 12}, "groundingChunkIndices": [1]},
    ],
}
GEMINI = {
    "candidates": [{
        "content": {"parts": [{"text": "hm", "thought": True}, {"text": TEXT}]}, "finishReason": "STOP",
        "groundingMetadata": GROUNDED, "citationMetadata": {"citations": [{"startIndex": 0, "endIndex": 3, "uri": "https://c/"}]},
    }],
}  # fmt: skip


def test_each_provider_is_read_whole() -> None:
    whole = {name: registry.CHAT_PROVIDERS[name].read_answer for name in registry.CHAT_PROVIDERS}
    plain = (PAGE, Citation(6, 11, LATER.url, LATER.title))
    assert cited(whole["chat_completions"](json.dumps(CHAT).encode())) == plain
    assert pages(cited(whole["responses"](json.dumps(RESPONSE).encode()))) == [(8, 12, PAGE.url), (14, 19, LATER.url)]
    assert cited(whole["messages"](json.dumps(CLAUDE).encode())) == FROM_CLAUDE
    converse = whole["converse"](json.dumps(CONVERSE).encode())
    assert "".join(part.text for part in converse.choices[0].parts if isinstance(part, Text)) == TEXT
    assert cited(converse) == FROM_CONVERSE
    gemini = cited(whole["gemini"](json.dumps(GEMINI).encode()))
    assert pages(gemini) == [(0, 6, PAGE.url), (7, 11, LATER.url), (0, 2, "https://c/")]


def test_perplexity_names_what_it_read_beside_the_answer() -> None:
    plain = {"choices": [{"index": 0, "message": {"content": TEXT}, "finish_reason": "stop"}], "citations": [PAGE.url, 7]}
    reading = registry.CHAT_PROVIDERS["chat_completions"].read_answer
    assert cited(reading(json.dumps(plain).encode())) == (Citation(0, 12, PAGE.url),)
    titled = plain | {"search_results": [{"url": PAGE.url, "title": PAGE.title}]}
    assert cited(reading(json.dumps(titled).encode())) == (Citation(0, 12, PAGE.url, PAGE.title),)


def chat_stream() -> bytes:
    chunks: list[Any] = [{"content": TEXT[:5]}, {"content": TEXT[5:]}, {"annotations": ANNOTATED}]
    ends = [{"index": 0, "delta": delta} for delta in chunks] + [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    return b"".join(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n" for choice in ends)


def responses_stream(*, told_one_by_one: bool) -> bytes:
    frames = frames_of(RESPONSE, piece=5)
    notes: list[bytes] = []
    for number, annotation in enumerate(RESPONSE["output"][1]["content"][0]["annotations"] if told_one_by_one else ()):
        place = {"output_index": 1, "content_index": 0, "item_id": "msg_1", "annotation_index": number}
        told = {"type": "response.output_text.annotation.added", **place, "annotation": annotation}
        notes.append(b"data: " + json.dumps(told).encode() + b"\n\n")
    at = next(at for at, frame in enumerate(frames) if b'"output_index": 1' in frame and b"content_part.done" in frame)
    return b"".join([*frames[:at], *notes, *frames[at:]])


def messages_stream() -> bytes:
    def piece(*texts: str, cites: list[Any]) -> list[dict[str, Any]]:
        said = [{"type": "text_delta", "text": text} for text in texts]
        return [said[0], *({"type": "citations_delta", "citation": one} for one in cites), *said[1:]]

    opening = {"type": "text", "text": ""}
    return b"".join([
        event("message_start", message={"id": "msg_1", "content": [], "usage": {"input_tokens": 1}}),
        *block(0, opening, *piece("Zür", cites=[])), *block(1, opening, *piece("i", "ch", cites=[SEARCHED, CHARS])),
        *block(2, opening, *piece(" wins.", cites=[7])),
        event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 1}), event("message_stop"),
    ])  # fmt: skip


def converse_stream() -> bytes:
    def delta(index: int, **members: Any) -> tuple[str, Any]:
        return "contentBlockDelta", {"contentBlockIndex": index, "delta": members}

    return event_streams.events(
        ("messageStart", {}), delta(0, text="Zür"), ("contentBlockStop", {"contentBlockIndex": 0}),
        delta(1, text="i"), *(delta(1, citation=one) for one in CONVERSE_CITED["citations"]), delta(1, text="ch"),
        ("contentBlockStop", {"contentBlockIndex": 1}), delta(2, text=" wins."), ("contentBlockStop", {"contentBlockIndex": 2}),
        ("messageStop", {"stopReason": "end_turn"}), ("metadata", {"usage": {"inputTokens": 1, "outputTokens": 1}}),
    )  # fmt: skip


def gemini_stream() -> bytes:
    last = GEMINI["candidates"][0]
    events: list[Any] = [
        {"content": {"parts": [{"text": TEXT[:2]}]}},
        {**last, "content": {"parts": [{"text": TEXT[2:]}]}, "finishReason": None},
        {**last, "content": {"parts": [{"text": ""}]}},
    ]
    return b"".join(b"data: " + json.dumps({"candidates": [one]}).encode() + b"\n\n" for one in events)


STREAMS = {
    "chat_completions": (chat_stream(), CHAT),
    "responses": (responses_stream(told_one_by_one=True), RESPONSE),
    "responses, told at the end": (responses_stream(told_one_by_one=False), RESPONSE),
    "messages": (messages_stream(), CLAUDE),
    "converse": (converse_stream(), CONVERSE),
    "gemini": (gemini_stream(), GEMINI),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cites_what_the_whole_answer_does_wherever_it_is_cut(name: str) -> None:
    stream, whole = STREAMS[name]
    protocol = name.partition(",")[0]
    expected = registry.CHAT_PROVIDERS[protocol].read_answer(json.dumps(whole).encode()).choices[0]
    for cut in range(0, len(stream), len(stream) // 1500 + 1):
        (choice,) = choices_of(read(protocol, stream, cut))
        assert choice.citations == expected.citations
        assert choice.finish_reason == STOP


@pytest.mark.parametrize(
    "given", [None, 7, True, "x", [7, None, {}], [{"type": "url_citation"}], [{"type": "url_citation", "url_citation": 3}]]
)
def test_what_is_no_citation_costs_nothing(given: Any) -> None:
    assert citations.of_annotations(given) == []
    assert citations.of_block(given, start=0, end=1) == citations.of_converse(given, start=0, end=1) == []
    assert [*citations.of_grounding(given, given, "x")] == []
    assert citations.of_sources(given, given and 7, length=1) == []
    assert [*citations.of_grounding({"groundingSupports": [{"groundingChunkIndices": given}]}, given, "x")] == []
    assert [*citations.of_grounding({"groundingChunks": given, "groundingSupports": given}, {"citations": given}, "x")] == []


# --- what callers are told ---------------------------------------------------------------------
SPOKEN = Answer((Choice((Text("Zürich"), ToolUse("c", "f", "{}"), Text(" wins.")), STOP, citations=(PAGE, LATER)),))


def test_whole_answers_tell_them_in_the_types_of_each_sdk() -> None:
    chat = rendered("chat_completions", SPOKEN)["choices"][0]["message"]
    parsed = ChatCompletion.model_validate(rendered("chat_completions", SPOKEN)).choices[0].message.annotations
    assert chat["annotations"] == ANNOTATED
    assert [one.url_citation.url for one in parsed or ()] == [PAGE.url, LATER.url]

    body = sound_response(rendered("responses", SPOKEN))
    texts = [part for item in body["output"] for part in item.get("content", ())]
    assert [[(one["start_index"], one["end_index"]) for one in part["annotations"]] for part in texts] == [[(0, 4)], [(0, 5)]]

    message = AnthropicMessage.model_validate(rendered("messages", SPOKEN))
    quoted = [[one.cited_text for one in part.citations or ()] for part in message.content if part.type == "text"]
    assert quoted == [[""], ["the words"]]


def test_places_in_documents_are_told_where_documents_can_be_cited() -> None:
    choice = Choice((Text("Zürich"),), STOP, citations=(FROM_CONVERSE[0],))
    (part,) = AnthropicMessage.model_validate(rendered("messages", Answer((choice,)))).content
    assert part.type == "text"
    assert [one.type for one in part.citations or ()] == ["page_location"]
    assert "annotations" not in rendered("chat_completions", Answer((choice,)))["choices"][0]["message"]
    assert rendered("responses", Answer((choice,)))["output"][0]["content"][0]["annotations"] == []


STARTED, ENDED = Started("x", "m"), Finished(STOP)
SPEAKING = (
    STARTED,
    TextDelta("Zürich"),
    CitationDelta(PAGE),
    TextDelta(" wins."),
    CitationDelta(LATER),
    CitationDelta(PAGE),
    ENDED,
)


def test_streams_tell_them_in_the_types_of_each_sdk() -> None:
    chunks = [json.loads(line[6:]) for line in streamed("chat_completions", *SPEAKING).decode().split("\n\n")[:-2]]
    told = [one for chunk in chunks for choice in chunk["choices"] for one in choice["delta"].get("annotations", ())]
    assert told == [*ANNOTATED, ANNOTATED[0]]

    body = assembled(events_in(streamed("responses", *SPEAKING)))
    assert [one["url"] for one in body["output"][0]["content"][0]["annotations"]] == [PAGE.url, LATER.url, PAGE.url]

    events = [json.loads(line.partition("\ndata: ")[2]) for line in streamed("messages", *SPEAKING).decode().split("\n\n")[:-1]]
    for one in events:
        _anthropic_event.validate_python(one)
    deltas = [(one["index"], one["delta"]["type"]) for one in events if one["type"] == "content_block_delta"]
    assert deltas == [
        (0, "text_delta"),
        (0, "citations_delta"),
        (1, "text_delta"),
        (1, "citations_delta"),
        (1, "citations_delta"),
    ]


@pytest.mark.parametrize("caller", CALLERS)
def test_what_is_cited_too_late_breaks_no_stream(caller: str) -> None:
    late = (STARTED, TextDelta("a"), ToolStarted(0, "c", "f"), ToolDelta(0, "{}"), CitationDelta(PAGE), ENDED)
    stream = streamed(caller, *late)
    assert (b"a.example" in stream) is (caller == "chat_completions")
    if caller == "responses":
        assembled(events_in(stream))


cut_into = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@given(st.lists(st.tuples(st.text("aü😀", min_size=1, max_size=6), st.booleans()), min_size=1, max_size=5))
def test_what_is_written_is_read_the_same(pieces: list[tuple[str, bool]]) -> None:
    """For every protocol of callers that providers speak too: stretches stay where they were in the text."""
    deltas: list[Delta] = [STARTED]
    at = 0
    for text, is_cited in pieces:
        deltas.append(TextDelta(text))
        if is_cited:
            deltas.append(CitationDelta(Citation(at, at + len(text), PAGE.url, PAGE.title)))
        at += len(text)
    (expected,) = choices_of(deltas)
    for caller in ("chat_completions", "responses"):
        (choice,) = choices_of(read(caller, streamed(caller, *deltas, ENDED)))
        assert choice.citations == expected.citations
        whole = json.dumps(rendered(caller, Answer((msgspec.structs.replace(expected, finish_reason=STOP),)))).encode()
        assert cited(registry.CHAT_PROVIDERS[caller].read_answer(whole)) == expected.citations
    # Messages cites whole blocks: what it cites ends where it did, and may begin earlier.
    (choice,) = choices_of(read("messages", streamed("messages", *deltas, ENDED)))
    assert [one.end for one in choice.citations] == [one.end for one in expected.citations]


def test_citations_that_nobody_sealed_do_not_go_back_to_anthropic() -> None:
    told = rendered("messages", Answer((Choice((Thinking("t", "sealed"), Text("Zürich")), STOP, citations=(PAGE,)),)))
    history = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": told["content"]},
        {"role": "user", "content": "?"},
    ]
    sent = json.loads(messages.pass_through(asked(messages=history), model="claude-opus-5"))
    assert sent["messages"][1]["content"] == [told["content"][0], {"type": "text", "text": "Zürich"}]
    kept = [{"role": "assistant", "content": [{"type": "text", "text": "x", "citations": [SEARCHED]}]}]
    assert json.loads(messages.pass_through(asked(messages=[*history[:1], *kept]), model="m"))["messages"][1:] == kept


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            {"type": "base64", "media_type": "application/pdf", "data": "QUJD"},
            {"converse": [], "chat_completions": ["citations"]},
        ),
        (
            {"type": "text", "media_type": "text/plain", "data": "x"},
            {"converse": ["citations"], "chat_completions": ["citations"]},
        ),
    ],
)
def test_who_asks_for_citations_of_documents_gets_them_or_is_told(source: Any, told: dict[str, list[str]]) -> None:
    given: Any = {"model": "anthropic.claude-opus-5-v1:0", "stream": False, "max_tokens": None, "quirks": Quirks()}
    for provider, names in told.items():
        write = registry.CHAT_PROVIDERS[provider].write_request
        blocks = [{"type": "document", "source": source, "citations": {"enabled": enabled}} for enabled in (True, False)]
        conversations = [messages.conversation(asked(messages=[{"role": "user", "content": [block]}])) for block in blocks]
        loud, silent = (write(one, **given) for one in conversations)
        assert (list(loud.unsaid), list(silent.unsaid)) == (names, [])
        assert (b'"citations":{"enabled":true}' in loud.body) is not bool(names)


# --- log probabilities -------------------------------------------------------------------------
def token(text: str) -> dict[str, Any]:
    return {"token": text, "logprob": -0.5, "bytes": list(text.encode()), "top_logprobs": []}


def logprobs(*texts: str) -> Raw:
    return Raw(json.dumps({"content": [token(text) for text in texts]}).encode())


def test_each_delta_of_a_response_tells_its_log_probabilities() -> None:
    stream = streamed("responses", STARTED, TextDelta("a", logprobs=logprobs("a")), TextDelta("b", logprobs=logprobs("b")), ENDED)
    events = events_in(stream)
    told = [one["logprobs"] for one in events if one["type"] == "response.output_text.delta"]
    assert told == [[token("a")], [token("b")]]
    done = next(one for one in events if one["type"] == "response.output_text.done")
    assert done["logprobs"] == [token("a"), token("b")]
    assert events[-1]["response"]["output"][0]["content"][0]["logprobs"] == [token("a"), token("b")]


@pytest.mark.parametrize("caller", ["chat_completions", "responses"])
def test_log_probabilities_are_read_as_they_are_written(caller: str) -> None:
    stream = streamed(caller, STARTED, TextDelta("a", logprobs=logprobs("a")), TextDelta("b", logprobs=logprobs("b")), ENDED)
    for cut in range(0, len(stream), len(stream) // 1500 + 1):
        (choice,) = choices_of(read(caller, stream, cut))
        assert json.loads(bytes(choice.logprobs or b"{}")) == json.loads(bytes(logprobs("a", "b")))


def test_gemini_tells_them_with_their_text() -> None:
    told = {
        "content": {"parts": [{"text": "a"}]},
        "logprobsResult": {"chosenCandidates": [{"token": "a", "logProbability": -0.5}]},
    }
    (_, delta) = read("gemini", b"data: " + json.dumps({"candidates": [told]}).encode() + b"\n\n")
    assert isinstance(delta, TextDelta)
    assert json.loads(bytes(delta.logprobs or b""))["content"] == [token("a")]
