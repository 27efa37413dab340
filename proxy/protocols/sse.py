"""Server-sent events, cut into frames by bytes at blank lines; text is decoded only per complete frame.

Joining the frames and the rest gives exactly the bytes that came in. Never `str.splitlines()`: it also
splits at U+2028, which is ordinary text in JSON. Format: https://html.spec.whatwg.org/#event-stream-interpretation
"""

import re

MAX_FRAME_BYTES = 32 * 1024 * 1024
_LINE_END = rb"(?:\r\n|\n|\r(?!\n))"
_BLANK_LINE = re.compile(_LINE_END * 2)
_LINES = re.compile(rb"\r\n|\n|\r")


class FrameTooLarge(ValueError):
    """More than MAX_FRAME_BYTES without a blank line: not an event stream."""


class FrameSplitter:
    """`feed` returns the frames completed by a chunk, each with its blank line; `rest` is what is still open."""

    def __init__(self) -> None:
        self._open = bytearray()
        self._searched = 0

    @property
    def rest(self) -> bytes:
        return bytes(self._open)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Raises FrameTooLarge."""
        if not self._open and chunk.endswith(b"\n\n") and b"\r" not in chunk:
            return [part + b"\n\n" for part in chunk[:-2].split(b"\n\n")]
        self._open += chunk
        frames = []
        start = 0
        while (end := self._next_end(max(start, self._searched))) >= 0:
            frames.append(bytes(self._open[start:end]))
            start = end
        del self._open[:start]
        # A blank line is at most four bytes long, so its beginning lies in the last three.
        self._searched = max(0, len(self._open) - 3)
        if len(self._open) > MAX_FRAME_BYTES:
            raise FrameTooLarge(f"no blank line in {MAX_FRAME_BYTES} bytes")
        return frames

    def _next_end(self, start: int) -> int:
        found = _BLANK_LINE.search(self._open, start)
        # A carriage return at the very end may be half of a CRLF: wait for the next byte.
        if found is None or (found.end() == len(self._open) and self._open.endswith(b"\r")):
            return -1
        return found.end()


def data_of(frame: bytes) -> bytes | None:
    """The `data:` lines of a frame, joined; None where there are none (comments, blank frames)."""
    if frame.startswith(b"data: ") and b"\r" not in frame and frame.find(b"\n", 0, -2) < 0:
        return frame[6:]
    lines = [line[5:].removeprefix(b" ") for line in _LINES.split(frame) if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None
