"""A whole house for tests of the proxy: an organisation with committed rows, credit, and models at the scripted provider.

Nothing is rolled back: other processes must see it. Every test gets an organisation of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from django.db import transaction

from billing import prices
from billing.models import CallAttempt, UsageRecord
from billing.pricing import Rates
from gateway_project.lib import crypto, redis
from gateway_project.lib.money import NANO
from guardrails import counters, generations
from guardrails.models import Binding, Limit, Policy, Rule
from orgs import epoch
from orgs.actor import Actor
from orgs.keys import new_key_text
from orgs.models import ApiKey, Membership, Organization
from orgs.services.changes import changing
from orgs.services.keys import create_api_key
from proxy.models import Deployment, Model, Provider
from tests.actors import World, make_world

if TYPE_CHECKING:
    import anthropic
    import openai

DOLLAR_PER_MILLION = NANO
# Names of models at the scripted provider → price per million tokens, in nano-dollars.
RATES = {
    "scripted": Rates(input=1 * DOLLAR_PER_MILLION, cache_read=DOLLAR_PER_MILLION // 10, output=4 * DOLLAR_PER_MILLION),
    # $0.10 for a thousand tokens of output, nothing for input.
    "output-only": Rates(input=0, output=100 * DOLLAR_PER_MILLION),
    "pair": Rates(input=1 * DOLLAR_PER_MILLION, output=4 * DOLLAR_PER_MILLION),
    "impatient": Rates(input=1 * DOLLAR_PER_MILLION, output=4 * DOLLAR_PER_MILLION),
}
# Of the model `claude-scripted`, whose provider speaks Messages.
CLAUDE_RATES = Rates(
    input=1 * DOLLAR_PER_MILLION,
    cache_read=DOLLAR_PER_MILLION // 10,
    cache_write_5m=DOLLAR_PER_MILLION * 5 // 4,
    cache_write_1h=DOLLAR_PER_MILLION * 2,
    output=4 * DOLLAR_PER_MILLION,
)
MESSAGES: list[Any] = [{"role": "user", "content": "Tell me about the gate."}]


@dataclass
class House:
    world: World
    key: ApiKey
    key_text: str
    clients: list[openai.OpenAI | anthropic.Anthropic] = field(default_factory=list)

    @property
    def organization(self) -> Organization:
        return self.world.acme

    def client(self, url: str, key: str | None = None) -> openai.OpenAI:
        """The official SDK, as it comes, but for its retries."""
        import openai  # a second of CPU each, for processes that need none

        client = openai.OpenAI(base_url=f"{url}/v1", api_key=key or self.key_text, max_retries=0, timeout=30)
        self.clients.append(client)
        return client

    def anthropic_client(self, url: str, key: str | None = None) -> anthropic.Anthropic:
        """The same of Anthropic's."""
        import anthropic

        client = anthropic.Anthropic(base_url=url, api_key=key or self.key_text, max_retries=0, timeout=30)
        self.clients.append(client)
        return client

    def close(self) -> None:
        for client in self.clients:
            client.close()

    def new_key(self, **options: Any) -> tuple[ApiKey, str]:
        with transaction.atomic():
            return create_api_key(
                options.pop("group", self.world.gateway),
                name=options.pop("name", "Another key"),
                member=options.pop("member", self.world.mia),
                by=Actor.load(options.pop("by", self.world.mia), organization=self.organization),
                **options,
            )

    def _unsaved_key(self, **fields: Any) -> tuple[ApiKey, str]:
        text = new_key_text()
        standing = {
            "organization": self.organization,
            "group": self.world.gateway,
            "member": self.world.mia,
            "name": "Another key",
        }
        proof = {"public_id": text.public_id, "digest": crypto.digest(text.text), "last_four": text.last_four}
        return ApiKey(created_by=self.world.mia, **proof, **{**standing, **fields}), text.text

    def new_keys(self, count: int) -> list[tuple[ApiKey, str]]:
        """So many keys of mia's at once, as rows: for tests that need many and do not ask how one comes about."""
        keys = [self._unsaved_key() for _ in range(count)]
        with changing(self.organization):
            ApiKey.objects.bulk_create([key for key, _ in keys])
        return keys

    def limit(self, kind: str, value: int, *, window: str = "month", **subject: Any) -> Limit:
        """Binds a new policy with one limit; without a subject, to the key."""
        with transaction.atomic():
            policy = Policy.objects.create(organization=self.organization, name=f"{kind} {window}")
            limit = Limit.objects.create(policy=policy, kind=kind, window=window, value=value)
            Binding.objects.create(policy=policy, organization=self.organization, **(subject or {"api_key": self.key}))
            epoch.changing(self.organization.pk)
        return limit

    def policy(
        self,
        *limits: tuple[str, str, int],
        rules: dict[str, list[str]] | None = None,
        to: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Policy:
        """Binds a new policy of (kind, window, value) limits, rules and settings; without `to`, to the key."""
        with changing(self.organization):
            policy = Policy.objects.create(organization=self.organization, name="A policy", **settings)
            for kind, window, value in limits:
                Limit.objects.create(policy=policy, kind=kind, window=window, value=value)
            for kind, entries in (rules or {}).items():
                Rule.objects.create(policy=policy, kind=kind, entries=entries)
            Binding.objects.create(policy=policy, organization=self.organization, **(to or {"api_key": self.key}))
        return policy

    def change(self, **settings: Any) -> None:
        """Settings of the organisation."""
        with changing(self.organization):
            Organization.objects.filter(pk=self.organization.pk).update(**settings)

    def deep_key(self) -> tuple[str, dict[str, dict[str, Any]]]:
        """A key with every kind of subject on its path → its text, and what a binding on each looks like."""
        world = self.world
        key, text = self._unsaved_key(group=world.core, application=world.assistant, environment="production", features=["chat"])
        with changing(self.organization):
            Membership.objects.create(user=world.mia, organization=self.organization, group=world.core)
            key.save()
        levels = self.subjects() | {"level 4": {"group": world.core}, "application": {"application": world.assistant}}
        return text, levels | {"key": {"api_key": key}}

    def subjects(self) -> dict[str, dict[str, Any]]:
        """What a binding on each level of the key's path looks like."""
        world = self.world
        return {
            "organization": {"group": world.root},
            "level 1": {"group": world.engineering},
            "level 2": {"group": world.platform},
            "level 3": {"group": world.gateway},
            "member": {"member": world.mia},
            "key": {"api_key": self.key},
        }

    def rows(self) -> list[UsageRecord]:
        return list(UsageRecord.objects.filter(organization=self.organization).order_by("call_id"))

    def row_of(self, call_id: str, *, seconds: float = 5) -> UsageRecord:
        """The row of a call; those nobody waits for come a moment after the answer."""
        row: UsageRecord = eventually(lambda: UsageRecord.objects.filter(call_id=UUID(call_id)).first(), seconds=seconds)
        return row

    def attempts_of(self, call_id: str) -> list[CallAttempt]:
        return list(CallAttempt.objects.filter(call_id=UUID(call_id)).order_by("number"))

    @property
    def token(self) -> str:
        """Under which this organisation's counters lie; as soon as a call has been made."""
        return generations.known_token(self.organization.pk) or "none"

    def counter(self, subject: str) -> dict[str, int]:
        """`spent` and `held` of a subject in Redis, in nano-dollars."""
        found = redis.client().hmget(counters.counter(self.organization.pk, self.token, subject), ["spent", "held"])
        return {"spent": int(found[0] or 0), "held": int(found[1] or 0)}

    def held(self) -> dict[str, int]:
        """Everything held in this organisation, by subject; empty when nothing runs."""
        prefix = counters.counter(self.organization.pk, self.token, "")
        names = [key.decode() for key in redis.client().scan_iter(match=f"{prefix}*", count=1000)]
        found = {name.removeprefix(prefix): int(redis.client().hget(name, "held") or 0) for name in names}
        running = redis.client().hkeys(counters.holds(self.organization.pk, self.token))
        return {subject: held for subject, held in found.items() if held} | {str(call): 1 for call in running}

    def nothing_held(self, *, seconds: float = 5) -> bool:
        return bool(eventually(lambda: not self.held(), seconds=seconds))


def eventually(look: Callable[[], Any], *, seconds: float = 5) -> Any:
    """The first true value that `look` gives; the last one when time is up."""
    until = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < until:
        time.sleep(0.02)
    return found


def build(*, credit_usd: int = 1000) -> House:
    world = make_world(credit_nano_usd=credit_usd * NANO)
    return House(world, world.key, world.key_text)


def declare_models(upstream_url: str) -> None:
    """The models of RATES at the scripted provider, one that nothing listens for, one without a price, and the sandbox's."""
    with transaction.atomic():
        scripted = _provider("scripted", "openai-compatible", base_url=upstream_url)
        second = _provider("second", "openai-compatible", base_url=upstream_url)
        sandbox = _provider("sandbox", "sandbox")
        for name, rates in RATES.items():
            _model(name, scripted, rates=rates)
        Model.objects.filter(name="impatient").update(timeout={"first_byte": 0.3, "idle": 0.3, "total": 5})
        Deployment.objects.get_or_create(
            model=Model.objects.get(name="pair"), provider=second, upstream_model="pair-second", defaults={"order": 2}
        )
        _model("unpriced", scripted, rates=None)
        claude = _provider("claude", "anthropic", base_url=upstream_url, options={"auto_cache": True})
        _model("claude-scripted", claude, rates=CLAUDE_RATES)
        dead = _provider("dead", "openai-compatible", base_url="http://127.0.0.1:9/v1")
        _model("dead", dead, rates=RATES["scripted"])
        for name in ("sandbox-instant", "sandbox-hang", "sandbox-disconnect"):
            _model(name, sandbox, rates=RATES["scripted"])
        epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))


