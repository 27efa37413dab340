"""Recorded traffic: when calls arrived, and how many tokens went in and came out.

A trace is a CSV file, gzip or plain, with the columns `TIMESTAMP,ContextTokens,GeneratedTokens`: the form of the
Azure LLM inference traces, of which two excerpts are shipped (data/ATTRIBUTION.md).
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
# More than any model takes; a larger figure is a broken file, and would become a prompt of that length.
MAX_TOKENS = 4_000_000

_SHIPPED = Path(__file__).with_name("data")
CONVERSATION = _SHIPPED / "azure-2023-conversation.csv.gz"
CODE = _SHIPPED / "azure-2023-code.csv.gz"


class BadTrace(ValueError):
    """The file cannot be read as a trace; the message names file, line and reason."""


class TracedCall(NamedTuple):
    """`seconds` after the first call of the trace."""

    seconds: float
    input_tokens: int
    output_tokens: int


def read(path: Path, *, calls: int | None = None) -> list[TracedCall]:
    """The first `calls` calls, or all, in the order of their arrival. Raises BadTrace."""
    try:
        with _opened(path) as text:
            found = list(islice(_calls(csv.reader(text), path), calls))
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadTrace(f"The trace {path} cannot be read: {reason}.") from error
    if not found:
        raise BadTrace(f"The trace {path} holds no calls.")
    return _from_the_first(found)


def repeated(calls: list[TracedCall], *, count: int) -> Iterator[TracedCall]:
    """`count` calls: the trace begins again after its last one, as many times as it takes."""
    length = calls[-1].seconds
    for index in range(count):
        round_, position = divmod(index, len(calls))
        call = calls[position]
        yield call._replace(seconds=call.seconds + round_ * length)


@cache
def sizes(path: Path) -> tuple[tuple[int, int], ...]:
    """(tokens in, tokens out) of every call of a shipped trace."""
    return tuple((call.input_tokens, call.output_tokens) for call in read(path))


def _opened(path: Path) -> IO[str]:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rt", newline="") if compressed else path.open(newline="")


def _calls(rows: Iterator[list[str]], path: Path) -> Iterator[TracedCall]:
    header = [name.strip() for name in next(rows, [])]
    if missing := [name for name in COLUMNS if name not in header]:
        raise BadTrace(f"The trace {path} has no column {missing[0]}: its first line must name {', '.join(COLUMNS)}.")
    moment, tokens_in, tokens_out = (header.index(name) for name in COLUMNS)
    for line, row in enumerate(rows, start=2):
        if not any(row):
            continue
        try:
            yield TracedCall(_timestamp(row[moment]), _tokens(row[tokens_in]), _tokens(row[tokens_out]))
        except (IndexError, ValueError) as error:
            raise BadTrace(f"The trace {path} has a line it should not have: line {line}: {','.join(row)[:80]!r}.") from error


def _timestamp(text: str) -> float:
    """Unix time. The traces write ten-millionths of a second, one digit more than Python reads."""
    whole, _, fraction = text.strip().partition(".")
    moment = datetime.fromisoformat(whole)
    seconds = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    return seconds + (float(f"0.{fraction}") if fraction else 0.0)


def _tokens(text: str) -> int:
    tokens = int(text)
    if not 0 <= tokens <= MAX_TOKENS:
        raise ValueError(text)
    return tokens


def _from_the_first(calls: list[TracedCall]) -> list[TracedCall]:
    ordered = sorted(calls, key=lambda call: call.seconds)
    return [call._replace(seconds=call.seconds - ordered[0].seconds) for call in ordered]
