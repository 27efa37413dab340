"""The OpenAPI document, tried by everybody: whatever is sent, no fault, no answer beside the schema, nothing of another tenant.

Each operation is called with what schemathesis makes of its schema, with ids of the caller's organisation and with ids of another
one: by a Super Admin, whom most answers are for, and by whoever's turn it is. Every case is undone before the next.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zlib import crc32

import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from django.test import Client
from drf_spectacular.drainage import GENERATOR_STATS
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pytest_django.plugin import DjangoDbBlocker
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway_project.api_document import document
from guardrails.services.bindings import bind
from guardrails.services.overrides import add_override
from guardrails.services.policies import LimitSpec, create_policy
from orgs.api.authentication import PersonThrottle
from orgs.models import AuditEvent, Group, Organization, RoleGrant, User
from orgs.permissions import Permission
from orgs.services.applications import create_application
from orgs.services.groups import create_group
from orgs.services.invitations import invite
from orgs.services.keys import create_api_key
from orgs.services.roles import create_role
from orgs.services.tokens import token_of
from tests.actors import World
from tests.apis import asked_for, simulated_on, token
from tests.examples import TIMES, some

PEOPLE = ("anonymous", "mia", "sam", "lena", "alice", "charlie")
# Whose turn it is beside the Super Admin's. What each may at all, tests/orgs/test_api_routes.py says.
TURNS = (("anonymous", "charlie"), ("mia", "lena"), ("sam", "charlie"))
CHECKS = [not_a_server_error, response_schema_conformance, status_code_conformance, content_type_conformance]
EXAMPLES = some(3)
LATER = datetime(2099, 1, 1, tzinfo=UTC)
# Where an id stands in what is sent, and what it is of.
NAMES = {"parent_id": "group_id", "user_id": "user_id", "owner_id": "user_id", "member_id": "user_id"}

Ids = dict[str, Any]


class Tried(NamedTuple):
    person: str
    headers: dict[str, str]
    foreign: list[str]


def things_of(organization: Organization, *, by: Any, person: User) -> Ids:
    """One of each kind, with names that occur nowhere else."""
    group = create_group(organization.root, name=f"Group of {organization.name}", by=by)
    application = create_application(group, name=f"App of {organization.name}", by=by)
    role = create_role(group, name=f"Role of {organization.name}", permissions=[Permission.MANAGE_KEYS], by=by)
    key, _ = create_api_key(group, name=f"Key of {organization.name}", application=application, by=by)
    policy = create_policy(organization, name=f"Policy of {organization.name}", limits=[LimitSpec("rpm", "minute", 9)], by=by)
    return {
        "group_id": group.pk,
        "application_id": application.pk,
        "key_id": key.pk,
        "policy_id": policy.pk,
        "binding_id": bind(policy, subject=group, by=by).pk,
        "override_id": add_override(policy.limits.get(), subject=group, amount=1, until=LATER, by=by).pk,
        "member_id": by.memberships[0].pk,
        "request_id": asked_for(f"model-of-{organization.pk}", by=by).pk,
        "simulation_id": simulated_on(group, by=by).pk,
        "role_id": RoleGrant.objects.filter(organization=organization).latest("pk").pk,
        "custom_role_id": role.pk,
        "invitation_id": invite(group, by=by).pk,
        "sequence": AuditEvent.objects.filter(organization=organization).latest("pk").sequence + 10**6,
        "user_id": person.pk,
    }


@pytest.fixture(scope="module")
def things(lasting_world: World, django_db_blocker: DjangoDbBlocker) -> dict[str, Ids]:
    with django_db_blocker.unblock():
        return things_in(lasting_world)


@pytest.fixture(scope="module")
def people(lasting_world: World, django_db_blocker: DjangoDbBlocker) -> list[Tried]:
    with django_db_blocker.unblock():
        return list(everybody(lasting_world))


@pytest.fixture
def world(lasting_world: World, things: dict[str, Ids], people: list[Tried], db: None) -> World:
    return deepcopy(lasting_world)


@pytest.fixture(scope="module")
def application() -> WSGIHandler:
    return get_wsgi_application()


def things_in(world: World) -> dict[str, Ids]:
    own = things_of(world.acme, by=world.actor("alice"), person=world.mia)
    own["sequence"] = AuditEvent.objects.filter(organization=world.acme).latest("pk").sequence
    return {"own": own, "other": things_of(world.other, by=world.actor("charlie"), person=world.charlie), "given": {}}


@pytest.fixture
def in_one_transaction() -> Iterator[None]:
    """The application as a server runs it closes its connection after each request; here it is the test's."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def everybody(world: World) -> Iterator[Tried]:
    ours, theirs = [world.acme.name, world.mia.email, world.alice.email], [world.other.name, world.charlie.email]
    for person in PEOPLE:
        text = "" if person == "anonymous" else token(getattr(world, person))[1]
        token_of(text)  # a first use: no later one has anything to note, though each is undone
        headers = {"Authorization": f"Bearer {text}"} if text else {}
        yield Tried(person, headers, ours if person == "charlie" else theirs if text else ours + theirs)


