import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from proxy.canonical.estimate import text_tokens
from proxy.canonical.request import Request
from proxy.canonical.usage import Usage
from proxy.errors import AttemptFailed, BadRequest, BudgetExceeded, RateLimitExceeded
from proxy.protocols import chat_completions, registry
from proxy.protocols.base import Frame, Quirks, Reply
from proxy.protocols.chat_completions import parse, pass_through, read_reply
from proxy.protocols.chat_replies import StreamReader
from tests.upstream import DONE, frame, frames, usage_of

MESSAGES = [{"role": "user", "content": "Say hello."}]


def body_of(**members: Any) -> bytes:
    return json.dumps({"model": "m", "messages": MESSAGES, **members}).encode()


def sent(request: Request, **options: Any) -> Any:
    return json.loads(pass_through(request, model="upstream-model", **options))


# --- requests ----------------------------------------------------------------------------------
def test_the_protocol_is_registered() -> None:
    assert registry.CALLERS["chat_completions"] is chat_completions
    assert registry.PROVIDERS["chat_completions"] is chat_completions


def test_a_small_request_is_read() -> None:
    request = parse(body_of())
    assert (request.model, request.stream, request.include_usage, request.max_tokens, request.n) == ("m", False, False, None, 1)
    assert (request.protocol, request.messages, request.user, request.metadata) == ("chat_completions", 1, None, None)


def test_all_that_the_gateway_reads_is_read() -> None:
    options = {"stream": True, "stream_options": {"include_usage": True, "x": 1}, "max_tokens": 7, "n": 3, "user": "u"}
    request = parse(body_of(**options, metadata={"team": "blue"}, stop=["a"], temperature=1))
    assert (request.stream, request.include_usage, request.max_tokens, request.n) == (True, True, 7, 3)
    assert (request.user, request.metadata) == ("u", {"team": "blue"})


def test_of_two_token_limits_the_larger_is_the_bound() -> None:
    assert parse(body_of(max_tokens=5, max_completion_tokens=9)).max_tokens == 9


@pytest.mark.parametrize(
    "name", ["stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "stop", "temperature", "tools"]
)
def test_an_explicit_null_is_the_same_as_absent(name: str) -> None:
    request, plain = parse(body_of(**{name: None})), parse(body_of())
    assert (request.stream, request.max_tokens, request.n) == (plain.stream, plain.max_tokens, plain.n)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"null", None),
        (b"[]", None),
        (b'"text"', None),
        (b'{"model":"m","messages":[{"role":"user","content":"x"}]} trailing', None),
        (b'{"model":"\xff","messages":[]}', None),
        (b'{"a":' + b"[" * 100_000, None),
        (rb'{"model":"m","messages":[{"role":"user","content":"\ud800"}', None),
        (rb'{"model":"m","messages":[{"role":"user","content":"x"}],"\ud800":1}', None),
        (b"{}", "model"),
        (b'{"messages":[{"role":"user","content":"x"}]}', "model"),
        (body_of(model=""), "model"),
        (body_of(model=None), "model"),
        (body_of(model=["m"]), "model"),
        (body_of(messages=None), "messages"),
        (body_of(messages=[]), "messages"),
        (body_of(messages="x"), "messages"),
        (body_of(messages={}), "messages"),
        (body_of(messages=["x"]), "messages[0]"),
        (body_of(messages=[*MESSAGES, {"content": "x"}]), "messages[1]"),
        (body_of(messages=[{"role": "robot", "content": "x"}]), "messages[0].role"),
        (body_of(messages=[{"role": 1, "content": "x"}]), "messages[0].role"),
        (body_of(messages=[{"role": "user", "content": 5}]), "messages[0].content"),
        (body_of(messages=[{"role": "user", "content": [5]}]), "messages[0].content[0]"),
        (body_of(stream="yes"), "stream"),
        (body_of(stream=1), "stream"),
        (body_of(stream_options=True), "stream_options"),
        (body_of(stream_options={"include_usage": 1}), "stream_options.include_usage"),
        (body_of(max_tokens="10"), "max_tokens"),
        (body_of(max_tokens=0), "max_tokens"),
        (body_of(max_tokens=-1), "max_tokens"),
        (body_of(max_tokens=1.5), "max_tokens"),
        (body_of(max_tokens=2**53 + 1), "max_tokens"),
        (body_of(max_completion_tokens=10**30), "max_completion_tokens"),
        (body_of(max_completion_tokens=True), "max_completion_tokens"),
        (body_of(n=0), "n"),
        (body_of(n=129), "n"),
        (body_of(stop=5), "stop"),
        (body_of(stop=[5]), "stop[0]"),
        (body_of(temperature="hot"), "temperature"),
        (body_of(tools={}), "tools"),
        (body_of(user=5), "user"),
        (body_of(metadata=[]), "metadata"),
    ],
)
def test_a_malformed_request_is_refused_with_its_place(body: bytes, param: str | None) -> None:
    with pytest.raises(BadRequest) as raised:
        parse(body)
    assert (raised.value.status, raised.value.code, raised.value.param) == (400, "invalid_request", param)


