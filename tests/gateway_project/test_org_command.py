"""`manage.py org apply` and `org export`, at the command's door: an organisation is what its file says."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from django.core.management import CommandError, call_command

from gateway_project.lib import redis
from guardrails.as_code import applying
from guardrails.as_code.declarations import (
    BudgetsDeclaration,
    LimitsDeclaration,
    OrganizationDeclaration,
    PolicyDeclaration,
    RulesDeclaration,
)
from guardrails.as_code.files import BadFile
from guardrails.as_code.tree import SETTINGS
from guardrails.models import Binding, Limit, Policy, Rule
from guardrails.services.bindings import bind
from guardrails.services.key_limits import set_key_limits
from guardrails.services.policies import SWITCHES, create_policy
from orgs import epoch
from orgs.models import Application, AuditEvent, Group, Organization, Role
from orgs.permissions import Permission
from orgs.services.applications import archive_application, change_application, create_application
from orgs.services.freezing import freeze_organization
from orgs.services.groups import archive_group, change_group, create_group
from orgs.services.keys import revoke_key
from orgs.services.organizations import create_organization
from orgs.services.roles import create_role
from proxy import catalogue
from tests.actors import World, operator
from tests.test_layout import ROOT

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("empty_catalogue")]

Apply = Callable[..., str]
Refusals = Callable[[dict[str, str]], dict[str, str]]

FILE = """\
organization:
  slug: {acme}
  time_zone: Europe/Berlin
  fiscal_month: 4
  attribution_required: true
  zdr_only: true
  approval_since: 2026-11-01T12:00:00.5+01:00
  cost_center: CC-1
  owner: {alice}
groups:
  - name: engineering
    kind: department
    owner: {lena}
    children:
      - name: platform
      - {{name: Data, cost_center: CC-7}}
  - name: Legal
roles:
  - {{name: Key steward, group: engineering, description: Looks after keys, permissions: [view_usage, manage_keys]}}
applications:
  - {{name: Assistant, cost_center: CC-2}}
  - {{name: Help Desk, group: engineering / Data, features: [search, chat], environments: [live], owner: {mia}}}
policies:
  - name: Team budget
    limits: {{budget: {{month: {{usd: 1000.50}}, day: {{usd: 40, counts_byok: true}}}}, rpm: 60}}
    rules: {{models: ["gpt-*"], addresses: [10.1.2.3/8], members: [{mia}]}}
    clamp: false
  - {{name: Trainees, limits: {{max_tokens: 500}}}}
bindings:
  - {{policy: Team budget, group: engineering / Data}}
  - {{policy: trainees, group: /, reach: members}}
  - {{policy: Trainees, member: {noah}}}
  - {{policy: Trainees, application: help-desk}}
  - {{policy: Trainees, key: {key}}}
