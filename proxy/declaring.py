"""The catalogue declared in an operator's name: it stands in the trail of no organisation, without what may hold a key."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils.text import capfirst

from orgs.audit import Value, audit_as
from orgs.errors import Refused
from orgs.services.freezing import Operator
from proxy import catalogue
from proxy.catalogue import Report
from proxy.models import Provider


@transaction.atomic
def declare_by(operator: Operator, text: str) -> Report:
    """A catalogue file's text. Raises BadCatalogue, with every problem; then nothing is stored."""
    report = catalogue.load(text)
    if report.changed:
        _record(operator, "catalogue.loaded", dict(report.counts()))
    return report


@transaction.atomic
def add_provider_by(operator: Operator, declared: dict[str, Any], *, offers: bool) -> Report:
    """A provider that is not there yet, as a catalogue file says it (`name`, `kind`, …); `offers`: with the models that are
    shipped for its kind. Raises Refused, BadCatalogue; then nothing is stored.
    """
    name = declared["name"]
    if Provider.objects.filter(name=name).exists():
        raise Refused("There is a provider of this name already: a catalogue file changes it.", field="name")
    report = catalogue.load({"providers": [declared]})
    if offers:
        try:
            more = catalogue.add(name)
        except catalogue.CannotAdd as error:
            raise Refused(f"{capfirst(str(error))}.", field="offers") from error
        report.changes += more.changes
        report.unpriced += more.unpriced
    _record(operator, "provider.declared", {"provider": name, "kind": declared["kind"], "models": offered_in(report)})
    return report


def offered_in(report: Report) -> int:
    """How many models it has made, or given one more way to be served."""
    return sum(change.thing == "model" and change.outcome in {"created", "changed"} for change in report.changes)


def _record(operator: Operator, action: str, after: dict[str, Value]) -> None:
    audit_as(operator.user, action, organization=None, origin=operator.origin, target=operator.user, after=after)