@given(st.binary(max_size=300))
def test_no_bytes_whatever_raise_anything_else(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=8).map(lambda name: f"x_{name}"), json_values, max_size=5), st.booleans())
def test_members_that_are_not_read_reach_the_provider_unchanged(extra: dict[str, Any], ascii_only: bool) -> None:
    body = json.dumps({"model": "m", "messages": MESSAGES, **extra}, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    request = parse(body)
    assert sent(request) == {"model": "upstream-model", "messages": MESSAGES, **extra}
    assert [name for name in request.fields if name.startswith("x_")] == list(extra)


def test_values_stay_byte_for_byte_with_their_spaces_and_escapes() -> None:
    body = rb'{ "model" : "m", "messages": [ {"content": "\u00e9\ud83d\ude00 \ud800", "role":"user"} ], "x": 1.50 }'
    result = pass_through(parse(body), model="z")
    assert rb'[ {"content": "\u00e9\ud83d\ude00 \ud800", "role":"user"} ]' in result
    assert b'"x":1.50' in result


@pytest.mark.parametrize("half", [rb"\ud800", rb"\uDBFF", rb"\udc00", rb"\ud83d\ud83d\ude00", rb"\\\ud800", rb"\ud800\n"])
def test_lone_surrogate_halves_survive(half: bytes) -> None:
    content = b'"before ' + half + b' after"'
    request = parse(b'{"model":"m","messages":[{"role":"user","content":' + content + b'}],"stop":' + content + b"}")
    assert pass_through(request, model="z").count(content) == 2


def test_of_a_member_given_twice_only_the_last_counts_and_is_sent() -> None:
    request = parse(b'{"max_tokens":1,"model":"a","messages":[{"role":"user","content":"x"}],"model":"b","max_tokens":9}')
    assert (request.model, request.max_tokens) == ("b", 9)
    assert pass_through(request, model="z").count(b'"max_tokens"') == 1


def test_a_stream_asks_the_provider_for_usage_and_keeps_the_other_options() -> None:
    assert sent(parse(body_of(stream=True)))["stream_options"] == {"include_usage": True}
    asked = body_of(stream=True, stream_options={"include_usage": False, "include_obfuscation": False})
    assert sent(parse(asked))["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    assert sent(parse(body_of(stream=True, stream_options=None)))["stream_options"] == {"include_usage": True}


def test_usage_is_not_asked_for_where_it_need_not_be() -> None:
    assert "stream_options" not in sent(parse(body_of()))
    assert "stream_options" not in sent(parse(body_of(stream=True)), quirks=Quirks(force_usage=False))


@pytest.mark.parametrize(
    ("given_limits", "expected"),
    [
        ({}, {"max_tokens": 4}),
        ({"max_tokens": 100}, {"max_tokens": 4}),
        ({"max_completion_tokens": 100}, {"max_completion_tokens": 4}),
        ({"max_tokens": 100, "max_completion_tokens": 50}, {"max_tokens": 4, "max_completion_tokens": 4}),
        ({"max_tokens": None, "max_completion_tokens": 50}, {"max_tokens": None, "max_completion_tokens": 4}),
    ],
)
def test_a_clamp_is_written_where_the_caller_set_its_limit(given_limits: dict[str, Any], expected: dict[str, Any]) -> None:
    result = sent(parse(body_of(**given_limits)), max_tokens=4)
    assert {name: value for name, value in result.items() if name.startswith("max_")} == expected


def test_a_clamp_without_a_callers_limit_goes_to_the_providers_field() -> None:
    result = sent(parse(body_of()), max_tokens=4, quirks=Quirks(max_tokens_field="max_completion_tokens"))
    assert result["max_completion_tokens"] == 4
    assert "max_tokens" not in result


def test_building_the_providers_body_leaves_the_request_as_it_was() -> None:
    request = parse(body_of(stream=True))
    before = dict(request.fields)
    pass_through(request, model="z", max_tokens=3)
    assert request.fields == before


# --- token estimate ----------------------------------------------------------------------------
@given(st.lists(st.text(max_size=200).filter(lambda text: "\\" not in text), min_size=1, max_size=5))
def test_the_estimate_is_what_the_texts_weigh_and_eight_for_each_message(texts: list[str]) -> None:
    messages = [{"role": "user", "content": text} for text in texts]
    request = parse(body_of(messages=messages))
    assert request.input_tokens_estimate >= sum(text_tokens(text.encode()) - 1 + 8 for text in texts)


def test_tools_and_schemas_count() -> None:
    plain = parse(body_of()).input_tokens_estimate
    tools = [{"type": "function", "function": {"name": "f", "description": "d" * 3000}}]
    assert parse(body_of(tools=tools)).input_tokens_estimate > plain + 1000
    assert parse(body_of(response_format={"x": "d" * 3000})).input_tokens_estimate > plain + 1000


@pytest.mark.parametrize("name", ["documents", "chat_template", "anything"])
def test_members_that_only_a_vendor_knows_may_be_part_of_the_prompt(name: str) -> None:
    plain, more = parse(body_of()), parse(body_of(**{name: ["word " * 1000]}))
    assert more.most_input >= plain.most_input + 1000
    assert more.input_tokens_estimate == plain.input_tokens_estimate


def test_openais_own_members_beside_the_prompt_weigh_nothing() -> None:
    assert CompletionCreateParamsBase.__annotations__.keys() | {"stream"} > chat_completions.NO_PROMPT
    prompt = {"messages", "tools", "functions", "response_format"}
    assert CompletionCreateParamsBase.__annotations__.keys() - chat_completions.NO_PROMPT == prompt
    beside = parse(body_of(metadata={"a": "b" * 5000}, logit_bias={"1": 2}, user="u" * 60, prediction={"content": "x" * 900}))
    assert beside.most_input == parse(body_of()).most_input


def test_a_picture_counts_flat_whatever_its_size() -> None:
    def estimate(url: str) -> Request:
        return parse(body_of(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]))

    inline, linked = estimate("data:image/png;base64," + "A" * 1_000_000), estimate("https://example.org/a.png")
    assert inline.image_parts == linked.image_parts == 1
    assert 3000 < inline.input_tokens_estimate < 3100
    assert 3000 < linked.input_tokens_estimate < 3100


def test_sound_counts_by_its_length_and_files_as_text() -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 128_000, "format": "mp3"}}
    request = parse(body_of(messages=[{"role": "user", "content": [sound, "and text"]}]))
    assert request.audio_parts == 1
    assert 1100 <= request.input_tokens_estimate < 1300
    spoken = parse(body_of(messages=[{"role": "assistant", "audio": {"id": "audio_1"}}, {"role": "user", "content": "Go on"}]))
    assert (spoken.audio_parts, spoken.text_only) == (1, False)
    assert spoken.input_tokens_estimate > 1200
    file = {"type": "file", "file": {"file_data": "A" * 30_000}}
    assert parse(body_of(messages=[{"role": "user", "content": [file]}])).input_tokens_estimate > 10_000