"""


def written(world: World, text: str = FILE) -> str:
    people = {name: getattr(world, name).email for name in ("alice", "lena", "mia", "noah")}
    return text.format(acme=world.acme.slug, key=world.key.public_id, **people)


def export(slug: str) -> str:
    out = io.StringIO()
    call_command("org", "export", slug, stdout=out)
    return out.getvalue()


@pytest.fixture
def apply(tmp_path: Path) -> Apply:
    def apply_text(text: str, *options: str) -> str:
        path, out = tmp_path / "acme.yaml", io.StringIO()
        path.write_text(text)
        call_command("org", "apply", path, *options, stdout=out)
        return out.getvalue()

    return apply_text


@pytest.fixture
def refusals(apply: Apply, world: World) -> Refusals:
    """Of each file the sentence with which it is refused, cut to the one expected; together they change nothing."""

    def refuse(files: dict[str, str]) -> dict[str, str]:
        before, events = export(world.acme.slug), AuditEvent.objects.count()
        found = {text: sentence_of(text)[: len(expected)] for text, expected in files.items()}
        assert (export(world.acme.slug), AuditEvent.objects.count()) == (before, events)
        return found

    def sentence_of(text: str) -> str:
        with pytest.raises(CommandError) as caught:
            apply(text)
        first, *_, last = str(caught.value).split("\n")
        assert last == "Nothing was changed."
        return first.partition("acme.yaml: ")[2]

    return refuse


# --- making ---------------------------------------------------------------------------------------


def test_a_file_makes_what_it_names_and_says_so(world: World, apply: Apply) -> None:
    assert apply(written(world)).splitlines() == [
        f"organisation {world.acme.slug}: changed",
        "  time_zone: UTC → Europe/Berlin",
        "  fiscal_month: 1 → 4",
        "  attribution_required: false → true",
        "  approval_since: – → 2026-11-01 11:00:00.500000+00:00",
        "  zdr_only: false → true",
        "  cost_center: – → CC-1",
        f"  owner: – → {world.alice.email}",
        "group Legal: created",
        "group engineering: changed",
        "  kind: – → department",
        f"  owner: – → {world.lena.email}",
        "group engineering / Data: created",
        "group engineering / platform / gateway: not in the file",
        "group engineering / platform / gateway / core: not in the file",
        "group sales: not in the file",
        "group sales / field: not in the file",
        "role Key steward: created",
        "application assistant: changed",
        "  cost_center: – → CC-2",
        "application help-desk: created",
        "policy Team budget: created",
        "policy Trainees: created",
        "binding Team budget on group engineering / Data: created",
        "binding Trainees on group /, for each member below: created",
        f"binding Trainees on member {world.noah.email}: created",
        "binding Trainees on application help-desk: created",
        f"binding Trainees on key {world.key.public_id}: created",
        f"Organisation {world.acme.slug}: 3 changed, 11 created, 1 unchanged, 4 not in the file.",
    ]
    acme = Organization.objects.get(pk=world.acme.pk)
    assert (acme.time_zone, acme.fiscal_month, acme.attribution_required) == ("Europe/Berlin", 4, True)
    assert acme.zdr_only
    assert acme.approval_since == datetime(2026, 11, 1, 11, 0, 0, 500_000, tzinfo=UTC)
    assert (acme.root.cost_center, acme.root.owner) == ("CC-1", world.alice)
    data = Group.objects.get(organization=acme, name="Data")
    assert (data.parent, data.cost_center, data.level) == (world.engineering, "CC-7", 2)
    role = Role.objects.get(organization=acme)
    assert (role.group, role.permissions) == (world.engineering, ["manage_keys", "view_usage"])
    desk = Application.objects.get(organization=acme, slug="help-desk")
    assert (desk.group, desk.features, desk.owner) == (data, ["chat", "search"], world.mia)
    team = Policy.objects.get(organization=acme, name="Team budget")
    assert set(team.limits.values_list("kind", "window", "value", "counts_byok")) == {
        ("budget", "month", 1000_500_000_000, False),
        ("budget", "day", 40_000_000_000, True),
        ("rpm", "minute", 60, False),
    }
    rules = {"models": ["gpt-*"], "addresses": ["10.0.0.0/8"], "members": [str(world.mia.pk)]}
    assert {rule.kind: rule.entries for rule in team.rules.all()} == rules
    assert (team.clamp, team.observed_holds) == (False, None)
    assert Binding.objects.get(policy__name="Trainees", group=acme.root, organization=acme).reach == "members"


def test_applied_twice_it_changes_nothing_and_neither_does_an_export(world: World, apply: Apply) -> None:
    apply(written(world))
    events, dirty = AuditEvent.objects.count(), epoch.keys(world.acme.pk)[1]
    redis.client().delete(dirty)
    assert apply(written(world)).splitlines()[-1].endswith(": 15 unchanged, 4 not in the file.")
    assert AuditEvent.objects.count() == events
    # The one text that the services keep in another form is asked of them again: they change nothing.
    assert redis.client().hlen(dirty) <= 3
    exported = export(world.acme.slug)
    assert apply(exported).splitlines() == [f"Organisation {world.acme.slug}: 19 unchanged."]
    assert export(world.acme.slug) == exported


CHANGED = {
    "fiscal_month: 4": "fiscal_month: 10",
    "kind: department": "kind: ''",
    "    owner: {lena}\n": "    owner: null\n",
    "name: Key steward": "name: KEY steward",
    "[view_usage, manage_keys]": "[view_usage]",
    "Desk, group: engineering / Data, features: [search, chat]": "Line, slug: help-desk, group: Legal, features: []",
    "usd: 1000.50": "usd: 2000",
    ", rpm: 60": "",
    '["gpt-*"]': '["gpt-*", "claude-*"]',
    "clamp: false": "clamp: null",
    "  - {{name: Trainees, limits: {{max_tokens: 500}}}}\n": "",
}


def test_what_changes_is_told_with_what_stood_there(world: World, apply: Apply) -> None:
    apply(written(world))
    changed = FILE
    for old, new in CHANGED.items():
        assert changed.count(old) == 1
        changed = changed.replace(old, new)
    lines = apply(written(world, changed)).splitlines()
    assert [line for line in lines if not re.search(r"gateway|sales|core", line)] == [
        f"organisation {world.acme.slug}: changed",
        "  fiscal_month: 4 → 10",
        "group engineering: changed",
        "  kind: department → –",
        f"  owner: {world.lena.email} → –",
        "role KEY steward: changed",
        "  name: Key steward → KEY steward",
        "  permissions: manage_keys, view_usage → view_usage",
        "application help-desk: changed",
        "  name: Help Desk → Help Line",
        "  group: engineering / Data → Legal",
        "  features: chat, search → –",
        "policy Team budget: changed",
        "  limits.budget.month.usd: 1000.5 → 2000",
        "  limits.rpm: 60 → –",
        "  rules.models: gpt-* → gpt-*, claude-*",
        "  clamp: false → –",
        "policy Trainees: not in the file",
        f"Organisation {world.acme.slug}: 5 changed, 9 unchanged, 5 not in the file.",
    ]
    assert " changed" not in apply(written(world, changed))


def test_what_a_file_leaves_out_stays(world: World, apply: Apply) -> None:
    head = f"organization: {{slug: {world.acme.slug}}}\n"
    policies = "policies: [{name: Team, description: All of it, limits: {rpm: 5}, rules: {models: [a]}, clamp: true}]"
    apply(f"{head}groups: [{{name: sales, kind: team}}]\n{policies}\nbindings: [{{policy: Team, group: sales}}]")
    before = export(world.acme.slug)
    assert apply(f"{head}groups: [{{name: sales}}]\npolicies: [{{name: Team}}]").splitlines() == [
        "group engineering: not in the file",
        "group engineering / platform: not in the file",
        "group engineering / platform / gateway: not in the file",
        "group engineering / platform / gateway / core: not in the file",
        "group sales / field: not in the file",
        f"Organisation {world.acme.slug}: 3 unchanged, 5 not in the file.",
    ]
    assert export(world.acme.slug) == before


def test_every_change_is_in_the_trail_as_the_commands(world: World, apply: Apply) -> None:
    apply(written(world))
    events = AuditEvent.objects.filter(organization=world.acme, agent="manage.py org apply")
    assert {event.actor for event in events} == {None}
    assert sorted(events.values_list("action", flat=True)) == sorted(
        [
            *("organization.changed", "group.changed", "group.changed", "group.created", "group.created", "role.created"),
            *("application.changed", "application.created", "policy.created", "policy.created", *["policy.bound"] * 5),
        ]
    )


# --- looking first --------------------------------------------------------------------------------


def test_a_dry_run_says_the_same_and_changes_nothing(world: World, apply: Apply, tmp_path: Path) -> None:
    before, events = export(world.acme.slug), AuditEvent.objects.count()
    redis.client().delete(epoch.keys(world.acme.pk)[1])
    out, path = io.StringIO(), tmp_path / "acme.yaml"
    path.write_text(
        f"organization: {{slug: {world.acme.slug}}}\ngroups: [{{name: sales, kind: team}}]\npolicies: [{{name: Team}}]"
    )
    with pytest.raises(SystemExit) as ended:
        call_command("org", "apply", path, "--dry-run", stdout=out)
    assert ended.value.code == 3
    assert (export(world.acme.slug), AuditEvent.objects.count()) == (before, events)
    assert redis.client().hlen(epoch.keys(world.acme.pk)[1]) == 0
    assert out.getvalue() == apply(path.read_text()).replace(f"Organisation {world.acme.slug}", "Would be")
    assert apply(path.read_text(), "--dry-run").splitlines()[-1] == "Would be: 3 unchanged, 5 not in the file."


def test_scripts_get_the_report_as_one_object(world: World, apply: Apply) -> None:
    found = json.loads(apply(f"organization: {{slug: {world.acme.slug}, week_start: 6}}\nroles: []\n", "--json"))
    fields = {"week_start": [0, 6]}
    assert found == {
        "organization": world.acme.slug,
        "dry_run": False,
        "changes": [{"thing": "organisation", "name": world.acme.slug, "outcome": "changed", "fields": fields, "note": ""}],
        "counts": {"changed": 1},
    }


def test_scripts_get_the_problem_as_one_object(world: World, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("organization: {slug: nowhere}")
    out = io.StringIO()
    with pytest.raises(CommandError):
        call_command("org", "apply", tmp_path / "bad.yaml", "--json", stdout=out)
    reason = "there is no organisation “nowhere”: create it in the console first"
    assert json.loads(out.getvalue()) == {"problems": [{"path": "organization.slug", "reason": reason}]}


SLIPS = """
organization: {slug: SLUG, fiscal_moon: 4, time_zone: Europe/Berlln}
groups:
  - {name: Design, kind: 7}
  - {name: Research, owner: nobody@example.com}
  - {nmae: Sales, colour: red}
