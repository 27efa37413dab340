"""A key's name, attribution and end are changed, and its text is replaced, while the key stays the same."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from gateway_project.lib import lifespan
from gateway_project.lib.crypto import digest
from orgs import access
from orgs.access import KeyRefused, Principal
from orgs.errors import NotAllowed, Refused
from orgs.models import ApiKey, AuditEvent
from orgs.services.keys import create_api_key, edit_key, end_old_text, revoke_key, rotate_key
from tests.actors import World, make_world

HOUR = timedelta(hours=1)


def principals_of(*texts: str) -> list[Principal]:
    async def work() -> list[Principal]:
        try:
            return [await access.principal_of(text) for text in texts]
        finally:
            await lifespan.stop()

    return asyncio.run(work())


def refusal_of(text: str) -> KeyRefused:
    with pytest.raises(KeyRefused) as refused:
        principals_of(text)
    return refused.value


def as_it_is(key: ApiKey) -> ApiKey:
    return ApiKey.objects.get(pk=key.pk)


# --- a new text -----------------------------------------------------------------------------------


def test_both_texts_are_the_same_key_until_the_moment_chosen(committed_db: None) -> None:
    world = make_world()
    until = timezone.now() + HOUR
    key, new = rotate_key(world.key, by=world.actor("mia"), old_until=until)
    now, before = principals_of(new, world.key_text)
    assert new != world.key_text
    assert new.startswith(f"gh_sk_{world.key.public_id}_")
    assert now.key_id == before.key_id == world.key.pk
    assert (now.path, now.member_id) == (before.path, before.member_id)
    assert (now.replaced_at, before.replaced_at) == (None, until)
    assert key.prefix.endswith(new[-4:])
    assert key.has_two_texts


def test_a_worker_that_has_the_old_text_in_memory_refuses_it_at_its_moment(committed_db: None) -> None:
    world = make_world()
    until = timezone.now() + HOUR
    _, new = rotate_key(world.key, by=world.actor("mia"), old_until=until)
    now, before = principals_of(new, world.key_text)
    before.refuse_expired(until - timedelta(microseconds=1))
    with pytest.raises(KeyRefused) as refused:
        before.refuse_expired(until)
    assert refused.value.code == "key_expired"
    assert "has a new text" in str(refused.value)
    now.refuse_expired(until)


def test_without_grace_the_old_text_is_refused_at_once_and_a_second_rotation_ends_the_first(committed_db: None) -> None:
    world = make_world()
    mia = world.actor("mia")
    _, second = rotate_key(world.key, by=mia)
    assert refusal_of(world.key_text).code == "key_expired"
    _, third = rotate_key(world.key, by=mia, old_until=timezone.now() + HOUR)
    assert [found.key_id for found in principals_of(second, third)] == [world.key.pk] * 2
    assert refusal_of(world.key_text).code == "invalid_api_key"
    end_old_text(world.key, by=mia)
    assert refusal_of(second).code == "key_expired"
    assert principals_of(third)[0].key_id == world.key.pk


def test_what_is_wrong_with_the_key_is_wrong_with_both_texts(committed_db: None) -> None:
    world = make_world()
    _, new = rotate_key(world.key, by=world.actor("mia"), old_until=timezone.now() + HOUR)
    revoke_key(world.key, by=world.actor("sam"))
    assert {refusal_of(text).code for text in (new, world.key_text)} == {"key_revoked"}


@pytest.mark.parametrize("grace", [timedelta(0), timedelta(seconds=-1), timedelta(days=90, seconds=60)])
def test_a_moment_out_of_reach_changes_nothing(world: World, grace: timedelta) -> None:
    with pytest.raises(Refused) as refused:
        rotate_key(world.key, by=world.actor("mia"), old_until=timezone.now() + grace)
    assert refused.value.field == "old_until"
    assert bytes(as_it_is(world.key).digest) == digest(world.key_text)


@pytest.mark.parametrize("change", [rotate_key, end_old_text])
@pytest.mark.parametrize("name", ["noah", "charlie"])
def test_others_texts_are_left_alone(world: World, name: str, change: Any) -> None:
    with pytest.raises(NotAllowed):
        change(world.key, by=world.actor(name))
    assert bytes(as_it_is(world.key).digest) == digest(world.key_text)


def test_a_rotation_is_audited_without_a_secret(world: World) -> None:
    _, new = rotate_key(world.key, by=world.actor("sam"), old_until=timezone.now() + HOUR)
    end_old_text(world.key, by=world.actor("sam"))
    end_old_text(world.key, by=world.actor("sam"))  # nothing is left to end
    events = list(
        AuditEvent.objects.filter(organization=world.acme, object_type="apikey", object_id=str(world.key.pk)).order_by("pk")
    )
    assert [event.action for event in events[-2:]] == ["key.rotated", "key.old_text_ended"]
    assert events[-2].after["last_four"] == new[-4:]
    assert events[-2].after["old_last_four"] == world.key_text[-4:]
    assert not [event for event in events if new[20:-4] in str(event.after) or world.key_text[20:-4] in str(event.before)]


def test_a_deleted_key_gets_no_new_text(world: World) -> None:
    revoke_key(world.key, by=world.actor("mia"))
    with pytest.raises(Refused, match="deleted"):
        rotate_key(world.key, by=world.actor("mia"))


# --- name, attribution and end --------------------------------------------------------------------


def test_all_of_it_is_changed_at_once_and_audited_once(world: World) -> None:
    mia, end = world.actor("mia"), timezone.now() + HOUR
    wanted: dict[str, Any] = {"application": world.assistant, "environment": "staging", "features": ["search"]}
    edit_key(world.key, name=" new  name", by=mia, expires_at=end, **wanted)
    edit_key(world.key, name="new name", by=mia, expires_at=end, **wanted)
    key = as_it_is(world.key)
    assert (key.name, key.application, key.environment, key.features) == ("new name", world.assistant, "staging", ["search"])
    assert key.expires_at == end
    event = (
        AuditEvent.objects.filter(organization=world.acme, object_type="apikey", object_id=str(key.pk))
        .exclude(action="key.created")
        .get()
    )
    assert (event.action, event.before["name"], event.after["name"]) == ("key.expiry_set", "Mia's key", "new name")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": " "}, "name"),
        ({"environment": "staging"}, "application"),
        ({"expires_at": timezone.now() - HOUR}, "expires_at"),
    ],
)
def test_bad_values_change_nothing(world: World, wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as refused:
        edit_key(world.key, by=world.actor("mia"), **{"name": "x", **wrong})
    assert refused.value.field == field
    assert as_it_is(world.key).name == "Mia's key"


def test_a_service_key_stays_with_its_application(world: World) -> None:
    key, _ = create_api_key(world.platform, name="nightly", application=world.assistant, by=world.actor("sam"))
    edit_key(key, name="hourly", application=world.assistant, environment="production", by=world.actor("sam"))
    with pytest.raises(Refused, match="stays with its application"):
        edit_key(key, name="hourly", by=world.actor("sam"))
    assert as_it_is(key).environment == "production"


def test_an_end_that_an_admin_set_can_only_be_brought_nearer_by_the_member(world: World) -> None:
    def end(name: str, at: datetime | None) -> None:
        edit_key(world.key, name="Mia's key", by=world.actor(name), expires_at=at)

    now = timezone.now()
    end("mia", now + HOUR * 9)
    end("mia", None)  # her own end she may put off
    end("sam", now + HOUR * 4)
    end("mia", now + HOUR * 2)
    end("mia", now + HOUR * 4)
    for later in (now + HOUR * 5, None):
        with pytest.raises(Refused, match="An admin has set") as refused:
            end("mia", later)
        assert refused.value.field == "expires_at"
    end("sam", None)
    end("mia", now + HOUR * 9)
    assert as_it_is(world.key).expires_at == now + HOUR * 9
