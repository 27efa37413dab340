"""Own provider keys: added, changed, switched, tested and deleted. Each change is audited, without the secret, and counts
on the next call of every worker."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404
from django.utils import timezone

from gateway_project.lib import crypto, outbound
from gateway_project.lib.rows import sole
from orgs.actor import ABOVE, LINEAGE, Actor
from orgs.audit import Value, audit
from orgs.errors import Refused
from orgs.models import Group
from orgs.permissions import Permission
from orgs.selectors import within
from orgs.services.changes import changing, clean_name, refuse_archived
from proxy.health import refused
from proxy.models import Provider, ProviderKey
from proxy.own_keys import bound_to
from proxy.providers import registry

MOST_SECRET = 20_000
MOST_URL = 500
# A secret shorter than this would be told by its last characters.
SHOWN_FROM = 12
RESULT_LENGTH = 300


class Place(NamedTuple):
    """What a key is for: every provider of a kind, or one that is declared here."""

    kind: str
    provider: Provider | None

    @property
    def title(self) -> str:
        title = registry.PROVIDERS[self.kind].title if self.kind in registry.PROVIDERS else self.kind
        return title if self.provider is None else f"{self.provider.name} ({title})"

    @property
    def takes_url(self) -> bool:
        """Kinds whose address only their customer knows."""
        return self.kind in registry.PROVIDERS and registry.PROVIDERS[self.kind].needs_address


def places() -> list[Place]:
    """Kinds that take a key and that models here are served by, then the declared providers of them, each alone."""
    serving = Provider.objects.filter(enabled=True, deployments__model__enabled=True).distinct().order_by("name")
    declared = [found for found in serving if found.kind in registry.PROVIDERS and _takes_keys(registry.PROVIDERS[found.kind])]
    kinds = sorted({one.kind for one in declared if not registry.PROVIDERS[one.kind].needs_address})
    return [*(Place(kind, None) for kind in kinds), *(Place(one.kind, one) for one in declared)]


def _takes_keys(provider: registry.Provider) -> bool:
    return provider.key_required or provider.needs_address


def visible_to(actor: Actor) -> QuerySet[ProviderKey]:
    """Those at nodes where the actor may manage them, upper nodes first."""
    scope = actor.scope(Permission.MANAGE_PROVIDER_KEYS)
    found = ProviderKey.objects.filter(within(scope, field="group"), organization=actor.organization)
    return found.select_related("provider", "created_by", LINEAGE).order_by("group__tree_id", "group__lft", "kind", "name", "pk")


def access_provider_key_by_id(actor: Actor, key_id: int) -> ProviderKey:
    """Raises Http404."""
    found = sole(ProviderKey.objects.filter(organization=actor.organization, pk=key_id).select_related("provider", LINEAGE))
    if found is None or not actor.can(Permission.MANAGE_PROVIDER_KEYS, found.group):
        raise Http404("no such provider key")
    return found


def add(
    group: Group, *, place: Place, name: str, secret: str, by: Actor, base_url: str = "", falls_back: bool = False
) -> ProviderKey:
    """Raises Refused, NotAllowed."""
    wanted = clean_name(name), _clean_secret(secret), _clean_url(base_url, place)
    with changing(by.organization):
        fresh = Group.objects.select_related(ABOVE).get(pk=group.pk)
        by.require(Permission.MANAGE_PROVIDER_KEYS, fresh)
        refuse_archived(fresh)
        if ProviderKey.objects.filter(group=fresh, kind=place.kind, provider=place.provider).exists():
            raise Refused(f"{fresh} has a key for {place.title} already: replace that one.", field="place")
        key = ProviderKey(
            organization=by.organization,
            group=fresh,
            name=wanted[0],
            kind=place.kind,
            provider=place.provider,
            base_url=wanted[2],
            falls_back=falls_back,
            created_by=by.user,
        )
        key.save()
        _seal(key, wanted[1])
        key.save()
        audit("provider_key.added", by=by, target=key, after=_facts(key))
    return key


def change(key: ProviderKey, *, name: str, secret: str, base_url: str, falls_back: bool, by: Actor) -> ProviderKey:
    """An empty secret: it stays. Then the address stays, too, or whoever may change it could have the key sent to
    themselves. Raises Refused, NotAllowed."""
    place = Place(key.kind, key.provider)
    wanted = clean_name(name), _clean_secret(secret) if secret else "", _clean_url(base_url, place)
    with changing(by.organization):
        fresh = _fresh(key, by=by)
        if wanted[2] != fresh.base_url and not wanted[1]:
            raise Refused("Give the key, too: a key is only ever sent where it was entered for.", field="secret")
        before = _facts(fresh)
        fresh.name, fresh.base_url, fresh.falls_back = wanted[0], wanted[2], falls_back
        if wanted[1]:
            _seal(fresh, wanted[1])
            transaction.on_commit(partial(refused.forget_own_key, fresh.pk))
        fresh.save()
        replaced: dict[str, Value] = {"replaced": True} if wanted[1] else {}
        audit("provider_key.changed", by=by, target=fresh, before=before, after=_facts(fresh) | replaced)
    return fresh


def set_enabled(key: ProviderKey, enabled: bool, *, by: Actor) -> ProviderKey:
    """While it is off, calls go as if it were not there. Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = _fresh(key, by=by)
        if fresh.enabled != enabled:
            fresh.enabled = enabled
            fresh.save(update_fields=["enabled"])
            audit(f"provider_key.{'enabled' if enabled else 'disabled'}", by=by, target=fresh)
    return fresh