applications: [{name: Help, slug: 7, group: Design}]
polices:
  - {name: Team, limits: {rpm: -3, tpm: 100}}
  - {name: Other, clamp: 1, degrade_percent: 80}
  - {name: Fine}
bindings:
  - {policy: Team, group: Design}
  - {policy: Fine, application: help-desk}
  - {policy: Fine, grup: Nowhere}
  - {policy: None, group: Design}
  - {policy: Fine, team: Design}
"""


def test_what_can_be_told_of_a_file_is_told_in_one_round(world: World, tmp_path: Path) -> None:
    before, path, out = export(world.acme.slug), tmp_path / "slips.yaml", io.StringIO()
    path.write_text(SLIPS.replace("SLUG", world.acme.slug))
    with pytest.raises(CommandError):
        call_command("org", "apply", path, "--json", stdout=out)
    problems = [f"{problem['path']}: {problem['reason']}" for problem in json.loads(out.getvalue())["problems"]]
    expected = [
        "organization.fiscal_moon: there is no such field: is it fiscal_month?",
        "groups[0].kind: must be text (put it in quotes), not a whole number",
        "groups[2].nmae: there is no such field: is it name?",
        "groups[2].colour: there is no such field",
        "applications[0].slug: must be text (put it in quotes), not a whole number",
        "polices: there is no such field: is it policies?",
        "policies[1].clamp: must be true or false or empty, not a whole number",
        "bindings[2].grup: there is no such field: is it group?",
        "bindings[4].team: there is no such field",
        "organization.time_zone: “Europe/Berlln” is not a time zone",
        "groups[1].owner: Nobody with the address “nobody@example.com” belongs to",
        "policies[0].limits.rpm: This limit is out of range: 0 to 1,000,000.",
        "policies[1].degrade_model: Name the model that calls go to.",
        "bindings[2].group: There is no group “Nowhere”.",
        "bindings[3].policy: There is no policy “None”.",
    ]
    assert [told[: len(start)] for told, start in zip(problems, expected, strict=True)] == expected
    assert export(world.acme.slug) == before


def test_what_a_section_that_nobody_can_make_out_may_hold_is_not_said_to_be_missing(world: World, refusals: Refusals) -> None:
    text = f"organization: {{slug: {world.acme.slug}}}\nrulesets: [{{name: Team}}]\nbindings: [{{policy: Team, group: /}}]"
    assert refusals({text: "rulesets: there is no such field"}) == {text: "rulesets: there is no such field"}
    with pytest.raises(BadFile) as caught:
        applying.apply(text)
    assert caught.value.others == []


# --- there and back -------------------------------------------------------------------------------


def test_an_export_brings_back_every_value(world: World, apply: Apply) -> None:
    head = f"organization: {{slug: {world.acme.slug}, "
    apply(f"{head}week_start: 3}}\npolicies: [{{name: Team, limits: {{rpm: 5}}, clamp: true}}]")
    exported = export(world.acme.slug)
    groups, policies = "[{name: sales, kind: team, owner: OWNER}]", "[{name: Team, limits: {tpm: 5}, clamp: null}]"
    apply(f"{head}reset_hour: 4}}\ngroups: {groups}\npolicies: {policies}".replace("OWNER", world.lena.email))
    assert export(world.acme.slug) != exported
    apply(exported)
    assert export(world.acme.slug) == exported


def test_an_export_makes_the_same_of_a_fresh_organisation(world: World, apply: Apply) -> None:
    apply(written(world, re.sub(r".*(key|member): \{.*\n", "", FILE)))
    change_application(world.assistant, name="Something else", by=world.actor("alice"))
    create_application(world.sales, name="助手", by=world.actor("alice"))
    exported = without_people(export(world.acme.slug))
    fresh = create_organization("Fresh", owner=world.charlie)
    assert " created." in apply(exported, "--to", fresh.slug)
    again = export(fresh.slug)
    assert again == exported.replace(world.acme.slug, fresh.slug)


def without_people(text: str) -> str:
    """Charlie is alone there."""
    return re.sub(r"owner: [^,}\n]*@[^,}\n]*", "owner: null", re.sub(r"\n *members: \[[^]]*\]", "", text))


def test_what_is_archived_or_deleted_is_not_exported(world: World, apply: Apply) -> None:
    alice = world.actor("alice")
    policy = create_policy(world.acme, name="Team", limits=[], by=alice)
    for subject in (world.root, world.sales, world.field, world.noah, world.assistant, world.key):
        bind(policy, subject=subject, by=alice)
    create_role(world.field, name="Steward", permissions=[Permission.VIEW_USAGE], by=alice)
    archive_group(world.sales, by=alice)
    archive_application(world.assistant, by=alice)
    revoke_key(world.key, by=alice)
    found = yaml.safe_load(export(world.acme.slug))
    assert ([group["name"] for group in found["groups"]], found["roles"], found["applications"]) == (["engineering"], [], [])
    assert found["bindings"] == [{"policy": "Team", "group": "/"}, {"policy": "Team", "member": world.noah.email}]
    assert apply(export(world.acme.slug)).splitlines()[-1].endswith(": 8 unchanged.")


def test_a_keys_own_limits_stay_with_the_key(world: World, apply: Apply) -> None:
    set_key_limits(world.key, rpm=5, by=world.actor("mia"))
    found = yaml.safe_load(export(world.acme.slug))
    assert (found["policies"], found["bindings"]) == ([], [])


# --- what is refused ------------------------------------------------------------------------------


BAD = {
    # The form.
    "roles: 7": "roles: must be a list, not a whole number",
    "rolls: []": "rolls: there is no such field: is it roles?",
    "groups: [{name: a, children: [{name: b, kind: 7}]}]": "groups[0].children[0].kind: must be text (put it in quotes), not a",
    "groups: [{name: a, colour: red}]": "groups[0].colour: there is no such field",
    "groups: [{kind: a}]": "groups[0].name: is missing",
    "groups: [{name: a, name: b}]": "line 2: not YAML: 'name' stands twice",
    'groups: [{name: "a\\0b"}]': "line 2: not YAML: a text holds characters that cannot be shown",
    "roles: [{name: a, permissions: view_usage}]": "roles[0].permissions: must be a list, not text",
    "policies: [{name: a, clamp: 1}]": "policies[0].clamp: must be true or false or empty, not a whole number",
    "policies: [{name: a, limits: {budget: {month: {usd: much}}}}]": "policies[0].limits.budget.month.usd: must be an amount o",
    "bindings: [{policy: a, group: /, reach: all}]": "bindings[0].reach: 'all' is none of the values that it may have",
    # The tree.
    "groups: [{name: a}, {name: ' a'}]": "groups[1]: names the group “a” again, after groups[0]",
    "groups: [{name: a}, {name: ' '}]": "groups[1].name: A name has 1 to 120 visible characters.",
    "groups: [{name: a, owner: no@example.com}]": "groups[0].owner: Nobody with the address “no@example.com” belongs to Acme",
    "groups: [{name: a, children: [{name: b, children: [{name: c, children: [{name: d, children: [{name: e}]}]}]}]}]":
        "groups[0].children[0].children[0].children[0].children[0]: The tree has 4 levels below the organisation; d is",
    # Roles.
    "roles: [{name: a, permissions: [view_usage, view_all]}]": "roles[0].permissions[1]: There is no permission “view_all”. Th",
    "roles: [{name: a}]": "roles[0].permissions: Choose at least one permission.",
    "roles: [{name: a, group: Designing}]": "roles[0].group: There is no group “Designing”. Write its path, such as “Engin",
    "roles: [{name: Auditor, permissions: [view_usage]}]": "roles[0].name: There is a role “Auditor” already.",
    # Applications.
    "applications: [{name: 助手}]": "applications[0].slug: Give its address: none can be made of this name.",
    "applications: [{name: a, slug: Help Desk}]": "applications[0].slug: Use small letters, digits, - and _",
    "applications: [{name: a}, {name: A}]": "applications[1]: names the application “a” again, after applications[0]",
    "applications: [{name: a, features: [two words]}]": "applications[0].features: “two words”: use letters, digits, - and _",
    # Policies.
    "policies: [{name: a, limits: {rpm: -1}}]": "policies[0].limits.rpm: This limit is out of range: 0 to 1,000,000.",
    "policies: [{name: a, limits: {budget: {day: {usd: 9e12}}}}]": "policies[0].limits.budget.day: '9E+12' is out of range.",
    "policies: [{name: a, limits: {budget: {day: {usd: -1}}}}]": "policies[0].limits.budget.day: This limit is out of range: $0",
    "policies: [{name: a, rules: {addresses: [10.1.2.300]}}]": "policies[0].rules.addresses: “10.1.2.300” is no address or net",
    "policies: [{name: a, degrade_percent: 80}]": "policies[0].degrade_model: Name the model that calls go to.",
    "policies: [{name: a}, {name: A}]": "policies[1]: names the policy “a” again, after policies[0]",
    # Bindings.
    "bindings: [{policy: a, group: /}]": "bindings[0].policy: There is no policy “a”.",
    "bindings: [{policy: a}]": "bindings[0]: Name one of group, member, application, key, and no more.",
    "bindings: [{policy: a, group: /, key: b}]": "bindings[0]: Name one of group, member, application, key, and no more.",
    "policies: [{name: a}]\nbindings: [{policy: a, application: assistant, reach: keys}]":
        "bindings[0].reach: Only a group has members and keys below it.",
    "policies: [{name: a}]\nbindings: [{policy: a, application: b}]": "bindings[0].application: There is no application “b”.",
    "policies: [{name: a}]\nbindings: [{policy: a, member: b}]": "bindings[0].member: Nobody with the address “b” belongs to A",
    "policies: [{name: a}]\nbindings: [{policy: a, key: b}]": "bindings[0].key: There is no API key “b”: write its public id",
    "policies: [{name: a}]\nbindings: [{policy: a, group: /}, {policy: A, group: /}]":
        "bindings[1]: names the binding “a on group /” again, after bindings[0]",
}  # fmt: skip
BAD_SETTINGS = {
    "fiscal_moon: 4": "organization.fiscal_moon: there is no such field",
    "attribution_required: 1": "organization.attribution_required: must be true or false, not a whole number",
    "approval_since: 2026-11-01": "organization.approval_since: must be a moment with its time zone, such as ",
    "approval_since: 2026-11-01 00:00:00": "organization.approval_since: must be a moment with its time zone, such as ",
    "time_zone: Europe/Berlln": "organization.time_zone: “Europe/Berlln” is not a time zone of the IANA list.",
    "content_sample_percent: 0": "organization.content_sample_percent: Give a number from 1 to 100.",
    "zdr_only: sometimes": "organization.zdr_only: must be true or false, not text",
    "zdr_only: true, content_retention_hours: 5": "organization.zdr_only: With zero data retention no contents are kept here",
    "fiscal_month: 13": "organization.fiscal_month: Give a number from 1 to 12.",
}


def test_a_bad_file_is_refused_with_the_place_and_changes_nothing(world: World, refusals: Refusals) -> None:
    head = f"organization: {{slug: {world.acme.slug}"
    files = {f"{head}}}\n{text}": sentence for text, sentence in BAD.items()}
    files |= {f"{head}, {text}}}\ngroups: [{{name: made before}}]": sentence for text, sentence in BAD_SETTINGS.items()}
    assert refusals(files) == files


def test_what_is_no_such_file_is_refused(refusals: Refusals) -> None:
    files = {
        "": "must be a mapping, not empty",
        "- a": "must be a mapping, not a list",
        "organization: {}": "organization.slug: is missing",
        "a: [": "line 1: not YAML: ",
        "organization: {slug: a, approval_since: 2026-13-01}": "not YAML: month must be in 1..12",
        "!!python/name:os.system x": "line 1: not YAML: could not determine a constructor for the tag",
        "organization: {slug: a}\ngroups: &all [{name: x, children: *all}]": "something in it contains itself",
        "organization: {slug: a, true: 2}": "organization: has a field whose name is no text",
        "organization: {slug: a, 1: 2}": "organization.1: there is no such field",
        "organization: {slug: nowhere}": "organization.slug: there is no organisation “nowhere”: create it in the console first",
    }
    assert refusals(files) == files


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"none.yaml cannot be read: No such file"):
        call_command("org", "apply", tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe4")
    with pytest.raises(CommandError, match=r"latin.yaml is not UTF-8 text"):
        call_command("org", "apply", tmp_path / "latin.yaml")
    with pytest.raises(CommandError, match=r"There is no organisation “nowhere”"):
        export("nowhere")


def test_names_that_nothing_bears_are_refused(world: World, refusals: Refusals) -> None:
    catalogue.load(catalogue.sandbox_declaration())
    sentences = {
        "rules: {models: [sandbox-fast, sandbox-fas]}": "rules.models[1]: “sandbox-fas” names no model that is offered now.",
        "rules: {blocked_models: [nothing/sandbox-fast]}": "rules.blocked_models[0]: “nothing/sandbox-fast” names no model",
        "rules: {providers: [sandbocks]}": "rules.providers[0]: “sandbocks” names no provider that is offered now.",
        "degrade_percent: 80, degrade_model: small": "degrade_model: “small” names no model that is offered now.",
    }
    head = f"organization: {{slug: {world.acme.slug}}}\npolicies:\n"
    files = {f"{head}  - {{name: New, {fields}}}": f"policies[0].{sentence}" for fields, sentence in sentences.items()}
    assert refusals(files) == files


def test_names_that_are_offered_wildcards_and_what_stood_there_pass(world: World, apply: Apply) -> None:
    catalogue.load(catalogue.sandbox_declaration())
    create_policy(world.acme, name="Old", limits=[], rules={"models": ["gone-1"]}, by=world.actor("alice"))
    rules = "models: [gone-1, sandbox-fast, gpt-9*, sandbox/any-of-its-own], providers: [sandbox]"
    text = f"organization: {{slug: {world.acme.slug}}}\npolicies: [{{name: Old, rules: {{{rules}}}}}]"
    assert "policy Old: changed" in apply(text)


def test_what_is_archived_is_brought_back_in_the_console_only(world: World, refusals: Refusals) -> None:
    alice = world.actor("alice")
    archive_application(world.assistant, by=alice)
    archive_group(world.group("sales"), by=alice)
    sentences = {
        "groups: [{name: sales}]": "groups[0].name: “sales” is archived: bring it back in the console first.",
        "applications: [{name: Assistant}]": "applications[0]: “assistant”, or the group that it stands in, is archived",
        "applications: [{name: New, group: sales}]": "applications[0].group: There is no group “sales”.",
    }
    files = {f"organization: {{slug: {world.acme.slug}}}\n{text}": sentence for text, sentence in sentences.items()}
    assert refusals(files) == files


def test_what_is_archived_under_another_spelling_is_too(world: World, refusals: Refusals) -> None:
    archive_group(world.field, by=world.actor("alice"))
    head = f"organization: {{slug: {world.acme.slug}}}\n"
    text = f"{head}groups: [{{name: Sales, children: [{{name: FIELD}}]}}]"
    told = "groups[0].children[0].name: “Sales / field” is archived: bring it back in the console first."
    assert refusals({text: told}) == {text: told}
    assert world.group("sales").name == "sales"


def test_a_file_corrects_the_letters_of_a_groups_name(world: World, apply: Apply) -> None:
    policy = create_policy(world.acme, name="Team", limits=[], by=world.actor("alice"))
    bind(policy, subject=world.engineering, by=world.actor("alice"))
    text = f"""\
