"""Files of organisations, as a property: what a file says is what is exported afterwards, and says nothing new a second time."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import yaml
from django.db import transaction
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from guardrails.as_code import files, kinds
from guardrails.as_code.applying import apply, export
from guardrails.as_code.declarations import BindingDeclaration, BudgetsDeclaration, Declaration
from guardrails.models import Limit
from orgs.permissions import Permission
from orgs.services.organizations import create_organization
from orgs.services.roles import GRANTABLE
from tests.actors import make_user
from tests.examples import some

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("empty_catalogue")]

# What YAML reads as something else unless it is quoted, and what it must not trip over.
WORDS = (
    "no",
    "null",
    "~",
    "1.5",
    "0x1F",
    "2026-01-01",
    "a: b",
    "- c",
    "#d",
    "'e'",
    '"f"',
    "{g}",
    "*h",
    "&i",
    "ü 助手 🙂",
    "<<",
    "=",
    "1_0",
)
letters = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=12)
# As the services keep them: what comes otherwise is composed.
names = st.sampled_from(WORDS) | letters.map(partial(unicodedata.normalize, "NFC"))
amounts = st.decimals(min_value=0, max_value=4_000_000_000, places=9)


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


def tree(levels: int) -> st.SearchStrategy[list[dict[str, Any]]]:
    about: dict[str, st.SearchStrategy[Any]] = {"kind": names, "cost_center": names, "owner": st.sampled_from(["{owner}", None])}
    below = {"children": tree(levels - 1)} if levels > 1 else {}
    group = st.fixed_dictionaries({"name": names.filter(lambda name: "/" not in name)}, optional=about | below)
    return st.lists(group, max_size=2, unique_by=lambda group: group["name"].casefold())


def paths(groups: list[dict[str, Any]], above: str = "") -> list[str]:
    return [
        path
        for group in groups
        for here in [above + group["name"]]
        for path in (here, *paths(group.get("children", []), f"{here} / "))
    ]


budget = st.builds(lambda usd, own: {"usd": str(usd), "counts_byok": own}, amounts, st.booleans())
budgets = st.dictionaries(st.sampled_from(BudgetsDeclaration.__struct_fields__), budget, min_size=1)
counts = {kind: st.integers(0, 1_000_000) for kind in Limit.Kind.values if kind != "budget"}
lists = {
    "models": st.lists(st.sampled_from(["gpt-*", "claude-?", "a/b", "x"]), unique=True),
    "blocked_models": st.lists(st.sampled_from(["*-pro", "y"]), unique=True),
    "addresses": st.lists(st.sampled_from(["10.0.0.0/8", "192.0.2.7", "2001:db8::1"]), unique=True),
    "members": st.lists(st.just("{owner}"), max_size=1),
}
switches = {
    "description": names,
    "limits": optional(budget=budgets, **counts),
    "rules": optional(**lists),
    "clamp": st.none() | st.booleans(),
    "clamp_least_tokens": st.none() | st.integers(1, 10_000),
    "observed_holds": st.none() | st.booleans(),
}
said = {
    "time_zone": st.sampled_from(["UTC", "Asia/Kathmandu"]),
    "week_start": st.integers(0, 6),
    "fiscal_month": st.integers(1, 12),
    "reset_hour": st.integers(0, 23),
    "content_retention_hours": st.integers(0, 720),
    "content_sample_percent": st.integers(1, 100),
    "approval_since": st.none()
    | st.integers(0, 2**52).map(lambda micros: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)),
    "kind": names,
    "owner": st.sampled_from(["{owner}", None]),
    # With it on, contents are kept for no time.
    "zdr_only": st.just(False),
    **dict.fromkeys(("attribution_required", "second_factor_required", "admit_unguarded"), st.booleans()),
}


@st.composite
def organizations(draw: st.DrawFn) -> dict[str, Any]:
    groups = draw(tree(4))
    places = st.sampled_from(["/", *paths(groups)])
    permissions = st.lists(
        st.sampled_from([permission.value for permission in Permission if permission in GRANTABLE]), min_size=1, unique=True
    ).map(sorted)
    role = st.fixed_dictionaries({"permissions": permissions}, optional={"group": places, "description": names})
    about: dict[str, st.SearchStrategy[Any]] = {
        "group": places,
        "cost_center": names,
        "owner": st.sampled_from(["{owner}", None]),
    }
    labels = {
        field: st.lists(st.sampled_from(["a", "b-1", "C_2"]), unique=True).map(sorted) for field in ("features", "environments")
    }
    application = st.fixed_dictionaries({"name": names}, optional=about | labels)
    policies = draw(st.lists(optional(**switches), max_size=3))
    reaches = st.sampled_from(["self", "members", "keys"])
    bound = st.tuples(st.integers(0, len(policies) - 1), places, reaches)
    bindings = draw(st.lists(bound, max_size=4, unique=True)) if policies else []
    return {
        "organization": {"slug": "as-code", **draw(optional(**said))},
        "groups": groups,
        "roles": [{"name": f"role {index}", **one} for index, one in enumerate(draw(st.lists(role, max_size=2)))],
        "applications": [{"slug": f"app-{index}", **one} for index, one in enumerate(draw(st.lists(application, max_size=2)))],
        "policies": [{"name": f"policy {index}", **one} for index, one in enumerate(policies)],
        "bindings": [{"policy": f"policy {index}", "group": place, "reach": reach} for index, place, reach in bindings],
    }


# Neither shrunk nor explained: both would run it hundreds of times.
@settings(max_examples=some(4), phases=[Phase.generate])
@given(organizations())
def test_a_file_is_exported_as_it_was_applied_and_says_nothing_new_again(declared: dict[str, Any]) -> None:
    with transaction.atomic():
        owner = make_user("owner@as-code.example")
        create_organization("As code", owner=owner, slug="as-code")
        text = yaml.safe_dump(declared, allow_unicode=True).replace("{owner}", owner.email)
        apply(text)
        assert not apply(text).changed
        exported = export("as-code")
        said, found = (things_in(files.read(one).declared) for one in (text, exported))
        assert {key: {field: found[key][field] for field in fields} for key, fields in said.items()} == said
        assert not apply(exported, dry_run=True).changed

        fresh = create_organization("Fresh", owner=owner)
        apply(exported, slug=fresh.slug)
        assert export(fresh.slug) == exported.replace("slug: as-code", f"slug: {fresh.slug}", 1)
        transaction.set_rollback(True)


def things_in(file: Declaration) -> dict[str, dict[str, Any]]:
    """What is said of each."""
    found = {"organization": kinds.given(file.organization)}
    for section in ("groups", "roles", "applications", "policies", "bindings"):
        for thing in getattr(file, section):
            found |= things_below(thing, section)
    return found


def things_below(thing: Any, above: str) -> dict[str, dict[str, Any]]:
    key = f"{above} / {thing}" if isinstance(thing, BindingDeclaration) else f"{above} / {thing.name}"
    found = {key: kinds.given(thing)}
    for child in getattr(thing, "children", []):
        found |= things_below(child, key)
    return found
