import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.protocols import sse
from proxy.protocols.sse import FrameSplitter, FrameTooLarge, data_of

LINE_END = st.sampled_from([b"\n", b"\r\n"])
LINE = st.sampled_from([b"data: {}", b"data:{}", b": ping", b"event: x", "data: \u2028 ü".encode(), b"data: a\tb"])
FRAME = st.lists(LINE, min_size=1, max_size=3)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(bounds)]


@given(st.lists(FRAME, max_size=6), LINE_END, st.lists(st.integers(0, 10_000), max_size=12))
def test_frames_are_the_same_wherever_the_bytes_are_cut(frames: list[list[bytes]], end: bytes, places: list[int]) -> None:
    whole = [end.join(lines) + end + end for lines in frames]
    splitter = FrameSplitter()
    found = [frame for chunk in cut(b"".join(whole), places) for frame in splitter.feed(chunk)]
    assert found == whole
    assert splitter.rest == b""


@given(st.binary(max_size=200), st.lists(st.integers(0, 10_000), max_size=12))
def test_no_byte_is_ever_lost_or_added(stream: bytes, places: list[int]) -> None:
    splitter = FrameSplitter()
    found = [frame for chunk in cut(stream, places) for frame in splitter.feed(chunk)]
    assert b"".join(found) + splitter.rest == stream


def test_every_single_cut_of_a_mixed_stream() -> None:
    stream = b'data: {"a":1}\n\ndata: {"b":2}\r\n\r\n: ping\n\ndata: x\ndata: y\n\ndata: [DONE]\n\n'
    expected = [found[0] for found in re.finditer(rb".+?(?:\n\n|\r\n\r\n)", stream, re.DOTALL)]
    for place in range(len(stream) + 1):
        splitter = FrameSplitter()
        assert splitter.feed(stream[:place]) + splitter.feed(stream[place:]) == expected
        assert splitter.rest == b""


def test_a_single_crlf_is_not_a_blank_line() -> None:
    splitter = FrameSplitter()
    assert splitter.feed(b"event: x\r\ndata: 1\r\n") == []
    assert splitter.feed(b"\r\n") == [b"event: x\r\ndata: 1\r\n\r\n"]


def test_bare_carriage_returns_end_lines_too() -> None:
    splitter = FrameSplitter()
    assert splitter.feed(b"data: 1\r\rdata: 2\r\r") == [b"data: 1\r\r"]
    assert splitter.rest == b"data: 2\r\r"


def test_a_frame_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_FRAME_BYTES", 1000)
    splitter = FrameSplitter()
    splitter.feed(b"x" * 1000)
    with pytest.raises(FrameTooLarge):
        splitter.feed(b"x")


@pytest.mark.parametrize(
    ("frame", "data"),
    [
        (b"data: {}\n\n", b"{}\n\n"),
        (b"data:{}\n\n", b"{}"),
        (b"data: {}\r\n\r\n", b"{}"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"event: x\ndata: {}\nid: 1\n\n", b"{}"),
        (b": ping\n\n", None),
        (b"\n\n", None),
        (b"event: x\n\n", None),
        (b"data\n\n", None),
    ],
)
def test_the_data_of_a_frame(frame: bytes, data: bytes | None) -> None:
    assert data_of(frame) == data
