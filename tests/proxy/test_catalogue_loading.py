"""Declaring again, less or something else: the second time changes nothing, and what goes is told."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway_project.management.commands.catalogue import lines_of
from proxy import catalogue
from proxy.catalogue import Change, Report
from proxy.catalogue_file import BadCatalogue
from proxy.models import Deployment, Model, Provider
from tests.examples import some

PROVIDERS = ("red", "blue")
PRICES = st.none() | st.fixed_dictionaries({"input": st.integers(0, 99), "output": st.integers(0, 99)})
DEPLOYMENTS = st.lists(
    st.tuples(st.sampled_from(PROVIDERS), st.sampled_from(["u1", "u2"]), st.integers(1, 3)),
    min_size=1,
    max_size=3,
    unique_by=lambda entry: entry[:2],
)
MODELS = st.dictionaries(st.sampled_from(["m-1", "m-2", "m-3"]), st.tuples(PRICES, DEPLOYMENTS), min_size=1, max_size=3)


def declaration(models: dict[str, Any]) -> dict[str, Any]:
    return {
        "providers": [
            {"name": name, "kind": "openai-compatible", "base_url": f"https://{name}.example/v1"} for name in PROVIDERS
        ],
        "models": [
            {
                "name": name,
                **({"price": price} if price is not None else {}),
                "deployments": [{"provider": by, "model": model, "order": order} for by, model, order in entries],
            }
            for name, (price, entries) in models.items()
        ],
    }


def stored(names: list[str]) -> dict[str, set[tuple[str, str, int]]]:
    found: dict[str, set[tuple[str, str, int]]] = {name: set() for name in names}
    for row in Deployment.objects.filter(model__name__in=names).select_related("model", "provider"):
        found[row.model.name].add((row.provider.name, row.upstream_model, row.order))
    return found


@settings(max_examples=some(5), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=MODELS, second=MODELS)
def test_whatever_was_declared_before_the_last_declaration_holds_and_again_changes_nothing(
    db: None, first: dict[str, Any], second: dict[str, Any]
) -> None:
    catalogue.load(declaration(first))
    told = catalogue.load(declaration(second), dry_run=True).changes
    report = catalogue.load(declaration(second))
    assert report.changes == told  # a dry run tells exactly what then happens
    assert stored(list(second)) == {name: set(entries) for name, (_, entries) in second.items()}
    kept = [name for name in first if name not in second]
    assert stored(kept) == {name: set(first[name][1]) for name in kept}  # what is not named stays
    assert not catalogue.load(declaration(second)).changed


@pytest.mark.django_db
def test_a_deployment_left_out_is_removed_and_told() -> None:
    catalogue.load(declaration({"m-1": ({"input": 1, "output": 1}, [("red", "u1", 1), ("blue", "u1", 2)])}))
    report = catalogue.load(declaration({"m-1": ({"input": 1, "output": 1}, [("blue", "u1", 2)])}))
    assert [change for change in report.changes if change.outcome != "unchanged"] == [
        Change("deployment", "m-1 by red/u1", "removed")
    ]


@pytest.mark.django_db
@pytest.mark.usefixtures("empty_catalogue")
def test_a_declaration_that_fails_at_its_end_stores_nothing_of_its_beginning() -> None:
    wrong = declaration({"m-1": (None, [("red", "u1", 1)]), "m-2": (None, [("nobody", "u1", 1)])})
    with pytest.raises(BadCatalogue, match="'nobody' is declared neither here nor before"):
        catalogue.load(wrong)
    assert not Model.objects.filter(name="m-1").exists()
    assert not Provider.objects.filter(name="red").exists()


def test_a_report_is_told_in_lines_without_what_did_not_change() -> None:
    report = Report(
        [Change("provider", "p", "unchanged"), Change("model", "m", "created"), Change("price", "m", "changed")], ["m (x/y)"]
    )
    assert lines_of(report) == [
        "model m: created",
        "price m: changed",
        "no price for m (x/y): under a budget its calls are refused as model_unpriced",
        "Catalogue: 1 unchanged, 1 created, 1 changed.",
    ]
    assert lines_of(Report(dry_run=True)) == ["Would be: nothing declared."]


@pytest.mark.django_db
def test_the_command_in_a_dry_run_says_so_and_stores_nothing(tmp_path: Path) -> None:
    file = tmp_path / "catalogue.yaml"
    file.write_text("providers: [{name: red-dry, kind: ollama}]\n")
    out = io.StringIO()
    call_command("catalogue", "load", str(file), "--dry-run", stdout=out)
    assert out.getvalue().splitlines() == ["provider red-dry: created", "Would be: 1 created."]
    assert not Provider.objects.filter(name="red-dry").exists()


@pytest.mark.parametrize("arguments", [(), ("load",), ("unload", "x"), ("load", "/nonexistent/file.yaml")])
def test_a_command_that_cannot_be_run_fails(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        call_command("catalogue", *arguments)
