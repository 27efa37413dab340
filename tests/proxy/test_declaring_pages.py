"""The operator's pages that declare: a provider by a form, anything by a catalogue file; checked first, all of it or nothing."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from gateway_project.lib import crypto
from orgs.models import AuditEvent
from proxy import catalogue
from proxy.catalogue import bound_to
from proxy.models import Deployment, Model, Provider, ProviderKey
from tests.actors import World, operator

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("empty_catalogue")]
GIVEN = {"kind": "openai", "name": "openai-main", "secret": "sk-of-the-company", "base_url": "", "options": ""}
FILE = """
providers:
  - {name: own, kind: openai-compatible, base_url: "http://models.example:8000/v1", api_key: sk-in-a-file}
models:
  - name: our-model
    price: {input: 1, output: 2}
    deployments: [{provider: own, model: llama}]
"""


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(operator().user)
    return client


def add(client: Client, **changed: Any) -> HttpResponse:
    sent = {name: value for name, value in {**GIVEN, **changed}.items() if value is not None}
    return client.post(reverse("platform:add_provider"), sent)  # type: ignore[return-value]


def file(client: Client, text: str, *, do: str = "check") -> tuple[int, str]:
    answer = client.post(reverse("platform:catalogue_file"), {"text": text, "do": do}, follow=True)
    return answer.status_code, unescape(answer.content.decode())


def text_of(answer: HttpResponse) -> str:
    return unescape(answer.content.decode())


# --- a provider by a form -------------------------------------------------------------------------
def test_a_provider_is_declared_with_its_key_encrypted_and_the_models_known_here(client: Client) -> None:
    answer = add(client, offers="on")
    assert (answer.status_code, answer["location"]) == (302, reverse("platform:providers"))
    provider = Provider.objects.get()
    assert (provider.name, provider.kind) == ("openai-main", "openai")
    assert crypto.decrypt(provider.api_key_encrypted, bound_to=bound_to(provider)) == "sk-of-the-company"
    models = Model.objects.count()
    assert models > 5
    assert Deployment.objects.filter(provider=provider).count() == models
    shown = text_of(client.get(reverse("platform:providers")))  # type: ignore[arg-type]
    assert f"openai-main is declared, and {models} models can be called." in shown
    assert "sk-of-the-company" not in shown


def test_without_the_tick_it_offers_nothing_yet(client: Client) -> None:
    add(client)
    assert (Provider.objects.count(), Model.objects.count()) == (1, 0)
    assert "openai-main is declared." in text_of(client.get(reverse("platform:providers")))  # type: ignore[arg-type]


def test_it_stands_in_the_operators_trail_without_the_key(client: Client) -> None:
    add(client, offers="on")
    event = AuditEvent.objects.get(action="provider.declared")
    assert event.organization is None
    known = {"provider": "openai-main", "kind": "openai", "address": "openai"}
    assert event.after == {**known, "models": Model.objects.count()}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"name": ""}, "This field is required"),
        ({"name": "open ai"}, "slug"),
        ({"kind": "telepathy"}, "Select a valid choice"),
        ({"kind": "sandbox"}, "Select a valid choice"),
        ({"kind": "openai-compatible"}, "needs base_url"),
        ({"kind": "bedrock"}, "A provider of kind bedrock needs the option region"),
        ({"base_url": "ftp://nowhere"}, "base_url"),
        ({"options": "region"}, "Write each as a name, a colon and what it is"),
        ({"options": "[" * 1900}, "Write each as a name, a colon and what it is"),
        ({"options": "a: [b"}, "Write each as a name, a colon and what it is"),
        ({"options": "a: !!int x"}, "It may hold text, numbers in decimal digits"),
        ({"options": "a: !!bool x"}, "It holds the tag"),
        ({"options": "a: !!binary x"}, "It holds the tag"),
        ({"options": "a: {b: {c: {d: 1}}}"}, "It is nested more than 3 levels deep"),
        ({"options": "protocols: [[]]"}, "protocols must list protocols"),
        ({"options": '"\\ud800": a'}, "no half of a character"),
        ({"options": 'a: "\\0"'}, "may hold no NUL"),
        ({"kind": "cerebras", "offers": "on"}, "No models are shipped for providers of kind cerebras"),
    ],
)
def test_what_cannot_be_declared_is_said_and_nothing_is_stored(client: Client, changed: dict[str, str], words: str) -> None:
    answer = add(client, **changed)
    assert answer.status_code == 422
    assert words in text_of(answer)
    assert "sk-of-the-company" not in text_of(answer)
    assert not Provider.objects.exists()
    assert not AuditEvent.objects.filter(action="provider.declared").exists()


def test_one_that_is_there_is_not_overwritten(client: Client) -> None:
    add(client)
    before = Provider.objects.values().get()
    answer = add(client, secret="another", kind="anthropic")
    assert answer.status_code == 422
    assert "There is a provider of this name already" in text_of(answer)
    assert Provider.objects.values().get() == before


def test_options_reach_the_provider(client: Client) -> None:
    add(client, kind="bedrock", name="aws", options="region: eu-central-1")
    assert Provider.objects.get().options == {"region": "eu-central-1"}


@pytest.mark.parametrize(
    ("written", "options"),
    [
        ("api_version: 2024-13-45", {"api_version": "2024-13-45"}),  # no day, and none is meant
        ("api_version: 2024-10-21", {"api_version": "2024-10-21"}),
        ("a: !!timestamp 9", {"a": "9"}),
        ("# nothing yet", {}),
    ],
)
def test_options_are_read_as_in_a_file(client: Client, written: str, options: dict[str, Any]) -> None:
    assert add(client, kind="openai-compatible", base_url="http://models.example/v1", options=written).status_code == 302
    assert Provider.objects.get().options == options


# --- anything by a file ---------------------------------------------------------------------------
def test_a_check_tells_what_would_change_and_changes_nothing(client: Client) -> None:
    status, shown = file(client, FILE)
    assert status == 200
    for words in ("Provider", "own", "Model", "our-model", "created", "Nothing has been changed yet"):
        assert words in shown
    assert not Provider.objects.exists()
    assert not Model.objects.exists()


def test_loading_declares_it_and_says_so(client: Client) -> None:
    status, shown = file(client, FILE, do="load")
    assert status == 200
    assert "The catalogue is loaded" in shown
    assert Model.objects.get().deployments.get().provider.name == "own"
    event = AuditEvent.objects.get(action="catalogue.loaded")
    assert event.after["created"] >= 3
    assert event.after["address of own"] == "http://models.example:8000/v1"
    assert "sk-in-a-file" not in str(event.after)


def test_loading_again_changes_nothing_and_leaves_no_trail(client: Client) -> None:
    file(client, FILE, do="load")
    _, shown = file(client, FILE)
    assert "all of it is declared so already" in shown
    file(client, FILE, do="load")
    assert AuditEvent.objects.filter(action="catalogue.loaded").count() == 1


@pytest.mark.parametrize("do", ["check", "load"])
def test_every_problem_is_told_with_its_line_the_text_is_kept_and_nothing_is_stored(client: Client, do: str) -> None:
    broken = FILE.replace("price: {input: 1, output: 2}", "price: {input: dear}\n    colour: red")
    status, shown = file(client, broken, do=do)
    assert status == 422
    for words in ("Nothing was loaded", "Line 6", "Line 7", "colour", "our-model"):
        assert words in shown
    assert not Provider.objects.exists()


@pytest.mark.parametrize("variable", ["GATEHOUSE_KEYS", "SECRET_KEY", "SOME_KEY"])
def test_no_key_is_taken_out_of_the_environment(client: Client, variable: str) -> None:
    """Else whoever may declare in a browser could have any secret of this process sent to an address of their own."""
    sent = f'{{name: m, kind: openai-compatible, base_url: "https://evil.example/v1", api_key_env: {variable}}}'
    for do in ("check", "load"):
        status, shown = file(client, f"providers: [{sent}]", do=do)
        assert status == 422
        assert "api_key_env is declared at a terminal" in shown
    assert not Provider.objects.exists()


OWN = '{name: own, kind: openai-compatible, base_url: "http://models.example:8000/v1", api_key: sk-in-a-file}'


@pytest.mark.parametrize(
    "changed",
    [
        OWN.replace("models.example", "evil.example"),
        '{name: own, kind: openai, base_url: "http://models.example:8000/v1", api_key: sk-in-a-file}',
        OWN.replace("}", ", options: {protocols: [messages]}}"),
    ],
)
def test_a_key_that_is_kept_goes_to_no_other_place(client: Client, changed: str) -> None:
    file(client, FILE, do="load")
    before = Provider.objects.values().get()
    status, shown = file(client, f"providers: [{changed.replace(', api_key: sk-in-a-file', '')}]", do="load")
    assert status == 422
    assert "give api_key anew" in shown
    assert Provider.objects.values().get() == before
    assert file(client, f"providers: [{changed}]", do="load")[0] == 200
    assert Provider.objects.values().get() != before


def test_a_variable_named_at_the_terminal_stays_where_it_is(client: Client) -> None:
    line = "{name: main, kind: openai, api_key_env: KEY_OF_MAIN}"
    catalogue.load(f"providers: [{line}]")
    assert file(client, f"providers: [{line}]", do="load")[0] == 200
    assert file(client, f"providers: [{line.replace('openai', 'groq')}]", do="load")[0] == 422
    assert file(client, f"providers: [{line.replace('KEY_OF_MAIN', 'ANOTHER')}]", do="load")[0] == 422
    assert Provider.objects.get().api_key_env == "KEY_OF_MAIN"


# --- keys that organisations have brought ---------------------------------------------------------
ELSEWHERE = "https://elsewhere.example/v1"
AT_A_TERMINAL = "organisations have keys of their own that would go to another place by this"


def brought(world: World, *, kind: str = "openai", **more: Any) -> None:
    ProviderKey.objects.create(
        organization=world.acme, group=world.root, name="Ours", kind=kind, key_encrypted="x", created_by=world.alice, **more
    )


def test_a_key_that_an_organisation_brought_goes_to_no_other_place_by_a_file(client: Client, world: World) -> None:
    line = "{name: main, kind: openai, api_key: sk-1}"
    file(client, f"providers: [{line}]", do="load")
    brought(world)
    changed = line.replace("sk-1", f'sk-2, base_url: "{ELSEWHERE}"')
    status, shown = file(client, f"providers: [{changed}]", do="load")
    assert status == 422
    assert AT_A_TERMINAL in shown
    assert Provider.objects.get().base_url == ""
    catalogue.load(f"providers: [{changed}]")
    assert file(client, f"providers: [{changed.replace('main', 'second')}]", do="load")[0] == 200, "it goes there already"


def test_nor_by_the_form(client: Client, world: World) -> None:
    brought(world)
    refused = add(client, base_url=ELSEWHERE)
    assert refused.status_code == 422
    assert AT_A_TERMINAL.capitalize() in text_of(refused)
    assert not Provider.objects.exists()
    assert add(client, base_url="https://api.openai.com/v1").status_code == 302
    assert add(client, name="own", kind="openai-compatible", base_url=ELSEWHERE).status_code == 302, "of another kind"


def test_one_that_names_its_address_or_another_kind_stands_in_no_way(client: Client, world: World) -> None:
    brought(world, base_url="https://own.example/v1")
    brought(world, kind="groq")
    assert add(client, base_url=ELSEWHERE).status_code == 302


def test_one_for_a_single_provider_does_not_follow_it_to_another_kind(client: Client, world: World) -> None:
    file(client, "providers: [{name: main, kind: openai, api_key: sk-1}]", do="load")
    brought(world, provider=Provider.objects.get())
    assert AT_A_TERMINAL in file(client, "providers: [{name: main, kind: groq, api_key: sk-1}]", do="load")[1]
    assert add(client, name="other", base_url=ELSEWHERE).status_code == 302, "it is no key of that one"
    assert Provider.objects.get(name="main").kind == "openai"


@pytest.mark.parametrize("text", ["", "providers: [", "- 1", "\x00", "[" * 20_000, "x" * 1_000_001])
def test_what_is_no_catalogue_is_refused(client: Client, text: str) -> None:
    status, _ = file(client, text, do="load")
    assert status == 422
    assert not Provider.objects.exists()


def test_to_everybody_else_these_pages_do_not_exist(world: World) -> None:
    client = Client()
    client.force_login(world.alice)
    assert add(client).status_code == 404
    assert file(client, FILE, do="load")[0] == 404
    assert not Provider.objects.exists()
