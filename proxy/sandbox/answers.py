"""What a sandbox model says: decided by the request alone, so the same request always gets the same answer.

A request's `metadata.sandbox = {"input_tokens": N, "output_tokens": M}` sets the reported usage and the length
of the text exactly (as far as `max_tokens` and the model's maximum allow), to replay recorded traffic.
"""

import hashlib
from typing import Any

import msgspec

from proxy.canonical.request import Request
from proxy.errors import BadRequest
from proxy.sandbox.catalogue import SandboxModel
from proxy.sandbox.examples import WORD, example

# Three or four letters and a space each: about four bytes a token, like English.
TEXT = (
    "the gate keeps what you send and says it back in new form so each call can be seen then paid with care one "
    "road may lead to many more yet all of them end here at our own door for now that is good news if you ask me"
)
WORDS = TEXT.split()
SHORTEST, LONGEST = 24, 160
BYTES_PER_TOKEN = 4
# Of all choices of a call together: it is written in the gateway's own event loop.
MOST_WORDS = 100_000


class Asked(msgspec.Struct):
    """`metadata.sandbox`."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class ToolCall(msgspec.Struct, frozen=True):
    id: str
    name: str
    arguments: str


class Choice(msgspec.Struct, frozen=True):
    """`words` are the tokens of the text; of them the first `reasoning` are thought, not said."""

    words: list[str]
    reasoning: int
    tool_call: ToolCall | None
    finish_reason: str

    @property
    def thought(self) -> str:
        return "".join(self.words[: self.reasoning])

    @property
    def said(self) -> str:
        return "".join(self.words[self.reasoning :])


class Answer(msgspec.Struct, frozen=True):
    id: str
    choices: list[Choice]
    input_tokens: int
    cached_tokens: int

    @property
    def output_tokens(self) -> int:
        return sum(len(choice.words) for choice in self.choices)

    @property
    def reasoning_tokens(self) -> int:
        return sum(choice.reasoning for choice in self.choices)

    def usage(self) -> dict[str, Any]:
        """In OpenAI's shape: input includes cached, output includes reasoning."""
        return {
            "prompt_tokens": self.input_tokens,
            "completion_tokens": self.output_tokens,
            "total_tokens": self.input_tokens + self.output_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        }


def compose(request: Request, model: SandboxModel) -> Answer:
    """Raises BadRequest where `metadata.sandbox` is malformed."""
    digest = hashlib.sha256(b"\0".join((model.name.encode(), bytes(request.fields["messages"])))).digest()
    seed = int.from_bytes(digest[:8], "big")
    asked = _asked(request)
    if request.n * _limit(request, model, asked) > MOST_WORDS:
        raise BadRequest(f"The sandbox writes at most {MOST_WORDS} words a call, all choices together.", param="n")
    # The estimate counts a token for three bytes; four are nearer to what vocabularies do.
    input_tokens = asked.input_tokens if asked.input_tokens is not None else max(1, request.input_tokens_estimate * 3 // 4)
    return Answer(
        id=f"chatcmpl-{digest.hex()[:24]}",
        choices=[_choice(request, model, asked, seed=seed + index) for index in range(request.n)],
        input_tokens=input_tokens,
        cached_tokens=input_tokens // 2 if model.behaviour == "cached" else 0,
    )


def _asked(request: Request) -> Asked:
    try:
        asked = msgspec.convert((request.metadata or {}).get("sandbox", {}), Asked)
    except msgspec.ValidationError as error:
        raise BadRequest(f"metadata.sandbox: {error}", param="metadata.sandbox") from error
    if min(asked.input_tokens or 0, asked.output_tokens or 0) < 0:
        raise BadRequest("metadata.sandbox: token counts are never negative", param="metadata.sandbox")
    return asked


def _limit(request: Request, model: SandboxModel, asked: Asked) -> int:
    """The most words one choice can have."""
    return min(asked.output_tokens or LONGEST, request.max_tokens or model.max_output_tokens, model.max_output_tokens)


def _choice(request: Request, model: SandboxModel, asked: Asked, *, seed: int) -> Choice:
    length = SHORTEST + seed % (LONGEST - SHORTEST) if asked.output_tokens is None else asked.output_tokens
    limit = min(request.max_tokens or model.max_output_tokens, model.max_output_tokens)
    words = pseudo_random_words(seed, min(length, limit))
    tool_call = _tool_call(request, seed)
    reasoning = len(words) // 2 if model.behaviour == "reasoning" else 0
    if asked.output_tokens is None and (form := _form(request)) is not None:
        words = [*words[:reasoning], *form]
        length, words = len(words), words[:limit]
    return Choice(
        words=words,
        reasoning=reasoning,
        tool_call=tool_call,
        finish_reason="length" if length > limit else "tool_calls" if tool_call else "stop",
    )


def pseudo_random_words(seed: int, count: int) -> list[str]:
    """Each but the first with a space before it (a linear congruential generator: fast, and the same everywhere)."""
    words = []
    for position in range(count):
        seed = (seed * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        word = WORDS[(seed >> 33) % len(WORDS)]
        words.append(word.capitalize() if position == 0 else f" {word}")
    return words


class _Schema(msgspec.Struct):
    schema: dict[str, Any] = {}


class _Form(msgspec.Struct):
    type: str = "text"
    json_schema: _Schema = msgspec.field(default_factory=_Schema)


def _form(request: Request) -> list[str] | None:
    """The tokens of an answer in the form asked for: an example of the schema; of JSON without one, any object. None: prose."""
    if "response_format" not in request.fields:
        return None
    try:
        form = msgspec.json.decode(msgspec.json.encode(request.fields["response_format"]), type=_Form | None)
    except msgspec.DecodeError as error:
        raise BadRequest(f"response_format: {error}", param="response_format") from error
    if form is None or form.type not in ("json_schema", "json_object"):
        return None
    said = example(form.json_schema.schema) if form.type == "json_schema" else {"answer": WORD}
    text = msgspec.json.encode(said).decode()
    return [text[start : start + BYTES_PER_TOKEN] for start in range(0, len(text), BYTES_PER_TOKEN)]


class _Function(msgspec.Struct):
    name: str = "tool"
    parameters: dict[str, Any] = {}


class _Tool(msgspec.Struct):
    function: _Function = msgspec.field(default_factory=_Function)


class _ToolRequest(msgspec.Struct):
    tools: list[_Tool] = []
    tool_choice: str | _Tool | None = None
    messages: list[dict[str, Any]] = []


def _tool_call(request: Request, seed: int) -> ToolCall | None:
    """The named tool, or the first when one is required or the last message speaks of a tool by name."""
    if "tools" not in request.fields:
        return None
    try:
        asked = msgspec.json.decode(msgspec.json.encode(request.fields), type=_ToolRequest)
    except msgspec.DecodeError as error:
        raise BadRequest(f"tools: {error}", param="tools") from error
    chosen = _chosen(asked)
    if chosen is None:
        return None
    arguments = msgspec.json.encode(example(chosen.parameters)).decode()
    return ToolCall(id=f"call_{seed:016x}", name=chosen.name, arguments=arguments)


def _chosen(asked: _ToolRequest) -> _Function | None:
    functions = [tool.function for tool in asked.tools]
    if isinstance(asked.tool_choice, _Tool):
        return next((each for each in functions if each.name == asked.tool_choice.function.name), None)
    if asked.tool_choice == "required":
        return next(iter(functions), None)
    last = asked.messages[-1]
    if asked.tool_choice == "none" or last.get("role") != "user":
        return None
    return next((each for each in functions if each.name in str(last.get("content"))), None)
