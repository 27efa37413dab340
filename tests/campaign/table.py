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


Cells = dict[tuple[str, str, str], str]


def read(table: str) -> Cells:
    """(client, protocol, kind) → what it says."""
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.strip().splitlines() if line[:3] != "| -"]
    kinds = rows[0][2:] if rows else []
    return {(row[0], row[1], kind): word for row in rows[1:] for kind, word in zip(kinds, row[2:], strict=True)}


def lines(cells: Cells, *, clients: Sequence[Client], kinds: Sequence[str]) -> list[str]:
    """A row for each client that ever ran, a column for each kind; what did not run is a dash."""
    rows = [["client", "protocol", *kinds], ["---"] * (2 + len(kinds))]
    for client in clients:
        words = [cells.get((client.name, client.protocol, kind), "–") for kind in kinds]
        if set(words) != {"–"}:
            rows.append([client.name, client.protocol, *words])
    return [f"| {' | '.join(row)} |" for row in rows]


def write(outcomes: Sequence[Outcome], *, clients: Sequence[Client], kinds: Sequence[str]) -> None:
    """Puts what ran into the table; what did not run this time stays as it was."""
    before, rest = README.read_text().split(f"{BEGIN}\n")
    table, after = rest.split(END)
    cells = read(table) | {(ran.client.name, ran.client.protocol, ran.kind): ran.word for ran in outcomes}
    written = "\n".join(lines(cells, clients=clients, kinds=kinds))
    README.write_text(f"{before}{BEGIN}\n{written}\n{END}{after}")
