"""What the routing page shows, put together for its templates: names, what `auto` chooses from, deployments and their health."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from orgs.actor import Actor
from orgs.permissions import Permission
from proxy import choice_services
from proxy.health.overview import Availability, overview
from proxy.health.state import Circuit
from proxy.models import Alias, Deployment, Model
from proxy.named import aliases_visible_to

MOST_MODELS = 300
CIRCUITS: dict[Circuit, tuple[str, str]] = {
    "closed": ("healthy", "ok"),
    "half-open": ("probing", "warn"),
    "open": ("circuit open", "bad"),
}
FAILURES: dict[str, str] = {
    "connect": "no connection",
    "timeout": "too slow",
    "overloaded": "overloaded",
    "rate_limited": "rate limited",
    "status": "answered with an error",
    "broken": "answer broken off",
    "auth": "refused our key",
    "quota": "its minute is used up",
}
STRATEGIES = {"order": "by weight", "price": "the cheapest", "latency": "the fastest"}


class AliasRow(NamedTuple):
    alias: Alias
    may_manage: bool


class Candidate(NamedTuple):
    """One of what `auto` chooses from. `offered`: it is still declared and enabled."""

    name: str
    offered: bool
    first: bool
    last: bool


class Shown(NamedTuple):
    """One deployment with what the workers know of it; None where nothing is known. `failed`: of the known attempts."""

    deployment: Deployment
    known: Availability | None
    pill: str = "not seen yet"
    tone: str = "muted"
    last_error: str = ""
    failed: int = 0
    first_token_ms: int | None = None


class ModelRow(NamedTuple):
    model: Model
    strategy: str
    deployments: list[Shown]


def alias_rows(actor: Actor) -> list[AliasRow]:
    return [AliasRow(one, actor.can(Permission.MANAGE_ROUTING, one.group)) for one in aliases_visible_to(actor)]


def auto_of(actor: Actor) -> dict[str, Any]:
    """For templates/proxy/partials/_auto.html."""
    choice = choice_services.choice_of(actor.organization)
    names, offered = list(choice.auto_candidates), set(chat_models())
    return {
        "candidates": [
            Candidate(name, name in offered, first=at == 0, last=at == len(names) - 1) for at, name in enumerate(names)
        ],
        "baseline": choice.baseline_model,
        "baseline_gone": bool(choice.baseline_model) and choice.baseline_model not in offered,
        "chat_models": sorted(offered),
        "may_choose": actor.can_everywhere(Permission.MANAGE_ROUTING),
    }


def chat_models() -> list[str]:
    offered = Model.objects.filter(kind=Model.Kind.CHAT, enabled=True, deployments__provider__enabled=True).distinct()
    return list(offered.values_list("name", flat=True))


def model_rows() -> list[ModelRow]:
    """Every model that is offered, with its deployments in the order of their declaration and their health."""
    offered = Model.objects.filter(enabled=True, deployments__provider__enabled=True).distinct().order_by("name")
    models = list(offered.prefetch_related("deployments__provider")[:MOST_MODELS])
    served = {model.pk: [one for one in model.deployments.all() if one.provider.enabled] for model in models}
    known = overview(str(one.pk) for deployments in served.values() for one in deployments)
    return [
        ModelRow(model, STRATEGIES[model.strategy], list(_shown(served[model.pk], known, breaks=model.circuit_breaker)))
        for model in models
    ]


def _shown(deployments: Iterable[Deployment], known: Mapping[str, Availability], *, breaks: bool) -> Iterable[Shown]:
    for one in deployments:
        found = known.get(str(one.pk))
        if found is None or found == Availability():
            yield Shown(one, None)
            continue
        pill, tone = CIRCUITS[found.circuit if breaks else "closed"]
        if tone == "ok" and not found.attempts:
            pill, tone = "idle", "muted"
        elif tone == "ok" and (found.error_rate or 0) > 0.5:
            pill, tone = "failing", "warn"
        yield Shown(
            one,
            found,
            pill,
            tone,
            last_error=FAILURES.get(found.last_error, found.last_error.replace("_", " ")),
            failed=round((found.error_rate or 0) * found.attempts),
            first_token_ms=None if found.first_token_ms is None else round(found.first_token_ms),
        )
