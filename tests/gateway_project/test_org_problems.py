"""`manage.py org apply` of a file with several mistakes: all that can be told at once, in the order of the file."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guardrails.services.policies import create_policy
from orgs.models import AuditEvent
from orgs.permissions import Permission
from orgs.services.roles import create_role
from proxy import catalogue
from tests.actors import World
from tests.examples import some

FORM = """
organization: {{slug: {slug}, week_start: monday, colour: red, true: x}}
groups:
  - {{kind: team}}
  - name: Builders
    children: [{{name: 5}}, {{name: Core, members: []}}]
policies:
  - {{name: Team, limits: {{rpm: many, budget: {{month: {{usd: x}}, decade: {{usd: 1}}}}}}, rules: {{models: [a, 1]}}}}
bindings: {{policy: Team}}
"""
WORDS = """
organization: {{slug: {slug}, time_zone: Europe/Berlln}}
groups:
  - {{name: Builders, owner: nobody@example.test, children: [{{name: Core}}, {{name: Edge}}]}}
  - {{name: ""}}
  - {{name: New}}
  - {{name: NEW}}
roles:
  - {{name: Lead, group: Builders / Core, permissions: [view_usage]}}
  - {{name: Lost, group: Nowhere, permissions: [view_usage]}}
applications:
  - {{name: "!!!"}}
  - {{name: Desk, group: Builders}}
policies:
  - {{name: Team, limits: {{rpm: -1}}}}
bindings:
  - {{policy: Team, group: New}}
  - {{policy: Teem, group: New}}
  - {{policy: Team, application: desk}}
"""

WITHIN = {
    "organization: {slug: SLUG, fiscal_month: 13, reset_hour: 24, week_start: 9, content_retention_hours: 721,"
    " owner: x, kind: KIND}": [
        "organization.content_retention_hours: Give a number from 0 to 720.",
        "organization.fiscal_month: Give a number from 1 to 12.",
        "organization.kind: At most",
        "organization.owner: Nobody with",
        "organization.reset_hour: Give",
        "organization.week_start: Give",
    ],
    "policies: [{name: A, rules: {addresses: [foo, 10.0.0.0/8, bar], models: [nope, sandbox-fast, no-2],"
    " providers: [y], members: [x]}}]": [
        "policies[0].rules.addresses: “foo” and “bar” are no addresses or networks, such as",
        "policies[0].rules.members: “x” is not the e-mail address of a member.",
        "policies[0].rules.models[0]: “nope” names no model",
        "policies[0].rules.models[2]: “no-2” names no model",
        "policies[0].rules.providers[0]: “y” names no provider",
    ],
    "policies: [{name: A, limits: {budget: {month: {usd: -5}, day: {usd: 9e12}}, rpm: -1, parallel: 1.5},"
    " degrade_percent: 150}]": [
        "policies[0].degrade_percent: Give a share from 1 to 100",
        "policies[0].limits.budget.day: '9E+12' is out of range.",
        "policies[0].limits.budget.month: This limit is out of range",
        "policies[0].limits.parallel: must be a whole number in decimal digits, not 1.5",
        "policies[0].limits.rpm: This limit is out of range",
    ],
    "policies: [{name: '', degrade_percent: 150, degrade_model: nope, clamp_least_tokens: 0}]": [
        "policies[0].clamp_least_tokens: Give a number of tokens",
        "policies[0].degrade_model: “nope” names no model",
        "policies[0].degrade_percent: Give a share from 1 to 100",
        "policies[0].name: A name has 1 to 120",
    ],
    "roles: [{name: Auditor, permissions: [view_all, view_usage, x], group: Nowhere, description: LONG}]": [
        "roles[0].description: A description has at most",
        "roles[0].group: There is no group",
        "roles[0].name: There is a role “Auditor” already.",
        "roles[0].permissions[0]: There is no permission “view_all”.",
        "roles[0].permissions[2]: There is no permission “x”.",
    ],
    "applications: [{name: '', slug: a, features: [b c], environments: [d e], owner: x, cost_center: LONG, group: Nowhere}]": [
        "applications[0].cost_center: At most",
        "applications[0].environments: “d e”: use",
        "applications[0].features: “b c”: use",
        "applications[0].group: There is no group",
        "applications[0].name: A name has",
        "applications[0].owner: Nobody with",
    ],
}
WITHIN = {text.replace("LONG", "x" * 301).replace("KIND", "x" * 41): told for text, told in WITHIN.items()}
SLIPS = {
    "limits.rpm": "-1",
    "limits.tpm": "-1",
    "limits.keys": "-1",
    "limits.budget.day": "-1",
    "rules.models": "b c",
    "rules.addresses": "10.0.0.300",
    "rules.members": "nobody@example.test",
    "degrade_percent": "150",
    "degrade_model": "a*",
    "clamp_least_tokens": "0",
    "description": "y" * 301,
}


@pytest.fixture
def offered(empty_catalogue: None) -> None:
    catalogue.load(catalogue.sandbox_declaration())


def refusal(world: World, folder: Path, text: str, *options: str) -> tuple[list[str], str]:
    """The lines of the sentence, without the file's name, and what else is printed."""
    path, out = folder / "acme.yaml", io.StringIO()
    path.write_text(text.format(slug=world.acme.slug))
    before = AuditEvent.objects.count()
    with pytest.raises(CommandError) as caught:
        call_command("org", "apply", path, *options, stdout=out)
    assert AuditEvent.objects.count() == before
    return str(caught.value).replace(f"{path}: ", "").split("\n"), out.getvalue()


