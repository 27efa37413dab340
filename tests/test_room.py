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


def most_faults(depth: int) -> int:
    """At some depth up to this one, the most pages that calls of one function had to be given."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(CALLS):
        wide()
    here = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return max(here, most_faults(depth - 1)) if depth else here


def test_calls_at_no_depth_take_pages_anew() -> None:
    assert with_room(most_faults, DEEP) < CALLS


def test_what_was_asked_for_comes_back() -> None:
    assert with_room(dict, [("a", 1)], b=2) == {"a": 1, "b": 2}


def test_an_error_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        with_room(divmod, 1, 0)
