"""The table of a campaign in the proxy's README, between two markers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.campaign.clients import Client

README = Path(__file__).resolve().parents[2] / "proxy" / "README.md"
BEGIN, END = "<!-- make test-all writes this table -->", "<!-- end of the table -->"
COUNT = re.compile(r"\b(\d+) (passed|failed|error)")


@dataclass(frozen=True)
class Outcome:
    client: Client
    kind: str
    done: bool
    said: str

    @property
    def word(self) -> str:
        """`ok`, `failed`, or of a suite of tests how many passed."""
        counts = {what: int(number) for number, what in COUNT.findall(self.said.strip().rsplit("\n", 1)[-1])}
        if self.client.suite and counts:
            return f"{counts.get('passed', 0)} of {sum(counts.values())}"
        return "ok" if self.done else "failed"


def lines(outcomes: Sequence[Outcome], *, clients: Sequence[Client], kinds: Sequence[str]) -> list[str]:
    """A row for each client that ran, a column for each kind; what did not run is a dash."""
    words = {(outcome.client, outcome.kind): outcome.word for outcome in outcomes}
    rows = [["client", "protocol", *kinds], ["---"] * (2 + len(kinds))]
    for client in clients:
        found = [words.get((client, kind), "–") for kind in kinds]
        if set(found) != {"–"}:
            rows.append([client.name, client.protocol, *found])
    return [f"| {' | '.join(row)} |" for row in rows]


def write(outcomes: Sequence[Outcome], *, clients: Sequence[Client], kinds: Sequence[str]) -> None:
    """Prints the table; where every client ran, the README's is replaced by it."""
    table = "\n".join(lines(outcomes, clients=clients, kinds=kinds))
    print(f"\n{table}")  # noqa: T201 - what a run is for
    if {outcome.client for outcome in outcomes} == set(clients):
        before, rest = README.read_text().split(BEGIN)
        after = rest.split(END)[1]
        README.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")
