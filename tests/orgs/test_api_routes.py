"""The rights of the API: every route and method of it is tried by everyone; one without a line fails. See test_routes.py."""

from __future__ import annotations

import functools
import json
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from django.db import transaction
from django.urls import reverse
from pytest_django.plugin import DjangoDbBlocker

from guardrails.services.bindings import bind
from guardrails.services.overrides import add_override
from guardrails.services.policies import LimitSpec, create_policy
from orgs.api.base import OrgApiView
from orgs.doors import door_of
from orgs.models import AuditEvent, RoleGrant
from orgs.permissions import Permission, RoleName
from orgs.services.invitations import invite
from orgs.services.members import grant_role
from orgs.services.roles import create_role
from tests.actors import World, with_session
from tests.apis import asked_for, simulated_on
from tests.examples import tried
from tests.orgs.routes import Route, routes_of
from tests.orgs.test_routes import PEOPLE, URLCONF

Made = dict[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")
LATER = datetime(2099, 1, 1, tzinfo=UTC)


class Row(NamedTuple):
    """`codes` are the answers to PEOPLE. The things are Mia's key, membership and group, Sam's application, Lena's second role
    below, and a policy that is bound there with an exception. `sent` is the body, `ids` the names in it of the things' ids."""

    name: str
    method: str
    codes: str
    sent: dict[str, Any] = {}
    ids: dict[str, str] = {}


RPM = {"limit": {"kind": "rpm", "window": "minute"}, "subject": {"kind": "group"}}
MORE = {**RPM, "amount": "5", "until": "2099-01-01T00:00:00Z"}
EXCEPTED = {"policy_id": "policy_id", "subject.id": "group_id"}

ROWS = [
    Row("orgs_api:organizations", "get", "401 200 200 200 200 200 200"),
    Row("orgs_api:organizations", "post", "401 201 201 201 201 201 201", {"name": "New"}),
    Row("orgs_api:organization", "get", "401 404 200 200 200 200 200"),
    Row("orgs_api:organization", "patch", "401 404 403 403 403 403 200", {"week_start": 1}),
    Row("orgs_api:me", "get", "401 404 200 200 200 200 200"),
    Row("orgs_api:groups", "get", "401 404 200 200 200 200 200"),
    Row("orgs_api:groups", "post", "401 404 403 403 201 201 201", {"name": "new"}, {"parent_id": "group_id"}),
    Row("orgs_api:group", "get", "401 404 404 200 200 200 200"),
    Row("orgs_api:group", "patch", "401 404 403 403 200 200 200", {"kind": "team"}),
    Row("orgs_api:move_group", "post", "401 404 403 403 422 422 422", {}, {"parent_id": "group_id"}),
    Row("orgs_api:archive_group", "post", "401 404 403 403 200 200 200"),
    Row("orgs_api:restore_group", "post", "401 404 403 403 200 200 200"),
    Row("orgs_api:members", "get", "401 404 200 200 200 200 200"),
    Row("orgs_api:members", "post", "401 404 403 403 422 422 422", {}, {"group_id": "group_id", "user_id": "user_id"}),
    Row("orgs_api:member", "get", "401 404 404 200 200 200 200"),
    Row("orgs_api:member", "delete", "401 404 403 403 204 204 204"),
    Row("orgs_api:move_member", "post", "401 404 403 403 200 200 200", {}, {"group_id": "below_id"}),
    Row("orgs_api:suspend_member", "post", "401 404 403 403 200 200 200"),
    Row("orgs_api:resume_member", "post", "401 404 403 403 200 200 200"),
    Row("orgs_api:invitations", "get", "401 404 403 403 200 200 200"),
    Row("orgs_api:invitations", "post", "401 404 403 403 201 201 201", {"email": "new@example.test"}, {"group_id": "group_id"}),
    Row("orgs_api:invitation", "get", "401 404 403 403 200 200 200"),
    Row("orgs_api:revoke_invitation", "post", "401 404 403 403 200 200 200"),
    Row("orgs_api:roles", "get", "401 404 200 200 200 200 200"),
    Row(
        "orgs_api:roles",
        "post",
        "401 404 403 403 201 201 201",
        {"role": "finance"},
        {"group_id": "group_id", "user_id": "user_id"},
    ),
    Row("orgs_api:role", "get", "401 404 404 404 200 200 200"),
    Row("orgs_api:role", "delete", "401 404 403 403 204 204 204"),
    Row("orgs_api:custom_roles", "get", "401 404 403 403 200 200 200"),
    Row(
        "orgs_api:custom_roles",
        "post",
        "401 404 403 403 201 201 201",
        {"name": "new", "permissions": ["manage_keys"]},
        {"group_id": "group_id"},
    ),
    Row("orgs_api:custom_role", "get", "401 404 403 403 200 200 200"),
    Row("orgs_api:custom_role", "patch", "401 404 403 403 200 200 200", {"description": "x"}),
    Row("orgs_api:custom_role", "delete", "401 404 403 403 204 204 204"),
    Row("guardrails_api:keys", "get", "401 404 200 200 200 200 200"),
    Row(
        "guardrails_api:keys",
        "post",
        "401 404 404 201 201 201 201",
        {"name": "new"},
        {"group_id": "group_id", "member_id": "user_id"},
    ),
    Row("guardrails_api:key", "get", "401 404 404 200 200 200 200"),
    Row("guardrails_api:key", "patch", "401 404 404 200 200 200 200", {"name": "other"}),
    Row("guardrails_api:key", "delete", "401 404 404 204 204 204 204"),
    Row("guardrails_api:disable_key", "post", "401 404 404 200 200 200 200"),
    Row("guardrails_api:enable_key", "post", "401 404 404 200 200 200 200"),
    Row("guardrails_api:rotate_key", "post", "401 404 404 200 200 200 200"),
    Row("guardrails_api:end_old_text", "post", "401 404 404 200 200 200 200"),
    # Each key by itself: one that somebody does not see is as absent as any other.
    Row("guardrails_api:change_keys", "post", "401 404 200 200 200 200 200", {"change": "disable", "key_ids": [1]}),
    Row("orgs_api:applications", "get", "401 404 200 200 200 200 200"),
    Row("orgs_api:applications", "post", "401 404 403 403 201 201 201", {"name": "new"}, {"group_id": "group_id"}),
    Row("orgs_api:application", "get", "401 404 404 200 200 200 200"),
    Row("orgs_api:application", "patch", "401 404 403 403 200 200 200", {"name": "other"}),
    Row("orgs_api:archive_application", "post", "401 404 403 403 200 200 200"),
    Row("orgs_api:restore_application", "post", "401 404 403 403 200 200 200"),
    Row("orgs_api:events", "get", "401 404 403 403 200 200 200"),
    Row("orgs_api:event", "get", "401 404 403 403 200 200 200"),
    Row("guardrails_api:policies", "get", "401 404 200 200 200 200 200"),
    Row("guardrails_api:policies", "post", "401 404 403 403 201 201 201", {"name": "new"}),
    Row("guardrails_api:policy", "get", "401 404 404 200 200 200 200"),
    Row("guardrails_api:policy", "patch", "401 404 403 403 200 200 200", {"description": "x"}),
    Row("guardrails_api:policy", "delete", "401 404 403 403 204 204 204"),
    Row("guardrails_api:bindings", "get", "401 404 200 200 200 200 200"),
    Row(
        "guardrails_api:bindings",
        "post",
        "401 404 403 403 201 201 201",
        {"subject": {"kind": "group"}},
        {"policy_id": "policy_id", "subject.id": "below_id"},
    ),
    Row("guardrails_api:binding", "get", "401 404 404 200 200 200 200"),
    Row("guardrails_api:binding", "delete", "401 404 403 403 204 204 204"),
    Row("guardrails_api:overrides", "get", "401 404 200 200 200 200 200"),
    Row("guardrails_api:overrides", "post", "401 404 403 403 201 201 201", MORE, EXCEPTED),
    Row("guardrails_api:reset", "post", "401 404 403 403 422 422 422", RPM, EXCEPTED),
    Row("guardrails_api:override", "get", "401 404 404 200 200 200 200"),
    Row("guardrails_api:end_override", "post", "401 404 403 403 200 200 200"),
    Row("guardrails_api:resume_override", "post", "401 404 403 403 200 200 200"),
    Row("guardrails_api:requests", "get", "401 404 200 200 200 200 200"),
    Row("guardrails_api:requests", "post", "401 404 404 422 422 422 422", {"model": "free"}, {"group_id": "group_id"}),
    Row("guardrails_api:approvals", "post", "401 404 403 403 422 422 422", {"model": "free"}, {"group_id": "group_id"}),
    Row("guardrails_api:request", "get", "401 404 404 200 200 200 200"),
    Row("guardrails_api:approve_request", "post", "401 404 403 403 200 200 200"),
    Row("guardrails_api:decline_request", "post", "401 404 403 403 200 200 200", {"answer": "No"}),
    Row("guardrails_api:withdraw_request", "post", "401 404 404 200 403 403 403"),
    Row("guardrails_api:revoke_request", "post", "401 404 403 403 422 422 422"),
    Row("api:simulations", "get", "401 404 403 403 200 200 200"),
    Row(
        "api:simulations",
        "post",
        "401 404 403 403 201 201 201",
        {"limits": [{"kind": "rpm", "window": "minute", "value": "1"}], "targets": [{"kind": "group"}]},
        {"targets.0.id": "group_id"},
    ),
    Row("api:simulation", "get", "401 404 403 403 200 200 200"),
    Row("api:simulation", "delete", "401 404 403 403 204 204 204"),
    Row("api:cancel_simulation", "post", "401 404 403 403 200 200 200"),
    Row("api:repeat_simulation", "post", "401 404 403 403 422 422 422"),
    # The pool is the organisation's: a Sub-admin does not see it.
    Row("billing_api:credit", "get", "401 404 403 403 403 200 200"),
    Row("billing_api:movements", "get", "401 404 403 403 403 200 200"),
    Row("analytics_api:usage", "get", "401 404 200 200 200 200 200"),
    Row("analytics_api:ledger", "get", "401 404 200 200 200 200 200"),
    Row("analytics_api:call", "get", "401 404 404 404 404 404 404"),
]


@functools.cache
def api_routes() -> list[Route]:
    return [route for route in routes_of(URLCONF) if (door := door_of(route.view)) and door.kind == "api"]


def methods_of(route: Route) -> set[str]:
    view = route.view.cls  # type: ignore[attr-defined]
    return {method for method in METHODS if hasattr(view, method)}


def test_every_route_and_method_of_the_api_is_tried() -> None:
    served = {(route.name, method) for route in api_routes() for method in methods_of(route)}
    assert served ^ {(row.name, row.method) for row in ROWS} == set()


def test_a_path_names_an_organisation_exactly_where_its_view_enters_one() -> None:
    for route in api_routes():
        enters = issubclass(route.view.cls, OrgApiView)  # type: ignore[attr-defined]
        assert enters == route.path.startswith("/api/v1/organizations/<slug:org>"), route
        assert not enters or route.view.door.permissions, route  # type: ignore[attr-defined]


def test_everything_below_the_address_of_the_api_says_so() -> None:
    """But for what is public there: the document, its page, the question why a call would pass, and what is nothing."""
    below = [route for route in routes_of(URLCONF) if route.path.startswith("/api/")]
    others = {route.name for route in below} - {route.name for route in api_routes()}
    assert others == {"api:explain", "api_document:openapi", "api_document:page", "api_absent"}


@pytest.fixture
def world(lasting_world: World, made: Made, lasting_sessions: dict[str, str], db: None) -> World:
    return deepcopy(lasting_world)


@pytest.fixture(scope="module")
def made(lasting_world: World, django_db_blocker: DjangoDbBlocker) -> Made:
    with django_db_blocker.unblock():
        return made_in(lasting_world)


def made_in(world: World) -> Made:
    alice = world.actor("alice")
    policy = create_policy(world.acme, name="Team", limits=[LimitSpec("rpm", "minute", 5)], by=alice)
    return {
        "org": world.acme.slug,
        "group_id": world.gateway.pk,
        "below_id": world.core.pk,
        "user_id": world.mia.pk,
        "member_id": world.actor("mia").memberships[0].pk,
        "role_id": grant_role(world.lena, role=RoleName.FINANCE, group=world.core, by=alice).pk,
        "custom_role_id": create_role(world.gateway, name="Lead", permissions=[Permission.MANAGE_KEYS], by=alice).pk,
        "key_id": world.key.pk,
        "invitation_id": invite(world.gateway, by=alice).pk,
        "application_id": world.assistant.pk,
        "policy_id": policy.pk,
        "binding_id": bind(policy, subject=world.gateway, by=alice).pk,
        "override_id": add_override(policy.limits.get(), subject=world.gateway, amount=1, until=LATER, by=alice).pk,
        "request_id": asked_for("rights-model", by=world.actor("mia")).pk,
        "simulation_id": simulated_on(world.gateway, by=alice).pk,
        "sequence": AuditEvent.objects.filter(organization=world.acme, object_type="apikey").latest("pk").sequence,
        "call_id": UUID(int=7),
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.name}")
def test_everyone_gets_what_the_table_says(world: World, made: Made, lasting_sessions: dict[str, str], row: Row) -> None:
    route = next(route for route in api_routes() if route.name == row.name)
    url = reverse(row.name, kwargs={name: value for name, value in made.items() if name in route.arguments})
    body = deepcopy(row.sent)
    for name, of in row.ids.items():
        *outer, inner = name.split(".")
        inside: Any = body
        for step in outer:
            inside = inside[int(step) if step.isdigit() else step]
        inside[inner] = made[of]
    expected = row.codes.split()
    people = {PEOPLE[place]: expected[place] for place in tried(expected, ROWS.index(row))}
    assert {person: str(asked(lasting_sessions.get(person), row.method, url, body)) for person in people} == people


def asked(session: str | None, method: str, url: str, body: dict[str, Any]) -> int:
    """Undone before the next asks."""
    sent = {} if method == "get" else {"data": json.dumps(body), "content_type": "application/json"}
    with transaction.atomic():
        response = getattr(with_session(session), method)(url, **sent)
        transaction.set_rollback(True)
    code: int = response.status_code
    return code


def test_lena_and_sam_may_change_nothing_at_their_own_node(world: World, lasting_sessions: dict[str, str]) -> None:
    assert RoleGrant.objects.filter(user=world.sam, group=world.platform).exists()
    for name, url_name, body in (("sam", "group", {"kind": "x"}), ("lena", "roles", {"role": "finance"})):
        node = world.platform if name == "sam" else world.engineering
        arguments = {"org": world.acme.slug, **({"group_id": node.pk} if url_name == "group" else {})}
        extra = {} if url_name == "group" else {"group_id": node.pk, "user_id": world.mia.pk}
        method = "patch" if url_name == "group" else "post"
        url = reverse(f"orgs_api:{url_name}", kwargs=arguments)
        assert asked(lasting_sessions[name], method, url, {**body, **extra}) in (403, 404)
