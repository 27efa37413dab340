"""Google's native protocol: what a conversation becomes, and what an answer or a stream says."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from proxy.canonical.answer import (
    Choice,
    Delta,
    Finished,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStarted,
)
from proxy.canonical.conversation import (
    Audio,
    Conversation,
    File,
    Format,
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from proxy.canonical.joining import choices_of
from proxy.canonical.usage import Usage
from proxy.errors import AttemptFailed, BadRequest
from proxy.health import reports
from proxy.protocols import gemini
from proxy.protocols.base import BrokenReply, Quirks
from proxy.protocols.gemini_replies import StreamReader

WEATHER = Tool("weather", "Says the weather.", Raw(b'{"type":"object","properties":{"city":{"type":"string"}}}'))
FLASH, PRO, THREE, THREE_PRO = "gemini-2.5-flash", "gemini-2.5-pro", "gemini-3-flash-preview", "gemini-3.1-pro-preview"


def user(*parts: Part) -> Message:
    return Message("user", parts)


def assistant(*parts: Part) -> Message:
    return Message("assistant", parts)


def tool(*parts: Part) -> Message:
    return Message("tool", parts)


def written(*messages: Message, model: str = FLASH, max_tokens: int | None = None, **members: Any) -> Any:
    conversation = Conversation(messages=messages or (user(Text("Hi")),), **members)
    body = gemini.write_request(conversation, model=model, stream=False, max_tokens=max_tokens, quirks=Quirks()).body
    return json.loads(body)


# --- requests ----------------------------------------------------------------------------------
def test_the_path_names_the_model_and_how_to_answer() -> None:
    assert gemini.path(FLASH, stream=False) == "/models/gemini-2.5-flash:generateContent"
    assert gemini.path("a/b c", stream=True) == "/models/a%2Fb%20c:streamGenerateContent?alt=sse"


def test_a_plain_conversation_takes_turns_and_sets_the_system_apart() -> None:
    body = written(
        Message("system", (Text("Be brief."),)),
        user(Text("One")),
        user(Text(""), Text("Two")),
        assistant(Thinking("hm", "signed by somebody"), Text("Three"), Refusal("no")),
        Message("system", (Text("Be kind."),)),
        user(Text("Four")),
    )

    assert body == {
        "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "One"}, {"text": "Two"}]},
            {"role": "model", "parts": [{"text": "Three"}, {"text": "no"}]},
            {"role": "user", "parts": [{"text": "Four"}]},
        ],
    }


def test_a_system_message_alone_is_asked_as_a_user() -> None:
    assert written(Message("system", (Text("Say hello."),))) == {
        "contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]
    }


def test_pictures_sounds_and_files_are_sent_inline() -> None:
    body = written(
        user(Image("image/jpg", "QUJD"), Audio("wav", "REVG"), File("text/csv", "R0hJ", name="a.csv"), File(data="eA=="))
    )

    assert [part["inlineData"] for part in body["contents"][0]["parts"]] == [
        {"mimeType": "image/jpeg", "data": "QUJD"},
        {"mimeType": "audio/wav", "data": "REVG"},
        {"mimeType": "text/csv", "data": "R0hJ"},
        {"mimeType": "application/pdf", "data": "eA=="},
    ]


def test_what_google_keeps_itself_is_named_by_its_address() -> None:
    uri = "gs://bucket/cat.png"
    assert written(user(Image("image/png", url=uri)))["contents"][0]["parts"] == [
        {"fileData": {"mimeType": "image/png", "fileUri": uri}}
    ]


@pytest.mark.parametrize(
    "part",
    [
        Image(url="https://example.com/cat.png"),
        Image(url="https://generativelanguage.googleapis.com.example/cat.png"),
        Image(url="http://169.254.169.254/latest/meta-data"),
        File(url="https://example.com/a.pdf"),
        File(file_id="file-123"),
    ],
)
def test_nothing_is_fetched_for_a_caller(part: Part) -> None:
    with pytest.raises(BadRequest) as refused:
        written(user(part))
    assert refused.value.param == "messages"


def test_tools_and_their_schemas_go_as_they_came() -> None:
    spaced = Raw(b'{ "type" : "object",  "properties": {"b": {}, "a": {}} }')
    conversation = Conversation(messages=(user(Text("x")),), tools=(Tool("f", None, spaced, strict=True), Tool("g")))
    body = gemini.write_request(conversation, model=FLASH, stream=True, max_tokens=None, quirks=Quirks()).body

    assert bytes(spaced) in body
    declared = json.loads(body)["tools"][0]["functionDeclarations"]
    assert [set(entry) for entry in declared] == [{"name", "parametersJsonSchema"}, {"name"}]


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        (ToolChoice("auto"), {"mode": "AUTO"}),
        (ToolChoice("none"), {"mode": "NONE"}),
        (ToolChoice("required"), {"mode": "ANY"}),
        (ToolChoice("tool", "weather"), {"mode": "ANY", "allowedFunctionNames": ["weather"]}),
    ],
)
def test_the_choice_of_a_tool(choice: ToolChoice, config: dict[str, Any]) -> None:
    assert written(tools=(WEATHER,), tool_choice=choice)["toolConfig"] == {"functionCallingConfig": config}
    assert "toolConfig" not in written(tool_choice=choice)


def test_results_answer_by_the_name_of_the_call_and_stand_first() -> None:
    body = written(
        user(Text("Weather?")),
        assistant(ToolUse("call_1", "weather", '{"city":"Bern"}', "c2lnbmVk"), ToolUse("call_2", "clock", "")),
        tool(ToolResult("call_2", (Text("no"), Text("clock")), is_error=True)),
        tool(ToolResult("call_1", (Text("sunny"), Image("image/png", "QUJD")))),
        user(Text("And now?")),
    )

    _, called, answered = body["contents"]
    assert called["parts"] == [
        {"functionCall": {"id": "call_1", "name": "weather", "args": {"city": "Bern"}}, "thoughtSignature": "c2lnbmVk"},
        {"functionCall": {"id": "call_2", "name": "clock", "args": {}}},
    ]
    assert answered["parts"] == [
        {"functionResponse": {"id": "call_2", "name": "clock", "response": {"error": "no\nclock"}}},
        {"functionResponse": {"id": "call_1", "name": "weather", "response": {"output": "sunny"}}},
        {"inlineData": {"mimeType": "image/png", "data": "QUJD"}},
        {"text": "And now?"},
    ]


def test_a_result_without_its_call_is_refused() -> None:
    with pytest.raises(BadRequest, match="no tool call"):
        written(user(Text("x")), tool(ToolResult("call_9", (Text("y"),))))


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ("", {}),
        (" {} ", {}),
        ('{"a": [1, 2.50]}', {"a": [1, 2.5]}),
        ("{broken", {"unreadable_arguments": "{broken"}),
        ("[1]", {"unreadable_arguments": "[1]"}),
        ('"text"', {"unreadable_arguments": '"text"'}),
        ("null", {"unreadable_arguments": "null"}),
    ],
)
def test_arguments_become_an_object_whatever_a_model_wrote(arguments: str, sent: Any) -> None:
    body = written(user(Text("x")), assistant(ToolUse("c", "f", arguments)))
    assert body["contents"][1]["parts"][0]["functionCall"]["args"] == sent


def test_gemini_3_is_told_where_a_call_has_no_signature() -> None:
    history = (user(Text("x")), assistant(Text("y"), ToolUse("a", "f", "{}"), ToolUse("b", "f", "{}")))

    for model in (THREE, THREE_PRO):
        first, second = written(*history, model=model)["contents"][1]["parts"][1:]
        assert first["thoughtSignature"] == gemini.NO_SIGNATURE
        assert "thoughtSignature" not in second
    assert "thoughtSignature" not in written(*history, model=FLASH)["contents"][1]["parts"][1]


def test_a_result_answers_the_latest_call_of_its_id() -> None:
    turns = [
        part
        for name in ("f", "g")
        for part in (user(Text("x")), assistant(ToolUse("call_0", name, "{}")), tool(ToolResult("call_0", (Text(name),))))
    ]
    parts = [part for content in written(*turns)["contents"] for part in content["parts"]]
    answered = [part["functionResponse"] for part in parts if "functionResponse" in part]
    assert [(one["name"], one["response"]) for one in answered] == [("f", {"output": "f"}), ("g", {"output": "g"})]


def test_a_signature_of_its_own_is_never_replaced() -> None:
    body = written(user(Text("x")), assistant(ToolUse("a", "f", "{}", "c2ln")), model=THREE)
    assert body["contents"][1]["parts"][0]["thoughtSignature"] == "c2ln"


def test_settings() -> None:
    body = written(
        model="gemini-2.0-flash",
        max_tokens=100,
        temperature=0.0,
        top_p=0.5,
        top_k=3,
        stop=("a", "b"),
        seed=7,
        n=2,
        frequency_penalty=0.1,
        presence_penalty=0.2,
        logprobs=True,
        top_logprobs=5,
        logit_bias=Raw(b'{"1":2}'),
        parallel_tools=False,
        user="u",
        format=Format("schema", "s", Raw(b'{"type":"object"}'), True),
    )

    assert body["generationConfig"] == {
        "maxOutputTokens": 100,
        "temperature": 0.0,
        "topP": 0.5,
        "topK": 3,
        "stopSequences": ["a", "b"],
        "seed": 7,
        "candidateCount": 2,
        "frequencyPenalty": 0.1,
        "presencePenalty": 0.2,
        "responseLogprobs": True,
        "logprobs": 5,
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object"},
    }
    assert set(body) == {"contents", "generationConfig"}


@pytest.mark.parametrize("model", [FLASH, THREE, "gemini-3.8-flash", "gemini-4-argon"])
def test_penalties_are_named_where_they_would_be_refused(model: str) -> None:
    """`Penalty is not enabled for this model`, and Gemini 4 gives one candidate: https://github.com/BerriAI/litellm/pull/32273"""
    conversation = Conversation(messages=(user(Text("x")),), frequency_penalty=0.1, presence_penalty=0.2)
    request = gemini.write_request(conversation, model=model, stream=False, max_tokens=None, quirks=Quirks())
    assert "generationConfig" not in json.loads(request.body)
    assert set(request.unsaid) == {"frequency_penalty", "presence_penalty"}


