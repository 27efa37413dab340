"""What callers of Responses ask: read, passed on to a provider of the same protocol, and said in no protocol's words."""

from __future__ import annotations

import json
from itertools import product
from string import ascii_lowercase
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from proxy.canonical.conversation import (
    Audio,
    Conversation,
    File,
    Format,
    Image,
    Message,
    Reasoning,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from proxy.canonical.request import Request
from proxy.errors import BadRequest
from proxy.protocols import responses
from proxy.protocols.base import Quirks
from proxy.protocols.counts import USUAL_SEARCHES
from proxy.protocols.responses_items import Sealed, conversation, seal, unseal

LOOK = {"type": "function", "name": "look", "description": "Looks.", "parameters": {"type": "object"}, "strict": True}
PICTURE = "data:image/png;base64,iVBORw0KGgo="
QUIRKS = Quirks()


def asked(**members: Any) -> Request:
    return responses.parse(json.dumps({"model": "m", "input": "Hi", **members}).encode())


def refused(**members: Any) -> BadRequest:
    with pytest.raises(BadRequest) as raised:
        asked(**members)
    return raised.value


def untranslatable(**members: Any) -> BadRequest:
    with pytest.raises(BadRequest) as raised:
        conversation(asked(**members))
    return raised.value


def passed(request: Request, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(responses.pass_through(request, model="upstream", quirks=QUIRKS, **options))
    return found


# --- reading -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("members", "units"),
    [
        ({"tools": [{"type": "web_search"}]}, {"web_search": USUAL_SEARCHES}),
        ({"plugins": [{"id": "web"}]}, {"web_search": USUAL_SEARCHES}),
        ({"plugins": [{"id": "web", "enabled": False}]}, {}),
        ({"search_parameters": {"mode": "off"}}, {}),
        ({"tools": [{"type": "web_search_preview_2025_03_11"}, {"type": "web_search"}]}, {"web_search": USUAL_SEARCHES}),
        (
            {"tools": [{"type": "web_search"}, {"type": "file_search"}], "max_tool_calls": 3},
            {"web_search": 3, "storage_search": 3},
        ),
        ({"tools": [LOOK, {"type": "code_interpreter"}]}, {}),
        ({}, {}),
    ],
)
def test_searches_that_the_provider_makes_are_held_for(members: dict[str, Any], units: dict[str, int]) -> None:
    request = responses.parse(json.dumps({"model": "m", "input": "Hi", **members}).encode())
    assert (request.units, request.reserve_units) == ({}, units)


def test_what_the_gateway_needs_is_read() -> None:
    request = asked(stream=True, max_output_tokens=50, user="u", metadata={"a": "b"}, store=True, previous_response_id="resp_1")
    assert (request.protocol, request.model, request.stream, request.max_tokens) == ("responses", "m", True, 50)
    assert (request.user, request.metadata, request.include_usage) == ("u", {"a": "b"}, True)
    assert (request.store, request.previous) == (True, "resp_1")


def test_absent_and_null_are_the_same() -> None:
    nothing = dict.fromkeys(("stream", "store", "background", "previous_response_id", "max_output_tokens", "tools", "text"))
    request = asked(**nothing, conversation=None, reasoning=None, metadata=None)
    assert (request.stream, request.store, request.previous, request.max_tokens) == (False, False, None, None)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"model": None}, "model"),
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": [5]}, "input[0]"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": "many"}, "max_output_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"tools": {}}, "tools"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(members: dict[str, Any], param: str) -> None:
    assert refused(**members).param == param


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"', b"\xff", b"[" * 5000])
def test_a_body_that_is_no_request_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        responses.parse(body)


def test_needs_and_parts_are_seen() -> None:
    content = [
        {"type": "input_image", "image_url": PICTURE, "detail": "low"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]
    request = asked(
        input=[{"role": "user", "content": content}, {"type": "function_call_output", "call_id": "c", "output": content[:1]}],
        tools=[LOOK, {"type": "web_search"}],
        text={"format": {"type": "json_schema", "name": "x", "schema": {}}},
    )
    assert request.needs == {"tools", "web_search", "structured_output", "vision", "files", "audio_input"}
    assert (request.messages, request.image_parts, request.audio_parts, request.text_only) == (2, 2, 1, False)
    assert asked().needs == frozenset()
    assert asked().text_only
    assert asked(input=[{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]).text_only
    film = {"type": "input_video", "video_url": "data:video/mp4;base64,QUJD"}
    assert not asked(input=[{"role": "user", "content": [film]}]).text_only


def test_the_estimate_counts_all_that_is_said_and_no_picture_as_text() -> None:
    words = "word " * 400
    for members in (
        {"input": words},
        {"instructions": words},
        {"input": [{"role": "user", "content": words}]},
        {"input": [{"type": "function_call_output", "call_id": "c", "output": words}]},
        {"tools": [{**LOOK, "description": words}]},
    ):
        assert 400 <= asked(**members).input_tokens_estimate <= 1000, members
    big = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 400_000}
    assert 3000 <= asked(input=[{"role": "user", "content": [big]}]).input_tokens_estimate < 4000
    sealed = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "Z" * 4000}
    assert 1000 <= asked(input=[sealed]).input_tokens_estimate < 1200


# --- to a provider of the same protocol --------------------------------------------------------
def test_members_pass_byte_for_byte_but_for_the_model_and_what_would_be_kept() -> None:
    tools = '[{"type":"web_search", "a": 1e2}]'
    said = '[ {"type":"x","é":"\\ud83d"} ]'
    odd = f'{{"z": 1.50, "input" : {said},"model":"m","tools":{tools},"store":true}}'
    sent = responses.pass_through(responses.parse(odd.encode()), model="up", quirks=QUIRKS).decode()
    for kept in ('"z":1.50', f'"input":{said}', f'"tools":{tools}', '"model":"up"', '"store":false'):
        assert kept in sent


def test_nothing_is_kept_by_the_provider_unasked() -> None:
    assert passed(asked())["store"] is False
    assert "previous_response_id" not in passed(asked(previous_response_id="resp_1"))


@pytest.mark.parametrize("kind", ["computer_call_output", "function_call_output"])
def test_a_screenshot_is_a_picture_and_no_text(kind: str) -> None:
    """What a computer shows is an object in place of a list of parts."""
    shown = {"type": "computer_screenshot", "image_url": "data:image/png;base64," + "A" * 400_000}
    request = asked(input=[{"type": kind, "call_id": "c1", "output": shown}])
    assert request.image_parts == 1
    assert request.input_tokens_estimate < responses.IMAGE_TOKENS + 200
    kept = asked(input=[{"type": kind, "call_id": "c1", "output": {"type": "computer_screenshot", "file_id": "file-1"}}])
    assert (kept.image_parts, kept.text_only) == (1, False)
    assert kept.most_input < responses.IMAGE_TOKENS + 200


def test_a_picture_that_openai_keeps_is_held_as_a_picture_and_a_file_as_a_document() -> None:
    def most(part: dict[str, Any]) -> int:
        return asked(input=[{"role": "user", "content": [{"type": "input_text", "text": "Look"}, part]}]).most_input

    assert most({"type": "input_image", "file_id": "file-1"}) < responses.IMAGE_TOKENS + 200
    assert most({"type": "input_file", "file_id": "file-1"}) > 100_000


def test_a_clamp_is_written_where_the_protocol_has_it() -> None:
    assert passed(asked(max_output_tokens=500), max_tokens=20)["max_output_tokens"] == 20
    assert passed(asked(), max_tokens=20)["max_output_tokens"] == 20
    assert passed(asked(max_output_tokens=500))["max_output_tokens"] == 500
    assert "max_output_tokens" not in passed(asked())


def test_thinking_of_other_providers_is_left_out() -> None:
    own = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "theirs"}
    foreign = {**own, "encrypted_content": seal(Sealed(signature="s"))}
    spoken = {"role": "user", "content": "what is gh1.?"}
    assert passed(asked(input=[own, foreign, spoken]))["input"] == [own, spoken]


