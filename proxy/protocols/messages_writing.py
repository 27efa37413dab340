"""A `Conversation` → a Messages request, for a provider that speaks it.

What Messages wants and others do not: a bound on the answer; the system prompt beside the messages; turns that
alternate and begin with the user's; all results of a turn's tools in one message, before anything else; ids of a
certain alphabet, each used once; no empty text. What has no meaning there (`seed`, `logit_bias`, penalties) is left out;
what a caller would miss in the answer (`n`, log probabilities, sound) is refused.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Raw

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
    ToolResult,
    ToolUse,
)
from proxy.errors import BadRequest
from proxy.protocols import cache_marks, claude_models, narrow_schemas, tool_arguments
from proxy.protocols import unsaid as unsaid_of
from proxy.protocols.base import Quirks, Written

# Where nobody bounds the answer. Every model of the family can write as much.
DEFAULT_MAX_TOKENS = 4096
LEAST_THINKING = 1024
LEAST_TOP_P_THINKING = 0.95
MAX_USER_ID = 256
# Effort → tokens of thought, on models that are told a number. At most four fifths of the answer, or nothing is left of it.
BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_000, "max": 32_000}
OPENING = "(The conversation begins with the assistant.)"
GO_ON = "(Go on.)"
JSON_ONLY = "Answer with one JSON value and nothing else: no other text, no code fence."
SCHEMA_ONLY = "The value must fit this JSON schema:\n"
_WRONG_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_TYPE_FIRST = re.compile(rb'\s*\{\s*"type"\s*:\s*"')
_NO_PARAMETERS = Raw(b'{"type":"object","properties":{}}')
_MODES = {"auto": "auto", "required": "any", "none": "none", "tool": "tool"}

_write = msgspec.json.Encoder().encode
Block = dict[str, Any]


class _Schema(msgspec.Struct):
    type: Any = None


def write_request(conversation: Conversation, *, model: str, stream: bool, max_tokens: int | None, quirks: Quirks) -> Written:
    """Raises BadRequest for what this protocol cannot say."""
    _refuse(conversation, model)
    cap = min((bound for bound in (max_tokens, conversation.max_tokens) if bound), default=DEFAULT_MAX_TOKENS)
    turns = _Turns(conversation.messages)
    messages = turns.written(goes_on=claude_models.goes_on(model))
    schema = _enforced(conversation.format, model, quirks)
    system = [*turns.system, *_instructions(conversation.format, schema)]
    thinking = _thinking(conversation, turns, model, cap)
    members = {
        "model": model,
        "max_tokens": cap,
        "tools": [_tool(tool, model) for tool in conversation.tools] or None,
        "system": system or None,
        "messages": messages,
        "tool_choice": _tool_choice(conversation),
        **_sampling(conversation, model, is_thinking=thinking is not None and thinking["type"] != "disabled"),
        "stop_sequences": list(conversation.stop) or None,
        "thinking": thinking,
        "output_config": _output_config(conversation, model, schema) or None,
        "metadata": {"user_id": conversation.user} if conversation.user and len(conversation.user) <= MAX_USER_ID else None,
        "stream": True if stream else None,
    }
    given = {name: value for name, value in members.items() if value is not None} | unsaid_of.taken(conversation, quirks.takes)
    left_out = _unsaid(conversation, given, model, quirks)
    if quirks.auto_cache:
        given = dict(cache_marks.marked({name: Raw(_write(value)) for name, value in given.items()}))
    return Written(_write(given), left_out)


def _unsaid(conversation: Conversation, given: Block, model: str, quirks: Quirks) -> tuple[str, ...]:
    said = {"parallel_tools"} | {name for name in ("temperature", "top_p", "top_k") if name in given}
    if given.get("temperature", conversation.temperature) != conversation.temperature:
        said.discard("temperature")  # it is sent as 1, the most there is
    if "metadata" in given:
        said.add("user")
    if _says_thought(conversation.reasoning, given):
        said.add("reasoning")
    strict = sum("strict" in tool for tool in given.get("tools", ())) == sum(bool(tool.strict) for tool in conversation.tools)
    parts = {unsaid_of.CACHE, unsaid_of.CITE} | ({unsaid_of.STRICT} if strict else set())
    return unsaid_of.unsaid(conversation, said=said, takes=quirks.takes, parts=parts)


def _says_thought(reasoning: Reasoning | None, given: Block) -> bool:
    """No thought is said by silence, too; a switch that is off says nothing else."""
    if reasoning is not None and reasoning.effort == "none":
        return True
    return given.get("thinking", {"type": "disabled"})["type"] != "disabled" or "effort" in given.get("output_config", ())


def _refuse(conversation: Conversation, model: str) -> None:
    if conversation.n > 1:
        raise BadRequest("n: this model's provider gives one answer per call.", param="n")
    if conversation.logprobs:
        raise BadRequest("logprobs: this model's provider tells no log probabilities.", param="logprobs")
    if any(not text.strip() for text in conversation.stop):
        raise BadRequest("stop: this model's provider takes no stop sequence of white space alone.", param="stop")
    if conversation.forces_tools and not claude_models.can_be_made_to_call(model):
        raise BadRequest("tool_choice: this model cannot be made to call a tool.", param="tool_choice")


# --- turns -------------------------------------------------------------------------------------
class _Turns:
    """The messages as alternating turns; `system` apart from them."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self.system: list[Block] = []
        self.turns: list[tuple[str, list[Block]]] = []
        self._ids = _Ids()
        for message in messages:
            blocks = [block for part in message.parts if (block := self._block(part)) is not None]
            if message.role == "system":
                self.system += blocks
            elif blocks:
                self._add("assistant" if message.role == "assistant" else "user", blocks)

    def written(self, *, goes_on: bool) -> list[Block]:
        """`goes_on`: the model takes words of its own to go on from. Raises BadRequest where there is nothing to answer."""
        turns = self.turns
        if not turns and self.system:
            turns, self.system[:] = [("user", list(self.system))], []
        if not turns:
            raise BadRequest("messages: there must be a message with content.", param="messages")
        if turns[0][0] == "assistant":
            turns = [("user", [{"type": "text", "text": OPENING}]), *turns]
        if turns[-1][0] == "assistant" and goes_on:
            _strip_end(turns[-1][1])
        elif turns[-1][0] == "assistant":
            turns = [*turns, ("user", [{"type": "text", "text": GO_ON}])]
        # Results of tools come first in a turn; everything else keeps its order.
        return [
            {"role": role, "content": sorted(blocks, key=_is_no_result) if role == "user" and len(blocks) > 1 else blocks}
            for role, blocks in turns
        ]

    @property
    def allow_thinking(self) -> bool:
        """An answer that goes on from the assistant's own words, or from calls of tools made without thought, has none."""
        if not self.turns or self.turns[-1][0] == "assistant":
            return False
        last = next((blocks for role, blocks in reversed(self.turns) if role == "assistant"), [])
        used_tools = any(block["type"] == "tool_use" for block in last)
        return not used_tools or last[0]["type"] in ("thinking", "redacted_thinking")

    def _add(self, role: str, blocks: list[Block]) -> None:
        if self.turns and self.turns[-1][0] == role:
            self.turns[-1][1].extend(blocks)
        else:
            self.turns.append((role, blocks))

    def _block(self, part: Part) -> Block | None:
        match part:  # the most frequent first: each pattern is a step
            case Text():
                return _text(part)
            case ToolUse():
                given = tool_arguments.as_object(part.arguments)
                return _marked({"type": "tool_use", "id": self._ids.new(part.id), "name": part.name, "input": given}, part.cache)
            case ToolResult():
                return self._result(part)
            case Thinking(redacted=str(data)):
                return {"type": "redacted_thinking", "data": data}
            case Thinking():  # unsigned thought is another provider's, and refused
                signed = {"type": "thinking", "thinking": part.text, "signature": part.signature}
                return signed if part.is_sealed_by_claude else None
            case Refusal() | Image() | File():
                return _shown(part)
            case Audio():
                raise BadRequest("messages: this model's provider takes no sound.", param="messages")

    def _result(self, part: ToolResult) -> Block:
        block: Block = {"type": "tool_result", "tool_use_id": self._ids.of(part.tool_use_id)}
        content = [written for shown in part.parts if (written := _shown(shown)) is not None]
        if content:
            block["content"] = content
        if part.is_error:
            block["is_error"] = True
        return _marked(block, part.cache)


