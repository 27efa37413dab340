"""Chat Completions answers ↔ canonical ones, whole and as streams, for calls whose two sides speak different protocols.

A stream rendered here has OpenAI's order: a first chunk with the role, deltas, one chunk with the finish reason, the
usage only for who asked for it, `[DONE]`; the same id, time and model on every chunk.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import Raw

from proxy.canonical.answer import (
    STOP,
    TOOL_CALLS,
    Answer,
    Choice,
    Citation,
    CitationDelta,
    Delta,
    Finished,
    LogprobsDelta,
    MediaDelta,
    RefusalDelta,
    SignatureDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStarted,
    Written,
)
from proxy.canonical.conversation import Audio, Image, Refusal, Text, Thinking, ToolUse
from proxy.canonical.request import Request
from proxy.canonical.usage import Usage
from proxy.protocols import citations, made_media, surrogates
from proxy.protocols.base import BrokenReply
from proxy.protocols.bodies import NULL
from proxy.protocols.chat_replies import usage_members, usage_of_object

_encode = msgspec.json.Encoder().encode
_FINISH = {"function_call": TOOL_CALLS}


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    extra_content: dict[str, Any] | None = None

    @property
    def signature(self) -> str | None:
        google = (self.extra_content or {}).get("google")
        signature = google.get("thought_signature") if isinstance(google, dict) else None
        return signature if isinstance(signature, str) else None


class _Content(msgspec.Struct):
    """The message of a whole answer, or the delta of a streamed one."""

    content: str | list[dict[str, Any]] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    annotations: Any = None

    @property
    def text(self) -> str:
        """Mistral's thinking models answer in a list of parts."""
        return _joined(self.content) if isinstance(self.content, list) else self.content or ""

    @property
    def thought(self) -> str:
        """Mistral has it among the parts, in parts of its own."""
        told = self.reasoning_content or self.reasoning
        if told or not isinstance(self.content, list):
            return told or ""
        return "".join(_joined(part["thinking"]) for part in self.content if isinstance(part.get("thinking"), list))

    @property
    def calls(self) -> list[_ToolCall]:
        legacy = [_ToolCall(0, None, self.function_call)] if self.function_call else []
        return (self.tool_calls or []) + legacy


def _joined(parts: list[Any]) -> str:
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))


class _Choice(msgspec.Struct):
    index: int = 0
    message: _Content | None = None
    delta: _Content | None = None
    finish_reason: str | None = None
    logprobs: Raw = NULL


class _Body(msgspec.Struct):
    choices: list[_Choice] = []
    id: str | None = None
    model: str | None = None
    usage: Raw = NULL
    citations: Any = None
    search_results: Any = None


_decode = msgspec.json.Decoder(_Body).decode


def _read(payload: bytes) -> _Body:
    """Raises BrokenReply. Lone surrogate halves become replacement characters: other protocols cannot say them."""
    try:
        return _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return _decode(surrogates.readable(payload))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenReply("broken", "The provider's answer is not a Chat Completions answer.") from error


def new_tool_id() -> str:
    return f"call_{uuid4().hex[:24]}"


def read_answer(body: bytes) -> Answer:
    """Raises BrokenReply."""
    read = _read(body)
    return Answer(
        choices=tuple(_choice(choice, read) for choice in sorted(read.choices, key=lambda choice: choice.index)),
        usage=usage_of_object(read.usage),
        id=read.id,
        model=read.model,
    )


def _choice(choice: _Choice, body: _Body) -> Choice:
    message = choice.message or _Content()
    parts: list[Written] = [
        *([Thinking(message.thought)] if message.thought else []),
        *([Text(message.text)] if message.text else []),
        *([Refusal(message.refusal)] if message.refusal else []),
        *(
            ToolUse(call.id or new_tool_id(), call.function.name or "", call.function.arguments or "{}", call.signature)
            for call in message.calls
            if call.function
        ),
    ]
    finish = _finish(choice.finish_reason, calls=bool(message.calls))
    cited = citations.of_annotations(message.annotations) or _sources(body, len(message.text))
    return Choice(tuple(parts), finish, logprobs=_present(choice.logprobs), citations=tuple(cited))


def _sources(body: _Body, length: int) -> list[Citation]:
    return citations.of_sources(body.search_results, body.citations, length=length)


def _finish(reason: str | None, *, calls: bool) -> str:
    """Some say `stop` where the answer is a tool call."""
    reason = _FINISH.get(reason or "", reason or "")
    return TOOL_CALLS if calls and reason == STOP else reason


def _present(raw: Raw) -> Raw | None:
    return None if raw == NULL else raw


