"""Keys, policies and exceptions by the API: what is set, what stays, and what is refused."""

from __future__ import annotations

import json

import pytest

from guardrails.models import Binding, Override, Policy
from guardrails.selectors import own_limits, own_rules
from orgs.models import ApiKey, AuditEvent
from tests.actors import World
from tests.apis import Api, Json, api, code
from tests.ledger_rows import call_row, insert_calls

DOLLAR = 10**9
UNTIL = "2099-01-01T00:00:00Z"


def test_keys(world: World) -> None:
    ask = api(world, "mia")
    wanted = {"name": "mine", "group_id": world.gateway.pk, "member_id": world.mia.pk, "application_id": world.assistant.pk}
    made = ask("post", "/keys", {**wanted, "environment": "staging", "features": ["chat"]}, status=201)
    path = f"/keys/{made['key']['id']}"
    assert made["text"].startswith(f"gh_sk_{made['key']['public_id']}_")
    assert made["text"] not in json.dumps(ask("get", path))
    changed = ask("patch", path, {"name": "ours"})
    assert (changed["name"], changed["environment"], changed["features"]) == ("ours", "staging", ["chat"])
    assert ask("post", f"{path}/rotate", {})["text"] != made["text"]
    assert ask("post", f"{path}/disable")["status"] == "disabled"
    assert ask("post", f"{path}/enable")["status"] == "active"
    ask("delete", path, status=204)
    assert ApiKey.objects.get(pk=made["key"]["id"]).revoked_at
    assert code(ask("post", "/keys", {**wanted, "group_id": world.field.pk}, status=404)) == "not_found"


def made_by_mia(world: World, **more: object) -> tuple[Api, str, Json]:
    ask = api(world, "mia")
    made = ask("post", "/keys", {"name": "mine", "group_id": world.gateway.pk, "member_id": world.mia.pk, **more}, status=201)
    return ask, f"/keys/{made['key']['id']}", made["key"]


def test_a_key_is_made_with_its_limits(world: World) -> None:
    """One step: no call can be made with it before they hold."""
    limits, rules = {"monthly_nano_usd": str(25 * DOLLAR), "rpm": 60}, {"models": ["gpt-5*"], "addresses": ["10.0.0.0/8"]}
    ask, path, made = made_by_mia(world, limits=limits, rules=rules)
    key = ApiKey.objects.get(pk=made["id"])
    assert (own_limits(key).monthly_nano_usd, own_limits(key).rpm, own_rules(key).models) == (25 * DOLLAR, 60, ("gpt-5*",))
    assert ask("get", path) == made
    assert {name: value for name, value in made["limits"].items() if value is not None} == limits
    assert made["rules"] == {**rules, "blocked_models": []}
    listed = {name: value for name, value in made.items() if name != "warnings"}
    assert listed in ask("get", "/keys")["data"]


def test_of_a_keys_limits_what_is_not_given_stays(world: World) -> None:
    ask, path, made = made_by_mia(world, limits={"rpm": 60, "parallel": 4}, rules={"models": ["gpt-*"]})
    changed = ask("patch", path, {"limits": {"rpm": 30, "parallel": None}, "rules": {"blocked_models": ["*-preview"]}})
    assert (changed["limits"]["rpm"], changed["limits"]["parallel"], changed["name"]) == (30, None, "mine")
    assert (changed["rules"]["models"], changed["rules"]["blocked_models"]) == (["gpt-*"], ["*-preview"])
    assert ask("patch", path, {"name": "ours"})["limits"] == changed["limits"]
    events = AuditEvent.objects.filter(object_type="apikey", object_id=str(made["id"])).order_by("pk")
    assert [event.action for event in events] == ["key.created", "key.limits_set", "key.limits_set", "key.edited"]


@pytest.mark.parametrize(
    ("limits", "rules", "param"),
    [
        ({"rpm": 0}, {}, "limits.rpm"),
        ({"daily_nano_usd": "-1"}, {}, "limits.daily_nano_usd"),
        ({"daily_nano_usd": 1.5}, {}, "limits.daily_nano_usd"),
        ({"daily_nano_usd": str(9 * 10**18)}, {}, "limits.daily_nano_usd"),
        ({"yearly_nano_usd": "1"}, {}, "limits.yearly_nano_usd"),
        ({}, {"addresses": ["nowhere"]}, "rules.addresses"),
        ({}, {"models": ["a b"]}, "rules.models"),
    ],
)
def test_wrong_limits_of_a_key_are_named_and_nothing_is_made(world: World, limits: Json, rules: Json, param: str) -> None:
    ask, wanted = api(world, "mia"), {"name": "mine", "limits": limits, "rules": rules}
    home = {"group_id": world.gateway.pk, "member_id": world.mia.pk}
    assert ask("post", "/keys", wanted | home, status=422)["error"]["param"] == param
    assert ask("patch", f"/keys/{world.key.pk}", wanted, status=422)["error"]["param"] == param
    assert list(ApiKey.objects.filter(organization=world.acme).values_list("name", flat=True)) == [world.key.name]


