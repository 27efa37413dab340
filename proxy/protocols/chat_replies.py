"""Reading what a Chat Completions provider answers: one body, or a stream tapped frame by frame.

The bytes themselves pass through untouched; this module only says what they mean: usage, finish
reasons, whether there was output, and from which frame on a stream has told the caller everything.
Every vendor deviates somewhere, so a member of an unexpected type costs its own meaning, never the call.
"""

import time
from collections.abc import Callable
from typing import Any

import msgspec

from proxy.canonical.answer import Delta
from proxy.canonical.usage import Usage
from proxy.errors import AttemptFailed
from proxy.protocols import surrogates
from proxy.protocols.base import BrokenReply, Frame, Reply
from proxy.protocols.counts import count, first_count
from proxy.protocols.failures import read_failure
from proxy.protocols.sse import FrameSplitter, FrameTooLarge, data_of


class _InputDetails(msgspec.Struct):
    cached_tokens: Any = None
    cache_write_tokens: Any = None
    audio_tokens: Any = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: Any = None
    audio_tokens: Any = None


class _ServerTools(msgspec.Struct):
    web_search_requests: Any = None


class _Usage(msgspec.Struct):
    prompt_tokens: Any = None
    completion_tokens: Any = None
    total_tokens: Any = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    prompt_cache_hit_tokens: Any = None
    cached_tokens: Any = None
    server_tool_use: _ServerTools | None = None


# Sound of a stream is 16 bits at 24 kHz in base64, and twenty tokens a second.
# https://platform.openai.com/docs/guides/audio
SOUND_PER_TOKEN = 3_200

