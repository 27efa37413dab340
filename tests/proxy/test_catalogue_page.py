"""The catalogue page: what there is, what one's keys may call and why not, what it costs, and what of it will be gone."""

from __future__ import annotations

import html
import re
from copy import deepcopy
from datetime import date, timedelta
from typing import Any, cast

import pytest
from django.test import Client
from django.utils import timezone

from billing.pricing import Rates
from guardrails import example_call
from guardrails.models import Binding, Policy, Rule
from guardrails.requests import approve_model
from orgs.models import Group
from orgs.services.changes import changing
from orgs.services.members import add_member
from orgs.services.organizations import change_settings
from proxy import catalogue, provider_keys
from proxy.catalogue_pages import prices_of
from proxy.models import Model
from tests.actors import World
from tests.ledger_rows import call_row, insert_calls

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("lasting_prices")]

TIER = {"above": 272_000, "input": 2, "output": 15}
FILE = {
    "providers": [{"name": "main", "kind": "openai", "api_key": "sk-never-shown"}, {"name": "spare", "kind": "groq"}],
    "models": [
        {
            "name": "alpha/one",
            "context_window": 1_050_000,
            "max_output_tokens": 128_000,
            "capabilities": ["tools", "vision"],
            "price": {
                "input": "1.25",
                "cached_input": "0.125",
                "output": 10,
                "tiers": [{"above": 272000, "input": 2, "output": 15}],
            },
            "deployments": [{"provider": "main", "model": "a"}, {"provider": "spare", "model": "a", "order": 2}],
        },
        {
            "name": "old",
            "replaced_by": "alpha/one",
            "price": {"input": 3, "output": 4},
            "deployments": [{"provider": "main", "model": "o"}],
        },
        {"name": "painter", "kind": "image", "price": {"image": "0.06"}, "deployments": [{"provider": "main", "model": "p"}]},
        {"name": "priceless", "deployments": [{"provider": "spare", "model": "x"}]},
    ],
}


def soon() -> date:
    """Not of the time when this file was read: a run may pass midnight."""
    return timezone.localdate() + timedelta(days=10)


@pytest.fixture
def world(db: None, lasting_world: World) -> World:
    return deepcopy(lasting_world)


