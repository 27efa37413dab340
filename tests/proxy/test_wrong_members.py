"""Every member of a request wrong in every way: each protocol says what is wrong with it, or passes it on; nothing breaks.

What passes is then written for every provider that the call could go to, where half of the mistakes would come to light.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from proxy.errors import BadRequest
from proxy.protocols import registry
from proxy.protocols.base import Quirks

PICTURE, FILE = "data:image/png;base64,AA", "data:application/pdf;base64,AA"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}
FUNCTION = {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}
TEXT = {"type": "text", "text": "x"}
DRAWN = {"type": "image_url", "image_url": {"url": PICTURE}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}

# By protocol one request that uses all that the gateway reads.
RICH: dict[str, dict[str, Any]] = {
    "chat_completions": {
        "model": "m", "max_tokens": 5, "n": 1, "stream": False, "stop": ["a"], "seed": 1, "logprobs": True, "user": "u",
        "messages": [
            {"role": "system", "content": "s"},
            {
                "role": "user", "name": "n",
                "content": [
                    TEXT,
                    {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
                    {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
                    {"type": "file", "file": {"file_data": FILE, "filename": "f"}},
                ],
            },
            {"role": "assistant", "content": "y", "refusal": "n", "reasoning_content": "r", "tool_calls": [CALL]},
            {"role": "assistant", "content": "y", "images": [DRAWN]},
            {"role": "tool", "tool_call_id": "c", "content": "z"},
        ],
        "tools": [{"type": "function", "function": FUNCTION}], "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
        "reasoning_effort": "low", "metadata": {"a": "b"}, "stream_options": {"include_usage": True},
    },
    "responses": {
        "model": "m", "max_output_tokens": 16, "instructions": "i", "store": False, "previous_response_id": None,
        "input": [
            {
                "type": "message", "role": "user",
                "content": [
                    {"type": "input_text", "text": "x"},
                    {"type": "input_image", "image_url": PICTURE, "detail": "low"},
                    {"type": "input_file", "file_data": FILE, "filename": "f"},
                ],
            },
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "t"}], "encrypted_content": "e"},
            {"type": "image_generation_call", "id": "ig", "status": "completed", "result": "AA", "output_format": "png"},
            {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "o"},
            {"role": "assistant", "content": [{"type": "output_text", "text": "t"}, {"type": "refusal", "refusal": "n"}]},
        ],
        "tools": [{"type": "function", **FUNCTION}], "tool_choice": {"type": "function", "name": "f"}, "include": ["a"],
        "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto"}, "prompt": None, "conversation": None, "background": False,
    },
    "messages": {
        "model": "m", "max_tokens": 5000, "stop_sequences": ["a"], "temperature": 1, "top_k": 1, "metadata": {"user_id": "u"},
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    TEXT,
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}},
                    {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "t", "signature": "s"},
                    {"type": "redacted_thinking", "data": "d"},
                    {"type": "tool_use", "id": "c", "name": "f", "input": {}},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": [TEXT]}]},
        ],
        "tools": [{"name": "f", "input_schema": SCHEMA}], "tool_choice": {"type": "tool", "name": "f"}, "container": None,
        "thinking": {"type": "enabled", "budget_tokens": 1024}, "mcp_servers": [], "modalities": ["text"],
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    },
    "embeddings": {"model": "m", "input": ["x", 1, [2]], "user": "u", "dimensions": 3, "encoding_format": "float"},
    "images": {"model": "m", "prompt": "x", "n": 1, "stream": False, "size": "1x1", "user": "u", "quality": "auto"},
    "image_edits": {"model": "m", "prompt": "x", "n": 1, "images": [{"file_id": "f"}], "mask": {"file_id": "f"}},
    "speech": {
        "model": "m", "input": "x", "voice": {"id": "v"}, "instructions": "i", "stream_format": "audio",
        "response_format": "wav", "speed": 1,
    },
    "videos": {"model": "m", "prompt": "x", "seconds": "4", "size": "1x1"},
}  # fmt: skip
WRONG: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 10**30, float("inf"), "", "\x00", "\ud800", [], [None], [["x"]], [{}], ["x", 5], {}, {"type": 5},
    [{"type": "\ud800"}], {"\ud800": "x"},
)  # fmt: skip
Path = tuple[str | int, ...]


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    yield at
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        yield from paths(member, (*at, name))


def changed(value: Any, at: Path, *new: Any) -> Any:
    """With `new` at the path; without one the member is left out."""
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    first, *rest = at
    if rest:
        copy[first] = changed(copy[first], tuple(rest), *new)
    elif new:
        copy[first] = new[0]
    else:
        del copy[first]
    return copy


def asked(protocol: str, body: bytes) -> bool:
    """Whether it would be sent on. Anything raised but BadRequest is the failure of a test."""
    try:
        request = registry.CALLERS[protocol].parse(body, {"content-type": "application/json"})
        registry.PASS_THROUGH[protocol].pass_through(request, model="up", max_tokens=None, quirks=Quirks())
    except BadRequest:
        return False
    for codec in registry.CHAT_PROVIDERS.values() if protocol in registry.CHAT_CALLERS else ():
        with suppress(BadRequest):
            told = registry.CHAT_CALLERS[protocol].conversation(request)
            codec.write_request(told, model="up", stream=request.stream, max_tokens=7, quirks=Quirks())
    for media in registry.MEDIA.values():
        if protocol == media.SERVES:
            with suppress(BadRequest):
                media.write_request(request, model="titan-embed")
    return True


@pytest.mark.parametrize("protocol", RICH)
def test_a_member_that_is_missing_or_of_any_other_type_is_named_or_passed_on(protocol: str) -> None:
    whole = RICH[protocol]
    assert asked(protocol, json.dumps(whole).encode())
    for at in paths(whole):
        if at:
            asked(protocol, json.dumps(changed(whole, at)).encode())
            for new in WRONG:
                asked(protocol, json.dumps(changed(whole, at, new)).encode())


NEEDED = [(protocol, name) for protocol in RICH for name in ("model", "messages", "input", "prompt") if RICH[protocol].get(name)]


@pytest.mark.parametrize(("protocol", "name"), NEEDED)
def test_what_a_request_needs_is_asked_for_by_name(protocol: str, name: str) -> None:
    whole = RICH[protocol]
    for body in (changed(whole, (name,)), changed(whole, (name,), None), changed(whole, (name,), {})):
        with pytest.raises(BadRequest) as raised:
            registry.CALLERS[protocol].parse(json.dumps(body).encode(), {"content-type": "application/json"})
        assert raised.value.param == name


@pytest.mark.parametrize("protocol", RICH)
@pytest.mark.parametrize("opening", ['"x":' + "[" * 100_000, '"x":' + '{"a":' * 100_000, '"metadata":{"a":' + "[" * 5000])
def test_no_depth_of_nesting_breaks_the_reader(protocol: str, opening: str) -> None:
    body = json.dumps(RICH[protocol])[:-1] + "," + opening
    for ending in ("", "1" + "]" * 100_000 + "}"):
        assert not asked(protocol, (body + ending).encode())