def reprice(name: str, rates: Rates) -> None:
    """Declares a model at the scripted provider with this price, or gives it this price from now on."""
    with transaction.atomic():
        _model(name, Provider.objects.get(name="scripted"), rates=rates)
        epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))


def declare(name: str, *, kind: str, url: str, **options: Any) -> None:
    """A model of this name, at the price of "scripted", at a provider of this kind and address with the key `key-of-…`."""
    sealed = crypto.encrypt(f"key-of-{name}", bound_to=f"proxy_provider|{name}|api_key")
    with transaction.atomic():
        provider = _provider(name, kind, base_url=url, api_key_encrypted=sealed, options=options)
        _model(name, provider, rates=RATES["scripted"])
        epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))


def _provider(name: str, kind: str, **options: Any) -> Provider:
    return Provider.objects.update_or_create(name=name, defaults={"kind": kind, **options})[0]


def _model(name: str, provider: Provider, *, rates: Rates | None) -> None:
    # Without a circuit breaker: what one test lets fail must not be tried last in the next.
    bounds = {"max_output_tokens": 4096, "context_window": 128_000, "circuit_breaker": False}
    model, _ = Model.objects.get_or_create(name=name, defaults=bounds)
    Deployment.objects.get_or_create(model=model, provider=provider, upstream_model=name)
    if rates is not None:
        prices.declare(f"model:{name}", rates=rates, source="test")


def raw(url: str, key: str | None, body: bytes | None, *, path: str = "/v1/chat/completions", **headers: str) -> httpx.Response:
    """A POST, to chat completions unless another path is given, without any SDK's help."""
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    return httpx.post(f"{url}{path}", content=body, headers=headers, timeout=30, trust_env=False)


def leave(url: str, key: str, body: bytes, *, path: str, after: str) -> None:
    """Begins a stream by a POST, and leaves it once a line with `after` has come."""
    headers = {"authorization": f"Bearer {key}"}
    with httpx.stream("POST", f"{url}{path}", content=body, headers=headers, timeout=30, trust_env=False) as got:
        assert any(after in line for line in got.iter_lines())
