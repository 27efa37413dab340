import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from gateway_project.lib import money
from proxy.errors import AttemptFailed
from proxy.protocols.base import Reply
from proxy.protocols.chat_completions import parse, read_reply
from proxy.protocols.chat_replies import StreamReader
from proxy.providers import registry
from proxy.providers.base import Target, Timeouts
from proxy.sandbox import app, tokens
from proxy.sandbox.answers import compose
from proxy.sandbox.catalogue import MODELS, catalogue
from tests.proxy.conftest import Run

PROMPT = [{"role": "user", "content": "Tell me about the gate."}]


@pytest.fixture(scope="module", autouse=True)
def served() -> Iterator[None]:
    """The sandbox's application on a real server, in a thread of its own."""
    config = uvicorn.Config(app.application, port=0, lifespan="off", log_config=None, log_level="critical", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    ADDRESS.append(server.servers[0].sockets[0].getsockname()[1])
    yield
    server.should_exit = True
    thread.join(10)


ADDRESS: list[int] = []


def target(*, key: str | None, seconds: float) -> Target:
    return Target(
        provider_id=1,
        deployment_id=1,
        provider_name="sandbox",
        kind="sandbox",
        base_url=f"http://127.0.0.1:{ADDRESS[-1]}/sandbox/v1",
        model="",
        api_key=key or tokens.token(),
        timeouts=Timeouts(connect=2, first_byte=seconds, idle=seconds),
    )


def request_of(model: str, **members: Any) -> bytes:
    return json.dumps({"model": model, "messages": PROMPT, **members}).encode()


async def raw(
    model: str, *, path: str = "/chat/completions", key: str | None = None, seconds: float = 5, **members: Any
) -> bytes:
    stream = bool(members.get("stream"))
    where = target(key=key, seconds=seconds)
    opened = await registry.provider("sandbox").open(where, path=path, body=request_of(model, **members), stream=stream)
    try:
        return b"".join([chunk async for chunk in opened.chunks()]) if stream else await opened.body()
    finally:
        await opened.close()


async def whole(model: str, **members: Any) -> Reply:
    return read_reply(await raw(model, **members))


async def streamed(model: str, **members: Any) -> StreamReader:
    reader = StreamReader(wants_usage=True, n=members.get("n", 1))
    reader.feed(await raw(model, stream=True, stream_options={"include_usage": True}, **members))
    reader.flush()
    return reader


def failure(run: Run, model: str, **members: Any) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as raised:
        run(raw(model, **members))
    return raised.value


def test_it_answers_with_text_usage_and_a_finish_reason(run: Run) -> None:
    reply = run(whole("sandbox-instant"))
    assert reply.finish_reasons == ("stop",)
    assert reply.usage.input_total > 0
    # English has about four bytes a token, and so has the sandbox.
    assert 3 < reply.text_length / reply.usage.output < 6


def test_the_same_request_gets_the_same_answer_and_another_another(run: Run) -> None:
    first, again, other = (run(raw("sandbox-instant", messages=[{"role": "user", "content": text}])) for text in ("a", "a", "b"))
    assert first == again
    assert first != other


def test_a_stream_says_the_same_as_the_whole_answer(run: Run) -> None:
    reader, reply = run(streamed("sandbox-instant")), run(whole("sandbox-instant"))
    assert (reader.usage, len(reader.text), reader.finish_reasons) == (reply.usage, reply.text_length, reply.finish_reasons)
    assert reader.done


def test_a_stream_without_include_usage_has_no_usage_frame(run: Run) -> None:
    assert b'"usage"' not in run(raw("sandbox-instant", stream=True))


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_the_callers_limit_ends_the_answer(run: Run, limit: str) -> None:
    reply = run(whole("sandbox-instant", **{limit: 5}))
    assert (reply.finish_reasons, reply.usage.output) == (("length",), 5)


def test_several_choices_differ_and_are_all_counted(run: Run) -> None:
    body = json.loads(run(raw("sandbox-instant", n=3, max_tokens=10)))
    assert len({choice["message"]["content"] for choice in body["choices"]}) == 3
    assert body["usage"]["completion_tokens"] == 30
    assert run(streamed("sandbox-instant", n=3, max_tokens=10)).usage.output == 30


def test_a_recorded_call_is_replayed_with_its_exact_figures(run: Run) -> None:
    asked = {"sandbox": {"input_tokens": 4321, "output_tokens": 567}}
    reply, reader = run(whole("sandbox-instant", metadata=asked)), run(streamed("sandbox-instant", metadata=asked))
    assert (reply.usage.input_total, reply.usage.output) == (4321, 567)
    assert (reader.usage.input_total, reader.usage.output) == (4321, 567)
    assert len(reader.text.split()) == 567


@pytest.mark.parametrize("asked", [5, {"output_tokens": "5"}, {"output_tokens": -1}])
def test_a_malformed_wish_is_refused(run: Run, asked: Any) -> None:
    assert failure(run, "sandbox-instant", metadata={"sandbox": asked}).param == "metadata.sandbox"


def test_the_reported_input_stays_below_the_gateways_estimate() -> None:
    request = parse(request_of("sandbox-instant", messages=[{"role": "user", "content": "word " * 500}]))
    assert compose(request, MODELS["sandbox-instant"]).input_tokens <= request.input_tokens_estimate


def tool(name: str = "get_weather") -> dict[str, Any]:
    members = {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "unit": {"enum": ["C", "F"]},
        "exact": {"type": "boolean"},
    }
    parameters = {"type": "object", "properties": members | {"list": {"type": "array"}}, "required": [*members, "list"]}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


@pytest.mark.parametrize(
    ("members", "called"),
    [
        ({"tool_choice": "required"}, "get_weather"),
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "other"),
        ({"messages": [{"role": "user", "content": "use other"}]}, "other"),
        ({"messages": [{"role": "user", "content": "use other"}], "tool_choice": "none"}, None),
        ({"tool_choice": "auto"}, None),
    ],
)
def test_a_tool_is_called_when_required_or_spoken_of(run: Run, members: dict[str, Any], called: str | None) -> None:
    body = json.loads(run(raw("sandbox-instant", tools=[tool(), tool("other")], **members)))
    choice = body["choices"][0]
    calls = choice["message"].get("tool_calls")
    assert (calls[0]["function"]["name"] if calls else None) == called
    assert choice["finish_reason"] == ("tool_calls" if called else "stop")


