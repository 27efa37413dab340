"""Who is calling: from the header to the principal, and every reason to refuse a key."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from gateway_project.lib import lifespan
from gateway_project.lib.crypto import digest
from orgs import access
from orgs.access import KeyRefused, Node, Principal, bearer
from orgs.keys import new_key_text
from orgs.models import ApiKey, Application, Membership, Organization
from orgs.services.groups import archive_group, restore_group
from orgs.services.keys import create_api_key
from tests.actors import World, make_world

GOOD = "gh_sk_abcdef123456_" + "x" * 43


def principal_of(key: str) -> Principal:
    async def work() -> Principal:
        try:
            return await access.principal_of(key)
        finally:
            await lifespan.stop()

    return asyncio.run(work())


def code_of(key: str) -> str:
    with pytest.raises(KeyRefused) as caught:
        principal_of(key)
    assert key not in str(caught.value)
    return caught.value.code


@pytest.fixture
def world(committed_db: None) -> World:
    return make_world()


@pytest.mark.parametrize("header", [f"Bearer {GOOD}", f"bearer {GOOD}", f"BEARER {GOOD}", f"Bearer  {GOOD} "])
def test_a_bearer_header_holds_its_key(header: str) -> None:
    assert bearer(header) == GOOD


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        " ",
        "Bearer",
        "Bearer ",
        GOOD,
        f"Basic {GOOD}",
        f"Bearer{GOOD}",
        f"Bearer\t{GOOD}",
        f"Bearer {GOOD}\n{GOOD}",
        f"Bearer {GOOD} {GOOD}",
        f"Bearer Bearer {GOOD}",
        f"Bearer {GOOD},",
        f"Bearer {GOOD.upper()}",
        "Bearer sk-proj-abcdefghijklmnop",
        "Bearer gh_sk_abcdef123456_short",
        "Bearer gh_sk_ABCDEF123456_" + "x" * 43,
        "Bearer gh_sk_abcdef123456_" + "x" * 65,
        "Bearer gh_sk_abcdef123456_" + "x" * 42 + "é",
        "Bearer gh_sk_abcdef123456_" + "x" * 42 + "\x00",
        "Bearer gh_sk_abcdef123456_" + "٣" * 43,
        "Bearer " + "x" * 5000,
    ],
)
def test_any_other_header_is_no_key(header: str | None) -> None:
    with pytest.raises(KeyRefused) as caught:
        bearer(header)
    assert caught.value.code == "invalid_api_key"
    assert header is None or len(header) < 20 or header not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (None, "No API key was given"),
        (GOOD, "The word `Bearer` and a space are missing"),
        (f"Basic {GOOD}", "has to read `Bearer`, a space, and an API key"),
        ("Bearer gh_pat_abcdef123456_" + "x" * 43, "a personal access token, which opens /api/v1"),
        ("Bearer gh_scim_" + "x" * 43, "a directory's token, which opens /scim/v2"),
        ("Bearer sk-proj-abcdefghijklmnop", "A provider's own key opens nothing here"),
        ("Bearer ", "one begins with `gh_sk_`"),
        (GOOD[:30].replace("gh", "Bearer gh"), "no complete Gatehouse API key"),
    ],
)
def test_what_was_sent_in_its_place_is_named_and_never_quoted(header: str | None, words: str) -> None:
    with pytest.raises(KeyRefused, match=re.escape(words)) as caught:
        bearer(header)
    assert "xxx" not in str(caught.value)
    assert "abcdef" not in str(caught.value)


def test_every_key_that_is_made_can_be_read() -> None:
    for _ in range(50):
        text = new_key_text().text
        assert bearer(f"Bearer {text}") == text


def test_a_key_is_its_member_in_its_place(world: World) -> None:
    _, text = create_api_key(
        world.gateway,
        name="script",
        member=world.mia,
        application=world.assistant,
        environment="production",
        features=["chat", "search"],
        by=world.actor("mia"),
    )
    found = principal_of(text)

    assert (found.organization_id, found.organization_name, found.time_zone) == (world.acme.pk, world.acme.name, "UTC")
    assert found.path == (
        Node(world.root.pk, 0, world.root.name),
        Node(world.engineering.pk, 1, "engineering"),
        Node(world.platform.pk, 2, "platform"),
        Node(world.gateway.pk, 3, "gateway"),
    )
    assert (found.member_id, found.member_name, found.key_name) == (world.mia.pk, "Mia", "script")
    assert (found.application_id, found.application_name) == (world.assistant.pk, "Assistant")
    assert (found.environment, found.features, found.expires_at) == ("production", ("chat", "search"), None)
    assert not found.attribution_required


def test_a_service_key_has_no_member(world: World) -> None:
    _, text = create_api_key(world.platform, name="nightly", application=world.assistant, by=world.actor("sam"))
    found = principal_of(text)
    assert (found.member_id, found.member_name, [node.level for node in found.path]) == (None, "", [0, 1, 2])


def test_a_key_of_the_root_has_a_path_of_one(world: World) -> None:
    _, text = create_api_key(world.group("root"), name="top", member=world.alice, by=world.actor("alice"))
    assert [node.level for node in principal_of(text).path] == [0]


def suspend(user: str, group: str) -> Callable[[World], Any]:
    def change(world: World) -> None:
        Membership.objects.update_or_create(
            user=getattr(world, user),
            group=getattr(world, group),
            defaults={"organization": world.acme, "suspended_at": timezone.now()},
        )

    return change


def of_key(**fields: Any) -> Callable[[World], Any]:
    return lambda world: ApiKey.objects.filter(pk=world.key.pk).update(**fields)


def freeze(world: World) -> None:
    world.mia.is_active = False
    world.mia.save()


PAST = datetime(2020, 1, 1, tzinfo=UTC)
REFUSALS: dict[str, tuple[Callable[[World], Any], str]] = {
    "revoked": (of_key(revoked_at=PAST), "key_revoked"),
    "revoked and disabled": (of_key(revoked_at=PAST, disabled_at=PAST), "key_revoked"),
    "disabled": (of_key(disabled_at=PAST), "key_disabled"),
    "disabled and expired": (of_key(disabled_at=PAST, expires_at=PAST), "key_disabled"),
    "expired": (of_key(expires_at=PAST), "key_expired"),
    "its member is frozen": (freeze, "account_frozen"),
    "its organisation is frozen": (
        lambda world: Organization.objects.filter(pk=world.acme.pk).update(frozen_at=PAST),
        "account_frozen",
    ),
    "its member is suspended": (suspend("mia", "gateway"), "account_frozen"),
    "its member is suspended above": (suspend("mia", "engineering"), "account_frozen"),
    "its member is suspended at the root": (suspend("mia", "root"), "account_frozen"),
    "its member has left": (
        lambda world: Membership.objects.filter(user=world.mia, organization=world.acme).delete(),
        "account_frozen",
    ),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_key_is_refused_with_the_code_of_its_reason(world: World, reason: str) -> None:
    change, code = REFUSALS[reason]
    assert principal_of(world.key_text).key_id == world.key.pk
    change(world)
    assert code_of(world.key_text) == code


@pytest.mark.parametrize("group", ["sales", "core"])
def test_a_suspension_elsewhere_does_not_reach_the_key(world: World, group: str) -> None:
    suspend("mia", group)(world)
    assert principal_of(world.key_text).member_id == world.mia.pk


def test_a_suspension_in_another_organisation_does_not_reach_the_key(world: World) -> None:
    Membership.objects.create(user=world.mia, organization=world.other, group=world.other.root, suspended_at=timezone.now())
    assert principal_of(world.key_text).member_id == world.mia.pk


def test_a_key_of_an_archived_application_is_refused(world: World) -> None:
    _, text = create_api_key(world.platform, name="nightly", application=world.assistant, by=world.actor("sam"))
    Application.objects.filter(pk=world.assistant.pk).update(archived_at=timezone.now())
    assert code_of(text) == "key_disabled"


@pytest.mark.parametrize("group", ["gateway", "platform", "engineering"])
def test_a_key_in_or_below_an_archived_group_is_refused(world: World, group: str) -> None:
    archive_group(world.group(group), by=world.actor("alice"))
    with pytest.raises(KeyRefused, match=f"The group {group}, .* is archived") as caught:
        principal_of(world.key_text)
    assert caught.value.code == "key_disabled"
    restore_group(world.group(group), by=world.actor("alice"))
    assert principal_of(world.key_text).key_id == world.key.pk


def test_an_archived_group_beside_or_below_stops_nothing(world: World) -> None:
    for group in (world.sales, world.core):
        archive_group(group, by=world.actor("alice"))
    assert principal_of(world.key_text).key_id == world.key.pk


@pytest.mark.parametrize("text", [GOOD, "", "gh_sk_", "'; DROP TABLE orgs_apikey; --"])
def test_a_key_that_does_not_exist_is_invalid(world: World, text: str) -> None:
    with pytest.raises(KeyRefused) as caught:
        principal_of(text)
    assert caught.value.code == "invalid_api_key"


def test_neither_public_id_nor_digest_is_a_key(world: World) -> None:
    for text in (world.key.public_id, bytes(world.key.digest).hex(), world.key_text[:-1], world.key_text + "x"):
        assert code_of(text) == "invalid_api_key"


def test_the_organisation_of_a_key_is_told_even_if_it_is_refused(world: World) -> None:
    """Its epoch must be known before anything else of it is read."""
    ApiKey.objects.filter(pk=world.key.pk).update(revoked_at=PAST)

    async def work() -> int:
        try:
            with pytest.raises(KeyRefused):
                await access.organization_of(GOOD)
            return await access.organization_of(world.key_text)
        finally:
            await lifespan.stop()

    assert asyncio.run(work()) == world.acme.pk


def test_a_cached_principal_expires_at_its_moment(world: World) -> None:
    moment = timezone.now() + timedelta(hours=1)
    ApiKey.objects.filter(pk=world.key.pk).update(expires_at=moment)
    found = principal_of(world.key_text)

    found.refuse_expired(moment - timedelta(microseconds=1))
    with pytest.raises(KeyRefused) as caught:
        found.refuse_expired(moment)
    assert caught.value.code == "key_expired"


def test_only_a_digest_of_the_key_is_kept(world: World) -> None:
    secret = world.key_text.rsplit("_", 1)[1]
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(k)::text, digest FROM orgs_apikey k WHERE id = %s", [world.key.pk])
        row, kept = cursor.fetchone()
    assert secret not in row
    assert secret[:-4] not in row
    assert bytes(kept) == digest(world.key_text)
    assert len(bytes(kept)) == 32


def test_a_principal_brings_its_organisations_calendar_and_switches(world: World) -> None:
    plain = principal_of(world.key_text)
    assert (plain.week_start, plain.fiscal_month, plain.reset_hour) == (0, 1, 0)
    assert (plain.admit_unguarded, plain.approval_since, plain.content_retention_hours) == (False, None, 0)

    chosen = {"week_start": 6, "fiscal_month": 4, "reset_hour": 5, "admit_unguarded": True, "approval_since": PAST}
    chosen |= {"zdr_only": True, "content_sample_percent": 30}
    Organization.objects.filter(pk=world.acme.pk).update(**chosen)

    found = principal_of(world.key_text)
    assert {name: getattr(found, name) for name in chosen} == chosen

    Organization.objects.filter(pk=world.acme.pk).update(zdr_only=False, content_retention_hours=24)
    assert principal_of(world.key_text).content_retention_hours == 24
