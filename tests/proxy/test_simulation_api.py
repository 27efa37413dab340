"""Simulations by the API: asked for, run, read, by the console's rules."""

from __future__ import annotations

from typing import Any

import pytest

from guardrails.services.policies import LimitSpec, create_policy
from orgs.models import AuditEvent
from proxy import simulation_services as services
from proxy.models import Simulation
from proxy.simulating import running
from tests.actors import World
from tests.apis import Json, api, code
from tests.proxy.simulations import DOLLAR, made_calls


def wanted(world: World, **fields: Any) -> Json:
    """A budget of five dollars a month on the organisation, in November."""
    return {
        "limits": [{"kind": "budget", "window": "month", "value": str(5 * DOLLAR)}],
        "targets": [{"kind": "group", "id": world.root.pk}],
        **{"span": "custom", "first": "2026-11-01", "last": "2026-11-19"},
        **fields,
    }


def test_one_is_asked_for_run_and_read(world: World) -> None:
    made_calls(world.key, 3, 3, 3)
    ask = api(world, "alice")
    made = ask("post", "/simulations", wanted(world), status=201)
    facts = {name: made[name] for name in ("status", "progress", "result", "name", "policy_id", "created_by_id")}
    assert facts == {
        **{"status": "queued", "progress": 0, "result": None},
        **{"name": "$5.00 per month", "policy_id": None, "created_by_id": world.alice.pk},
    }
    assert (made["starts_at"], made["ends_at"]) == ("2026-11-01T00:00:00Z", "2026-11-20T00:00:00Z")
    running.run(made["id"], number=1)
    done = ask("get", f"/simulations/{made['id']}")
    result = done["result"]
    assert (done["status"], done["progress"], done["calls"]) == ("done", 100, 3)
    assert (result["passed"], result["refused"]) == (
        {"calls": 1, "nano_usd": str(3 * DOLLAR)},
        {"calls": 2, "nano_usd": str(6 * DOLLAR)},
    )
    assert result["by_limit"] == [{"number": 0, **result["refused"]}]
    who = result["firsts"][0]
    assert (who["kind"], who["name"], who["at"]) == ("organisation", world.acme.name, "2026-11-03T12:01:00Z")
    assert (who["window_starts_at"], len(result["days"]), {one["model"] for one in result["sample"]}) == (
        "2026-11-01T00:00:00Z", 19, {"sandbox-standard"},
    )  # fmt: skip
    listed = ask("get", "/simulations")["data"][0]
    assert listed == {name: value for name, value in done.items() if name != "result"}


def test_subjects_are_named_by_kind_and_id(world: World) -> None:
    made_calls(world.key, 3, 3)
    ask = api(world, "sam")
    targets = [{"kind": "keys", "id": world.gateway.pk}]
    made = ask("post", "/simulations", wanted(world, targets=targets), status=201)
    running.run(made["id"], number=1)
    who = ask("get", f"/simulations/{made['id']}")["result"]["subjects"][0]
    assert (who["kind"], who["id"], who["name"][:9]) == ("key", world.key.pk, world.key.name)


def test_a_policy_is_tried_as_it_is_and_says_what_is_left_out(world: World) -> None:
    limits = [LimitSpec("rpm", "minute", 5), LimitSpec("parallel", "now", 2)]
    rules = {"providers": ["main"], "addresses": ["10.0.0.0/8"]}
    policy = create_policy(world.acme, name="Team", limits=limits, rules=rules, by=world.actor("alice"))
    asked = wanted(world, policy_id=policy.pk)
    del asked["limits"]
    made = api(world, "alice")("post", "/simulations", asked, status=201)
    assert (made["policy_id"], made["name"], made["left_out"]) == (policy.pk, "Team", [services.ADDRESSES])
    assert made["limits"] == [
        {"kind": "rpm", "window": "minute", "value": "5", "counts_byok": False},
        {"kind": "parallel", "window": "now", "value": "2", "counts_byok": False},
    ]
    assert made["rules"] == [{"kind": "providers", "entries": ["main"]}]