class _Known(msgspec.Struct, frozen=True):
    """A tool call of a stream: our index of it, and its id."""

    index: int
    id: str


class DeltaReader:
    """Chunks of one stream → deltas. Some providers send a whole tool call in one chunk, or several in one, or no index."""

    def __init__(self) -> None:
        self._started = False
        # By choice and the provider's index, or what stands for it.
        self._calls: dict[tuple[int, int | str], _Known] = {}
        self._counts: Counter[int] = Counter()
        # By choice: characters of its text so far, and whether anything of it was cited.
        self._lengths: Counter[int] = Counter()
        self._cited: set[int] = set()

    def read(self, payload: bytes) -> tuple[Delta, ...]:
        """Raises BrokenReply."""
        body = _read(payload)
        deltas: list[Delta] = []
        if not self._started:
            self._started = True
            deltas.append(Started(body.id, body.model))
        for choice in body.choices:
            deltas += self._of_choice(choice, body)
        return tuple(deltas)

    def _of_choice(self, choice: _Choice, body: _Body) -> Iterator[Delta]:
        content, index = choice.delta or _Content(), choice.index
        if thought := content.thought:
            yield ThinkingDelta(thought, index)
        logprobs = _present(choice.logprobs)
        if text := content.text:
            self._lengths[index] += len(text)
            yield TextDelta(text, index, logprobs)
        elif logprobs:
            yield LogprobsDelta(logprobs, index)
        if content.refusal:
            yield RefusalDelta(content.refusal, index)
        if content.annotations or (choice.finish_reason and index not in self._cited):
            yield from self._citations(content, body, index)
        for at, call in enumerate(content.calls):
            yield from self._of_call(call, at, choice=index)
        if choice.finish_reason:
            yield Finished(_finish(choice.finish_reason, calls=self._counts[index] > 0), choice=index)

    def _citations(self, content: _Content, body: _Body, choice: int) -> Iterator[Delta]:
        found = citations.of_annotations(content.annotations) or _sources(body, self._lengths[choice])
        self._cited |= {choice} if found else set()
        yield from (CitationDelta(citation, choice) for citation in found)

    def _of_call(self, call: _ToolCall, at: int, *, choice: int) -> Iterator[Delta]:
        function = call.function or _Function()
        key = (choice, call.index if call.index is not None else call.id or at)
        known = self._calls.get(key)
        # A call with an id of its own is another one, whatever its index: Gemini's compatible endpoint repeats 0.
        if known is None or (call.id and function.name and call.id != known.id):
            known = self._calls[key] = _Known(self._counts[choice], call.id or new_tool_id())
            self._counts[choice] += 1
            yield ToolStarted(known.index, known.id, function.name or "", call.signature, choice)
        if function.arguments:
            yield ToolDelta(known.index, function.arguments, choice)


# --- written -----------------------------------------------------------------------------------
def answer_id(call_id: str) -> str:
    return f"chatcmpl-{call_id.replace('-', '')}"


def render_answer(answer: Answer, *, request: Request, call_id: str) -> bytes:
    body: dict[str, Any] = {
        "id": answer_id(call_id),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": answer.model or request.model,
        "choices": [_written(choice, at, request, call_id) for at, choice in enumerate(answer.choices)],
    }
    if answer.usage is not None:
        body["usage"] = usage_members(answer.usage)
    return _encode(body)


def _written(choice: Choice, index: int, request: Request, call_id: str) -> dict[str, Any]:
    texts = [part.text for part in choice.parts if isinstance(part, Text)]
    refusals = [part.text for part in choice.parts if isinstance(part, Refusal)]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts) if texts else None,
        "refusal": "".join(refusals) if refusals else None,
    }
    if cited := citations.chat_annotations(choice.citations):
        message["annotations"] = cited
    message |= _thought([part for part in choice.parts if isinstance(part, Thinking)])
    message |= _made(choice, request, call_id)
    calls = [tool_call(part) for part in choice.parts if isinstance(part, ToolUse)]
    if calls:
        message["tool_calls"] = calls
    return {"index": index, "message": message, "logprobs": choice.logprobs, "finish_reason": choice.finish_reason or STOP}


def _made(choice: Choice, request: Request, call_id: str) -> dict[str, Any]:
    pictures = [part for part in choice.parts if isinstance(part, Image)]
    sounds = [part for part in choice.parts if isinstance(part, Audio)]
    members: dict[str, Any] = {}
    if pictures:
        members["images"] = [made_media.image_part(picture, at) for at, picture in enumerate(pictures)]
    if sounds:
        members["audio"] = _sound(made_media.joined(sounds, format=made_media.wanted(request)), answer_id(call_id))
    return members


