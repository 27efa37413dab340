import pytest

from orgs.errors import NotAllowed, Refused
from orgs.models import AuditEvent
from orgs.services.applications import create_application
from tests.actors import World


def test_an_application_has_features_and_environments_each_once(world: World) -> None:
    made = create_application(
        world.gateway, name="Help desk", features=["b", "a", " a ", ""], environments=["staging"], by=world.actor("sam")
    )
    assert (made.slug, made.features, made.environments, made.group) == ("help-desk", ["a", "b"], ["staging"], world.gateway)
    event = AuditEvent.objects.get(object_type="application", object_id=str(made.pk))
    assert event.after == {"group": world.gateway.pk, "features": ["a", "b"], "environments": ["staging"]}


def test_two_applications_of_an_organisation_differ_in_their_address(world: World) -> None:
    with pytest.raises(Refused, match="“assistant” exists already") as refused:
        create_application(world.sales, name="ASSISTANT", by=world.actor("alice"))
    assert refused.value.field == "name"
    assert create_application(world.other.root, name="Assistant", by=world.actor("charlie")).slug == "assistant"


def test_a_name_without_latin_letters_has_an_address_too(world: World) -> None:
    assert create_application(world.sales, name="助手", by=world.actor("alice")).slug.startswith("application-")


@pytest.mark.parametrize(
    ("field", "label"),
    [("features", "two words"), ("features", "ü"), ("features", "a\nb"), ("environments", "x" * 31), ("features", "x" * 61)],
)
def test_a_bad_label_is_refused_by_its_field(world: World, field: str, label: str) -> None:
    with pytest.raises(Refused) as refused:
        create_application(world.platform, name="Bad", by=world.actor("sam"), **{field: [label]})
    assert refused.value.field == field
    assert world.acme.applications.count() == 1


@pytest.mark.parametrize(
    ("name", "group"), [("sam", "engineering"), ("lena", "sales"), ("mia", "gateway"), ("alice", "elsewhere")]
)
def test_applications_are_made_at_ones_node_and_below(world: World, name: str, group: str) -> None:
    with pytest.raises(NotAllowed):
        create_application(world.group(group), name="Mine", by=world.actor(name))