def delete(key: ProviderKey, *, by: Actor) -> None:
    """Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = _fresh(key, by=by)
        audit("provider_key.deleted", by=by, target=fresh, before=_facts(fresh))
        fresh.delete()


def note_test(key: ProviderKey, *, passed: bool, result: str, by: Actor) -> ProviderKey:
    """What came of a test. Raises Refused, NotAllowed."""
    with changing(by.organization):
        fresh = _fresh(key, by=by)
        fresh.tested_at, fresh.test_passed, fresh.test_result = timezone.now(), passed, result[:RESULT_LENGTH]
        fresh.save(update_fields=["tested_at", "test_passed", "test_result"])
        if passed:
            transaction.on_commit(partial(refused.forget_own_key, fresh.pk))
        audit("provider_key.tested", by=by, target=fresh, after={"passed": passed, "result": fresh.test_result})
    return fresh


def _fresh(key: ProviderKey, *, by: Actor) -> ProviderKey:
    fresh = ProviderKey.objects.filter(pk=key.pk, organization=by.organization).select_related("provider", LINEAGE).first()
    if fresh is None:
        raise Refused("There is no such provider key any more.")
    by.require(Permission.MANAGE_PROVIDER_KEYS, fresh.group)
    return fresh


def _seal(key: ProviderKey, secret: str) -> None:
    key.key_encrypted = crypto.encrypt(secret, bound_to=bound_to(key.organization_id, key.pk))
    key.last_four = secret[-4:] if len(secret) >= SHOWN_FROM and secret[-4:].isalnum() else ""
    # What was found out of another key says nothing of this one.
    key.tested_at, key.test_passed, key.test_result = None, None, ""


def _clean_secret(secret: str) -> str:
    secret = secret.strip()
    if not secret or len(secret) > MOST_SECRET:
        raise Refused("Give the key as the provider has shown it.", field="secret")
    if not secret.isascii() or not all(char.isprintable() or char in "\n\t" for char in secret):
        raise Refused("A key is plain text: letters, digits and signs.", field="secret")
    return secret


def _clean_url(base_url: str, place: Place) -> str:
    base_url = base_url.strip().rstrip("/")
    if not base_url:
        return ""
    if not place.takes_url:
        raise Refused(f"{place.title} has an address of its own.", field="base_url")
    if len(base_url) > MOST_URL:
        raise Refused(f"An address has at most {MOST_URL} characters.", field="base_url")
    wrong = outbound.why_not(base_url)
    if wrong:
        raise Refused(wrong, field="base_url")
    return base_url


def _facts(key: ProviderKey) -> dict[str, Value]:
    """For the audit trail. Of the secret what the page shows of it."""
    return {
        "name": key.name,
        "kind": key.kind,
        "provider": key.provider.name if key.provider is not None else None,
        "group": key.group.name,
        "last four": key.last_four,
        "base URL": key.base_url,
        "falls back": key.falls_back,
        "enabled": key.enabled,
    }
