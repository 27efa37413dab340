"""Keys that providers refuse: one mail for each key and episode, a mark on the pages; until a success or a new key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from html import unescape
from typing import Any, cast

import pytest
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.test import Client
from prometheus_client import REGISTRY

from gateway_project.lib import lifespan, redis
from orgs.services.freezing import Operator
from proxy import catalogue, provider_keys, refused_keys, tasks
from proxy.errors import AttemptFailed
from proxy.health import keys
from proxy.health.board import Board
from proxy.models import Deployment, Model, Provider, ProviderKey
from proxy.provider_keys import Place
from tests.actors import World, operator, signed_in
from tests.proxy.calls import deployment

REFUSED = AttemptFailed("auth", "No.", status=401)


@pytest.fixture(autouse=True)
def nobody_is_refused() -> Iterator[None]:
    redis.client().delete(keys.REFUSED, keys.TOLD, keys.WORKED)
    yield
    redis.client().delete(keys.REFUSED, keys.TOLD, keys.WORKED)


@pytest.fixture
def staff(world: World) -> Operator:
    return operator()


@pytest.fixture
def scripted(world: World, empty_catalogue: None) -> Provider:
    return Provider.objects.create(name="scripted", kind="openai-compatible", base_url="http://x/v1")


@pytest.fixture
def served(scripted: Provider) -> list[Deployment]:
    """Two models of one provider."""
    models = [Model.objects.create(name=name) for name in ("m", "n")]
    return [Deployment.objects.create(model=model, provider=scripted, upstream_model=model.name) for model in models]


@pytest.fixture
def key(world: World, scripted: Provider) -> ProviderKey:
    place = Place(scripted.kind, scripted)
    return provider_keys.add(world.engineering, place=place, name="Ours", secret="sk-ours-12345678", by=world.actor("alice"))


def attempts(
    at: Deployment, *outcomes: AttemptFailed | None, own_key: ProviderKey | None = None, began: float = 0.0, **fields: Any
) -> None:
    """What a worker sees and tells the others; None: an answer."""
    reached = deployment(id=at.pk, own_key_id=own_key.pk if own_key else None, **fields)

    async def work() -> None:
        redis.scripts()  # closed last
        board = Board()
        for outcome in outcomes:
            if outcome is None:
                board.succeeded(reached, began=began or time.monotonic())
            else:
                board.failed(reached, outcome, began=time.monotonic())
            await board.exchange()
        await lifespan.stop()

    asyncio.run(work())


def told(email: str) -> list[str]:
    """Subjects of what was sent to somebody since it was last asked; `tell` runs twice, as its schedule may."""
    mail.outbox.clear()
    tasks.tell_of_refused_keys()
    tasks.tell_of_refused_keys()
    return [str(message.subject) for message in mail.outbox if message.to == [email]]


@pytest.mark.parametrize("circuit_breaker", [True, False])
def test_staff_is_told_once_for_each_provider_and_episode(
    staff: Operator, served: list[Deployment], circuit_breaker: bool
) -> None:
    first, second = served
    assert told(staff.user.email) == []

    attempts(first, REFUSED, REFUSED, circuit_breaker=circuit_breaker)
    attempts(second, REFUSED, circuit_breaker=circuit_breaker)
    assert told(staff.user.email) == ["scripted refuses the gateway's key"]
    assert "/platform/providers/" in str(mail.outbox[0].body)

    attempts(first, None)
    assert told(staff.user.email) == []
    attempts(second, None)
    attempts(first, AttemptFailed("status", "No.", status=500))
    assert told(staff.user.email) == []

    attempts(second, REFUSED)
    assert told(staff.user.email) == ["scripted refuses the gateway's key"]


def test_the_operators_page_says_since_when_until_a_success(staff: Operator, served: list[Deployment], world: World) -> None:
    client = Client()
    client.force_login(staff.user)

    def page() -> str:
        return unescape(client.get("/platform/providers/").content.decode())

    assert "Key refused" not in page()
    attempts(served[0], REFUSED)
    assert "Key refused" in page()
    attempts(served[0], None)
    assert "Key refused" not in page()


def test_a_success_of_the_same_key_elsewhere_ends_it_until_it_is_refused_anew(
    staff: Operator, served: list[Deployment], world: World
) -> None:
    first, second = served
    client = Client()
    client.force_login(staff.user)

    def is_shown() -> bool:
        return "Key refused" in client.get("/platform/providers/").content.decode()

    attempts(first, REFUSED)
    assert told(staff.user.email) == ["scripted refuses the gateway's key"]
    attempts(second, None)
    assert not is_shown()
    # A model that a good key may not use is no new episode each time.
    attempts(first, REFUSED)
    assert not is_shown()
    assert told(staff.user.email) == []
    # Where it worked just now it is refused: that is one.
    attempts(second, REFUSED)
    assert is_shown()
    assert told(staff.user.email) == ["scripted refuses the gateway's key"]


def an_hour_passes() -> None:
    """And a second: what is kept says that all of it was so much earlier."""
    for hash_of in (keys.REFUSED, keys.WORKED):
        for name, when in cast("dict[bytes, bytes]", redis.client().hgetall(hash_of)).items():
            redis.client().hset(hash_of, name.decode(), str(int(when) - 3_601_000))


def test_a_key_that_has_served_nothing_for_an_hour_may_have_died(staff: Operator, served: list[Deployment], world: World) -> None:
    first, second = served
    attempts(first, REFUSED)
    attempts(second, None)
    assert told(staff.user.email) == []
    an_hour_passes()
    assert refused_keys.of_providers() == {}  # nobody has asked meanwhile
    attempts(first, REFUSED)
    assert told(staff.user.email) == ["scripted refuses the gateway's key"]
    attempts(first, REFUSED)
    assert told(staff.user.email) == []


def test_what_served_is_forgotten_once_nothing_is_refused(served: list[Deployment], world: World) -> None:
    first, second = served
    attempts(first, REFUSED)
    attempts(second, None)
    assert redis.client().hlen(keys.WORKED) == 1
    attempts(first, None, None)
    assert redis.client().exists(keys.REFUSED, keys.WORKED) == 0


def test_a_success_that_began_before_the_refusal_says_nothing(served: list[Deployment], world: World) -> None:
    first, second = served
    earlier = time.monotonic() - 1
    attempts(first, REFUSED)
    attempts(second, None, began=earlier)
    assert list(refused_keys.of_providers()) == [first.provider_id]
    attempts(second, None)
    assert refused_keys.of_providers() == {}


def test_another_key_of_the_same_provider_proves_nothing(served: list[Deployment], world: World, key: ProviderKey) -> None:
    first, second = served
    attempts(first, REFUSED, own_key=key)
    attempts(second, None)
    assert list(refused_keys.of_own_keys()) == [key.pk]
    attempts(second, None, own_key=key)
    assert refused_keys.of_own_keys() == {}


def test_a_new_key_of_the_operators_ends_it(
    staff: Operator, served: list[Deployment], django_capture_on_commit_callbacks: Any
) -> None:
    declared = "providers: [{name: scripted, kind: openai-compatible, base_url: 'http://x/v1', api_key: %s}]"
    attempts(served[0], REFUSED)
    with django_capture_on_commit_callbacks(execute=True):
        catalogue.load(declared % "sk-better-12345678")
    assert redis.client().hgetall(keys.REFUSED) == {}
    attempts(served[0], REFUSED)
    assert told(staff.user.email) == ["scripted refuses the gateway's key"]
    with django_capture_on_commit_callbacks(execute=True):
        catalogue.load(declared % "sk-better-12345678")
    assert redis.client().hlen(keys.REFUSED) == 1  # the same key


def test_a_tenants_own_key_is_its_super_admins_matter(
    world: World, staff: Operator, served: list[Deployment], key: ProviderKey, django_capture_on_commit_callbacks: Any
) -> None:
    counted = REGISTRY.get_sample_value("gatehouse_provider_key_refusals_total", {"provider": "scripted"})
    attempts(served[0], REFUSED, own_key=key)
    assert REGISTRY.get_sample_value("gatehouse_provider_key_refusals_total", {"provider": "scripted"}) == counted

    assert told(world.alice.email) == ["The provider key “Ours” is refused"]
    assert {address for message in mail.outbox for address in message.to} == {world.alice.email}
    assert "sk-ours" not in str(mail.outbox[0].body)
    page = signed_in(world).get(f"/o/{world.acme.slug}/provider-keys/").content.decode()
    assert "First refused by the provider" in page

    with django_capture_on_commit_callbacks(execute=True):
        provider_keys.change(key, name="Ours", secret="sk-new-12345678", base_url="", falls_back=False, by=world.actor("alice"))
    page = signed_in(world).get(f"/o/{world.acme.slug}/provider-keys/").content.decode()
    assert "First refused by the provider" not in page
    attempts(served[0], REFUSED, own_key=key)
    assert told(world.alice.email) == ["The provider key “Ours” is refused"]


def test_what_is_switched_off_or_gone_is_dropped(
    world: World, staff: Operator, served: list[Deployment], key: ProviderKey
) -> None:
    attempts(served[0], REFUSED)
    attempts(served[1], REFUSED, own_key=key)
    provider_keys.set_enabled(key, False, by=world.actor("alice"))
    served[0].delete()
    assert told(staff.user.email) == told(world.alice.email) == []
    assert redis.client().hgetall(keys.REFUSED) == {}


class Deaf(EmailBackend):
    def send_messages(self, messages: object) -> int:
        raise OSError("no mail server")


def test_a_mail_server_that_is_away_is_tried_again(staff: Operator, served: list[Deployment], settings: Any) -> None:
    attempts(served[0], REFUSED)
    working, settings.EMAIL_BACKEND = settings.EMAIL_BACKEND, f"{Deaf.__module__}.{Deaf.__qualname__}"
    assert told(staff.user.email) == []
    settings.EMAIL_BACKEND = working
    assert told(staff.user.email) == ["scripted refuses the gateway's key"]


def test_the_operators_refusals_are_counted_by_provider(served: list[Deployment], world: World) -> None:
    labels = {"provider": "scripted"}
    before = REGISTRY.get_sample_value("gatehouse_provider_key_refusals_total", labels) or 0
    attempts(served[0], REFUSED, None, REFUSED)
    assert REGISTRY.get_sample_value("gatehouse_provider_key_refusals_total", labels) == before + 2


def test_without_redis_pages_know_of_no_refusal(settings: Any, world: World, key: ProviderKey) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    redis.client.cache_clear()
    try:
        answer = signed_in(world).get(f"/o/{world.acme.slug}/provider-keys/")
    finally:
        redis.client.cache_clear()
    assert answer.status_code == 200
