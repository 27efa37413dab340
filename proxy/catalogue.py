"""Declaring the catalogue: providers, models, deployments and prices, all of a declaration or nothing of it.

Declaring twice changes nothing. What a declaration does not name stays as it is, except that a model it
names has exactly the deployments and the price it says: other deployments go, and a price left out falls
back to the list. A change of price appends a version; the past keeps its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Literal

import msgspec
import yaml
from django.db import connection, transaction
from django.utils import timezone

from billing import prices
from billing.models import PriceVersion
from gateway_project.lib import crypto
from orgs import epoch
from orgs.models import Organization
from proxy import catalogue_file, shipped
from proxy.catalogue_file import BadCatalogue, Declaration, ModelDeclaration, Problem, ProviderDeclaration
from proxy.health import refused
from proxy.models import Deployment, Model, Provider
from proxy.providers import registry
from proxy.sandbox import catalogue as sandbox

Judge = Callable[[Declaration], list[Problem]]
Outcome = Literal["created", "changed", "removed", "withdrawn", "unchanged"]

SOURCE = "catalogue"
# What a shipped model may add to one that an operator declared.
_FACTS = ("context_window", "max_output_tokens", "capabilities", "deprecated_on", "retires_on", "replaced_by")
# Of a model: what a declaration says of it is stored under the same name.
_FIELDS = (
    "kind",
    "context_window",
    "max_output_tokens",
    "capabilities",
    "deprecated_on",
    "retires_on",
    "replaced_by",
    "timeout",
    "circuit_breaker",
    "strategy",
    "fallbacks",
)
_FIELDS_OF_A_DEPLOYMENT = ("order", "weight", "rpm", "tpm", "zdr")
# Declarations run one after the other: this number is theirs among PostgreSQL's advisory locks.
_LOCK = 0x6361746C


class CannotAdd(ValueError):
    """The models asked for cannot be declared for that account; the text says why."""


class Change(msgspec.Struct, frozen=True):
    """`thing` is provider, model, deployment or price."""

    thing: str
    name: str
    outcome: str


class Report(msgspec.Struct):
    """What a declaration did, thing by thing; `unpriced` are deployments whose calls have no price."""

    changes: list[Change] = []
    unpriced: list[str] = []
    dry_run: bool = False

    def note(self, thing: str, name: str, outcome: str) -> None:
        self.changes.append(Change(thing, name, outcome))

    def counts(self) -> dict[str, int]:
        outcomes = [change.outcome for change in self.changes]
        return {outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)}

    @property
    def changed(self) -> bool:
        return any(change.outcome != "unchanged" for change in self.changes)


def load(declaration: str | Mapping[str, Any], *, dry_run: bool = False, judge: Judge = lambda _: []) -> Report:
    """Loads YAML text, or the same thing as a mapping. `judge` finds what more is wrong with it where it comes from.

    Raises BadCatalogue, with every problem; then nothing is stored.
    """
    text = declaration if isinstance(declaration, str) else yaml.safe_dump(dict(declaration), sort_keys=False)
    declared, problems = catalogue_file.read(text)
    with transaction.atomic():
        _wait_for_others()
        problems += [*_clashes(declared), *judge(declared)]
        if problems:
            raise BadCatalogue(problems)
        report = Report(dry_run=dry_run)
        _store(declared, report)
        _finish(report)
    return report


def add(account: str, *, names: Collection[str] | None = None, dry_run: bool = False) -> Report:
    """Declares shipped models for an account: those named, or all its kind has that are not gone yet.

    A model that is there already is left as the operator made it: what nobody has said of it is filled in, and the account
    becomes one more way to serve it, after the others. Raises CannotAdd; then nothing is stored.
    """
    with transaction.atomic():
        _wait_for_others()
        provider = Provider.objects.filter(name=account).first()
        if provider is None:
            raise CannotAdd(f"there is no provider {account!r}; declare it in a catalogue file first")
        report = Report(dry_run=dry_run)
        declared = _shipped_for(provider, names)
        existing = {row.name.lower(): row for row in Model.objects.all()}
        for model in declared:
            if model.name.lower() in existing:
                _complete(existing[model.name.lower()], model, provider, report)
        _store(Declaration(models=[model for model in declared if model.name.lower() not in existing]), report)
        _finish(report)
    return report


def _shipped_for(provider: Provider, names: Collection[str] | None) -> list[ModelDeclaration]:
    offered = shipped.of_account(provider.name, kind=provider.kind, options=provider.options)
    if not offered:
        kinds = ", ".join(sorted(shipped.kinds()))
        raise CannotAdd(f"no models are shipped for providers of kind {provider.kind}; there are some for {kinds}")
    if names is None:
        today = timezone.localdate()
        return [model for model in offered if model.retires_on is None or model.retires_on > today]
    found, missing = shipped.chosen(offered, names)
    if missing:
        known = ", ".join(model.name for model in offered)
        raise CannotAdd(f"not among the models shipped for {provider.kind}: {', '.join(missing)}; there are {known}")
    return found


def _complete(row: Model, declared: ModelDeclaration, provider: Provider, report: Report) -> None:
    unsaid = {name: getattr(declared, name) for name in _FACTS if not getattr(row, name)}
    report.note("model", row.name, _save(row, unsaid))
    last = max((entry.order for entry in row.deployments.all()), default=0)
    for entry in declared.deployments:
        known = row.deployments.filter(provider=provider, upstream_model=entry.model).first()
        if known is None:
            Deployment.objects.create(model=row, provider=provider, upstream_model=entry.model, order=last + 1)
        name = f"{row.name} by {provider.name}/{entry.model}"
        report.note("deployment", name, "unchanged" if known else "created")
    own = PriceVersion.objects.filter(sku=f"model:{row.name}").order_by("valid_from").last()
    if own is None or not own.rates:
        skus = {f"{provider.kind}/{entry.model}" for entry in declared.deployments}
        report.unpriced += [f"{row.name} ({sku})" for sku in prices.adopt(skus, dry_run=report.dry_run)]


def sandbox_declaration() -> dict[str, Any]:
    """The sandbox provider and its models, to be declared like any other. It runs here, and retains nothing."""
    return {
        "providers": [{"name": "sandbox", "kind": "sandbox"}],
        "models": [
            {
                "name": model.name,
                "kind": model.kind,
                **(
                    {"context_window": model.context_window, "max_output_tokens": model.max_output_tokens}
                    if model.kind == "chat"
                    else {}
                ),
                "price": model.price,
                "deployments": [{"provider": "sandbox", "model": model.name, "zdr": True}],
            }
            for model in sandbox.catalogue()
        ],
    }


def _wait_for_others() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def _finish(report: Report) -> None:
    """Within the transaction: what was stored is undone, or announced."""
    if report.dry_run:
        transaction.set_rollback(True)
    elif report.changed:
        epoch.catalogue_changing(list(Organization.objects.values_list("id", flat=True)))


def _clashes(declared: Declaration) -> list[Problem]:
    """What only the database can tell: providers that are nowhere, names that differ in case only."""
    providers = {provider.name for provider in declared.providers} | set(Provider.objects.values_list("name", flat=True))
    names = {name.lower(): name for name in Model.objects.values_list("name", flat=True)}
    missing = [
        Problem(deployment.line, f"provider {deployment.provider!r} is declared neither here nor before")
        for model in declared.models
        for deployment in model.deployments
        if deployment.provider not in providers
    ]
    return (
        missing
        + _not_made(declared)
        + _without_fallback(declared)
        + [
            Problem(model.line, f"model {model.name!r} exists as {names[model.name.lower()]!r}")
            for model in declared.models
            if names.get(model.name.lower(), model.name) != model.name
        ]
    )


def _not_made(declared: Declaration) -> list[Problem]:
    """Models of a kind that this version does not ask their provider for: every call of them would be refused."""
    clients = {row.name: _client(row.kind, row.options) for row in Provider.objects.all()}
    clients |= {provider.name: _client(provider.kind, provider.options) for provider in declared.providers}
    return [
        Problem(entry.line, f"model {model.name!r} is one for {model.kind}, which provider {entry.provider!r} is not asked for")
        for model in declared.models
        for entry in model.deployments
        if (client := clients.get(entry.provider)) is not None and not client.makes(model.kind)
    ]


def _client(kind: str, options: dict[str, Any]) -> registry.Provider | None:
    try:
        return registry.provider(kind).configured(options)
    except (registry.UnknownKind, registry.BadOptions):
        return None


def _without_fallback(declared: Declaration) -> list[Problem]:
    """Models may fall back to each other, so all names and kinds must be known first."""
    kinds = dict(Model.objects.values_list("name", "kind")) | {model.name: model.kind for model in declared.models}
    return [
        Problem(
            model.line,
            f"model {model.name!r} cannot fall back to {name!r}, "
            + (f"a model of kind {kinds[name]}" if name in kinds else "which is declared neither here nor before"),
        )
        for model in declared.models
        for name in model.fallbacks
        if kinds.get(name) != model.kind
    ]


def _store(declared: Declaration, report: Report) -> None:
    for provider in declared.providers:
        report.note("provider", provider.name, _store_provider(provider))
    kinds = dict(Provider.objects.values_list("name", "kind"))
    listed: dict[str, list[str]] = {}
    for model in declared.models:
        _store_model(model, report)
        if model.price is None:
            for entry in model.deployments:
                listed.setdefault(f"{kinds[entry.provider]}/{entry.model}", []).append(model.name)
    unpriced = prices.adopt(listed, dry_run=report.dry_run)
    report.unpriced = [f"{name} ({sku})" for sku in unpriced for name in listed[sku]]


def _store_provider(declared: ProviderDeclaration) -> Outcome:
    values: dict[str, Any] = {"kind": declared.kind, "base_url": declared.base_url, "options": declared.options}
    row = Provider.objects.filter(name=declared.name).first() or Provider(name=declared.name)
    if declared.api_key_env:
        values |= {"api_key_env": declared.api_key_env, "api_key_encrypted": ""}
    elif declared.api_key and not _holds(row, declared.api_key):
        values |= {"api_key_env": "", "api_key_encrypted": crypto.encrypt(declared.api_key, bound_to=bound_to(row))}
    if any(getattr(row, name) != values[name] for name in ("api_key_env", "api_key_encrypted") if name in values):
        transaction.on_commit(partial(_forget_refusals, row))
    return _save(row, values)


def _forget_refusals(provider: Provider) -> None:
    """What was found out of another key says nothing of this one."""
    refused.forget_provider(provider.pk, set(provider.deployments.values_list("pk", flat=True)))


def _holds(row: Provider, api_key: str) -> bool:
    if row.api_key_env or not row.api_key_encrypted:
        return False
    try:
        return crypto.decrypt(row.api_key_encrypted, bound_to=bound_to(row)) == api_key
    except crypto.CannotDecrypt:
        return False


def bound_to(row: Provider) -> str:
    return f"proxy_provider|{row.name}|api_key"


def _store_model(declared: ModelDeclaration, report: Report) -> None:
    row = Model.objects.filter(name=declared.name).first() or Model(name=declared.name)
    report.note("model", declared.name, _save(row, {name: getattr(declared, name) for name in _FIELDS}))
    _store_deployments(row, declared, report)
    sku = f"model:{declared.name}"
    outcome = prices.declare(sku, rates=declared.price, source=SOURCE)
    if declared.price is not None or outcome != "unchanged":
        report.note("price", declared.name, outcome)


def _store_deployments(model: Model, declared: ModelDeclaration, report: Report) -> None:
    providers = {provider.name: provider for provider in Provider.objects.all()}
    others = {(row.provider.name, row.upstream_model): row for row in model.deployments.select_related("provider")}
    for entry in declared.deployments:
        row = others.pop((entry.provider, entry.model), None) or Deployment(
            model=model, provider=providers[entry.provider], upstream_model=entry.model
        )
        outcome = _save(row, {name: getattr(entry, name) for name in _FIELDS_OF_A_DEPLOYMENT})
        report.note("deployment", f"{model.name} by {entry.provider}/{entry.model}", outcome)
    for (provider, upstream_model), row in others.items():
        row.delete()
        report.note("deployment", f"{model.name} by {provider}/{upstream_model}", "removed")


def _save(row: Provider | Model | Deployment, values: Mapping[str, Any]) -> Outcome:
    fresh = row.pk is None
    if not fresh and all(getattr(row, name) == value for name, value in values.items()):
        return "unchanged"
    for name, value in values.items():
        setattr(row, name, value)
    row.save()
    return "created" if fresh else "changed"
