"""What somebody else, or time, does to what is one's own is told by mail: rotated and deleted keys, proofs of domains."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.core import mail
from django.utils import timezone

from gateway_project.lib.formatting import minute_words
from orgs.actor import Actor
from orgs.permissions import RoleName
from orgs.services import domains
from orgs.services.freezing import freeze_person
from orgs.services.keys import create_api_key, revoke_key, rotate_key
from orgs.services.members import grant_role
from orgs.sso_models import Domain
from orgs.tasks import tell_of_domain, tell_of_key_change
from tests.actors import World, operator
from tests.orgs.name_server import NameServer
from tests.orgs.sso_world import verified_domain

Capture = Callable[[], AbstractContextManager[list[Any]]]
TASKS: dict[str, Callable[..., bool]] = {
    "orgs.tasks.tell_of_key_change": tell_of_key_change,
    "orgs.tasks.tell_of_domain": tell_of_domain,
}


def handed_over(committed: list[Any]) -> list[tuple[Any, ...]]:
    """The tasks that would run, with what they are given."""
    return [one.args for one in committed if isinstance(one, partial) and one.args and one.args[0] in TASKS]


def sent(committed: list[Any]) -> list[Any]:
    """Their mails."""
    for task, *about in handed_over(committed):
        TASKS[task](*about)
    return mail.outbox


def html_of(message: Any) -> str:
    return str(message.alternatives[0][0])


@pytest.mark.parametrize("grace", [timedelta(days=2), None])
def test_a_member_is_told_who_rotated_its_key_and_until_when_the_old_text_works(
    world: World, django_capture_on_commit_callbacks: Capture, grace: timedelta | None
) -> None:
    until = timezone.now() + grace if grace else None
    with django_capture_on_commit_callbacks() as committed:
        _, text = rotate_key(world.key, by=world.actor("sam"), old_until=until)
    [told] = sent(committed)
    assert (told.to, told.subject) == ([world.mia.email], "Sam rotated your API key “Mia's key”")
    body = " ".join(told.body.split())
    assert (f"works until {minute_words(until)} UTC" if until else "no longer works") in body
    assert f"/o/{world.acme.slug}/keys/{world.key.pk}/" in told.body
    assert "Mia&#x27;s key" in html_of(told)
    assert text not in str(told.message())


def test_a_member_is_told_who_deleted_its_key(world: World, django_capture_on_commit_callbacks: Capture) -> None:
    with django_capture_on_commit_callbacks() as committed:
        revoke_key(world.key, by=world.actor("sam"))
    [told] = sent(committed)
    assert (told.to, told.subject) == ([world.mia.email], "Sam deleted your API key “Mia's key”")
    assert "cannot be brought back" in " ".join(told.body.split())
    assert "See your keys" in html_of(told)


def test_nobody_is_told_what_it_did_itself_or_of_a_key_that_is_nobodys(
    world: World, django_capture_on_commit_callbacks: Capture
) -> None:
    service, _ = create_api_key(world.platform, name="Service", application=world.assistant, by=world.actor("sam"))
    with django_capture_on_commit_callbacks() as committed:
        rotate_key(world.key, by=world.actor("mia"))
        revoke_key(world.key, by=world.actor("mia"))
        rotate_key(service, by=world.actor("lena"))
        revoke_key(service, by=world.actor("lena"))
    assert handed_over(committed) == []


def test_a_command_is_named_as_the_operators(world: World, django_capture_on_commit_callbacks: Capture) -> None:
    with django_capture_on_commit_callbacks() as committed:
        revoke_key(world.key, by=Actor.of_command("manage.py org", organization=world.acme))
    assert sent(committed)[0].subject == "An operator deleted your API key “Mia's key”"


def looked_at(domain: Domain, names: NameServer, *, found: bool = False) -> None:
    """As the hourly run does, with the record there or gone."""
    domain.refresh_from_db()
    names.records[domain.name] = [domain.txt_record] if found else ["v=spf1 -all"]
    domains.recheck(domain)


def test_super_admins_are_told_when_a_record_is_gone_and_when_the_proof_lapses(
    world: World, names: NameServer, django_capture_on_commit_callbacks: Capture
) -> None:
    for user in (world.sam, world.noah):
        grant_role(user, role=RoleName.ADMIN, group=world.root, by=world.actor("alice"))
    freeze_person(world.noah, reason="Left", by=operator())
    domain = verified_domain(world.acme, world.alice)
    with django_capture_on_commit_callbacks() as first:
        looked_at(domain, names)
        looked_at(domain, names)
    told = list(sent(first))
    assert sorted(one.to[0] for one in told) == sorted([world.alice.email, world.sam.email])
    assert {one.subject for one in told} == {f"The DNS record of {domain} is gone"}
    domain.refresh_from_db()
    assert domain.lapses_at is not None
    for text in (domain.txt_record, f"{minute_words(domain.lapses_at)} UTC", f"/o/{world.acme.slug}/security/domains/"):
        assert text in " ".join(told[0].body.split())
        assert text in html_of(told[0])

    mail.outbox.clear()
    Domain.objects.filter(pk=domain.pk).update(missing_since=timezone.now() - timedelta(days=8))
    with django_capture_on_commit_callbacks() as second:
        looked_at(domain, names)
    told = sent(second)
    assert sorted(one.to[0] for one in told) == sorted([world.alice.email, world.sam.email])
    assert {one.subject for one in told} == {f"{domain} no longer counts as verified"}


def test_what_is_no_longer_so_is_not_told(world: World, names: NameServer, django_capture_on_commit_callbacks: Capture) -> None:
    domain = verified_domain(world.acme, world.alice)
    with django_capture_on_commit_callbacks() as committed:
        looked_at(domain, names)
    looked_at(domain, names, found=True)
    assert sent(committed) == []
    looked_at(domain, names)
    assert not tell_of_domain(domain.pk, world.mia.pk)
    assert tell_of_domain(domain.pk, world.alice.pk)
