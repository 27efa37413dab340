"""The cost of translation is measured on requests that say the same in three protocols, and of translations that are whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway_project.bench import translation
from gateway_project.bench.translation import REQUESTS, TARGETS, TITLES
from proxy.canonical.conversation import Conversation, Text, ToolResult, ToolUse
from proxy.protocols import registry

PAIRS = [(source, target) for source in TITLES for target in TARGETS if source != target]


def conversation_of(source: str) -> Conversation:
    body = json.dumps(REQUESTS[source]()).encode()
    return registry.CHAT_CALLERS[source].conversation(registry.CALLERS[source].parse(body, {}))


@pytest.mark.parametrize("source", TITLES)
def test_a_request_is_of_twenty_kilobytes_with_lines_and_tools_that_were_used(source: str) -> None:
    assert 19_000 < len(json.dumps(REQUESTS[source]())) < 22_000
    said = conversation_of(source)
    parts = [part for message in said.messages for part in message.parts]
    assert [len([part for part in parts if isinstance(part, kind)]) for kind in (ToolUse, ToolResult)] == [8, 8]
    assert sum(part.text.count("\n") for part in parts if isinstance(part, Text)) > 50
    assert len(said.tools) == 8


def test_the_three_protocols_say_the_same() -> None:
    first, *others = [conversation_of(source) for source in TITLES]
    for other in others:
        assert other.messages == first.messages
        assert [(tool.name, tool.description, tool.parameters) for tool in other.tools] == [
            (tool.name, tool.description, tool.parameters) for tool in first.tools
        ]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_what_is_measured_is_the_whole_request_for_the_provider(source: str, target: str) -> None:
    work = translation.translation(source, target)
    written: Any = json.loads(work())
    assert work() == work()
    told = json.dumps(written)
    assert all(f'"tool_{number}"' in told for number in range(8))
    assert told.count(translation._turns()[0].asked.splitlines()[0]) >= 1
    assert len(told) > 17_000


def test_every_pair_is_measured_and_the_dearest_of_a_protocol_is_its_row() -> None:
    found = translation.measured(tries=1)
    assert [(source, target) for source, costs in found.items() for target in costs] == PAIRS
    assert all(0.1 < cost < 1_000_000 for costs in found.values() for cost in costs.values())
    rows = translation.figures(runs=2, tries=1)
    assert [(row.unit, row.goal, len(row.values)) for row in rows] == [("µs", "≤ 150", 2)] * 3
    assert [row.name.partition(": ")[2] for row in rows] == list(TITLES.values())