organization: {{slug: {world.acme.slug}}}
groups: [{{name: Engineering, children: [{{name: " PLATFORM"}}, {{name: Data}}]}}, {{name: sales}}]
applications: [{{name: assistant, group: ENGINEERING / platform}}]
bindings: [{{policy: team, group: engineering}}]
"""
    told = apply(text)
    assert told.splitlines()[:7] == [
        "group Engineering: changed",
        "  name: engineering → Engineering",
        "group Engineering / Data: created",
        "group Engineering / PLATFORM: changed",
        "  name: platform → PLATFORM",
        "group Engineering / PLATFORM / gateway: not in the file",
        "group Engineering / PLATFORM / gateway / core: not in the file",
    ]
    assert "binding" not in told  # it is as it was
    assert world.group("engineering").name == "Engineering"
    assert Group.objects.get(organization=world.acme, name="Data").parent == world.engineering
    events = AuditEvent.objects.filter(organization=world.acme, action="group.changed")
    assert [event.after["name"] for event in events.order_by("pk")] == ["Engineering", "PLATFORM"]
    assert "changed" not in apply(text).replace("unchanged", "")
    assert yaml.safe_load(export(world.acme.slug))["bindings"] == [{"policy": "Team", "group": "Engineering"}]


def test_a_role_stays_where_it_was_made(world: World, apply: Apply, refusals: Refusals) -> None:
    head = f"organization: {{slug: {world.acme.slug}}}\nroles:\n"
    apply(f"{head}  - {{name: Steward, group: sales, permissions: [view_usage]}}")
    files = {f"{head}  - {{name: Steward, group: /}}": "roles[0].group: A role stays where it was made: sales."}
    assert refusals(files) == files


def test_groups_that_a_file_could_not_tell_apart_are_named(world: World) -> None:
    create_group(world.root, name="engineering / platform", by=world.actor("alice"))
    with pytest.raises(CommandError, match="two groups are “engineering / platform”: no file could tell them apart"):
        export(world.acme.slug)


def test_a_frozen_organisation_is_left_alone(world: World, refusals: Refusals) -> None:
    freeze_organization(world.acme, reason="Unpaid", by=operator())
    files = {written(world): "organization: it is frozen, and nothing in it can be changed"}
    assert refusals(files) == files


def test_a_second_factor_can_be_required_by_whoever_has_no_account(world: World, apply: Apply) -> None:
    apply(f"organization: {{slug: {world.acme.slug}, second_factor_required: true}}")
    assert Organization.objects.get(pk=world.acme.pk).second_factor_required


# --- the form and the models ----------------------------------------------------------------------


def test_the_form_has_every_setting_limit_rule_and_switch() -> None:
    assert set(OrganizationDeclaration.__struct_fields__) == {"slug", *SETTINGS, "kind", "cost_center", "owner"}
    assert set(LimitsDeclaration.__struct_fields__) == set(Limit.Kind.values)
    assert BudgetsDeclaration.__struct_fields__ == Limit.WINDOWS["budget"]
    assert set(RulesDeclaration.__struct_fields__) == set(Rule.Kind.values)
    assert set(SWITCHES) < set(PolicyDeclaration.__struct_fields__)


def test_the_sample_of_the_readme_can_be_applied(world: World, apply: Apply) -> None:
    text = (ROOT / "README.md").read_text().partition("## An organisation as a file")[2]
    sample = text.partition("```yaml\n")[2].partition("```")[0]
    for group in (world.engineering, world.sales):  # whose names the sample uses
        change_group(group, name=f"Old {group}", by=world.actor("alice"))
    for name in ("lena", "mia"):
        sample = sample.replace(f"{name}@example.com", getattr(world, name).email)
    assert "11 created" in apply(sample, "--to", world.acme.slug).splitlines()[-1]
    assert apply(sample, "--to", world.acme.slug).splitlines()[-1].endswith(": 12 unchanged, 7 not in the file.")
