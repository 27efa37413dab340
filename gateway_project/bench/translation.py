"""What translating a request costs: CPU of one worker, from each protocol of callers to every other of providers.

A conversation that uses tools, about 20 KB of JSON, as an agent sends it in its ninth turn. The least of many tries counts: what
another process takes from this one is no cost of the gateway's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from gateway_project.bench import texts
from gateway_project.bench.figures import Figure

TURNS, TOOLS, FIELDS, PIECE = 8, 8, 5, 210
TRIES, IN_A_ROW = 60, 6
TITLES = {"chat_completions": "Chat Completions", "messages": "Messages", "responses": "Responses"}
# By protocol of the provider: its kind, and a model whose name its writer knows.
TARGETS = {
    "chat_completions": ("openai", "gpt-5-mini"),
    "messages": ("anthropic", "claude-sonnet-5"),
    "responses": ("openai", "gpt-5-mini"),
    "converse": ("bedrock", "anthropic.claude-sonnet-5-v1:0"),
    "gemini": ("gemini", "gemini-3-flash"),
}
Json = dict[str, Any]


def figures(*, runs: int, tries: int = TRIES) -> list[Figure]:
    """A row for each protocol of callers: to the provider's protocol that costs it most."""
    rows = {source: Figure(f"translate 20 KB with tools: {TITLES[source]}", "µs", "≤ 150", "≤ 150") for source in TITLES}
    for _ in range(runs):
        for source, costs in measured(tries=tries).items():
            rows[source].values.append(max(costs.values()))
    return list(rows.values())


def measured(*, tries: int) -> dict[str, dict[str, float]]:
    """Microseconds, by the caller's protocol and the provider's. All are tried in turn."""
    works = {(source, target): translation(source, target) for source in TITLES for target in TARGETS if source != target}
    least = dict.fromkeys(works, float("inf"))
    for _ in range(tries):
        for pair, work in works.items():
            least[pair] = min(least[pair], _least(work))
    return {source: {target: cost for (given, target), cost in least.items() if given == source} for source in TITLES}


def translation(source: str, target: str) -> Callable[[], bytes]:
    """What the gateway does between a call that has been read and the bytes for a provider of another protocol."""
    from proxy.protocols import registry
    from proxy.providers.registry import provider

    asked = registry.CALLERS[source].parse(json.dumps(REQUESTS[source]()).encode(), {})
    reading, codec = registry.CHAT_CALLERS[source], registry.CHAT_PROVIDERS[target]
    kind, model = TARGETS[target]
    quirks = provider(kind).quirks
    return lambda: codec.write_request(reading.conversation(asked), model=model, stream=True, max_tokens=None, quirks=quirks).body


def _least(work: Callable[[], bytes]) -> float:
    """The first one fills the processor's caches again."""
    work()
    taken = []
    for _ in range(IN_A_ROW):
        began = time.perf_counter_ns()
        work()
        taken.append(time.perf_counter_ns() - began)
    return min(taken) / 1000


# --- the request, in three protocols -----------------------------------------------------------
class _Turn(NamedTuple):
    """A question, a call of a tool, its result, an answer."""

    id: str
    tool: str
    arguments: Json
    asked: str
    result: str
    answer: str


def _turns() -> list[_Turn]:
    prose = _prose()
    return [
        _Turn(
            f"call_{number}",
            f"tool_{number % TOOLS}",
            {"field_0": next(prose)[:40], "field_1": number},
            asked=next(prose),
            result=next(prose) + next(prose),
            answer=next(prose),
        )
        for number in range(TURNS)
    ]


def _prose() -> Iterator[str]:
    """Pieces of a text that others wrote, ends of lines and quotations included, the same ones every time."""
    text = texts.KINDS["English"]()
    return (text[begin : begin + PIECE] for begin in range(0, len(text), PIECE))


def _tools() -> list[tuple[str, str, Json]]:
    prose = _prose()
    return [(f"tool_{number}", next(prose), _schema(prose)) for number in range(TOOLS)]


def _schema(prose: Iterator[str]) -> Json:
    fields: Json = {f"field_{at}": {"type": "string", "description": next(prose)[:80]} for at in range(FIELDS)}
    fields["options"] = {"type": "array", "items": {"type": "object", "properties": {"name": {"enum": ["a", "b", "c"]}}}}
    return {"type": "object", "properties": fields, "required": ["field_0"], "additionalProperties": False}


def _system() -> str:
    prose = _prose()
    return "\n".join(next(prose) for _ in range(8))


def chat_completions() -> Json:
    said: list[Json] = [{"role": "system", "content": _system()}]
    for turn in _turns():
        called = {"name": turn.tool, "arguments": json.dumps(turn.arguments)}
        said += [
            {"role": "user", "content": turn.asked},
            {"role": "assistant", "content": None, "tool_calls": [{"id": turn.id, "type": "function", "function": called}]},
            {"role": "tool", "tool_call_id": turn.id, "content": turn.result},
            {"role": "assistant", "content": turn.answer},
        ]
    tools = [
        {"type": "function", "function": {"name": name, "description": about, "parameters": schema}}
        for name, about, schema in _tools()
    ]
    said.append({"role": "user", "content": "Go on."})
    return {"model": "m", "stream": True, "max_tokens": 1000, "temperature": 0.2, "messages": said, "tools": tools}


def messages() -> Json:
    said: list[Json] = []
    for turn in _turns():
        said += [
            {"role": "user", "content": turn.asked},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": turn.id, "name": turn.tool, "input": turn.arguments}],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": turn.id, "content": turn.result}]},
            {"role": "assistant", "content": [{"type": "text", "text": turn.answer}]},
        ]
    tools = [{"name": name, "description": about, "input_schema": schema} for name, about, schema in _tools()]
    said.append({"role": "user", "content": "Go on."})
    return {"model": "m", "stream": True, "max_tokens": 1000, "system": _system(), "messages": said, "tools": tools}


def responses() -> Json:
    said: list[Json] = []
    for turn in _turns():
        said += [
            {"role": "user", "content": turn.asked},
            {"type": "function_call", "call_id": turn.id, "name": turn.tool, "arguments": json.dumps(turn.arguments)},
            {"type": "function_call_output", "call_id": turn.id, "output": turn.result},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": turn.answer}]},
        ]
    tools = [
        {"type": "function", "name": name, "description": about, "parameters": schema, "strict": False}
        for name, about, schema in _tools()
    ]
    said.append({"role": "user", "content": "Go on."})
    return {"model": "m", "stream": True, "max_output_tokens": 1000, "instructions": _system(), "input": said, "tools": tools}


REQUESTS: dict[str, Callable[[], Json]] = {
    "chat_completions": chat_completions,
    "messages": messages,
    "responses": responses,
}
