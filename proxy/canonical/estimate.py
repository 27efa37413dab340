"""How many tokens a piece of JSON may make at most, whoever's vocabulary cuts it. Pure: no framework, no network."""

from collections.abc import Iterable
from zlib import adler32

# Of a document that only the provider has, or behind an address, even the size is unknown.
DISTANT_DOCUMENT_TOKENS = 100_000
# A tool that the provider runs itself puts what it finds into the prompt.
SERVER_TOOL_TOKENS = 25_000
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
    texts inside that are no text to a model, such as an encoded picture. Takes time proportional to the length, however
    many they are: each is looked for behind the one before, and none after one that is not found.
    """
    weight, at, is_missed = 0, 0, False
    kept: list[bytes] = []
    for data in (shown.encode(errors="replace") for shown in without):
        begin = -1 if is_missed else text.find(data[:_HEAD], at)
        if begin >= 0 and text.startswith(data, begin):
            kept.append(text[at:begin])
            at = begin + len(data)
        else:  # written with escapes, or in another order: what it weighs without them
            is_missed = True
            weight -= _weight(data)
    text = b"".join([*kept, text[at:]])
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
