"""The catalogue declared in an operator's name, in a browser: it stands in the trail of no organisation, with the addresses that
calls go to and without what may hold a key."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils.text import capfirst

from orgs.audit import Value, audit_as
from orgs.errors import Refused
from orgs.services.freezing import Operator
from proxy import catalogue
from proxy.catalogue import Report
from proxy.catalogue_file import Declaration, Problem, ProviderDeclaration
from proxy.models import Provider, ProviderKey
from proxy.providers import registry

MOST_TOLD = 20


def check(text: str) -> Report:
    """What a catalogue file's text would do. Raises BadCatalogue, with every problem."""
    return catalogue.load(text, dry_run=True, judge=_of_keys)


@transaction.atomic
def declare_by(operator: Operator, text: str) -> Report:
    """A catalogue file's text. Raises BadCatalogue, with every problem; then nothing is stored."""
    report = catalogue.load(text, judge=_of_keys)
    if report.changed:
        changed = [change.name for change in report.changes if change.thing == "provider" and change.outcome != "unchanged"]
        addresses = {f"address of {one.name}": address_of(one) for one in Provider.objects.filter(name__in=changed[:MOST_TOLD])}
        _record(operator, "catalogue.loaded", {**report.counts(), **addresses})
    return report


def _of_keys(declared: Declaration) -> list[Problem]:
    """Whoever declares in a browser may have no terminal here, and so brings the keys: none is taken out of this process'
    environment, and one that is kept, an organisation's own as well, goes to no other address.
    """
    there = {provider.name: provider for provider in Provider.objects.all()}
    found = []
    for one in declared.providers:
        known = there.get(one.name)
        is_named = bool(known and known.api_key_env)
        if one.api_key_env and not (known and known.api_key_env == one.api_key_env):
            found.append(
                Problem(one.line, "api_key_env is declared at a terminal, by `manage.py catalogue load`: give api_key here")
            )
        if known and (known.api_key_encrypted or is_named) and not one.api_key and _leads_elsewhere(known, one):
            found.append(Problem(one.line, f"{one.name} has a key, and goes to another place by this: give api_key anew"))
        if _takes_keys_along(one, known):
            found.append(
                Problem(
                    one.line,
                    "organisations have keys of their own that would go to another place by this: it is declared at a terminal,"
                    " by `manage.py catalogue load`",
                )
            )
    return found


def _takes_keys_along(declared: ProviderDeclaration, known: Provider | None) -> bool:
    """Whether keys of organisations that name no address would be sent to one where no provider of their kind is yet."""
    keys = ProviderKey.objects.filter(base_url="")
    if known is not None and known.kind != declared.kind and keys.filter(provider=known).exists():
        return True
    if not declared.kind or declared.base_url in {"", registry.provider(declared.kind).url}:
        return False
    if Provider.objects.filter(kind=declared.kind, base_url=declared.base_url).exists():
        return False
    bound = Q(provider=known, provider__isnull=False)
    return keys.filter(Q(kind=declared.kind, provider=None) | bound).exists()


def _leads_elsewhere(known: Provider, declared: ProviderDeclaration) -> bool:
    return (known.kind, known.base_url, known.options) != (declared.kind, declared.base_url, declared.options)


def address_of(provider: Provider) -> str:
    return provider.base_url or provider.kind


@transaction.atomic
def add_provider_by(operator: Operator, declared: dict[str, Any], *, offers: bool) -> Report:
    """A provider that is not there yet, as a catalogue file says it (`name`, `kind`, …); `offers`: with the models that are
    shipped for its kind. Raises Refused, BadCatalogue; then nothing is stored.
    """
    name = declared["name"]
    if Provider.objects.filter(name=name).exists():
        raise Refused("There is a provider of this name already: a catalogue file changes it.", field="name")
    report = catalogue.load({"providers": [declared]}, judge=_of_keys)
    if offers:
        try:
            more = catalogue.add(name)
        except catalogue.CannotAdd as error:
            raise Refused(f"{capfirst(str(error))}.", field="offers") from error
        report.changes += more.changes
        report.unpriced += more.unpriced
    provider = Provider.objects.get(name=name)
    facts: dict[str, Value] = {"provider": name, "kind": provider.kind, "address": address_of(provider)}
    _record(operator, "provider.declared", {**facts, "models": offered_in(report)})
    return report


def offered_in(report: Report) -> int:
    """How many models it has made, or given one more way to be served."""
    return sum(change.thing == "model" and change.outcome in {"created", "changed"} for change in report.changes)


def _record(operator: Operator, action: str, after: dict[str, Value]) -> None:
    audit_as(operator.user, action, organization=None, origin=operator.origin, target=operator.user, after=after)
