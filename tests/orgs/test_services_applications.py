import pytest

from orgs.errors import NotAllowed, Refused
from orgs.models import ApiKey, AuditEvent
from orgs.services.applications import archive_application, change_application, create_application, restore_application
from orgs.services.groups import archive_group
from orgs.services.keys import create_api_key, revoke_key
from tests.actors import World


def test_an_application_has_features_and_environments_each_once(world: World) -> None:
    made = create_application(
        world.gateway, name="Help desk", features=["b", "a", " a ", ""], environments=["staging"], by=world.actor("sam")
    )
    assert (made.slug, made.features, made.environments, made.group) == ("help-desk", ["a", "b"], ["staging"], world.gateway)
    event = AuditEvent.objects.get(object_type="application", object_id=str(made.pk))
    assert event.after == {
        "name": "Help desk",
        "group": world.gateway.pk,
        "features": ["a", "b"],
        "environments": ["staging"],
    }


def test_two_applications_of_an_organisation_differ_in_their_address(world: World) -> None:
    with pytest.raises(Refused, match="“assistant” exists already") as refused:
        create_application(world.sales, name="ASSISTANT", by=world.actor("alice"))
    assert refused.value.field == "name"
    assert create_application(world.other.root, name="Assistant", by=world.actor("charlie")).slug == "assistant"


def test_an_address_can_be_given(world: World) -> None:
    made = create_application(world.sales, name="Help desk", slug="desk_2-b", by=world.actor("alice"))
    assert (made.name, made.slug) == ("Help desk", "desk_2-b")
    for bad in ("Desk", "-desk", "a b", "x" * 61, "ü"):
        with pytest.raises(Refused, match="Use small letters") as refused:
            create_application(world.sales, name="Help desk", slug=bad, by=world.actor("alice"))
        assert refused.value.field == "slug"


def test_a_name_without_latin_letters_has_an_address_too(world: World) -> None:
    assert create_application(world.sales, name="助手", by=world.actor("alice")).slug.startswith("application-")


@pytest.mark.parametrize(
    ("field", "label"),
    [("features", "two words"), ("features", "ü"), ("features", "a\nb"), ("environments", "x" * 31), ("features", "x" * 61)],
)
def test_a_bad_label_is_refused_by_its_field(world: World, field: str, label: str) -> None:
    with pytest.raises(Refused) as refused:
        create_application(world.platform, name="Bad", by=world.actor("sam"), **{field: [label]})  # type: ignore[arg-type]
    assert refused.value.field == field
    assert world.acme.applications.count() == 1


@pytest.mark.parametrize(
    ("name", "group"), [("sam", "engineering"), ("lena", "sales"), ("mia", "gateway"), ("alice", "elsewhere")]
)
def test_applications_are_made_at_ones_node_and_below(world: World, name: str, group: str) -> None:
    with pytest.raises(NotAllowed):
        create_application(world.group(group), name="Mine", by=world.actor(name))


def test_what_is_given_changes_and_the_rest_stays(world: World) -> None:
    sam = world.actor("sam")
    changed = change_application(
        world.assistant, name="Helper", features=["search", "chat", "sum"], cost_center="CC 1", owner=world.mia, by=sam
    )
    changed.refresh_from_db()
    assert (changed.name, changed.slug, changed.features) == ("Helper", "assistant", ["chat", "search", "sum"])
    assert (changed.cost_center, changed.owner, changed.environments) == ("CC 1", world.mia, ["production", "staging"])
    event = AuditEvent.objects.get(organization=world.acme, action="application.changed")
    assert event.before == {"name": "Assistant", "features": ["chat", "search"], "cost_center": "", "owner": None}
    assert event.after == {
        "name": "Helper",
        "features": ["chat", "search", "sum"],
        "cost_center": "CC 1",
        "owner": world.mia.pk,
    }
    change_application(changed, name="Helper", by=sam)
    assert AuditEvent.objects.filter(organization=world.acme, action="application.changed").count() == 1


