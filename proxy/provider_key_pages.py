"""What the page of own provider keys shows of each."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from proxy import refused_keys
from proxy.models import ProviderKey
from proxy.provider_keys import Place


class Listed(NamedTuple):
    """`tone` colours what the latest test says, or that calls are refused since a moment."""

    key: ProviderKey
    place: str
    path: str
    tone: str
    tested: str
    refused_since: datetime | None


def listed(keys: Iterable[ProviderKey]) -> list[Listed]:
    refused = refused_keys.of_own_keys()
    return [
        Listed(
            key,
            Place(key.kind, key.provider).title,
            " / ".join(node.name for node in key.group.path()),
            "bad" if key.pk in refused else {True: "ok", False: "bad", None: "muted"}[key.test_passed],
            "Refused" if key.pk in refused else {True: "Works", False: "Failed", None: "Not tested"}[key.test_passed],
            refused.get(key.pk),
        )
        for key in keys
    ]
