"""One thing is called the same on all pages: what has become of a key or an invitation, and a day."""

from __future__ import annotations

from html import unescape

import pytest
from django.utils import timezone

from guardrails.services.bindings import bind
from guardrails.services.overrides import add_override
from guardrails.services.policies import LimitSpec, create_policy
from orgs.models import ApiKey
from orgs.services.invitations import invite, revoke_invitation
from orgs.services.keys import disable_key, revoke_key
from tests.actors import World, signed_in
from tests.orgs.test_console_tags import render

PILL = "</span>"


def page(world: World, path: str, name: str = "alice", *, root: bool = False) -> str:
    return unescape(signed_in(world, name).get(path if root else f"/o/{world.acme.slug}/{path}").content.decode())


@pytest.mark.parametrize(("state", "words"), [("active", "Active"), ("disabled", "Disabled"), ("revoked", "Deleted")])
def test_a_keys_state(world: World, state: str, words: str) -> None:
    key = world.key
    ApiKey.objects.filter(pk=key.pk).update(application=world.assistant)
    if state != "active":
        disable_key(key, by=world.actor("alice"))
    if state == "revoked":
        revoke_key(key, by=world.actor("alice"))
    keys = "keys/?status=revoked" if state == "revoked" else "keys/"
    places = {keys: "alice", f"keys/{key.pk}/": "alice"}
    if state != "revoked":  # elsewhere those that are gone are left out
        places |= {f"members/{world.mia.pk}/": "alice", f"applications/{world.assistant.pk}/": "alice", "": "mia"}
    for path, name in places.items():
        found = page(world, path, name)
        assert f">{words}{PILL}" in found, path
        assert f">{state}{PILL}" not in found, path


def test_an_invitation_that_was_taken_back_is_called_so(world: World) -> None:
    made = invite(world.root, email="new@example.test", by=world.actor("alice"))
    revoke_invitation(made, by=world.actor("alice"))
    found = page(world, "invitations/?status=all")
    assert f">Taken back{PILL}" in found
    assert "Revoked" not in found


def test_scopes_of_tokens_speak_of_invitations(world: World) -> None:
    found = page(world, "/tokens/", root=True)
    assert "Invitations" in found
    assert "> Invites" not in found


def test_every_pill_begins_with_a_capital() -> None:
    assert render('{% pill "not confirmed" "warn" %}') == '<span class="gh-pill" data-tone="warn">Not confirmed</span>'
    assert render('{% include "components/status.html" with text="<on>" tone="ok" %}').strip().endswith(">&lt;on&gt;</span>")


def test_a_day_in_a_history_is_written_as_elsewhere(world: World) -> None:
    policy = create_policy(world.acme, name="Team", limits=[LimitSpec("budget", "month", 5)], by=world.actor("alice"))
    bind(policy, subject=world.mia, by=world.actor("alice"))
    until = timezone.now().replace(year=2098, month=3, day=7, hour=9, minute=5)
    add_override(policy.limits.get(), subject=world.mia, amount=5, until=until, by=world.actor("alice"))
    assert ", until Mar 7, 2098, 09:05" in page(world, f"guardrails/{policy.pk}/history/")
