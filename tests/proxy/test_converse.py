"""Amazon Bedrock's Converse: what a conversation becomes, and what an answer or an event stream says."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from proxy.canonical.answer import (
    Choice,
    Delta,
    Finished,
    SignatureDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStarted,
)
from proxy.canonical.conversation import (
    Audio,
    CacheMark,
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
from proxy.errors import BadRequest
from proxy.protocols import claude_models, converse, messages
from proxy.protocols.base import BrokenReply, Quirks
from proxy.protocols.converse_replies import StreamReader
from tests.proxy.event_streams import event, events, exception

CLAUDE, CLAUDE_4_5 = "global.anthropic.claude-opus-4-8", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA, GPT = "us.amazon.nova-2-lite-v1:0", "openai.gpt-oss-120b-1:0"
WEATHER = Tool("weather", "Says the weather.", Raw(b'{"type":"object","properties":{"city":{"type":"string"}}}'))


def user(*parts: Part) -> Message:
    return Message("user", parts)


def assistant(*parts: Part) -> Message:
    return Message("assistant", parts)


def tool(*parts: Part) -> Message:
    return Message("tool", parts)


def written(*messages: Message, model: str = NOVA, max_tokens: int | None = None, **members: Any) -> Any:
    conversation = Conversation(messages=messages or (user(Text("Hi")),), **members)
    body = converse.write_request(conversation, model=model, stream=False, max_tokens=max_tokens, quirks=Quirks()).body
    return json.loads(body)


# --- requests ----------------------------------------------------------------------------------
def test_the_path_holds_the_model_s_id_encoded() -> None:
    assert converse.path("anthropic.claude-x-v1:0", stream=False) == "/model/anthropic.claude-x-v1:0/converse"
    arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-pro-v1:0"
    assert converse.path(arn, stream=True) == (
        "/model/arn:aws:bedrock:us-east-1:123456789012:inference-profile%2Fus.amazon.nova-pro-v1:0/converse-stream"
    )


def test_a_plain_conversation_takes_turns_and_sets_the_system_apart() -> None:
    body = written(
        Message("system", (Text("Be brief."),)),
        user(Text("One")),
        user(Text(""), Text("Two")),
        assistant(Thinking("unsigned"), Thinking("of others", "oai1.rs_1.x"), Text("Three"), Refusal("no")),
        user(Text("Four")),
    )

    assert body == {
        "system": [{"text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [{"text": "One"}, {"text": "Two"}]},
            {"role": "assistant", "content": [{"text": "Three"}, {"text": "no"}]},
            {"role": "user", "content": [{"text": "Four"}]},
        ],
    }


def test_a_system_message_alone_is_asked_as_a_user() -> None:
    assert written(Message("system", (Text("Say hello."),)))["messages"] == [
        {"role": "user", "content": [{"text": "Say hello."}]}
    ]


def test_thought_goes_back_with_its_signature() -> None:
    body = written(user(Text("x")), assistant(Thinking("hm", "c2ln"), Thinking(redacted="eA=="), ToolUse("t", "f", "{}")))

    assert body["messages"][1]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": "eA=="}},
        {"toolUse": {"toolUseId": "t", "name": "f", "input": {}}},
    ]


def test_pictures_sounds_and_files_are_sent_as_bytes() -> None:
    body = written(
        user(
            Image("image/jpeg", "QUJD"),
            Audio("mp3", "REVG"),
            Text("Look."),
            File("text/plain; charset=utf-8", "R0hJ", name="my report_(1).v2.txt"),
            File("application/pdf", "eA=="),
        )
    )

    assert body["messages"][0]["content"] == [
        {"image": {"format": "jpeg", "source": {"bytes": "QUJD"}}},
        {"audio": {"format": "mp3", "source": {"bytes": "REVG"}}},
        {"text": "Look."},
        {"document": {"format": "txt", "name": "my report (1) v2", "source": {"bytes": "R0hJ"}}},
        {"document": {"format": "pdf", "name": "Document", "source": {"bytes": "eA=="}}},
    ]


def test_many_files_of_one_name_are_counted_on() -> None:
    """Trying every number for every file would take as many steps as half the square of them."""
    files = [File("text/plain", "eA==", name=name) for name in ("a 2", *["A"] * 20_000, "a 2", "b", "a")]
    blocks = written(user(Text("Look."), *files))["messages"][0]["content"][1:]

    names = [block["document"]["name"] for block in blocks]
    assert names[:4] == ["a 2", "A", "A 3", "A 4"]
    assert names[-4:] == ["A 20001", "a 2 2", "b", "a 20002"]
    assert len({name.lower() for name in names}) == len(files)


def test_no_two_files_have_one_name_and_none_stands_without_a_word() -> None:
    """`Messages can't contain duplicate document names`, and `A text block must be included when using documents`."""
    pdf = File("application/pdf", "eA==")
    long = File("application/pdf", "eA==", name="n" * 300 + ".pdf")
    turns = written(
        user(Text("One"), pdf, long),
        assistant(ToolUse("t", "f", "{}")),
        tool(ToolResult("t", (pdf, File("text/plain", "eA==", name="DOCUMENT.txt")))),
        user(long, File("application/pdf", "eA==", cache=CacheMark())),
    )["messages"]

    result, *shown = turns[2]["content"]
    names = [block["document"]["name"] for block in turns[0]["content"] if "document" in block]
    names += [block["document"]["name"] for block in [*result["toolResult"]["content"], *shown] if "document" in block]
    assert names == ["Document", "n" * 190, "Document 2", "DOCUMENT 3", "n" * 190 + " 2", "Document 4"]
    assert [next(iter(block)) for block in turns[0]["content"]] == ["text", "document", "document"]
    assert [next(iter(block)) for block in shown] == ["text", "document", "document", "cachePoint"]


def test_a_conversation_begins_and_ends_with_the_user_where_the_model_wants_that() -> None:
    """`A conversation must start with a user message`: greetings and histories that were cut begin otherwise."""
    greeted = (assistant(Text("Hello!")), user(Text("Hi")))
    begun = (user(Text("Name a colour.")), assistant(Text("The colour is ", CacheMark())))

    assert [turn["role"] for turn in written(*greeted)["messages"]] == ["user", "assistant", "user"]
    assert [turn["role"] for turn in written(*begun, model=CLAUDE)["messages"]] == ["user", "assistant", "user"]
    for model in (CLAUDE_4_5, NOVA):
        assert written(*begun, model=model)["messages"][-1]["content"][0] == {"text": "The colour is"}


def test_where_nothing_is_said_nothing_is_asked() -> None:
    with pytest.raises(BadRequest):
        written(user(Text(" \n")), assistant(Text("")))


@pytest.mark.parametrize(
    "part",
    [
        Image(url="https://example.com/cat.png"),
        Image(url="http://169.254.169.254/latest/meta-data"),
        Image("image/tiff", "QUJD"),
        File(url="https://example.com/a.pdf"),
        File(file_id="file-1"),
        File("application/zip", "QUJD"),
    ],
)
def test_what_cannot_be_sent_is_refused_and_nothing_fetched(part: Part) -> None:
    with pytest.raises(BadRequest) as refused:
        written(user(part))
    assert refused.value.param == "messages"


def test_several_choices_are_refused() -> None:
    with pytest.raises(BadRequest) as refused:
        written(n=2)
    assert refused.value.param == "n"


def test_results_stand_first_in_one_message() -> None:
    body = written(
        user(Text("Weather?")),
        assistant(ToolUse("call_1", "weather", '{"city":"Bern"}'), ToolUse("call|2", "clock", "")),
        tool(ToolResult("call_1", (Text("sunny"), Image("image/png", "QUJD")))),
        tool(ToolResult("call|2", (Text("broken"),), is_error=True)),
        user(Text("And now?")),
    )

    _, called, answered = body["messages"]
    assert called["content"][0] == {"toolUse": {"toolUseId": "call_1", "name": "weather", "input": {"city": "Bern"}}}
    assert answered["content"] == [
        {
            "toolResult": {
                "toolUseId": "call_1",
                "content": [{"text": "sunny"}, {"image": {"format": "png", "source": {"bytes": "QUJD"}}}],
            }
        },
        {"toolResult": {"toolUseId": "call_2", "content": [{"text": "broken"}], "status": "error"}},
        {"text": "And now?"},
    ]
    assert [tool["toolSpec"]["name"] for tool in body["toolConfig"]["tools"]] == ["weather", "clock"]


def test_tools_and_their_schemas_go_as_they_came() -> None:
    spaced = Raw(b'{ "type" : "object",  "properties": {"b": {"const": 1}, "a": {"const": 2}}, "additionalProperties" :false}')
    tools = (Tool("f", "d", spaced, strict=True), Tool("g"), Tool("h", parameters=Raw(b'{"type":"object"}'), strict=True))
    conversation = Conversation(messages=(user(Text("x")),), tools=tools, tool_choice=ToolChoice("tool", "g"))
    body = converse.write_request(conversation, model=NOVA, stream=True, max_tokens=None, quirks=Quirks()).body

    assert bytes(spaced) in body
    config = json.loads(body)["toolConfig"]
    assert config["toolChoice"] == {"tool": {"name": "g"}}
    assert config["tools"][0]["toolSpec"]["strict"] is True
    assert config["tools"][1] == {"toolSpec": {"name": "g", "inputSchema": {"json": {"type": "object", "properties": {}}}}}
    assert config["tools"][2] == {"toolSpec": {"name": "h", "inputSchema": {"json": {"type": "object"}}}}


def test_the_choice_of_no_tool_offers_none() -> None:
    assert written(tools=(WEATHER,), tool_choice=ToolChoice("required"))["toolConfig"]["toolChoice"] == {"any": {}}
    assert written(tools=(WEATHER,), tool_choice=ToolChoice("auto"))["toolConfig"]["toolChoice"] == {"auto": {}}
    assert "toolConfig" not in written(tools=(WEATHER,), tool_choice=ToolChoice("none"))


def test_cache_marks_become_cache_points_behind_what_they_mark() -> None:
    body = written(
        Message("system", (Text("a", CacheMark()), Text("b"))),
        user(Text("c", CacheMark("1h")), Text("", CacheMark())),
        tools=(Tool("f", cache=CacheMark()), Tool("g")),
    )

    assert body["system"] == [{"text": "a"}, {"cachePoint": {"type": "default"}}, {"text": "b"}]
    assert body["messages"][0]["content"] == [{"text": "c"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]
    assert [next(iter(entry)) for entry in body["toolConfig"]["tools"]] == ["toolSpec", "cachePoint", "toolSpec"]


def test_settings() -> None:
    body = written(max_tokens=100, temperature=0.0, top_p=0.5, top_k=3, stop=("a",), seed=7, user="u")

    assert body["inferenceConfig"] == {"maxTokens": 100, "temperature": 0.0, "topP": 0.5, "stopSequences": ["a"]}
    assert set(body) == {"messages", "inferenceConfig"}


@pytest.mark.parametrize(
    ("model", "members", "sent", "named"),
    [
        # `temperature` is deprecated for this model.
        (CLAUDE, {"temperature": 0.2, "top_p": 0.9, "top_k": 3}, {}, {"temperature", "top_p", "top_k"}),
        # `temperature` and `top_p` cannot both be specified for this model.
        (CLAUDE_4_5, {"temperature": 0.2, "top_p": 0.9}, {"temperature": 0.2}, {"top_p"}),
        (CLAUDE_4_5, {"top_p": 0.9}, {"topP": 0.9}, set()),
        # At most 1, says the service model.
        (NOVA, {"temperature": 1.7, "top_p": 0.9}, {"temperature": 1.0, "topP": 0.9}, {"temperature"}),
    ],
)
def test_sampling_is_what_the_model_takes(model: str, members: Any, sent: dict[str, float], named: set[str]) -> None:
    conversation = Conversation(messages=(user(Text("Hi")),), **members)
    request = converse.write_request(conversation, model=model, stream=False, max_tokens=9, quirks=Quirks())
    body = json.loads(request.body)
    assert body["inferenceConfig"] == {"maxTokens": 9, **sent}
    assert "additionalModelRequestFields" not in body
    assert set(request.unsaid) == named


@pytest.mark.parametrize("choice", [ToolChoice("required"), ToolChoice("tool", "weather")])
def test_models_that_cannot_be_made_to_call_leave_it_to_others(choice: ToolChoice) -> None:
    with pytest.raises(BadRequest) as refused:
        written(tools=(WEATHER,), tool_choice=choice, model="global.anthropic.claude-opus-5-5")
    assert refused.value.param == "tool_choice"
    assert "toolChoice" in written(tools=(WEATHER,), tool_choice=choice, model=CLAUDE)["toolConfig"]


def test_formats() -> None:
    schema = Raw(b'{"type": "object", "properties": {"n": {"type": "integer", "maximum": 3}}}')
    text_format = written(format=Format("schema", "answer", schema, True, "An answer."))["outputConfig"]["textFormat"]
    held = text_format["structure"]["jsonSchema"]
    assert (text_format["type"], held["name"], held["description"]) == ("json_schema", "answer", "An answer.")
    assert json.loads(held["schema"]) == {
        "type": "object",
        "properties": {"n": {"type": "integer", "description": '{"maximum":3}'}},
        "additionalProperties": False,
    }
    assert written(format=Format("json"))["system"] == [{"text": converse.JSON_ONLY}]
    (told,) = written(format=Format("schema", "answer", Raw(b'{"type":"object"}')))["system"]
    assert told["text"].startswith(converse.JSON_ONLY)
    assert told["text"].endswith('{"type":"object"}')


@pytest.mark.parametrize(
    ("model", "reasoning", "fields", "effort"),
    [
        (CLAUDE, Reasoning("xhigh"), {"thinking": {"type": "adaptive"}}, "xhigh"),
        (CLAUDE, Reasoning("minimal"), {"thinking": {"type": "adaptive"}}, "low"),
        (CLAUDE, Reasoning(budget_tokens=31_999), {"thinking": {"type": "adaptive"}}, "high"),
        (CLAUDE, Reasoning("none"), None, None),
        (CLAUDE_4_5, Reasoning("low"), {"thinking": {"type": "enabled", "budget_tokens": 1024}}, None),
        (CLAUDE_4_5, Reasoning(budget_tokens=31_999), {"thinking": {"type": "enabled", "budget_tokens": 3999}}, None),
        (CLAUDE_4_5, Reasoning("none"), {"top_k": 3}, None),
        (CLAUDE_4_5, None, {"top_k": 3}, None),
        (
            "anthropic.claude-3-haiku-20240307-v1:0",
            Reasoning("low"),
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
            None,
        ),
        ("global.anthropic.claude-opus-5", Reasoning("low"), {"thinking": {"type": "adaptive"}}, "low"),
        (CLAUDE, Reasoning("low", visible=True), {"thinking": {"type": "adaptive", "display": "summarized"}}, "low"),
        ("global.anthropic.claude-opus-4-6-v1", Reasoning("max"), {"thinking": {"type": "adaptive"}}, "high"),
        ("global.anthropic.claude-opus-5", Reasoning("none"), {"thinking": {"type": "disabled"}}, None),
        ("global.anthropic.claude-sonnet-5-5", Reasoning("none"), {"thinking": {"type": "between_tools"}}, None),
        ("global.anthropic.claude-opus-5-5", Reasoning("none"), None, "low"),
        (GPT, Reasoning("minimal"), {"reasoning_effort": "low"}, None),
        (GPT, Reasoning("max"), {"reasoning_effort": "high"}, None),
        (NOVA, Reasoning("medium"), {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}}, None),
        (NOVA, Reasoning("none"), {"reasoningConfig": {"type": "disabled"}}, None),
        ("meta.llama3-1-70b-instruct-v1:0", Reasoning("high"), None, None),
    ],
)
def test_thinking_is_asked_for_in_the_maker_s_words(
    model: str, reasoning: Reasoning | None, fields: dict[str, Any] | None, effort: str | None
) -> None:
    body = written(model=model, reasoning=reasoning, max_tokens=4000, temperature=0.5, top_k=3)

    assert body.get("additionalModelRequestFields") == fields
    assert body.get("outputConfig", {}).get("effort") == effort
    # Claude refuses to be told a temperature while it thinks, and from 4.7 on always.
    thinks = fields is not None and "thinking" in fields
    assert ("temperature" in body["inferenceConfig"]) is (claude_models.takes_sampling(model) and not thinks)


def test_claude_does_not_think_where_that_would_be_refused() -> None:
    forced = written(model=CLAUDE_4_5, tools=(WEATHER,), tool_choice=ToolChoice("required"), reasoning=Reasoning("high"))
    too_short = written(model=CLAUDE_4_5, max_tokens=1000, reasoning=Reasoning("high"))
    turn = (user(Text("x")), assistant(ToolUse("t", "f", "{}")), tool(ToolResult("t", (Text("r"),))))
    lost = written(*turn, model=CLAUDE_4_5, reasoning=Reasoning("high"))
    next_turn = written(*turn, assistant(Text("y")), user(Text("z")), model=CLAUDE_4_5, reasoning=Reasoning("high"))

    assert not any("additionalModelRequestFields" in body for body in (forced, too_short, lost))
    assert next_turn["additionalModelRequestFields"]["thinking"]["type"] == "enabled"


@pytest.mark.parametrize(
    ("model", "betas", "told"),
    [
        (CLAUDE_4_5, "claude-code-20250219,interleaved-thinking-2025-05-14", ["interleaved-thinking-2025-05-14"]),
        ("us.anthropic.claude-opus-4-20250514-v1:0", "interleaved-thinking-2025-05-14", ["interleaved-thinking-2025-05-14"]),
        (CLAUDE_4_5, "claude-code-20250219, prompt-caching-scope-2026-01-05", None),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", "interleaved-thinking-2025-05-14", None),
        ("anthropic.claude-3-7-sonnet-20250219-v1:0", "interleaved-thinking-2025-05-14", None),
        (CLAUDE, "interleaved-thinking-2025-05-14", None),
    ],
)
def test_a_beta_is_told_where_it_means_something_and_is_not_refused(model: str, betas: str, told: list[str] | None) -> None:
    """Amazon refuses calls with betas that it does not know, or not for that model."""
    sent = {
        "model": "m",
        "max_tokens": 9000,
        "messages": [{"role": "user", "content": "Hi"}],
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "tools": [{"name": "look", "input_schema": {"type": "object", "properties": {}}}],
    }
    asked = messages.parse(json.dumps(sent).encode(), {"anthropic-beta": betas})
    body = converse.write_request(messages.conversation(asked), model=model, stream=False, max_tokens=None, quirks=Quirks()).body
    fields = json.loads(body)["additionalModelRequestFields"]
    assert fields.get("anthropic_beta") == told
    assert fields["thinking"]["type"] in ("enabled", "adaptive")


def test_claude_is_asked_which_sequence_stopped_it() -> None:
    assert written(model=CLAUDE, stop=("END",))["additionalModelResponseFieldPaths"] == ["/stop_sequence"]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
USES = st.builds(ToolUse, st.text(min_size=1, max_size=90), st.sampled_from(["f", "g"]), st.just("{}"))
MESSAGES = st.one_of(
    st.builds(lambda text: user(Text(text)), TEXTS),
    st.builds(lambda text, uses: assistant(Text(text), *uses), TEXTS, st.lists(USES, max_size=3)),
    st.builds(lambda text: Message("system", (Text(text),)), TEXTS),
)


@given(st.lists(MESSAGES, max_size=8))
def test_any_conversation_becomes_turns_that_converse_takes(messages: list[Message]) -> None:
    answers = [tool(ToolResult(part.id, (Text("r"),))) for said in messages for part in said.parts if isinstance(part, ToolUse)]

    turns = written(*messages, *answers, user(Text("go on")))["messages"]

    assert all(one["role"] != other["role"] for one, other in pairwise(turns))
    assert turns[0]["role"] == "user"
    assert all(turn["content"] and all(block.get("text", "x").strip() for block in turn["content"]) for turn in turns)
    called = [block["toolUse"]["toolUseId"] for turn in turns for block in turn["content"] if "toolUse" in block]
    answered = [block["toolResult"]["toolUseId"] for turn in turns for block in turn["content"] if "toolResult" in block]
    assert called == answered
    assert all(0 < len(id) <= 64 for id in called)


# --- answers -----------------------------------------------------------------------------------
USAGE = {"inputTokens": 10, "outputTokens": 25, "totalTokens": 135, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 0}


def whole(*blocks: dict[str, Any], stop: str = "end_turn", **members: Any) -> bytes:
    output = {"message": {"role": "assistant", "content": list(blocks)}}
    body = {"output": output, "stopReason": stop, "usage": USAGE, "metrics": {"latencyMs": 5}}
    return json.dumps(body | members, ensure_ascii=False).encode()


def test_an_answer_is_read_with_thought_text_calls_and_usage() -> None:
    body = whole(
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": "eA=="}},
        {"text": "Asking."},
        {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"city": "Zürich"}}},
        {"toolUse": {"toolUseId": "t2", "name": "g", "input": {}}},
        stop="tool_use",
    )

    answer, reply = converse.read_answer(body), converse.read_reply(body)

    parts = (
        Thinking("hm", "c2ln"),
        Thinking(redacted="eA=="),
        Text("Asking."),
        ToolUse("t1", "f", '{"city":"Zürich"}'),
        ToolUse("t2", "g", "{}"),
    )
    assert answer.choices == (Choice(parts, "tool_calls"),)
    assert answer.usage == reply.usage == Usage(input_uncached=10, cache_read=100, output=25)
    assert (reply.finish_reasons, reply.has_output) == (("tool_calls",), True)
    assert reply.text_length == len('hmAsking.f{"city":"Zürich"}g{}')


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("tool_use", "tool_calls"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("malformed_tool_use", "stop"),
    ],
)
def test_stop_reasons(theirs: str, ours: str) -> None:
    assert converse.read_reply(whole({"text": "x"}, stop=theirs)).finish_reasons == (ours,)


def test_the_sequence_that_stopped_is_kept() -> None:
    body = whole({"text": "x"}, stop="stop_sequence", additionalModelResponseFields={"stop_sequence": "END"})
    assert converse.read_answer(body).choices[0].stop_sequence == "END"


@pytest.mark.parametrize("body", [b"", b"nothing", b"[]", b"{}", b'{"output":{}}', b'{"output":"x"}', b"\xff{", b"[" * 100_000])
def test_what_is_no_answer_is_broken(body: bytes) -> None:
    with pytest.raises(BrokenReply):
        converse.read_reply(body)


COUNTS = st.integers(0, 10**6)


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, st.booleans())
def test_usage_adds_up(fresh: int, read: int, short: int, hour: int, output: int, detailed: bool) -> None:
    """By hand: Bedrock counts what was cached beside the input, and of writes the details are part, not more."""
    usage: dict[str, Any] = {
        "inputTokens": fresh,
        "outputTokens": output,
        "totalTokens": fresh + read + short + hour + output,
        "cacheReadInputTokens": read,
        "cacheWriteInputTokens": short + hour,
    }
    if detailed:
        usage["cacheDetails"] = [{"ttl": "5m", "inputTokens": short}, {"ttl": "1h", "inputTokens": hour}]

    found = converse.read_reply(whole({"text": "x"}, usage=usage)).usage

    writes = (short, hour) if detailed else (short + hour, 0)
    assert found == Usage(fresh, cache_read=read, cache_write_5m=writes[0], cache_write_1h=writes[1], output=output)
    assert found.total == usage["totalTokens"]


@pytest.mark.parametrize(
    "usage", [{}, {"inputTokens": 5}, {"inputTokens": -1, "outputTokens": 1}, {"inputTokens": "x", "outputTokens": 1}]
)
def test_usage_that_says_nothing_is_none(usage: dict[str, Any]) -> None:
    assert converse.read_reply(whole({"text": "x"}, usage=usage)).usage is None


# --- streams -----------------------------------------------------------------------------------
TURN = events(
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "hm ü\u2028"}}}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "c2ln"}}}),
    ("contentBlockStop", {"contentBlockIndex": 0}),
    ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"reasoningContent": {"redactedContent": "eA=="}}}),
    ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"text": "Ask"}}),
    ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"text": "ing."}}),
    ("contentBlockStart", {"contentBlockIndex": 3, "start": {"toolUse": {"toolUseId": "t1", "name": "f"}}}),
    ("contentBlockDelta", {"contentBlockIndex": 3, "delta": {"toolUse": {"input": ""}}}),
    ("contentBlockDelta", {"contentBlockIndex": 3, "delta": {"toolUse": {"input": '{"a"'}}}),
    ("contentBlockDelta", {"contentBlockIndex": 3, "delta": {"toolUse": {"input": ":1}"}}}),
    ("contentBlockStop", {"contentBlockIndex": 3}),
    ("contentBlockStart", {"contentBlockIndex": 4, "start": {"toolUse": {"toolUseId": "t2", "name": "g"}}}),
    ("contentBlockStop", {"contentBlockIndex": 4}),
    ("messageStop", {"stopReason": "tool_use"}),
    ("metadata", {"usage": USAGE, "metrics": {"latencyMs": 5}}),
)
TOLD: list[Delta] = [
    Started(),
    ThinkingDelta("hm ü\u2028"),
    SignatureDelta("c2ln"),
    SignatureDelta(redacted="eA=="),
    TextDelta("Ask"),
    TextDelta("ing."),
    ToolStarted(0, "t1", "f"),
    ToolDelta(0, '{"a"'),
    ToolDelta(0, ":1}"),
    ToolStarted(1, "t2", "g"),
    ToolDelta(1, "{}"),
    Finished("tool_calls"),
]


def read(*chunks: bytes) -> tuple[StreamReader, list[Delta]]:
    reader = converse.reader()
    frames = [frame for chunk in chunks for frame in reader.feed(chunk)] + reader.flush()
    assert not any(frame.error for frame in frames)
    return reader, [delta for frame in frames for delta in frame.deltas]


def test_a_stream_says_the_same_wherever_it_is_cut() -> None:
    for cut in range(len(TURN) + 1):
        reader, deltas = read(TURN[:cut], TURN[cut:])
        assert deltas == TOLD
    assert (reader.finish_reasons, reader.done, reader.has_output) == (("tool_calls",), True, True)
    assert reader.usage == Usage(input_uncached=10, cache_read=100, output=25)
    assert reader.text_length == len('hm ü\u2028Asking.f{"a":1}g{}')


def test_a_stream_says_the_same_byte_by_byte() -> None:
    _, deltas = read(*(TURN[at : at + 1] for at in range(len(TURN))))
    assert deltas == TOLD


def test_only_what_ends_the_answer_is_held_back() -> None:
    terminal = [frame.terminal for frame in converse.reader().feed(TURN)]
    assert terminal == [False] * (len(terminal) - 2) + [True, True]


def test_a_stream_that_breaks_off_has_not_ended() -> None:
    reader, _ = read(
        events(("messageStart", {}), ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "a"}})) + TURN[:20]
    )
    assert (reader.finish_reasons, reader.done, reader.usage) == ((), False, None)


def test_the_sequence_that_stopped_a_stream_is_kept() -> None:
    stopped = {"stopReason": "stop_sequence", "additionalModelResponseFields": {"stop_sequence": "END"}}
    _, deltas = read(events(("messageStop", stopped)))
    assert deltas == [Finished("stop", "END")]


def test_events_of_the_future_are_passed_over() -> None:
    reader, deltas = read(events(("somethingNew", {"x": 1}), ("contentBlockStart", {"start": {"image": {"format": "png"}}})))
    assert (deltas, reader.has_output) == ([], False)


@pytest.mark.parametrize(
    ("name", "kind", "status"),
    [
        ("throttlingException", "rate_limited", 429),
        ("serviceUnavailableException", "overloaded", 503),
        ("modelTimeoutException", "timeout", 408),
        ("validationException", "bad_request", 400),
        ("modelStreamErrorException", "status", 424),
        ("internalServerException", "status", 500),
        ("somethingNewException", "status", None),
    ],
)
def test_an_exception_fails_the_stream(name: str, kind: str, status: int | None) -> None:
    frames = converse.reader().feed(events(("messageStart", {})) + exception(name, "Not today, Bearer abcdef."))
    error = frames[-1].error
    assert error is not None
    assert (error.kind, error.status, error.message) == (kind, status, "Not today, [redacted]")


def test_a_wrong_key_in_a_stream_tells_nobody_about_it() -> None:
    error = converse.reader().feed(exception("accessDeniedException", "User arn:aws:iam::1:user/x may not"))[0].error
    assert error is not None
    assert (error.kind, error.message) == ("auth", "The provider refused the gateway's credentials.")


@pytest.mark.parametrize("at", [0, 5, 9, 40, -1])
def test_a_flipped_bit_breaks_the_stream_and_nothing_after_it_counts(at: int) -> None:
    good, bad = events(("messageStart", {})), bytearray(event("contentBlockDelta", {"delta": {"text": "a"}}))
    bad[at] ^= 0x40
    frames = converse.reader().feed(good + bytes(bad) + b"\0" * 10_000)
    errors = [frame.error.kind for frame in frames if frame.error]
    # A length that has become huge is waited for: the stream then breaks off.
    assert errors in (["broken"], [])
    assert not any(isinstance(delta, TextDelta) for frame in frames for delta in frame.deltas)


@pytest.mark.parametrize(
    "junk", [b"data: {}\n\n" * 20, b"<html>" * 20, event("messageStop", [1]), event("metadata", {"usage": 5})]
)
def test_what_is_no_event_stream_is_broken(junk: bytes) -> None:
    errors = [frame.error for frame in converse.reader().feed(junk) if frame.error]
    assert [error.kind for error in errors] == ["broken"]


BLOCKS = st.one_of(
    st.builds(lambda pieces: ("text", pieces), st.lists(TEXTS.filter(bool), min_size=1, max_size=3)),
    st.builds(lambda pieces: ("thought", pieces), st.lists(TEXTS.filter(bool), min_size=1, max_size=3)),
    st.builds(lambda text: ("tool", [json.dumps({"a": text}, separators=(",", ":"))]), TEXTS),
)


def streamed(at: int, kind: str, pieces: list[str]) -> list[tuple[str, Any]]:
    started = [("contentBlockStart", {"contentBlockIndex": at, "start": {"toolUse": {"toolUseId": f"t{at}", "name": "f"}}})]
    name = {"text": "", "thought": "reasoningContent", "tool": "toolUse"}[kind]
    told = [{"input" if kind == "tool" else "text": piece} for piece in pieces]
    deltas = [("contentBlockDelta", {"contentBlockIndex": at, "delta": {name: piece} if name else piece}) for piece in told]
    signed = [("contentBlockDelta", {"contentBlockIndex": at, "delta": {"reasoningContent": {"signature": "s"}}})]
    end = [("contentBlockStop", {"contentBlockIndex": at})]
    return (started if kind == "tool" else []) + deltas + (signed if kind == "thought" else []) + end


def complete(at: int, kind: str, pieces: list[str]) -> dict[str, Any]:
    text = "".join(pieces)
    if kind == "tool":
        return {"toolUse": {"toolUseId": f"t{at}", "name": "f", "input": json.loads(text)}}
    return {"text": text} if kind == "text" else {"reasoningContent": {"reasoningText": {"text": text, "signature": "s"}}}


def _apart(blocks: list[tuple[str, list[str]]]) -> bool:
    return all(one[0] != "text" or other[0] != "text" for one, other in pairwise(blocks))


@given(st.lists(BLOCKS, max_size=5).filter(_apart), st.integers(1, 500))
def test_deltas_joined_are_the_whole_answer(blocks: list[tuple[str, list[str]]], size: int) -> None:
    told = [entry for at, (kind, pieces) in enumerate(blocks) for entry in streamed(at, kind, pieces)]
    stream = events(("messageStart", {}), *told, ("messageStop", {"stopReason": "end_turn"}))

    _, deltas = read(*(stream[at : at + size] for at in range(0, len(stream), size)))

    answer = converse.read_answer(whole(*(complete(at, *block) for at, block in enumerate(blocks))))
    assert choices_of(deltas)[0].finish_reason == "stop"
    read_tools = [json.loads(part.arguments) for part in choices_of(deltas)[0].parts if isinstance(part, ToolUse)]
    assert read_tools == [json.loads(part.arguments) for part in answer.choices[0].parts if isinstance(part, ToolUse)]
    others = [part for part in choices_of(deltas)[0].parts if not isinstance(part, ToolUse)]
    assert others == [part for part in answer.choices[0].parts if not isinstance(part, ToolUse)]