def test_several_answers_are_left_to_models_that_give_them() -> None:
    assert written(model="gemini-3.8-flash", n=2)["generationConfig"]["candidateCount"] == 2
    with pytest.raises(BadRequest) as refused:
        written(model="gemini-4-argon", n=2)
    assert refused.value.param == "n"


def test_the_caller_s_own_bound_gives_way_to_what_was_reserved() -> None:
    conversation = Conversation(messages=(user(Text("x")),), max_tokens=500)
    body = gemini.write_request(conversation, model=FLASH, stream=False, max_tokens=64, quirks=Quirks()).body
    assert json.loads(body)["generationConfig"]["maxOutputTokens"] == 64


def test_json_of_any_kind_has_no_schema() -> None:
    assert written(format=Format("json"))["generationConfig"] == {"responseMimeType": "application/json"}


@pytest.mark.parametrize(
    ("model", "reasoning", "config"),
    [
        (FLASH, Reasoning("none"), {"thinkingBudget": 0}),
        (FLASH, Reasoning("medium", visible=True), {"includeThoughts": True, "thinkingBudget": 8192}),
        (FLASH, Reasoning(budget_tokens=31_999), {"thinkingBudget": 24_576}),
        (PRO, Reasoning("none"), {"thinkingBudget": 128}),
        (PRO, Reasoning(budget_tokens=31_999), {"thinkingBudget": 31_999}),
        (PRO, Reasoning(budget_tokens=99_999), {"thinkingBudget": 32_768}),
        (PRO, Reasoning(visible=True), {"includeThoughts": True}),
        (THREE, Reasoning("none"), {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.5-flash-lite", Reasoning("none"), {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.7-flash", Reasoning("none"), {"thinkingLevel": "LOW"}),
        ("gemini-3.8-flash", Reasoning("minimal"), {"thinkingLevel": "LOW"}),
        ("gemini-4-argon", Reasoning("none"), {"thinkingLevel": "LOW"}),
        (THREE, Reasoning("max"), {"thinkingLevel": "HIGH"}),
        (THREE_PRO, Reasoning("minimal"), {"thinkingLevel": "LOW"}),
        (THREE_PRO, Reasoning("medium"), {"thinkingLevel": "MEDIUM"}),
        (THREE, Reasoning(budget_tokens=1024), {"thinkingLevel": "LOW"}),
        (THREE, Reasoning(budget_tokens=8000), {"thinkingLevel": "MEDIUM"}),
        (THREE, Reasoning(budget_tokens=31_999, visible=True), {"includeThoughts": True, "thinkingLevel": "HIGH"}),
        (THREE, Reasoning(visible=True), {"includeThoughts": True}),
        ("somebody-s-own", Reasoning("low"), {"thinkingBudget": 1024}),
    ],
)
def test_thought_is_bounded_as_the_model_s_generation_takes_it(model: str, reasoning: Reasoning, config: dict[str, Any]) -> None:
    assert written(model=model, reasoning=reasoning)["generationConfig"]["thinkingConfig"] == config


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
USES = st.builds(ToolUse, st.sampled_from(["a", "b", "c"]), st.sampled_from(["f", "g"]), st.just("{}"))
MESSAGES = st.one_of(
    st.builds(lambda text: user(Text(text)), TEXTS),
    st.builds(lambda text, uses: assistant(Text(text), *uses), TEXTS, st.lists(USES, max_size=3)),
    st.builds(lambda text: Message("system", (Text(text),)), TEXTS),
)


@given(st.lists(MESSAGES, max_size=8), st.sampled_from([FLASH, THREE]))
def test_any_conversation_becomes_turns_that_gemini_takes(messages: list[Message], model: str) -> None:
    answers = [tool(ToolResult(part.id, (Text("r"),))) for said in messages for part in said.parts if isinstance(part, ToolUse)]

    contents = written(*messages, *answers, user(Text("go on")), model=model)["contents"]

    roles = [content["role"] for content in contents]
    assert all(one != other for one, other in pairwise(roles))
    assert all(content["parts"] and all(part.get("text") != "" for part in content["parts"]) for content in contents)
    calls = [part for content in contents for part in content["parts"] if "functionCall" in part]
    responses = [part for content in contents for part in content["parts"] if "functionResponse" in part]
    assert len(calls) == len(responses)
    said = "".join(part.get("text", "") for content in contents if content["role"] == "model" for part in content["parts"])
    assert said == "".join(p.text for m in messages if m.role == "assistant" for p in m.parts if isinstance(p, Text))


# --- answers -----------------------------------------------------------------------------------
USAGE = {"promptTokenCount": 10, "candidatesTokenCount": 5, "thoughtsTokenCount": 20, "totalTokenCount": 35}


def event(*parts: dict[str, Any], finish: str | None = None, index: int = 0, **members: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"index": index}
    if parts:
        candidate["content"] = {"role": "model", "parts": list(parts)}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "modelVersion": "gemini-2.5-flash", "responseId": "r1", **members}


