"""The pages of simulations through HTTP: who may, what a form says, a bar while it runs, a result that can be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from celery.signals import beat_init, worker_init
from django.test import Client
from django.utils import timezone
from django.utils.html import escape

from gateway_project.celery import app, wait_for_broker
from gateway_project.demo import history
from gateway_project.demo.company import FOUNDER
from guardrails.models import Limit as LimitRow
from guardrails.models import Policy
from guardrails.models import Rule as RuleRow
from guardrails.services.bindings import bind
from orgs.actor import Actor
from orgs.errors import Refused
from orgs.models import AuditEvent, Organization, User
from proxy import simulation_services as services
from proxy.models import Simulation
from proxy.simulating import running, spans
from proxy.simulating.proposal import Limit, Proposal, Rule, Target
from proxy.simulating.wording import title, words
from proxy.simulation_services import Wanted
from tests.actors import World, signed_in
from tests.proxy.simulations import DOLLAR, budget, made_calls, noahs_key, simulated, typed, wanted

HTMX = {"hx-request": "true"}


def url(world: World, path: str = "") -> str:
    return f"/o/{world.acme.slug}/guardrails/simulations/{path}"


def one_url(world: World, simulation: Simulation, path: str = "") -> str:
    return url(world, f"{simulation.pk}/{path}")


def shown(response: Any) -> str:
    text: str = response.content.decode()
    return text


def sent(world: World, by: str = "alice", **fields: Any) -> Any:
    return signed_in(world, by).post(url(world, "new/"), typed(world, **fields))


# --- the list -------------------------------------------------------------------------------------


def test_an_empty_list_says_what_a_simulation_is_for(world: World) -> None:
    page = shown(signed_in(world, "alice").get(url(world)))
    assert "Try a policy before anybody feels it" in page
    assert url(world, "new/") in page


def test_the_list_tells_outcomes_and_costs_the_same_for_many(world: World, django_assert_max_num_queries: Any) -> None:
    made_calls(world.key, 3, 3)
    alice = world.actor("alice")
    simulated(wanted(world, budget(5), name="Tight"), by=alice)
    simulated(wanted(world, budget(50), name="Wide"), by=alice)
    for number in range(services.MOST_UNFINISHED):
        services.start(wanted(world, budget(5), name=f"Waiting {number}"), by=alice)
    client = signed_in(world, "alice")
    client.get(url(world))
    with django_assert_max_num_queries(12):
        page = shown(client.get(url(world)))
    assert "1 of 2 calls refused" in page
    assert "$3.00" in page
    assert "Nobody refused" in page
    assert page.index("Waiting 2") < page.index("Wide") < page.index("Tight")


def test_admins_see_those_of_their_part_of_the_tree(world: World) -> None:
    services.start(wanted(world, budget(5), name="Whole"), by=world.actor("alice"))
    services.start(wanted(world, budget(5), name="Part", targets=(Target("keys", world.core.pk),)), by=world.actor("alice"))
    assert "Part" in shown(signed_in(world, "sam").get(url(world)))
    assert "Whole" not in shown(signed_in(world, "sam").get(url(world)))


# --- a new one ------------------------------------------------------------------------------------


def test_a_typed_one_is_asked_for_and_its_page_says_so(world: World) -> None:
    response = sent(world, rpm="7", blocked_models="big-*, huge", members=[world.sales.pk])
    made = Simulation.objects.get(organization=world.acme)
    assert response.headers["location"] == one_url(world, made)
    page = shown(signed_in(world, "alice").get(one_url(world, made)))
    for text in ("$5.00 per month", "7 requests per minute", "blocked models: big-*, huge", "each member below sales"):
        assert text in page
    assert "Waiting for a worker" in page
    assert made.name == "$5.00 per month, 7 requests per minute, blocked models: big…"


def test_it_is_handed_to_a_worker_once_it_is_saved(world: World, django_capture_on_commit_callbacks: Any) -> None:
    connected: Any = app.connection_for_write()
    with connected as connection:
        connection.default_channel.queue_purge("celery")
        with django_capture_on_commit_callbacks(execute=True):
            sent(world)
        queue = connection.SimpleQueue("celery")
        message = queue.get(timeout=5)
        message.ack()
        queue.close()
    made = Simulation.objects.get(organization=world.acme)
    assert message.headers["task"] == "proxy.tasks.simulate"
    assert message.payload[0] == [made.pk, 1]


@contextmanager
def broker_at(address: str) -> Iterator[None]:
    """Celery keeps its connections: they are made anew, there and back."""
    celery: Any = app
    known = celery.conf.broker_write_url
    for broker in (address, known):
        celery.conf.broker_write_url = broker
        celery._pool = celery.amqp._producer_pool = None
        if broker == address:
            yield


def test_without_a_broker_it_says_so(world: World, django_capture_on_commit_callbacks: Any) -> None:
    with broker_at("redis://127.0.0.1:9/0"), django_capture_on_commit_callbacks(execute=True):
        sent(world)
    made = Simulation.objects.get(organization=world.acme)
    assert (made.status, made.error) == ("failed", services.NO_WORKER)
    assert services.NO_WORKER in shown(signed_in(world, "alice").get(one_url(world, made)))


def test_only_who_serves_people_gives_up_on_a_broker_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = app.conf.broker_transport_options
    monkeypatch.setitem(app.conf, "broker_transport_options", at_once)
    for begins in (worker_init, beat_init):
        assert wait_for_broker in [reference() for _, reference in begins.receivers]
    wait_for_broker()
    assert (at_once, app.conf.broker_transport_options) == ({"max_retries": 0}, {})


def policy_of(organization: Organization, *, dedicated: bool = False) -> Policy:
    policy = Policy.objects.create(organization=organization, name="House rules", dedicated=dedicated)
    LimitRow.objects.create(policy=policy, kind="budget", window="week", value=2 * DOLLAR)
    LimitRow.objects.create(policy=policy, kind="parallel", window="now", value=2)
    RuleRow.objects.create(policy=policy, kind="addresses", entries=["10.0.0.0/8"])
    return policy


def test_an_existing_policy_is_tried_whoever_it_is_bound_to(world: World) -> None:
    policy = policy_of(world.acme)
    sent(world, source="policy", policy=policy.pk, budget_month="")
    made = Simulation.objects.get(organization=world.acme)
    assert (made.policy, made.name) == (policy, "House rules")
    page = shown(signed_in(world, "alice").get(one_url(world, made)))
    assert "$2.00 per week" in page
    assert "2 calls at the same time" in page
    assert "Not replayed" in page
    assert services.ADDRESSES in page
    assert "$5.00" not in page


def test_an_address_can_ask_for_a_policy_and_a_group(world: World) -> None:
    policy = policy_of(world.acme)
    page = signed_in(world, "alice").get(url(world, f"new/?policy={policy.pk}&members={world.sales.pk}"))
    form = page.context["form"]
    assert [choice.group.name for choice in form.tree if choice.members] == ["sales"]
    assert f'value="{policy.pk}" selected' in shown(page)


def test_only_groups_whose_limits_one_may_set_are_offered(world: World) -> None:
    form = signed_in(world, "lena").get(url(world, "new/")).context["form"]
    assert [(choice.group.name, choice.depth) for choice in form.tree] == [("platform", 0), ("gateway", 1), ("core", 2)]
    assert sent(world, "lena").status_code == 422
    assert sent(world, "lena", group=[world.gateway.pk]).status_code == 302


@pytest.mark.parametrize(
    ("wrong", "field", "says"),
    [
        ({"source": "dream"}, "source", "valid choice"),
        ({"source": "policy"}, "policy", "Choose the policy"),
        ({"source": "policy", "policy": "999999999"}, "policy", "valid choice"),
        ({"budget_month": "lots"}, "budget_month", "amount in US dollars"),
        ({"budget_day": "-1"}, "budget_day", "more than zero"),
        ({"rpm": "0"}, "rpm", "greater than or equal to 1"),
        ({"tpm": "many"}, "tpm", "whole number"),
        ({"rpd": "9" * 20}, "rpd", "less than or equal to"),
        ({"models": "no names!"}, "models", "not the name of a model"),
        ({"blocked_models": " ".join(f"m{n}" for n in range(201))}, "blocked_models", "At most 200|at most 200"),
        ({"group": ["x"]}, "group", "valid choice"),
        ({"group": ["999999999"]}, "group", "valid choice"),
        ({"application": ["999999999"]}, "application", "valid choice"),
        ({"span": "decade"}, "span", "valid choice"),
        ({"first": ""}, "first", "Choose a day"),
        ({"last": "soon"}, "last", "valid date"),
        ({"first": "2999-01-01"}, "first", "still to come"),
        ({"last": "2026-10-01"}, "last", "before the first day"),
        ({"first": "2020-01-01"}, "last", "At most 400 days"),
        ({"group": []}, "__all__", "Choose whom it applies to"),
        ({"budget_month": ""}, "__all__", "Set at least one limit"),
        ({"name": "x" * 121}, "name", "120"),
        ({"name": "a\u202eb"}, "name", "visible characters"),
    ],
)
def test_bad_input_is_named_and_kept(world: World, wrong: dict[str, Any], field: str, says: str) -> None:
    response = sent(world, **{"rpm": "", **wrong})
    assert response.status_code == 422
    errors = response.context["form"].errors
    assert list(errors) == [field]
    assert any(part in " ".join(errors[field]) for part in says.split("|"))
    assert not Simulation.objects.filter(organization=world.acme).exists()
    if field != "budget_month" and "budget_month" not in wrong:
        assert 'value="5"' in shown(response)


def test_what_is_wrong_with_a_choice_stands_beside_it_on_a_line_of_its_own(world: World) -> None:
    wrong: dict[str, Any] = {name: ["999999999"] for name in ("group", "members", "keys", "application")}
    response = sent(world, **wrong, source="dream", span="decade")
    assert response.status_code == 422
    form = response.context["form"]
    labels = {"group": "Itself: ", "members": "Each member below: ", "keys": "Each key below: ", "application": "Applications: "}
    for name in (*wrong, "source", "span"):
        [error] = form.errors[name]
        lines = re.search(rf'id="{form[name].auto_id}_error">(.*?)</div></div>', shown(response))
        assert lines, name
        assert lines[1] == f"<div>{labels.get(name, '')}{escape(error)}", name
    assert shown(response).count(f'aria-describedby="{form["span"].auto_id}_error"') >= 1


def test_another_organisations_policy_or_one_of_a_single_key_cannot_be_tried(world: World) -> None:
    for policy in (policy_of(world.other), policy_of(world.acme, dedicated=True)):
        assert sent(world, source="policy", policy=policy.pk).status_code == 422


def test_a_policy_of_those_beside_can_neither_be_chosen_nor_tried(world: World) -> None:
    secret, own = policy_of(world.acme), Policy.objects.create(organization=world.acme, name="Ours")
    LimitRow.objects.create(policy=own, kind="budget", window="week", value=DOLLAR)
    bind(secret, subject=world.sales, by=world.actor("alice"))
    bind(own, subject=world.gateway, by=world.actor("alice"))
    page = signed_in(world, "sam").get(url(world, "new/"))
    assert list(page.context["form"].fields["policy"].queryset) == [own]
    assert "House rules" not in shown(page)
    asked = {"source": "policy", "budget_month": "", "group": [world.gateway.pk]}
    assert sent(world, "sam", **asked, policy=secret.pk).status_code == 422
    assert sent(world, "sam", **asked, policy=own.pk).status_code == 302
    with pytest.raises(Refused, match="may not see"):
        services.start(wanted(world, policy=secret, targets=(Target("group", world.gateway.pk),)), by=world.actor("sam"))


def test_a_policy_that_was_taken_out_of_sight_is_not_read_again(world: World) -> None:
    policy = policy_of(world.acme)
    made = services.start(wanted(world, policy=policy, targets=(Target("group", world.gateway.pk),)), by=world.actor("sam"))
    running.run(made.pk, number=1)
    bind(policy, subject=world.sales, by=world.actor("alice"))
    LimitRow.objects.filter(policy=policy, kind="budget").update(value=9 * DOLLAR)
    page = shown(signed_in(world, "sam").post(one_url(world, made, "again/"), follow=True))
    assert "You may not see this policy" in page
    assert "$9.00" not in page
    assert signed_in(world, "alice").post(one_url(world, made, "again/"), follow=True).context["simulation"].status == "queued"


def test_a_fourth_one_at_once_is_refused_in_words(world: World) -> None:
    for _ in range(services.MOST_UNFINISHED):
        assert sent(world).status_code == 302
    response = sent(world)
    assert response.status_code == 422
    assert "have not ended yet" in shown(response)


# --- one ------------------------------------------------------------------------------------------


def test_the_result_says_who_when_and_how_much(world: World, django_assert_max_num_queries: Any) -> None:
    ids = made_calls(world.key, 3, 3, 2, 1)
    made_calls(noahs_key(world), 6, 4)
    each = (Target("members", world.root.pk),)
    done = simulated(wanted(world, budget(5), Limit("rpm", "minute", 9), targets=each), by=world.actor("alice"))
    client = signed_in(world, "alice")
    client.get(one_url(world, done))
    with django_assert_max_num_queries(12):
        response = client.get(one_url(world, done))
    page, context = shown(response), response.context["page"]
    assert [tile.value for tile in context["tiles"]] == ["3", "$10.00", "2", "Nov 3"]
    assert [(line.subject.name, line.calls, line.nano_usd) for line in context["subjects"]] == [
        (world.noah.name, 1, 6 * DOLLAR),
        (world.mia.name, 2, 4 * DOLLAR),
    ]
    assert [(cause.label, cause.calls) for cause in context["causes"]] == [("$5.00 per month", 3), ("9 requests per minute", 0)]
    assert {line.window for line in context["firsts"]} == {"November 2026"}
    assert f"/o/{world.acme.slug}/calls/{ids[1]}/" in page
    assert "refused nothing" in page
    assert "History knows what a call cost; an admission does not" in page


def test_what_each_limit_stopped_stands_on_a_line_of_its_own(world: World) -> None:
    made_calls(world.key, 1, 1, 3, 1, 1, 1)
    done = simulated(wanted(world, Limit("rpd", "day", 3), budget(4)), by=world.actor("alice"))
    assert {one["number"] for one in done.result["subjects"]} == {0, 1}
    lines = {line.limit: (line.calls, line.nano_usd) for line in shown_page(world, done)["subjects"]}
    assert lines == {cause.label: (cause.calls, cause.nano_usd) for cause in shown_page(world, done)["causes"] if cause.calls}


def test_a_result_of_an_earlier_version_is_shown_as_it_was_kept(world: World) -> None:
    made_calls(world.key, 3, 3)
    done = simulated(wanted(world, budget(5)), by=world.actor("alice"))
    del done.result["subject_line_count"]
    done.result["subject_count"] = 23
    done.save()
    assert shown_page(world, done)["more_subjects"] == 22


def test_the_chart_is_of_money_by_day(world: World) -> None:
    made_calls(world.key, 3, 3)
    chart = shown_page(world, simulated(wanted(world, budget(5)), by=world.actor("alice")))["chart"]
    at = chart["labels"].index("Nov 3")
    assert chart["unit"] == "usd"
    assert [series["values"][at] for series in chart["series"]] == [3 * DOLLAR, 3 * DOLLAR]
    assert sum(chart["series"][1]["values"]) == 3 * DOLLAR


def test_where_nothing_had_a_price_the_chart_is_of_calls(world: World) -> None:
    made_calls(world.key, 0, 0, 0)
    chart = shown_page(world, simulated(wanted(world, Limit("rpd", "day", 2)), by=world.actor("alice")))["chart"]
    assert (chart["unit"], [sum(series["values"]) for series in chart["series"]]) == ("count", [2, 1])


def shown_page(world: World, simulation: Simulation) -> dict[str, Any]:
    page: dict[str, Any] = signed_in(world, "alice").get(one_url(world, simulation)).context["page"]
    return page


def test_nobody_refused_and_nobody_to_judge_are_told_apart(world: World) -> None:
    alice, client = world.actor("alice"), signed_in(world, "alice")
    empty = simulated(wanted(world, budget(5)), by=alice)
    assert "No calls to judge" in shown(client.get(one_url(world, empty)))
    made_calls(world.key, 1)
    fine = simulated(wanted(world, budget(5)), by=alice)
    page = shown(client.get(one_url(world, fine)))
    assert "Nobody would have been refused" in page
    assert "Let through" in page


@pytest.mark.parametrize(
    ("limit", "window"),
    [
        (budget(1, "day"), "Nov 3"),
        (budget(1, "week"), "week from Nov 2, 2026"),
        (budget(1, "quarter"), "quarter from Oct 1, 2026"),
        (budget(1, "year"), "year from Jan 1, 2026"),
        (budget(1, "total"), "in total"),
        (Limit("max_tokens", "call", 1), "the whole period"),
        (Limit("tpm", "minute", 1), "Nov 3"),
    ],
)
def test_windows_are_named(world: World, limit: Limit, window: str) -> None:
    made_calls(world.key, 3)
    page = shown_page(world, simulated(wanted(world, limit), by=world.actor("alice")))
    assert [line.window for line in page["firsts"]] == [window]


def test_progress_asks_again_until_it_has_ended(world: World) -> None:
    made = services.start(wanted(world, budget(5)), by=world.actor("alice"))
    client = signed_in(world, "alice")
    assert "every 1s" in shown(client.get(one_url(world, made, "progress/"), headers=HTMX))
    Simulation.objects.filter(pk=made.pk).update(status="running", progress=42, calls=1000)
    part = shown(client.get(one_url(world, made, "progress/"), headers=HTMX))
    assert 'aria-valuenow="42"' in part
    assert "1,000 calls" in part
    running.run(made.pk, number=1)
    ended = client.get(one_url(world, made, "progress/"), headers=HTMX)
    assert ended.headers["HX-Redirect"] == one_url(world, made)


def test_cancelled_run_again_and_deleted(world: World) -> None:
    made_calls(world.key, 9)
    made = services.start(wanted(world, budget(5), name="Try me"), by=world.actor("alice"))
    client = signed_in(world, "alice")
    assert client.post(one_url(world, made, "cancel/"), follow=True).context["simulation"].status == "cancelled"
    assert "had ended already" in shown(client.post(one_url(world, made, "cancel/"), follow=True))
    assert client.post(one_url(world, made, "again/"), follow=True).context["simulation"].status == "queued"
    assert "has not ended yet" in shown(client.post(one_url(world, made, "again/"), follow=True))
    running.run(made.pk, number=2)
    assert "Calls refused" in shown(client.get(one_url(world, made)))
    assert "Delete Try me?" in shown(client.get(one_url(world, made, "delete/")))
    assert client.post(one_url(world, made, "delete/"), headers=HTMX).headers["HX-Redirect"] == url(world)
    assert client.get(one_url(world, made)).status_code == 404


def test_the_trail_says_who_asked_cancelled_ran_again_and_deleted(world: World) -> None:
    client = signed_in(world, "sam")
    sent(world, "sam", group=[world.gateway.pk], name="Try me")
    made = Simulation.objects.get(organization=world.acme)
    for path in ("cancel/", "cancel/", "again/", "again/", "delete/"):
        client.post(one_url(world, made, path))
    found = AuditEvent.objects.filter(organization=world.acme, object_type="simulation", object_id=str(made.pk))
    events = list(found.order_by("pk"))
    assert [event.action.partition(".")[2] for event in events] == ["started", "cancelled", "run_again", "deleted"]
    assert {(event.actor, event.object_label) for event in events} == {(world.sam, "Try me")}
    started, cancelled, again, deleted = events
    assert started.after["tries"] == ["$5.00 per month"]
    assert started.after["targets"] == [f"group {world.gateway.pk}"]
    assert (cancelled.before["status"], cancelled.after["status"]) == ("queued", "cancelled")
    assert (again.before["run"], again.after["run"]) == (1, 2)
    assert (deleted.before["name"], deleted.before["status"], deleted.after) == ("Try me", "queued", {})


@pytest.mark.parametrize("change", [services.cancel, services.delete, services.start_again])
def test_what_is_out_of_reach_is_neither_changed_nor_audited(world: World, change: Any) -> None:
    made = services.start(wanted(world, budget(5), targets=(Target("group", world.field.pk),)), by=world.actor("alice"))
    for name in ("sam", "charlie"):
        with pytest.raises(Refused, match="no such simulation"):
            change(made, by=world.actor(name))
    made.refresh_from_db()
    assert (made.status, made.run) == ("queued", 1)
    found = AuditEvent.objects.filter(object_type="simulation", object_id=str(made.pk))
    assert [event.action for event in found] == ["simulation.started"]


def test_a_running_one_may_be_deleted(world: World) -> None:
    made = services.start(wanted(world, budget(5)), by=world.actor("alice"))
    assert signed_in(world, "alice").post(one_url(world, made, "delete/")).status_code == 302
    running.run(made.pk, number=1)
    assert not Simulation.objects.filter(pk=made.pk).exists()


PATHS = {"": "get", "progress/": "get", "cancel/": "post", "again/": "post", "delete/": "post"}


@pytest.mark.parametrize("path", PATHS)
def test_strangers_and_those_beside_find_nothing(world: World, path: str) -> None:
    made = services.start(wanted(world, budget(5), targets=(Target("group", world.field.pk),)), by=world.actor("alice"))
    for name, status in (("charlie", 404), ("lena", 404), ("sam", 404), ("mia", 403)):
        assert getattr(signed_in(world, name), PATHS[path])(one_url(world, made, path)).status_code == status
    elsewhere = f"/o/{world.other.slug}/guardrails/simulations/{made.pk}/{path}"
    assert getattr(signed_in(world, "charlie"), PATHS[path])(elsewhere).status_code == 404
    made.refresh_from_db()
    assert made.status == "queued"


@pytest.mark.parametrize(
    ("path", "method"), [("", "post"), ("progress/", "post"), ("cancel/", "get"), ("again/", "get"), ("delete/", "put")]
)
def test_wrong_methods(world: World, path: str, method: str) -> None:
    made = services.start(wanted(world, budget(5)), by=world.actor("alice"))
    assert getattr(signed_in(world, "alice"), method)(one_url(world, made, path)).status_code == 405


@pytest.mark.parametrize(("name", "status"), [("alice", 200), ("lena", 200), ("sam", 200), ("mia", 403), ("charlie", 404)])
def test_the_list_and_the_form_need_the_permission(world: World, name: str, status: int) -> None:
    for path in ("", "new/"):
        assert signed_in(world, name).get(url(world, path)).status_code == status


# --- words ----------------------------------------------------------------------------------------


def test_limits_and_rules_in_words() -> None:
    limits = (budget(5, "total"), budget(7, "year"), Limit("tpm", "minute", 40_000), Limit("max_tokens", "call", 9))
    rules = (Rule("models", tuple("abcdefgh")), Rule("members", ("1", "2")))
    assert words(Proposal(limits, rules, ())) == [
        "$5.00 in total",
        "$7.00 per year",
        "40,000 tokens per minute",
        "9 output tokens per call",
        "allowed models: a, b, c, d, e, f and 2 more",
        "2 allowed members",
    ]


def test_a_long_title_is_cut() -> None:
    rules = (Rule("models", ("x" * 50, "y" * 50)),)
    name = title(Proposal((), rules, ()), longest=80)
    assert len(name) <= 80
    assert name.startswith("Allowed models: xxx")
    assert name.endswith("…")


# --- the demo organisation ------------------------------------------------------------------------


def test_the_demo_organisation_gives_a_result_worth_reading(northwind: Organization) -> None:
    history.write(northwind, days=20, calls=3_000)
    founder = User.objects.get(email=FOUNDER.email)
    alice = Actor.load(founder, organization=northwind)
    today = timezone.now()
    asked = Wanted(
        "Trial", None, (Limit("budget", "day", DOLLAR // 2), Limit("rpd", "day", 40)), (), (Target("keys", northwind.root.pk),),
        Simulation.Span.CUSTOM, spans.Span(today - timedelta(days=15), today),
    )  # fmt: skip
    done = simulated(asked, by=alice)
    (refused, avoided), (passed, spent) = done.result["refused"], done.result["passed"]
    assert 0 < refused < passed
    assert 0 < avoided < spent
    assert done.result["subjects"]
    client = Client()
    client.force_login(founder)
    page = client.get(f"/o/{northwind.slug}/guardrails/simulations/{done.pk}/")
    assert done.result["names"][done.result["subjects"][0]["subject"]] in shown(page)
    assert len(page.context["page"]["chart"]["labels"]) >= 15
