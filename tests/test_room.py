"""Deep calls keep their frames in one piece of memory (tests/room.py)."""

from __future__ import annotations

import resource

import pytest

from tests.room import with_room

CALLS = 100
DEEP = 400  # some 60 KB of frames


def wide() -> None:
    """At some depth it is the one that no longer fits."""


wide.__code__ = wide.__code__.replace(co_stacksize=60)


def faults() -> int:
    """Pages that some calls had to be given."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(CALLS):
        wide()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def most_faults(depth: int) -> int:
    """Those at the worst depth up to this one. Looked at twice: another thread may be given pages as well."""
    here = min(faults(), faults())
    return max(here, most_faults(depth - 1)) if depth else here


def test_calls_at_no_depth_take_pages_anew() -> None:
    assert with_room(most_faults, DEEP) < CALLS / 2


def test_what_was_asked_for_comes_back() -> None:
    assert with_room(dict, [("a", 1)], b=2) == {"a": 1, "b": 2}


def test_an_error_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        with_room(divmod, 1, 0)