@pytest.mark.usefixtures("empty_catalogue")
def test_everything_wrong_with_its_form_is_named(world: World, tmp_path: Path) -> None:
    lines, _ = refusal(world, tmp_path, FORM)
    assert lines == [
        "organization.week_start: must be a whole number, not text",
        "organization.colour: there is no such field",
        "organization: has a field whose name is no text",
        "groups[0].name: is missing",
        "groups[1].children[0].name: must be text (put it in quotes), not a whole number",
        "groups[1].children[1].members: there is no such field",
        "policies[0].limits.rpm: must be a whole number, not text",
        "policies[0].limits.budget.month.usd: must be an amount of US dollars in decimal digits, not x",
        "policies[0].limits.budget.decade: there is no such field",
        "policies[0].rules.models[1]: must be text (put it in quotes), not a whole number",
        "bindings: must be a list, not a mapping",
        "Nothing was changed.",
    ]


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_everything_that_rules_forbid_is_named_and_nothing_that_only_follows(
    world: World, tmp_path: Path, dry: tuple[str, ...]
) -> None:
    lines, printed = refusal(world, tmp_path, WORDS, "--json", *dry)
    found = [line.partition(": ") for line in lines[:-1]]
    assert {path: reason[:40] for path, _, reason in found} == {
        "organization.time_zone": "“Europe/Berlln” is not a time zone of th",
        "groups[0].owner": "Nobody with the address “nobody@example.",
        "groups[1].name": "A name has 1 to 120 visible characters.",
        "groups[3]": "names the group “new” again, after group",
        "roles[1].group": "There is no group “Nowhere”. Write its p",
        "applications[0].slug": "Give its address: none can be made of th",
        "policies[0].limits.rpm": found[6][2][:40],
        "bindings[1].policy": "There is no policy “Teem”.",
    }
    assert [one["path"] for one in json.loads(printed)["problems"]] == [path for path, _, _ in found]
    assert not world.acme.groups.filter(name__in=["New", "Core", "Builders"]).exists()


FORMLESS, OWNED = "{{kind: x}}", "{{name: '{number}', owner: nobody@example.test}}"


@pytest.mark.parametrize(
    ("entry", "wrong", "told"), [(FORMLESS, 20, 20), (FORMLESS, 21, 20), (FORMLESS, 300, 20), (OWNED, 20, 20), (OWNED, 21, 20)]
)
def test_twenty_are_told_and_that_there_is_more(world: World, tmp_path: Path, entry: str, wrong: int, told: int) -> None:
    listed = "".join(f"\n  - {entry.replace('{number}', str(number))}" for number in range(wrong))
    lines, _ = refusal(world, tmp_path, f"organization: {{{{slug: {{slug}}}}}}\ngroups:{listed}")
    assert [line.partition(":")[0].partition(".")[0] for line in lines[:told]] == [f"groups[{number}]" for number in range(told)]
    assert lines[told:] == [*(["There is more."] if wrong > told else []), "Nothing was changed."]


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize(("text", "told"), [*WITHIN.items()])
def test_within_one_thing_each_place_that_is_wrong_is_named(world: World, tmp_path: Path, text: str, told: list[str]) -> None:
    text = text if "slug: SLUG" in text else f"organization: {{slug: SLUG}}\n{text}"
    lines, _ = refusal(world, tmp_path, text.replace("{", "{{").replace("}", "}}").replace("SLUG", "{slug}"))
    assert [line[: len(start)] for line, start in zip(sorted(lines[:-1]), told, strict=True)] == told


