import threading

import pytest
from django.db import DatabaseError, connection, connections, transaction

from orgs.actor import Actor
from orgs.audit import Value, audit
from orgs.errors import Refused
from orgs.models import AuditEvent, Group
from orgs.origin import clean_agent, clean_ip
from orgs.permissions import RoleName
from orgs.services.groups import create_group
from orgs.services.keys import create_api_key
from orgs.verification import verify_organization
from tests.actors import World, make_world


def test_an_event_names_who_what_and_from_where(world: World) -> None:
    alice = Actor.load(world.alice, organization=world.acme, ip="203.0.113.7", agent="curl/8")
    event = audit("thing.changed", by=alice, target=world.sales, before={"a": 1}, after={"a": ["b"]})
    event.refresh_from_db()
    assert (event.organization, event.actor, event.ip, event.action) == (world.acme, world.alice, "203.0.113.7", "thing.changed")
    assert (event.object_type, event.object_id, event.object_label) == ("group", str(world.sales.pk), "sales")
    assert (event.before, event.after) == ({"a": 1}, {"a": ["b"]})
    assert (event.group, event.agent) == (world.sales, "curl/8")


def test_an_event_is_about_the_node_of_its_target_unless_another_is_named(world: World) -> None:
    alice = world.actor("alice")
    targets = {world.key: world.gateway, world.assistant: world.platform, world.acme: None}
    assert {target: audit("thing.seen", by=alice, target=target).group for target in targets} == targets
    assert audit("thing.seen", by=alice, target=world.acme, group=world.field).group == world.field


def test_facts_are_kept_as_the_column_gives_them_back(world: World) -> None:
    """Or the hash of what is read again would not be the one that was written."""
    facts: dict[str, Value] = {"role": RoleName.ADMIN, "list": ["b", "a"], "amount": 2**60, "none": None}
    event = audit("thing.changed", by=world.actor("alice"), target=world.sales, after=facts)
    written = event.facts()
    event.refresh_from_db()
    assert event.facts() == written


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("curl/8.5", "curl/8.5"),
        ("  a\tb\x00c\r\nd  ", "a b c d"),
        ("x" * 5000, "x" * 200),
        ("", ""),
    ],
)
def test_an_agent_is_one_line_of_bounded_length(sent: str, kept: str) -> None:
    assert clean_agent(sent) == kept


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("unix:", None),
        ("", None),
    ],
)
def test_an_address_has_one_spelling(sent: str, kept: str | None) -> None:
    assert clean_ip(sent) == kept


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


def test_events_at_once_stand_one_behind_the_other(committed_db: None) -> None:
    world = make_world()
    begin = threading.Barrier(4)

    def write(name: str) -> None:
        try:
            begin.wait(30)
            for _ in range(3):
                with transaction.atomic():
                    audit("thing.changed", by=world.actor(name), target=world.other)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=write, args=(name,)) for name in ("alice", "lena", "sam", "mia")]
    count = len(_events(world))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [event.sequence for event in _events(world)] == list(range(1, count + 13))
    assert verify_organization(world.acme).faults == []


def _events(world: World) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(organization=world.acme).order_by("sequence"))
