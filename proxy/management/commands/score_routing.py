import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from proxy.complexity.curve import WORTHWHILE, apgr, strong_share
from proxy.complexity.outcomes import BadOutcomes, Table, read_table, sets
from proxy.complexity.scoring import score


class Command(BaseCommand):
    help = "Scores the prompts of a CSV by how much they need the strong model: a JSON list of one number, 0 to 1, per row."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--csv", type=Path, required=True, help="columns task and prompt, gzipped or not")
        parser.add_argument("--out", type=Path, required=True, help="where the JSON list is written")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            table = read_table(options["csv"])
            scores = [score(question.prompt) for question in table.questions]
            options["out"].write_text(json.dumps(scores))
        except (BadOutcomes, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Scored {len(scores)} prompts.")
        if table.outcomes:
            self._judge(table, scores)

    def _judge(self, table: Table, scores: list[float]) -> None:
        for name, members in sets(table.questions).items():
            outcomes, own = [table.outcomes[at] for at in members], [scores[at] for at in members]
            if not sum(outcome.gain for outcome in outcomes):
                self.stdout.write(f"{name}: {len(members)} questions, no gap between the two models")
                continue
            saved = 1 - strong_share(outcomes, own)
            self.stdout.write(
                f"{name}: {len(members)} questions, APGR {apgr(outcomes, own):.4f}; "
                f"{saved:.1%} of the strong model's calls saved at {WORTHWHILE:.0%} of its accuracy"
            )
