"""The API as tests ask it: by the token of a person, below one organisation."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.test import Client
from django.utils import timezone

from orgs.api.errors import EVERY_CODE
from orgs.models import AccessToken, User
from orgs.services.tokens import create_token
from orgs.tokens import SCOPES
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


def code(answer: Json) -> str:
    assert set(answer) == {"error"}
    assert set(answer["error"]) == {"code", "message", "param"}
    assert answer["error"]["code"] in dict(EVERY_CODE)
    return str(answer["error"]["code"])
