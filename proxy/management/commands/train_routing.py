import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from proxy.complexity.features import extract
from proxy.complexity.outcomes import BadOutcomes, read_table
from proxy.complexity.reading import read
from proxy.complexity.scoring import MODEL_FILE, dumps
from proxy.complexity.training.figures import figures
from proxy.complexity.training.fitting import fit


class Command(BaseCommand):
    help = "Fits the complexity model behind `auto` to outcomes, and measures it on subjects left out. Takes minutes."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--csv", type=Path, required=True, help="outcomes: task, prompt, weak_correct, strong_correct")
        parser.add_argument("--out", type=Path, default=MODEL_FILE.parent, help="folder of model.json and figures.json")
        parser.add_argument("--no-figures", action="store_true", help="fit only")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            table = read_table(options["csv"])
        except (BadOutcomes, OSError) as error:
            raise CommandError(str(error)) from error
        if not table.outcomes:
            raise CommandError(f"{options['csv']}: tells no outcomes to learn from")
        features = [extract(read(question.prompt)) for question in table.questions]
        (options["out"] / "model.json").write_text(dumps(fit(features, table.outcomes)))
        self.stdout.write(f"Fitted to {len(features)} questions.")
        if not options["no_figures"]:
            found = figures(table, features)
            (options["out"] / "figures.json").write_text(json.dumps(found, indent=1) + "\n")
            self.stdout.write(json.dumps({name: found[name] for name in ("subject_left_out", "saving")}, indent=1))