# --- whole answers -----------------------------------------------------------------------------
def reply_of(**members: Any) -> bytes:
    message = {"role": "assistant", "content": "Hi"}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return json.dumps({"id": "c1", "model": "served", "choices": choices, "usage": usage_of(10, 2), **members}).encode()


def usage(given_usage: Any) -> Usage | None:
    return read_reply(reply_of(usage=given_usage)).usage


def test_an_answer_is_read() -> None:
    reply = read_reply(reply_of())
    assert reply == Reply(Usage(input_uncached=10, output=2), ("stop",), 2, "c1", "served", True)


@pytest.mark.parametrize(
    ("given_usage", "expected"),
    [
        (usage_of(10, 2), Usage(10, output=2)),
        (usage_of(0, 0), Usage()),
        (usage_of(10, 2, prompt_tokens_details={"cached_tokens": 4}), Usage(6, 4, output=2)),
        (usage_of(10, 2, prompt_tokens_details={"cached_tokens": 4, "cache_write_tokens": 5}), Usage(1, 4, 5, output=2)),
        (usage_of(10, 2, prompt_tokens_details={"cached_tokens": None}), Usage(10, output=2)),
        (usage_of(10, 2, prompt_tokens_details=None), Usage(10, output=2)),
        (usage_of(10, 2, prompt_tokens_details={"cached_tokens": 99}), Usage(0, 10, output=2)),
        (usage_of(10, 2, prompt_cache_hit_tokens=7, prompt_cache_miss_tokens=3), Usage(3, 7, output=2)),
        (usage_of(10, 2, cached_tokens=7), Usage(3, 7, output=2)),
        (usage_of(10, 2, server_tool_use={"web_search_requests": 3}), Usage(10, output=2, units={"web_search": 3})),
        (usage_of(10, 2, server_tool_use={"web_search_requests": None}), Usage(10, output=2)),
        (usage_of(10, 2, server_tool_use=7), Usage(10, output=2)),
        (usage_of(10, 2, prompt_tokens_details=7, total_tokens={}), Usage(10, output=2)),
        (usage_of(10, 5, completion_tokens_details={"reasoning_tokens": 3}), Usage(10, output=5, reasoning=3)),
        (usage_of(10, 5, completion_tokens_details={"reasoning_tokens": 30}), Usage(10, output=5, reasoning=5)),
        (
            usage_of(
                100,
                90,
                prompt_tokens_details={"cached_tokens": 30, "audio_tokens": 50, "text_tokens": 20},
                completion_tokens_details={"audio_tokens": 70, "text_tokens": 20},
            ),
            Usage(20, 30, audio_input=50, output=20, audio_output=70),
        ),
        (usage_of(10, 5, prompt_tokens_details={"audio_tokens": 99}), Usage(0, audio_input=10, output=5)),
        (
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 346,
                "completion_tokens_details": {"reasoning_tokens": 305},
            },
            Usage(32, output=314, reasoning=305),
        ),
        ({"prompt_tokens": 10.0, "completion_tokens": 2.0}, Usage(10, output=2)),
        ({"prompt_tokens": 10, "total_tokens": 12}, Usage(10, output=2)),
        ({"prompt_tokens": -1, "completion_tokens": 2}, None),
        ({"prompt_tokens": 10, "completion_tokens": 10**15}, None),
        ({"prompt_tokens": True, "completion_tokens": 2}, None),
        ({"prompt_tokens": 10}, None),
        ({}, None),
        (None, None),
        ("10", None),
        ({"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": "none"}, Usage(10, output=2)),
    ],
)
def test_usage_is_read_into_disjoint_kinds(given_usage: Any, expected: Usage | None) -> None:
    assert usage(given_usage) == expected


