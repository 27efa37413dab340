"""The epoch: how a change reaches every worker by its next call.

Workers cache what they compiled for a key under the epoch of its organisation, a unique value, and
the admission script refuses an old one. Rules:

1. Whoever changes a key, member, group, policy, credit or setting calls `changing()` inside the
   transaction. It marks the scope dirty in Redis at once and sets a fresh epoch after the commit.
2. While a scope is dirty, workers do not cache.
3. A mark older than the transaction time limit means that its process died: whoever meets it sets a
   fresh epoch. So a crash between commit and announcement loses nothing.

Redis away: `changing()` raises and the change is not made; a limit that does not bite is worse.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

from django.db import transaction
from redis.exceptions import RedisError

from gateway_project.lib import redis

CATALOGUE = "catalogue"
# Twice the statement timeout that the settings give every console connection.
TRANSACTION_LIMIT_SECONDS = 60
ANNOUNCE_AGAIN_SECONDS = (0.1, 0.4, 1.0)
SCOPES_AT_ONCE = 500

_READ, _MARK, _ANNOUNCE = (redis.Script(Path(__file__).with_name(f"{name}.lua")) for name in ("epoch", "mark", "announce"))
_rehearsing: ContextVar[bool] = ContextVar("rehearsing", default=False)


class Epoch(NamedTuple):
    value: str
    dirty: bool


def keys(scope: int | str) -> tuple[str, str]:
    """The Redis keys of a scope: (epoch, dirty marks). One hash tag per organisation."""
    return f"gh:{{{scope}}}:epoch", f"gh:{{{scope}}}:dirty"


def changing(*organization_ids: int) -> None:
    """Announces a change of these organisations. Call it inside the transaction that makes the change."""
    _mark(list(organization_ids))


def catalogue_changing(organization_ids: list[int]) -> None:
    """Announces a change of models, deployments or prices, which every organisation's cached plans rest on."""
    _mark([CATALOGUE, *organization_ids])


@contextmanager
def rehearsal() -> Iterator[None]:
    """A transaction that is undone at its end: nothing of it happens, so nothing of it is announced."""
    before = _rehearsing.set(True)
    try:
        with transaction.atomic():
            yield
            transaction.set_rollback(True)
    finally:
        _rehearsing.reset(before)


def _mark(scopes: list[int | str]) -> None:
    if _rehearsing.get():
        return
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("announce a change inside the transaction that makes it")
    token = secrets.token_hex(8)
    _tell(_MARK, [keys(scope)[1:] for scope in scopes], token)
    transaction.on_commit(lambda: _announce(scopes, token), robust=True)


def _announce(scopes: list[int | str], token: str) -> None:
    """The change is committed: a moment without Redis must not make it wait for the mark to grow old."""
    for wait in (*ANNOUNCE_AGAIN_SECONDS, None):
        try:
            _tell(_ANNOUNCE, [keys(scope) for scope in scopes], token)
        except RedisError:
            if wait is None:
                raise
            time.sleep(wait)
        else:
            return


def _tell(script: redis.Script, scopes: Sequence[tuple[str, ...]], token: str) -> None:
    """All in one exchange: an installation may have thousands of organisations. In parts, between which calls are admitted."""
    pipeline = redis.client().pipeline(transaction=False)
    for start in range(0, len(scopes), SCOPES_AT_ONCE):
        names = [name for scope in scopes[start : start + SCOPES_AT_ONCE] for name in scope]
        pipeline.eval(script.source, len(names), *names, token)
    pipeline.execute()


async def read(scope: int | str) -> Epoch:
    """The current epoch. Raises RedisUnavailable."""
    value, dirty = await redis.scripts().run(_READ, keys(scope), (secrets.token_hex(8), TRANSACTION_LIMIT_SECONDS))
    return Epoch(value.decode(), dirty == b"1")
