"""Groups in use beside each other are told apart by their names: at every door that makes, names, moves or brings one back."""

from __future__ import annotations

import json
import unicodedata
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.db import IntegrityError, connection, transaction
from django.test import Client

from guardrails.as_code.applying import apply, export
from guardrails.as_code.files import BadFile
from orgs.models import AuditEvent, Group
from orgs.services.groups import archive_group, create_group
from tests.actors import World, signed_in

TAKEN = "has a group “sales” already: two beside each other cannot have the same name."
CONSTRAINT = next(one for one in Group._meta.constraints if one.name.startswith("group_name_once"))


def page(world: World, path: str) -> str:
    return f"/o/{world.acme.slug}/groups/{path}"


def by_api(client: Client, world: World, path: str, method: str = "post", **sent: Any) -> Any:
    address = f"/api/v1/organizations/{world.acme.slug}/groups{path}"
    return getattr(client, method)(address, json.dumps(sent), content_type="application/json")


@pytest.mark.parametrize("name", ["sales", "Sales", "  SALES "])
def test_a_form_says_at_the_name_that_it_is_taken(world: World, name: str) -> None:
    client = signed_in(world, "alice")
    for path, sent in (("new/", {"name": name, "parent": world.root.pk}), (f"{world.engineering.pk}/edit/", {"name": name})):
        answer = client.post(page(world, path), sent)
        assert answer.status_code == 422
        assert answer.context["form"].errors["name"] == [f"{world.acme} {TAKEN}"]
    assert sorted(world.root.get_children().values_list("name", flat=True)) == ["engineering", "sales"]
    assert not AuditEvent.objects.filter(organization=world.acme, action__startswith="group.").exists()


def test_the_same_letters_are_the_same_name_however_unicode_writes_them(world: World) -> None:
    """A Mac types “é” as one letter and may paste it, or write it into a file, as two."""
    composed, apart = "Café", unicodedata.normalize("NFD", "Café")
    assert composed != apart
    client, place = signed_in(world, "alice"), {"parent": world.root.pk}
    assert client.post(page(world, "new/"), {"name": apart, **place}).status_code == 302
    assert world.root.get_children().filter(name=composed).exists()
    assert client.post(page(world, "new/"), {"name": composed, **place}).status_code == 422
    assert not apply(f"organization: {{slug: {world.acme.slug}}}\ngroups: [{{name: {apart}}}]").changed


def test_the_api_says_which_field_it_is(world: World) -> None:
    client, alice = signed_in(world, "alice"), world.actor("alice")
    inside = create_group(world.engineering, name="SALES", by=alice)
    answers = [
        by_api(client, world, "", name="Sales", parent_id=world.root.pk),
        by_api(client, world, f"/{world.engineering.pk}", "patch", name="sales"),
        by_api(client, world, f"/{inside.pk}/move", parent_id=world.root.pk),
    ]
    assert [answer.status_code for answer in answers] == [422, 422, 422]
    assert {answer.json()["error"]["message"] for answer in answers} == {f"{world.acme} {TAKEN}"}
    assert [answer.json()["error"]["param"] for answer in answers[:2]] == ["name", "name"]


def test_elsewhere_and_for_itself_a_name_is_free(world: World) -> None:
    client = signed_in(world, "alice")
    assert client.post(page(world, "new/"), {"name": "sales", "parent": world.engineering.pk}).status_code == 302
    assert client.post(page(world, f"{world.sales.pk}/edit/"), {"name": "Sales"}).status_code == 302
    assert world.group("sales").name == "Sales"


def test_a_move_page_says_what_is_in_the_way(world: World) -> None:
    inside = create_group(world.engineering, name="Sales", by=world.actor("alice"))
    client = signed_in(world, "alice")
    assert TAKEN in client.get(page(world, f"{inside.pk}/move/?to={world.root.pk}")).content.decode()
    sent = {"to": world.root.pk, "seen": world.root.pk}
    assert client.post(page(world, f"{inside.pk}/move/"), sent).status_code == 422
    assert Group.objects.get(pk=inside.pk).parent == world.engineering


def test_an_archived_group_blocks_no_name_and_does_not_come_back_beside_its_namesake(world: World) -> None:
    client = signed_in(world, "alice")
    archive_group(world.sales, by=world.actor("alice"))
    assert client.post(page(world, "new/"), {"name": "Sales", "parent": world.root.pk}).status_code == 302
    told = client.post(page(world, f"{world.sales.pk}/restore/"), follow=True).content.decode()
    assert f"{world.acme} has a group “Sales” already" in told
    assert world.group("sales").archived_at is not None
    # What it is called meanwhile is its own affair, and with another name it comes back.
    assert client.post(page(world, f"{world.sales.pk}/edit/"), {"name": "Old sales"}).status_code == 302
    client.post(page(world, f"{world.sales.pk}/restore/"))
    assert world.group("sales").archived_at is None


def test_a_file_that_has_a_name_twice_is_told_where(world: World) -> None:
    text = f"organization: {{slug: {world.acme.slug}}}\ngroups: [{{name: sales}}, {{name: SALES}}]"
    with pytest.raises(BadFile, match=r"groups\[1\]: names the group “sales” again, after groups\[0\]"):
        apply(text)


def test_the_database_refuses_a_namesake_too(world: World) -> None:
    with pytest.raises(IntegrityError, match="group_name_once"), transaction.atomic():
        Group.objects.filter(pk=world.engineering.pk).update(name="SALES")


def test_those_that_were_there_before_are_numbered_and_the_oldest_keeps_its_name(world: World) -> None:
    alice = world.actor("alice")
    made = [create_group(world.sales, name=name, by=alice) for name in ("a", "Team (2)", "b", "c", "d", "e")]
    archive_group(made[4], by=alice)
    names = dict(zip([one.pk for one in made], ["Team", "Team (2)", "team", "x" * 120, "Team", "X" * 120], strict=True))
    rename = import_module("orgs.migrations.0021_group_names").tell_namesakes_apart
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    with connection.schema_editor() as editor:
        editor.remove_constraint(Group, CONSTRAINT)
        for pk, name in names.items():
            Group.objects.filter(pk=pk).update(name=name)
        rename(apps, editor)
        editor.add_constraint(Group, CONSTRAINT)
    found = dict(Group.objects.filter(parent=world.sales).values_list("pk", "name"))
    assert [found[one.pk] for one in made] == ["Team", "Team (2)", "team (3)", "x" * 120, "Team", "X" * 116 + " (2)"]
    assert "name: team (3)\n" in export(world.acme.slug)