def test_a_streamed_tool_call_arrives_in_pieces_that_join_to_valid_arguments(run: Run) -> None:
    body = run(raw("sandbox-instant", stream=True, tools=[tool()], tool_choice="required"))
    chunks = [json.loads(line[6:]) for line in body.split(b"\n\n") if line.startswith(b"data: {")]
    calls = [call for chunk in chunks for choice in chunk["choices"] for call in choice["delta"].get("tool_calls", [])]
    assert [call["index"] for call in calls] == [0] * len(calls)
    assert (calls[0]["type"], calls[0]["function"]["name"]) == ("function", "get_weather")
    arguments = json.loads("".join(call["function"]["arguments"] for call in calls))
    assert arguments == {"city": "sandbox", "days": 1, "unit": "C", "exact": True, "list": []}


def test_malformed_tools_are_refused(run: Run) -> None:
    assert failure(run, "sandbox-instant", tools=[5]).kind == "bad_request"


WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "array", "items": {"$ref": "#/$defs/Day"}, "minItems": 2}},
    "required": ["city", "days"],
    "$defs": {"Day": {"type": "object", "properties": {"degrees": {"type": "number"}}, "required": ["degrees"]}},
}
SAID = {"city": "sandbox", "days": [{"degrees": 1}, {"degrees": 1}]}


def form(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "weather", "schema": schema, "strict": True}}


@pytest.mark.parametrize("model", ["sandbox-instant", "sandbox-reasoning"])
@pytest.mark.parametrize(("asked", "said"), [(form(WEATHER), SAID), ({"type": "json_object"}, {"answer": "sandbox"})])
def test_an_answer_has_the_form_that_was_asked_for(run: Run, model: str, asked: dict[str, Any], said: dict[str, Any]) -> None:
    body = json.loads(run(raw(model, response_format=asked)))
    choice, usage = body["choices"][0], body["usage"]
    assert json.loads(choice["message"]["content"]) == said
    assert choice["finish_reason"] == "stop"
    assert usage["completion_tokens"] > usage["completion_tokens_details"]["reasoning_tokens"]
    assert run(streamed(model, response_format=asked)).text.endswith(choice["message"]["content"])


