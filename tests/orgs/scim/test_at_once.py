"""Two calls of a directory at the same moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from django.db import connections

from orgs.scim_models import DirectoryGroup
from orgs.services.changes import changing
from tests.actors import make_world
from tests.orgs.scim.directory import connect, domain_of
from tests.orgs.waiting import wait_until_somebody_waits


def test_of_two_patches_at_once_neither_brings_back_whom_the_other_takes_out(committed_db: None) -> None:
    world = make_world()
    scim = connect(world, group=world.sales)
    bob, carol = (scim.user(f"{name}@{domain_of(world.acme)}")["id"] for name in ("bob", "carol"))
    made = scim.group("Admins", bob)

    def add_carol() -> int:
        try:
            return scim.patch(f"Groups/{made['id']}", {"op": "add", "path": "members", "value": [{"value": carol}]}).status
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        with changing(world.acme):
            DirectoryGroup.objects.get(pk=made["id"]).people.clear()
            adding = pool.submit(add_carol)
            wait_until_somebody_waits()
        assert adding.result() == 200
    assert [one["value"] for one in scim("GET", f"Groups/{made['id']}")["members"]] == [carol]
