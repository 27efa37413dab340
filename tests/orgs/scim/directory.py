"""A directory as it calls: by HTTP, with an organisation's token."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from django.test import Client

from orgs.models import Group, Membership, Organization, User
from orgs.services.provisioning import issue_token
from orgs.sso_models import Domain
from tests.actors import World

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"


class Answer:
    def __init__(self, status: int, text: str, headers: Any) -> None:
        self.status, self.headers = status, headers
        self.json: Any = json.loads(text) if text else None

    def __getitem__(self, name: str) -> Any:
        return self.json[name]

    @property
    def error(self) -> tuple[int, str | None]:
        """The status, as said twice, and `scimType`."""
        assert self.json["schemas"] == [ERROR]
        assert self.json["status"] == str(self.status)
        return self.status, self.json.get("scimType")


class Caller:
    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, method: str, path: str, body: Any = None, **query: Any) -> Answer:
        content = body if isinstance(body, str) else json.dumps(body)
        arguments: dict[str, Any] = {"data": content, "content_type": "application/scim+json"} if body is not None else {}
        client = Client(headers={"authorization": f"Bearer {self.token}"})
        response = client.generic(method, f"/scim/v2/{path}", query_params=query, **arguments)
        if response.content:
            assert response.headers["content-type"] == "application/scim+json"
        assert "no-store" in response.headers["cache-control"]
        return Answer(response.status_code, response.content.decode(), response.headers)

    def user(self, address: str, **more: Any) -> Answer:
        return self("POST", "Users", {"schemas": [USER], "userName": address, "active": True, **more})

    def group(self, name: str, *people: str, **more: Any) -> Answer:
        members = [{"value": one} for one in people]
        return self("POST", "Groups", {"schemas": [GROUP], "displayName": name, "members": members, **more})

    def patch(self, path: str, *operations: dict[str, Any]) -> Answer:
        return self("PATCH", path, {"schemas": [PATCH], "Operations": list(operations)})


def connect(world: World, *, organization: str = "acme", owner: str = "alice", group: Group | None = None) -> Caller:
    """The directory of an organisation, which has proven its domain."""
    found: Organization = getattr(world, organization)
    by = world.actor(owner)
    prove(found, domain_of(found), by=by.user)
    return Caller(issue_token(group=group or found.root, by=by))


def prove(organization: Organization, name: str, *, by: User) -> None:
    Domain.objects.create(organization=organization, name=name, verified_at=datetime.now(UTC), created_by=by)


def domain_of(organization: Organization) -> str:
    return f"{organization.slug}.test"


def nodes_of(user: User, organization: Organization) -> dict[str, bool]:
    """The groups it belongs to, and whether it may act there."""
    rows = Membership.objects.filter(user=user, organization=organization).select_related("group")
    return {row.group.name: row.suspended_at is None for row in rows}
