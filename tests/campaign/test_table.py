"""The table that a campaign leaves in the proxy's README."""

from __future__ import annotations

import pytest

from tests.campaign.clients import CLIENTS, Client
from tests.campaign.table import BEGIN, END, README, Cells, Outcome, lines, read

KINDS = ["openai", "gemini"]
SDK, SUITE = CLIENTS[0], CLIENTS[-1]


def test_what_is_written_is_read_again() -> None:
    cells: Cells = {(SDK.name, SDK.protocol, "openai"): "ok", (SUITE.name, SUITE.protocol, "gemini"): "40 of 42"}

    table = "\n".join(lines(cells, clients=CLIENTS, kinds=KINDS))

    assert len(table.splitlines()) == 4  # clients that never ran have no row
    assert {place: word for place, word in read(table).items() if word != "–"} == cells


def test_an_empty_table_says_nothing() -> None:
    assert read("") == {}


@pytest.mark.parametrize(
    ("client", "done", "said", "word"),
    [
        (SDK, True, "", "ok"),
        (SDK, False, "Traceback", "failed"),
        (SUITE, True, "…\n42 passed, 8 skipped in 4.62s\n", "42 of 42"),
        (SUITE, False, "…\n2 failed, 40 passed in 4.62s\n", "40 of 42"),
        (SUITE, False, "no pytest", "failed"),
    ],
)
def test_an_outcome_is_one_word(client: Client, done: bool, said: str, word: str) -> None:
    assert Outcome(client, "openai", done, said).word == word


def test_the_readme_tells_of_every_client() -> None:
    table = README.read_text().split(BEGIN)[1].split(END)[0]
    assert {(name, protocol) for name, protocol, _ in read(table)} == {(client.name, client.protocol) for client in CLIENTS}
