import pytest
from django.db import DatabaseError, connection, transaction

from orgs.actor import Actor
from orgs.audit import audit
from orgs.errors import Refused
from orgs.models import AuditEvent, Group
from orgs.services.groups import create_group
from orgs.services.keys import create_api_key
from tests.actors import World, make_world


def test_an_event_names_who_what_and_from_where(world: World) -> None:
    alice = Actor.load(world.alice, organization=world.acme, ip="203.0.113.7")
    event = audit("thing.changed", by=alice, target=world.sales, before={"a": 1}, after={"a": ["b"]})
    event.refresh_from_db()
    assert (event.organization, event.actor, event.ip, event.action) == (world.acme, world.alice, "203.0.113.7", "thing.changed")
    assert (event.object_type, event.object_id, event.object_label) == ("group", str(world.sales.pk), "sales")
    assert (event.before, event.after) == ({"a": 1}, {"a": ["b"]})


@pytest.mark.parametrize("change", ["UPDATE orgs_auditevent SET action = 'x'", "DELETE FROM orgs_auditevent"])
def test_the_database_refuses_to_change_the_trail(world: World, change: str) -> None:
    count = AuditEvent.objects.count()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(change)
    assert AuditEvent.objects.count() == count > 0


def test_a_change_that_fails_leaves_no_event(world: World) -> None:
    count = AuditEvent.objects.count()
    with pytest.raises(Refused):
        create_group(world.core, name="too deep", by=world.actor("alice"))
    assert AuditEvent.objects.count() == count


def test_a_change_that_is_rolled_back_takes_its_event_along(world: World) -> None:
    count = AuditEvent.objects.count()
    with transaction.atomic():
        create_api_key(world.gateway, name="key", member=world.mia, by=world.actor("mia"))
        assert AuditEvent.objects.count() == count + 1
        transaction.set_rollback(True)
    assert AuditEvent.objects.count() == count


def test_an_event_is_written_only_inside_the_transaction_of_its_change(committed_db: None) -> None:
    world = make_world()
    with pytest.raises(RuntimeError, match="inside the transaction"):
        audit("thing.changed", by=world.actor("alice"), target=Group.objects.get(pk=world.sales.pk))