class _Ids:
    """Ids of tool calls, made valid. Providers exist that begin anew with every turn, so a result answers the latest call."""

    def __init__(self) -> None:
        self._latest: dict[str, str] = {}
        # Each id, and the last number that one of it was given.
        self._taken: dict[str, int] = {}

    def new(self, given: str) -> str:
        valid = _WRONG_IN_ID.sub("_", given) or "toolu"
        candidate, number = valid, self._taken.get(valid, 1)
        while candidate in self._taken:
            number += 1
            candidate = f"{valid}_{number}"
        self._taken[valid] = number
        self._taken.setdefault(candidate, 1)
        self._latest[given] = candidate
        return candidate

    def of(self, given: str) -> str:
        return self._latest.get(given) or _WRONG_IN_ID.sub("_", given) or "toolu"


def _is_no_result(block: Block) -> bool:
    return bool(block["type"] != "tool_result")


def _strip_end(blocks: list[Block]) -> None:
    """What the assistant is to go on from may not end in white space."""
    if blocks[-1]["type"] == "text":
        blocks[-1] = blocks[-1] | {"text": blocks[-1]["text"].rstrip()}


# --- blocks ------------------------------------------------------------------------------------
def _shown(part: Text | Refusal | Image | File) -> Block | None:
    match part:
        case Text():
            return _text(part)
        case Refusal():
            return _text(Text(part.text))
        case Image():
            return _marked({"type": "image", "source": _source(part)}, part.cache)
        case File():
            titled: Block = {"type": "document", "source": _document(part)}
            titled |= {"title": part.name} if part.name else {}
            return _marked(titled | ({"citations": {"enabled": True}} if part.cite else {}), part.cache)


