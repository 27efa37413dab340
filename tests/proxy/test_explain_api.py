"""`GET /api/v1/explain` and `GET /v1/key` through a real gateway: who may ask of which key, and what is told."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from django.db import transaction
from django.test import Client
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from gateway_project.api_document import document
from gateway_project.lib.money import NANO
from guardrails.models import Binding, Limit, Policy, Rule
from orgs import epoch
from orgs.models import User
from orgs.services.keys import disable_key
from proxy.explain_forms import QuestionForm
from tests.gateways import Gateway
from tests.house import House


def session_of(user: User) -> dict[str, str]:
    client = Client()
    client.force_login(user)
    return {name: morsel.value for name, morsel in client.cookies.items()}


def ask(gateway: Gateway, *, user: User | None = None, bearer: str = "", **question: Any) -> httpx.Response:
    return httpx.get(
        f"{gateway.url}/api/v1/explain",
        params={"model": "scripted", **question},
        headers={"authorization": f"Bearer {bearer}"} if bearer else {},
        cookies=session_of(user) if user is not None else {},
        timeout=30,
        trust_env=False,
    )


@pytest.mark.parametrize(
    ("name", "status"), [("mia", 200), ("sam", 200), ("lena", 200), ("alice", 200), ("noah", 404), ("charlie", 404)]
)
def test_a_person_may_ask_of_the_keys_it_may_see(gateway: Gateway, house: House, name: str, status: int) -> None:
    found = ask(gateway, user=getattr(house.world, name), key=house.key.public_id)
    assert found.status_code == status
    if status == 404:
        assert found.json()["error"]["code"] == "key_not_found"
    else:
        assert found.json()["key"]["name"] == "Mia's key"


def test_a_key_that_does_not_exist_is_the_same_404(gateway: Gateway, house: House) -> None:
    found = ask(gateway, user=house.world.alice, key="abcdefabcdef")
    hidden = ask(gateway, user=house.world.noah, key=house.key.public_id)
    assert (found.status_code, found.json()) == (hidden.status_code, hidden.json())


def test_nobody_is_told_to_sign_in(gateway: Gateway, house: House) -> None:
    found = ask(gateway, key=house.key.public_id)
    assert (found.status_code, found.json()["error"]["code"]) == (401, "invalid_api_key")
    assert found.headers["content-type"] == "application/json"


def test_a_key_explains_itself_and_no_other(gateway: Gateway, house: House) -> None:
    other, text = house.new_key()
    assert ask(gateway, bearer=house.key_text).json()["key"]["name"] == "Mia's key"
    assert ask(gateway, bearer=text, key=other.public_id).json()["key"]["name"] == "Another key"
    assert ask(gateway, bearer=text, key=house.key.public_id).status_code == 404


@pytest.mark.parametrize("bearer", ["gh_sk_abcdefabcdef_" + "x" * 43, "nonsense"])
def test_a_wrong_key_is_401_whatever_session_comes_with_it(gateway: Gateway, house: House, bearer: str) -> None:
    found = ask(gateway, user=house.world.alice, bearer=bearer, key=house.key.public_id)
    assert (found.status_code, found.json()["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"model": ""}, "model"),
        ({"max_tokens": "0"}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"input_tokens": "-1"}, "input_tokens"),
        ({"reserve_tokens": "-1"}, "reserve_tokens"),
        ({"address": "not-an-address"}, "address"),
        ({"key": "../etc"}, "key"),
        ({"key": ""}, "key"),
    ],
)
def test_what_is_wrong_with_a_question_is_named(gateway: Gateway, house: House, wrong: dict[str, str], param: str) -> None:
    found = ask(gateway, user=house.world.mia, **{"key": house.key.public_id, **wrong})
    assert found.status_code == 400
    assert (found.json()["error"]["code"], found.json()["error"]["param"]) == ("invalid_request", param)


def test_other_methods_are_not_taken(gateway: Gateway, house: House) -> None:
    found = httpx.post(f"{gateway.url}/api/v1/explain", cookies=session_of(house.world.mia), trust_env=False)
    assert found.status_code in (403, 405)


def test_what_is_not_given_is_a_page_of_prompt_from_here(gateway: Gateway, house: House) -> None:
    told = ask(gateway, bearer=house.key_text).json()
    assert told["question"] == {
        "model": "scripted", "input_tokens": 1000, "max_tokens": None, "stream": False, "address": "127.0.0.1", "feature": "",
        "n": 1, "reserve_tokens": 0,
    }  # fmt: skip
    assert told["reserves_usd"] == "0.017384002"
    assert told["reserves_tokens"] == 1000 + 1024


def test_what_may_be_read_besides_costs_and_counts_in_no_rate_of_tokens(gateway: Gateway, house: House) -> None:
    sent = ask(gateway, bearer=house.key_text, input_tokens="26000").json()
    besides = ask(gateway, bearer=house.key_text, input_tokens="1000", reserve_tokens="25000").json()
    assert besides["question"]["reserve_tokens"] == 25_000
    assert besides["reserves_usd"] == sent["reserves_usd"]
    assert (besides["reserves_tokens"], sent["reserves_tokens"]) == (1000 + 1024, 26_000 + 1024)


def assert_documented(found: httpx.Response) -> None:
    """By the document of the API, which names every member of an answer."""
    described = document()["paths"]["/api/v1/explain"]["get"]["responses"][str(found.status_code)]
    schema = described["content"]["application/json"]["schema"]
    whole = {**schema, "components": document()["components"]}
    Draft202012Validator(whole).validate(found.json())
    assert_all_named(found.json(), schema)


def assert_all_named(told: Any, schema: dict[str, Any]) -> None:
    for reference in (schema, *schema.get("oneOf", []), *schema.get("allOf", []), *schema.get("anyOf", [])):
        if "$ref" in reference and told is not None:
            schema = document()["components"]["schemas"][reference["$ref"].rpartition("/")[2]]
    for one in told if isinstance(told, list) else []:
        assert_all_named(one, schema["items"])
    for name, value in told.items() if isinstance(told, dict) else []:
        assert name in schema["properties"], name
        assert_all_named(value, schema["properties"][name])


def test_every_answer_is_as_the_document_of_the_api_says(gateway: Gateway, house: House) -> None:
    passes, unknown = ask(gateway, bearer=house.key_text), ask(gateway, bearer=house.key_text, model="nothing")
    rule(house, "models", ["other-*"])
    refused = ask(gateway, user=house.world.mia, key=house.key.public_id, stream="true", max_tokens=5)
    assert [one.json()["verdict"] for one in (passes, unknown, refused)] == ["passes", "refuses", "refuses"]
    assert any("resets_at" in line for line in passes.json()["lines"])
    wrong = ask(gateway, bearer=house.key_text, max_tokens="many")
    nobody = ask(gateway, key=house.key.public_id)
    elsewhere = ask(gateway, user=house.world.noah, key=house.key.public_id)
    assert [one.status_code for one in (wrong, nobody, elsewhere)] == [400, 401, 404]
    for found in (passes, unknown, refused, wrong, nobody, elsewhere):
        assert_documented(found)


def test_the_document_names_what_a_question_may_say(client: Client) -> None:
    described = document()["paths"]["/api/v1/explain"]["get"]
    named = {one["name"]: one for one in described["parameters"]}
    assert set(named) == {"key", *QuestionForm().fields}
    assert [name for name, one in named.items() if one.get("required")] == ["model"]
    assert {scheme for one in described["security"] for scheme in one} == {"key", "session"}
    assert set(document()["components"]["securitySchemes"]) >= {"key", "session"}
    assert "/api/v1/explain" in client.get("/api/v1/docs").content.decode()


def test_a_disabled_key_can_still_be_explained_in_the_console(gateway: Gateway, house: House) -> None:
    disable_key(house.key, by=house.world.actor("alice"))
    told = ask(gateway, user=house.world.mia, key=house.key.public_id).json()
    assert (told["verdict"], told["refusal"]["status"], told["refusal"]["code"]) == ("refuses", 401, "key_disabled")
    assert [(line["kind"], line["code"]) for line in told["lines"] if line["decides"]] == [("key", "key_disabled")]
    assert [line["verdict"] for line in told["lines"] if line["kind"] == "budget"] == ["passes"]


def test_an_address_is_judged_as_if_the_call_came_from_there(gateway: Gateway, house: House) -> None:
    rule(house, "addresses", ["10.1.0.0/16"])
    inside = ask(gateway, user=house.world.mia, key=house.key.public_id, address="10.1.2.3").json()
    outside = ask(gateway, user=house.world.mia, key=house.key.public_id).json()
    assert (inside["verdict"], outside["refusal"]["code"]) == ("passes", "ip_not_allowed")


def test_a_key_is_told_nothing_where_it_may_not_be_used(gateway: Gateway, house: House) -> None:
    rule(house, "addresses", ["10.1.0.0/16"])
    found = ask(gateway, bearer=house.key_text, address="10.1.2.3")
    assert (found.status_code, found.json()["error"]["code"]) == (403, "ip_not_allowed")


def test_who_is_in_a_list_of_members_is_not_told(gateway: Gateway, house: House) -> None:
    rule(house, "members", [str(house.world.sam.pk)])
    told = ask(gateway, user=house.world.mia, key=house.key.public_id).json()
    assert told["refusal"]["code"] == "member_not_allowed"
    (line,) = (line for line in told["lines"] if line["kind"] == "members")
    assert ("entries" in line, line["text"], line["decides"]) == (False, "Mia is not named", True)


# --- GET /v1/key ---------------------------------------------------------------------------------
def test_the_card_of_a_key_knows_every_kind_of_limit_the_rules_and_the_switches(gateway: Gateway, house: House) -> None:
    kinds = [
        ("budget", "week"),
        ("rpm", "minute"),
        ("tpm", "minute"),
        ("rpd", "day"),
        ("parallel", "now"),
        ("max_tokens", "call"),
    ]
    for kind, window in kinds:
        house.limit(kind, NANO if kind == "budget" else 100, window=window, group=house.world.platform)
    house.limit("keys", 5, window="now", group=house.world.platform)
    rule(house, "models", ["scripted", "pair"])
    rule(house, "members", [str(house.world.mia.pk)])
    rule(house, "addresses", ["127.0.0.0/8"])
    rule(house, "providers", [])

    told = httpx.get(f"{gateway.url}/v1/key", headers={"authorization": f"Bearer {house.key_text}"}, trust_env=False).json()

    limits = {(limit["kind"], limit["window"]): limit for limit in told["limits"] if limit["level"] == "group"}
    assert set(limits) == set(kinds)
    assert limits["budget", "week"]["left"] == "1"
    assert limits["budget", "week"]["resets_at"] is not None
    assert {limit["left"] for (kind, _), limit in limits.items() if kind != "budget"} == {"100"}
    rules = {found["kind"]: found for found in told["rules"]}
    assert set(rules) == {"models", "members", "addresses"}
    assert rules["models"]["entries"] == ["scripted", "pair"]
    assert (rules["members"]["count"], "entries" in rules["members"]) == (1, False)
    assert told["switches"] == {
        "clamp": True, "clamp_least_tokens": 16, "observed_holds": False, "attribution_required": False,
        "content_retention_hours": 0, "content_sample_percent": 100, "zdr_only": False,
        "models_need_approval_since": None, "approved_models": [],
    }  # fmt: skip


def rule(house: House, kind: str, entries: list[str]) -> None:
    with transaction.atomic():
        policy = Policy.objects.create(organization=house.organization, name=f"{kind} rule", clamp=None)
        Rule.objects.create(policy=policy, kind=kind, entries=entries)
        Binding.objects.create(policy=policy, organization=house.organization, group=house.world.engineering)
        epoch.changing(house.organization.pk)
    assert Limit.objects.filter(policy=policy).count() == 0
