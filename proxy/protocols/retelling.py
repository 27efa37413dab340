"""What an answer must say of its call whatever the provider said: the gateway keeps a response, its provider does not.

Only Responses have such members (`store`, `previous_response_id`), and only calls that use them are touched.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from proxy.canonical.usage import Usage
from proxy.protocols.base import Frame, Reader
from proxy.protocols.sse import FrameSplitter, data_of

_read = msgspec.json.Decoder(dict[str, Raw]).decode
_write = msgspec.json.Encoder().encode


def retold(body: bytes, told: Mapping[str, Raw]) -> bytes:
    """A whole response with these members in place of its own; what is no JSON object stays as it is."""
    try:
        return _write({**_read(body), **told})
    except msgspec.DecodeError:
        return body


class RetellingReader:
    """A reader whose events that hold the response say these members (`protocols.base.Reader`)."""

    def __init__(self, reader: Reader, told: Mapping[str, Raw]) -> None:
        self._reader = reader
        self._told = told

    @property
    def done(self) -> bool:
        return self._reader.done

    @property
    def has_output(self) -> bool:
        return self._reader.has_output

    @property
    def text_length(self) -> int:
        return self._reader.text_length

    @property
    def usage(self) -> Usage | None:
        return self._reader.usage

    @property
    def beside_text(self) -> Usage:
        return self._reader.beside_text

    @property
    def upstream_id(self) -> str | None:
        return self._reader.upstream_id

    @property
    def model(self) -> str | None:
        return self._reader.model

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        return self._reader.finish_reasons

    @property
    def all_finished(self) -> bool:
        return self._reader.all_finished

    def feed(self, chunk: bytes) -> list[Frame]:
        return [self._retold(frame) for frame in self._reader.feed(chunk)]

    def flush(self) -> list[Frame]:
        return [self._retold(frame) for frame in self._reader.flush()]

    def length_end(self, usage: Usage | None) -> bytes:
        frames = FrameSplitter().feed(self._reader.length_end(usage))
        return b"".join(self._event(frame) for frame in frames)

    def _retold(self, frame: Frame) -> Frame:
        return msgspec.structs.replace(frame, raw=self._event(frame.raw))

    def _event(self, raw: bytes) -> bytes:
        payload = data_of(raw)
        if payload is None or b'"response"' not in payload:
            return raw
        try:
            members = _read(payload)
            response = _read(members["response"])
        except (msgspec.DecodeError, KeyError):
            return raw
        name = msgspec.json.decode(members.get("type", Raw(b'""')))
        return b"event: %b\ndata: %b\n\n" % (str(name).encode(), _write({**members, "response": {**response, **self._told}}))
