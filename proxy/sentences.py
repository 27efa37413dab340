"""Amounts in the sentence of a refusal: few digits, and never so few that the sentence contradicts itself; pure."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, ROUND_UP, Decimal
from itertools import count
from typing import NamedTuple

from gateway_project.lib.money import NANO

DIGITS = 9


class Figures(NamedTuple):
    """Nano-dollars; or dollars, as people read them."""

    limit: int
    spent: int
    held: int
    needed: int


class Told(NamedTuple):
    limit: str
    spent: str
    held: str
    needed: str


def short(exact: Figures) -> Told:
    """Four decimals below a dollar and two above, and as many more as it takes for the figures to say what the exact ones say."""
    for more in count():
        rounded = _rounded(exact, more)
        if more == DIGITS or _claims(rounded) == _claims(exact):
            return Told(*map(_dollars, rounded))
    raise AssertionError("with all its digits a figure is the exact one")


def _rounded(exact: Figures, more: int) -> Figures:
    """What a call could cost up to is rounded up."""
    found = (_round(amount, more, up=name == "needed") for name, amount in exact._asdict().items())
    return Figures(*found)


def _round(nano: int, more: int, *, up: bool) -> int:
    # Of what is less than a thousandth of a dollar two digits.
    places = min(DIGITS, (2 if nano >= NANO else max(4, DIGITS + 2 - len(str(nano)) if nano else 0)) + more)
    step = Decimal(1).scaleb(DIGITS - places)
    return int((Decimal(nano) / step).quantize(Decimal(1), ROUND_UP if up else ROUND_HALF_EVEN) * step)


def _claims(figures: Figures) -> tuple[bool, ...]:
    """That the call does not fit, whether the budget is spent already or over, and what is not nothing."""
    used = figures.spent + figures.held
    return (
        used + figures.needed > figures.limit,
        used >= figures.limit,
        used > figures.limit,
        figures.spent >= figures.limit,
        figures.spent > figures.limit,
        *map(bool, figures),
    )


def _dollars(nano: int) -> str:
    """ "$5", "$48.44", "$0.10", "$0.1001"."""
    dollars, rest = divmod(nano, NANO)
    decimals = f"{rest:09d}".rstrip("0")
    return f"${dollars:,}.{decimals:0<2}" if decimals else f"${dollars:,}"
