"""Reading what Gemini answers: one body, or a stream of events that are shaped like one each.

A tool call comes whole, several may come in one event, ids may be missing; the finish reason is `STOP` after tool calls
too. The stream has no last word: it is over when the connection is. Usage comes with every event, and the last one counts.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import Raw

from proxy.canonical.answer import (
    CONTENT_FILTER,
    LENGTH,
    STOP,
    TOOL_CALLS,
    Answer,
    Citation,
    CitationDelta,
    Delta,
    Finished,
    LogprobsDelta,
    MediaDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStarted,
)
from proxy.canonical.joining import choices_of
from proxy.canonical.usage import Usage
from proxy.errors import AttemptFailed, Kind
from proxy.protocols import citations, made_media, surrogates, tool_arguments
from proxy.protocols.base import BrokenReply, CountedFailure, Frame, Reply
from proxy.protocols.counts import count, first_count
from proxy.protocols.delta_reader import DeltaReader, reply_of
from proxy.protocols.failures import read_failure
from proxy.protocols.sse import FrameSplitter, FrameTooLarge, data_of

_FILTERED = (
    "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR",
    "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
)  # fmt: skip
_FINISH = {"MAX_TOKENS": LENGTH, **dict.fromkeys(_FILTERED, CONTENT_FILTER)}
# What it said until then is no answer, and nobody may take it for one. Mostly it meant to call a tool and could not.
_FAILED: dict[str, Kind] = {
    "MALFORMED_FUNCTION_CALL": "unmade_call",
    "UNEXPECTED_TOOL_CALL": "unmade_call",
    "TOO_MANY_TOOL_CALLS": "unmade_call",
    "MISSING_THOUGHT_SIGNATURE": "unmade_call",
    "MALFORMED_RESPONSE": "broken",
}


class _FunctionCall(msgspec.Struct):
    name: str = ""
    id: str | None = None
    args: Raw = Raw()


class _Blob(msgspec.Struct, rename="camel"):
    mime_type: str = ""
    data: str = ""


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _FunctionCall | None = None
    inline_data: _Blob | None = None


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class _Token(msgspec.Struct, rename="camel"):
    token: str = ""
    log_probability: float = 0.0


class _Alternatives(msgspec.Struct):
    candidates: list[_Token] = []


class _Logprobs(msgspec.Struct, rename="camel"):
    chosen_candidates: list[_Token] = []
    top_candidates: list[_Alternatives] = []


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    index: int = 0
    logprobs_result: _Logprobs | None = None
    grounding_metadata: Any = None
    citation_metadata: Any = None


class _Modality(msgspec.Struct, rename="camel"):
    modality: Any = None
    token_count: Any = None


class _UsageMetadata(msgspec.Struct, rename="camel"):
    prompt_token_count: Any = None
    cached_content_token_count: Any = None
    candidates_token_count: Any = None
    thoughts_token_count: Any = None
    tool_use_prompt_token_count: Any = None
    total_token_count: Any = None
    prompt_tokens_details: list[_Modality] | None = None
    cache_tokens_details: list[_Modality] | None = None
    candidates_tokens_details: list[_Modality] | None = None


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class _Event(msgspec.Struct, rename="camel"):
    """A whole answer, or one event of a stream."""

    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: _UsageMetadata | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Event).decode


def _read(payload: bytes) -> _Event:
    """Raises BrokenReply, and AttemptFailed for an error object."""
    try:
        try:
            event = _decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            event = _decode(surrogates.readable(payload))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenReply("broken", "The provider's answer is not one of Gemini's.") from error
    if event.error:
        raise read_failure(payload, status=None)
    return event


def read_answer(body: bytes) -> Answer:
    """Raises BrokenReply for what is no answer, and AttemptFailed for an error object or a call that the model failed to make."""
    event = _read(body)
    if event.candidates is None and event.prompt_feedback is None and event.usage_metadata is None:
        raise BrokenReply("broken", "The provider's answer has no `candidates`.")
    choices = choices_of(_Deltas().of(event))
    return Answer(choices, usage=usage_of(event.usage_metadata), id=event.response_id, model=event.model_version)


def read_reply(body: bytes) -> Reply:
    """Raises like `read_answer`."""
    return reply_of(read_answer(body))


def new_tool_id() -> str:
    return f"call_{uuid4().hex[:24]}"


# --- deltas ------------------------------------------------------------------------------------
class _Deltas:
    """Counts the tool calls of each choice, over all events of one answer."""

    def __init__(self) -> None:
        self._calls: Counter[int] = Counter()
        # By choice: its text so far, in pieces, and what of it has been cited.
        self._texts: dict[int, list[str]] = {}
        self._cited: set[tuple[int, Citation]] = set()

    def of(self, event: _Event) -> list[Delta]:
        """Raises CountedFailure where the model failed to call a tool."""
        found: list[Delta] = []
        for candidate in event.candidates or ():
            self._add(candidate, found)
            if failed := _FAILED.get(candidate.finish_reason or ""):
                sentence = f"The model failed to call a tool ({candidate.finish_reason})."
                raise CountedFailure(failed, sentence, usage=usage_of(event.usage_metadata))
        if event.prompt_feedback and event.prompt_feedback.block_reason and not event.candidates:
            found.append(Finished(CONTENT_FILTER))
        return found

    def _add(self, candidate: _Candidate, to: list[Delta]) -> None:
        at, logprobs = candidate.index, _logprobs(candidate.logprobs_result)
        for part in (candidate.content.parts if candidate.content else None) or ():
            if part.text and part.thought:
                to.append(ThinkingDelta(part.text, at))
            elif part.text:
                self._texts.setdefault(at, []).append(part.text)
                to.append(TextDelta(part.text, at, logprobs))
                logprobs = None
            if part.function_call is not None:
                to += self._called(part.function_call, part.thought_signature, at)
            # Pictures that it only thought of on the way are no answer.
            if part.inline_data is not None and not part.thought:
                to += _made(part.inline_data, at)
        if logprobs is not None:
            to.append(LogprobsDelta(logprobs, at))
        if candidate.grounding_metadata or candidate.citation_metadata:
            to += self._citations(candidate)
        if candidate.finish_reason:
            otherwise = TOOL_CALLS if self._calls[at] else STOP
            to.append(Finished(_FINISH.get(candidate.finish_reason, otherwise), choice=at))

    def _citations(self, candidate: _Candidate) -> Iterator[Delta]:
        """Several events may say the same."""
        at, text = candidate.index, "".join(self._texts.get(candidate.index, ()))
        for citation in citations.of_grounding(candidate.grounding_metadata, candidate.citation_metadata, text):
            if (at, citation) not in self._cited:
                self._cited.add((at, citation))
                yield CitationDelta(citation, at)

    def _called(self, call: _FunctionCall, signature: str | None, choice: int) -> tuple[Delta, Delta]:
        index = self._calls[choice]
        self._calls[choice] += 1
        started = ToolStarted(index, call.id or new_tool_id(), call.name, signature, choice)
        return started, ToolDelta(index, tool_arguments.as_text(call.args), choice)


def _made(blob: _Blob, choice: int) -> list[Delta]:
    part = made_media.canonical(blob.mime_type, blob.data)
    return [] if part is None else [MediaDelta(part, choice)]


def _logprobs(given: _Logprobs | None) -> Raw | None:
    """As Chat Completions writes them; None where there are none."""
    if given is None or not given.chosen_candidates:
        return None
    others = [alternatives.candidates for alternatives in given.top_candidates]
    content = [
        _token(chosen) | {"top_logprobs": [_token(other) for other in (others[at] if at < len(others) else ())]}
        for at, chosen in enumerate(given.chosen_candidates)
    ]
    return Raw(msgspec.json.encode({"content": content, "refusal": None}))


def _token(given: _Token) -> dict[str, Any]:
    return {"token": given.token, "logprob": given.log_probability, "bytes": list(given.token.encode())}


# --- usage -------------------------------------------------------------------------------------
def usage_of(given: _UsageMetadata | None, *, estimated: bool = False) -> Usage | None:
    """Disjoint kinds; None where the prompt was not counted.

    `promptTokenCount` includes what was cached, not what tools of Google's put in. `candidatesTokenCount` leaves thought
    out on one of Google's two services and has it in on the other, so the total decides where there is one.
    Pictures and sounds are told apart where the details name them, less what of them was cached.
    """
    prompt = count(given.prompt_token_count) if given else None
    if given is None or prompt is None:
        return None
    tools, thoughts = first_count(given.tool_use_prompt_token_count), first_count(given.thoughts_token_count)
    total = count(given.total_token_count)
    told = first_count(given.candidates_token_count) + thoughts
    output = total - prompt - tools if total is not None and total >= prompt + tools else told
    cached = min(first_count(given.cached_content_token_count), prompt)
    fresh = prompt - cached
    sounds = min(_less_cached(given, "AUDIO"), fresh)
    pictures = min(_less_cached(given, "IMAGE"), fresh - sounds)
    sound_out = min(_of_modality(given.candidates_tokens_details, "AUDIO"), output)
    picture_out = min(_of_modality(given.candidates_tokens_details, "IMAGE"), output - sound_out)
    return Usage(
        input_uncached=fresh + tools - sounds - pictures,
        cache_read=cached,
        audio_input=sounds,
        image_input=pictures,
        output=output - sound_out - picture_out,
        audio_output=sound_out,
        image_output=picture_out,
        reasoning=min(thoughts, output - sound_out - picture_out),
        estimated=estimated,
    )


def _less_cached(given: _UsageMetadata, modality: str) -> int:
    read = _of_modality(given.cache_tokens_details, modality)
    return max(0, _of_modality(given.prompt_tokens_details, modality) - read)


def _of_modality(details: list[_Modality] | None, modality: str) -> int:
    if not details:  # nearly always
        return 0
    return sum(first_count(part.token_count) for part in details if part.modality == modality)


# --- streams -----------------------------------------------------------------------------------
class StreamReader(DeltaReader):
    """`protocols.base.ProviderReader`. `done` stays false: Gemini ends its stream by ending it."""

    BROKEN = "The provider's stream holds an event that is not one of Gemini's."

    def __init__(self, *, n: int = 1) -> None:
        super().__init__(n=n)
        self._splitter = FrameSplitter()
        self._deltas = _Deltas()
        self._started = False

    def feed(self, chunk: bytes) -> list[Frame]:
        try:
            return [self._frame(raw) for raw in self._splitter.feed(chunk)]
        except FrameTooLarge:
            return [self._broken(b"")]

    def flush(self) -> list[Frame]:
        rest = self._splitter.rest
        self._splitter = FrameSplitter()
        return [self._frame(rest)] if rest.strip() else []

    def _frame(self, raw: bytes) -> Frame:
        payload = data_of(raw)
        if payload is None:
            return self._said(raw, ())
        try:
            event = _read(payload)
        except BrokenReply:
            return self._broken(raw)
        except AttemptFailed as error:
            return self._failed(raw, error)
        self.upstream_id = self.upstream_id or event.response_id
        self.model = self.model or event.model_version
        try:
            told = self._deltas.of(event)
        except CountedFailure as error:  # it costs what it would have cost otherwise
            self.usage = error.usage or self.usage
            return self._failed(raw, error)
        self.has_output |= _draws(event)
        frame = self._said(raw, (*self._beginning(), *told))
        # Until the end it counts what was written so far.
        self.usage = usage_of(event.usage_metadata, estimated=not self.all_finished) or self.usage
        return frame

    def _beginning(self) -> tuple[Delta, ...]:
        if self._started:
            return ()
        self._started = True
        return (Started(self.upstream_id, self.model),)


def _draws(event: _Event) -> bool:
    contents = [candidate.content for candidate in event.candidates or () if candidate.content]
    return any(part.inline_data is not None for content in contents for part in content.parts or ())