def test_earlier_turns_come_before_what_is_said_now() -> None:
    earlier = [Raw(b'{"role":"user","content":"one"}'), Raw(b'{"role":"assistant","content":"two"}')]
    for own in ("three", [{"type": "message", "role": "user", "content": "three"}]):
        whole = responses.continued(asked(input=own), earlier)
        assert [item["content"] for item in passed(whole)["input"]] == ["one", "two", "three"]
        assert whole.messages == 3
        assert whole.input_tokens_estimate > asked(input=own).input_tokens_estimate


# --- in no protocol's words --------------------------------------------------------------------
def test_a_text_is_what_the_user_says_and_instructions_stand_before_it() -> None:
    assert conversation(asked(instructions="Be brief.")).messages == (
        Message("system", (Text("Be brief."),)),
        Message("user", (Text("Hi"),)),
    )


def test_a_turn_of_the_model_is_one_message_and_so_are_its_results() -> None:
    sealed = seal(Sealed(signature="sig"))
    items = [
        {"role": "developer", "content": "Rules."},
        {"role": "user", "content": [{"type": "input_text", "text": "Look"}, {"type": "input_image", "image_url": PICTURE}]},
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "Hm"}], "encrypted_content": sealed},
        {"type": "message", "role": "assistant", "id": "m", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "look", "arguments": '{"a":1}'},
        {"type": "function_call", "id": "fc_2", "call_id": "c2", "name": "look", "arguments": ""},
        {"type": "function_call_output", "call_id": "c1", "output": "seen"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_image", "image_url": "https://x/y.png"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    ]
    assert conversation(asked(input=items)).messages == (
        Message("system", (Text("Rules."),)),
        Message("user", (Text("Look"), Image(media_type="image/png", data="iVBORw0KGgo="))),
        Message(
            "assistant",
            (
                Thinking("Hm", signature="sig"),
                Text("I look."),
                ToolUse("c1", "look", '{"a":1}'),
                ToolUse("c2", "look", "{}"),
            ),
        ),
        Message("tool", (ToolResult("c1", (Text("seen"),)), ToolResult("c2", (Image(url="https://x/y.png"),)))),
        Message("assistant", (Refusal("No."),)),
    )


def test_a_turn_of_many_items_is_read_item_by_item() -> None:
    """To copy, for each item, all that came before would take as many steps as half the square of them."""
    said = [{"type": "message", "role": "assistant", "content": str(at)} for at in range(60_000)]
    ask = {"type": "message", "role": "user", "content": "Go on."}
    turn, last = conversation(asked(input=[*said, ask])).messages
    assert (turn.role, len(turn.parts), turn.parts[-1]) == ("assistant", len(said), Text("59999"))
    assert last == Message("user", (Text("Go on."),))


def test_what_a_provider_must_see_unchanged_comes_back() -> None:
    redacted = {"type": "reasoning", "id": "r1", "summary": [], "encrypted_content": seal(Sealed(redacted="blob"))}
    of_call = {"type": "reasoning", "id": "r2", "summary": [], "encrypted_content": seal(Sealed("s", None, "c1"))}
    call = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
    (turn,) = conversation(asked(input=[redacted, of_call, call])).messages
    assert turn.parts == (Thinking(redacted="blob"), ToolUse("c1", "look", "{}", signature="s"))


def test_thinking_that_only_openai_can_read_is_left_out_and_its_summary_is_unsigned() -> None:
    sealed = {"type": "reasoning", "id": "r1", "summary": [], "encrypted_content": "theirs"}
    shown = {**sealed, "summary": [{"type": "summary_text", "text": "Hm"}], "content": [{"type": "reasoning_text", "text": "Ho"}]}
    (turn,) = conversation(asked(input=[sealed, shown])).messages
    assert turn.parts == (Thinking("Hm\n\nHo"),)


@given(st.text(), st.text())
def test_what_is_sealed_opens_again(signature: str, redacted: str) -> None:
    assert unseal(seal(Sealed(signature, redacted))) == Sealed(signature, redacted)


@pytest.mark.parametrize("text", [None, "", "theirs", "gh1.", "gh1.%%%", "gh1.YQ==", "gh1.é"])
def test_what_was_not_sealed_here_does_not_open(text: str | None) -> None:
    assert unseal(text) is None


def test_files_and_sounds() -> None:
    content = [
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"},
        {"type": "input_file", "file_url": "https://x/a.pdf"},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
    ]
    (message,) = conversation(asked(input=[{"role": "user", "content": content}])).messages
    assert message.parts == (
        File(media_type="application/pdf", data="JVBE", name="a.pdf"),
        File(url="https://x/a.pdf"),
        Audio("mp3", "AAAA"),
    )


def test_settings_are_translated() -> None:
    got = conversation(
        asked(
            tools=[LOOK],
            tool_choice={"type": "function", "name": "look"},
            parallel_tool_calls=False,
            max_output_tokens=99,
            temperature=0.5,
            top_p=0.25,
            top_logprobs=3,
            text={"format": {"type": "json_schema", "name": "x", "schema": {"b": 1, "a": 2}, "strict": True}, "verbosity": "low"},
            reasoning={"effort": "high", "summary": "auto"},
            safety_identifier="who",
            prompt_cache_key="key",
        )
    )
    assert got.tools == (Tool("look", "Looks.", Raw(b'{"type": "object"}'), True),)
    assert (got.tool_choice, got.parallel_tools, got.max_tokens) == (ToolChoice("tool", "look"), False, 99)
    assert (got.temperature, got.top_p, got.logprobs, got.top_logprobs) == (0.5, 0.25, True, 3)
    assert got.format == Format("schema", "x", Raw(b'{"b": 1, "a": 2}'), True)
    assert (got.reasoning, got.verbosity) == (Reasoning("high", visible=True), "low")
    assert (got.user, got.prompt_cache_key) == ("who", "key")


@pytest.mark.parametrize(
    ("choice", "expected", "names"),
    [
        ("auto", ToolChoice("auto"), ["look", "ask"]),
        ("required", ToolChoice("required"), ["look", "ask"]),
        ("none", ToolChoice("none"), ["look", "ask"]),
        (None, None, ["look", "ask"]),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "ask"}]},
            ToolChoice("required"),
            ["ask"],
        ),
    ],
)
def test_choices_of_tools(choice: Any, expected: ToolChoice | None, names: list[str]) -> None:
    got = conversation(asked(tools=[LOOK, {**LOOK, "name": "ask"}], tool_choice=choice))
    assert got.tool_choice == expected
    assert [tool.name for tool in got.tools] == names


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"tools": [LOOK, {"type": "web_search"}]}, "tools[1].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tool_choice": {"type": "web_search_preview"}}, "tool_choice"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
        ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input[0].type"),
        ({"input": [{"content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"type": "function_call", "name": "x"}]}, "input[0].call_id"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input[0].content[0].image_url"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input[0].content[0].file_id"),
        ({"input": [{"role": "user", "content": [{"type": "input_video"}]}]}, "input[0].content[0].type"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"reasoning": {"effort": "immense"}}, "reasoning.effort"),
    ],
)
def test_what_only_openai_can_do_is_refused_by_name(members: dict[str, Any], param: str) -> None:
    assert untranslatable(**members).param == param


def test_a_lone_surrogate_half_is_read() -> None:
    body = b'{"model":"m","input":[{"role":"user","content":"a \\ud83d b"}],"instructions":"\\udc00"}'
    got = conversation(responses.parse(body))
    assert got.messages == (Message("system", (Text("\ufffd"),)), Message("user", (Text("a \ufffd b"),)))


# --- there and back ----------------------------------------------------------------------------
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1)
NAMES = st.text(ascii_lowercase + "_", min_size=1, max_size=12)
IMAGES = st.sampled_from([Image(media_type="image/png", data="iVBO"), Image(url="https://x/y")])
FILES = NAMES.map(lambda name: File(media_type="application/pdf", data="JVBE", name=name))
SOUNDS = st.sampled_from([Audio(format=format, data="AAAA") for format in ("wav", "mp3")])
SAID = TEXTS.map(Text)
USER = st.lists(SAID | IMAGES | FILES | SOUNDS, min_size=1).map(lambda parts: Message("user", tuple(parts)))
SYSTEM = SAID.map(lambda text: Message("system", (text,)))
CALLS = st.builds(ToolUse, NAMES, NAMES, st.sampled_from(["{}", '{"a": [1, "é"]}']))
SPOKEN = st.lists(SAID | TEXTS.map(Refusal) | CALLS, min_size=1).map(lambda parts: Message("assistant", tuple(parts)))
RESULTS = st.lists(st.builds(ToolResult, NAMES, SAID.map(lambda text: (text,)) | st.tuples(SAID, IMAGES)), min_size=1)
TURNS = st.lists(st.tuples(USER, SPOKEN, RESULTS.map(lambda parts: Message("tool", tuple(parts)))), min_size=1, max_size=3)
TOOLS = st.lists(
    st.builds(Tool, NAMES, st.none() | TEXTS, st.just(Raw(b'{"type":"object","b":1,"a":2}')), st.booleans()), max_size=3
).map(tuple)


