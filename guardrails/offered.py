"""What is offered: models, who serves them, their prices. The catalogue stands above this app and says so at start-up."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class OfferedModel(NamedTuple):
    """Prices: nano-dollars per million tokens of its dearest deployment; None where one of them has no price."""

    name: str
    providers: tuple[str, ...] = ()
    max_output_tokens: int | None = None
    input_price: int | None = None
    output_price: int | None = None


Reader = Callable[[], list[OfferedModel]]

_readers: list[tuple[Reader, Reader]] = []


def read_with(reader: Reader, *, by_name: Reader) -> None:
    """`reader` answers by a handful of statements, whatever is offered; `by_name` by one, and knows nothing but names."""
    _readers[:] = [(reader, by_name)]


def models() -> list[OfferedModel]:
    """By name; none where no catalogue was named."""
    return sorted(_readers[0][0]()) if _readers else []


def named() -> list[OfferedModel]:
    """The same, their names alone."""
    return sorted(_readers[0][1]()) if _readers else []
