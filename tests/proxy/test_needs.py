"""What a request needs of a model, told alike whichever protocol its caller speaks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest

from proxy import capabilities
from proxy.canonical.request import Request
from proxy.protocols import registry

Members = dict[str, Any]

DATA = "QUJD"
# The same need in the words of each protocol: a part of what the user says, or members of the request.
PARTS: dict[str, dict[str, Members]] = {
    "chat_completions": {
        "vision": {"type": "image_url", "image_url": {"url": "https://x/a.png"}},
        "files": {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{DATA}"}},
        "audio_input": {"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}},
        "video_input": {"type": "video_url", "video_url": {"url": "https://x/a.mp4"}},
    },
    "messages": {
        "vision": {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}},
        "files": {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": DATA}},
    },
    "responses": {
        "vision": {"type": "input_image", "image_url": "https://x/a.png"},
        "files": {"type": "input_file", "file_id": "file_1"},
        "audio_input": {"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}},
    },
}
SCHEMA = {"type": "json_schema", "name": "x", "schema": {}, "json_schema": {"name": "x", "schema": {}}}
MEMBERS: dict[str, dict[str, Members]] = {
    "chat_completions": {
        "tools": {"tools": [{"type": "function", "function": {"name": "f"}}]},
        "web_search": {"web_search_options": {}},
        "structured_output": {"response_format": SCHEMA},
        "reasoning": {"reasoning_effort": "low"},
        "audio_output": {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
        "image_output": {"modalities": ["image", "text"]},
    },
    "messages": {
        "tools": {"tools": [{"name": "f", "input_schema": {}}]},
        "structured_output": {"output_config": {"format": SCHEMA}},
        "reasoning": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    },
    "responses": {
        "tools": {"tools": [{"type": "function", "name": "f"}]},
        "web_search": {"tools": [{"type": "web_search"}]},
        "computer_use": {"tools": [{"type": "computer"}]},
        "structured_output": {"text": {"format": SCHEMA}},
        "reasoning": {"reasoning": {"effort": "high"}},
    },
}


def asked(protocol: str, *parts: Members, **members: Any) -> Request:
    texts = {"chat_completions": "text", "messages": "text", "responses": "input_text"}
    said = [{"role": "user", "content": [{"type": texts[protocol], "text": "Look."}, *parts]}]
    named = {"input": said} if protocol == "responses" else {"messages": said, "max_tokens": 99}
    return registry.CALLERS[protocol].parse(json.dumps({"model": "m", **named, **members}).encode(), {})


def ways(protocol: str) -> Iterator[tuple[str, list[Members], Members]]:
    """A need, and the parts and members that have it."""
    yield from ((need, [part], {}) for need, part in PARTS[protocol].items())
    yield from ((need, [], members) for need, members in MEMBERS[protocol].items())


@pytest.mark.parametrize("protocol", PARTS)
def test_each_need_is_seen_alone_and_beside_any_other(protocol: str) -> None:
    assert asked(protocol).needs == frozenset()
    for need, parts, members in ways(protocol):
        assert need in capabilities.CAPABILITIES
        assert asked(protocol, *parts, **members).needs == {need}
    for (one, parts, members), (other, more, also) in combinations(ways(protocol), 2):
        if not members.keys() & also.keys():
            assert asked(protocol, *parts, *more, **members, **also).needs == {one, other}


@pytest.mark.parametrize(
    ("protocol", "members", "needs"),
    [
        ("chat_completions", {"functions": [{"name": "f"}]}, {"tools"}),
        ("messages", {"tools": [{"type": "web_search_20250305", "name": "w"}]}, {"tools", "web_search"}),
        ("messages", {"tools": [{"type": "computer_20251124", "name": "c"}]}, {"tools", "computer_use"}),
        ("messages", {"output_format": SCHEMA}, {"structured_output"}),
        ("messages", {"output_config": {"effort": "high"}}, {"reasoning"}),
        ("messages", {"thinking": {"type": "adaptive"}}, {"reasoning"}),
        ("responses", {"tools": [{"type": "custom", "name": "f"}, {"type": "web_search_preview"}]}, {"tools", "web_search"}),
    ],
)
def test_other_ways_to_say_it(protocol: str, members: Members, needs: set[str]) -> None:
    assert asked(protocol, **members).needs == needs


@pytest.mark.parametrize(
    ("protocol", "members"),
    [
        ("chat_completions", {"tools": [], "functions": [], "response_format": {"type": "json_object"}}),
        ("chat_completions", {"reasoning_effort": "none", "modalities": ["text"], "web_search_options": None}),
        ("chat_completions", dict.fromkeys(("tools", "functions", "response_format", "reasoning_effort", "modalities"))),
        ("messages", {"tools": [], "thinking": {"type": "disabled"}, "output_config": {"effort": None, "format": None}}),
        ("messages", {"thinking": {"type": "between_tools"}}),
        ("messages", dict.fromkeys(("tools", "thinking", "output_config", "output_format"))),
        ("responses", {"tools": [], "reasoning": {"effort": "none"}, "text": {"format": {"type": "json_object"}}}),
        ("responses", {"reasoning": {"summary": "auto"}, "text": {"verbosity": "low"}}),
    ],
)
def test_what_asks_for_nothing_special_needs_nothing(protocol: str, members: Members) -> None:
    assert asked(protocol, **members).needs == frozenset()


def test_a_document_of_text_needs_no_model_that_reads_files() -> None:
    text = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}}
    assert asked("messages", text).needs == frozenset()


def test_pictures_that_tools_found_need_eyes_too() -> None:
    found = {"type": "tool_result", "tool_use_id": "t", "content": [PARTS["messages"]["vision"]]}
    assert asked("messages", found).needs == {"vision"}


def test_what_a_model_lacks_is_told_in_the_order_of_the_words() -> None:
    needs = frozenset({"vision", "audio_input", "tools"})
    assert capabilities.missing(needs, frozenset({"tools", "reasoning"})) == ["vision", "audio_input"]
    assert capabilities.missing(needs, frozenset(needs)) == []
    assert capabilities.missing(needs, frozenset()) == [], "of such a model nobody knows"
    assert capabilities.in_words(["vision", "audio_input"]) == "vision, audio input"
