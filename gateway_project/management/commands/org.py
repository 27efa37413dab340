"""`manage.py org apply FILE.yaml` and `org export SLUG`: an organisation as a file. `apply` takes `--dry-run` and `--json`."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import msgspec
from django.core.management.base import CommandError

from gateway_project.lib.commands import ServedCommand
from gateway_project.management.files import text_of
from guardrails.as_code import applying
from guardrails.as_code.files import MOST_TOLD, BadFile
from orgs.models import Organization

# What `--dry-run` ends with where something would change.
WOULD_CHANGE = 3


class Command(ServedCommand):
    help = "Sets up an organisation as a YAML file says, and writes such a file; applying twice changes nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        apply = actions.add_parser("apply", help="apply a file, all of it or, if anything is wrong, nothing")
        apply.add_argument("file", type=Path, metavar="FILE.yaml")
        apply.add_argument("--to", default="", metavar="SLUG", help="another organisation than the one that the file names")
        apply.add_argument(
            "--dry-run", action="store_true", help=f"show what would change, change nothing; exit code {WOULD_CHANGE} if anything"
        )
        apply.add_argument("--json", action="store_true", help="print the report as JSON")
        export = actions.add_parser("export", help="print the file that says what is there")
        export.add_argument("slug", metavar="SLUG", help="the organisation, as in the address of its pages: /o/SLUG/")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "export":
            self.stdout.write(_export(options["slug"]), ending="")
            return
        report = self._apply(options)
        if options["json"]:
            self.stdout.write(msgspec.json.encode({**msgspec.to_builtins(report), "counts": report.counts()}).decode())
        else:
            self.stdout.write("\n".join(lines_of(report)))
        if report.dry_run and report.changed:
            raise SystemExit(WOULD_CHANGE)

    def _apply(self, options: dict[str, Any]) -> applying.Report:
        try:
            return applying.apply(text_of(options["file"]), slug=options["to"], dry_run=options["dry_run"])
        except BadFile as bad:
            told = [bad, *bad.others][:MOST_TOLD]
            if options["json"]:
                problems = [{"path": one.path, "reason": one.reason} for one in told]
                self.stdout.write(msgspec.json.encode({"problems": problems}).decode())
            more = ["There is more."] if len(bad.others) >= MOST_TOLD else []
            lines = [*(f"{options['file']}: {one}" for one in told), *more, "Nothing was changed."]
            raise CommandError("\n".join(lines)) from None


def _export(slug: str) -> str:
    try:
        return applying.export(slug)
    except Organization.DoesNotExist:
        raise CommandError(f"There is no organisation “{slug}”.") from None
    except BadFile as bad:
        raise CommandError(f"{slug} cannot be exported: {bad}") from None


def lines_of(report: applying.Report) -> list[str]:
    lines = []
    for change in report.changes:
        if change.outcome != "unchanged":
            lines.append(f"{change.thing} {change.name}: {change.outcome}{change.note and f'; {change.note}'}")
            lines += [f"  {field}: {_words(old)} → {_words(new)}" for field, (old, new) in change.fields.items()]
    counts = ", ".join(f"{number} {outcome}" for outcome, number in report.counts().items())
    return [*lines, f"{'Would be' if report.dry_run else f'Organisation {report.organization}'}: {counts}."]


def _words(value: Any) -> str:
    if value is None or value in ("", []):
        return "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
