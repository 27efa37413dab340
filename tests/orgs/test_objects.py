"""Rights over things: where one stands, from whoever asks. Own, below, beside, above, and in another organisation.

Seen from Sam's node: platform, gateway below it, field beside it, engineering above it. Lena stands above all but the field,
Alice above everything; Mia is a member of the gateway. What is out of reach is a 404 like what does not exist.
"""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec
import pytest
from django.db import transaction
from django.urls import reverse
from django.utils import timezone
from pytest_django.plugin import DjangoDbBlocker

from guardrails.models import Request
from guardrails.services.bindings import bind
from guardrails.services.overrides import add_override
from guardrails.services.policies import LimitSpec, create_policy
from orgs.models import AuditEvent
from orgs.services.applications import create_application
from orgs.services.keys import create_api_key
from orgs.services.members import add_member
from proxy.models import Simulation
from proxy.simulating.proposal import Proposal, Target
from tests.actors import World, make_user, signed_in, with_session

pytestmark = pytest.mark.usefixtures("short_refusals")

PLACES = {"own": "platform", "below": "gateway", "beside": "field", "above": "engineering", "other": "elsewhere"}
PEOPLE = ("mia", "sam", "lena", "alice")


class Row(NamedTuple):
    """`codes`: of each of PEOPLE the answers at each of PLACES."""

    name: str
    method: str
    thing: str
    codes: dict[str, str]
    sent: dict[str, Any] | None = None


SEEN = {"sam": "200 200 404 404 404", "lena": "200 200 404 200 404", "alice": "200 200 200 200 404"}
BELOW = {"sam": "404 200 404 404 404", "lena": "200 200 404 404 404", "alice": "200 200 200 200 404"}
DONE = {name: codes.replace("200", "302") for name, codes in SEEN.items()}
# A console page says which permission is missing where the thing itself is seen.
SEEN_ONLY = {"sam": "403 200 404 404 404", "lena": "200 200 404 403 404", "alice": "200 200 200 200 404"}
NOTHING, NO_DOOR = "404 404 404 404 404", "403 403 403 403 403"

ROWS = [
    Row("guardrails:key", "get", "key_id", {"mia": NOTHING, **SEEN}),
    Row("members:member", "get", "person_id", {"mia": NO_DOOR, **SEEN}),
    Row("members:suspend", "post", "member_id", {"mia": NO_DOOR, **DONE}),
    Row("members:move", "get", "member_id", {"mia": NO_DOOR, **SEEN}),
    Row("groups:group", "get", "group_id", {"mia": NO_DOOR, **SEEN}),
    Row("groups:edit", "get", "group_id", {"mia": NO_DOOR, **SEEN_ONLY}),
    Row("applications:application", "get", "application_id", {"mia": NO_DOOR, **SEEN}),
    Row("applications:edit", "get", "application_id", {"mia": NO_DOOR, **SEEN}),
    # What is bound above governs Sam's node, too, so it is seen there.
    Row("policies:policy", "get", "policy_id", {"mia": NO_DOOR, **SEEN, "sam": "200 200 404 200 404"}),
    Row("policies:edit", "get", "policy_id", {"mia": NO_DOOR, **SEEN_ONLY, "sam": "403 200 404 403 404"}),
    Row("audit:event", "get", "sequence", {"mia": NO_DOOR, **SEEN}),
    Row("guardrails_api:key", "get", "key_id", {"mia": NOTHING, **SEEN}),
    Row("guardrails_api:key", "patch", "key_id", {"mia": NOTHING, **SEEN}, {"name": "x"}),
    Row("guardrails_api:disable_key", "post", "key_id", {"mia": NOTHING, **SEEN}),
    Row("orgs_api:group", "get", "group_id", {"mia": "404 200 404 404 404", **SEEN}),
    Row("orgs_api:group", "patch", "group_id", {"mia": NO_DOOR, **BELOW}, {"kind": "x"}),
    Row("orgs_api:member", "get", "member_id", {"mia": NOTHING, **SEEN}),
    Row("orgs_api:suspend_member", "post", "member_id", {"mia": NO_DOOR, **SEEN}),
    # Keys name applications on their way up, so whoever makes keys below one sees it.
    Row(
        "orgs_api:application",
        "get",
        "application_id",
        {"mia": "200 200 404 200 404", **SEEN, "sam": "200 200 404 200 404"},
    ),
    Row("orgs_api:application", "patch", "application_id", {"mia": NO_DOOR, **SEEN}, {"name": "x"}),
    # Bound above a node it governs that node: it is seen there with its exceptions, which are the admin's above.
    Row("guardrails_api:override", "get", "override_id", dict.fromkeys(PEOPLE, "200 200 404 200 404") | {"alice": SEEN["alice"]}),
    Row(
        "guardrails_api:end_override",
        "post",
        "override_id",
        {"mia": NO_DOOR, **SEEN_ONLY, "sam": "403 200 404 403 404"},
    ),
    Row("orgs_api:event", "get", "sequence", {"mia": NO_DOOR, **SEEN}),
    # Somebody else's request is seen by whoever decides it.
    Row("guardrails_api:request", "get", "request_id", {"mia": NOTHING, **BELOW}),
    Row("guardrails_api:decline_request", "post", "request_id", {"mia": NO_DOOR, **BELOW}, {"answer": "Not now."}),
    Row("api:simulation", "get", "simulation_id", {"mia": NO_DOOR, **BELOW}),
    Row("api:cancel_simulation", "post", "simulation_id", {"mia": NO_DOOR, **BELOW}),
]