def whole(*parts: dict[str, Any], finish: str | None = "STOP", **members: Any) -> bytes:
    return json.dumps(event(*parts, finish=finish, **members), indent=2, ensure_ascii=False).encode()


def call(name: str, id: str | None = None, **args: Any) -> dict[str, Any]:
    return {"functionCall": {"name": name, "args": args} | ({"id": id} if id else {})}


def test_an_answer_is_read_with_thought_text_and_usage() -> None:
    body = whole({"text": "hm", "thought": True}, {"text": "Hel"}, {"text": "lo"}, usageMetadata=USAGE)

    answer, reply = gemini.read_answer(body), gemini.read_reply(body)

    assert answer.choices == (Choice((Thinking("hm"), Text("Hello")), "stop"),)
    assert (answer.id, answer.model) == ("r1", "gemini-2.5-flash")
    assert answer.usage == reply.usage == Usage(input_uncached=10, output=25, reasoning=20)
    assert (reply.finish_reasons, reply.text_length, reply.has_output) == (("stop",), 7, True)


def test_calls_of_one_answer_are_all_kept_and_end_it_as_tool_calls() -> None:
    body = whole({**call("f", a=1), "thoughtSignature": "c2ln"}, call("f", a=2), call("g", "given"))

    (choice,) = gemini.read_answer(body).choices

    first, second, third = choice.parts
    assert isinstance(first, ToolUse)
    assert isinstance(second, ToolUse)
    assert (first.name, first.arguments, first.signature) == ("f", '{"a":1}', "c2ln")
    assert (second.arguments, second.signature) == ('{"a":2}', None)
    assert third == ToolUse("given", "g", "{}")
    assert first.id != second.id
    assert choice.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("SPII", "content_filter"),
        ("IMAGE_SAFETY", "content_filter"),
        ("OTHER", "stop"),
        ("SOMETHING_NEW", "stop"),
    ],
)
def test_finish_reasons(theirs: str, ours: str) -> None:
    assert gemini.read_reply(whole({"text": "x"}, finish=theirs)).finish_reasons == (ours,)


