"""A request's text, read once: what is asked (the stem), the options it offers, and the words of both.

At most `WINDOW` characters are looked at, half of them from the beginning and half from the end: what is asked stands there, and
a long document between must not cost time. Lengths are of the whole text. Words are those of the Latin alphabet; of a text in
another one only lengths, numbers and symbols tell anything.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

WINDOW = 2400
# What a form of questions ends with; no part of the last option.
CUE = "Answer:"

_WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*")
_OPTION = re.compile(r"^[ \t]*\(?([A-J])[.):][ \t]+(.*)$", re.MULTILINE)
_SENTENCE = re.compile(r"(?<=[.?!])\s+|\n")


class Reading(NamedTuple):
    """`length`: characters of the whole text. Word lists are in lower case but for `written`, the stem's words as they are."""

    length: int
    seen: str
    stem: str
    sentences: list[str]
    written: list[str]
    words: list[str]
    counts: Counter[str]
    options: list[str]
    option_words: list[list[str]]


def read(text: str) -> Reading:
    seen = _window(text).rstrip().removesuffix(CUE)
    stem, options = _split(seen)
    written = _WORD.findall(stem)
    words = " ".join(written).lower().split()
    return Reading(
        length=len(text),
        seen=seen,
        stem=stem,
        sentences=[part for part in _SENTENCE.split(stem) if part.strip()],
        written=written,
        words=words,
        counts=Counter(words),
        options=options,
        option_words=[_WORD.findall(option.lower()) for option in options],
    )


def _window(text: str) -> str:
    if len(text) <= WINDOW:
        return text
    return text[: WINDOW // 2] + "\n" + text[-WINDOW // 2 :]


def _split(text: str) -> tuple[str, list[str]]:
    """The last list of lettered options, where there is one from A on with at least two entries."""
    run: list[re.Match[str]] = []
    for match in _OPTION.finditer(text):
        if match[1] == "A":
            run = [match]
        elif run and ord(match[1]) - ord("A") == len(run):
            run.append(match)
    if len(run) < 2:
        return text.strip(), []
    ends = [match.start() for match in run[1:]] + [len(text)]
    return text[: run[0].start()].strip(), [text[match.start(2) : end].strip() for match, end in zip(run, ends, strict=True)]
