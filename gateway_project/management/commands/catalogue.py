"""`manage.py catalogue load FILE.yaml` and `catalogue add --provider NAME`: the operator's way to configure by file.

Both take `--dry-run` and `--json`.
"""

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import msgspec
from django.core.management.base import CommandError

from gateway_project.lib.commands import ServedCommand
from gateway_project.management.files import text_of
from proxy import catalogue
from proxy.catalogue_file import BadCatalogue
from proxy.models import Provider


class Command(ServedCommand):
    help = "Declares providers, models, deployments and prices from a YAML file; declaring twice changes nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        load = actions.add_parser("load", help="load a file, all of it or, if anything is wrong, nothing")
        load.add_argument("file", type=Path, metavar="FILE.yaml")
        add = actions.add_parser("add", help="declare models shipped with this version, served by an account declared before")
        add.add_argument("--provider", required=True, metavar="NAME", help="the account's name in the catalogue")
        which = add.add_mutually_exclusive_group(required=True)
        which.add_argument("--models", metavar="NAME,…", help="these")
        which.add_argument("--all", action="store_true", help="all that are shipped for its kind and not gone yet")
        for parser in (load, add):
            parser.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
            parser.add_argument("--json", action="store_true", help="print the report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        report = self._load(options) if options["action"] == "load" else _add(options)
        if options["json"]:
            self.stdout.write(msgspec.json.encode({**msgspec.to_builtins(report), "counts": report.counts()}).decode())
            return
        for line in [*lines_of(report), *missing_keys(report)]:
            self.stdout.write(line)

    def _load(self, options: dict[str, Any]) -> catalogue.Report:
        try:
            return catalogue.load(text_of(options["file"]), dry_run=options["dry_run"])
        except BadCatalogue as error:
            if options["json"]:
                problems = [problem._asdict() for problem in error.problems]
                self.stdout.write(msgspec.json.encode({"problems": problems}).decode())
            lines = [f"{options['file']}:{problem.line}: {problem.reason}" for problem in error.problems]
            raise CommandError("\n".join([*lines, "Nothing was loaded."])) from None


def _add(options: dict[str, Any]) -> catalogue.Report:
    names = None if options["all"] else [name.strip() for name in options["models"].split(",") if name.strip()]
    try:
        return catalogue.add(options["provider"], names=names, dry_run=options["dry_run"])
    except catalogue.CannotAdd as error:
        raise CommandError(f"{error}. Nothing was added.") from None


def missing_keys(report: catalogue.Report) -> list[str]:
    """The web processes read credentials from their own environment; often it is this one's."""
    declared = {change.name for change in report.changes if change.thing == "provider"}
    named = Provider.objects.filter(name__in=declared).exclude(api_key_env="").values_list("name", "api_key_env")
    return [
        f"provider {name}: {variable} is not set here; the web processes need it"
        for name, variable in named
        if variable not in os.environ
    ]


def lines_of(report: catalogue.Report) -> list[str]:
    lines = [f"{change.thing} {change.name}: {change.outcome}" for change in report.changes if change.outcome != "unchanged"]
    lines += [f"no price for {name}: under a budget its calls are refused as model_unpriced" for name in report.unpriced]
    counts = ", ".join(f"{number} {outcome}" for outcome, number in report.counts().items()) or "nothing declared"
    return [*lines, f"{'Would be' if report.dry_run else 'Catalogue'}: {counts}."]
