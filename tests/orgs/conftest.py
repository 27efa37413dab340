from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings
from pytest_django import Settings

from tests.orgs.name_server import NameServer, running_name_server


@pytest.fixture(autouse=True)
def quick_passwords(settings: Settings) -> None:
    """Slow hashing is for thieves; every sign-in of a test would pay for it."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(scope="module")
def short_refusals() -> Iterator[None]:
    """For whoever asks a thousand times whether a door opens; what a refusal says and looks like, test_doors.py asks."""
    engine: dict[str, Any] = settings.TEMPLATES[0]
    with override_settings(TEMPLATES=[engine | {"DIRS": [Path(__file__).parent / "refusals", *engine["DIRS"]]}]):
        yield


@pytest.fixture
def names(settings: Settings) -> Iterator[NameServer]:
    """The only name server there is."""
    with running_name_server() as server:
        settings.DNS_SERVERS = [server.setting]
        yield server