def test_an_answer_in_a_form_ends_where_the_caller_says(run: Run) -> None:
    choice = json.loads(run(raw("sandbox-instant", response_format=form(WEATHER), max_tokens=3)))["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("length", '{"city":"san')


@pytest.mark.parametrize("asked", [None, {"type": "text"}])
def test_without_a_form_it_says_prose(run: Run, asked: Any) -> None:
    said = json.loads(run(raw("sandbox-instant", response_format=asked)))["choices"][0]["message"]["content"]
    assert said == json.loads(run(raw("sandbox-instant")))["choices"][0]["message"]["content"]


def test_a_reasoning_model_thinks_inside_its_output(run: Run) -> None:
    asked = {"sandbox": {"output_tokens": 20}}
    reply, reader = run(whole("sandbox-reasoning", metadata=asked)), run(streamed("sandbox-reasoning", metadata=asked))
    assert (reply.usage.output, reply.usage.reasoning) == (20, 10)
    assert (reader.usage, len(reader.text)) == (reply.usage, reply.text_length)


def test_a_cached_prompt_is_reported_as_such(run: Run) -> None:
    usage = run(whole("sandbox-cached", max_tokens=1, metadata={"sandbox": {"input_tokens": 100}})).usage
    assert (usage.input_uncached, usage.cache_read) == (50, 50)


def test_no_usage_means_none(run: Run) -> None:
    assert run(whole("sandbox-no-usage")).usage is None
    reader = run(streamed("sandbox-no-usage"))
    assert (reader.usage, reader.done) == (None, True)


def test_answers_take_their_time_token_by_token(run: Run) -> None:
    started = time.monotonic()
    run(streamed("sandbox-fast", max_tokens=40))
    expected = 0.15 + 40 / 160
    assert expected <= time.monotonic() - started < expected + 1.5


@pytest.mark.parametrize(
    ("model", "kind", "status", "code"),
    [
        ("sandbox-error-400", "bad_request", 400, "context_length_exceeded"),
        ("sandbox-error-401", "auth", 401, "invalid_api_key"),
        ("sandbox-error-429", "rate_limited", 429, "rate_limit_exceeded"),
        ("sandbox-error-500", "status", 500, "internal_error"),
        ("sandbox-html", "broken", 200, None),
        ("sandbox-empty", "broken", None, None),
        ("sandbox-unheard-of", "bad_request", 404, "model_not_found"),
    ],
)
def test_each_failing_model_fails_as_its_name_says(run: Run, model: str, kind: str, status: int | None, code: str | None) -> None:
    failed = failure(run, model)
    assert (failed.kind, failed.status, failed.code) == (kind, status, code)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("sandbox-error-400", "sandbox-error-400 refuses the request."),
        ("sandbox-error-401", "The provider refused the gateway's credentials."),
        ("sandbox-error-429", "The provider answered 429: sandbox-error-429 is rate limited: retry after two seconds."),
        ("sandbox-error-500", "The provider answered 500: sandbox-error-500 fails."),
    ],
)
def test_a_failing_model_says_so_in_a_sentence(run: Run, model: str, message: str) -> None:
    assert failure(run, model).message == message


def test_a_rate_limit_says_when_to_come_back(run: Run) -> None:
    assert failure(run, "sandbox-error-429").retry_after == 2.0


@pytest.mark.parametrize("model", ["sandbox-slow", "sandbox-hang"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_late_first_byte_runs_into_the_timeout(run: Run, model: str, stream: bool) -> None:
    assert failure(run, model, stream=stream, seconds=0.4).kind == "timeout"


@pytest.mark.parametrize("stream", [True, False])
def test_a_stall_runs_into_the_idle_timeout(run: Run, stream: bool) -> None:
    assert failure(run, "sandbox-stall", stream=stream, seconds=0.6, max_tokens=4).kind == "timeout"


@pytest.mark.parametrize("stream", [True, False])
def test_a_disconnect_is_a_broken_answer(run: Run, stream: bool) -> None:
    assert failure(run, "sandbox-disconnect", stream=stream, max_tokens=4).kind == "broken"


def test_a_stream_error_comes_in_the_middle_and_without_done(run: Run) -> None:
    reader = run(streamed("sandbox-stream-error", max_tokens=8))
    assert reader.has_output
    assert reader.error is not None
    assert (reader.done, reader.finish_reasons) == (False, ())
    assert failure(run, "sandbox-stream-error", max_tokens=8).status == 500


def test_an_empty_stream_is_empty(run: Run) -> None:
    assert run(raw("sandbox-empty", stream=True)) == b""


@pytest.mark.parametrize("key", ["wrong", "sandbox-", "ü"])
def test_only_the_gateways_token_is_let_in(run: Run, key: str) -> None:
    if not key.isascii():
        assert tokens.accepts(f"Bearer {key}") is False
        return
    assert failure(run, "sandbox-instant", key=key).kind == "auth"


def test_an_unknown_path_and_a_malformed_request_are_told_apart(run: Run) -> None:
    assert failure(run, "sandbox-instant", path="/nowhere").code == "unknown_url"
    assert failure(run, "sandbox-instant", messages=[]).param == "messages"


def names() -> Iterator[str]:
    return (model.name for model in catalogue())


def test_the_catalogue_names_every_model_once() -> None:
    assert sorted(names()) == sorted(MODELS)
    assert len(set(names())) == len(list(names())) >= 18


@pytest.mark.parametrize("name", sorted(MODELS))
def test_each_model_can_be_declared(name: str) -> None:
    model = MODELS[name]
    assert model.description
    assert 0 < model.max_output_tokens < model.context_window
    prices = [money.parse_usd(text) for text in (model.cached_input_usd, model.input_usd, model.output_usd)]
    assert prices == sorted(prices)
    assert prices[0] > 0
