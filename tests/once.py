"""What is made once for all tests of a process, since thousands of them would each make their own."""

from __future__ import annotations

import functools
import gc
import ssl
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from django.core.handlers.base import BaseHandler

    from orgs.models import User

SIGNED_IN = (
    "INSERT INTO django_session (session_key, session_data, expire_date) VALUES (%s, %s, %s);"
    " UPDATE orgs_user SET last_login = %s WHERE id = %s"
)
# What `load_middleware` sets.
CHAIN = ("_view_middleware", "_template_response_middleware", "_exception_middleware", "_middleware_chain")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Garbage is looked for among what tests make. Modules and thousands of collected tests stay until the end: going through
    them again and again took a tenth of the run.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def patches() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patches:
        yield patches


@pytest.fixture(scope="session", autouse=True)
def one_list_of_authorities(patches: pytest.MonkeyPatch) -> None:
    """Every HTTP client reads the authorities it trusts when it is made, 20 ms of CPU, to call loopback without TLS."""
    patches.setattr(ssl, "create_default_context", functools.cache(ssl.create_default_context))


@pytest.fixture(scope="session", autouse=True)
def one_chain_of_middleware(patches: pytest.MonkeyPatch) -> None:
    """Django's test clients share their chain of middleware, as the requests of a server do.

    Each would make its own with its first request.
    Middleware may read settings while it is made, so a chain serves where the same ones are overridden.
    """
    from django.core.handlers.base import BaseHandler
    from django.test.client import AsyncClientHandler, ClientHandler

    load = BaseHandler.load_middleware
    chains: dict[tuple[type, str], dict[str, Any]] = {}

    def load_middleware(handler: BaseHandler, is_async: bool = False) -> None:
        key = (type(handler), overridden())
        if key not in chains:
            load(handler, is_async)
            chains[key] = {name: getattr(handler, name) for name in CHAIN}
        vars(handler).update(chains[key])

    for kind in (ClientHandler, AsyncClientHandler):
        patches.setattr(kind, "load_middleware", load_middleware)


@pytest.fixture(scope="session", autouse=True)
def sessions_are_written_once(patches: pytest.MonkeyPatch) -> None:
    """Django's test client writes a session, reads it, copies it, deletes the first and writes the copy again: fifteen statements
    for each that signs in. One that has no session yet needs one row, of the same session, and the moment noted with it.

    A browser that `begins_with` something has that in its session, too (tests/actors.py).
    """
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.base import VALID_KEY_CHARS
    from django.db import connection
    from django.http import HttpRequest
    from django.test.client import ClientMixin
    from django.utils import timezone
    from django.utils.crypto import get_random_string

    from gateway_project.lib.sessions import SessionStore

    django: Any = vars(ClientMixin)["_login"]

    @functools.wraps(django)
    def sign_in(client: Any, user: User, backend: str | None = None) -> None:
        if settings.SESSION_COOKIE_NAME in client.cookies:
            django(client, user, backend)
            return
        request, now = HttpRequest(), timezone.now()
        request.session = session = SessionStore(get_random_string(32, VALID_KEY_CHARS))
        held: dict[str, Any] = {
            SESSION_KEY: str(user.pk),
            BACKEND_SESSION_KEY: backend or settings.AUTHENTICATION_BACKENDS[0],
            HASH_SESSION_KEY: user.get_session_auth_hash(),
        }
        vars(session)["_session_cache"] = held | getattr(client, "begins_with", {})
        row = session.create_model_instance(vars(session)["_session_cache"])
        with connection.cursor() as cursor:
            cursor.execute(SIGNED_IN, [row.session_key, row.session_data, row.expire_date, now, user.pk])
        user.last_login = now
        client._set_login_cookies(request)

    patches.setattr(ClientMixin, "_login", sign_in)


def overridden() -> str:
    """The settings that differ from the process' own just now, in words."""
    from django.conf import UserSettingsHolder, settings

    holder: Any = vars(settings)["_wrapped"]
    names: set[str] = set()
    while isinstance(holder, UserSettingsHolder):
        names |= {name for name in vars(holder) if name.isupper()}
        holder = holder.default_settings
    return repr({name: getattr(settings, name, None) for name in sorted(names)})
