"""A directory deactivates a person: keys stop at the next call, in this organisation and in no other."""

from __future__ import annotations

from typing import Any

import pytest

from orgs.errors import Refused
from orgs.models import Membership, User
from orgs.services.keys import create_api_key
from orgs.services.members import add_member, resume_member
from tests.actors import make_world
from tests.orgs.scim.directory import USER, connect, nodes_of
from tests.orgs.test_freezing import code_of, epochs_of


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "value": {"active": False}},  # Okta
        {"op": "Replace", "path": "active", "value": "False"},  # Entra
        {"op": "replace", "path": f"{USER}:active", "value": False},
        "put",
    ],
)
def test_a_deactivated_person_stops_here_at_the_next_call_and_nowhere_else(
    committed_db: None, operation: dict[str, Any] | str
) -> None:
    world = make_world()
    scim = connect(world, group=world.field)
    charlie, alice = world.actor("charlie"), world.actor("alice")
    add_member(world.mia, group=world.other.root, by=charlie)
    _, elsewhere = create_api_key(world.other.root, name="elsewhere", member=world.mia, by=charlie)
    made = scim.user(world.mia.email)
    held = Membership.objects.get(user=world.mia, group=world.gateway)
    before = epochs_of([world.acme])

    if isinstance(operation, str):
        stopped = scim("PUT", f"Users/{made['id']}", {**made.json, "active": False})
    else:
        stopped = scim.patch(f"Users/{made['id']}", operation)

    assert (stopped.status, stopped["active"]) == (200, False)
    assert [code_of(key) for key in (world.key_text, elsewhere)] == ["account_frozen", "ok"]
    assert epochs_of([world.acme]) != before
    assert nodes_of(world.mia, world.acme) == {"gateway": False, "field": False}
    assert nodes_of(world.mia, world.other) == {world.other.name: True}
    assert User.objects.get(pk=world.mia.pk).is_active
    with pytest.raises(Refused, match="deactivated in the organisation's directory"):
        add_member(world.mia, group=world.group("sales"), by=alice)
    with pytest.raises(Refused, match="deactivated in the organisation's directory"):
        resume_member(held, by=alice)

    scim.patch(f"Users/{made['id']}", {"op": "Replace", "path": "active", "value": "True"})

    assert code_of(world.key_text) == "ok"
    held.refresh_from_db()
    assert held.suspended_at is None
