"""A task with a tool at providers whose stand-in was written by others, who know nothing of this gateway (tests/aimock.py).

The scripted provider says what we believe that a provider says; this one says what others found it to say.
"""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest

from tests import aimock as standins
from tests.aimock import Aimock
from tests.gateways import Gateway
from tests.house import House, declare, eventually

# What each is called: its kind, its base URL below the stand-in's, its options, and where the stand-in is then asked.
PROVIDERS: dict[str, tuple[str, str, dict[str, str], str]] = {
    "standin-openai": ("openai", "/v1", {}, "/v1/chat/completions"),
    "standin-azure": ("azure", "", {}, "/openai/v1/chat/completions"),
    "standin-azure-dated": (
        "azure",
        "",
        {"api_version": "2024-10-21"},
        "/openai/deployments/standin-azure-dated/chat/completions?api-version=2024-10-21",
    ),
    "standin-anthropic": ("anthropic", "", {}, "/v1/messages"),
    "standin-gemini": ("gemini", "/v1beta", {}, "/v1beta/models/standin-gemini"),
    "standin-vertex": (
        "vertex",
        "/v1",
        {"region": "europe-west6", "project": "p"},
        "/v1/projects/p/locations/europe-west6/publishers/google/models/standin-vertex",
    ),
    "standin-bedrock": ("bedrock", "", {"region": "eu-central-2"}, "/model/standin-bedrock/converse"),
    "standin-ollama": ("ollama", "/v1", {}, "/v1/chat/completions"),
    "standin-openrouter": ("openrouter", "/api/v1", {}, "/api/v1/chat/completions"),
}
TOOL: dict[str, Any] = {
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TOOLS: list[Any] = [{"type": "function", "function": TOOL}]


def chat(client: openai.OpenAI, model: str, messages: list[Any], *, stream: bool) -> tuple[Any, str]:
    """The message of an answer and why it ended, however it came."""
    if not stream:
        (choice,) = client.chat.completions.create(model=model, messages=messages, tools=TOOLS).choices
        return choice.message, choice.finish_reason
    with client.chat.completions.stream(
        model=model, messages=messages, tools=TOOLS, stream_options={"include_usage": True}
    ) as events:
        for _ in events:
            pass
        whole = events.get_final_completion()
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) in standins.USAGE
    return whole.choices[0].message, whole.choices[0].finish_reason


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", PROVIDERS)
def test_a_task_with_a_tool_is_done(gateway: Gateway, house: House, aimock: Aimock, model: str, stream: bool) -> None:
    kind, base, options, path = PROVIDERS[model]
    declare(model, kind=kind, url=aimock.url + base, **options)
    client = house.client(gateway.url)
    history: list[Any] = [{"role": "user", "content": standins.QUESTION}]

    asked, finish = chat(client, model, history, stream=stream)

    (call,) = asked.tool_calls
    assert (call.function.name, json.loads(call.function.arguments), finish) == ("weather", standins.ARGUMENTS, "tool_calls")
    history += [
        {"role": "assistant", "content": asked.content, "tool_calls": [call.to_dict()]},
        {"role": "tool", "tool_call_id": call.id, "content": "21 °C"},
    ]
    answered, finish = chat(client, model, history, stream=stream)
    assert (answered.content, finish) == (standins.ANSWER, "stop")
    assert [asked["path"].startswith(path) for asked in aimock.received()[-2:]] == [True, True]
    assert house.nothing_held()
    rows = house.rows()
    assert [(row.input_tokens, row.output_tokens) for row in rows] == standins.USAGE
    assert [(row.status, row.usage_estimated) for row in rows] == [("ok", False)] * 2


@pytest.mark.parametrize("model", PROVIDERS)
def test_the_same_is_done_for_a_caller_of_messages(gateway: Gateway, house: House, aimock: Aimock, model: str) -> None:
    kind, base, options, path = PROVIDERS[model]
    declare(model, kind=kind, url=aimock.url + base, **options)
    client = house.anthropic_client(gateway.url)
    tools: list[Any] = [{"name": "weather", "description": TOOL["description"], "input_schema": TOOL["parameters"]}]
    history: list[Any] = [{"role": "user", "content": standins.QUESTION}]

    with client.messages.stream(model=model, max_tokens=500, messages=history, tools=tools) as asked:
        first = asked.get_final_message()

    (call,) = [block for block in first.content if block.type == "tool_use"]
    assert (call.name, call.input, first.stop_reason) == ("weather", standins.ARGUMENTS, "tool_use")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "21 °C"}
    history += [first.to_param(), {"role": "user", "content": [result]}]
    with client.messages.stream(model=model, max_tokens=500, messages=history, tools=tools) as answered:
        assert answered.get_final_text() == standins.ANSWER
    assert [asked["path"].startswith(path) for asked in aimock.received()[-2:]] == [True, True]
    assert [(row.input_tokens, row.output_tokens, row.usage_estimated) for row in house.rows()] == [
        (*used, False) for used in standins.USAGE
    ]
    assert house.nothing_held()


# What the stand-in was told to do wrong (tests/standins/fixtures.json) → what a caller is told of it.
FAULTS = {"drop": 502, "malformed": 502, "disconnect": 502, "busy": 503, "refused": 503}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", PROVIDERS)
def test_a_provider_at_fault_is_told_apart_from_its_caller_who_pays_nothing(
    gateway: Gateway, house: House, aimock: Aimock, model: str, stream: bool
) -> None:
    kind, base, options, _ = PROVIDERS[model]
    declare(model, kind=kind, url=aimock.url + base, **options)
    openai_client, anthropic_client = house.client(gateway.url), house.anthropic_client(gateway.url)
    for fault, status in FAULTS.items():
        asked: Any = {"model": model, "messages": [{"role": "user", "content": f"fault {fault}"}], "stream": stream}
        with pytest.raises(openai.InternalServerError) as told:
            openai_client.chat.completions.create(**asked)
        assert told.value.status_code == status, fault
        with pytest.raises(anthropic.InternalServerError) as told_otherwise:
            anthropic_client.messages.create(**asked, max_tokens=50)
        assert told_otherwise.value.status_code == status, fault
    assert house.nothing_held()
    rows = eventually(lambda: len(found := house.rows()) == 2 * len(FAULTS) and found)
    assert {(row.status, row.charged_nano_usd) for row in rows} == {("failed", 0)}


@pytest.mark.parametrize("model", PROVIDERS)
def test_a_stream_that_a_provider_breaks_off_is_an_error_in_it_and_free(
    gateway: Gateway, house: House, aimock: Aimock, model: str
) -> None:
    kind, base, options, _ = PROVIDERS[model]
    declare(model, kind=kind, url=aimock.url + base, **options)
    asked: Any = {"model": model, "messages": [{"role": "user", "content": "fault truncated"}], "stream": True}
    with pytest.raises(openai.APIError):
        list(house.client(gateway.url).chat.completions.create(**asked))
    with pytest.raises(anthropic.APIError):
        list(house.anthropic_client(gateway.url).messages.create(**asked, max_tokens=50))
    assert house.nothing_held()
    rows = eventually(lambda: len(found := house.rows()) == 2 and found)
    assert {(row.status, row.charged_nano_usd) for row in rows} == {("failed", 0)}
