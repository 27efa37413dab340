"""Aliases, presets and what `auto` chooses from: who may, what is refused and why, and what the audit trail says of it."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from orgs.errors import NotAllowed, Refused
from orgs.models import AuditEvent, Group
from proxy import choice_services, naming_services, targets
from proxy.canonical.preset import Parameters
from proxy.models import Alias, Deployment, Model, Preset, Provider, RoutingChoice
from proxy.named import aliases_visible_to, homes_of_names, presets_visible_to
from proxy.naming_services import PresetWords
from tests.actors import World

MODELS = {"large": "chat", "small": "chat", "vectors": "embedding"}


@pytest.fixture(autouse=True)
def _models(empty_catalogue: None) -> None:
    provider = Provider.objects.create(name="somewhere", kind="openai")
    for name, kind in MODELS.items():
        model = Model.objects.create(name=name, kind=kind)
        Deployment.objects.create(model=model, provider=provider, upstream_model=name)
    Model.objects.create(name="off", enabled=False)


def alias(world: World, name: str = "ours", model: str = "large", *, at: str = "platform", by: str = "sam") -> Alias:
    return naming_services.create_alias(getattr(world, at), name=name, model=model, by=world.actor(by))


def preset(world: World, name: str = "polite", *, at: str = "platform", by: str = "sam", **words: Any) -> Preset:
    given = PresetWords(words.pop("model", "large"), **words)
    return naming_services.create_preset(getattr(world, at), name=name, words=given, by=world.actor(by))


def trail(world: World) -> list[str]:
    wanted = AuditEvent.objects.filter(organization=world.acme, object_type__in=("alias", "preset", "routingchoice"))
    return list(wanted.order_by("pk").values_list("action", flat=True))


def refusal(field: str | None, call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(Refused) as refused:
        call(*arguments, **options)
    assert refused.value.field == field
    return refused.value.message


# --- aliases --------------------------------------------------------------------------------------


def test_an_alias_is_made_changed_and_deleted_and_each_is_audited(world: World) -> None:
    made = alias(world, " team/best.v2 ", "LARGE")
    assert (made.name, made.model, made.group) == ("team/best.v2", "large", world.platform)
    sam = world.actor("sam")
    naming_services.change_alias(made, model="small", by=sam)
    naming_services.change_alias(made, model="small", by=sam)  # the same again is no change
    naming_services.delete_alias(made, by=sam)
    assert trail(world) == ["alias.created", "alias.changed", "alias.deleted"]
    changed = AuditEvent.objects.get(organization=world.acme, action="alias.changed")
    assert (changed.before["model"], changed.after["model"]) == ("large", "small")
    assert "gone" in refusal(None, naming_services.delete_alias, made, by=sam)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "letters"),
        ("-x", "begins with"),
        ("a b", "letters"),
        ("ä", "letters"),
        ("x" * 81, "at most 80"),
        ("auto", "stand for the model that the gateway chooses"),
        ("AUTO:fast", "stand for the model that the gateway chooses"),
        ("Preset:x", "stands for a preset"),
        ("Large", "There is a model large"),
        ("off", "There is a model off"),
        ("somewhere/else", "models of the provider somewhere"),
    ],
)
def test_a_name_that_means_something_else_is_refused(world: World, name: str, words: str) -> None:
    assert words in refusal("name", alias, world, name)
    assert not Alias.objects.filter(organization=world.acme).exists()


def test_what_only_begins_like_a_reserved_name_is_free(world: World) -> None:
    assert alias(world, "autopilot").name == "autopilot"


@pytest.mark.parametrize("model", ["", "nothing", "off", "preset:polite", "somewhere/unpriced", "auto:nothing"])
def test_an_alias_stands_for_something_that_exists(world: World, model: str) -> None:
    assert "is not offered here" in refusal("model", alias, world, "ours", model)


@pytest.mark.parametrize(("model", "kept"), [("vectors", "vectors"), ("AUTO:best", "auto:best"), ("auto", "auto")])
def test_it_may_stand_for_any_kind_of_model_and_for_auto(world: World, model: str, kept: str) -> None:
    assert alias(world, "ours", model).model == kept


def test_it_may_stand_for_a_model_that_only_the_price_list_knows(world: World) -> None:
    from billing.models import PriceVersion

    PriceVersion.objects.create(sku="openai/Listed-1", valid_from="2026-01-01T00:00Z", source="test", rates={})
    assert alias(world, "ours", "somewhere/listed-1").model == "somewhere/listed-1"


def test_an_alias_of_an_alias_is_refused(world: World) -> None:
    alias(world, "ours", by="alice", at="root")
    assert "an alias itself" in refusal("model", alias, world, "mine", "ours")
    made = alias(world, "mine")
    assert "an alias itself" in refusal("model", naming_services.change_alias, made, model="mine", by=world.actor("sam"))


def test_a_name_is_given_once_in_a_group_and_again_below(world: World) -> None:
    alias(world, "ours")
    assert "already" in refusal("name", alias, world, "OURS")
    assert alias(world, "ours", "small", at="gateway").model == "small"


def test_an_admin_names_at_its_node_and_below_and_nowhere_else(world: World) -> None:
    for at in ("platform", "gateway", "core"):
        alias(world, f"at-{at}", at=at)
    for by, at in (("sam", "engineering"), ("sam", "root"), ("lena", "sales"), ("mia", "gateway"), ("charlie", "root")):
        with pytest.raises(NotAllowed):
            alias(world, "no", at=at, by=by)
    above = alias(world, "above", at="root", by="alice")
    with pytest.raises(NotAllowed):
        naming_services.change_alias(above, model="small", by=world.actor("lena"))
    with pytest.raises(NotAllowed):
        naming_services.delete_alias(above, by=world.actor("lena"))
    assert [group.name for group in homes_of_names(world.actor("sam"))] == ["platform", "gateway", "core"]


def test_an_archived_group_takes_no_names(world: World) -> None:
    Group.objects.filter(pk=world.core.pk).update(archived_at=timezone.now())
    assert "archived" in refusal("group", alias, world, "x", at="core")


def test_names_are_seen_on_ones_path_and_where_one_manages(world: World) -> None:
    for at in ("root", "engineering", "platform", "gateway", "core", "sales", "field"):
        alias(world, f"at-{at}", at=at, by="alice")
        preset(world, f"at-{at}", at=at, by="alice")

    def seen(name: str) -> set[str]:
        actor = world.actor(name)
        found = {one.name.removeprefix("at-") for one in aliases_visible_to(actor)}
        assert {one.name.removeprefix("at-") for one in presets_visible_to(actor)} == found
        return found

    assert seen("mia") == {"root", "engineering", "platform", "gateway"}
    assert seen("sam") == {"root", "engineering", "platform", "gateway", "core"}
    assert seen("noah") == {"root", "sales", "field"}
    assert seen("alice") == {"root", "engineering", "platform", "gateway", "core", "sales", "field"}
    assert seen("charlie") == set()


# --- presets --------------------------------------------------------------------------------------


def test_a_preset_is_made_changed_archived_and_brought_back(world: World) -> None:
    sam = world.actor("sam")
    made = preset(world, system_prompt="Be polite.\r\nAlways.", parameters=Parameters(temperature=0.2, stop=("END",)))
    assert (made.system_prompt, made.parameters) == ("Be polite.\nAlways.", {"temperature": 0.2, "stop": ("END",)})
    same = PresetWords("large", system_prompt=made.system_prompt, parameters=Parameters(stop=("END",), temperature=0.2))
    naming_services.change_preset(made, words=same, by=sam)
    naming_services.change_preset(made, words=PresetWords("auto", description="Polite"), by=sam)
    naming_services.archive_preset(made, by=sam)
    naming_services.archive_preset(made, by=sam)
    assert "archived" in refusal(None, naming_services.change_preset, made, words=same, by=sam)
    naming_services.restore_preset(made, by=sam)
    fresh = Preset.objects.get(pk=made.pk)
    assert (fresh.model, fresh.description, fresh.parameters, fresh.archived_at) == ("auto", "Polite", {}, None)
    assert trail(world) == ["preset.created", "preset.changed", "preset.archived", "preset.restored"]


def test_its_model_may_be_an_alias_of_its_path(world: World) -> None:
    alias(world, "ours", at="root", by="alice")
    alias(world, "theirs", at="sales", by="alice")
    assert preset(world, model="OURS").model == "ours"
    assert "no chat model" in refusal("model", preset, world, "other", model="theirs")
    assert "no chat model" in refusal("model", preset, world, "other", model="vectors")
    assert "no chat model" in refusal("model", preset, world, "other", model="preset:polite")


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"parameters": Parameters(temperature=-0.1)}, "temperature"),
        ({"parameters": Parameters(temperature=2.1)}, "temperature"),
        ({"parameters": Parameters(temperature=float("nan"))}, "temperature"),
        ({"parameters": Parameters(top_p=0)}, "top_p"),
        ({"parameters": Parameters(top_p=1.01)}, "top_p"),
        ({"parameters": Parameters(max_tokens=0)}, "max_tokens"),
        ({"parameters": Parameters(max_tokens=1_000_001)}, "max_tokens"),
        ({"parameters": Parameters(reasoning_effort="much")}, "reasoning_effort"),
        ({"parameters": Parameters(stop=("a", "b", "c", "d", "e"))}, "stop"),
        ({"parameters": Parameters(stop=("",))}, "stop"),
        ({"parameters": Parameters(stop=("\x00",))}, "stop"),
        ({"system_prompt": "x" * 20_001}, "system_prompt"),
        ({"system_prompt": "a\x00b"}, "system_prompt"),
        ({"description": "x" * 201}, "description"),
        ({"name": "a.b"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 61}, "name"),
    ],
)
def test_what_no_provider_takes_is_refused(world: World, words: dict[str, Any], field: str) -> None:
    assert refusal(field, preset, world, **words)
    assert not Preset.objects.filter(organization=world.acme).exists()


def test_an_archived_preset_leaves_its_name_free_and_comes_back_only_while_it_is(world: World) -> None:
    sam = world.actor("sam")
    first = preset(world)
    assert "already" in refusal("name", preset, world, "POLITE")
    naming_services.archive_preset(first, by=sam)
    second = preset(world)
    assert "already" in refusal("name", naming_services.restore_preset, first, by=sam)
    naming_services.archive_preset(second, by=sam)
    naming_services.restore_preset(first, by=sam)


def test_presets_are_changed_by_those_who_may(world: World) -> None:
    made = preset(world, at="engineering", by="lena")
    for by in ("sam", "mia", "noah"):
        for change in (naming_services.archive_preset, naming_services.restore_preset):
            with pytest.raises(NotAllowed):
                change(made, by=world.actor(by))
        with pytest.raises(NotAllowed):
            naming_services.change_preset(made, words=PresetWords("small"), by=world.actor(by))
    with pytest.raises(Refused):
        naming_services.archive_preset(made, by=world.actor("charlie"))


# --- what auto chooses from -----------------------------------------------------------------------


def candidates(world: World) -> list[str]:
    return list(choice_services.choice_of(world.acme).auto_candidates)


def test_candidates_are_added_moved_and_removed_in_order(world: World) -> None:
    alice = world.actor("alice")
    for name in ("Large", "small"):
        choice_services.add_candidate(name, by=alice)
    assert candidates(world) == ["large", "small"]
    choice_services.move_candidate("large", by=alice, stronger=True)
    assert candidates(world) == ["small", "large"]
    choice_services.move_candidate("large", by=alice, stronger=True)
    choice_services.move_candidate("small", by=alice, stronger=False)
    choice_services.move_candidate("nothing", by=alice, stronger=True)
    assert candidates(world) == ["small", "large"]
    choice_services.move_candidate("large", by=alice, stronger=False)
    choice_services.remove_candidate("large", by=alice)
    choice_services.remove_candidate("large", by=alice)
    assert candidates(world) == ["small"]
    assert trail(world) == ["routing.changed"] * 5


@pytest.mark.parametrize("name", ["", "nothing", "off", "vectors", "auto", "preset:x"])
def test_only_chat_models_that_are_offered_are_chosen_or_compared_with(world: World, name: str) -> None:
    alice = world.actor("alice")
    assert "no chat model" in refusal("candidate", choice_services.add_candidate, name, by=alice)
    if name:
        assert "no chat model" in refusal("baseline", choice_services.set_baseline, name, by=alice)


def test_a_candidate_stands_once_and_there_are_only_so_many(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = world.actor("alice")
    choice_services.add_candidate("small", by=alice)
    assert "already" in refusal("candidate", choice_services.add_candidate, "SMALL", by=alice)
    monkeypatch.setattr(choice_services, "MOST_CANDIDATES", 1)
    assert "At most 1" in refusal("candidate", choice_services.add_candidate, "large", by=alice)


def test_the_baseline_is_set_and_cleared(world: World) -> None:
    alice = world.actor("alice")
    choice_services.set_baseline("LARGE", by=alice)
    assert RoutingChoice.objects.get(organization=world.acme).baseline_model == "large"
    choice_services.set_baseline(" ", by=alice)
    assert RoutingChoice.objects.get(organization=world.acme).baseline_model == ""


def test_it_is_a_matter_of_the_root(world: World) -> None:
    for by in ("lena", "sam", "mia"):
        for change in (choice_services.add_candidate, choice_services.set_baseline, choice_services.remove_candidate):
            with pytest.raises(NotAllowed):
                change("small", by=world.actor(by))
        with pytest.raises(NotAllowed):
            choice_services.move_candidate("small", by=world.actor(by), stronger=True)
    assert not RoutingChoice.objects.filter(organization=world.acme).exists()


def test_a_model_is_found_by_its_kind(world: World) -> None:
    assert targets.model_named("vectors") == "vectors"
    assert targets.model_named("vectors", kind="chat") is None
