"""Fixtures of every test. Servers, gateway processes and the browser live in modules of their own."""

pytest_plugins = ["tests.servers", "tests.world", "tests.gateways", "tests.browsers", "tests.skips", "tests.demos"]