KINDS = {"embedding": "/v1/embeddings", "image": "/v1/images/generations", "speech": "/v1/audio/speech"}
KINDS |= {"transcription": "/v1/audio/transcriptions", "video": "/v1/videos", "chat": "/v1/chat/completions"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_comes_with_a_call_that_is_ready(world: World, kind: str) -> None:
    deployments = [{"provider": "main", "model": "m"}]
    catalogue.load({**FILE, "models": [{"name": "one", "kind": kind, "deployments": deployments}]})
    client = Client()
    client.force_login(world.mia)
    page = html.unescape(client.get(f"/o/{world.acme.slug}/models/one/", {"name": "one"}).content.decode())
    assert KINDS[kind] in page
    python = next((snippet.code for snippet in example_call.snippets("one", kind=kind) if snippet.name == "python"), "")
    compile(python, "snippet", "exec")
    assert python in page


@pytest.fixture
def offered(world: World) -> World:
    catalogue.load(FILE)
    Model.objects.filter(name="old").update(retires_on=soon())
    return world


def shown(world: World, person: str = "mia", /, path: str = "", **query: str) -> str:
    client = Client()
    client.force_login(getattr(world, person))
    found = client.get(f"/o/{world.acme.slug}/models/{path}", query)
    assert found.status_code == 200
    return html.unescape(found.content.decode())


def rows(text: str) -> dict[str, str]:
    """The table's rows by model, as text."""
    found = re.findall(r"<tr data-row>(.*?)</tr>", text, re.DOTALL)
    plain = [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in found]
    return {row.split()[0]: row for row in plain}


def forbid(world: World, group: Group, **rules: list[str]) -> None:
    with changing(world.acme):
        policy = Policy.objects.create(organization=world.acme, name="House rules")
        for kind, entries in rules.items():
            Rule.objects.create(policy=policy, kind=kind, entries=entries)
        Binding.objects.create(policy=policy, organization=world.acme, group=group)


def test_every_model_is_there_with_what_it_can_and_costs(offered: World) -> None:
    text = shown(offered)
    found = rows(text)
    assert list(found) == ["alpha/one", "old", "painter", "priceless"]
    assert "main, spare" in found["alpha/one"]
    assert "Tools Vision" in found["alpha/one"]
    assert "$1.25 $10" in found["alpha/one"]
    assert "1.05 M" in found["alpha/one"]
    assert "$0.06 per image" in found["painter"]
    assert "no price" in found["priceless"]
    assert all("Yours to use" in row for row in found.values())
    assert "sk-never-shown" not in text
    assert "Models</a>" in text


def test_filters_narrow_it_and_stand_in_the_address(offered: World) -> None:
    forbid(offered, offered.root, blocked_models=["alpha/*"])
    wanted: list[tuple[dict[str, str], list[str]]] = [
        ({"q": "ALPHA"}, ["alpha/one"]),
        ({"q": "spare"}, ["alpha/one", "priceless"]),
        ({"kind": "image"}, ["painter"]),
        ({"capability": "vision"}, ["alpha/one"]),
        ({"provider": "main", "kind": "chat"}, ["alpha/one", "old"]),
        ({"may": "use"}, ["old", "painter", "priceless"]),
        ({"q": "nothing like it"}, []),
        ({"kind": "<script>"}, []),
    ]
    for query, names in wanted:
        text = shown(offered, **query)
        assert list(rows(text)) == names, query
        assert ("No model matches" in text) == (not names)


def test_what_a_policy_on_ones_path_keeps_away_is_marked_with_the_rule(offered: World) -> None:
    forbid(offered, offered.platform, models=["old", "painter"], providers=["spare"])
    found = rows(shown(offered))
    assert "Not allowed" in found["alpha/one"]
    assert "Not allowed" in found["old"], "its only provider is not allowed"
    why = shown(offered, path="one/", name="alpha/one")
    assert "The policy 'House rules' on the group 'platform' does not allow the model alpha/one." in why
    assert "An admin above this level can change the policy." in why
    assert "Yours to use" in rows(shown(offered, "noah"))["alpha/one"], "another branch of the tree"


def test_whoever_may_change_the_policy_is_not_sent_to_somebody_above(offered: World) -> None:
    forbid(offered, offered.root, models=["old"])
    above = shown(offered, "alice", path="one/", name="alpha/one")
    assert ">You can change it</a>." in above
    assert "can change the policy" not in above
    assert "An admin above this level can change the policy." in shown(offered, path="one/", name="alpha/one")


def test_a_provider_that_is_not_allowed_is_not_named_where_another_serves(offered: World) -> None:
    forbid(offered, offered.gateway, providers=["spare"])
    row = rows(shown(offered))["alpha/one"]
    assert "Yours to use" in row
    assert "main" not in row


def test_whoever_belongs_to_two_groups_is_told_which_of_them_may(offered: World) -> None:
    forbid(offered, offered.gateway, blocked_models=["old"])
    add_member(offered.mia, group=offered.field, by=offered.actor("alice"))
    row = rows(shown(offered))["old"]
    assert "In some groups field" in row
    assert "Keys in field may call it." in shown(offered, path="one/", name="old")
    assert "old" in rows(shown(offered, may="use"))


def test_a_model_that_needs_an_approval_can_be_asked_for_until_it_has_one(offered: World) -> None:
    Model.objects.exclude(name="old").update(created_at=timezone.now() - timedelta(days=30))
    change_settings(offered.acme, by=offered.actor("alice"), approval_since=timezone.now() - timedelta(days=7))
    found = rows(shown(offered))
    assert "Needs approval" in found["old"]
    assert "Yours to use" in found["painter"]
    assert f"/o/{offered.acme.slug}/guardrails/requests/new/?model=old" in shown(offered, path="one/", name="old")
    offered.acme.refresh_from_db()
    approve_model("old", group=offered.platform, by=offered.actor("alice"))
    assert "Yours to use" in rows(shown(offered))["old"]


def test_the_page_of_one_tells_everything_and_how_to_call_it(offered: World) -> None:
    text = shown(offered, path="one/", name="alpha/one")
    assert "1,050,000 tokens" in text
    assert "128,000 tokens" in text
    for price in ("$1.25", "$0.125", "$10", "$15", "272,000"):
        assert price in text
    assert 'model="alpha/one"' in text
    assert 'id="model-name"' in text
    assert "sk-never-shown" not in text
    assert "Call it" in shown(offered, path="one/", name="painter")
    assert "It has no price" in shown(offered, path="one/", name="priceless")


def test_one_that_ends_names_what_comes_in_its_place(offered: World) -> None:
    text = shown(offered, path="one/", name="old")
    assert f"Gone on {soon():%b %-d, %Y}" in text
    assert "?name=alpha%2Fone" in text
    Model.objects.filter(name="old").update(replaced_by="elsewhere")
    assert "which is not offered here" in shown(offered, path="one/", name="old")


def test_a_warning_tells_of_models_in_use_that_end_as_far_as_one_may_see_the_calls(offered: World) -> None:
    assert "in use" not in shown(offered)
    now = timezone.now()
    insert_calls(
        call_row(offered.key, requested_model="old"),
        call_row(offered.key, requested_model="old", at=now - timedelta(days=29)),
        call_row(offered.key, requested_model="old", at=now - timedelta(days=31)),
        call_row(offered.key, requested_model="old", status="refused"),
        call_row(offered.key, requested_model="alpha/one"),
    )
    for person in ("mia", "sam", "lena", "alice"):
        text = " ".join(re.sub(r"<[^>]+>", " ", shown(offered, person)).split())
        assert "1 model in use ends" in text, person
        assert "2 calls by 1 key, 10 days left" in text
        assert "its maker names alpha/one" in text
        assert ("calls of the last 30 days that you may see" in text) == (person != "mia")
    assert "in use" not in shown(offered, "noah"), "another member's calls"


def test_an_end_that_is_far_away_is_a_date_and_no_warning(offered: World) -> None:
    Model.objects.filter(name="old").update(retires_on=timezone.localdate() + timedelta(days=400))
    insert_calls(call_row(offered.key, requested_model="old"))
    text = shown(offered)
    assert "in use" not in text
    assert "Gone on" in rows(text)["old"]


def unkeyed(world: World, *others: str) -> World:
    """`later` is served by a provider whose key was never set, and by the `others`."""
    served = [{"provider": name, "model": "m", "order": at} for at, name in enumerate(("keyless", *others), start=1)]
    providers: list[Any] = [
        *cast(list[Any], FILE["providers"]),
        {"name": "keyless", "kind": "mistral", "api_key_env": "A_KEY_THAT_NOBODY_SET"},
    ]
    model = {"name": "later", "price": {"input": 1, "output": 1}, "deployments": served}
    catalogue.load({"providers": providers, "models": [model]})
    return world


def test_a_model_whose_provider_has_no_key_is_not_said_to_be_usable(world: World) -> None:
    unkeyed(world)
    assert "No provider key" in rows(shown(world))["later"]
    assert rows(shown(world, may="use")) == {}
    page = shown(world, path="one/", name="later")
    assert "The gateway has no key for keyless yet, so a call of it would fail." in page
    assert "Whoever runs this gateway sets one." in page


def test_where_another_provider_serves_it_too_it_is_usable(world: World) -> None:
    unkeyed(world, "main")
    assert "Yours to use" in rows(shown(world))["later"]


@pytest.mark.parametrize(("kind", "words"), [("mistral", "Yours to use"), ("openai", "No provider key")])
def test_with_a_key_of_the_organisations_own_it_is_usable(world: World, kind: str, words: str) -> None:
    unkeyed(world)
    place = provider_keys.Place(kind, None)
    provider_keys.add(world.root, place=place, name="Ours", secret="sk-0123456789", by=world.actor("alice"))
    assert words in rows(shown(world))["later"]


def test_a_policy_that_keeps_it_away_is_what_is_told_first(world: World) -> None:
    unkeyed(world)
    forbid(world, world.engineering, blocked_models=["later"])
    assert "Not allowed" in rows(shown(world))["later"]


def test_where_nothing_is_declared_the_page_says_what_to_do(world: World) -> None:
    assert "manage.py catalogue add" in shown(world)


def test_names_are_shown_as_they_are(offered: World) -> None:
    name = "<b>x</b> & 'y'"
    catalogue.load({"models": [{"name": name, "deployments": [{"provider": "main", "model": "n"}]}]})
    client = Client()
    client.force_login(offered.mia)
    for path in ("", "one/"):
        raw = client.get(f"/o/{offered.acme.slug}/models/{path}", {"name": name}).content.decode()
        assert "<b>x</b>" not in raw
        assert "&lt;b&gt;x&lt;/b&gt;" in raw


def test_a_film_has_a_price_for_each_resolution_in_words() -> None:
    rates = Rates(input=0, output=0, units={"second_720p": 400_000_000, "second": 600_000_000})
    assert prices_of(rates)[-2:] == [("Second", "$0.6", "second"), ("Second at 720p", "$0.4", "second at 720p")]
