from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, connection, transaction

from orgs.actor import Actor
from orgs.audit_words import changes_of
from orgs.errors import NotAllowed, Refused
from orgs.models import AuditEvent, Group, Organization
from orgs.permissions import Permission
from orgs.services.changes import time_zones
from orgs.services.organizations import Settings, change_settings, create_organization, create_personal_account
from tests.actors import World, make_user

pytestmark = pytest.mark.django_db


def test_a_new_organisation_has_a_root_group_a_member_and_a_super_admin() -> None:
    alice = make_user("alice@example.test", name="Alice")
    acme = create_organization("  Acme   Robotics ", owner=alice)
    assert (acme.name, acme.slug, acme.kind, acme.time_zone) == ("Acme Robotics", "acme-robotics", "company", "UTC")
    assert (acme.root.name, acme.root.level, acme.root.parent) == ("Acme Robotics", 0, None)
    assert [membership.group for membership in acme.memberships.all()] == [acme.root]
    assert Actor.load(alice, organization=acme).role_label == "Super Admin"
    event = AuditEvent.objects.get(organization=acme)
    assert (event.action, event.actor, event.after) == ("organization.created", alice, {"name": acme.name, "kind": "company"})


def test_equal_names_get_different_addresses() -> None:
    alice = make_user("alice@example.test")
    slugs = {create_organization("Acme", owner=alice).slug for _ in range(3)}
    assert len(slugs) == 3
    assert all(slug.startswith("acme") for slug in slugs)


def test_a_name_without_latin_letters_has_an_address_too() -> None:
    assert create_organization("株式会社", owner=make_user("a@example.test")).slug == "organization"


@pytest.mark.parametrize("name", ["", "   ", "x" * 121, "bell\x07", "escape\x1b[0m"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(Refused) as refused:
        create_organization(name, owner=make_user("alice@example.test"))
    assert refused.value.field == "name"
    assert not Organization.objects.filter(name=name).exists()


def test_no_tree_moves_when_another_organisation_comes_or_is_renamed(world: World) -> None:
    """django-mptt would order all tenants' trees by name; each tree keeps its organisation's id instead."""
    create_organization("AAA comes first", owner=world.charlie)
    change_settings(world.other, name="A new name that would sort first", by=world.actor("charlie"))
    for group in Group.objects.all():
        assert group.tree_id == group.organization_id
    tree = {name: (world.group(name).lft, world.group(name).rght) for name in ("root", "engineering", "core", "field")}
    assert tree == {"root": (1, 14), "engineering": (2, 9), "core": (5, 6), "field": (11, 12)}


def test_everyone_has_one_personal_account_however_often_it_is_asked_for() -> None:
    mia = make_user("mia@example.test", name="Mia de la Cruz")
    first, second = create_personal_account(mia), create_personal_account(mia)
    assert first == second
    assert (first.name, first.slug, first.kind) == ("Mia de la Cruz", "mia-de-la-cruz", "personal")
    assert mia.memberships.count() == 1


def test_settings_are_changed_and_audited(world: World) -> None:
    name = world.acme.name
    changed = change_settings(
        world.acme, name="Acme Two", time_zone="Asia/Kathmandu", attribution_required=True, by=world.actor("alice")
    )
    assert (changed.name, changed.time_zone, changed.attribution_required) == ("Acme Two", "Asia/Kathmandu", True)
    assert changed.root.name == "Acme Two"
    event = AuditEvent.objects.get(organization=world.acme, action="organization.changed")
    assert event.before == {"name": name, "time_zone": "UTC", "attribution_required": False}
    assert event.after == {"name": "Acme Two", "time_zone": "Asia/Kathmandu", "attribution_required": True}


def test_settings_that_stay_as_they_are_leave_no_trace(world: World) -> None:
    change_settings(world.acme, name=world.acme.name, attribution_required=False, by=world.actor("alice"))
    assert not AuditEvent.objects.filter(organization=world.acme, action="organization.changed").exists()


def test_an_unknown_time_zone_is_refused(world: World) -> None:
    for name in ("Mars/Olympus", "../../etc/passwd", ""):
        with pytest.raises(Refused) as refused:
            change_settings(world.acme, time_zone=name, by=world.actor("alice"))
        assert refused.value.field == "time_zone"


@pytest.mark.parametrize("name", ["lena", "sam", "mia", "charlie"])
def test_settings_belong_to_super_admins(world: World, name: str) -> None:
    with pytest.raises(NotAllowed) as missing:
        change_settings(world.acme, name="Mine", by=world.actor(name))
    assert missing.value.permission is Permission.MANAGE_SETTINGS
    world.acme.refresh_from_db()
    assert world.acme.name.startswith("Acme")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("week_start", -1),
        ("week_start", 7),
        ("fiscal_month", 0),
        ("fiscal_month", 13),
        ("reset_hour", -1),
        ("reset_hour", 24),
        ("content_retention_hours", -1),
        ("content_retention_hours", 721),
        ("content_sample_percent", 0),
        ("content_sample_percent", 101),
    ],
)
def test_the_database_keeps_no_setting_that_makes_no_sense(world: World, field: str, value: int) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Organization.objects.filter(pk=world.acme.pk).update(**{field: value})