_NESTED = ("prompt_tokens_details", "completion_tokens_details", "server_tool_use")


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class _Content(msgspec.Struct):
    """The message of a whole answer, or the delta of a streamed one."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    audio: dict[str, Any] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Content | None = None
    message: _Content | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    """A whole answer or one chunk of a stream: they differ only in `message` and `delta`."""

    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Answer).decode


def read_reply(body: bytes) -> Reply:
    """Raises BrokenReply for what is no answer, and AttemptFailed for an error object (sent with status 200)."""
    try:
        answer = _read(body)
    except ValueError as error:
        raise BrokenReply("broken", "The provider's answer is not JSON.") from error
    if answer.error:
        raise read_failure(body, status=None)
    if answer.choices is None:
        raise BrokenReply("broken", "The provider's answer has no `choices`.")
    texts = [text for choice in answer.choices for text in _texts(choice.message)]
    return Reply(
        usage=usage_of(answer.usage),
        finish_reasons=tuple(choice.finish_reason for choice in answer.choices if choice.finish_reason),
        text_length=sum(map(len, texts)),
        upstream_id=answer.id,
        model=answer.model,
        has_output=any(texts) or any(choice.message and choice.message.audio for choice in answer.choices),
    )


class StreamReader:
    """Taps one stream: `feed` chunks cut anywhere, then `flush`. The raw bytes of all frames are the bytes fed.

    `n` choices were asked for; `wants_usage` says whether the caller asked for the usage frame. `deltas` reads what a
    frame's payload says, for a caller of another protocol.
    """

    def __init__(
        self, *, n: int = 1, wants_usage: bool = False, deltas: Callable[[bytes], tuple[Delta, ...]] | None = None
    ) -> None:
        self.usage: Usage | None = None
        self.upstream_id: str | None = None
        self.model: str | None = None
        self.error: AttemptFailed | None = None
        self.done = False
        self.has_output = False
        self._finish: dict[int, str] = {}
        self._texts: list[str] = []
        # Characters of all texts so far.
        self.text_length = 0
        self._sound = 0
        self._n = n
        self._wants_usage = wants_usage
        self._deltas = deltas
        self._terminal = False
        self._splitter = FrameSplitter()

    @property
    def beside_text(self) -> Usage:
        return Usage(audio_output=-(-self._sound // SOUND_PER_TOKEN))

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        return tuple(reason for _, reason in sorted(self._finish.items()))

    @property
    def all_finished(self) -> bool:
        return len(self._finish) >= self._n

    @property
    def text(self) -> str:
        """All that was generated so far, reasoning and tool arguments included: what a caller who hung up received."""
        return "".join(self._texts)

    def feed(self, chunk: bytes) -> list[Frame]:
        """Never raises: what is no event stream ends in a frame with an `error`."""
        try:
            return [self._frame(raw) for raw in self._splitter.feed(chunk)]
        except FrameTooLarge:
            return [self._broken(b"", "The provider's stream has no end of event.")]

    def flush(self) -> list[Frame]:
        """What an ending stream leaves open: servers exist that omit the last blank line."""
        rest = self._splitter.rest
        self._splitter = FrameSplitter()
        return [self._frame(rest)] if rest else []

    def length_end(self, usage: Usage | None) -> bytes:
        """Each choice that has not ended ends; the usage follows where the caller asked for it."""
        frame = {
            "id": self.upstream_id or "chatcmpl-cut",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": self.model or "",
        }
        open_choices = [index for index in range(self._n) if index not in self._finish]
        ends = [frame | {"choices": [{"index": index, "delta": {}, "finish_reason": "length"} for index in open_choices]}]
        if usage is not None:
            ends.append(frame | {"choices": [], "usage": usage_members(usage)})
        return b"".join(b"data: " + msgspec.json.encode(end) + b"\n\n" for end in ends) + b"data: [DONE]\n\n"

    def _frame(self, raw: bytes) -> Frame:
        payload = data_of(raw)
        if payload is None:
            return Frame(raw, self._terminal)
        if payload.startswith(b"[DONE]"):
            self.done = self._terminal = True
            return Frame(raw, True)
        try:
            answer = _read(payload)
        except ValueError:
            return self._broken(raw, "The provider's stream holds an event that is not JSON.")
        if answer.error:
            self.error = read_failure(payload, status=None)
            return Frame(raw, self._terminal, error=self.error)
        terminal, drop = self._tap(answer)
        if self._deltas is None:
            return Frame(raw, terminal, drop)
        try:
            return Frame(raw, terminal, drop, deltas=self._deltas(payload))
        except BrokenReply as error:
            self.error = error
            return Frame(raw, terminal, error=error)

    def _broken(self, raw: bytes, sentence: str) -> Frame:
        self.error = AttemptFailed("broken", sentence)
        return Frame(raw, self._terminal, error=self.error)

    def _tap(self, answer: _Answer) -> tuple[bool, bool]:
        """Whether the frame is terminal, and whether to drop it."""
        self.upstream_id = self.upstream_id or answer.id
        self.model = self.model or answer.model
        carries = False
        for choice in answer.choices or ():
            carries |= self._tap_choice(choice)
        if answer.usage is None:
            self._terminal = self._terminal or self.all_finished
            return self._terminal, False
        usage = usage_of(answer.usage)
        self.usage = usage or self.usage
        # Some send the usage with an empty delta in `choices`, or a running usage with every chunk.
        usage_only = usage is not None and not carries and (not answer.choices or self.all_finished)
        self._terminal |= usage_only or self.all_finished
        return self._terminal, usage_only and not self._wants_usage

    def _tap_choice(self, choice: _Choice) -> bool:
        texts = _texts(choice.delta)
        self._texts += texts
        self.text_length += sum(map(len, texts))
        output = bool(texts) or (choice.delta is not None and bool(choice.delta.audio))
        self._sound += _sound(choice.delta)
        self.has_output |= output
        if choice.finish_reason:
            self._finish[choice.index] = choice.finish_reason
        return output or bool(choice.finish_reason)


def usage_of(given: _Usage | None) -> Usage | None:
    """Disjoint kinds from OpenAI's nested ones; None unless both input and output can be told.

    `prompt_tokens` includes cached and cache-written tokens and those of sound, `completion_tokens` reasoning and what
    was spoken. The total gives away the vendors (xAI) that count reasoning beside the completion. DeepSeek and Moonshot
    name the cached tokens in their own way. OpenRouter tells how often was searched (`server_tool_use`).
    """
    if given is None:
        return None
    prompt, output, total = count(given.prompt_tokens), count(given.completion_tokens), count(given.total_tokens)
    if output is None and prompt is not None and total is not None and total >= prompt:
        output = total - prompt
    if prompt is None or output is None:
        return None
    into, out_of = given.prompt_tokens_details or _InputDetails(), given.completion_tokens_details or _OutputDetails()
    cached = first_count(into.cached_tokens, given.prompt_cache_hit_tokens, given.cached_tokens)
    read = min(cached, prompt)
    written = min(first_count(into.cache_write_tokens), prompt - read)
    reasoning = first_count(out_of.reasoning_tokens)
    if reasoning and total == prompt + output + reasoning:
        output += reasoning
    searches = first_count(given.server_tool_use.web_search_requests) if given.server_tool_use is not None else 0
    heard, spoken = min(first_count(into.audio_tokens), prompt - read - written), min(first_count(out_of.audio_tokens), output)
    return Usage(
        input_uncached=prompt - read - written - heard,
        cache_read=read,
        cache_write_5m=written,
        audio_input=heard,
        output=output - spoken,
        audio_output=spoken,
        reasoning=min(reasoning, output - spoken),
        units={"web_search": searches} if searches else {},
    )


def usage_of_object(raw: msgspec.Raw) -> Usage | None:
    """The same from the raw member."""
    try:
        return usage_of(msgspec.json.decode(raw, type=_Usage | None))
    except msgspec.DecodeError:
        return usage_of(_loose_usage(_any_json(bytes(raw))))


def usage_members(usage: Usage) -> dict[str, object]:
    """As Chat Completions tells it: nested kinds, `prompt_tokens` and `completion_tokens` the sums of theirs."""
    into = {"cache_write_tokens": usage.cache_write_5m + usage.cache_write_1h, "audio_tokens": usage.audio_input}
    out_of = {"audio_tokens": usage.audio_output}
    return {
        "prompt_tokens": usage.input_total,
        "completion_tokens": usage.output_total,
        "total_tokens": usage.total,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read} | _counted(into),
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning} | _counted(out_of),
    }


def _counted(details: dict[str, int]) -> dict[str, int]:
    return {name: tokens for name, tokens in details.items() if tokens}


def _sound(content: _Content | None) -> int:
    """Characters of what was spoken."""
    spoken = content.audio.get("data") if content is not None and content.audio else None
    return len(spoken) if isinstance(spoken, str) else 0


def _texts(content: _Content | None) -> list[str]:
    if content is None:
        return []
    if content.content and content.tool_calls is None and not (content.reasoning_content or content.reasoning or content.audio):
        return [content.content]  # nearly every delta of a stream
    texts = [content.content, content.reasoning_content or content.reasoning, content.refusal]
    calls = [call.function for call in content.tool_calls or ()]
    for function in (*calls, content.function_call):
        texts += (function.name, function.arguments) if function else ()
    if content.audio and isinstance(content.audio.get("transcript"), str):
        texts.append(content.audio["transcript"])
    return [text for text in texts if text]


# --- answers that are not quite to the letter --------------------------------------------------
def _read(payload: bytes) -> _Answer:
    """Raises ValueError for what is no JSON object."""
    try:
        return _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _read_loosely(payload)


def _read_loosely(payload: bytes) -> _Answer:
    """Lone surrogates, members of an unexpected type: keeps what still makes sense, and counts any text as output."""
    try:
        value = msgspec.json.decode(surrogates.readable(payload))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    listed = value.get("choices")
    choices = [_loose_choice(entry) for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else None
    return _Answer(
        id=_string(value.get("id")),
        model=_string(value.get("model")),
        choices=choices,
        usage=_loose_usage(value.get("usage")),
        error=value.get("error"),
    )


def _loose_choice(entry: dict[str, Any]) -> _Choice:
    index = entry.get("index")
    return _Choice(
        index=index if type(index) is int else 0,
        delta=_Content(content="".join(_strings(entry.get("delta")))),
        message=_Content(content="".join(_strings(entry.get("message")))),
        finish_reason=_string(entry.get("finish_reason")),
    )


def _loose_usage(value: object) -> _Usage | None:
    if not isinstance(value, dict):
        return None
    return msgspec.convert({name: part for name, part in value.items() if isinstance(part, dict) == (name in _NESTED)}, _Usage)


def _any_json(raw: bytes) -> object:
    try:
        return msgspec.json.decode(surrogates.readable(raw))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _strings(value: object) -> list[str]:
    """All texts in a message or delta, but for its labels."""
    if isinstance(value, dict):
        return [text for name, part in value.items() if name not in ("role", "type", "id") for text in _strings(part)]
    if isinstance(value, list):
        return [text for part in value for text in _strings(part)]
    return [value] if isinstance(value, str) else []


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None
