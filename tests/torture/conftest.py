"""The stand-in provider and its models, for tests against the run's own servers. Names differ from those of tests/proxy."""

from collections.abc import Iterator

import pytest
from pytest_django.plugin import DjangoDbBlocker

from tests.torture.provider import Provider, ProviderThread


@pytest.fixture(scope="session")
def stand_in() -> Iterator[Provider]:
    thread = ProviderThread()
    yield thread.start()
    thread.stop()


@pytest.fixture(scope="session")
def models(django_db_setup: None, django_db_blocker: DjangoDbBlocker, stand_in: Provider) -> None:
    from tests.torture.company import declare_models

    with django_db_blocker.unblock():
        declare_models(stand_in.url)
