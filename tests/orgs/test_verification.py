"""The chain in the database: written by the services, tampered with past the guards, verified by the command."""

import importlib
import itertools
from collections.abc import Iterator
from copy import deepcopy
from io import StringIO

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from pytest_django.plugin import DjangoDbBlocker
from structlog.testing import capture_logs

from gateway_project.lib import findings, redis
from orgs.audit import audit_as
from orgs.chain import GENESIS, link
from orgs.models import AuditCheck, AuditEvent, AuditHead
from orgs.origin import Origin
from orgs.services.groups import create_group
from orgs.tasks import verify_audit
from orgs.verification import verify_all, verify_organization
from tests.actors import World, make_world_by_services
from tests.world import lasting


@pytest.fixture(scope="module")
def written(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[World]:
    """With the events that the services wrote as they made it."""
    with lasting(make_world_by_services, django_db_blocker) as world:
        yield world


@pytest.fixture
def world(written: World, db: None) -> World:
    return deepcopy(written)


HEAD, EVENTS = "orgs_audithead", "orgs_auditevent"


def past_the_guards(statement: str, *parameters: int) -> None:
    """As someone would who owns the database."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for table in (HEAD, EVENTS):
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        cursor.execute(statement, parameters)
        for table in (HEAD, EVENTS):
            cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


def faults(world: World) -> list[int]:
    return [fault.sequence for fault in verify_organization(world.acme).faults]


def events(world: World) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(organization=world.acme).order_by("sequence"))


def test_the_events_of_an_organisation_are_one_chain(world: World) -> None:
    found = events(world)
    assert [event.sequence for event in found] == list(range(1, len(found) + 1))
    assert [event.at for event in found] == sorted(event.at for event in found)
    assert found[0].hash == link(GENESIS, found[0].facts())
    assert all(later.hash == link(event.hash, later.facts()) for event, later in itertools.pairwise(found))
    assert str(AuditHead.objects.get(pk=world.acme.pk)) == f"{len(found)}:{found[-1].hash}"
    assert faults(world) == []


@pytest.mark.parametrize(
    ("statement", "at"),
    [
        ("UPDATE orgs_auditevent SET action = 'x' WHERE organization_id = %s AND sequence = 3", [3]),
        ("UPDATE orgs_auditevent SET actor_id = NULL WHERE organization_id = %s AND sequence = 1", [1]),
        ("UPDATE orgs_auditevent SET after = '{}' WHERE organization_id = %s AND sequence = 2", [2]),
        ("UPDATE orgs_auditevent SET at = at + interval '1 microsecond' WHERE organization_id = %s AND sequence = 2", [2]),
        ("UPDATE orgs_auditevent SET agent = 'x', ip = '::1' WHERE organization_id = %s AND sequence = 4", [4]),
        ("DELETE FROM orgs_auditevent WHERE organization_id = %s AND sequence IN (3, 4)", [3]),
        ("UPDATE orgs_auditevent SET sequence = -sequence WHERE organization_id = %s AND sequence = 2", [-2, 2]),
    ],
)
def test_a_row_that_was_changed_removed_or_moved_is_found(world: World, statement: str, at: list[int]) -> None:
    past_the_guards(statement, world.acme.pk)
    assert faults(world) == at


def test_each_day_all_chains_are_verified_and_a_broken_one_is_an_error_in_the_log(world: World) -> None:
    elsewhere = verify_audit()
    assert AuditCheck.objects.get(pk=world.acme.pk).event_count == len(events(world))
    past_the_guards("UPDATE orgs_auditevent SET action = 'x' WHERE organization_id = %s AND sequence = 3", world.acme.pk)
    with capture_logs() as lines:
        assert verify_audit() == elsewhere + 1
    [line] = [line for line in lines if line.get("organization") == world.acme.name]
    assert (line["log_level"], line["event"], line["faults"]) == ("error", "audit_chain_broken", 1)
    assert redis.client().hget(findings.NAME, findings.FAULTS) == str(elsewhere + 1).encode()
    assert AuditCheck.objects.get(pk=world.acme.pk).fault_count == 1


def test_the_last_row_is_missed_too(world: World) -> None:
    count = len(events(world))
    past_the_guards("DELETE FROM orgs_auditevent WHERE organization_id = %s AND sequence = %s", world.acme.pk, count)
    assert faults(world) == [count]
    past_the_guards("DELETE FROM orgs_audithead WHERE chain = %s", world.acme.pk)
    assert faults(world) == [1]


def test_an_event_that_is_put_into_another_organisation_is_missed_here_and_seen_there(world: World) -> None:
    moved = events(world)[-1]
    past_the_guards("UPDATE orgs_auditevent SET organization_id = %s WHERE id = %s", world.other.pk, moved.pk)
    assert faults(world) == [moved.sequence]
    assert verify_organization(world.other).faults


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE orgs_auditevent",
        "TRUNCATE orgs_audithead",
        "DELETE FROM orgs_audithead",
        "UPDATE orgs_audithead SET hash = 'x'",
        "UPDATE orgs_audithead SET sequence = sequence - 1",
        "UPDATE orgs_audithead SET chain = -chain, sequence = sequence + 1",
    ],
)
def test_the_database_guards_trail_and_head(world: World, statement: str) -> None:
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET CONSTRAINTS ALL IMMEDIATE; {statement}")
    assert faults(world) == []


def test_what_concerns_no_organisation_is_a_chain_of_its_own(world: World) -> None:
    before = AuditHead.objects.filter(pk=0).first() or AuditHead(chain=0)
    origin = Origin("::ffff:203.0.113.7", "curl/8")
    with transaction.atomic():
        event = audit_as(world.mia, "session.started", organization=None, origin=origin, target=world.mia)
        audit_as(None, "installation.upgraded", organization=None, target=world.mia, after={"version": "2"})
    event.refresh_from_db()
    assert (event.sequence, event.organization, event.group) == (before.sequence + 1, None, None)
    assert (event.ip, event.agent, event.hash) == ("203.0.113.7", "curl/8", link(before.hash, event.facts()))
    assert [verdict.faults for verdict in verify_all() if verdict.chain in (0, world.acme.pk)] == [[], []]


def test_the_command_prints_each_chain_and_its_head(world: World) -> None:
    out = StringIO()
    call_command("verify_audit", org=world.acme.slug, stdout=out)
    head = str(AuditHead.objects.get(pk=world.acme.pk))
    assert out.getvalue().split() == [*world.acme.name.split(), head.partition(":")[0], "events", "ok", head]
    check = AuditCheck.objects.get(pk=world.acme.pk)
    assert (check.event_count, check.fault_count, check.first_fault) == (len(events(world)), 0, "")


def test_the_command_fails_where_a_row_was_touched(world: World) -> None:
    noted = str(AuditHead.objects.get(pk=world.acme.pk))
    create_group(world.sales, name="more", by=world.actor("alice"))
    call_command("verify_audit", "--org", world.acme.slug, "--head", noted, stdout=StringIO())
    out = StringIO()
    past_the_guards("UPDATE orgs_auditevent SET action = 'x' WHERE organization_id = %s AND sequence = 2", world.acme.pk)
    with pytest.raises(CommandError, match="not what was written"):
        call_command("verify_audit", stdout=out)
    assert "event 2 was changed or moved" in out.getvalue()
    assert AuditCheck.objects.get(pk=world.acme.pk).first_fault.startswith("event 2 was changed")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--org", "no-such-place"], "no organisation"),
        (["--head", f"3:{'0' * 64}"], "name it with --org"),
        (["--org", "x", "--head", "3:zz"], "a head is"),
    ],
)
def test_the_command_says_what_it_cannot_do(db: None, arguments: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        call_command("verify_audit", *arguments, stdout=StringIO())


def test_the_migration_chains_what_was_there(world: World) -> None:
    """Rows as they stood before it: without place, hash and group."""
    written = [(event.sequence, event.hash, event.group_id) for event in events(world)]
    # Far from the places there are: each row's is checked as it changes.
    past_the_guards("UPDATE orgs_auditevent SET sequence = id + 1000000, hash = '', group_id = NULL")
    past_the_guards("DELETE FROM orgs_audithead")
    migration = importlib.import_module("orgs.migrations.0009_audit_chain")
    with connection.cursor() as cursor:
        cursor.execute(migration.OPEN)
        migration.chain(apps, None)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(migration.CLOSE)
    found = events(world)
    assert [event.sequence for event in found] == [place for place, _, _ in written]
    assert {event.group_id for event in found} >= {world.platform.pk, world.gateway.pk}
    assert faults(world) == []
