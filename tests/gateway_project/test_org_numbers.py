"""Numbers in the file of `manage.py org apply`: read in decimal digits, as `manage.py catalogue load` reads them, or refused."""

from __future__ import annotations

import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from hypothesis import given
from hypothesis import strategies as st

from guardrails.as_code import files
from guardrails.models import Limit
from tests.actors import World
from tests.gateway_project.test_org_problems import refusal

pytestmark = pytest.mark.usefixtures("empty_catalogue")

# Where a policy has one → the fields that say so.
AMOUNTS = {
    f"limits.budget.{window}.usd": f"limits: {{budget: {{{window}: {{usd: NUMBER}}}}}}" for window in Limit.WINDOWS["budget"]
}
COUNTS = {f"limits.{kind}": f"limits: {{{kind}: NUMBER}}" for kind in Limit.Kind.values if kind != Limit.Kind.BUDGET} | {
    "degrade_percent": "degrade_model: x, degrade_percent: NUMBER",
    "clamp_least_tokens": "clamp_least_tokens: NUMBER",
}
SETTINGS = ("week_start", "fiscal_month", "reset_hour", "content_retention_hours", "content_sample_percent")
HEAD = "organization: {slug: SLUG}\n"
SET = f"organization: {{slug: SLUG, {', '.join(f'{name}: NUMBER' for name in SETTINGS)}}}\n"
ODD = ("0x10", "0o10", "0b1", "1:30", "-1:30", "1__0", "9" * 41)


def told(world: World, folder: Path, text: str) -> list[str]:
    braces = str.maketrans({"{": "{{", "}": "}}"})
    return refusal(world, folder, text.replace("SLUG", world.acme.slug).translate(braces))[0][:-1]


def applied(world: World, folder: Path, text: str) -> dict[str, Any]:
    """The file of what is there afterwards."""
    (folder / "acme.yaml").write_text(text.replace("SLUG", world.acme.slug))
    call_command("org", "apply", folder / "acme.yaml", stdout=io.StringIO())
    out = io.StringIO()
    call_command("org", "export", world.acme.slug, stdout=out)
    found: dict[str, Any] = yaml.load(out.getvalue(), Loader=yaml.BaseLoader)  # noqa: S506 texts only
    return found


def policies(*fields: str) -> str:
    return "policies:\n" + "".join(f"  - {{name: P{number}, {one}}}\n" for number, one in enumerate(fields))


@pytest.mark.parametrize("number", [*ODD, "1.5", ".inf", "1e2"])
def test_a_whole_number_is_written_in_decimal_digits(world: World, tmp_path: Path, number: str) -> None:
    places = [f"organization.{name}" for name in SETTINGS] + [f"policies[{at}].{place}" for at, place in enumerate(COUNTS)]
    assert told(world, tmp_path, (SET + policies(*COUNTS.values())).replace("NUMBER", number)) == [
        f"{place}: must be a whole number in decimal digits, not {number[:40]}" for place in places
    ]


@pytest.mark.parametrize("number", [*ODD, "1:30.5", ".inf", ".nan", '"0x10"', '"１２"', "much", '"1 000"'])
def test_an_amount_is_written_in_decimal_digits(world: World, tmp_path: Path, number: str) -> None:
    given = number.strip('"')[:40]
    assert told(world, tmp_path, (HEAD + policies(*AMOUNTS.values())).replace("NUMBER", number)) == [
        f"policies[{at}].{place}: must be an amount of US dollars in decimal digits, not {given}"
        for at, place in enumerate(AMOUNTS)
    ]


@pytest.mark.parametrize(("number", "reason"), [("'60'", "not text"), ("true", "not true or false"), ("2027-01-31", "not a day")])
def test_what_is_no_number_at_all_is_called_what_it_is(world: World, tmp_path: Path, number: str, reason: str) -> None:
    text = HEAD + policies(COUNTS["limits.rpm"]).replace("NUMBER", number)
    assert told(world, tmp_path, text) == [f"policies[0].limits.rpm: must be a whole number, {reason}"]


def test_leading_zeros_and_grouped_digits_change_nothing(world: World, tmp_path: Path) -> None:
    text = """
organization: {slug: SLUG, fiscal_month: 010, reset_hour: 09, content_retention_hours: 0100, content_sample_percent: 060}
policies:
  - name: A
    limits:
      budget: {day: {usd: 0100}, month: {usd: 1_000.50}, year: {usd: "010"}, total: {usd: +09.}}
      rpm: 010
      tpm: 1_000
    clamp_least_tokens: 064
"""
    found = applied(world, tmp_path, text)
    wanted = {"fiscal_month": "10", "reset_hour": "9", "content_retention_hours": "100", "content_sample_percent": "60"}
    assert {name: found["organization"][name] for name in wanted} == wanted
    [policy] = found["policies"]
    assert {window: budget["usd"] for window, budget in policy["limits"].pop("budget").items()} == {
        "day": "100",
        "month": "1000.5",
        "year": "10",
        "total": "9",
    }
    assert (policy["limits"], policy["clamp_least_tokens"]) == ({"rpm": "10", "tpm": "1000"}, "64")


def test_what_looks_like_a_number_is_text_where_text_belongs(world: World, tmp_path: Path) -> None:
    text = (
        HEAD
        + "groups: [{name: 1.50, kind: 0o17, cost_center: 08-15}]\n"
        + "policies: [{name: 4.1 a, rules: {addresses: [10.0.0.0/8]}}]"
    )
    found = applied(world, tmp_path, text)
    assert {"name": "1.50", "kind": "0o17", "cost_center": "08-15", "owner": "null"} in found["groups"]
    for number in ("10", "0x10", "1:30"):
        reason = "groups[0].name: must be text (put it in quotes), not a whole number"
        assert told(world, tmp_path, HEAD + f"groups: [{{name: {number}}}]") == [reason]


@given(st.decimals(0, 4_000_000_000, places=9), st.integers(0, 10**12), st.sampled_from(["", "0", "000"]))
def test_each_decimal_text_is_read_as_what_it_says(usd: Decimal, count: int, zeros: str) -> None:
    text = (
        f"organization: {{slug: a}}\npolicies: [{{name: A, degrade_percent: {zeros}{count:_},"
        f" limits: {{tpm: {zeros}{count}, budget: {{day: {{usd: {zeros}{usd:f}}}, week: {{usd: '{zeros}{usd:f}'}}}}}}}}]"
    )
    reading = files.read(text)
    policy: Any = reading.declared.policies[0]  # type: ignore[index]
    limits = policy.limits
    assert not reading.faults
    assert (policy.degrade_percent, limits.tpm) == (count, count)
    assert (limits.budget.day.usd, limits.budget.week.usd) == (usd, usd)
