"""The API as tests ask it: by the token of a person, below one organisation."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

from django.test import Client
from django.utils import timezone

from guardrails.models import Request
from orgs.actor import Actor
from orgs.api.errors import EVERY_CODE
from orgs.models import AccessToken, Group, User
from orgs.services.tokens import create_token
from orgs.tokens import SCOPES
from proxy.models import Simulation
from proxy.simulating.proposal import Limit, Target
from proxy.simulation_services import Span, Wanted, period_between, start
from tests.actors import World

Json = dict[str, Any]


class Api:
    """Asks as the holder of a token, below one organisation."""

    def __init__(self, world: World, text: str) -> None:
        self.base, self.client = f"/api/v1/organizations/{world.acme.slug}", Client(headers={"Authorization": f"Bearer {text}"})

    def __call__(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        sent = {} if body is None else {"data": json.dumps(body), "content_type": "application/json"}
        response = getattr(self.client, method)(self.base + path, **sent)
        assert response.status_code == status, response.content
        return response.json() if response.content else None


def token(user: User, *scopes: str) -> tuple[AccessToken, str]:
    return create_token(user, name="script", scopes=scopes or SCOPES, expires_at=timezone.now() + timedelta(days=1))


def api(world: World, name: str, *scopes: str) -> Api:
    return Api(world, token(getattr(world, name), *scopes)[1])


def asked_for(model: str, *, by: Actor) -> Request:
    """A request for the group that the actor belongs to, as `requests.request_model` makes one of a new model."""
    return Request.objects.create(
        organization=by.organization, kind=Request.Kind.MODEL, model=model, group=by.memberships[0].group, requested_by=by.user
    )


def simulated_on(group: Group, *, by: Actor) -> Simulation:
    """One that waits for its worker."""
    period = period_between(date(2026, 11, 1), date(2026, 11, 1), organization=by.organization)
    wanted = Wanted(
        f"Trial of {group}", None, (Limit("rpm", "minute", 5),), (), (Target("group", group.pk),), Span.CUSTOM, period
    )
    return start(wanted, by=by)


def code(answer: Json) -> str:
    assert set(answer) == {"error"}
    assert set(answer["error"]) == {"code", "message", "param"}
    assert answer["error"]["code"] in dict(EVERY_CODE)
    return str(answer["error"]["code"])