def test_one_is_cancelled_run_again_and_deleted_and_each_is_in_the_trail(world: World) -> None:
    ask = api(world, "alice")
    path = f"/simulations/{ask('post', '/simulations', wanted(world), status=201)['id']}"
    assert code(ask("post", f"{path}/run-again", status=422)) == "refused"
    assert [ask("post", f"{path}/cancel")["status"] for _ in range(2)] == ["cancelled", "cancelled"]
    assert ask("post", f"{path}/run-again")["status"] == "queued"
    assert ask("delete", path, status=204) is None
    ask("get", path, status=404)
    events = AuditEvent.objects.filter(organization=world.acme, object_type="simulation").order_by("pk")
    assert [event.action for event in events] == [
        f"simulation.{word}" for word in ("started", "cancelled", "run_again", "deleted")
    ]


def test_nobody_tries_limits_where_it_sets_none(world: World) -> None:
    """At one's own node, beside it, in another company: all the same. Nor does it see what was tried there."""
    made = api(world, "alice")("post", "/simulations", wanted(world), status=201)
    sam = api(world, "sam")
    sam("get", f"/simulations/{made['id']}", status=404)
    for group in (world.platform, world.field, world.other.root):
        targets = [{"kind": "group", "id": group.pk}]
        assert code(sam("post", "/simulations", wanted(world, targets=targets), status=403)) == "permission_missing"
    below = [{"kind": "application", "id": world.assistant.pk}]
    assert code(sam("post", "/simulations", wanted(world, targets=below), status=403)) == "permission_missing"
    reads = api(world, "alice", "simulations:read", "policies:write")
    assert code(reads("post", "/simulations", wanted(world), status=403)) == "scope_missing"
    assert Simulation.objects.filter(organization=world.acme).count() == 1


def test_only_so_many_run_at_once(world: World) -> None:
    ask = api(world, "alice")
    for _ in range(services.MOST_UNFINISHED):
        ask("post", "/simulations", wanted(world), status=201)
    assert code(ask("post", "/simulations", wanted(world), status=422)) == "refused"


BUDGET = {"kind": "budget", "window": "month", "value": "5"}


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"limits": [{**BUDGET, "window": "minute"}]}, "limits.0.window"),
        ({"limits": [{"kind": "rpm", "window": "day", "value": "5"}]}, "limits.0.window"),
        ({"limits": [{**BUDGET, "value": "0"}]}, "limits.0.value"),
        ({"limits": [{"kind": "rpm", "window": "minute", "value": "5", "counts_byok": True}]}, "limits.0.counts_byok"),
        ({"limits": [BUDGET, BUDGET]}, "limits"),
        ({"limits": []}, None),
        ({"rules": [{"kind": "members", "entries": ["1"]}]}, "rules.0.kind"),
        ({"rules": [{"kind": "models", "entries": ["a b"]}]}, "rules.0.entries.0"),
        ({"rules": [{"kind": "models", "entries": ["a"]}] * 2}, "rules"),
        ({"policy_id": 1}, "policy_id"),
        ({"targets": []}, None),
        ({"targets": [{"kind": "member", "id": 1}]}, "targets.0.kind"),
        ({"span": "last_month"}, "first"),
        ({"first": "2026-11-20"}, "last"),
        ({"first": "0001-01-01", "last": "0001-01-02"}, "first"),
        ({"first": "9999-12-31", "last": "9999-12-31"}, "first"),
        ({"first": "2025-01-01"}, "last"),
        ({"last": "9999-12-31"}, "last"),
        ({"spam": 1}, "spam"),
    ],
)
def test_a_wrong_question_is_refused(world: World, wrong: Json, param: str | None) -> None:
    refused = api(world, "alice")("post", "/simulations", wanted(world, **wrong), status=422)
    assert refused["error"]["param"] == param
    assert not Simulation.objects.filter(organization=world.acme).exists()


def test_a_policy_out_of_sight_is_none(world: World) -> None:
    foreign = create_policy(world.other, name="Theirs", limits=[LimitSpec("rpm", "minute", 5)], by=world.actor("charlie"))
    asked = wanted(world, policy_id=foreign.pk)
    del asked["limits"]
    api(world, "alice")("post", "/simulations", asked, status=404)
