"""Providers as their operator sees them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from django.db.models import Count

from proxy import refused_keys
from proxy.models import Provider
from proxy.routing_pages import ModelRow

# What an empty page of the catalogue file shows.
EXAMPLE = """\
providers:
  - {name: openai-main, kind: openai, api_key: sk-…}
models:
  - name: gpt-5-mini
    context_window: 400000
    max_output_tokens: 128000
    deployments: [{provider: openai-main, model: gpt-5-mini}]
"""


class ProviderRow(NamedTuple):
    """`credential` in words; `has_credential`: whether a call could be made; `refused_since`: the provider does not take it.
    `open_circuits` of its deployments."""

    provider: Provider
    deployments: int
    own_keys: int
    credential: str
    has_credential: bool
    open_circuits: int
    refused_since: datetime | None


def provider_rows(models: Iterable[ModelRow]) -> list[ProviderRow]:
    shown = [one for row in models for one in row.deployments]
    open_at = [one.deployment.provider_id for one in shown if one.tone == "bad"]
    refused = refused_keys.of_providers()
    counted = Provider.objects.annotate(
        deployment_count=Count("deployments", distinct=True), key_count=Count("own_keys", distinct=True)
    )
    return [
        ProviderRow(one, one.deployment_count, one.key_count, *_credential(one), open_at.count(one.pk), refused.get(one.pk))
        for one in counted.order_by("name")
    ]


def _credential(provider: Provider) -> tuple[str, bool]:
    """Where its key comes from, never the key. A variable that is not set is said: every call would be refused."""
    if provider.api_key_encrypted:
        return "encrypted in the database", True
    if provider.api_key_env:
        is_set = bool(os.environ.get(provider.api_key_env))
        return f"{provider.api_key_env}{'' if is_set else ' is not set'}", is_set
    return "none", True
