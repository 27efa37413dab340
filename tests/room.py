"""Room for Python's own frames.

CPython 3.11 keeps them in chunks of 16 KB and gives a chunk back to the kernel when its first frame ends: a function that is
called again and again just where a chunk is full takes 4 microseconds a call instead of 50 nanoseconds (python/cpython#142183).
Tests, which lie some fifty frames deep when they begin, often stand there; pages and calls of a web process were found not to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# Values that a frame says it may need at once. A chunk is as large as a power of two: 500 KB of this one are left, untouched.
SLOTS = 1 << 16


def with_room(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """What `call` returns, or raises. Whatever it calls in its thread keeps its frames in one chunk, thousands of calls deep."""
    return call(*args, **kwargs)


with_room.__code__ = with_room.__code__.replace(co_stacksize=SLOTS)
