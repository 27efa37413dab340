"""Files of few long tests come first: the last to begin decides when a run that is spread over processes ends."""

from collections import Counter

import pytest

# Longest first, by what they took alone.
LONG = (
    "tests/torture/test_short.py",
    "tests/gateway_project/test_up.py",
    "tests/torture/test_two_hundred.py",
    "tests/orgs/test_objects.py",
    "tests/orgs/test_api_schema.py",
    "tests/proxy/test_every_page.py",
    "tests/proxy/test_draining.py",
    "tests/proxy/test_unguarded.py",
    "tests/proxy/test_journey.py",
    "tests/proxy/test_idempotency_crash.py",
    "tests/proxy/test_spooling.py",
    "tests/proxy/test_company_life.py",
    "tests/orgs/scim/test_conformance.py",
    "tests/guardrails/test_admission_property.py",
    "tests/proxy/test_crash.py",
    "tests/proxy/test_proving.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The others by their number of tests, as pytest-xdist would have them."""
    counts = Counter(_file(item) for item in items)
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: (places.get(_file(item), len(LONG)), -counts[_file(item)], _file(item)))


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]
