"""Traces of recorded calls: read as they are, refused with the reason where they are not traces."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_project.demo import trace
from gateway_project.demo.trace import BadTrace, TracedCall

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
FIRST = "2023-11-16 18:15:46.6805900,374,44\n"
SECOND = "2023-11-16 18:15:50.9951690,396,109\n"


def file(folder: Path, text: str, *, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["trace.csv", "trace.csv.gz", "compressed-but-called.csv.gz"])
def test_calls_are_read_with_the_time_since_the_first(tmp_path: Path, name: str) -> None:
    first, second = trace.read(file(tmp_path, HEADER + FIRST + SECOND, name=name))
    assert first == TracedCall(0.0, 374, 44)
    assert second[1:] == (396, 109)
    assert second.seconds == pytest.approx(4.314579, abs=1e-5)


def test_what_a_file_is_called_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(gzip.compress((HEADER + FIRST).encode()))
    assert trace.read(path) == [TracedCall(0.0, 374, 44)]


def test_windows_line_ends_other_columns_and_disorder_are_understood(tmp_path: Path) -> None:
    text = "GeneratedTokens,note,ContextTokens,TIMESTAMP\r\n2,x,20,2023-11-16 18:15:02\r\n\r\n1,y,10,2023-11-16T18:15:00.5\r\n"
    assert trace.read(file(tmp_path, text)) == [TracedCall(0.0, 10, 1), TracedCall(1.5, 20, 2)]


def test_only_as_many_calls_as_asked_for_are_read(tmp_path: Path) -> None:
    path = file(tmp_path, HEADER + FIRST + SECOND + "broken,further,down\n")
    assert len(trace.read(path, calls=2)) == 2
    with pytest.raises(BadTrace, match="line 4"):
        trace.read(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no column TIMESTAMP"),
        (HEADER, "holds no calls"),
        ("TIMESTAMP,ContextTokens\n" + FIRST, "has no column GeneratedTokens"),
        (HEADER + "2023-11-16 18:15:46,374\n", "line 2"),
        (HEADER + FIRST + "yesterday,1,2\n", "line 3: 'yesterday,1,2'"),
        (HEADER + "2023-11-16 18:15:46,-1,44\n", "line 2"),
        (HEADER + "2023-11-16 18:15:46,1.5,44\n", "line 2"),
        (HEADER + "2023-11-16 18:15:46,99999999999,44\n", "line 2"),
        (HEADER + "2023-11-16 18:15:46.x,1,44\n", "line 2"),
        (HEADER + "\x00\x00,1,2\n", "line"),
    ],
)
def test_what_is_not_a_trace_is_refused_with_the_place(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(BadTrace, match=reason) as caught:
        trace.read(file(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"\x1f\x8bnot gzip at all", gzip.compress(b"cut off" * 99, mtime=0)[:-9], b"\xff\xfe\x00binary"]
)
def test_broken_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(content)
    with pytest.raises(BadTrace, match="cannot be read"):
        trace.read(path)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadTrace, match="No such file"):
        trace.read(tmp_path / "nothing.csv")
    with pytest.raises(BadTrace, match="Is a directory"):
        trace.read(tmp_path)


@given(count=st.integers(1, 40), length=st.integers(1, 9))
def test_a_repeated_trace_goes_on_in_time(count: int, length: int) -> None:
    calls = [TracedCall(float(second), second, 1) for second in range(length)]
    repeated = list(trace.repeated(calls, count=count))
    assert len(repeated) == count
    assert [call.input_tokens for call in repeated] == [index % length for index in range(count)]
    assert [call.seconds for call in repeated] == sorted(call.seconds for call in repeated)


@pytest.mark.parametrize(("path", "calls"), [(trace.CONVERSATION, 2_000), (trace.CODE, 1_000)])
def test_the_shipped_excerpts_are_whole_small_and_attributed(path: Path, calls: int) -> None:
    assert len(trace.read(path)) == len(trace.sizes(path)) == calls
    assert sum(file.stat().st_size for file in path.parent.iterdir()) < 100_000
    attribution = path.with_name("ATTRIBUTION.md").read_text()
    for word in (path.name, "Azure", "Splitwise", "ISCA 2024", "CC-BY 4.0"):
        assert word in attribution
