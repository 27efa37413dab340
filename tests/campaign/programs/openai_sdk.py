"""The official OpenAI SDK for Python: a task with a tool, whole and streamed, by the protocol named in PROTOCOL."""

import json
import os
from typing import Any

from openai import OpenAI

MODEL = os.environ["MODEL"]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
QUESTION = {"role": "user", "content": "What is the weather in Zürich?"}
client = OpenAI(base_url=f"{os.environ['GATEWAY']}/v1", api_key=os.environ["KEY"], max_retries=0)


def chat(*, stream: bool) -> str:
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]

    def said(messages: list[Any]) -> Any:
        if not stream:
            return client.chat.completions.create(model=MODEL, messages=messages, tools=tools).choices[0].message
        with client.chat.completions.stream(model=MODEL, messages=messages, tools=tools) as events:
            return events.get_final_completion().choices[0].message

    asked = said([QUESTION])
    (call,) = asked.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Zürich"}
    turn = {"role": "assistant", "content": asked.content, "tool_calls": [call.to_dict()]}
    result = {"role": "tool", "tool_call_id": call.id, "content": "21 °C"}
    return str(said([QUESTION, turn, result]).content)


def responses(*, stream: bool) -> str:
    tools: Any = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}]

    def said(items: list[Any]) -> Any:
        if not stream:
            return client.responses.create(model=MODEL, input=items, tools=tools, store=False)
        with client.responses.stream(model=MODEL, input=items, tools=tools, store=False) as events:
            return events.get_final_response()

    asked = said([QUESTION])
    (call,) = [item for item in asked.output if item.type == "function_call"]
    assert json.loads(call.arguments) == {"city": "Zürich"}
    turn = {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "21 °C"}
    return str(said([QUESTION, turn, result]).output_text)


task = {"chat": chat, "responses": responses}[os.environ["PROTOCOL"]]
for streamed in (False, True):
    answer = task(stream=streamed)
    assert "21 °C" in answer, answer
