"""The fixture `world` (tests/actors.py). A module of its own because pytest loads it before Django has its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.actors import World


@pytest.fixture
def world(db: None) -> World:
    """Undone after the test. A test with committed rows (`committed_db`) calls make_world() itself."""
    from tests.actors import make_world

    return make_world()
