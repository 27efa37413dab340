"""Messages requests: what is read, what passes byte for byte, what is refused, how errors look."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import errors
from proxy.canonical.estimate import DISTANT_DOCUMENT_TOKENS, SERVER_TOOL_TOKENS
from proxy.canonical.request import Request
from proxy.errors import CODES, BadRequest
from proxy.protocols import cache_marks, messages
from proxy.protocols.base import Quirks
from proxy.protocols.counts import MOST_SEARCHES, USUAL_SEARCHES
from proxy.protocols.messages import DOCUMENT_TOKENS, IMAGE_TOKENS
from tests.proxy.messages_wire import ASK, asked, body

PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD" * 5000}}
WEB_SEARCH = {"type": "web_search_20250305", "name": "web_search"}


def user(*blocks: Any) -> list[Any]:
    return [{"role": "user", "content": list(blocks)}]


def sent(request: Request, **options: Any) -> Any:
    return json.loads(messages.pass_through(request, model="up", **options))


# --- parse -------------------------------------------------------------------------------------
def test_a_request_is_read() -> None:
    request = messages.parse(
        body(stream=True, metadata={"user_id": "u-1"}, tools=[{"name": "f", "input_schema": {}}]),
        {"anthropic-version": "2023-06-01", "anthropic-beta": "a,b"},
    )
    assert (request.protocol, request.model, request.stream, request.include_usage) == ("messages", "scripted", True, True)
    assert (request.max_tokens, request.messages, request.user, request.metadata) == (100, 1, "u-1", {"user_id": "u-1"})
    assert request.headers == {"anthropic-version": "2023-06-01", "anthropic-beta": "a,b"}
    assert request.needs == {"tools"}


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": 7}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "x"}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"tools": {}}, "tools"),
        ({"temperature": "hot"}, "temperature"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"thinking": True}, "thinking"),
        ({"speed": "fast"}, "speed"),
        ({"inference_geo": "us"}, "inference_geo"),
    ],
)
def test_what_is_wrong_is_refused_by_name(members: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as raised:
        asked(**members)
    assert raised.value.param == param


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b'{"model":"m"', b"[" * 100_000])
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        messages.parse(raw)


def test_half_a_character_passes_as_it_is() -> None:
    raw = body().replace(b"the gate", b"the \\ud83d gate")
    assert b"the \\ud83d gate" in messages.pass_through(messages.parse(raw), model="up")


@pytest.mark.parametrize("role", ["user", "assistant", "system"])
def test_every_role_may_speak(role: str) -> None:
    assert asked(messages=[{"role": role, "content": "x"}]).messages == 1


# --- estimate ----------------------------------------------------------------------------------
def test_pictures_and_documents_weigh_what_they_are_not_what_they_are_written_with() -> None:
    plain = asked(messages=user({"type": "text", "text": "x"})).input_tokens_estimate
    seen = asked(messages=user({"type": "text", "text": "x"}, PNG))
    assert plain + IMAGE_TOKENS <= seen.input_tokens_estimate < plain + IMAGE_TOKENS + 150
    assert (seen.image_parts, seen.text_only, seen.needs) == (1, False, frozenset({"vision"}))
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "QUJD" * 9000}}
    read = asked(messages=user(pdf))
    assert max(DOCUMENT_TOKENS, 9000) <= read.input_tokens_estimate < 9000 + 300
    assert (read.needs, read.text_only) == (frozenset({"files"}), False)
    distant = {"type": "document", "source": {"type": "url", "url": "https://x/a.pdf"}}
    assert asked(messages=user(distant)).most_input >= DISTANT_DOCUMENT_TOKENS
    assert asked(messages=user(distant)).input_tokens_estimate < 200


def compacting(**members: Any) -> dict[str, Any]:
    return {"context_management": {"edits": [{"type": "compact_20260112", **members}]}}


def at(tokens: int) -> dict[str, Any]:
    return compacting(trigger={"type": "input_tokens", "value": tokens})


LONG_ASK = {"messages": user({"type": "text", "text": "word " * 120_000})}


@pytest.mark.parametrize(
    ("members", "more"),
    [
        ({"compaction": {"type": "summarize"}}, {}),
        (compacting(), LONG_ASK),
        (at(50_000), LONG_ASK),
        (at(1), {}),
        (compacting(trigger={"type": "turns", "value": 10**6}), {}),
        (compacting(type="compact_20990101"), {}),
        (compacting(), {"tools": [WEB_SEARCH]}),
    ],
)
def test_a_conversation_that_may_be_shortened_first_is_held_for_as_if_read_twice(
    members: dict[str, Any], more: dict[str, Any]
) -> None:
    assert asked(**members, **more).most_input == 2 * asked(**more).most_input
    assert asked(**members, **more).input_tokens_estimate == asked(**more).input_tokens_estimate


@pytest.mark.parametrize(
    ("members", "more"),
    [
        (compacting(), {}),
        (at(10**6), LONG_ASK),
        ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, LONG_ASK),
        *(({"compaction": off}, LONG_ASK) for off in (False, None, {"type": "disabled"})),
        *(({"context_management": odd}, {}) for odd in (7, {}, {"edits": 7}, {"edits": [7]})),
    ],
)
def test_one_that_is_not_shortened_is_held_for_once(members: dict[str, Any], more: dict[str, Any]) -> None:
    assert asked(**members, **more).most_input == asked(**more).most_input


def test_what_shortens_a_conversation_does_so_however_it_is_written() -> None:
    written = body(**at(1)).replace(b"compact_", b"\\u0063ompact_")
    assert messages.parse(written).most_input == 2 * asked().most_input


def test_pictures_in_results_of_tools_are_seen_too() -> None:
    assert asked(messages=user({"type": "tool_result", "tool_use_id": "t", "content": [PNG, PNG]})).image_parts == 2


def test_a_document_of_text_weighs_its_text() -> None:
    text = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "word " * 1000}}
    assert 1000 <= asked(messages=user(text)).input_tokens_estimate < 3000


def test_sealed_thought_is_weighed_by_what_it_holds() -> None:
    turn = {"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": "S" * 8000}]}
    assert 2000 <= asked(messages=[*ASK, turn]).input_tokens_estimate < 2300


def test_system_and_tools_count_and_tools_of_the_provider_count_for_what_they_find() -> None:
    plain = asked().input_tokens_estimate
    assert asked(system="word " * 100).input_tokens_estimate > plain + 100
    searching = asked(tools=[WEB_SEARCH])
    assert searching.most_input > plain + SERVER_TOOL_TOKENS
    assert plain < searching.input_tokens_estimate < plain + 1000
    assert searching.needs == {"tools", "web_search"}
    assert (searching.units, searching.reserve_units) == ({}, {"web_search": USUAL_SEARCHES})


@pytest.mark.parametrize(
    ("most", "held"), [(8, 8), (0, 0), (None, USUAL_SEARCHES), ("many", USUAL_SEARCHES), (10**8, MOST_SEARCHES)]
)
def test_as_many_searches_are_held_for_as_their_caller_allows(most: Any, held: int) -> None:
    assert asked(tools=[{**WEB_SEARCH, "max_uses": most}]).reserve_units == {"web_search": held}
    assert asked(tools=[{"name": "look", "input_schema": {"type": "object"}}]).reserve_units == {}


def test_a_search_that_a_vendors_own_member_asks_for_is_held_for_unless_it_is_off() -> None:
    searching = asked(plugins=[{"id": "web"}])
    assert (searching.reserve_tokens >= 25_000, searching.reserve_units) == (True, {"web_search": USUAL_SEARCHES})
    off = asked(plugins=[{"id": "web", "enabled": False}])
    assert (off.reserve_tokens, off.reserve_units) == (0, {})


# --- pass through ------------------------------------------------------------------------------
def test_only_the_models_name_changes_and_no_byte_of_the_prompt() -> None:
    raw = (
        b'{"messages": [ {"role":"user",  "content":[{"type":"text","text":"\\u00fc","cache_control":{"type":"ephemeral"}}]} ],'
        b'"model":"scripted","max_tokens":9,"tools":[{"b":1,"name":"f","input_schema":{"z":1,"a":2}}],"future":{"x":null},'
        b'"thinking":{"type":"adaptive"},"context_management":{"edits":[]}}'
    )
    given_members = {name: bytes(value) for name, value in messages.parse(raw).fields.items()}
    passed = messages.pass_through(messages.parse(raw), model="up")
    kept = {name: bytes(value) for name, value in messages.parse(passed).fields.items()}
    assert list(kept) == list(given_members)
    assert kept | {"model": b'"scripted"'} == given_members
    assert kept["model"] == b'"up"'


@pytest.mark.parametrize(("own", "clamp", "passed"), [(100, None, 100), (100, 50, 50), (100, 200, 100), (0, None, 0), (0, 1, 0)])
def test_a_clamp_is_written_where_it_is_tighter(own: int, clamp: int | None, passed: int) -> None:
    assert sent(asked(max_tokens=own), max_tokens=clamp)["max_tokens"] == passed


@pytest.mark.parametrize(
    ("thinking", "clamp", "passed"),
    [
        ({"type": "enabled", "budget_tokens": 4000}, None, {"type": "enabled", "budget_tokens": 4000}),
        ({"type": "enabled", "budget_tokens": 4000}, 5000, {"type": "enabled", "budget_tokens": 4000}),
        (
            {"type": "enabled", "budget_tokens": 4000, "display": "omitted"},
            3000,
            {"type": "enabled", "budget_tokens": 2999, "display": "omitted"},
        ),
        ({"type": "enabled", "budget_tokens": 4000}, 1000, {"type": "disabled"}),
        ({"type": "adaptive"}, 1000, {"type": "adaptive"}),
        (None, 1000, None),
    ],
)
def test_thought_leaves_room_for_a_clamped_answer(thinking: Any, clamp: int | None, passed: Any) -> None:
    assert sent(asked(max_tokens=9000, thinking=thinking), max_tokens=clamp)["thinking"] == passed


def test_a_bound_is_written_where_the_caller_gave_none() -> None:
    request = messages.parse_count(json.dumps({"model": "m", "messages": ASK}).encode())
    assert sent(request, max_tokens=7)["max_tokens"] == 7


# --- history of other providers ----------------------------------------------------------------
UNSIGNED = {"type": "thinking", "thinking": "hm", "signature": ""}
SIGNED = {"type": "thinking", "thinking": "hm", "signature": "sig"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "r"}


FOREIGN = {"type": "thinking", "thinking": "hm", "signature": "oai1.cnNfMQ"}


def turn(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def test_unsigned_thought_is_left_out_and_signed_thought_kept_byte_for_byte() -> None:
    signed = turn(SIGNED, {"type": "redacted_thinking", "data": "xx"}, {"type": "text", "text": "a"})
    request = asked(messages=[*ASK, signed, *ASK, turn(UNSIGNED, {"type": "text", "text": "b"}), *ASK, turn(UNSIGNED), *ASK])
    passed = sent(request)["messages"]
    assert passed == [*ASK, signed, *ASK, turn({"type": "text", "text": "b"}), *ASK, *ASK]
    assert json.dumps(signed).encode() in messages.pass_through(request, model="up")


@pytest.mark.parametrize(
    ("blocks", "passed"),
    [
        ((UNSIGNED, USE), {"type": "disabled"}),
        ((FOREIGN, USE), {"type": "disabled"}),
        ((SIGNED, UNSIGNED, USE), {"type": "enabled", "budget_tokens": 2000}),
        ((UNSIGNED, {"type": "text", "text": "x"}), {"type": "enabled", "budget_tokens": 2000}),
    ],
)
def test_a_turn_whose_thought_was_left_out_goes_on_without(blocks: tuple[Any, ...], passed: Any) -> None:
    thinking = {"type": "enabled", "budget_tokens": 2000}
    request = asked(messages=[*ASK, turn(*blocks), *user(RESULT)], thinking=thinking)
    assert sent(request)["thinking"] == passed


@pytest.mark.parametrize(
    "content", ['{"signature":""}', '"a \\"signature\\":\\"\\" in text"', '[{"type":"tool_use","input":{"signature":""}}]']
)
def test_the_word_alone_changes_nothing(content: str) -> None:
    raw = body().replace(
        b'"Tell me about the gate."', content.encode() if content[0] != "{" else b'[{"type":"x","x":{"signature":""}}]'
    )
    assert (
        messages.parse(messages.pass_through(messages.parse(raw), model="up")).fields["messages"]
        == messages.parse(raw).fields["messages"]
    )


# --- automatic cache breakpoints ---------------------------------------------------------------
LONG = "word " * (cache_marks.LEAST_BYTES // 5)
MARK = {"type": "ephemeral"}
AUTO = Quirks(auto_cache=True)


def test_the_last_tool_system_block_and_message_are_marked() -> None:
    tools = [{"name": "a", "input_schema": {}}, {"name": "b", "input_schema": {}}]
    passed = sent(
        asked(system=LONG, tools=tools, messages=[*ASK, turn({"type": "text", "text": "x"}), *user(RESULT)]), quirks=AUTO
    )
    assert passed["system"] == [{"type": "text", "text": LONG, "cache_control": MARK}]
    assert [tool.get("cache_control") for tool in passed["tools"]] == [None, MARK]
    assert passed["messages"][-1]["content"] == [RESULT | {"cache_control": MARK}]
    assert passed["messages"][:-1] == [*ASK, turn({"type": "text", "text": "x"})]


def test_a_plain_question_becomes_a_block() -> None:
    passed = sent(asked(system=[{"type": "text", "text": LONG}]), quirks=AUTO)
    assert passed["messages"] == user({"type": "text", "text": ASK[0]["content"], "cache_control": MARK})
    assert passed["system"][-1]["cache_control"] == MARK


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"system": [{"type": "text", "text": LONG, "cache_control": MARK}]},
        {"system": LONG, "cache_control": MARK},
        {"system": LONG, "messages": user({"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}})},
    ],
)
def test_nothing_is_marked_in_short_prompts_and_where_the_caller_marks(members: dict[str, Any]) -> None:
    assert messages.pass_through(asked(**members), model="up", quirks=AUTO) == messages.pass_through(asked(**members), model="up")


@pytest.mark.parametrize("last", [turn(SIGNED), turn(), {"role": "user", "content": ""}, turn({"type": "text", "text": ""})])
def test_what_takes_no_mark_gets_none(last: Any) -> None:
    assert sent(asked(system=LONG, messages=[*ASK, last]), quirks=AUTO)["messages"] == [*ASK, last]


def test_a_tool_that_is_not_in_the_prompt_gets_no_mark() -> None:
    tools = [{"name": "a", "input_schema": {}, "defer_loading": True}]
    assert sent(asked(system=LONG, tools=tools), quirks=AUTO)["tools"] == tools


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3), max_size=4))
def test_marks_keep_every_other_byte(tools: list[dict[str, Any]]) -> None:
    request = asked(system=LONG, tools=tools)
    marked = sent(request, quirks=AUTO)
    marked["tools"] = [{name: value for name, value in tool.items() if value != MARK} for tool in marked["tools"]]
    marked["system"], marked["messages"] = LONG, ASK
    assert marked == sent(request)


# --- counting ----------------------------------------------------------------------------------
def test_counting_asks_only_what_it_takes() -> None:
    request = messages.parse_count(body(stream=True, temperature=1, system="s", metadata={"user_id": "u"}))
    assert json.loads(messages.write_count(request, model="up")) == {"model": "up", "messages": ASK, "system": "s"}
    assert messages.read_count(messages.render_count(7)) == 7


@pytest.mark.parametrize("answer", [b"{}", b'{"input_tokens":"x"}', b"<html>"])
def test_what_is_no_count_is_an_error(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        messages.read_count(answer)


# --- errors ------------------------------------------------------------------------------------
TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 405: "invalid_request_error", 409: "conflict_error", 413: "request_too_large",
    429: "rate_limit_error", 500: "api_error", 502: "api_error", 503: "overloaded_error", 504: "timeout_error",
}  # fmt: skip


@pytest.mark.parametrize("code", [code for code, leaf in CODES.items() if leaf is not errors.HoldUsedUp])
def test_every_error_has_its_shape(code: str) -> None:
    error = CODES[code]("Sorry.", detail={"level": "key"}) if code != "method_not_allowed" else errors.MethodNotAllowed("Sorry.")
    shown = json.loads(messages.render_error(error, request_id="req_1"))
    assert (shown["type"], shown["request_id"]) == ("error", "req_1")
    assert (shown["error"]["type"], shown["error"]["message"]) == (TYPES[error.status], "Sorry.")
    assert shown["error"]["details"] == {"error_code": code}
    assert shown["error"]["gatehouse"]["code"] == code
    event = messages.render_stream_error(error, request_id="req_1")
    assert event.startswith(b"event: error\ndata: ")
    assert event.endswith(b"\n\n")
    assert json.loads(event.split(b"data: ")[1]) == shown


def test_a_providers_code_is_kept() -> None:
    error = BadRequest("x", code="context_length_exceeded", param="messages")
    shown = json.loads(messages.render_error(error, request_id="r"))["error"]
    assert shown["details"] == {"error_code": "context_length_exceeded"}
    assert (shown["gatehouse"]["code"], shown["gatehouse"]["param"]) == ("invalid_request", "messages")


def test_an_errors_text_is_sound_unicode() -> None:
    assert b"bad ?" in messages.render_error(BadRequest("bad \ud800"), request_id="r")