def test_what_an_admin_set_on_a_key_binds_its_member(world: World) -> None:
    path, own = f"/keys/{world.key.pk}", api(world, "mia")
    api(world, "sam")("patch", path, {"limits": {"rpm": 10}})
    refused = own("patch", path, {"name": "new", "limits": {"rpm": 11}}, status=422)
    assert (code(refused), refused["error"]["param"]) == ("refused", "limits.rpm")
    assert own("get", path)["name"] == world.key.name
    assert own("patch", path, {"limits": {"rpm": 9}})["limits"]["rpm"] == 9


def test_keys_are_narrowed_and_the_old_text_ends(world: World) -> None:
    ask = api(world, "alice")
    wanted = {"name": "spare", "group_id": world.root.pk, "member_id": world.alice.pk}
    spare = ask("post", "/keys", wanted, status=201)["key"]["id"]

    def found(query: str) -> set[int]:
        return {one["id"] for one in ask("get", f"/keys?{query}")["data"]}

    assert found(f"group={world.platform.pk}") == found(f"member={world.mia.pk}") == found("search=Mia") == {world.key.pk}
    assert found("whose=me") == {spare}
    rotated = ask("post", f"/keys/{spare}/rotate", {"old_until": UNTIL}, status=422)
    assert rotated["error"]["param"] == "old_until"
    assert ask("post", f"/keys/{spare}/rotate", {})["key"]["old_until"]
    ask("post", f"/keys/{spare}/end-old-text")
    ask("delete", f"/keys/{spare}", status=204)
    assert found("") == {world.key.pk}
    assert found("status=revoked") == {spare}


def test_policies_and_bindings(world: World) -> None:
    ask = api(world, "alice")
    limit = {"kind": "budget", "window": "month", "value": "4000000000000000000", "counts_byok": True}
    rules = [{"kind": "models", "entries": ["gpt-*"]}]
    made = ask("post", "/policies", {"name": "Team", "limits": [limit], "rules": rules, "clamp": True}, status=201)
    assert (made["limits"], made["rules"]) == ([limit], rules)
    path = f"/policies/{made['id']}"
    assert ask("patch", path, {"limits": [{"kind": "rpm", "window": "minute", "value": 5}]}) == ask("get", path)
    assert ask("get", path)["limits"][0]["value"] == "5"
    wrong = ask("patch", path, {"limits": [{"kind": "rpm", "window": "day", "value": "5"}]}, status=422)
    assert wrong["error"]["param"] == "limits.0"
    for kind, number in (("group", world.platform.pk), ("member", world.mia.pk), ("api_key", world.key.pk)):
        bound = ask("post", "/bindings", {"policy_id": made["id"], "subject": {"kind": kind, "id": number}}, status=201)
        assert (bound["subject"]["kind"], bound["subject"]["id"], bound["reach"]) == (kind, number, "self")
    assert len(ask("get", "/bindings")["data"]) == 3
    ask("delete", f"/bindings/{bound['id']}", status=204)
    ask("post", "/bindings", {"policy_id": made["id"], "subject": {"kind": "group", "id": world.other.root.pk}}, status=422)
    ask("delete", path, status=204)
    assert not Policy.objects.filter(pk=made["id"]).exists()
    assert not Binding.objects.filter(policy=made["id"]).exists()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"limits": [{"kind": "rpm", "window": "minute"}]}, "limits.0.value"),
        ({"limits": [{"kind": "rpm", "window": "minute", "value": "1"}, {"kind": "budget", "value": "1"}]}, "limits.1.window"),
        ({"rules": [{"kind": "models"}]}, "rules.0.entries"),
        ({"rules": [{"kind": "models", "entries": []}, {"kind": "addresses", "entries": ["x"]}]}, "rules.1"),
        ({"rules": [{"kind": "models", "entries": ["a"]}, {"kind": "models", "entries": ["b"]}]}, "rules"),
    ],
)
def test_what_is_missing_inside_a_change_is_named(world: World, body: Json, param: str) -> None:
    """Fields of a change may be left out, but not fields of what stands inside it."""
    ask = api(world, "alice")
    path = f"/policies/{ask('post', '/policies', {'name': 'Team'}, status=201)['id']}"
    assert ask("patch", path, body, status=422)["error"]["param"] == param
    assert ask("get", path)["limits"] == []


