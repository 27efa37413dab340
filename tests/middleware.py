"""Django's test clients of one process share their chain of middleware, as the requests of a server do.

Each client would make its own with its first request, and WhiteNoise lists every static file while it is made: 40 ms of CPU
for each of thousands of clients. Middleware may read settings while it is made, so a chain serves where the same ones are
overridden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from django.core.handlers.base import BaseHandler

# What `load_middleware` sets.
CHAIN = ("_view_middleware", "_template_response_middleware", "_exception_middleware", "_middleware_chain")


@pytest.fixture(scope="session", autouse=True)
def one_chain_of_middleware() -> None:
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
        kind.load_middleware = load_middleware


def overridden() -> str:
    """The settings that differ from the process' own just now, in words."""
    from django.conf import UserSettingsHolder, settings

    holder, names = settings._wrapped, set()
    while isinstance(holder, UserSettingsHolder):
        names |= {name for name in vars(holder) if name.isupper()}
        holder = holder.default_settings
    return repr({name: getattr(settings, name, None) for name in sorted(names)})
