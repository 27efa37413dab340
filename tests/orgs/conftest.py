from collections.abc import Iterator

import pytest
from pytest_django import Settings

from tests.orgs.name_server import NameServer, running_name_server


@pytest.fixture(autouse=True)
def quick_passwords(settings: Settings) -> None:
    """Slow hashing is for thieves; every sign-in of a test would pay for it."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def names(settings: Settings) -> Iterator[NameServer]:
    """The only name server there is."""
    with running_name_server() as server:
        settings.DNS_SERVERS = [server.setting]
        yield server
