"""Presets in the words of every protocol: what callers said stays, the preset's system prompt comes first."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from proxy.canonical.preset import Parameters, Preset
from proxy.errors import BadRequest
from proxy.protocols import bodies, chat_completions, presets

PRESET = Preset(
    "polite", "m", "Be polite.", Parameters(temperature=0.2, top_p=0.9, max_tokens=50, reasoning_effort="low", stop=("END",))
)
SAID = [{"role": "user", "content": "Hi"}]


def applied(protocol: str, preset: Preset = PRESET, **members: Any) -> Any:
    body = json.dumps({"model": "preset:polite", **members}).encode()
    fields = bodies._read_members(body)
    return json.loads(presets.applied(preset, fields, protocol=protocol))


def test_a_chat_gets_what_it_did_not_say() -> None:
    got = applied("chat_completions", messages=SAID)
    assert got["messages"] == [{"role": "system", "content": "Be polite."}, *SAID]
    assert (got["temperature"], got["top_p"], got["max_tokens"], got["stop"]) == (0.2, 0.9, 50, ["END"])
    assert got["reasoning_effort"] == "low"


def test_what_a_chat_says_itself_stays() -> None:
    got = applied("chat_completions", messages=SAID, temperature=1, top_p=None, max_completion_tokens=9, stop="STOP")
    assert (got["temperature"], got["max_completion_tokens"], got["stop"]) == (1, 9, "STOP")
    assert "max_tokens" not in got
    assert got["top_p"] == 0.9


def test_messages_get_it_in_their_words() -> None:
    got = applied("messages", messages=SAID)
    assert (got["system"], got["stop_sequences"], got["max_tokens"]) == ("Be polite.", ["END"], 50)
    assert got["output_config"] == {"effort": "low"}
    assert applied("messages", messages=SAID, system="Mine.")["system"] == "Be polite.\n\nMine."
    blocks = applied("messages", messages=SAID, system=[{"type": "text", "text": "Mine."}])["system"]
    assert [block["text"] for block in blocks] == ["Be polite.", "Mine."]


def test_half_a_character_does_not_shed_the_presets_words() -> None:
    fields = {"messages": Raw(b"[]"), "system": Raw(b'"a\\ud800"')}
    assert b'"Be polite.\\n\\na\\ud800"' in presets.applied(PRESET, fields, protocol="messages")


def test_responses_get_it_in_theirs() -> None:
    got = applied("responses", input="Hi", instructions="Mine.")
    assert (got["instructions"], got["max_output_tokens"]) == ("Be polite.\n\nMine.", 50)
    assert got["reasoning"] == {"effort": "low"}
    assert applied("responses", input="Hi")["instructions"] == "Be polite."


def test_a_preset_without_a_system_prompt_adds_no_message() -> None:
    assert applied("chat_completions", Preset("plain", "m"), messages=SAID) == {"model": "preset:polite", "messages": SAID}


@pytest.mark.parametrize(("protocol", "members"), [("chat_completions", {"messages": 3}), ("messages", {"system": 3})])
def test_what_makes_no_sense_is_left_for_its_reader_to_refuse(protocol: str, members: dict[str, Any]) -> None:
    assert applied(protocol, **members).items() >= members.items()


def test_untouched_members_stay_byte_for_byte() -> None:
    body = b'{"model":"preset:polite","messages": [ {"role":"user","content":"caf\\u00e9"} ],"odd":{"b":1,"a":1.50}}'
    written = presets.applied(PRESET, bodies._read_members(body), protocol="chat_completions")
    assert b'{"b":1,"a":1.50}' in written
    assert b'{"role":"user","content":"caf\\u00e9"}' in written
    assert chat_completions.parse(written).max_tokens == 50


def test_routes_without_a_chat_have_no_presets() -> None:
    with pytest.raises(BadRequest) as raised:
        applied("embeddings", input="x")
    assert raised.value.param == "model"
