"""What others judge: scim2-tester walks the service as it describes itself, and every answer is read by scim2-models."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Annotated, Any
from uuid import uuid4

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from pydantic import Field
from scim2_models import (
    Context,
    ListResponse,
    PatchOp,
    Required,
    ResponseParameters,
    ScimProvider,
    SearchRequest,
    ServiceProviderConfig,
    Uniqueness,
)

from orgs.scim import resources
from tests.actors import World
from tests.orgs.scim.directory import connect, prove

pytestmark = pytest.mark.django_db


DOMAIN = "conformance.test"


class Fresh(list[str]):
    """Examples of addresses, each another one: the tester takes its values from here."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        return f"{uuid4().hex}@{DOMAIN}"


class User(resources.User):
    user_name: Annotated[str | None, Uniqueness.server, Required.true] = Field(None, examples=Fresh())


@pytest.fixture
def application() -> Iterator[WSGIHandler]:
    """The whole of Django, in the transaction of the test: a request's end must not close its connection."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield get_wsgi_application()
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def modules_of_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pydantic asks of each frame of the stack which module it is of, for each class that is made: Python looks through
    all modules there are for those that it does not find, half of what this test took.
    """
    found, known = inspect.getmodule, dict[str, Any]()

    def getmodule(of: Any, name: str | None = None) -> Any:
        if not inspect.isframe(of):
            return found(of, name)
        path = of.f_code.co_filename
        if path not in known:
            known[path] = found(of, name)
        return known[path]

    monkeypatch.setattr(inspect, "getmodule", getmodule)


def seldom(delete: Callable[..., Any]) -> Callable[..., Any]:
    """After each of its checks the tester deletes all that it ever made, hundreds of times: the third tells nothing new."""
    asked = Counter[tuple[type, str]]()

    def delete_once_more(model: type, number: str, **options: Any) -> Any:
        asked[model, number] += 1
        if asked[model, number] > 2:
            raise LookupError(number)  # as little to the tester as the answer that it is gone
        return delete(model, number, **options)

    return delete_once_more


def test_scim2_tester_finds_nothing(
    world: World, application: WSGIHandler, modules_of_frames: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Seconds of import, for this test alone.
    from scim2_client.engines.wsgi import WSGISCIMClient
    from scim2_tester import Status, check_server

    scim = connect(world)
    client = WSGISCIMClient(application, base_url="http://127.0.0.1/scim/v2", headers={"Authorization": f"Bearer {scim.token}"})
    monkeypatch.setattr(client, "delete", seldom(client.delete))
    prove(world.acme, DOMAIN, by=world.alice)
    client.provider = ScimProvider([User, resources.Group], config=resources.service_provider_config(), policy=resources.POLICY)
    messages = (ListResponse, PatchOp, SearchRequest, ResponseParameters)
    # Pydantic forgets such a class as soon as nobody holds it, and client and tester name them for every call: see `serving.of`.
    held = [message[model] for message in messages for model in (User, resources.Group)]
    results = check_server(client)
    bad = [(one.title, one.reason) for one in results if one.status is not Status.SUCCESS]
    # What is not there on purpose: one search over users and groups at once, and a person who is neither active nor not.
    nowhere = ("search_with_attributes", "There is no such resource.")
    assert bad == [nowhere, ("check_remove_attribute", "PATCH modify() did not remove attribute 'active'"), nowhere]
    assert len(results) > 50
    assert held


def test_the_service_describes_itself(world: World) -> None:
    scim = connect(world)
    config = ServiceProviderConfig.model_validate(
        scim("GET", "ServiceProviderConfig").json, scim_ctx=Context.RESOURCE_QUERY_RESPONSE
    )
    assert (config.patch and config.patch.supported, config.filter and config.filter.supported) == (True, True)
    assert {one["name"] for one in scim("GET", "ResourceTypes")["Resources"]} == {"User", "Group"}
    assert scim("GET", "ResourceTypes/User")["endpoint"] == "/Users"
    schema = scim("GET", "Schemas/urn:ietf:params:scim:schemas:core:2.0:User")
    assert {"userName", "active", "emails"} <= {attribute["name"] for attribute in schema["attributes"]}
    for path in ("ResourceTypes/Device", "Schemas/urn:x"):
        assert scim("GET", path).error == (404, None)
