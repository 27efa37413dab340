"""Streams under way, and who may still have theirs: a key that is revoked ends its open streams within a second.

Every change of an organisation gives it a fresh epoch. So this worker reads, four times a second, the epochs of the
organisations it is streaming for, and looks up again the keys of those streams that were admitted under another one.
All at once: hundreds of keys one after another would take longer than that second.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import structlog

from gateway_project.lib import lifespan
from gateway_project.lib.database import DatabaseUnavailable
from gateway_project.lib.loops import PerLoop
from gateway_project.lib.redis import RedisUnavailable
from gateway_project.lib.tended import Tended
from orgs import access, epoch
from orgs.access import KeyReference, KeyRefused
from proxy.call import Call
from proxy.errors import CODES
from proxy.open_calls import OpenCall

LOOK_SECONDS = 0.25

log = structlog.get_logger(__name__)


class OpenStream(OpenCall):
    """`epoch`: under which the call's key was last found to be in order."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.epoch = call.caller.epoch


class OpenStreams:
    """Those of one event loop."""

    def __init__(self) -> None:
        self._by_organization: defaultdict[int, dict[UUID, OpenStream]] = defaultdict(dict)
        self._any = asyncio.Event()
        lifespan.on_shutdown(Tended(self._watch, name="open streams").stop)

    def add(self, stream: OpenStream) -> None:
        self._by_organization[stream.call.principal.organization_id][stream.call.id] = stream
        self._any.set()

    def remove(self, stream: OpenStream) -> None:
        organization_id = stream.call.principal.organization_id
        streams = self._by_organization[organization_id]
        streams.pop(stream.call.id, None)
        if not streams:
            del self._by_organization[organization_id]
        if not self._by_organization:
            self._any.clear()

    async def _watch(self) -> None:
        while True:
            await self._any.wait()
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.gather(*(self._look(organization_id) for organization_id in list(self._by_organization)))

    async def _look(self, organization_id: int) -> None:
        with _left_to_the_next_look(organization_id):
            now = (await epoch.read(organization_id)).value
            by_key = self._admitted_under_another(organization_id, now)
            await asyncio.gather(*(_judge(key, streams, now) for key, streams in by_key.items()))

    def _admitted_under_another(self, organization_id: int, now: str) -> dict[KeyReference, list[OpenStream]]:
        by_key: defaultdict[KeyReference, list[OpenStream]] = defaultdict(list)
        for stream in self._by_organization.get(organization_id, {}).values():
            if stream.epoch != now:
                by_key[stream.call.caller.key].append(stream)
        return by_key


async def _judge(key: KeyReference, streams: list[OpenStream], now: str) -> None:
    """The streams of one key: cut, or in order under this epoch."""
    with _left_to_the_next_look(streams[0].call.principal.organization_id):
        try:
            await access.principal_of(key)
        except KeyRefused as refusal:
            for stream in streams:
                stream.cut(CODES[refusal.code](f"{refusal} The answer was cut."))
        else:
            for stream in streams:
                stream.epoch = now


@contextmanager
def _left_to_the_next_look(organization_id: int) -> Iterator[None]:
    """One look-up that fails stops no other."""
    try:
        yield
    except (RedisUnavailable, DatabaseUnavailable):
        pass  # the next look is near; what it cannot see has not changed what this worker may do
    except Exception as error:  # whatever it was: the next look may see more
        log.error("streams.look_failed", organization=organization_id, error=type(error).__name__)


_open = PerLoop(OpenStreams)


@contextmanager
def watched(call: Call) -> Iterator[OpenStream]:
    """While the block runs, what becomes of the call's key may cut it as well: `call.cut` says why."""
    stream, streams = OpenStream(call), _open()
    streams.add(stream)
    try:
        with stream:
            yield stream
    finally:
        streams.remove(stream)
