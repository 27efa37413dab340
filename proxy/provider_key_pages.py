"""What the page of own provider keys shows of each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from proxy.models import ProviderKey
from proxy.provider_keys import Place


class Listed(NamedTuple):
    """`tone` colours what the latest test says."""

    key: ProviderKey
    place: str
    path: str
    tone: str
    tested: str


def listed(keys: Iterable[ProviderKey]) -> list[Listed]:
    return [
        Listed(
            key,
            Place(key.kind, key.provider).title,
            " / ".join(node.name for node in key.group.path()),
            {True: "ok", False: "bad", None: "muted"}[key.test_passed],
            {True: "Works", False: "Failed", None: "Not tested"}[key.test_passed],
        )
        for key in keys
    ]
