"""Whether whoever reads why a call is refused may change that themself: then the page says so, and not whom to ask."""

from __future__ import annotations

from typing import NamedTuple

from django.urls import reverse

from guardrails.models import Policy
from guardrails.services.key_limits import may_raise
from guardrails.services.policies import may_change
from orgs.actor import Actor
from orgs.models import ApiKey
from proxy import permits, refusals
from proxy.errors import ProxyError

RAISED = (refusals.RAISE, refusals.RAISE_ALL)


class OwnWay(NamedTuple):
    """What the reader may do, and where."""

    words: str
    url: str


def own_way(error: ProxyError, *, actor: Actor, key: ApiKey | None = None) -> OwnWay | None:
    """By the policy that the refusal names; `key`: whose call it is, for limits of its own."""
    detail = error.detail or {}
    ask = detail.get("ask")
    words = "You can raise it" if ask in RAISED else "You can change it" if ask == permits.ASK else ""
    url = _url_of(str(detail.get("policy") or ""), actor=actor, key=key) if words else ""
    return OwnWay(words, url) if url else None


def without_ask(error: ProxyError) -> str:
    """Its message, without whom to ask."""
    return error.message.replace(f"; {(error.detail or {}).get('ask')}.", ".")


def _url_of(policy: str, *, actor: Actor, key: ApiKey | None) -> str:
    """Of the page where the actor may change it; empty where it may not."""
    org = actor.organization.slug
    if key is not None and Policy.objects.filter(dedicated=True, name=policy, bindings__api_key=key).exists():
        return reverse("guardrails:limits", kwargs={"org": org, "key_id": key.pk}) if may_raise(key, by=actor) else ""
    # Names are told apart in large and small letters alike.
    found = Policy.objects.filter(organization=actor.organization, dedicated=False, name=policy).first()
    if found is None or not may_change(found, by=actor):
        return ""
    return reverse("policies:policy", kwargs={"org": org, "policy_id": found.pk})
