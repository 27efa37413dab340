"""Between two protocols: a provider's stream, read by its codec and written by the caller's.

Guarantees: what ends the answer is written only when the provider has ended it, in one terminal frame; a stream that
breaks off is never given an end.
"""

from collections.abc import Callable

from proxy.canonical.answer import LENGTH, Finished
from proxy.canonical.usage import Usage
from proxy.protocols import tool_names
from proxy.protocols.base import Frame, ProviderReader, Renderer


class TranslatingReader:
    """A provider's reader whose frames are the caller's (`protocols.base.Reader`).

    `estimate`: of so many characters, the usage that is told where the provider tells none. It is the caller's to know what
    it is charged for; `usage` stays what the provider said. `names`: the caller's, of tools that the provider knows by others.
    """

    def __init__(
        self,
        reader: ProviderReader,
        renderer: Renderer,
        *,
        estimate: Callable[[int], Usage] | None = None,
        names: tool_names.Names | None = None,
    ) -> None:
        self._names = names or {}
        self._reader = reader
        self._renderer = renderer
        self._estimate = estimate
        self._ended = False

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
        return [self._translated(frame) for frame in self._reader.feed(chunk)]

    def flush(self) -> list[Frame]:
        frames = [self._translated(frame) for frame in self._reader.flush()]
        sound = not any(frame.error for frame in frames)
        if sound and not self._ended and (self.done or self.finish_reasons):
            self._ended = True
            frames.append(Frame(self._renderer.end(self.usage or self._estimated()), terminal=True))
        return frames

    def length_end(self, usage: Usage | None) -> bytes:
        self._ended = True
        return self._renderer.feed((Finished(LENGTH),)) + self._renderer.end(usage)

    def _estimated(self) -> Usage | None:
        return self._estimate(self.text_length) if self._estimate is not None else None

    def _translated(self, frame: Frame) -> Frame:
        deltas = tool_names.deltas_of(frame.deltas, self._names) if self._names else frame.deltas
        written = self._renderer.feed(deltas) if deltas else b""
        return Frame(written, frame.terminal, drop=not written, error=frame.error)