def _sound(data: str, answer: str) -> dict[str, Any]:
    """Nothing of it is kept: its id means nothing in a later turn."""
    return {"id": answer.replace("chatcmpl-", "audio_"), "data": data, "transcript": "", "expires_at": int(time.time())}


def _thought(parts: Iterable[Thinking]) -> dict[str, Any]:
    parts = list(parts)
    text = "".join(part.text for part in parts)
    members: dict[str, Any] = {"reasoning_content": text} if text else {}
    if any(part.signature or part.redacted for part in parts):
        members["thinking_blocks"] = [_block(part) for part in parts]
    return members


def _block(part: Thinking) -> dict[str, Any]:
    if part.redacted is not None:
        return {"type": "redacted_thinking", "data": part.redacted}
    return {"type": "thinking", "thinking": part.text, "signature": part.signature or ""}


def tool_call(part: ToolUse, *, index: int | None = None) -> dict[str, Any]:
    call: dict[str, Any] = {} if index is None else {"index": index}
    call |= {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}
    if part.signature:
        call["extra_content"] = {"google": {"thought_signature": part.signature}}
    return call


class StreamRenderer:
    """Deltas → the chunks of one stream."""

    def __init__(self, request: Request, *, call_id: str) -> None:
        self._wants_usage = request.include_usage
        self._model = request.model
        self._id = answer_id(call_id)
        self._created = int(time.time())
        self._begun: set[int] = set()
        self._finished: dict[int, Finished] = {}
        self._thoughts: dict[int, str] = {}
        self._pictures: Counter[int] = Counter()

    def feed(self, deltas: tuple[Delta, ...]) -> bytes:
        return b"".join(chunk for delta in deltas for chunk in self._chunks(delta))

    def end(self, usage: Usage | None) -> bytes:
        chunks = [self._chunk(ended.choice, {}, finish_reason=ended.finish_reason) for ended in self._finished.values()]
        if self._wants_usage:
            told = None if usage is None else usage_members(usage)
            chunks.append(self._event({"choices": [], "usage": told}))
        return b"".join(chunks) + b"data: [DONE]\n\n"

    def _chunks(self, delta: Delta) -> Iterator[bytes]:
        if isinstance(delta, Started):
            self._model = delta.model or self._model
            return
        if isinstance(delta, Finished):
            self._finished[delta.choice] = delta
            return
        if delta.choice not in self._begun:
            self._begun.add(delta.choice)
            yield self._chunk(delta.choice, {"role": "assistant", "content": ""})
        if isinstance(delta, LogprobsDelta):
            yield self._chunk(delta.choice, {}, logprobs=delta.logprobs)
        elif isinstance(delta, CitationDelta):
            cited = citations.chat_annotations([delta.citation])
            yield self._chunk(delta.choice, {"annotations": cited}) if cited else b""
        elif isinstance(delta, TextDelta):
            yield self._chunk(delta.choice, {"content": delta.text}, logprobs=delta.logprobs)
        else:
            yield self._chunk(delta.choice, self._members(delta))

    def _members(self, delta: Delta) -> dict[str, Any]:
        match delta:
            case RefusalDelta():
                return {"refusal": delta.text}
            case ThinkingDelta():
                self._thoughts[delta.choice] = self._thoughts.get(delta.choice, "") + delta.text
                return {"reasoning_content": delta.text}
            case SignatureDelta():
                text = "" if delta.redacted is not None else self._thoughts.pop(delta.choice, "")
                return {"thinking_blocks": [_block(Thinking(text, delta.signature, delta.redacted))]}
            case ToolStarted():
                started = ToolUse(delta.id, delta.name, "", delta.signature)
                return {"tool_calls": [tool_call(started, index=delta.index)]}
            case ToolDelta():
                return {"tool_calls": [{"index": delta.index, "function": {"arguments": delta.arguments}}]}
            case MediaDelta(Image() as picture):
                self._pictures[delta.choice] += 1
                return {"images": [made_media.image_part(picture, self._pictures[delta.choice] - 1)]}
            case MediaDelta(Audio() as sound):
                return {"audio": _sound(sound.data, self._id)}
        raise TypeError(f"no delta of a choice: {type(delta).__name__}")

    def _chunk(
        self, choice: int, delta: dict[str, Any], *, finish_reason: str | None = None, logprobs: Raw | None = None
    ) -> bytes:
        shown = {"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return self._event({"choices": [shown]})

    def _event(self, members: dict[str, Any]) -> bytes:
        frame = {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": self._model}
        return b"data: " + _encode(frame | members) + b"\n\n"
