"""Applying a file to an organisation, and exporting one. See kinds.py for what keeps the two together.

A file is applied whole or not at all, in one transaction that holds the organisation's row, through the services that the console
uses: every rule of theirs counts, every change is audited, and calls follow by their next one. Applied twice it changes nothing.
What it leaves out stays; nothing is ever deleted or archived.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec
from django.db import transaction
from django.db.models import QuerySet

from guardrails.as_code import files
from guardrails.as_code.declarations import Declaration
from guardrails.as_code.files import BadFile
from guardrails.as_code.kinds import Kind, flat
from guardrails.as_code.policies import BindingKind, PolicyKind
from guardrails.as_code.tree import ApplicationKind, GroupKind, OrganizationKind, RoleKind
from orgs import epoch
from orgs.actor import Actor
from orgs.models import Organization

Outcome = Literal["created", "changed", "unchanged", "not in the file"]


class Change(msgspec.Struct, frozen=True):
    """`fields`: what of it changed, [old, new] by name. `note`: what else that does."""

    thing: str
    name: str
    outcome: Outcome
    fields: dict[str, tuple[Any, Any]] = {}
    note: str = ""


class Report(msgspec.Struct, frozen=True):
    """`changes` has every thing of the sections that the file has."""

    organization: str
    dry_run: bool
    changes: list[Change]

    def counts(self) -> dict[str, int]:
        outcomes = [change.outcome for change in self.changes]
        return {outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)}

    @property
    def changed(self) -> bool:
        return any(change.outcome in ("created", "changed") for change in self.changes)


class Things:
    """All that a file may speak of, in the order in which it is made."""

    def __init__(self, by: Actor) -> None:
        self.organization = OrganizationKind(by)
        self.groups = GroupKind(by)
        self.roles = RoleKind(by, self.groups)
        self.applications = ApplicationKind(by, self.groups)
        self.policies = PolicyKind(by)
        self.bindings = BindingKind(by, self.groups, self.applications, self.policies)

    def kinds(self) -> Iterator[Kind[Any, Any]]:
        yield from (self.organization, self.groups, self.roles, self.applications, self.policies, self.bindings)

    def declared(self) -> Declaration:
        kinds: tuple[Kind[Any, Any], ...] = (self.roles, self.applications, self.policies, self.bindings)
        listed: dict[str, Any] = {kind.section: [kind.read(row) for row in kind.rows.values()] for kind in kinds}
        [organization] = map(self.organization.read, self.organization.rows.values())
        return Declaration(organization=organization, groups=self.groups.nested(), **listed)


def export(slug: str) -> str:
    """The YAML of all that a file may say of it. Raises Organization.DoesNotExist; BadFile where no file could say it."""
    with transaction.atomic():
        organization = _held(slug).get()
        return files.write(Things(Actor.of_command("manage.py org export", organization=organization)).declared())


def apply(text: str, *, slug: str = "", dry_run: bool = False) -> Report:
    """To the organisation that the file names, or to another one. Raises BadFile; then nothing was changed."""
    reading = files.read(text)
    file, faults = reading.declared, reading.faults
    with epoch.rehearsal() if dry_run or faults else transaction.atomic():
        try:
            by = _acting_in(slug or file.organization.slug)
            things = Things(by)
        except BadFile as bad:
            raise BadFile.of([*faults, bad]) from None
        before = {kind.section: _facts(kind) for kind in things.kinds()}
        named = {}
        for kind in things.kinds():
            kind.is_partial = kind.section in reading.lost
            if getattr(file, kind.section) is not msgspec.UNSET:
                named[kind.section] = kind.write(file)
        if problems := [*faults, *_beside(faults, [problem for kind in things.kinds() for problem in kind.problems])]:
            raise BadFile.of(problems)
        notes = {kind.section: kind.notes for kind in things.kinds()}
        changes = [
            change
            for kind in Things(by).kinds()
            if kind.section in named
            for change in _changes(kind, before[kind.section], named[kind.section], notes[kind.section])
        ]
    return Report(by.organization.slug, dry_run, changes)


def _beside(faults: list[BadFile], problems: list[BadFile]) -> list[BadFile]:
    """What is wrong beside the form: of a place whose form is wrong already nothing more is told."""
    told = {fault.path for fault in faults}
    return [problem for problem in problems if problem.path not in told]


def _held(slug: str) -> QuerySet[Organization]:
    """Others change it before or after, never meanwhile."""
    return Organization.objects.select_for_update(no_key=True).filter(slug=slug)


def _acting_in(slug: str) -> Actor:
    organization = _held(slug).first()
    if organization is None:
        raise BadFile("organization.slug", f"there is no organisation “{slug[:60]}”: create it in the console first")
    if organization.frozen_at:
        raise BadFile("organization", "it is frozen, and nothing in it can be changed")
    return Actor.of_command("manage.py org apply", organization=organization)


def _facts(kind: Kind[Any, Any]) -> dict[str, dict[str, Any]]:
    """By key, as the report compares them."""
    return {key: _plain(kind, row) for key, row in kind.rows.items()}


def _plain(kind: Kind[Any, Any], row: Any) -> dict[str, Any]:
    facts = msgspec.to_builtins(kind.read(row), builtin_types=(datetime, Decimal))
    return flat({field: value for field, value in facts.items() if field not in kind.form.NAMED_BY})


def _changes(kind: Kind[Any, Any], before: dict[str, dict[str, Any]], named: set[str], notes: dict[str, str]) -> Iterator[Change]:
    for key, row in kind.rows.items():
        title, now = kind.title(row), _plain(kind, row)
        was = before.get(key)
        if was is None:
            yield Change(kind.word, title, "created", note=notes.get(key, ""))
            continue
        fields = {field: (was.get(field), now.get(field)) for field in {**was, **now} if was.get(field) != now.get(field)}
        yield Change(kind.word, title, "changed" if fields else "unchanged" if key in named else "not in the file", fields)
