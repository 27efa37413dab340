"""What every wire protocol is read into: one request, one record of usage. Pure: no framework, no network.

A request keeps its members as raw JSON, so what the gateway does not read goes to the provider
byte for byte. Usage counts each token in exactly one kind; reasoning alone is an "of which".
"""

from collections.abc import Iterable
from zlib import adler32

import msgspec


class Usage(msgspec.Struct, frozen=True):
    """Tokens in disjoint kinds, each with its own price. `reasoning` is part of `output`: never add it.

    `estimated` marks figures the gateway counted itself because the provider reported none.
    """

    input_uncached: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0
    image_input: int = 0
    image_output: int = 0
    estimated: bool = False

    @property
    def input_total(self) -> int:
        cached = self.cache_read + self.cache_write_5m + self.cache_write_1h
        return self.input_uncached + cached + self.audio_input + self.image_input

    @property
    def output_total(self) -> int:
        return self.output + self.audio_output + self.image_output

    @property
    def total(self) -> int:
        return self.input_total + self.output_total


class ChatRequest(msgspec.Struct):
    """One chat call as the caller asked for it.

    `fields` holds the top-level members as raw JSON in the caller's order (of a name given twice, the last
    value: what the gateway checked is what the provider gets). `input_tokens_estimate` is meant as an upper bound.
    """

    protocol: str
    model: str
    stream: bool
    include_usage: bool
    max_tokens: int | None
    n: int
    input_tokens_estimate: int
    fields: dict[str, msgspec.Raw]
    messages: int = 0
    image_parts: int = 0
    audio_parts: int = 0
    user: str | None = None
    metadata: dict[str, object] | None = None


# --- estimate of input tokens ------------------------------------------------------------------
UNIT = 16  # of a token: what the weights below count in
_LETTERS = {b"th": 2, b"enosri": 3, b"adglmupc": 8, b"bfjkqvwxyz": 14}
_ASCII = {b" ": 1, b"\\": 5, b'"': 6, b":{}[]": 11, b",": 15, b"0123456789": 19}
_CAPITAL, _OTHER_ASCII = 17, 17
# By the first byte of a character: Latin-1, further Latin, Greek to Arabic (Armenian apart), the scripts of India and
# South-East Asia, Georgian and Ethiopic, signs, the rest of the first plane, emoji. Bytes that follow weigh nothing.
_LEADS = ((0xC0, 46), (0xC4, 38), (0xCE, 22), (0xD2, 38), (0xD6, 22), (0xE0, 39), (0xE1, 46), (0xE2, 30), (0xE3, 22), (0xF0, 62))


def _weights() -> bytes:
    weights = bytearray([_OTHER_ASCII] * 128 + [0] * 128)
    weights[ord("A") : ord("Z") + 1] = bytes([_CAPITAL] * 26)
    for characters, weight in (_LETTERS | _ASCII).items():
        for character in characters:
            weights[character] = weight
    for first, weight in _LEADS:
        weights[first:] = bytes([weight] * (256 - first))
    return bytes(weights)


WEIGHTS = _weights()
# Adler-32 adds bytes up (its lower half, modulo 65,521) faster than anything else in the standard library.
_STRETCH = 65_520 // max(WEIGHTS)
_HEAD = 256  # bytes to search for: a whole picture would be slow to look for


def text_tokens(text: bytes, *, without: Iterable[str] = ()) -> int:
    """More tokens than a piece of JSON makes in nearly every vocabulary, and never negative.

    Each byte has a weight, fitted to text of twenty kinds in 90 languages under seven vocabularies (`make bench`
    measures the error): what is cut finely (digits, capitals, rare letters, signs, dense scripts) weighs more. `without` are
    texts inside that are no text to a model, such as an encoded picture. Takes time proportional to the length.
    """
    weight = 0
    for data in (shown.encode(errors="replace") for shown in without):
        begin = text.find(data[:_HEAD])
        if begin >= 0 and text[begin : begin + len(data)] == data:
            text = text[:begin] + text[begin + len(data) :]
        else:  # written with escapes: what it weighs without them
            weight -= _weight(data)
    if text.isascii() and b"\\u" in text:
        text = _unescaped(text)
    weight += _weight(text)
    return max(0, -(-weight // UNIT))


def _weight(text: bytes) -> int:
    weights = text.translate(WEIGHTS)
    return sum(adler32(weights[begin : begin + _STRETCH], 0) & 0xFFFF for begin in range(0, len(weights), _STRETCH))


def _unescaped(text: bytes) -> bytes:
    """Clients that write plain ASCII send six bytes for a letter of two; a model is given the letter."""
    characters = text.decode("raw_unicode_escape", "replace").encode("utf-16", "surrogatepass")
    return characters.decode("utf-16", "replace").encode()
