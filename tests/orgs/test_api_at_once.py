"""Two admins who change one thing by the API at the same moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from django.db import connections

from orgs.models import Role
from orgs.permissions import Permission
from orgs.services.changes import changing
from orgs.services.roles import create_role
from tests.actors import make_world
from tests.apis import api
from tests.orgs.waiting import wait_until_somebody_waits


def test_a_new_description_gives_back_no_permission_that_somebody_takes_at_that_moment(committed_db: None) -> None:
    world = make_world()
    named = [Permission.VIEW_USAGE, Permission.MANAGE_KEYS]
    role = create_role(world.root, name="Lead", permissions=named, by=world.actor("alice"))
    ask = api(world, "alice", "roles:write")

    def describe() -> None:
        try:
            ask("patch", f"/custom-roles/{role.pk}", {"description": "Leads"})
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        with changing(world.acme):
            Role.objects.filter(pk=role.pk).update(permissions=[Permission.VIEW_USAGE])
            asking = pool.submit(describe)
            wait_until_somebody_waits()
        asking.result()
    fresh = Role.objects.get(pk=role.pk)
    assert (fresh.description, fresh.permissions) == ("Leads", ["view_usage"])
