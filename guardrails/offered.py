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


_readers: list[Callable[[], list[OfferedModel]]] = []


def read_with(reader: Callable[[], list[OfferedModel]]) -> None:
    """`reader` answers by a handful of statements, whatever is offered."""
    _readers[:] = [reader]


def models() -> list[OfferedModel]:
    """By name; none where no catalogue was named."""
    return sorted(_readers[0]()) if _readers else []