@pytest.mark.parametrize("said", [(), ({"text": "I'll look."},)])
@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("MALFORMED_FUNCTION_CALL", "unmade_call"),
        ("UNEXPECTED_TOOL_CALL", "unmade_call"),
        ("TOO_MANY_TOOL_CALLS", "unmade_call"),
        ("MISSING_THOUGHT_SIGNATURE", "unmade_call"),
        ("MALFORMED_RESPONSE", "broken"),
    ],
)
def test_a_call_that_the_model_failed_to_make_is_no_answer(reason: str, kind: str, said: tuple[dict[str, Any], ...]) -> None:
    """Who is told `stop` takes the task for done: https://github.com/NousResearch/hermes-agent/pull/83886"""
    with pytest.raises(AttemptFailed, match=reason):
        gemini.read_answer(whole(*said, finish=reason))

    reader, counted = gemini.reader(), {"promptTokenCount": 10, "candidatesTokenCount": 900, "totalTokenCount": 910}
    last = event(*said, finish=reason) | {"usageMetadata": counted}
    (frame,) = reader.feed(b"data: " + json.dumps(last).encode() + b"\r\n\r\n")
    assert frame.error is not None
    assert (frame.error.kind, frame.error.retryable) == (kind, True)
    assert reports.counts(frame.error) is (kind == "broken")  # the tools are the caller's
    assert reader.usage == Usage(input_uncached=10, output=900)


