from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.utils import timezone

from gateway_project.lib.crypto import digest
from orgs.actor import Actor
from orgs.errors import NotAllowed, Refused
from orgs.models import ApiKey, Application, AuditEvent, Group
from orgs.services.applications import archive_application, create_application
from orgs.services.keys import create_api_key, disable_key, edit_key, enable_key, rename_key, revoke_key
from orgs.services.members import add_member, suspend_member
from tests.actors import World, make_world, make_world_by_services


def test_a_member_makes_a_key_of_its_own(world: World) -> None:
    key, text = create_api_key(
        world.gateway,
        name="  my  script ",
        member=world.mia,
        application=world.assistant,
        environment="production",
        features=["search", "chat", "chat"],
        by=world.actor("mia"),
    )
    assert (key.name, key.group, key.member, key.application) == ("my script", world.gateway, world.mia, world.assistant)
    assert (key.environment, key.features, key.created_by, key.status) == ("production", ["chat", "search"], world.mia, "active")
    assert text.startswith(f"gh_sk_{key.public_id}_")
    assert key.prefix == f"gh_sk_{key.public_id}…{text[-4:]}"
    assert ApiKey.objects.get(digest=digest(text)) == key


def test_the_secret_is_in_no_table(world: World) -> None:
    secret = world.key_text.rsplit("_", 1)[1]
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        tables = [row[0] for row in cursor.fetchall()]
        assert "orgs_apikey" in tables
        for table in tables:
            cursor.execute(f'SELECT count(*) FROM "{table}" AS t WHERE t::text LIKE %s', (f"%{secret}%",))  # noqa: S608
            assert cursor.fetchone() == (0,), table


@pytest.mark.django_db
def test_making_a_key_is_audited_with_what_it_names() -> None:
    world = make_world_by_services()
    event = AuditEvent.objects.get(organization=world.acme, action="key.created")
    assert (event.actor, event.object_id, event.object_label) == (world.mia, str(world.key.pk), "Mia's key")
    assert event.after["public_id"] == world.key.public_id
    assert event.after["group"] == world.gateway.pk
    assert event.after["member"] == world.mia.pk


@pytest.mark.parametrize("group", ["root", "platform", "core", "field", "elsewhere"])
def test_a_members_key_is_at_home_in_a_node_of_its_membership(world: World, group: str) -> None:
    with pytest.raises(NotAllowed):
        create_api_key(world.group(group), name="key", member=world.mia, by=world.actor("mia"))
    assert world.acme.api_keys.count() == 1


def test_an_admin_makes_own_keys_where_it_manages_keys(world: World) -> None:
    key, _ = create_api_key(world.core, name="key", member=world.sam, by=world.actor("sam"))
    assert key.group == world.core
    with pytest.raises(NotAllowed):
        create_api_key(world.engineering, name="key", member=world.sam, by=world.actor("sam"))


def test_an_admin_makes_a_members_key_in_the_members_own_node(world: World) -> None:
    key, _ = create_api_key(world.gateway, name="for mia", member=world.mia, by=world.actor("sam"))
    assert (key.member, key.created_by) == (world.mia, world.sam)
    with pytest.raises(Refused, match="not an active member of core") as refused:
        create_api_key(world.core, name="for mia", member=world.mia, by=world.actor("sam"))
    assert refused.value.field == "member"
    with pytest.raises(Refused, match="not an active member"):
        create_api_key(world.gateway, name="for charlie", member=world.charlie, by=world.actor("sam"))


def test_a_member_makes_no_keys_for_others(world: World) -> None:
    add_member(world.noah, group=world.gateway, by=world.actor("sam"))
    with pytest.raises(NotAllowed):
        create_api_key(world.gateway, name="for noah", member=world.noah, by=world.actor("mia"))


def test_a_suspended_member_makes_no_key_and_gets_none(world: World) -> None:
    suspend_member(world.actor("mia").memberships[0], by=world.actor("sam"))
    with pytest.raises(NotAllowed):
        create_api_key(world.gateway, name="key", member=world.mia, by=world.actor("mia"))
    with pytest.raises(Refused, match="not an active member"):
        create_api_key(world.gateway, name="key", member=world.mia, by=world.actor("sam"))


def test_a_service_key_stands_in_its_applications_group(world: World) -> None:
    key, _ = create_api_key(world.platform, name="nightly", application=world.assistant, by=world.actor("sam"))
    assert (key.member, key.group, key.application) == (None, world.platform, world.assistant)
    with pytest.raises(Refused, match="service key"):
        create_api_key(world.gateway, name="nightly", application=world.assistant, by=world.actor("sam"))
    with pytest.raises(Refused, match="service key"):
        create_api_key(world.platform, name="nightly", by=world.actor("sam"))


@pytest.mark.parametrize("name", ["mia", "noah", "charlie"])
def test_a_service_key_needs_someone_who_manages_keys(world: World, name: str) -> None:
    with pytest.raises(NotAllowed):
        create_api_key(world.platform, name="nightly", application=world.assistant, by=world.actor(name))


def application_at(world: World, group: Group) -> Application:
    return create_application(group, name=f"app of {group.name}", environments=["production"], by=world.actor("alice"))


@pytest.mark.parametrize(
    ("group", "bound"), [("root", True), ("engineering", True), ("gateway", True), ("core", False), ("sales", False)]
)
def test_an_application_is_bound_only_on_the_keys_path(world: World, group: str, bound: bool) -> None:
    application = application_at(world, world.group(group))

    def bind() -> ApiKey:
        return create_api_key(world.gateway, name="key", member=world.mia, application=application, by=world.actor("mia"))[0]

    if bound:
        assert bind().application == application
        return
    with pytest.raises(Refused, match="cannot be named") as refused:
        bind()
    assert refused.value.field == "application"