def _text(part: Text) -> Block | None:
    """None for one that says nothing: it would be refused."""
    if not part.text or part.text.isspace():
        return None
    block: Block = {"type": "text", "text": part.text}
    return block if part.cache is None else _marked(block, part.cache)


def _source(image: Image) -> Block:
    if image.data is None:
        return {"type": "url", "url": image.url or ""}
    media_type = (image.media_type or "image/png").replace("image/jpg", "image/jpeg")
    return {"type": "base64", "media_type": media_type, "data": image.data}


def _document(file: File) -> Block:
    media_type = file.media_type or "application/pdf"
    if file.url is not None:
        return {"type": "url", "url": file.url}
    if file.data is not None and media_type == "application/pdf":
        return {"type": "base64", "media_type": media_type, "data": file.data}
    if file.data is not None and media_type.startswith(("text/", "application/json")):
        return {"type": "text", "media_type": "text/plain", "data": _plain(file.data)}
    if file.data is not None:
        raise BadRequest(f"messages: this model's provider takes no files of type {media_type[:60]}.", param="messages")
    raise BadRequest("messages: a file known to another provider by its id cannot be sent to this one.", param="messages")


def _plain(data: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise BadRequest("messages: a file of text must be UTF-8 in base64.", param="messages") from error


def _marked(block: Block, cache: CacheMark | None) -> Block:
    return block if cache is None else block | {"cache_control": _cache_control(cache)}


def _cache_control(cache: CacheMark) -> dict[str, str]:
    return {"type": "ephemeral"} | ({"ttl": cache.ttl} if cache.ttl != "5m" else {})


# --- tools -------------------------------------------------------------------------------------
def _tool(tool: Tool, model: str) -> Block:
    written: Block = {"name": tool.name}
    if tool.description:
        written["description"] = tool.description
    written["input_schema"] = _object_schema(tool.parameters)
    if tool.strict and claude_models.takes_strict_tools(model):
        enforced = narrow_schemas.narrowed(written["input_schema"])
        written |= {"input_schema": enforced, "strict": True} if enforced is not None else {}
    return written if tool.cache is None else _marked(written, tool.cache)


def _object_schema(schema: Raw | None) -> Raw:
    """The same bytes, with the type that every schema must have here."""
    if schema is not None and _TYPE_FIRST.match(schema):  # nearly always
        return schema
    text = bytes(schema or b"null").strip()
    if text in (b"null", b"{}"):
        return _NO_PARAMETERS
    try:
        has_type = msgspec.json.decode(text, type=_Schema).type is not None
    except msgspec.DecodeError:
        return Raw(text)
    return Raw(text) if has_type else Raw(b'{"type":"object",' + text[1:])


def _tool_choice(conversation: Conversation) -> Block | None:
    choice = conversation.tool_choice
    if not conversation.tools or (choice is None and conversation.parallel_tools is not False):
        return None
    written: Block = {"type": _MODES[choice.mode] if choice is not None else "auto"}
    if choice is not None and choice.mode == "tool":
        written["name"] = choice.name
    if conversation.parallel_tools is False and written["type"] != "none":
        written["disable_parallel_tool_use"] = True
    return written


# --- how it answers ----------------------------------------------------------------------------
def _enforced(format: Format | None, model: str, quirks: Quirks) -> Raw | None:
    """The schema that the answer is held to; None where it cannot be."""
    if format is None or format.kind != "schema" or not quirks.schema_formats:
        return None
    return narrow_schemas.narrowed(format.schema) if claude_models.version(model) else format.schema


def _instructions(format: Format | None, enforced: Raw | None) -> Sequence[Block]:
    """Where the protocol has no word for a format, the model is told."""
    if format is None or enforced is not None:
        return ()
    schema = f" {SCHEMA_ONLY}{bytes(format.schema).decode()}" if format.schema is not None else ""
    return ({"type": "text", "text": JSON_ONLY + schema},)


def _thinking(conversation: Conversation, turns: _Turns, model: str, cap: int) -> Block | None:
    """None: left to the model. Thought by a number of tokens does not go with turns begun without."""
    asked, kind = conversation.reasoning, claude_models.thinking(model)
    if asked is None or kind == "none":
        return None
    is_barred = conversation.forces_tools and not claude_models.thinks_when_made_to_call(model)
    if kind == "adaptive":
        if asked.effort == "none" or is_barred:
            return claude_models.no_thought(model)
        return {"type": "adaptive"} | ({"display": "summarized"} if asked.visible else {})
    if asked.effort == "none" or is_barred or not turns.allow_thinking:
        return {"type": "disabled"}
    budget = min(asked.budget_tokens or BUDGETS[asked.effort or "medium"], cap * 4 // 5)
    return {"type": "enabled", "budget_tokens": budget} if budget >= LEAST_THINKING else None


def _output_config(conversation: Conversation, model: str, schema: Raw | None) -> Block:
    written: Block = {}
    if conversation.reasoning is not None and claude_models.thinking(model) == "adaptive":
        effort = _effort(conversation.reasoning, model)
        written |= {"effort": effort} if effort is not None else {}
    if schema is not None:
        written["format"] = {"type": "json_schema", "schema": schema}
    return written


def _effort(asked: Reasoning, model: str) -> str | None:
    """The level asked for, or the nearest there is; of a number of tokens the one that it amounts to."""
    effort: str | None = asked.effort
    levels = claude_models.efforts(model)
    if effort is None:
        effort = next((name for name, tokens in BUDGETS.items() if tokens >= (asked.budget_tokens or 0)), "max")
    if effort == "none":
        return levels[0] if claude_models.always_thinks(model) else None
    if effort == "minimal":
        return levels[0]
    return effort if effort in levels else levels[-1]


def _sampling(conversation: Conversation, model: str, *, is_thinking: bool) -> Block:
    """Temperatures end at 1; thought goes with the usual one only; newer models take one of the two, the newest none."""
    if not claude_models.takes_sampling(model):
        return {}
    temperature, top_p, top_k = conversation.temperature, conversation.top_p, conversation.top_k
    if is_thinking:
        top_p = top_p if top_p is not None and top_p >= LEAST_TOP_P_THINKING else None
        return {"top_p": top_p}
    return {
        "temperature": None if temperature is None else min(1.0, temperature),
        "top_p": top_p if temperature is None else None,
        "top_k": top_k,
    }