def test_a_cut_answer_with_a_call_is_cut() -> None:
    assert gemini.read_reply(whole(call("f"), finish="MAX_TOKENS")).finish_reasons == ("length",)


def test_a_blocked_prompt_is_an_answer_without_words() -> None:
    body = json.dumps({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}}).encode()

    assert gemini.read_answer(body).choices == (Choice((), "content_filter"),)
    assert gemini.read_reply(body).has_output is False


def test_log_probabilities_read_as_openai_writes_them() -> None:
    result = {
        "chosenCandidates": [{"token": "é", "tokenId": 1, "logProbability": -0.5}],
        "topCandidates": [{"candidates": [{"token": "é", "logProbability": -0.5}, {"token": "e", "logProbability": -2}]}],
    }
    answer = event({"text": "é"}, finish="STOP")
    answer["candidates"][0]["logprobsResult"] = result

    (choice,) = gemini.read_answer(json.dumps(answer).encode()).choices

    assert choice.logprobs is not None
    (token,) = json.loads(bytes(choice.logprobs))["content"]
    assert (token["token"], token["logprob"], token["bytes"]) == ("é", -0.5, [195, 169])
    assert [other["token"] for other in token["top_logprobs"]] == ["é", "e"]


@pytest.mark.parametrize("body", [b"", b"nothing", b"[]", b"{}", b'{"candidates": "x"}', b"\xff{", b"<html>", b"[" * 100_000])
def test_what_is_no_answer_is_broken(body: bytes) -> None:
    with pytest.raises(BrokenReply):
        gemini.read_reply(body)


def test_an_error_object_is_a_failure() -> None:
    body = b'{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}'
    for read in (gemini.read_reply, gemini.read_answer):
        with pytest.raises(AttemptFailed) as failed:
            read(body)
        assert failed.value.kind == "overloaded"


def test_lone_surrogates_are_read() -> None:
    body = rb'{"candidates":[{"content":{"parts":[{"text":"a\ud83d"}]},"finishReason":"STOP"}]}'
    assert gemini.read_answer(body).choices[0].parts == (Text("a\ufffd"),)


# --- usage -------------------------------------------------------------------------------------
def usage(**metadata: Any) -> Usage | None:
    return gemini.read_reply(whole({"text": "x"}, usageMetadata=metadata)).usage