def service_key(world: World, **options: object) -> ApiKey:
    options = {"environment": "staging", "features": ["chat"], **options}
    key, _ = create_api_key(
        world.platform,
        name="nightly",
        application=world.assistant,
        by=world.actor("sam"),
        **options,  # type: ignore[arg-type]
    )
    return key


def test_into_another_group_it_takes_its_service_keys_along(world: World) -> None:
    key = service_key(world)
    change_application(world.assistant, group=world.sales, by=world.actor("alice"))
    key.refresh_from_db()
    world.assistant.refresh_from_db()
    assert (key.group, world.assistant.group) == (world.sales, world.sales)
    event = AuditEvent.objects.get(organization=world.acme, action="application.changed")
    assert (event.before, event.after) == ({"group": world.platform.pk}, {"group": world.sales.pk})


def test_it_does_not_leave_a_members_key_that_names_it(world: World) -> None:
    key, _ = create_api_key(world.gateway, name="mine", member=world.mia, application=world.assistant, by=world.actor("mia"))
    with pytest.raises(Refused, match="1 member key outside sales names it") as refused:
        change_application(world.assistant, group=world.sales, by=world.actor("alice"))
    assert refused.value.field == "group"
    change_application(world.assistant, group=world.engineering, by=world.actor("lena"))
    key.refresh_from_db()
    assert key.group == world.gateway


@pytest.mark.parametrize(
    ("field", "left", "label"),
    [("environments", ["production"], "staging"), ("features", ["search"], "chat"), ("features", [], "chat")],
)
def test_what_a_key_carries_stays(world: World, field: str, left: list[str], label: str) -> None:
    key = service_key(world)
    with pytest.raises(Refused, match=f"“nightly” carries “{label}”") as refused:
        change_application(world.assistant, by=world.actor("sam"), **{field: left})  # type: ignore[arg-type]
    assert refused.value.field == field
    ApiKey.objects.filter(pk=key.pk).update(revoked_at=key.created_at)
    assert getattr(change_application(world.assistant, by=world.actor("sam"), **{field: left}), field) == left  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "to"), [("sam", "engineering"), ("sam", "sales"), ("lena", "sales"), ("alice", "elsewhere")])
def test_it_moves_only_where_one_may_make_some(world: World, name: str, to: str) -> None:
    with pytest.raises(NotAllowed):
        change_application(world.assistant, group=world.group(to), by=world.actor(name))


@pytest.mark.parametrize("name", ["mia", "noah", "charlie"])
def test_whoever_does_not_manage_it_changes_nothing(world: World, name: str) -> None:
    for change in (change_application, archive_application, restore_application):
        with pytest.raises(NotAllowed):
            change(world.assistant, by=world.actor(name))


def test_an_archived_one_comes_back_into_an_open_group_only(world: World) -> None:
    sam = world.actor("sam")
    assert archive_application(world.assistant, by=sam).archived_at
    archive_application(world.assistant, by=sam)
    archive_group(world.platform, by=world.actor("lena"))
    with pytest.raises(Refused, match="platform is archived"):
        restore_application(world.assistant, by=sam)
    with pytest.raises(Refused, match="platform is archived"):
        change_application(
            create_application(world.sales, name="Other", by=world.actor("alice")), group=world.platform, by=world.actor("alice")
        )
    world.acme.groups.update(archived_at=None)
    assert restore_application(world.assistant, by=sam).archived_at is None
    actions = AuditEvent.objects.filter(object_type="application", object_id=str(world.assistant.pk)).order_by("pk")
    assert [event.action for event in actions] == ["application.archived", "application.restored"]


def test_the_trail_of_a_service_key_says_that_it_moved_with_its_application(world: World) -> None:
    alice = world.actor("alice")
    kept, gone = (create_api_key(world.platform, name=name, application=world.assistant, by=alice)[0] for name in ("a", "b"))
    revoke_key(gone, by=alice)
    change_application(world.assistant, group=world.sales, by=alice)
    moved = AuditEvent.objects.filter(organization=world.acme, action="key.moved")
    facts = [(event.object_id, event.group, event.before, event.after) for event in moved]
    assert facts == [(str(kept.pk), world.platform, {"group": world.platform.pk}, {"group": world.sales.pk})]
