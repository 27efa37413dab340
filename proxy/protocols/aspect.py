"""A size in pixels (`1280x720`) as the shape that providers ask for."""

from math import gcd
from typing import NamedTuple

# Sizes that are not quite of the shape that they stand for: DALL·E's, Sora's; 480p, whose longer side is no whole number.
_NEARLY = {
    **dict.fromkeys(("1792x1024", "854x480", "848x480"), "16:9"),
    **dict.fromkeys(("1024x1792", "480x854", "480x848"), "9:16"),
}


class Shape(NamedTuple):
    """`shorter`: pixels of the shorter side."""

    ratio: str
    shorter: int


def of_size(size: object) -> Shape | None:
    """None for what is no size."""
    sides = str(size).split("x")
    if len(sides) != 2 or not all(side.isascii() and side.isdecimal() and 0 < len(side) < 6 and int(side) for side in sides):
        return None
    width, height = map(int, sides)
    common = gcd(width, height)
    return Shape(_NEARLY.get(str(size), f"{width // common}:{height // common}"), min(width, height))