def test_with_zero_data_retention_no_contents_are_kept_whichever_is_set_first(world: World) -> None:
    alice = world.actor("alice")
    change_settings(world.acme, content_retention_hours=24, by=alice)
    for wanted, field in (
        ({"zdr_only": True}, "zdr_only"),
        ({"zdr_only": True, "content_retention_hours": 1}, "zdr_only"),
    ):
        with pytest.raises(Refused) as refused:
            change_settings(world.acme, by=alice, **wanted)
        assert refused.value.field == field
    with pytest.raises(IntegrityError), transaction.atomic():
        Organization.objects.filter(pk=world.acme.pk).update(zdr_only=True)

    change_settings(world.acme, zdr_only=True, content_retention_hours=0, by=alice)
    event = AuditEvent.objects.filter(organization=world.acme, action="organization.changed").latest("pk")
    assert event.before == {"zdr_only": False, "content_retention_hours": 24}
    assert event.after == {"zdr_only": True, "content_retention_hours": 0}
    assert [change.label for change in changes_of(event)] == ["Zero data retention only", "Content retention hours"]

    with pytest.raises(Refused) as later:
        change_settings(world.acme, content_retention_hours=1, by=alice)
    assert later.value.field == "content_retention_hours"
    change_settings(world.acme, zdr_only=False, content_retention_hours=1, by=alice)
    world.acme.refresh_from_db()
    assert (world.acme.zdr_only, world.acme.content_retention_hours) == (False, 1)


def test_the_calendar_and_the_switches_are_changed_and_audited(world: World) -> None:
    since = datetime(2026, 11, 20, 9, tzinfo=UTC)
    wanted: Settings = {
        "week_start": 6, "fiscal_month": 4, "reset_hour": 5, "admit_unguarded": True, "approval_since": since,
        "content_retention_hours": 720, "content_sample_percent": 30,
    }  # fmt: skip

    changed = change_settings(world.acme, by=world.actor("alice"), **wanted)

    assert {field: getattr(changed, field) for field in wanted} == wanted
    event = AuditEvent.objects.get(organization=world.acme, action="organization.changed")
    assert event.before == {
        "week_start": 0, "fiscal_month": 1, "reset_hour": 0, "admit_unguarded": False, "approval_since": None,
        "content_retention_hours": 0, "content_sample_percent": 100,
    }  # fmt: skip
    assert event.after == {**wanted, "approval_since": "2026-11-20T09:00:00+00:00"}


def test_what_is_not_given_stays_and_no_approval_is_a_value(world: World) -> None:
    alice = world.actor("alice")
    change_settings(world.acme, approval_since=datetime(2026, 11, 20, tzinfo=UTC), by=alice)
    change_settings(world.acme, reset_hour=5, by=alice)
    assert type(world.acme.approval_since) is datetime

    change_settings(world.acme, approval_since=None, by=alice)

    world.acme.refresh_from_db()
    found = Organization.objects.filter(pk=world.acme.pk, approval_since=None, reset_hour=5)
    assert found.exists()


@pytest.mark.parametrize(
    "wanted",
    [
        {"week_start": 7},
        {"week_start": -1},
        {"fiscal_month": 0},
        {"fiscal_month": 13},
        {"reset_hour": 24},
        {"reset_hour": -1},
        {"content_retention_hours": -1},
        {"content_retention_hours": 721},
        {"content_sample_percent": 0},
        {"content_sample_percent": 101},
    ],
)
def test_a_setting_out_of_its_bounds_is_refused(world: World, wanted: Settings) -> None:
    with pytest.raises(Refused) as refused:
        change_settings(world.acme, by=world.actor("alice"), **wanted)
    assert refused.value.field in wanted
    assert not AuditEvent.objects.filter(organization=world.acme, action="organization.changed").exists()


@pytest.mark.parametrize("name", ["localtime", "Factory"])
def test_a_zone_that_is_whatever_the_machine_says_is_refused(world: World, name: str) -> None:
    with pytest.raises(Refused):
        change_settings(world.acme, time_zone=name, by=world.actor("alice"))


def test_every_zone_that_may_be_chosen_is_known_to_the_database() -> None:
    zones = time_zones()
    assert len(zones) > 400
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(now() AT TIME ZONE name) FROM unnest(%s::text[]) AS name", [sorted(zones)])
        assert cursor.fetchone() == (len(zones),)