@given(*[st.integers(0, 10**6)] * 5)
def test_input_and_output_always_add_up_to_what_was_reported(
    prompt: int, output: int, read: int, write: int, reasoning: int
) -> None:
    details = {"prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": write}}
    result = usage(
        {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            **details,
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }
    )
    assert result is not None
    assert (result.input_total, result.output_total) == (prompt, output)
    assert min(result.input_uncached, result.cache_read, result.cache_write_5m, result.reasoning) >= 0


@pytest.mark.parametrize(
    "message",
    [{"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}, {"refusal": "no"}, {"audio": {"data": "A"}}],
)
def test_calls_refusals_and_sound_are_output_too(message: dict[str, Any]) -> None:
    assert read_reply(reply_of(choices=[{"message": {"content": None, **message}}])).has_output


def test_an_answer_without_anything_has_no_output() -> None:
    reply = read_reply(
        reply_of(choices=[{"message": {"role": "assistant", "content": "", "audio": None}, "finish_reason": None}])
    )
    assert (reply.has_output, reply.finish_reasons, reply.text_length) == (False, (), 0)


def test_content_in_an_unexpected_shape_still_counts() -> None:
    choices = [
        {"index": 0, "message": {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]}, "finish_reason": "stop"}
    ]
    reply = read_reply(reply_of(choices=choices))
    assert (reply.has_output, reply.text_length, reply.usage) == (True, 2, Usage(10, output=2))


def test_an_answer_with_a_lone_surrogate_is_read() -> None:
    assert read_reply(reply_of().replace(b'"Hi"', rb'"Hi \ud800"')).has_output


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"null", b"[]", b"{}", b'{"choices":null}', b"\xff", b"[" * 100_000])
def test_what_is_no_answer_is_a_value_error_and_a_broken_attempt(body: bytes) -> None:
    with pytest.raises(ValueError, match="provider") as raised:
        read_reply(body)
    assert isinstance(raised.value, AttemptFailed)
    assert raised.value.kind == "broken"