# --- exceptions -----------------------------------------------------------------------------------
@pytest.fixture
def excepted(world: World) -> Json:
    """What names a budget of a dollar a month on the gateway."""
    ask = api(world, "alice")
    limits = [
        {"kind": "budget", "window": "month", "value": str(DOLLAR)},
        {"kind": "rpm", "window": "minute", "value": "5"},
    ]
    policy = ask("post", "/policies", {"name": "Team", "limits": limits}, status=201)
    subject = {"kind": "group", "id": world.gateway.pk}
    ask("post", "/bindings", {"policy_id": policy["id"], "subject": subject}, status=201)
    return {"policy_id": policy["id"], "limit": {"kind": "budget", "window": "month"}, "subject": subject}


def test_more_of_a_limit_until_a_moment(world: World, excepted: Json) -> None:
    ask = api(world, "sam")
    made = ask("post", "/overrides", {**excepted, "amount": str(5 * DOLLAR), "until": UNTIL, "reason": "Launch"}, status=201)
    subject = {**excepted["subject"], "name": world.gateway.name}
    facts = {"kind": "extra", "amount": str(5 * DOLLAR), "until": UNTIL, "reason": "Launch", "created_by_id": world.sam.pk}
    assert made == {
        **{"id": made["id"], "starts_at": made["starts_at"], "revoked_at": None},
        **{**excepted, **facts, "subject": subject},
    }
    path, listed = f"/overrides/{made['id']}", f"/overrides?policy={excepted['policy_id']}&running="
    assert ask("get", path) == made == ask("get", f"{listed}true")["data"][0]
    assert ask("post", f"{path}/end")["revoked_at"]
    assert (ask("get", f"{listed}true")["data"], len(ask("get", f"{listed}false")["data"])) == ([], 1)
    assert ask("post", f"{path}/resume") == made
    events = AuditEvent.objects.filter(organization=world.acme, action__startswith="policy.override").order_by("pk")
    assert [event.action.rpartition("_")[2] for event in events] == ["added", "ended", "resumed"]
    assert {event.actor_id for event in events} == {world.sam.pk}


def test_a_reset_forgives_what_was_spent(world: World, excepted: Json) -> None:
    ask = api(world, "sam")
    assert code(ask("post", "/overrides/reset", excepted, status=422)) == "refused"
    row = call_row(world.key)
    insert_calls(row)
    made = ask("post", "/overrides/reset", {**excepted, "reason": "A loop"}, status=201)
    assert (made["kind"], made["amount"]) == ("reset", str(row.charged_nano_usd))
    assert code(ask("post", "/overrides/reset", excepted, status=422)) == "refused"


@pytest.mark.parametrize(
    ("wrong", "status", "param"),
    [
        ({"amount": "0"}, 422, "amount"),
        ({"amount": "1.5"}, 422, "amount"),
        ({"until": "2001-01-01T00:00:00Z"}, 422, "until"),
        ({"until": "2099-01-01T00:00:00"}, 422, "until"),
        ({"limit": {"kind": "tpm", "window": "minute"}}, 422, "limit"),
        ({"limit": {"kind": "rpm"}}, 422, "limit.window"),
        ({"subject": {"kind": "group", "id": 2**62}}, 422, "subject"),
        ({"policy_id": 2**62}, 404, None),
        ({"reason": "x" * 301}, 422, "reason"),
        ({"untill": UNTIL}, 422, "untill"),
    ],
)
def test_a_wrong_exception_is_refused(world: World, excepted: Json, wrong: Json, status: int, param: str | None) -> None:
    refused = api(world, "alice")("post", "/overrides", {**excepted, "amount": "1", "until": UNTIL, **wrong}, status=status)
    assert refused["error"]["param"] == param
    assert not Override.objects.filter(organization=world.acme).exists()


def test_nobody_widens_its_own_limits(world: World, excepted: Json) -> None:
    """Sam's own node is Lena's to widen: there is no such thing whose guardrails he manages."""
    own = {**excepted, "subject": {"kind": "group", "id": world.platform.pk}}
    bound = {name: own[name] for name in ("policy_id", "subject")}
    api(world, "alice")("post", "/bindings", bound, status=201)
    wanted = {**own, "amount": "1", "until": UNTIL}
    assert api(world, "sam")("post", "/overrides", wanted, status=422)["error"]["param"] == "subject"
    assert api(world, "lena")("post", "/overrides", wanted, status=201)["subject"]["name"] == world.platform.name
