"""Denials in the audit trail, through a door. The pages stand in door_urls.py."""

import pytest
from django.db import transaction
from django.test import Client

from gateway_project.lib import redis
from orgs import denials
from orgs.errors import NotAllowed
from orgs.models import AuditEvent
from orgs.permissions import Permission
from orgs.verification import verify_organization
from tests.actors import World

pytestmark = pytest.mark.urls("tests.orgs.door_urls")


def denied(world: World) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(organization=world.acme, action="access.denied").order_by("sequence"))


def visit(world: World, name: str, path: str) -> int:
    client = Client(REMOTE_ADDR="203.0.113.9", HTTP_USER_AGENT="Firefox/140")
    client.force_login(getattr(world, name))
    return client.get(f"/o/{world.acme.slug}/doors/{path}").status_code


def test_a_denial_says_who_was_refused_what_and_where(world: World) -> None:
    assert visit(world, "mia", "guardrails/") == 403
    [event] = denied(world)
    assert (event.actor, event.ip, event.agent, event.group) == (world.mia, "203.0.113.9", "Firefox/140", world.gateway)
    path = f"/o/{world.acme.slug}/doors/guardrails/"
    assert event.after == {"permission": "manage_guardrails", "method": "GET", "path": path}
    assert verify_organization(world.acme).faults == []


def test_a_permission_that_is_missing_at_a_node_is_recorded_there(world: World) -> None:
    assert visit(world, "sam", "strict/") == 403
    [event] = denied(world)
    assert (event.object_type, event.group) == ("group", world.acme.root)


def test_what_is_allowed_or_absent_leaves_nothing(world: World) -> None:
    assert [visit(world, "alice", "guardrails/"), visit(world, "charlie", "guardrails/")] == [200, 404]
    assert denied(world) == []


def test_asking_again_and_again_fills_nothing(world: World) -> None:
    for _ in range(5):
        visit(world, "mia", "guardrails/")
        visit(world, "noah", "guardrails/")
    assert [event.actor for event in denied(world)] == [world.mia, world.noah]


def test_an_hour_has_a_bound_for_all_kinds_of_denials_together(world: World) -> None:
    sam, groups = world.actor("sam"), [world.root, world.engineering, world.platform, world.sales, world.field]
    missing = [NotAllowed(permission, group=group) for permission in Permission for group in groups]
    assert len(missing) > denials.MOST_PER_HOUR
    for one in missing:
        with transaction.atomic():
            denials.record_denial(one, by=sam, method="GET", path="/" + "x" * 999)
    found = denied(world)
    assert len(found) == denials.MOST_PER_HOUR
    assert len(found[0].after["path"]) == denials.PATH_LENGTH
    redis.client().delete(f"gh:denied:{world.acme.pk}:{sam.user.pk}")
    denials.record_denial(NotAllowed(Permission.VIEW_AUDIT), by=sam, method="GET", path="/")
    assert len(denied(world)) == denials.MOST_PER_HOUR + 1