def test_an_error_sent_with_200_is_a_failed_attempt() -> None:
    with pytest.raises(AttemptFailed) as raised:
        read_reply(b'{"error":{"message":"Slow down","code":429}}')
    assert (raised.value.kind, raised.value.status) == ("rate_limited", 429)


# --- streams -----------------------------------------------------------------------------------
def read(stream: bytes, *, every: int | None = None, **options: Any) -> tuple[StreamReader, list[Frame]]:
    reader = StreamReader(**options)
    size = every or len(stream) or 1
    found = [each for start in range(0, len(stream), size) for each in reader.feed(stream[start : start + size])]
    return reader, found + reader.flush()


def marks(found: list[Frame]) -> str:
    return "".join("d" if each.drop else "T" if each.terminal else "." for each in found)


def test_a_stream_is_tapped() -> None:
    reader, found = read(b"".join(frames("Hel", "lo")))
    assert (reader.text, reader.finish_reasons, reader.done, reader.has_output) == ("Hello", ("stop",), True, True)
    assert (reader.usage, reader.upstream_id, reader.model, reader.error) == (
        Usage(10, output=2),
        "chatcmpl-upstream",
        "served-model",
        None,
    )
    assert marks(found) == "...TdT"


def test_a_caller_who_asked_gets_the_usage_frame() -> None:
    _, found = read(b"".join(frames("Hel", "lo")), wants_usage=True)
    assert marks(found) == "...TTT"


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_a_stream_means_the_same_wherever_it_is_cut(end: bytes) -> None:
    stream = b": keep-alive\n\n" + "".join(["\u2028é"]).encode().join([b'data: {"choices":[{"delta":{"content":"', b'"}}]}\n\n'])
    stream = (stream + b"".join(frames("Hel", "lo"))).replace(b"\n\n", end)
    whole, expected = read(stream)
    for place in range(len(stream) + 1):
        reader = StreamReader()
        found = reader.feed(stream[:place]) + reader.feed(stream[place:]) + reader.flush()
        assert found == expected
        assert (reader.text, reader.usage, reader.done) == (whole.text, whole.usage, True)


@given(st.lists(st.text(max_size=20), max_size=5), st.integers(1, 40))
def test_all_bytes_come_out_as_they_went_in(texts: list[str], every: int) -> None:
    stream = b"".join(frames(*texts))
    reader, found = read(stream, every=every)
    assert b"".join(each.raw for each in found) == stream
    assert reader.text == "".join(texts)


@given(st.binary(max_size=200), st.integers(1, 40))
def test_no_bytes_whatever_raise(stream: bytes, every: int) -> None:
    _, found = read(b"data: " + stream, every=every)
    assert b"".join(each.raw for each in found) == b"data: " + stream


def test_reasoning_and_tool_arguments_are_text_that_was_received() -> None:
    calls = [{"index": 0, "id": "c", "function": {"name": "look", "arguments": ""}}]
    more = [{"index": 0, "function": {"arguments": '{"a":1}'}}]
    reader, _ = read(frame({"reasoning_content": "Hm. "}) + frame({"tool_calls": calls}) + frame({"tool_calls": more}))
    assert reader.text == 'Hm. look{"a":1}'
    assert reader.has_output


def test_with_several_choices_it_is_over_when_all_have_finished() -> None:
    stream = (
        frame({"content": "a"})
        + frame({}, finish="stop")
        + frame({"content": "b"}, index=1)
        + frame({}, finish="length", index=1)
    )
    reader, found = read(stream + DONE, n=2)
    assert marks(found) == "...TT"
    assert reader.finish_reasons == ("stop", "length")


def test_a_usage_frame_with_an_empty_choice_is_still_only_usage() -> None:
    stream = frame({"content": "a"}) + frame({}, finish="stop") + frame({}, usage=usage_of(1, 1)) + DONE
    reader, found = read(stream)
    assert marks(found) == ".TdT"
    assert reader.usage == Usage(1, output=1)


def test_usage_beside_the_finish_reason_or_running_with_every_chunk_is_not_dropped() -> None:
    stream = frame({"content": "a"}, usage=usage_of(1, 1)) + frame({}, finish="stop", usage=usage_of(1, 2)) + DONE
    reader, found = read(stream)
    assert marks(found) == ".TT"
    assert reader.usage == Usage(1, output=2)


def test_a_missing_last_blank_line_is_made_up_for() -> None:
    reader, found = read(b"".join(frames("a")).rstrip())
    assert reader.done
    assert found[-1].raw == b"data: [DONE]"