def test_another_organisations_application_is_never_bound(world: World) -> None:
    foreign = create_application(world.other.root, name="theirs", by=world.actor("charlie"))
    with pytest.raises(Refused, match="cannot be named"):
        create_api_key(world.gateway, name="key", member=world.mia, application=foreign, by=world.actor("mia"))


@pytest.mark.parametrize(
    ("binding", "field"),
    [
        ({"environment": "moon"}, "environment"),
        ({"environment": "Production"}, "environment"),
        ({"features": ["chat", "fly"]}, "features"),
        ({"features": ["not a label"]}, "features"),
        ({"application": None, "environment": "production"}, "application"),
        ({"application": None, "features": ["chat"]}, "application"),
        ({"expires_at": timezone.now() - timedelta(seconds=1)}, "expires_at"),
        ({"name": " "}, "name"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_field(world: World, binding: dict[str, Any], field: str) -> None:
    wanted = {"name": "key", "member": world.mia, "application": world.assistant, **binding}
    with pytest.raises(Refused) as refused:
        create_api_key(world.gateway, **wanted, by=world.actor("mia"))
    assert refused.value.field == field
    assert world.acme.api_keys.count() == 1


def test_archived_things_are_not_bound(world: World) -> None:
    world.acme.applications.update(archived_at=timezone.now())
    with pytest.raises(Refused, match="cannot be named"):
        create_api_key(world.gateway, name="key", member=world.mia, application=world.assistant, by=world.actor("mia"))
    Group.objects.filter(pk=world.gateway.pk).update(archived_at=timezone.now())
    with pytest.raises(Refused, match="gateway is archived"):
        create_api_key(world.gateway, name="key", member=world.mia, by=world.actor("mia"))


def test_a_key_is_disabled_enabled_renamed_and_deleted_by_its_member(world: World) -> None:
    mia = world.actor("mia")
    assert disable_key(world.key, by=mia).status == "disabled"
    assert disable_key(world.key, by=mia).status == "disabled"
    assert enable_key(world.key, by=mia).status == "active"
    assert rename_key(world.key, name="New name", by=mia).name == "New name"
    assert revoke_key(world.key, by=mia).status == "revoked"
    actions = (
        AuditEvent.objects.filter(organization=world.acme, object_type="apikey").order_by("pk").values_list("action", flat=True)
    )
    assert list(actions) == ["key.created", "key.disabled", "key.enabled", "key.renamed", "key.revoked"]


def test_a_member_keeps_its_keys_when_it_moves_elsewhere(world: World) -> None:
    add_member(world.mia, group=world.field, by=world.actor("alice"))
    world.actor("mia").memberships[0].delete()
    assert disable_key(world.key, by=world.actor("mia")).status == "disabled"


def test_what_an_admin_disabled_the_member_cannot_enable(world: World) -> None:
    disable_key(world.key, by=world.actor("sam"))
    with pytest.raises(NotAllowed):
        enable_key(world.key, by=world.actor("mia"))
    assert ApiKey.objects.get(pk=world.key.pk).status == "disabled"
    assert enable_key(world.key, by=world.actor("lena")).status == "active"


def test_a_member_cannot_make_an_admins_ban_its_own(world: World) -> None:
    disable_key(world.key, by=world.actor("mia"))
    disable_key(world.key, by=world.actor("sam"))
    with pytest.raises(NotAllowed):
        enable_key(world.key, by=world.actor("mia"))
    disable_key(world.key, by=world.actor("mia"))
    with pytest.raises(NotAllowed):
        enable_key(world.key, by=world.actor("mia"))


def test_a_deleted_key_stays_deleted(world: World) -> None:
    revoke_key(world.key, by=world.actor("sam"))
    for change in (disable_key, enable_key, revoke_key):
        with pytest.raises(Refused, match="deleted"):
            change(world.key, by=world.actor("sam"))
    assert ApiKey.objects.filter(pk=world.key.pk).exists()


@pytest.mark.parametrize("name", ["noah", "charlie"])
@pytest.mark.parametrize("change", [disable_key, enable_key, revoke_key])
def test_others_keys_are_left_alone(world: World, name: str, change: Any) -> None:
    with pytest.raises(NotAllowed):
        change(world.key, by=world.actor(name))
    assert ApiKey.objects.get(pk=world.key.pk).status == "active"


def test_keys_made_at_the_same_moment_all_exist_and_differ(committed_db: None) -> None:
    world = make_world()

    def make(number: int) -> str:
        try:
            mia = Actor.load(world.mia, organization=world.acme)
            return create_api_key(world.gateway, name=f"key {number}", member=world.mia, by=mia)[1]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        texts = set(pool.map(make, range(16)))
    stored = {bytes(value) for value in ApiKey.objects.filter(organization=world.acme).values_list("digest", flat=True)}
    assert len(texts) == 16
    assert stored == {digest(text) for text in texts | {world.key_text}}


def test_a_key_whose_application_was_archived_is_still_renamed_and_given_an_end(world: World) -> None:
    sam, soon = world.actor("sam"), timezone.now() + timedelta(days=1)
    key, _ = create_api_key(world.gateway, name="old", member=world.mia, application=world.assistant, by=world.actor("mia"))
    archive_application(world.assistant, by=sam)
    edited = edit_key(key, name="new", application=world.assistant, expires_at=soon, by=sam)
    assert (edited.name, edited.application, edited.expires_at) == ("new", world.assistant, soon)
    with pytest.raises(Refused, match="cannot be named by keys"):
        edit_key(world.key, name="new", application=world.assistant, by=sam)