def things_at(world: World, place: str) -> dict[str, int]:
    """A group, an application, its service key with the event of its making, a member who has nothing else, a policy
    with an exception, a request, a simulation."""
    by, group = world.actor("charlie" if place == "other" else "alice"), world.group(PLACES[place])
    application = create_application(group, name=f"App {place}", by=by)
    key, _ = create_api_key(group, name=f"Key {place}", application=application, by=by)
    policy = create_policy(group.organization, name=f"Policy {place}", limits=[LimitSpec("rpm", "minute", 5)], by=by)
    bind(policy, subject=group, by=by)
    override = add_override(policy.limits.get(), subject=group, amount=1, until=timezone.now() + timedelta(days=1), by=by)
    event = AuditEvent.objects.get(object_type="apikey", object_id=str(key.pk))
    now = timezone.now()
    asked = Request.objects.create(
        organization=group.organization, kind="model", group=group, model=f"new-{place}", requested_by=by.user
    )
    tried = Simulation.objects.create(
        organization=group.organization,
        name=f"Trial {place}",
        proposal=msgspec.to_builtins(Proposal((), (), (Target("group", group.pk),))),
        group_ids=[group.pk],
        span="custom",
        starts_at=now - timedelta(days=1),
        ends_at=now,
        created_by=by.user,
    )
    member = add_member(make_user(f"{place}.{world.acme.pk}@example.test"), group=group, by=by)
    return {
        "group_id": group.pk,
        "application_id": application.pk,
        "key_id": key.pk,
        "member_id": member.pk,
        "person_id": member.user_id,
        "policy_id": policy.pk,
        "override_id": override.pk,
        "request_id": asked.pk,
        "simulation_id": tried.pk,
        # The same place in the chain of this organisation is another event.
        "sequence": event.sequence + (10**6 if place == "other" else 0),
    }


Things = dict[str, dict[str, int]]


@pytest.fixture(scope="module")
def things(lasting_world: World, django_db_blocker: DjangoDbBlocker) -> Things:
    with django_db_blocker.unblock():
        return {place: things_at(lasting_world, place) for place in PLACES}


@pytest.fixture
def world(lasting_world: World, things: Things, lasting_sessions: dict[str, str], db: None) -> World:
    """With all that stands in it, and its people signed in."""
    return deepcopy(lasting_world)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.name}")
def test_rights_over_a_thing_are_judged_where_it_stands(
    world: World, row: Row, things: Things, lasting_sessions: dict[str, str]
) -> None:
    assert {person: answers(world, lasting_sessions[person], row, things) for person in PEOPLE} == row.codes


def answers(world: World, session: str, row: Row, things: Things) -> str:
    client = with_session(session)
    body = {} if row.method == "get" else {"data": json.dumps(row.sent or {}), "content_type": "application/json"}
    codes = []
    for place in PLACES:
        url = reverse(row.name, kwargs={"org": world.acme.slug, row.thing: things[place][row.thing]})
        with transaction.atomic():
            codes.append(str(getattr(client, row.method)(url, **body).status_code))
            transaction.set_rollback(True)
    return " ".join(codes)


def test_the_same_things_asked_for_in_their_own_organisation_are_strangers_404s(world: World, things: Things) -> None:
    """The path names the other organisation: whoever does not belong to it gets no further than its door."""
    client = signed_in(world)
    for row in ROWS:
        if row.method == "get":
            url = reverse(row.name, kwargs={"org": world.other.slug, row.thing: things["other"][row.thing]})
            assert client.get(url).status_code == 404
