"""Fixtures of every test. Servers, gateway processes and the browser live in modules of their own."""

import os

import pytest
from hypothesis import HealthCheck, settings

from gateway_project.lib import garbage
from tests.examples import TIMES, USUAL, some

pytest_plugins = [
    "tests.servers",
    "tests.spread",
    "tests.world",
    "tests.gateways",
    "tests.once",
    "tests.browsers",
    "tests.skips",
    "tests.demos",
    "tests.aimock",
]

# In every test, too, nearly all that is new still lives.
garbage.search_seldom()

# A busy machine is no failure; where every change is judged, all runs judge it by the same examples.
settings.register_profile(
    "gatehouse",
    max_examples=some(USUAL),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ and TIMES == 1,
    database=None,
)
settings.load_profile("gatehouse")


def pytest_configure(config: pytest.Config) -> None:
    if TIMES > 1:
        config.option.timeout = TIMES * float(config.getini("timeout"))
