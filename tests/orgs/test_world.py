"""The world of the tests is written as rows; these are the rows that the services would have written."""

from typing import Any

import pytest
from django.db.models import Model

from billing import credits
from billing.models import CreditTransaction
from orgs.models import ApiKey, Application, AuditEvent, Group, Membership, RoleGrant
from orgs.verification import verify_organization
from tests.actors import World, make_world, make_world_by_services

pytestmark = pytest.mark.django_db

# Of every row its own: ids, moments, and what is drawn.
OWN = {"id", "created_at", "public_id", "digest", "last_four"}


def shown(row: Model, names: dict[tuple[Any, Any], str]) -> dict[str, Any]:
    """Its columns; what they refer to by name."""
    found = {}
    for field in row._meta.concrete_fields:
        value = getattr(row, field.attname)
        if field.name not in OWN:
            found[field.name] = names.get((field.related_model, value), value) if field.is_relation else value
    return found


def rows(world: World) -> dict[str, list[dict[str, Any]]]:
    names: dict[tuple[Any, Any], str] = {(type(world.acme), world.acme.pk): "acme"}
    for name in ("alice", "lena", "sam", "mia", "noah"):
        names[type(world.alice), getattr(world, name).pk] = name
    for name in ("root", "engineering", "platform", "gateway", "core", "sales", "field"):
        names[Group, getattr(world, name).pk] = name
    result = {}
    for model in (Group, Membership, RoleGrant, Application, ApiKey):
        found = [shown(row, names) for row in model._default_manager.filter(organization=world.acme)]
        for row in found:
            row.pop("tree_id", None)
            row["name"] = str(row.get("name", "")).split(" ")[0]
        result[model.__name__] = sorted(found, key=str)
    return result


def test_it_is_what_the_services_would_have_made() -> None:
    assert rows(make_world()) == rows(make_world_by_services())


def test_organizations_and_people_are_as_the_services_make_them() -> None:
    written, made = make_world(), make_world_by_services()
    for one, other in ((written.acme, made.acme), (written.other, made.other)):
        shared = {"slug": one.slug.split("-")[0], "name": one.name.split(" ")[0]}
        assert shown(one, {}) | shared == shown(other, {}) | shared
        assert [shown(root, {}) | {"name": "", "organization": 0, "tree_id": 0} for root in one.groups.filter(level=0)] == [
            shown(root, {}) | {"name": "", "organization": 0, "tree_id": 0} for root in other.groups.filter(level=0)
        ]
    personal = [sorted(kind.organization.kind for kind in world.mia.memberships.all()) for world in (written, made)]
    assert personal[0] == personal[1] == ["company", "personal"]
    assert not written.mia.has_usable_password()


def test_it_hands_out_what_is_stored() -> None:
    world = make_world()

    for name in ("root", "engineering", "platform", "gateway", "core", "sales", "field"):
        stored, given = Group.objects.get(pk=getattr(world, name).pk), getattr(world, name)
        assert (given.lft, given.rght, given.level, given.parent_id) == (stored.lft, stored.rght, stored.level, stored.parent_id)
    assert world.key.prefix == ApiKey.objects.get(pk=world.key.pk).prefix
    assert world.key_text.startswith(f"gh_sk_{world.key.public_id}_")


def test_its_trail_is_whole() -> None:
    """One event, of the key, as the services write it but for what it says of the new key."""
    written, made = make_world(), make_world_by_services()

    for world in (written, made):
        assert not verify_organization(world.acme).faults
    assert verify_organization(written.acme).event_count == 1
    event = AuditEvent.objects.get(organization=written.acme)
    other = AuditEvent.objects.get(organization=made.acme, action="key.created")
    names = ("action", "object_type", "object_label", "before", "ip", "agent")
    assert [getattr(event, name) for name in names] == [getattr(other, name) for name in names]
    assert (event.actor, event.group, event.object_id) == (written.mia, written.gateway, str(written.key.pk))


def test_its_credit_is_what_a_top_up_would_have_written() -> None:
    written, made = make_world(credit_nano_usd=7), make_world()
    credits.top_up(made.acme, amount_nano_usd=7, reference="test", by=made.alice)

    found = []
    for world in (written, made):
        names: dict[tuple[Any, Any], str] = {
            (type(world.acme), world.acme.pk): "acme",
            (type(world.alice), world.alice.pk): "alice",
        }
        moved = CreditTransaction.objects.get(organization=world.acme)
        names[CreditTransaction, moved.pk] = "moved"
        found.append([shown(moved, names), *(shown(entry, names) for entry in moved.entries.order_by("pk"))])
        assert credits.funded(world.acme) == 7
    assert found[0] == found[1]
    assert not CreditTransaction.objects.filter(organization=written.other).exists()