def drawn_at_once(**choices: tuple[Any, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """One draw instead of one for each: each has its price."""
    return st.sampled_from([dict(zip(choices, chosen, strict=True)) for chosen in product(*choices.values())])


SAMPLING = drawn_at_once(
    tool_choice=(None, None, None, *(ToolChoice(mode) for mode in ("auto", "required", "none"))),
    parallel_tools=(None, None, True, False),
    temperature=(None, None, None, 0.0, 0.5, 1.0),
    top_p=(None, None, 0.1, 1.0),
)
SHAPES = drawn_at_once(
    format=(None, Format("json"), Format("schema", "x", Raw(b'{"b":1,"a":2}'), True, "what")),
    reasoning=(None, *(Reasoning(effort, visible=visible) for effort in ("low", "high", "xhigh") for visible in (False, True))),
    verbosity=(None, "low"),
)
CONVERSATIONS = st.builds(
    lambda sampling, shape, **drawn: Conversation(**sampling, **shape, **drawn),
    SAMPLING,
    SHAPES,
    messages=st.tuples(st.lists(SYSTEM, max_size=1), TURNS).map(lambda both: (*both[0], *(m for turn in both[1] for m in turn))),
    tools=TOOLS,
    max_tokens=st.none() | st.integers(16, 10**6),
    user=st.none() | NAMES,
    prompt_cache_key=st.none() | NAMES,
)


@given(CONVERSATIONS, st.booleans())
def test_what_is_written_for_a_provider_reads_back_as_what_was_said(said: Conversation, stream: bool) -> None:
    written = responses.write_request(said, model="up", stream=stream, max_tokens=None, quirks=QUIRKS).body
    request = responses.parse(written)
    assert (request.model, request.stream, request.store) == ("up", stream, False)
    assert conversation(request) == said


@given(CONVERSATIONS)
def test_prefixes_are_written_alike_so_that_caches_are_hit(said: Conversation) -> None:
    shorter = msgspec.structs.replace(said, messages=said.messages[:-1])
    long, short = (
        json.loads(responses.write_request(one, model="up", stream=False, max_tokens=None, quirks=QUIRKS).body)
        for one in (said, shorter)
    )
    assert long["input"][: len(short["input"])] == short["input"]


# --- going on from a kept response -------------------------------------------------------------
@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (
            {"type": "message", "id": "msg_1", "role": "assistant", "content": []},
            {"type": "message", "role": "assistant", "content": []},
        ),
        ({"type": "function_call", "id": "fc_1", "call_id": "c"}, {"type": "function_call", "call_id": "c"}),
        (
            {"type": "function_call_output", "id": "x", "call_id": "c"},
            {"type": "function_call_output", "id": "x", "call_id": "c"},
        ),
        ({"role": "user", "content": "Hi"}, {"role": "user", "content": "Hi"}),
        ({"type": "reasoning", "id": "rs_1", "summary": []}, None),
        ({"type": "reasoning", "id": "rs_1", "encrypted_content": None}, None),
        (
            {"type": "reasoning", "id": "rs_1", "encrypted_content": "x"},
            {"type": "reasoning", "id": "rs_1", "encrypted_content": "x"},
        ),
    ],
)
def test_items_are_said_again_without_what_only_a_keeper_could_know(
    item: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    again = responses.replayable(Raw(json.dumps(item).encode()))
    assert (None if again is None else json.loads(bytes(again))) == expected


def test_a_lone_surrogate_half_can_be_said_again() -> None:
    assert responses.replayable(Raw(b'{"role":"user","content":"\\ud83d"}')) is not None
    whole = responses.continued(asked(input="x"), [Raw(b'{"role":"user","content":"\\ud83d"}')])
    assert conversation(whole).messages[0] == Message("user", (Text("\ufffd"),))


def test_thinking_is_asked_for_with_its_content_where_it_will_be_said_again() -> None:
    thinks = {"reasoning": {"effort": "low"}, "store": True}
    assert passed(asked(**thinks))["include"] == ["reasoning.encrypted_content"]
    assert passed(asked(**thinks, include=["a", "reasoning.encrypted_content"]))["include"] == [
        "a",
        "reasoning.encrypted_content",
    ]
    assert "include" not in passed(asked(store=True))
    assert "include" not in passed(asked(reasoning={"effort": "low"}))


def test_callers_are_told_what_is_kept_here_only_where_they_asked() -> None:
    assert asked().told == asked(store=False).told == {}
    assert asked(store=True).told == {"store": Raw(b"true"), "previous_response_id": Raw(b"null")}
    assert asked(previous_response_id="r").told == {"store": Raw(b"false"), "previous_response_id": Raw(b'"r"')}
