"""The models shipped with this version: names, windows, capabilities, dates, and prices that no price list has.

They are a catalogue file (data/models.yaml) whose deployments name a kind of provider instead of an account. Nothing of it
is offered until an operator declares it for an account: `manage.py catalogue add`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import msgspec

from proxy import catalogue_file
from proxy.catalogue_file import BadCatalogue, ModelDeclaration
from proxy.providers import registry

FILE = Path(__file__).parent / "data" / "models.yaml"


@cache
def models() -> tuple[ModelDeclaration, ...]:
    """As the file has them. Read once per process; 0.1 s."""
    declared, problems = catalogue_file.read(FILE.read_text(encoding="utf-8"))
    if problems:
        raise BadCatalogue(problems)
    return tuple(declared.models)


def of_account(name: str, *, kind: str, options: dict[str, object] | None = None) -> list[ModelDeclaration]:
    """What an account of this kind can serve, declared to be served by it and nobody else.

    A model that its provider has, and this version does not know how to ask for, is none of them.
    """
    if kind not in kinds():
        return []
    provider = registry.provider(kind)
    provider = provider.configured(options) if options else provider
    return [
        msgspec.structs.replace(model, deployments=served)
        for model in models()
        if provider.makes(model.kind) and (served := _served(model, name, kind=kind))
    ]


def named(upstream_model: str, *, kind: str) -> ModelDeclaration | None:
    """The model that a kind of provider knows by this name."""
    return _by_upstream().get((kind, upstream_model))


def kinds() -> set[str]:
    return {kind for kind, _ in _by_upstream()}


def _served(model: ModelDeclaration, account: str, *, kind: str) -> list[catalogue_file.DeploymentDeclaration]:
    return [msgspec.structs.replace(entry, provider=account) for entry in model.deployments if entry.provider == kind]


@cache
def _by_upstream() -> dict[tuple[str, str], ModelDeclaration]:
    return {(entry.provider, entry.model): model for model in models() for entry in model.deployments}


def chosen(offered: Iterable[ModelDeclaration], names: Iterable[str]) -> tuple[list[ModelDeclaration], list[str]]:
    """Those of the names, and the names that none has."""
    by_name = {model.name: model for model in offered}
    wanted = list(dict.fromkeys(names))
    return [by_name[name] for name in wanted if name in by_name], [name for name in wanted if name not in by_name]