@pytest.mark.usefixtures("empty_catalogue")
def test_what_stands_there_is_judged_by_all_that_the_file_says_of_it(world: World, tmp_path: Path) -> None:
    """And by nothing that it says of it no more: the fault in one field makes none of another."""
    alice = world.actor("alice")
    create_policy(world.acme, name="Team", limits=[], degrade_percent=80, degrade_model="x", by=alice)
    create_role(world.sales, name="Lead", permissions=[Permission.VIEW_USAGE], by=alice)
    text = """
organization: {{slug: {slug}, zdr_only: true, content_retention_hours: 721}}
roles: [{{name: Lead, permissions: [view_all], description: "{long}"}}]
policies: [{{name: Team, degrade_percent: 800, limits: {{rpm: -1}}}}]
""".replace("{long}", "x" * 301)
    lines, _ = refusal(world, tmp_path, text)
    assert [line.partition(":")[0] for line in lines[:-1]] == [
        "organization.content_retention_hours",
        "roles[0].permissions[0]",
        "roles[0].description",
        "policies[0].degrade_percent",
        "policies[0].limits.rpm",
    ]


@pytest.mark.usefixtures("empty_catalogue")
def test_what_needs_a_faulty_thing_is_judged_as_if_that_were_mended(world: World, tmp_path: Path) -> None:
    text = """
organization: {{slug: {slug}}}
groups: [{{name: New, owner: nobody@example.test, children: [{{name: "", kind: "{long}"}}]}}]
policies: [{{name: Team, limits: {{rpm: -1}}}}]
bindings:
  - {{policy: Team, group: New}}
  - {{policy: Team, member: nobody@example.test}}
  - {{policy: Teem, application: assistent}}
  - {{policy: Team, group: New, reach: keys}}
""".replace("{long}", "x" * 41)
    lines, _ = refusal(world, tmp_path, text)
    assert [line.partition(":")[0] for line in lines[:-1]] == [
        "groups[0].owner",
        "groups[0].children[0].kind",
        "groups[0].children[0].name",
        "policies[0].limits.rpm",
        "bindings[1].member",
        "bindings[2].policy",
        "bindings[2].application",
    ]


@settings(max_examples=some(8), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wrong=st.sets(st.sampled_from(sorted(SLIPS)), min_size=1))
@pytest.mark.usefixtures("empty_catalogue")
def test_of_any_slips_in_one_policy_all_are_named_and_no_more(world: World, tmp_path: Path, wrong: set[str]) -> None:
    limits = ", ".join(f"{kind}: {-1 if f'limits.{kind}' in wrong else 1}" for kind in ("rpm", "tpm", "keys"))
    budget = f"budget: {{{{day: {{{{usd: {-1 if 'limits.budget.day' in wrong else 1}}}}}, month: {{{{usd: 5}}}}}}}}"
    rules = ", ".join(
        f"{kind}: [{fine}{', ' + SLIPS[f'rules.{kind}'] if f'rules.{kind}' in wrong else ''}]"
        for kind, fine in {"models": "a", "addresses": "10.0.0.0/8", "members": world.mia.email}.items()
    )
    switches = ", ".join(
        f"{name}: {SLIPS[name] if name in wrong else fine}"
        for name, fine in {"degrade_percent": "80", "degrade_model": "x", "clamp_least_tokens": "5", "description": "y"}.items()
    )
    policy = f"{{{{name: Team, limits: {{{{{limits}, {budget}}}}}, rules: {{{{{rules}}}}}, {switches}}}}}"
    lines, _ = refusal(world, tmp_path, f"organization: {{{{slug: {{slug}}}}}}\npolicies: [{policy}]")
    assert sorted(line.partition(":")[0].removeprefix("policies[0].") for line in lines[:-1]) == sorted(wrong)
