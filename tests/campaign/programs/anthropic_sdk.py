"""The official Anthropic SDK for Python: a task with a tool, whole and streamed."""

import os
from typing import Any

from anthropic import Anthropic

MODEL = os.environ["MODEL"]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: Any = [{"name": "weather", "description": "The weather of a city.", "input_schema": SCHEMA}]
QUESTION: Any = {"role": "user", "content": "What is the weather in Zürich?"}
client = Anthropic(base_url=os.environ["GATEWAY"], api_key=os.environ["KEY"], max_retries=0)


def said(messages: list[Any], *, stream: bool) -> Any:
    if not stream:
        return client.messages.create(model=MODEL, max_tokens=1000, messages=messages, tools=TOOLS)
    with client.messages.stream(model=MODEL, max_tokens=1000, messages=messages, tools=TOOLS) as events:
        return events.get_final_message()


for streamed in (False, True):
    asked = said([QUESTION], stream=streamed)
    (call,) = [block for block in asked.content if block.type == "tool_use"]
    assert call.input == {"city": "Zürich"}
    assert asked.stop_reason == "tool_use"
    turn = {"role": "assistant", "content": [block.to_dict() for block in asked.content]}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "21 °C"}]}
    answered = said([QUESTION, turn, result], stream=streamed)
    assert "21 °C" in answered.content[-1].text, answered
    assert answered.stop_reason == "end_turn"
assert client.messages.count_tokens(model=MODEL, messages=[QUESTION], tools=TOOLS).input_tokens > 0
