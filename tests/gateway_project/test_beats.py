"""Work that is done again and again wakes its process once, and no two processes at the same moments."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_project.lib import beats

PERIODS = st.sampled_from([0.25, 0.5, 1.0, 2.0])
# Clocks of event loops count from the start of the machine.
MOMENTS = st.floats(0, 10**8)


@given(PERIODS, MOMENTS)
def test_nobody_sleeps_for_less_than_a_quarter_of_a_beat_or_for_more_than_five(seconds: float, now: float) -> None:
    assert seconds / 4 <= beats.until_beat(seconds, now=now) <= seconds * 5 / 4 + 1e-6


@given(MOMENTS, MOMENTS, PERIODS)
def test_whatever_begins_whenever_falls_on_the_same_moments(first: float, second: float, seconds: float) -> None:
    moments = [now + beats.until_beat(seconds, now=now) for now in (first, second)]

    apart = (moments[0] - moments[1]) % seconds
    assert min(apart, seconds - apart) < 1e-6


@given(MOMENTS, PERIODS, st.floats(0, 0.002))
def test_who_is_woken_a_little_early_sleeps_for_a_whole_beat(now: float, seconds: float, early: float) -> None:
    woken = now + beats.until_beat(seconds, now=now) - early

    assert beats.until_beat(seconds, now=woken) > seconds / 2


def test_processes_beat_at_moments_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pids = range(4000, 4008)
    found = []
    for pid in pids:
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        found.append(beats.until_beat(1.0, now=0.0) % 1.0)

    assert all(after - before > 0.05 for before, after in pairwise(sorted(found)))
