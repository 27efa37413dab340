"""`manage.py org apply` of a file with several mistakes: all that can be told at once, in the order of the file."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from orgs.models import AuditEvent
from tests.actors import World

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


@pytest.mark.parametrize(("wrong", "told"), [(20, 20), (21, 20), (300, 20)])
@pytest.mark.parametrize("entry", ["{{kind: x}}", "{{name: '{number}', owner: nobody@example.test}}"])
def test_twenty_are_told_and_that_there_is_more(world: World, tmp_path: Path, entry: str, wrong: int, told: int) -> None:
    listed = "".join(f"\n  - {entry.replace('{number}', str(number))}" for number in range(wrong))
    lines, _ = refusal(world, tmp_path, f"organization: {{{{slug: {{slug}}}}}}\ngroups:{listed}")
    assert [line.partition(":")[0].partition(".")[0] for line in lines[:told]] == [f"groups[{number}]" for number in range(told)]
    assert lines[told:] == [*(["There is more."] if wrong > told else []), "Nothing was changed."]
