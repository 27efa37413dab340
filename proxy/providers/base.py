"""What a provider client is given and what it gives back.

A client opens one call at one deployment: `open(target, path=…, body=…, stream=…)` returns an `Upstream`
whose status is 200, or raises `AttemptFailed`. `stream` is None where either kind of answer will do. **Whoever opens,
closes**: `Upstream.close()` must be awaited on every path; it ends the connection if the answer was not read to its end, so
that the provider stops generating.
"""

import re
from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

EVENT_STREAM = "text/event-stream"
# What may stand in an address as it is: names of regions and projects.
PART_OF_ADDRESS = re.compile(r"[a-z0-9][a-z0-9.:-]*")


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds. `first_byte` runs from the start of the attempt to the answer's headers; `idle` between bytes.

    `total` is for the caller to enforce: it spans the whole call.
    """

    connect: float = 5
    first_byte: float = 60
    idle: float = 60
    total: float = 600


class Target(msgspec.Struct, frozen=True):
    """One deployment as a client sees it. `model` is the provider's name for it; `api_key` is in clear."""

    provider_id: int
    deployment_id: int
    provider_name: str
    kind: str
    base_url: str
    model: str
    api_key: str | None = None
    headers: dict[str, str] = {}
    options: dict[str, object] = {}
    timeouts: Timeouts = Timeouts()
    # The base URL was given by a tenant: connections go to public addresses only (gateway_project/lib/outbound.py).
    is_tenants: bool = False
    # The environment variable in which the key was to stand, where nothing stands in it.
    unset_variable: str = ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never appear in a message. Keys may have parts; header values may hold credentials too.
        Short ones are none."""
        parts = (self.api_key or "").split(":")
        return tuple(text for text in (self.api_key, *parts, *self.headers.values()) if text and len(text) >= 8)

    def __repr__(self) -> str:
        return f"Target({self.provider_name}/{self.model})"


class Upstream(Protocol):
    """An open answer with status 200."""

    status: int
    headers: dict[str, str]

    async def body(self) -> bytes:
        """The whole answer. Raises AttemptFailed: timeout, or broken (reset, empty, too large)."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes of a stream as they come. Raises AttemptFailed like `body`."""

    async def close(self) -> None:
        """Idempotent."""
