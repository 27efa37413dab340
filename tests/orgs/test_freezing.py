"""The operator's brake: what it stops, what it leaves, who is told, and how it is undone."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from allauth.usersessions.models import UserSession
from django.core.exceptions import PermissionDenied
from django.db import connections, transaction
from django.test import Client

from gateway_project.lib import lifespan
from orgs import access, epoch
from orgs.access import KeyRefused
from orgs.actor import Actor
from orgs.audit import audit
from orgs.errors import Refused
from orgs.models import AuditEvent, AuditHead, Organization, User
from orgs.permissions import Permission
from orgs.services.applications import create_application
from orgs.services.freezing import Operator, freeze_organization, freeze_person, unfreeze_organization, unfreeze_person
from orgs.services.keys import create_api_key
from orgs.services.members import add_member
from orgs.services.organizations import create_organization, create_personal_account
from tests.actors import World, make_world, operator
from tests.orgs.test_sign_in import PASSWORD, browser
from tests.orgs.waiting import wait_until_somebody_waits


def code_of(key: str) -> str:
    """Says ok, or why the key is refused."""

    async def work() -> str:
        try:
            await access.principal_of(key)
        except KeyRefused as refused:
            return refused.code
        finally:
            await lifespan.stop()
        return "ok"

    return asyncio.run(work())


def epochs_of(organizations: list[Organization]) -> list[str]:
    async def work() -> list[str]:
        try:
            return [(await epoch.read(organization.pk)).value for organization in organizations]
        finally:
            await lifespan.stop()

    return asyncio.run(work())


def everywhere(world: World) -> tuple[list[Organization], list[str]]:
    """Mia with a key in each of three organisations, one of them a service key of her personal account."""
    charlie = world.actor("charlie")
    add_member(world.mia, group=world.other.root, by=charlie)
    _, elsewhere = create_api_key(world.other.root, name="elsewhere", member=world.mia, by=charlie)
    home = create_personal_account(world.mia)
    owner = Actor.load(world.mia, organization=home)
    program = create_application(home.root, name="Program", by=owner)
    _, service = create_api_key(home.root, name="service", application=program, by=owner)
    return [world.acme, world.other, home], [world.key_text, elsewhere, service]


def test_a_frozen_persons_keys_stop_everywhere_on_the_next_call_and_come_back(committed_db: None) -> None:
    world, by = make_world(), operator()
    organizations, keys = everywhere(world)
    create_organization("Apart", owner=world.charlie)
    before, bystander = (
        epochs_of(organizations),
        create_api_key(world.root, name="a", member=world.alice, by=world.actor("alice"))[1],
    )

    freeze_person(world.mia, reason="abuse", by=by)

    assert [code_of(key) for key in keys] == ["account_frozen"] * 3
    assert code_of(bystander) == "ok"
    # Every worker caches under the epoch: a fresh one makes it look again.
    frozen = epochs_of(organizations)
    assert all(now != then for now, then in zip(frozen, before, strict=True))

    unfreeze_person(world.mia, by=by)

    assert [code_of(key) for key in keys] == ["ok"] * 3
    assert all(now != then for now, then in zip(epochs_of(organizations), frozen, strict=True))


def test_a_frozen_organisation_stops_its_keys_only(committed_db: None) -> None:
    world, by = make_world(), operator()
    _, (inside, elsewhere, service) = everywhere(world)
    freeze_organization(world.acme, reason="unpaid", by=by)
    assert [code_of(key) for key in (inside, elsewhere, service)] == ["account_frozen", "ok", "ok"]
    unfreeze_organization(world.acme, by=by)
    assert code_of(inside) == "ok"


@pytest.mark.django_db
def test_sessions_end_and_signing_in_shows_why() -> None:
    client = browser()
    client.post("/accounts/signup/", {"email": "frozen.soon@example.test", "password1": PASSWORD, "password2": PASSWORD})
    person = User.objects.get(email="frozen.soon@example.test")
    home = Organization.objects.get(memberships__user=person)
    assert client.get(home.get_absolute_url()).status_code == 200
    assert UserSession.objects.filter(user=person).count() == 1
    by = operator()

    freeze_person(person, reason="abuse", by=by)

    assert client.get(home.get_absolute_url()).headers["location"].startswith("/accounts/login/")
    assert not UserSession.objects.filter(user=person).exists()
    again = browser()
    answer = again.post("/accounts/login/", {"login": person.email, "password": PASSWORD}, follow=True)
    assert "This account is frozen" in answer.content.decode()
    assert "sessionid" not in again.cookies or "_auth_user_id" not in again.session

    unfreeze_person(person, by=by)

    # The old session is over for good; a new one is a matter of signing in.
    assert client.get(home.get_absolute_url()).headers["location"].startswith("/accounts/login/")
    assert browser().post("/accounts/login/", {"login": person.email, "password": PASSWORD}).headers["location"] == "/"


def test_in_a_frozen_organisation_nobody_has_a_right_and_everyone_is_told(world: World) -> None:
    client = Client()
    client.force_login(world.alice)
    by = operator()
    freeze_organization(world.acme, reason="unpaid", by=by)

    answer = client.get(f"/o/{world.acme.slug}/settings/")

    assert answer.status_code == 403
    assert "is frozen" in answer.content.decode()
    assert "unpaid" not in answer.content.decode()
    frozen = Organization.objects.get(pk=world.acme.pk)
    actor = Actor.load(world.alice, organization=frozen)
    assert (actor.belongs, actor.memberships, actor.grants) == (True, (), ())
    assert not actor.can_anywhere(Permission.VIEW_OWN)
    unfreeze_organization(world.acme, by=by)
    assert client.get(f"/o/{world.acme.slug}/settings/").status_code == 200


def test_a_stranger_learns_nothing_of_a_frozen_organisation(world: World) -> None:
    freeze_organization(world.acme, reason="unpaid", by=operator())
    client = Client()
    client.force_login(world.charlie)
    assert client.get(f"/o/{world.acme.slug}/").status_code == 404


def test_every_trail_tells_of_it_and_only_the_persons_own_says_why(world: World) -> None:
    organizations, _ = everywhere(world)
    by = operator()
    freeze_person(world.mia, reason="abuse of Other's keys", by=by)
    freeze_person(world.mia, reason="again", by=by)
    unfreeze_person(world.mia, by=by)
    unfreeze_person(world.mia, by=by)

    events = AuditEvent.objects.filter(action__startswith="person.", object_id=str(world.mia.pk)).order_by("pk")
    assert [(event.organization_id, event.actor_id, event.action, event.after) for event in events] == [
        (one.pk, by.user.pk, action, {"reason": "abuse of Other's keys"} if has_reason else {})
        for action in ("person.frozen", "person.unfrozen")
        for one in sorted(organizations, key=lambda one: one.pk)
        for has_reason in [one.kind == "personal" and action == "person.frozen"]
    ]
    freeze_organization(world.acme, reason="unpaid", by=by)
    latest = AuditEvent.objects.filter(organization=world.acme).latest("pk")
    assert (latest.action, latest.after) == ("organization.frozen", {"reason": "unpaid"})


def test_what_was_given_inside_is_there_again_afterwards(world: World) -> None:
    by = operator()
    before = world.actor("sam")
    freeze_person(world.sam, reason="abuse", by=by)
    freeze_organization(world.acme, reason="unpaid", by=by)
    unfreeze_organization(world.acme, by=by)
    unfreeze_person(world.sam, by=by)
    after = world.actor("sam")
    assert (after.memberships, after.grants) == (before.memberships, before.grants)
    world.sam.refresh_from_db()
    assert (world.sam.is_active, world.sam.frozen_at, world.sam.frozen_reason) == (True, None, "")


@pytest.mark.parametrize("reason", ["", "   ", "x" * 201, "bell\x07"])
def test_it_needs_a_reason_that_can_be_read(world: World, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        freeze_person(world.mia, reason=reason, by=operator())
    assert refused.value.field == "reason"
    with pytest.raises(Refused):
        freeze_organization(world.acme, reason=reason, by=operator())
    assert User.objects.get(pk=world.mia.pk).is_active


def test_only_an_operator_may_and_not_on_itself(world: World) -> None:
    with pytest.raises(PermissionDenied):
        Operator(world.alice)
    by = operator()
    with pytest.raises(Refused, match="your own"):
        freeze_person(by.user, reason="oops", by=by)
    User.objects.filter(pk=by.user.pk).update(is_active=False)
    with pytest.raises(PermissionDenied):
        Operator(User.objects.get(pk=by.user.pk))


def test_a_personal_account_is_frozen_with_its_person_only(world: World) -> None:
    home, by = create_personal_account(world.mia), operator()
    with pytest.raises(Refused, match="with its person"):
        freeze_organization(home, reason="abuse", by=by)
    with pytest.raises(Refused, match="with its person"):
        unfreeze_organization(home, by=by)
    freeze_person(world.mia, reason="abuse", by=by)
    home.refresh_from_db()
    assert home.frozen_at
    unfreeze_person(world.mia, by=by)
    home.refresh_from_db()
    assert home.frozen_at is None


def test_a_person_who_is_just_being_denied_something_is_frozen_all_the_same(committed_db: None) -> None:
    """A denial holds the head of the trail, then the person by the event's row: the brake takes them in the same order."""
    world = make_world()

    def freeze() -> None:
        try:
            freeze_person(world.mia, reason="stolen password", by=operator())
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            AuditHead.objects.select_for_update().get(pk=world.acme.pk)
            freezing = pool.submit(freeze)
            wait_until_somebody_waits()
            audit("access.denied", by=world.actor("mia"), target=world.acme)
        freezing.result()
    assert not User.objects.get(pk=world.mia.pk).is_active
