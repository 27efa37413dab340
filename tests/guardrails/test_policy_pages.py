"""The pages of policies through HTTP: who sees and changes what, forms, dialogs, undo."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.template.loader import render_to_string
from django.utils import timezone

from guardrails.models import Binding, Limit, Override, Policy
from guardrails.policy_pages import words_of_limits
from guardrails.services.bindings import bind
from guardrails.services.key_limits import set_key_limits
from guardrails.services.overrides import add_override, end_override
from guardrails.services.policies import LimitSpec, change_policy, copy_policy, create_policy
from guardrails.subjects import token_of
from orgs.permissions import RoleName
from orgs.services.groups import create_group
from orgs.services.members import add_member, grant_role
from proxy.models import Deployment, Model, Provider
from tests.actors import World, signed_in
from tests.ledger_rows import call_row, insert_calls

CENT = 10_000_000
DOLLAR = 10**9
HTMX = {"hx-request": "true"}


def url(world: World, path: str = "") -> str:
    return f"/o/{world.acme.slug}/guardrails/{path}"


def shown(response: Any) -> str:
    text: str = response.content.decode()
    return text


def made(world: World, name: str = "Team", *subjects: str, **options: Any) -> Policy:
    limits = options.pop("limits", [LimitSpec("budget", "month", DOLLAR)])
    policy = create_policy(world.acme, name=name, limits=limits, by=world.actor("alice"), **options)
    for subject in subjects:
        bind(policy, subject=getattr(world, subject), by=world.actor("alice"))
    return policy


def typed(*limits: tuple[str, str], **fields: Any) -> dict[str, Any]:
    return {"name": "Crew", "limit": [what for what, _ in limits], "value": [value for _, value in limits], **fields}


# --- the list -------------------------------------------------------------------------------------


def listed(world: World, name: str) -> set[str]:
    return {row.policy.name for row in signed_in(world, name).get(url(world)).context["rows"]}


def test_everyone_sees_its_part_of_the_tree(world: World) -> None:
    made(world, "company", "root")
    made(world, "engineers", "engineering")
    made(world, "sellers", "field")
    made(world, "mias", "mia")
    made(world, "noahs", "noah")
    made(world, "app", "assistant")
    made(world, "nobody")
    assert listed(world, "alice") == {"company", "engineers", "sellers", "mias", "noahs", "app", "nobody"}
    assert listed(world, "lena") == {"company", "engineers", "mias", "app", "nobody"}
    assert listed(world, "sam") == {"company", "engineers", "mias", "app", "nobody"}


def test_a_keys_own_limits_are_no_policy_of_the_list(world: World) -> None:
    set_key_limits(world.key, by=world.actor("mia"), rpm=5)
    assert listed(world, "alice") == set()


def test_a_row_says_what_how_much_and_where(world: World) -> None:
    made(world, "Team", "mia", "key", limits=[LimitSpec("budget", "month", DOLLAR), LimitSpec("rpm", "minute", 60)])
    insert_calls(call_row(world.key, charged_nano_usd=25 * CENT))
    page = shown(signed_in(world, "alice").get(url(world)))
    for words in ("$1.00 per month", "60 requests/min", "Mia, Mia&#x27;s key", "$0.2500"):
        assert words in page


def test_the_first_policy_is_offered_to_those_who_may_make_it(world: World) -> None:
    assert "Make the first policy" in shown(signed_in(world, "lena").get(url(world)))
    assert "Make the first policy" not in shown(signed_in(world, "mia").get(url(world)))


def test_the_pages_cost_the_same_for_few_and_many(world: World, django_assert_max_num_queries: Any) -> None:
    provider = Provider.objects.create(name=f"provider of {world.acme.slug}", kind="openai")
    model = Model.objects.create(name=f"model of {world.acme.slug}")
    Deployment.objects.create(model=model, provider=provider, upstream_model="m")
    policies = [made(world, f"P{number}", "root", "platform", "mia", "noah", "key", "assistant") for number in range(5)]
    client = signed_in(world, "alice")
    client.get(url(world))
    with django_assert_max_num_queries(12):
        client.get(url(world))
    limit = policies[0].limits.get()
    for subject in (world.mia, world.platform):
        add_override(limit, subject=subject, amount=1, until=timezone.now() + timedelta(days=1), by=world.actor("alice"))
    for page in ("", "bind/", "oddities/", "edit/"):
        with django_assert_max_num_queries(12):
            assert client.get(url(world, f"{policies[0].pk}/{page}")).status_code == 200
    mia = signed_in(world, "mia")
    mia.get(url(world))
    with django_assert_max_num_queries(12):
        mia.get(url(world))


@pytest.mark.parametrize("person", ["alice", "lena", "sam"])
def test_the_dialog_costs_those_who_stand_lower_no_more(world: World, person: str, django_assert_max_num_queries: Any) -> None:
    """Of whom some may act below their own group only."""
    policy = made(world, "P", "gateway")
    client = signed_in(world, person)
    client.get(url(world))
    for page in ("", "bind/", "subjects/?q=a", "oddities/"):
        with django_assert_max_num_queries(12):
            assert client.get(url(world, f"{policy.pk}/{page}")).status_code == 200


# --- what applies to me ---------------------------------------------------------------------------


def test_a_member_sees_what_applies_to_it_and_nothing_to_change(world: World) -> None:
    for name, subject in (("company", "root"), ("hers", "mia"), ("keys", "key"), ("his", "noah"), ("sellers", "sales")):
        made(world, name, subject)
    bind(made(world, "usual"), subject=world.engineering, reach="keys", by=world.actor("alice"))
    set_key_limits(world.key, by=world.actor("mia"), rpm=7)
    page = shown(signed_in(world, "mia").get(url(world)))
    for words in ("company", "hers", "keys", "7 requests/min"):
        assert words in page
    for words in ("his", "sellers", "New policy", "usual"):
        assert f">{words}<" not in page


def test_a_default_says_whose_it_is(world: World) -> None:
    bind(made(world, "usual"), subject=world.engineering, reach="members", by=world.actor("alice"))
    assert "the default of engineering" in shown(signed_in(world, "mia").get(url(world, "mine/")))


def test_without_any_policy_it_says_so(world: World) -> None:
    assert "Nothing limits you" in shown(signed_in(world, "mia").get(url(world)))


# --- one policy -----------------------------------------------------------------------------------


def test_the_page_shows_limits_rules_bindings_exceptions_and_history(world: World) -> None:
    policy = made(
        world,
        "Team",
        "mia",
        rules={"models": ["gpt-*"], "members": [world.mia.email]},
        degrade_percent=90,
        degrade_model="gpt-small",
    )
    until = timezone.now() + timedelta(days=1)
    add_override(policy.limits.get(), subject=world.mia, amount=5 * CENT, until=until, reason="launch", by=world.actor("sam"))
    insert_calls(call_row(world.key, charged_nano_usd=25 * CENT))
    page = shown(signed_in(world, "lena").get(url(world, f"{policy.pk}/")))
    for words in (
        "$1.00 per month",
        "gpt-*",
        world.mia.email,
        "From 90% of a budget on calls go to gpt-small",
        "$0.05 per month more",
        "“launch”",
        "$0.2500",
        "of $1.05",
    ):
        assert words in page
    history = shown(signed_in(world, "lena").get(url(world, f"{policy.pk}/history/")))
    assert "made an exception for" in history
    assert "Mia: $0.05 per month, until" in history


def test_the_history_says_what_was_and_what_is(world: World) -> None:
    policy = made(world, "Team", "mia")
    change_policy(
        policy,
        by=world.actor("alice"),
        limits=[LimitSpec("budget", "month", 2 * DOLLAR)],
        rules={"models": ["a", "b"]},
        clamp=True,
    )
    history = signed_in(world, "alice").get(url(world, f"{policy.pk}/history/")).context["events"]
    assert [(event.who, event.did) for event in history] == [
        ("Alice", "changed it"),
        ("Alice", "bound it to"),
        ("Alice", "created it"),
    ]
    assert set(history[0].changes) == {
        ("Budget per month", "$1.00", "$2.00"),
        ("Allowed models", "every model", "a, b"),
        ("Shorten answers to what the budget affords", "As the policy above says", "On"),
    }


def test_the_history_speaks_as_the_form_does_and_names_members(world: World) -> None:
    policy = made(world, "Team", "mia")
    client, by = signed_in(world, "alice"), world.actor("alice")
    rules = {"members": [world.mia.email]}
    switches: Any = {"clamp": False, "clamp_least_tokens": 1500, "degrade_percent": 80, "degrade_model": "small"}
    change_policy(policy, by=by, rules=rules, observed_holds=True, **switches)
    history = client.get(url(world, f"{policy.pk}/history/")).context["events"]
    assert set(history[0].changes) == {
        ("Allowed members", "everyone", world.mia.email),
        ("Shorten answers to what the budget affords", "As the policy above says", "Off"),
        ("Shorten to no less than", "none", "1,500"),
        ("Hold what answers usually need", "As the policy above says", "On"),
        ("From this share of a budget on", "none", "80%"),
        ("Calls go to", "none", "small"),
    }
    form = shown(client.get(url(world, f"{policy.pk}/edit/")))
    assert all(label in form for label, _, _ in history[0].changes)


def test_a_member_that_is_gone_is_no_number(world: World) -> None:
    policy = made(world, "Team", "platform", rules={"members": [world.mia.email]})
    policy.rules.update(entries=["999999999"])
    change_policy(policy, by=world.actor("alice"), rules={})
    history = signed_in(world, "alice").get(url(world, f"{policy.pk}/history/")).context["events"]
    assert history[0].changes == [("Allowed members", "someone who left", "everyone")]


def test_one_of_a_kind_is_singular(world: World) -> None:
    policy = made(world, "One", limits=[LimitSpec("parallel", "now", 1), LimitSpec("rpm", "minute", 1)])
    assert words_of_limits(policy) == ["1 request/min", "1 parallel call"]
    other = made(world, "Two", limits=[LimitSpec("parallel", "now", 2), LimitSpec("keys", "now", 0)])
    assert words_of_limits(other) == ["2 parallel calls", "0 API keys"]


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("parallel", 1, "1 parallel call"),
        ("parallel", 3, "3 parallel calls"),
        ("rpd", 1, "1 request/day"),
        ("rpm", 1, "1/min"),
        ("tpm", 2000, "2,000 tokens/min"),
        ("max_tokens", 1, "1 output token/call"),
        ("keys", 2, "2 API keys"),
        ("seats", 1, "1 member"),
    ],
)
def test_a_tag_counts_as_people_do(kind: str, value: int, words: str) -> None:
    limit = Limit(kind=kind, window=Limit.WINDOWS[kind][0], value=value)
    assert f">{words}</span>" in render_to_string("guardrails/partials/_limit.html", {"limit": limit})


def test_a_binding_out_of_reach_is_not_shown(world: World) -> None:
    policy = made(world, "Team", "platform", "sales")
    bound = signed_in(world, "lena").get(url(world, f"{policy.pk}/")).context["bindings"]
    assert [(row.found.name, row.may_manage) for row in bound] == [("platform", True)]


def test_ones_own_node_is_shown_but_not_managed(world: World) -> None:
    policy = made(world, "Team", "platform", "gateway")
    bound = signed_in(world, "sam").get(url(world, f"{policy.pk}/")).context["bindings"]
    assert [(row.found.name, row.may_manage) for row in bound] == [("platform", False), ("gateway", True)]


@pytest.mark.parametrize("path", ["", "edit/", "copy/", "delete/", "bind/", "subjects/", "except/", "reset/"])
def test_another_organisations_policy_and_one_out_of_reach_do_not_exist(world: World, path: str) -> None:
    policy = made(world, "Team", "sales")
    method = "post" if path == "copy/" else "get"
    assert getattr(signed_in(world, "charlie"), method)(url(world, f"{policy.pk}/{path}")).status_code == 404
    own = f"/o/{world.other.slug}/guardrails/{policy.pk}/{path}"
    assert getattr(signed_in(world, "charlie"), method)(own).status_code == 404
    assert getattr(signed_in(world, "sam"), method)(url(world, f"{policy.pk}/{path}")).status_code == 404


@pytest.mark.parametrize("path", ["new/", "{}/edit/", "{}/delete/", "{}/bind/"])
def test_a_member_changes_nothing(world: World, path: str) -> None:
    policy = made(world, "Team", "mia")
    assert signed_in(world, "mia").get(url(world, path.format(policy.pk))).status_code == 403


def test_what_is_odd_is_said_and_stands_in_nobodys_way(world: World) -> None:
    made(world, "Division", "engineering", limits=[LimitSpec("budget", "month", DOLLAR)])
    client = signed_in(world, "alice")
    response = client.post(url(world, "new/"), typed(("budget month", "100"), ("budget day", "200")))
    policy = Policy.objects.get(organization=world.acme, name="Crew")
    assert response.status_code == 302
    bind(policy, subject=world.platform, by=world.actor("alice"))
    page = shown(client.get(url(world, f"{policy.pk}/oddities/")))
    assert "$200.00 per day is more than $100.00 per month" in page
    assert "is more than “Division” allows all of engineering" in page


# --- the form -------------------------------------------------------------------------------------


def test_a_policy_is_made_of_rows_lists_and_switches(world: World) -> None:
    fields = typed(
        ("budget month", "1,000.50"),
        ("rpm minute", "60"),
        ("tpm minute", ""),
        ("seats now", "0"),
        description="For the crew",
        models="gpt-*, claude-5\n",
        addresses="10.0.0.0/8",
        members=world.mia.email,
        clamp="off",
        observed_holds="on",
        clamp_least_tokens="64",
        degrade_percent="80",
        degrade_model="gpt-small",
    )
    response = signed_in(world, "lena").post(url(world, "new/"), fields)
    policy = Policy.objects.get(organization=world.acme, name="Crew")
    assert response["location"] == url(world, f"{policy.pk}/")
    assert set(policy.limits.values_list("kind", "value")) == {("budget", 1_000_500_000_000), ("rpm", 60), ("seats", 0)}
    assert {rule.kind: rule.entries for rule in policy.rules.all()} == {
        "models": ["gpt-*", "claude-5"],
        "addresses": ["10.0.0.0/8"],
        "members": [str(world.mia.pk)],
    }
    assert (policy.clamp, policy.observed_holds, policy.clamp_least_tokens) == (False, True, 64)
    assert (policy.degrade_percent, policy.degrade_model) == (80, "gpt-small")


def test_what_the_form_shows_it_saves_again(world: World) -> None:
    policy = made(
        world,
        "Team",
        limits=[LimitSpec("budget", "day", 123_456_789), LimitSpec("max_tokens", "call", 4096)],
        rules={"models": ["a*", "b"], "members": [world.mia.email]},
        clamp=True,
    )
    client = signed_in(world, "alice")
    form = client.get(url(world, f"{policy.pk}/edit/")).context["form"]
    again = typed(*((row.what, row.text) for row in form.rows), **{name: form[name].value() or "" for name in form.fields})
    assert client.post(url(world, f"{policy.pk}/edit/"), again).status_code == 302
    fresh = Policy.objects.get(pk=policy.pk)
    assert fresh.clamp is True
    assert set(fresh.limits.values_list("pk", "value")) == set(policy.limits.values_list("pk", "value"))
    assert {rule.kind: rule.entries for rule in fresh.rules.all()} == {"models": ["a*", "b"], "members": [str(world.mia.pk)]}


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"name": ""}, "name", "required"),
        ({"models": "gpt 5,[x]"}, "models", "is no name"),
        ({"addresses": "10.0.0.0/99"}, "addresses", "no address or network"),
        ({"members": "nobody@nowhere.test"}, "members", "not the e-mail address of a member"),
        ({"clamp": "perhaps"}, "clamp", "valid choice"),
        ({"clamp_least_tokens": "0"}, "clamp_least_tokens", "greater than or equal to 1"),
        ({"degrade_percent": "101"}, "degrade_percent", "less than or equal to 100"),
        ({"degrade_percent": "80"}, "degrade_model", "Name the model"),
    ],
)
def test_bad_input_is_named_and_kept(world: World, fields: dict[str, str], field: str, says: str) -> None:
    response = signed_in(world, "alice").post(url(world, "new/"), typed(("budget month", "5")) | fields)
    assert response.status_code == 422
    form = response.context["form"]
    assert says in " ".join(form.errors[field])
    assert [(row.what, row.text) for row in form.rows] == [("budget month", "5")]
    assert not Policy.objects.filter(organization=world.acme).exists()


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ([("budget month", "lots")], "amount in US dollars"),
        ([("budget month", "-1")], "more than zero"),
        ([("rpm minute", "2.5")], "whole number"),
        ([("parallel now", "1,5")], "whole number"),
        ([("tpm minute", "1,00,000")], "whole number"),
        ([("rpm minute", "-1")], "greater than or equal to 0"),
        ([("rpm minute", "1000001")], "out of range"),
        ([("luck day", "1")], "Choose what is limited"),
        ([("rpm minute", "1"), ("rpm minute", "2")], "such a limit already"),
    ],
)
def test_a_bad_limit_is_named_in_its_row(world: World, limits: list[tuple[str, str]], says: str) -> None:
    response = signed_in(world, "alice").post(url(world, "new/"), typed(*limits))
    assert response.status_code == 422
    assert says in response.context["form"].rows[-1].error
    assert not Policy.objects.filter(organization=world.acme).exists()


@pytest.mark.parametrize(
    ("what", "text", "value"),
    [
        ("budget month", "0", 0),
        ("budget month", "$0.000", 0),
        ("budget month", "1,000.5", 1_000_500_000_000),
        ("tpm minute", "1,000,000", 1_000_000),
    ],
)
def test_amounts_are_read_as_people_write_them(world: World, what: str, text: str, value: int) -> None:
    assert signed_in(world, "alice").post(url(world, "new/"), typed((what, text))).status_code == 302
    assert Limit.objects.get(policy__organization=world.acme).value == value


def test_a_field_of_money_shows_cents_and_what_is_finer(world: World) -> None:
    amounts = {"day": DOLLAR // 10, "week": 10 * DOLLAR, "month": 123_456_789, "total": 0}
    policy = made(world, limits=[LimitSpec("budget", window, value) for window, value in amounts.items()])
    page = shown(signed_in(world, "alice").get(url(world, f"{policy.pk}/edit/")))
    assert re.findall(r'name="value" value="([^"]*)"', page) == ["0.10", "10.00", "0.123456789", "0.00"]
    set_key_limits(world.key, by=world.actor("mia"), daily_nano_usd=DOLLAR // 10, rpm=10)
    form = shown(signed_in(world, "mia").get(f"/o/{world.acme.slug}/keys/{world.key.pk}/limits/"))
    assert re.findall(r'name="(?:daily_nano_usd|rpm)" value="([^"]*)"', form) == ["0.10", "10"]


def test_a_row_follows_what_is_chosen(world: World) -> None:
    client = signed_in(world, "alice")
    money = shown(client.get(url(world, "limit-row/"), {"limit": "budget day", "value": "7"}))
    count = shown(client.get(url(world, "limit-row/"), {"limit": "tpm minute", "value": "7"}))
    assert ">$<" in money
    assert ">tokens<" in count
    assert 'value="7"' in count
    assert client.get(url(world, "limit-row/"), {"limit": "<x>"}).status_code == 200


def test_an_admin_does_not_edit_what_governs_its_own_node(world: World) -> None:
    policy = made(world, "Team", "platform")
    client = signed_in(world, "sam")
    assert "Edit" not in shown(client.get(url(world, f"{policy.pk}/"))).split("gh-actions")[1].split("</div>")[0]
    assert client.post(url(world, f"{policy.pk}/edit/"), typed()).status_code == 403
    assert client.post(url(world, f"{policy.pk}/delete/"), {"confirm": "Team"}).status_code == 403
    assert Policy.objects.get(pk=policy.pk).name == "Team"


def test_a_copy_is_opened(world: World) -> None:
    policy = made(world, "Team", "mia")
    response = signed_in(world, "sam").post(url(world, f"{policy.pk}/copy/"))
    copied = Policy.objects.get(organization=world.acme, name="Team (copy)")
    assert response["location"] == url(world, f"{copied.pk}/")


def test_deleting_names_what_it_governs_and_wants_the_name(world: World) -> None:
    policy = made(world, "Team", "mia", "platform")
    client, address = signed_in(world, "alice"), url(world, f"{policy.pk}/delete/")
    assert "It governs Mia, platform" in shown(client.get(address))
    assert client.post(address, {"confirm": "team"}).status_code == 422
    assert Policy.objects.filter(pk=policy.pk).exists()
    assert client.post(address, {"confirm": "Team"}, headers=HTMX)["HX-Redirect"] == url(world)
    assert not Policy.objects.filter(pk=policy.pk).exists()


# --- bindings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["platform", "mia", "key", "assistant"])
def test_it_is_bound_to_what_is_chosen(world: World, name: str) -> None:
    policy, subject = made(world), getattr(world, name)
    client, address = signed_in(world, "lena"), url(world, f"{policy.pk}/bind/")
    assert token_of(subject) in shown(client.get(address))
    assert client.post(address, {"subject": token_of(subject), "reach": "self"}).status_code == 302
    assert Binding.objects.get(policy=policy).subject == subject


def test_a_default_is_bound_to_a_group(world: World) -> None:
    policy = made(world)
    address = url(world, f"{policy.pk}/bind/")
    client = signed_in(world, "alice")
    client.post(address, {"subject": token_of(world.platform), "reach": "members"})
    assert Binding.objects.get(policy=policy).reach == "members"
    refused = client.post(address, {"subject": token_of(world.mia), "reach": "members"})
    assert refused.status_code == 422
    assert "Only a group" in shown(refused)
    assert "each member below, by default" in shown(client.get(url(world, f"{policy.pk}/")))


@pytest.mark.parametrize("token", ["", "g0", "nonsense"])
def test_nothing_is_bound_without_a_choice(world: World, token: str) -> None:
    policy = made(world)
    response = signed_in(world, "alice").post(url(world, f"{policy.pk}/bind/"), {"subject": token})
    assert response.status_code == 422
    assert not policy.bindings.exists()


def test_what_is_out_of_reach_is_no_choice(world: World) -> None:
    policy = made(world)
    client = signed_in(world, "sam")
    assert client.post(url(world, f"{policy.pk}/bind/"), {"subject": token_of(world.platform)}).status_code == 422
    assert "field" not in shown(client.get(url(world, f"{policy.pk}/subjects/"), {"q": "fie"}))
    assert token_of(world.gateway) in shown(client.get(url(world, f"{policy.pk}/subjects/"), {"q": "gate"}))


def test_the_dialog_says_how_many_it_does_not_list_and_speaks_of_no_nodes(world: World) -> None:
    for number in range(12):
        create_group(world.sales, name=f"Team {number}", by=world.actor("alice"))
    policy, client = made(world), signed_in(world, "alice")
    page = shown(client.get(url(world, f"{policy.pk}/bind/")))
    assert "and 11 more groups:" in page
    assert "what is chosen above, as a whole" in page
    assert "the node itself" not in page
    assert "and 4 more groups:" in shown(client.get(url(world, f"{policy.pk}/subjects/"), {"q": "Team"}))
    assert "more group" not in shown(client.get(url(world, f"{policy.pk}/subjects/"), {"q": "Team 11"}))


def test_a_limit_of_cents_shows_cents_and_what_is_spent_of_it_every_digit_it_has(world: World) -> None:
    policy = made(
        world,
        "Cents",
        "platform",
        limits=[LimitSpec("budget", "year", DOLLAR // 100), LimitSpec("budget", "total", DOLLAR // 10)],
    )
    insert_calls(call_row(world.key, charged_nano_usd=2_500_000))
    client = signed_in(world, "alice")
    for page in (shown(client.get(url(world))), shown(client.get(url(world, f"{policy.pk}/")))):
        assert "$0.01 per year" in page
        assert "$0.10 in total" in page
        assert "$0.0025" in page
        assert "of $0.01" in page
        assert "$0.0100" not in page


def test_unbinding_can_be_undone(world: World) -> None:
    policy = made(world, "Team", "platform")
    client = signed_in(world, "alice")
    binding = policy.bindings.get()
    page = shown(client.post(url(world, f"bindings/{binding.pk}/unbind/"), follow=True))
    assert not policy.bindings.exists()
    assert f'hx-post="{url(world, f"{policy.pk}/bind/")}"' in page
    assert ">Undo</button>" in page
    assert f"&quot;subject&quot;: &quot;{token_of(world.platform)}&quot;" in page
    client.post(url(world, f"{policy.pk}/bind/"), {"subject": token_of(world.platform), "reach": "self"}, headers=HTMX)
    assert policy.bindings.get().subject == world.platform


def test_no_undo_is_offered_that_would_be_refused(world: World) -> None:
    """What governs nobody is its maker's: Lena takes Noah's policy off her place, and could not bind it again."""
    alice = world.actor("alice")
    grant_role(world.noah, role=RoleName.ADMIN, group=world.sales, by=alice)
    policy = create_policy(world.acme, name="Team", limits=[LimitSpec("budget", "day", CENT)], by=world.actor("noah"))
    for subject in (world.field, world.platform):
        bind(policy, subject=subject, by=alice)
    client, there = signed_in(world, "lena"), {"subject": token_of(world.platform), "reach": "self"}
    # It governs a place that Lena does not see, so the list is where she goes.
    away = client.post(url(world, f"bindings/{policy.bindings.get(group=world.platform).pk}/unbind/"), follow=True)
    assert away.redirect_chain == [(url(world), 302)]
    bind(policy, subject=world.platform, by=alice)
    policy.bindings.get(group=world.field).delete()
    last = client.post(url(world, f"bindings/{policy.bindings.get().pk}/unbind/"), follow=True)
    assert client.post(url(world, f"{policy.pk}/bind/"), there).status_code == 422
    for page in (shown(away), shown(last)):
        assert "Team no longer governs platform." in page
        assert ">Undo</button>" not in page


def test_unbinding_needs_the_right_at_the_node(world: World) -> None:
    binding = made(world, "Team", "platform").bindings.get()
    path = url(world, f"bindings/{binding.pk}/unbind/")
    assert signed_in(world, "sam").post(path).status_code == 403
    assert signed_in(world, "mia").post(path).status_code == 403
    assert signed_in(world, "charlie").post(path).status_code == 404
    assert signed_in(world, "alice").get(path).status_code == 405
    assert signed_in(world, "alice").post(url(world, "bindings/0/unbind/")).status_code == 404
    assert Binding.objects.filter(pk=binding.pk).exists()


# --- exceptions -----------------------------------------------------------------------------------


def exception_url(world: World, policy: Policy, what: str, subject: str = "mia") -> str:
    limit = policy.limits.order_by("pk").first()
    assert limit is not None
    return url(world, f"{policy.pk}/{what}/?limit={limit.pk}&subject={token_of(getattr(world, subject))}")


def test_more_is_allowed_until_the_end_of_a_day(world: World) -> None:
    policy = made(world, "Team", "mia")
    client, address = signed_in(world, "sam"), exception_url(world, policy, "except")
    assert "“Team” allows $1.00 per month" in shown(client.get(address, headers=HTMX))
    day = timezone.localdate() + timedelta(days=3)
    response = client.post(address, {"amount": "0.50", "until": f"{day:%Y-%m-%d}", "reason": "launch"}, headers=HTMX)
    assert response["HX-Redirect"] == url(world, f"{policy.pk}/")
    override = Override.objects.get(limit__policy=policy)
    assert (override.amount, override.reason, override.member) == (50 * CENT, "launch", world.mia)
    assert override.until is not None
    assert override.until.date() == day + timedelta(days=1)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"amount": ""}, "amount"),
        ({"amount": "$"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": "much"}, "amount"),
        ({"until": ""}, "until"),
        ({"until": "2001-01-01"}, "until"),
        ({"until": "9999-01-01"}, "until"),
        ({"reason": "x" * 301}, "reason"),
    ],
)
def test_a_bad_exception_is_named(world: World, fields: dict[str, str], field: str) -> None:
    policy = made(world, "Team", "mia")
    good = {"amount": "5", "until": f"{timezone.localdate() + timedelta(days=1):%Y-%m-%d}"}
    response = signed_in(world, "sam").post(exception_url(world, policy, "except"), good | fields)
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert not Override.objects.filter(limit__policy=policy).exists()


def test_a_count_is_widened_by_a_count(world: World) -> None:
    policy = made(world, "Team", "mia", limits=[LimitSpec("rpm", "minute", 60)])
    fields = {"amount": "40", "until": f"{timezone.localdate():%Y-%m-%d}"}
    assert signed_in(world, "sam").post(exception_url(world, policy, "except"), fields).status_code == 302
    assert Override.objects.get(limit__policy=policy).amount == 40


def test_a_budget_starts_anew(world: World) -> None:
    policy = made(world, "Team", "mia")
    client, address = signed_in(world, "sam"), exception_url(world, policy, "reset")
    assert "counts anew for Mia" in shown(client.get(address))
    nothing = client.post(address)
    assert nothing.status_code == 422
    assert "nothing to reset" in shown(nothing)
    insert_calls(call_row(world.key, charged_nano_usd=25 * CENT))
    page = shown(client.post(address, {"reason": "agreed"}, follow=True))
    assert "$0.2500 no longer counts" in page
    assert "of $1.00" in page
    assert Override.objects.get(limit__policy=policy).amount == 25 * CENT


def test_what_no_browser_sends_is_refused_not_a_fault(world: World) -> None:
    policy = made(world, "Team", "mia")
    insert_calls(call_row(world.key, charged_nano_usd=25 * CENT))
    client = signed_in(world, "alice")
    bad = client.post(exception_url(world, policy, "reset"), {"reason": "a\0b"})
    assert (bad.status_code, "visible characters" in shown(bad)) == (422, True)
    for reach in ("a\0b", "everybody"):
        answer = client.post(url(world, f"{policy.pk}/bind/"), {"subject": token_of(world.platform), "reach": reach})
        assert (answer.status_code, "Choose whom it applies to." in shown(answer)) == (422, True)
    assert not Override.objects.filter(limit__policy=policy).exists()
    assert policy.bindings.count() == 1


@pytest.mark.parametrize("query", ["", "?limit=x", "?limit=1&subject=m1", "?limit=99999999999999999999"])
@pytest.mark.parametrize("what", ["except", "reset"])
def test_an_exception_to_nothing_does_not_exist(world: World, what: str, query: str) -> None:
    policy = made(world, "Team", "mia")
    assert signed_in(world, "alice").get(url(world, f"{policy.pk}/{what}/{query}")).status_code == 404


@pytest.mark.parametrize("what", ["except", "reset"])
def test_nobody_excepts_itself(world: World, what: str) -> None:
    policy = made(world, "Team", "platform", "sam")
    for subject in ("platform", "sam"):
        assert signed_in(world, "sam").get(exception_url(world, policy, what, subject)).status_code == 404
        assert signed_in(world, "lena").get(exception_url(world, policy, what, subject)).status_code == 200


def test_ending_an_exception_can_be_undone(world: World) -> None:
    policy = made(world, "Team", "mia")
    until = timezone.now() + timedelta(days=1)
    override = add_override(policy.limits.get(), subject=world.mia, amount=1, until=until, by=world.actor("sam"))
    client = signed_in(world, "sam")
    page = shown(client.post(url(world, f"exceptions/{override.pk}/end/"), follow=True))
    assert f'hx-post="{url(world, f"exceptions/{override.pk}/resume/")}"' in page
    override.refresh_from_db()
    assert override.revoked_at is not None
    client.post(url(world, f"exceptions/{override.pk}/resume/"), headers=HTMX)
    override.refresh_from_db()
    assert override.revoked_at is None


def test_exceptions_are_ended_by_those_who_may(world: World) -> None:
    policy = made(world, "Team", "sam")
    until = timezone.now() + timedelta(days=1)
    override = add_override(policy.limits.get(), subject=world.sam, amount=1, until=until, by=world.actor("lena"))
    end_override(override, by=world.actor("lena"))
    for path in ("end", "resume"):
        address = url(world, f"exceptions/{override.pk}/{path}/")
        assert signed_in(world, "sam").post(address).status_code == 403
        assert signed_in(world, "charlie").post(address).status_code == 404
        assert signed_in(world, "noah").post(address).status_code == 403
        assert signed_in(world, "lena").get(address).status_code == 405
        assert signed_in(world, "lena").post(url(world, f"exceptions/0/{path}/")).status_code == 404
    override.refresh_from_db()
    assert override.revoked_at is not None


def test_a_member_elsewhere_too_is_managed_from_above_both(world: World) -> None:
    policy = made(world, "Team", "mia")
    add_member(world.mia, group=world.field, by=world.actor("alice"))
    bound = signed_in(world, "sam").get(url(world, f"{policy.pk}/")).context["bindings"]
    assert [row.may_manage for row in bound] == [False]


# --- bound where it is spent already --------------------------------------------------------------


def told_on_binding(world: World, policy: Policy, subject: str, reach: str = "self") -> str:
    token = token_of(getattr(world, subject))
    fields = {"subject": token, "reach": reach, "confirm": f"{token} {reach}"}
    answer = signed_in(world, "alice").post(url(world, f"{policy.pk}/bind/"), fields, follow=True)
    return str(next(iter(answer.context["messages"])))


def test_binding_a_budget_that_is_spent_already_says_so_and_until_when(world: World) -> None:
    insert_calls(call_row(world.key, charged_nano_usd=3 * DOLLAR))
    told = told_on_binding(world, made(world, "Tight", limits=[LimitSpec("budget", "year", DOLLAR)]), "mia")
    assert "Tight governs " in told
    assert "has already spent $3.00 of $1.00 per year: calls are refused until " in told
    assert timezone.localdate().year + 1 == int(told.rsplit(",", 2)[1])


def test_a_budget_without_an_end_is_said_to_hold_calls_back_for_good(world: World) -> None:
    insert_calls(call_row(world.key, charged_nano_usd=3 * DOLLAR))
    limits = [LimitSpec("budget", "year", DOLLAR), LimitSpec("budget", "total", 2 * DOLLAR)]
    told = told_on_binding(world, made(world, "Tight", limits=limits), "mia")
    assert told.endswith("has already spent $3.00 of $2.00 in total: calls are refused.")


def test_binding_what_still_has_room_or_comes_as_a_default_says_no_more(world: World) -> None:
    insert_calls(call_row(world.key, charged_nano_usd=3 * DOLLAR))
    roomy = made(world, "Roomy", limits=[LimitSpec("budget", "year", 4 * DOLLAR), LimitSpec("budget", "day", 4 * DOLLAR)])
    assert told_on_binding(world, roomy, "mia").endswith("from the next call on.")
    tight = made(world, "Tight", limits=[LimitSpec("budget", "year", DOLLAR)])
    assert told_on_binding(world, tight, "platform", "members").endswith("from the next call on.")


def test_binding_what_stops_calls_at_once_is_confirmed_first_and_warned_of_afterwards(world: World) -> None:
    insert_calls(call_row(world.key, charged_nano_usd=3 * DOLLAR))
    policy = made(world, "Tight", limits=[LimitSpec("budget", "year", DOLLAR)])
    address, fields = url(world, f"{policy.pk}/bind/"), {"subject": token_of(world.engineering), "reach": "self"}
    client = signed_in(world, "alice")

    asked = client.post(address, fields | {"confirm": token_of(world.platform)})

    page = asked.content.decode()
    assert (asked.status_code, policy.bindings.count()) == (422, 0)
    assert "engineering has already spent $3.00 of $1.00 per year: calls are refused until " in page
    assert "Bind, and refuse calls" in page
    confirming = dict(re.findall(r'<input[^>]* name="(subject|confirm)" value="([^"]*)"', page))
    assert confirming == {"subject": fields["subject"], "confirm": f"{fields['subject']} self"}
    told = next(iter(client.post(address, fields | confirming, follow=True).context["messages"]))
    assert (told.level_tag, policy.bindings.count()) == ("warning", 1)
    assert "engineering has already spent $3.00" in str(told)


@pytest.mark.parametrize(
    ("subject", "reach", "lost"),
    [
        ("mia", "self", "“New colleagues” no longer applies to Mia."),
        ("key", "self", "“New keys” no longer applies to Mia's key."),
        ("engineering", "members", "“New colleagues” no longer applies to the members below engineering."),
        ("engineering", "keys", "“New keys” no longer applies to the keys below engineering."),
        ("engineering", "self", ""),
        ("assistant", "self", ""),
    ],
)
def test_binding_names_the_defaults_that_it_takes_the_place_of(world: World, subject: str, reach: str, lost: str) -> None:
    for name, of in (("New colleagues", "members"), ("New keys", "keys")):
        bind(made(world, name), subject=world.root, reach=of, by=world.actor("alice"))
    told = told_on_binding(world, made(world, "Own"), subject, reach)
    assert told == f"Own governs {getattr(world, subject)} from the next call on. {lost}".strip()


def test_a_lost_default_is_said_before_it_is_lost_and_with_a_warning_afterwards_to_a_sub_admin_too(world: World) -> None:
    limits = [LimitSpec("max_tokens", "call", 16_000), LimitSpec("keys", "now", 3)]
    bind(made(world, "New colleagues", limits=limits), subject=world.root, reach="members", by=world.actor("alice"))
    own = create_policy(world.acme, name="Own", limits=[], by=world.actor("sam"))
    fields, address = {"subject": token_of(world.mia), "reach": "self"}, url(world, f"{own.pk}/bind/")

    asked = signed_in(world, "sam").post(address, fields)

    assert (asked.status_code, own.bindings.count()) == (422, 0)
    page = shown(asked)
    assert "This takes a default off" in page
    assert "“New colleagues” no longer applies to Mia." in page
    assert "16,000 tokens/call, 3 API keys" in page
    assert f'name="confirm" value="{fields["subject"]} self"' in page
    other = signed_in(world, "sam").post(address, fields | {"confirm": f"{fields['subject']} members"})
    assert (other.status_code, own.bindings.count()) == (422, 0)
    confirmed = fields | {"confirm": f"{fields['subject']} self"}
    [told] = signed_in(world, "sam").post(address, confirmed, follow=True).context["messages"]
    assert (told.level_tag, str(told).partition(". ")[2]) == ("warning", "“New colleagues” no longer applies to Mia.")


def test_binding_a_budget_of_nothing_is_confirmed_first(world: World) -> None:
    policy = made(world, "Nothing", limits=[LimitSpec("budget", "month", 0)])
    fields = {"subject": token_of(world.engineering), "reach": "self"}
    page = signed_in(world, "alice").post(url(world, f"{policy.pk}/bind/"), fields).content.decode()
    assert "engineering may spend nothing with a budget of $0.00 per month: calls that cost anything are refused." in page
    assert not policy.bindings.exists()


# --- what governs nobody --------------------------------------------------------------------------


def test_what_governs_nobody_is_changed_by_whoever_made_or_copied_it_or_stands_above_all(world: World) -> None:
    own = create_policy(world.acme, name="Draft", limits=[], by=world.actor("sam"))
    others = made(world, "Of alice")
    mine = copy_policy(others, by=world.actor("sam"))
    for name, policy, status in (
        ("sam", own, 200),
        ("sam", mine, 200),
        ("sam", others, 403),
        ("lena", own, 403),
        ("lena", mine, 403),
        ("alice", own, 200),
        ("alice", others, 200),
    ):
        client = signed_in(world, name)
        assert [client.get(url(world, f"{policy.pk}/{path}")).status_code for path in ("edit/", "delete/")] == [status] * 2
        assert client.get(url(world, f"{policy.pk}/")).context["may_change"] == (status == 200)
    lena = signed_in(world, "lena")
    assert lena.post(url(world, f"{own.pk}/edit/"), typed(("rpm minute", "5"))).status_code == 403
    assert lena.post(url(world, f"{own.pk}/delete/"), {"confirm": "Draft"}).status_code == 403
    own.refresh_from_db()
    assert own.name == "Draft"


def test_once_bound_it_is_whose_it_governs(world: World) -> None:
    policy = create_policy(world.acme, name="Draft", limits=[], by=world.actor("sam"))
    bind(policy, subject=world.platform, by=world.actor("lena"))
    assert signed_in(world, "sam").get(url(world, f"{policy.pk}/edit/")).status_code == 403
    assert signed_in(world, "lena").get(url(world, f"{policy.pk}/edit/")).status_code == 200


# --- calls on own provider keys -------------------------------------------------------------------


def test_the_form_says_of_each_budget_whether_own_keys_count_in_it(world: World) -> None:
    client = signed_in(world, "alice")
    limits = {"limit": ["budget day", "rpm minute", "budget month"], "value": ["1", "60", "2"], "own_keys": ["", "", "on"]}
    assert client.post(url(world, "new/"), {"name": "Crew", **limits}).status_code == 302
    policy = Policy.objects.get(organization=world.acme, name="Crew")
    assert {f"{limit.kind} {limit.window}": limit.counts_byok for limit in policy.limits.all()} == {
        "budget day": False,
        "rpm minute": False,
        "budget month": True,
    }
    assert words_of_limits(policy) == ["$1.00 per day", "$2.00 per month, own keys count", "60 requests/min"]
    form = shown(client.get(url(world, f"{policy.pk}/edit/")))
    assert form.count('<option value="on" selected>') == 1
    assert "own keys count" in shown(client.get(url(world, f"{policy.pk}/")))

    change_policy(policy, by=world.actor("alice"), limits=[LimitSpec("budget", "day", DOLLAR, True)])
    history = shown(client.get(url(world, f"{policy.pk}/history/")))
    assert "Own provider keys in budget per day" in history
    assert "not counted" in history


def test_a_row_keeps_its_switch_while_it_is_chosen_anew(world: World) -> None:
    row = signed_in(world, "alice").get(url(world, "limit-row/?limit=budget+day&value=5&own_keys=on"))
    assert '<option value="on" selected>' in shown(row)
    other = signed_in(world, "alice").get(url(world, "limit-row/?limit=rpm+minute&value=5&own_keys=on"))
    assert '<input type="hidden" name="own_keys" value="">' in shown(other)