COUNTS = st.integers(0, 10**6)


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, st.booleans(), st.booleans())
def test_usage_adds_up_in_either_convention(
    prompt: int, cached: int, candidates: int, thoughts: int, tools: int, thoughts_inside: bool, total_told: bool
) -> None:
    """By hand: what was billed is prompt and tool results going in, candidates and thought coming out, each once."""
    cached = min(cached, prompt)
    told = {
        "promptTokenCount": prompt,
        "cachedContentTokenCount": cached,
        "candidatesTokenCount": candidates + thoughts if thoughts_inside and total_told else candidates,
        "thoughtsTokenCount": thoughts,
        "toolUsePromptTokenCount": tools,
    }
    if total_told:
        told["totalTokenCount"] = prompt + tools + candidates + thoughts

    found = usage(**told)

    assert found == Usage(
        input_uncached=prompt - cached + tools, cache_read=cached, output=candidates + thoughts, reasoning=thoughts
    )
    assert found.total == prompt + tools + candidates + thoughts


def test_pictures_and_sounds_are_told_apart_less_what_was_cached() -> None:
    found = usage(
        promptTokenCount=1000,
        cachedContentTokenCount=300,
        candidatesTokenCount=1300,
        totalTokenCount=2300,
        promptTokensDetails=[
            {"modality": "TEXT", "tokenCount": 500},
            {"modality": "IMAGE", "tokenCount": 258},
            {"modality": "AUDIO", "tokenCount": 242},
        ],
        cacheTokensDetails=[{"modality": "TEXT", "tokenCount": 200}, {"modality": "AUDIO", "tokenCount": 100}],
        candidatesTokensDetails=[{"modality": "IMAGE", "tokenCount": 1290}],
    )

    assert found == Usage(input_uncached=300, cache_read=300, image_input=258, audio_input=142, output=10, image_output=1290)
    assert found.total == 2300


@given(st.dictionaries(st.sampled_from([*USAGE, "cachedContentTokenCount", "promptTokensDetails"]), st.one_of(
    st.none(), st.integers(-5, 10**12), st.text(max_size=3), st.floats(allow_nan=False, allow_infinity=False),
    st.just([{"modality": "AUDIO", "tokenCount": 10**6}]),
)))  # fmt: skip
def test_nonsense_never_makes_a_negative_bill(metadata: dict[str, Any]) -> None:
    if not isinstance(metadata.get("promptTokensDetails", []), list | None):
        metadata.pop("promptTokensDetails")
    found = usage(**metadata)
    assert found is None or min(msgspec.structs.astuple(found)[:10]) >= 0


# --- streams -----------------------------------------------------------------------------------
def sse(*events: dict[str, Any], end: str = "\r\n\r\n") -> bytes:
    return b"".join(b"data: " + json.dumps(each, ensure_ascii=False).encode() + end.encode() for each in events)


def read(*chunks: bytes, n: int = 1) -> tuple[StreamReader, list[Delta]]:
    reader = gemini.reader(n=n)
    frames = [frame for chunk in chunks for frame in reader.feed(chunk)] + reader.flush()
    assert not any(frame.error for frame in frames)
    assert b"".join(frame.raw for frame in frames) == b"".join(chunks)
    return reader, [delta for frame in frames for delta in frame.deltas]


TURN = (
    event({"text": "Let me ", "thought": True}, usageMetadata={"promptTokenCount": 10, "totalTokenCount": 12}),
    event({"text": "see ü\u2028", "thought": True}),
    event({"text": "Asking."}),
    event({**call("f", "a", city="Zürich"), "thoughtSignature": "c2ln"}, call("g", "b")),
    event({"text": ""}, finish="STOP", usageMetadata=USAGE),
)
TOLD: list[Delta] = [
    Started("r1", "gemini-2.5-flash"),
    ThinkingDelta("Let me "),
    ThinkingDelta("see ü\u2028"),
    TextDelta("Asking."),
    ToolStarted(0, "a", "f", "c2ln"),
    ToolDelta(0, '{"city":"Zürich"}'),
    ToolStarted(1, "b", "g"),
    ToolDelta(1, "{}"),
    Finished("tool_calls"),
]