def operations() -> dict[str, list[Any]]:
    """By what they are about: one set of things serves them all."""
    schema = schemathesis.openapi.from_dict(json.loads(json.dumps(document())))
    found: dict[str, list[Any]] = {}
    for one in schema.get_all_operations():
        operation: Any = one.ok()  # type: ignore[union-attr]
        found.setdefault([*operation.path.split("/"), "", ""][5] or "organizations", []).append(operation)
    return found


OPERATIONS = operations()


def placed(case: Any, ids: Ids) -> Any:
    """With these ids in the path and the body, where they have a place."""
    parameters = {name: ids.get(name, value) for name, value in (case.path_parameters or {}).items()}
    case.path_parameters = parameters
    if isinstance(case.body, dict):
        sent = {name: ids.get(NAMES.get(str(name), str(name)), value) for name, value in case.body.items()}
        subject = sent.get("subject")
        if ids and isinstance(subject, dict) and "kind" in subject:
            column = {"group": "group_id", "member": "user_id", "api_key": "key_id", "application": "application_id"}
            sent["subject"] = {**subject, "id": ids.get(column.get(str(subject["kind"]), ""), 1)}
        if ids and "targets" in sent and isinstance(sent["targets"], list):
            sent["targets"] = [{"kind": "group", "id": ids["group_id"]}]
        if ids and "key_ids" in sent:
            sent["key_ids"] = [ids["key_id"]]
        if ids and "limit" in sent:
            sent["limit"] = {"kind": "rpm", "window": "minute"}
        case.body = sent
    return case


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many examples there are, nobody asks too often."""
    monkeypatch.setattr(PersonThrottle, "rate", f"{600 * TIMES}/min")


@pytest.mark.usefixtures("in_one_transaction", "patient")
@pytest.mark.parametrize("about", OPERATIONS)
def test_whatever_is_sent_the_answer_is_as_documented_and_nobody_elses(
    world: World, things: dict[str, Ids], people: list[Tried], application: WSGIHandler, about: str
) -> None:
    def tried(case: Any, kind: str) -> None:
        case = placed(case, {"org": world.acme.slug, **things[kind]} if kind != "given" else {})
        for one in [one for one in people if one.person in ("alice", *whose_turn(case, kind))]:
            with transaction.atomic():
                response = case.call(app=application, base_url="http://127.0.0.1", headers=one.headers)
                transaction.set_rollback(True)
            case.validate_response(response, checks=CHECKS)
            judge(one, response, case=case, kind=kind)

    for operation in OPERATIONS[about]:
        bounded(operation)(tried)()


def whose_turn(case: Any, kind: str) -> tuple[str, ...]:
    """By the operation and the kind of ids alone: the first example of all draws is the simplest, and always of the same kind."""
    return TURNS[crc32(f"{case.operation.label} {kind}".encode()) % len(TURNS)]


def bounded(operation: Any) -> Any:
    """The same few examples at every run of all tests."""
    kinds = st.sampled_from(["own", "own", "other", "given"])
    phases, checks = [Phase.generate], list(HealthCheck)
    fixed = settings(max_examples=EXAMPLES, deadline=None, database=None, phases=phases, suppress_health_check=checks)
    drawn = seed(7 if TIMES == 1 else random.getrandbits(32))
    return lambda tried: drawn(fixed(given(operation.as_strategy(), kinds)(tried)))


def judge(one: Tried, response: Any, *, case: Any, kind: str) -> None:
    text = response.content.decode()
    assert not [name for name in one.foreign if name in text]
    if one.person == "anonymous":
        assert response.status_code == 401 or (kind == "given" and response.status_code == 404)  # no such address
    elif kind != "given" and one.person == "charlie" and "org" in case.path_parameters:
        assert response.status_code == 404
    elif kind == "other" and len(case.path_parameters) > 1:
        assert response.status_code >= 400


def test_the_document_is_openapi_with_everything_that_is_served(world: World, client: Client) -> None:
    served = client.get("/api/v1/openapi.json")
    found = served.json()
    assert found["openapi"].startswith("3.1")
    assert found == json.loads(json.dumps(document()))
    ids = [one["operationId"] for item in found["paths"].values() for one in item.values() if isinstance(one, dict)]
    assert len(ids) == len(set(ids)) > 40
    assert Group.objects.count() > 0


def test_nothing_of_the_document_had_to_be_guessed() -> None:
    """No warning and no error: names that clash, fields of unknown types."""
    document.cache_clear()
    document()
    assert not GENERATOR_STATS


def test_its_page_names_every_operation_without_script(client: Client) -> None:
    response = client.get("/api/v1/docs")
    text = response.content.decode()
    for path, item in document()["paths"].items():
        assert path.replace("{", "{") in text
        assert all(one["summary"] in text for one in item.values() if "’" not in one["summary"] and "'" not in one["summary"])
    assert "Idempotency-Key" in text
    assert "script-src 'self'" in response.headers["Content-Security-Policy"]
    assert "<script>" not in text
