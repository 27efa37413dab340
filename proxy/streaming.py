"""Relaying a stream: the provider's bytes pass through, the last frames wait for the ledger.

Guarantees, however the stream ends: the upstream is closed, one row is recorded, the hold is settled. The
frames from the finish reason on are held back until the row is durable, so nobody holds a complete
answer that the ledger does not know. A worker that lost its lease stops relaying.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import closing

import msgspec
import structlog

from billing.ledger import Row
from gateway_project.lib.logs import places
from gateway_project.lib.patience import Patience
from guardrails import leases
from proxy import headers, histories, idempotency, kept, measuring, open_streams, recording, settling
from proxy.attempts import Opened
from proxy.call import Call
from proxy.canonical.usage import Usage
from proxy.errors import (
    AttemptFailed,
    GuardrailsUnavailable,
    HoldUsedUp,
    InternalError,
    ProviderTimeout,
    ProxyError,
    as_proxy_error,
)
from proxy.open_streams import OpenStream
from proxy.protocols.base import CallerCodec, Frame, Reader

END_SECONDS = 0.05
# A provider that was told the most tokens and sends more text than so many can be has not listened: what was reserved is
# used up. Prose has four or five characters a token, but tokens of 16 blanks or dashes exist, and of more: a sound
# answer must never be cut, however short it was asked to be, and one that goes on is cut all the same.
MOST_CHARACTERS_PER_TOKEN = 16
SPARE_CHARACTERS = 512
BLANK_LINES = (b"\n\n", b"\r\n\r\n", b"\r\r")

log = structlog.get_logger(__name__)


async def relay(call: Call, opened: Opened, codec: CallerCodec) -> AsyncIterator[bytes]:
    """The bytes for the caller. The first item is empty: it is taken before the headers go out.

    So the body below runs from the start, and its `finally` does whatever becomes of the response object.
    """
    reader = opened.reader
    open_row = True
    first = last = b""
    shown_length = 0
    copy = kept.Copy(wanted=idempotency.keeps(call))
    try:
        yield b""
        held_back: list[bytes] = []
        with open_streams.watched(call) as stream:
            async for frames in _frames(opened, stream, until=asyncio.get_running_loop().time() + call.seconds_left):
                passing, waiting = _sort(frames)
                held_back += waiting
                if passing:
                    first, last = first or passing, passing
                    copy.add(passing)
                    yield passing
                shown_length = reader.text_length
        await opened.upstream.close()
        if isinstance(call.cut, HoldUsedUp):
            row = recording.cut(call, _used(call, reader), text_length=reader.text_length, error=call.cut)
            held_back = [_length_end(call, reader)]
        else:
            row = _completed(call, reader)
        copy.add(b"".join(held_back))
        whole = copy.whole()
        to_keep = {} if whole is None else headers.of_stream(call)
        open_row = False
        await idempotency.close(call, row, to_keep, whole)
        end = b"".join(held_back)
        await histories.keep_streamed(call, end)
        yield end
    except (GeneratorExit, asyncio.CancelledError):
        if open_row:
            open_row = False
            settling.close_later(call, _left(call, reader))
        raise
    except Exception as error:
        shown = call.cut or told(error)
        if isinstance(error, AttemptFailed):
            measuring.broke_off(call, error)
        if isinstance(shown, InternalError):
            log.error("stream.failed", call_id=str(call.id), error=type(error).__name__, where=places(error))
        if open_row:
            open_row = False
            is_used = shown_length and isinstance(error, AttemptFailed) and error.kind == "unmade_call"
            closed = recording.cut if call.cut is not None or is_used else recording.failed
            settling.close_later(call, closed(call, _used(call, reader), text_length=reader.text_length, error=shown))
        # What broke off in the middle of a line would take the error with it: readers skip lines that they do not know.
        apart = b"" if not last or last.endswith(BLANK_LINES) else b"\n\n"
        yield apart + codec.render_stream_error(shown, request_id=str(call.id), first=first, last=last)
    finally:
        await opened.upstream.close()


async def _frames(opened: Opened, stream: OpenStream, *, until: float) -> AsyncIterator[list[Frame]]:
    """`until`: loop time at which the whole call must be over.

    The bound stands around each wait for the provider, never around a `yield`: there it would fire in whoever
    waits for a slow caller. Raises AttemptFailed for an error frame, TimeoutError, LeaseLost when this worker may no
    longer relay, and what cut the call.
    """
    call, reader = stream.call, opened.reader
    most_tokens = call.most_output
    yield opened.first
    with closing(Patience()) as patience:
        while True:
            # Before waiting for more: a provider may send all of it at once, and then nothing.
            if not reader.all_finished and _exceeds(reader, most_tokens):
                call.cut = HoldUsedUp()
                return
            if reader.done:
                await _end(opened)
                break
            if call.cut is not None:
                raise call.cut
            with patience.until(until) as stream.waiting:
                chunk = await anext(opened.chunks, None)
            stream.waiting = None
            if chunk is None:
                break
            if not call.unguarded:
                leases.refuse_if_lost()
            yield _sound(reader.feed(chunk))
    yield _sound(opened.reader.flush())


def _exceeds(reader: Reader, most_tokens: int) -> bool:
    """Whether the provider has written more than it was told to, by its own count if it keeps one, else by the text."""
    usage = reader.usage
    counted = usage is not None and not usage.estimated and usage.output_total > most_tokens
    return counted or reader.text_length > MOST_CHARACTERS_PER_TOKEN * most_tokens + SPARE_CHARACTERS


def _length_end(call: Call, reader: Reader) -> bytes:
    used = _used(call, reader) or recording.estimated_usage(call, reader.text_length)
    return reader.length_end(used if call.asked.include_usage else None)


def _used(call: Call, reader: Reader) -> Usage | None:
    """What the provider counted. What its tools did, and what is spoken, arrives before it is counted."""
    if reader.usage is not None or (told := reader.beside_text) == Usage():
        return reader.usage
    estimated = recording.estimated_usage(call, reader.text_length)
    return msgspec.structs.replace(estimated, units=told.units, beside=told.beside, audio_output=told.audio_output)


async def _end(opened: Opened) -> None:
    """After `[DONE]` the answer is complete, however the provider ends its connection. An orderly end keeps it for reuse."""
    with contextlib.suppress(AttemptFailed, TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            await anext(opened.chunks, None)


def _sound(frames: list[Frame]) -> list[Frame]:
    for frame in frames:
        if frame.error is not None:
            raise frame.error
    return frames


def _sort(frames: list[Frame]) -> tuple[bytes, list[bytes]]:
    """The bytes that may pass at once, and the frames to hold back."""
    passing = b"".join([frame.raw for frame in frames if not frame.terminal and not frame.drop])
    return passing, [frame.raw for frame in frames if frame.terminal and not frame.drop]


def _completed(call: Call, reader: Reader) -> Row:
    """Raises AttemptFailed where the provider ended the stream before the answer."""
    if not reader.finish_reasons and not reader.done:
        raise AttemptFailed("broken", "The provider ended the stream before the answer was complete.")
    return recording.completed(
        call,
        reader.usage,
        text_length=reader.text_length,
        finish_reason=reader.finish_reasons[0] if reader.finish_reasons else "",
        has_output=reader.has_output,
    )


def _left(call: Call, reader: Reader) -> Row:
    """Nobody takes the rest. A caller that took nothing any more when the gateway cut its call did not leave."""
    if call.cut is not None:
        return recording.cut(call, _used(call, reader), text_length=reader.text_length, error=call.cut)
    return recording.hung_up(call, _used(call, reader), text_length=reader.text_length)


def told(error: Exception) -> ProxyError:
    match error:
        case ProxyError():
            return error
        case AttemptFailed():
            return as_proxy_error(error)
        case leases.LeaseLost():
            return GuardrailsUnavailable("This worker lost its connection to the guardrails, so the stream was cut.")
        case TimeoutError():
            return ProviderTimeout("The call took longer than its model allows in total.")
        case _:
            return InternalError()
