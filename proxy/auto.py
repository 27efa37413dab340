"""What `auto` chooses, by what the request alone tells: pure, and the same for the same request and candidates.

`need` (proxy/complexity) says how much a request needs a strong model: the share of ordinary questions that need one
less. Candidates stand from weakest to strongest; with two of them a request of average need is the border, with more of
them they share the scale. `auto:cheap` and `auto:best` move the borders.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

Leaning = Literal["auto", "auto:cheap", "auto:best"]
LEANINGS: tuple[Leaning, ...] = ("auto", "auto:cheap", "auto:best")
# The need is raised to this power: above 1 leans towards the weak end, below 1 towards the strong one.
_EXPONENTS: dict[str, float] = {"auto": 1.0, "auto:cheap": 3.0, "auto:best": 1 / 3}
# How many candidates stand for all models where an organisation has named none.
FEW = 3
# Why not, of models that the key may not use: its caller is not told their names.
NOT_ALLOWED = "not allowed to this key"


class Candidate(msgspec.Struct, frozen=True):
    """`price`: what a call of ordinary shape costs there, in nano-dollars. `why_not` is empty where it can serve the call."""

    model: str
    price: int
    why_not: str = ""


class Decision(msgspec.Struct, frozen=True):
    """`need` from 0 to 1. `alternatives`: the other candidates, each with why it was not chosen."""

    leaning: str
    model: str
    need: float
    alternatives: tuple[tuple[str, str], ...]


def choose(leaning: Leaning, need: float, candidates: Sequence[Candidate]) -> Decision | None:
    """`candidates` from weakest to strongest. None where none of them can serve the call."""
    able = [candidate for candidate in candidates if not candidate.why_not]
    if not able:
        return None
    at = min(len(able) - 1, int(need ** _EXPONENTS[leaning] * len(able)))
    chosen = able[at]
    others = [(one.model, one.why_not or _why(able.index(one), at)) for one in candidates if one is not chosen]
    return Decision(leaning, chosen.model, round(need, 3), tuple(others))


def _why(at: int, chosen: int) -> str:
    return "weaker than the request needs" if at < chosen else "dearer than the request needs"


def few(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The cheapest, the dearest and one between of all that can serve a call; price stands for strength."""
    ranked = sorted((one for one in candidates if not one.why_not), key=lambda one: (one.price, one.model))
    if len(ranked) <= FEW:
        return ranked
    return [ranked[0], ranked[len(ranked) // 2], ranked[-1]]