@pytest.mark.parametrize("end", ["\r\n\r\n", "\n\n"])
def test_a_stream_says_the_same_wherever_it_is_cut(end: str) -> None:
    stream = sse(*TURN, end=end)
    for cut in range(len(stream) + 1):
        reader, deltas = read(stream[:cut], stream[cut:])
        assert deltas == TOLD
        assert reader.usage == Usage(input_uncached=10, output=25, reasoning=20)
    assert (reader.finish_reasons, reader.all_finished, reader.has_output) == (("tool_calls",), True, True)
    assert (reader.upstream_id, reader.model) == ("r1", "gemini-2.5-flash")
    assert reader.text_length == sum(
        len(text) for text in ("Let me ", "see ü\u2028", "Asking.", "f", '{"city":"Zürich"}', "g", "{}")
    )


def test_the_last_event_may_lack_its_blank_line() -> None:
    reader, deltas = read(sse(*TURN).rstrip())
    assert deltas == TOLD
    assert reader.all_finished


def test_only_what_ends_the_answer_is_held_back() -> None:
    frames = gemini.reader().feed(sse(*TURN))
    assert [frame.terminal for frame in frames] == [False] * 4 + [True]


def test_usage_on_the_way_is_marked_as_incomplete() -> None:
    reader = gemini.reader()
    reader.feed(sse(TURN[0]))
    assert reader.usage == Usage(input_uncached=10, output=2, estimated=True)


def test_a_stream_that_breaks_off_has_not_ended() -> None:
    reader, _ = read(sse(*TURN[:3]))
    assert (reader.finish_reasons, reader.done) == ((), False)


def test_choices_are_told_apart() -> None:
    reader, deltas = read(
        sse(
            event({"text": "a"}),
            event({"text": "b"}, call("f", "x"), index=1),
            event(finish="STOP", index=1),
            event({"text": "c"}, finish="MAX_TOKENS"),
        ),
        n=2,
    )
    assert choices_of(deltas) == (Choice((Text("ac"),), "length"), Choice((Text("b"), ToolUse("x", "f", "{}")), "tool_calls"))
    assert reader.all_finished


def test_a_blocked_prompt_ends_the_stream() -> None:
    reader, deltas = read(
        sse({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 4}})
    )
    assert deltas == [Started(), Finished("content_filter")]
    assert (reader.has_output, reader.usage) == (False, Usage(input_uncached=4))


def test_a_drawn_picture_counts_as_output() -> None:
    reader, _ = read(sse(event({"inlineData": {"mimeType": "image/png", "data": "QUJD"}})))
    assert reader.has_output


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (b'{"error":{"code":429,"message":"Slow down.","status":"RESOURCE_EXHAUSTED"}}', "rate_limited"),
        (b'{"error":{"code":503,"message":"Busy.","status":"UNAVAILABLE"}}', "overloaded"),
        (b'[{"error":{"code":500,"message":"Oh.","status":"INTERNAL"}}]', "broken"),
        (b"<html>", "broken"),
        (b'{"candidates":[{"content":{"parts":[{"text":5}]}}]}', "broken"),
    ],
)
def test_an_event_that_is_an_error_or_nothing_fails_the_stream(payload: bytes, kind: str) -> None:
    reader = gemini.reader()
    frames = reader.feed(sse(TURN[2]) + b"data: " + payload + b"\n\n")
    assert frames[0].error is None
    assert frames[-1].error is not None
    assert frames[-1].error.kind == kind


PARTS = st.one_of(
    st.builds(lambda text: {"text": text}, TEXTS),
    st.builds(lambda text: {"text": text, "thought": True}, TEXTS),
    st.builds(lambda at, text: call("f", f"id{at}", a=text), st.uuids(), TEXTS),
)


@given(st.lists(st.lists(PARTS, max_size=3), max_size=6), st.integers(1, 400))
def test_deltas_joined_are_the_whole_answer(events: list[list[dict[str, Any]]], size: int) -> None:
    stream = sse(*(event(*parts) for parts in events), event(finish="STOP"))

    _, deltas = read(*(stream[at : at + size] for at in range(0, len(stream), size)))

    answer = gemini.read_answer(whole(*(part for parts in events for part in parts)))
    assert choices_of(deltas) == answer.choices


def test_log_probabilities_come_with_their_event() -> None:
    told = event({"text": "a"})
    told["candidates"][0]["logprobsResult"] = {"chosenCandidates": [{"token": "a", "logProbability": -1}]}
    _, deltas = read(sse(told))
    assert isinstance(deltas[1], TextDelta)
    assert deltas[1].logprobs is not None
