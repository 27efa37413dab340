"""Does an own provider key work? One tiny question, sent as a call would be: same client, same address, same checks.

Nothing is charged and no ledger row is written. What a provider answers is told in one sentence, scrubbed of the key.
"""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from proxy import own_keys
from proxy.errors import AttemptFailed
from proxy.models import Deployment, Model, ProviderKey
from proxy.protocols import chat_completions
from proxy.protocols import registry as codecs
from proxy.providers import registry, transport
from proxy.providers.base import Target, Timeouts

QUESTION = b'{"model":"test","messages":[{"role":"user","content":"Answer with the word OK."}]}'
OUTPUT_TOKENS = 16
TIMEOUTS = Timeouts(connect=5, first_byte=20, idle=10, total=25)


class Result(NamedTuple):
    passed: bool
    text: str


def ask(key: ProviderKey) -> Result:
    """For the console: on an event loop of its own, which serves no call."""
    stored = own_keys.Stored(*(getattr(key, column) for column in own_keys.Stored._fields))
    opened = own_keys.opened(stored)
    asked = _deployment(key)
    if opened.secret is None:
        return Result(False, "It cannot be opened with this installation's key ring. Enter it again.")
    if asked is None:
        return Result(False, "No chat model that is offered here goes to this provider, so there is nothing to ask.")
    target = own_keys.targeted(_target(asked), opened)
    began = time.monotonic()
    try:
        provider = registry.provider(target.kind).configured(asked.provider.options)
        asyncio.run(_asked(provider, target))
    except AttemptFailed as failure:
        status = f" (HTTP {failure.status})" if failure.status else ""
        return Result(False, f"{failure.message}{status}")
    except registry.BadOptions as error:
        return Result(False, f"The provider is not declared as it must be: {error}")
    except TimeoutError:
        return Result(False, f"No answer within {TIMEOUTS.total:g} seconds.")
    return Result(True, f"{target.model} answered in {time.monotonic() - began:.1f} seconds.")


def _deployment(key: ProviderKey) -> Deployment | None:
    """Of those that calls would use it at the first that chats."""
    serving = Deployment.objects.filter(model__enabled=True, model__kind=Model.Kind.CHAT, provider__enabled=True)
    fitting = serving.filter(provider=key.provider) if key.provider is not None else serving.filter(provider__kind=key.kind)
    return fitting.select_related("provider", "model").order_by("order", "pk").first()


def _target(asked: Deployment) -> Target:
    provider = asked.provider
    return Target(
        provider_id=provider.pk,
        deployment_id=asked.pk,
        provider_name=provider.name,
        kind=provider.kind,
        base_url=provider.base_url or registry.provider(provider.kind).base_url() or "",
        model=asked.upstream_model,
        options=provider.options,
        timeouts=TIMEOUTS,
    )


async def _asked(provider: registry.Provider, target: Target) -> None:
    """Raises AttemptFailed, TimeoutError."""
    try:
        async with asyncio.timeout(TIMEOUTS.total):
            await _ask(provider, target)
    finally:
        await transport.shutdown()


async def _ask(provider: registry.Provider, target: Target) -> None:
    asked = chat_completions.parse(QUESTION)
    name = provider.protocol_for(asked.protocol)
    codec = codecs.PROVIDERS[name]
    if name == asked.protocol:
        through = codecs.PASS_THROUGH[name].pass_through
        body = through(asked, model=target.model, max_tokens=OUTPUT_TOKENS, quirks=provider.quirks)
    else:
        conversation, write = chat_completions.conversation(asked), codecs.CHAT_PROVIDERS[name].write_request
        body = write(conversation, model=target.model, stream=False, max_tokens=OUTPUT_TOKENS, quirks=provider.quirks).body
    upstream = await provider.open(target, path=codec.path(target.model, stream=False), body=body, stream=False)
    try:
        codec.read_reply(await upstream.body())
    finally:
        await upstream.close()
