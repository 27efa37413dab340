"""Numbers in the files that people write: decimal digits, read as what they say, exactly.

YAML 1.1 reads 010 as 8, 1:30 as 90 and 0x10 as 16, and YAML 1.2 reads the first two otherwise. No file of ours leaves it to them:
010 is ten, 1_000 a thousand, and what is not written in decimal digits is no number.
"""

import re
from decimal import Decimal

# More is no number of anything here, and Python's own bound on it raises another error.
MOST_CHARACTERS = 40
_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_WHOLE = re.compile(rf"[+-]?{_DIGITS}")
_DECIMAL = re.compile(rf"[+-]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?[0-9]{{1,3}})?")


class NoNumber(ValueError):
    """The text is no number in decimal digits."""


def whole(text: str) -> int:
    """Raises NoNumber."""
    return int(_matched(_WHOLE, text))


def exact(text: str) -> Decimal:
    """With its decimals, if it has any, and a power of ten. Raises NoNumber."""
    return Decimal(_matched(_DECIMAL, text))


def _matched(form: re.Pattern[str], text: str) -> str:
    if len(text) > MOST_CHARACTERS or not form.fullmatch(text):
        raise NoNumber(text)
    return text
