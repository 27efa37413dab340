"""Fixtures of every test. Servers, gateway processes and the browser live in modules of their own."""

import os

from hypothesis import HealthCheck, settings

from gateway_project.lib import garbage
from tests.examples import USUAL, some

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
    derandomize="CI" in os.environ,
    database=None,
)
settings.load_profile("gatehouse")