def test_an_error_in_the_middle_is_told() -> None:
    reader, found = read(
        frame({"content": "a"}) + b'data: {"error":{"message":"Overloaded sk-abcdefgh123","type":"overloaded_error"}}\n\n'
    )
    assert reader.error is not None
    assert (reader.error.kind, reader.error.message) == ("overloaded", "The provider reported an error: Overloaded [redacted]")
    assert found[-1].error is reader.error
    assert reader.text == "a"


@pytest.mark.parametrize("data", [b"{", b"<html>", b"5", b"[]"])
def test_an_event_that_is_not_json_breaks_the_stream_but_keeps_what_came_before(data: bytes) -> None:
    reader, found = read(frame({"content": "a"}) + b"data: " + data + b"\n\n")
    assert reader.error is not None
    assert reader.error.kind == "broken"
    assert [each.error is None for each in found] == [True, False]


def test_a_lone_surrogate_in_a_delta_does_not_end_the_stream() -> None:
    stream = rb'data: {"choices":[{"index":0,"delta":{"content":"a\ud83d"}}]}' + b"\n\n"
    reader, found = read(stream)
    assert (reader.text, found[0].raw, reader.error) == ("a\ufffd", stream, None)


def test_comments_pass() -> None:
    reader, found = read(b": OPENROUTER PROCESSING\n\n" + DONE)
    assert (len(found), reader.error, reader.done, reader.has_output) == (2, None, True, False)


# --- what the gateway answers ------------------------------------------------------------------
def test_an_error_is_rendered_in_openais_shape_with_our_details() -> None:
    error = BudgetExceeded("No.", detail={"level": "key", "limit": "5", "spent": "5", "ask": "https://example.org"})
    assert json.loads(chat_completions.render_error(error, request_id="req_1")) == {
        "error": {
            "message": "No.",
            "type": "insufficient_quota",
            "param": None,
            "code": "budget_exceeded",
            "gatehouse": {
                "code": "budget_exceeded",
                "level": "key",
                "limit": "5",
                "spent": "5",
                "ask": "https://example.org",
                "request_id": "req_1",
            },
        }
    }


def test_a_kept_provider_code_leaves_ours_beside_it() -> None:
    rendered = json.loads(chat_completions.render_error(BadRequest("x", code="context_length_exceeded"), request_id="r"))
    assert (rendered["error"]["code"], rendered["error"]["gatehouse"]["code"]) == ("context_length_exceeded", "invalid_request")


def test_a_message_with_a_broken_character_can_be_rendered() -> None:
    assert b"bad ?" in chat_completions.render_error(BadRequest("bad \ud800"), request_id="r")


def test_a_stream_error_is_one_frame_that_the_reader_takes_for_an_error() -> None:
    rendered = chat_completions.render_stream_error(RateLimitExceeded(), request_id="r")
    reader, found = read(rendered)
    assert len(found) == 1
    assert reader.error is not None
    assert b"[DONE]" not in rendered


@pytest.mark.parametrize(
    "members",
    [
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_data": "https://example.com/a.pdf"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "https://example.com/v"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": "gs://bucket/v.mp4"}]}]},
        {"web_search_options": {}},
        {"tools": [{"type": "openrouter:web_search"}]},
        {"tools": [{"google_search": {}}]},
        {"plugins": [{"id": "file-parser"}, {"id": "web", "max_results": 3}]},
        {"search_parameters": {}},
        {"search_parameters": {"mode": "on"}},
        {"enable_search": True},
        {"web_search": True},
        {"web_search": {"enable": True}},
    ],
)
def test_what_only_the_provider_sees_is_reserved_for_and_is_nothing_that_was_sent(members: dict[str, Any]) -> None:
    assert parse(body_of(**members)).most_input >= 25_000
    assert parse(body_of(**members)).input_tokens_estimate < 200


@pytest.mark.parametrize(
    "members",
    [
        {"plugins": [{"id": "web", "enabled": False}]},
        {"plugins": [{"id": "response-healing"}]},
        {"plugins": "web"},
        {"plugins": None},
        {"search_parameters": {"mode": "off"}},
        {"search_parameters": None},
        {"enable_search": False},
        {"web_search": False},
        {"web_search": {"enable": False}},
        {"tools": [{"function": {"name": "f"}}]},
        {"tools": [{"type": "web_search", "web_search": {"enable": False}}]},
    ],
)
def test_a_search_that_is_turned_off_is_not_held_for(members: dict[str, Any]) -> None:
    request = parse(body_of(**members))
    assert request.most_input < 300
    assert not request.reserve_units
