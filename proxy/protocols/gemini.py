"""Google's native Gemini protocol (`generateContent`), spoken to the Gemini API and to Vertex AI. Sans-IO.

Guarantees: schemas and tool arguments reach the provider as raw JSON; a tool call's thought signature goes back as it
came; addresses of pictures and files are refused unless Google itself keeps what stands there: nothing is fetched here.
Not said: what has no member there (parallel tools, logit bias, cache marks, users, verbosity) is named as unsaid; thought
is not sent back, for only its signatures mean something to Google.
Source: google-genai 3.6 types; https://ai.google.dev/api/generate-content
"""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Raw

from proxy.canonical.conversation import (
    Audio,
    Conversation,
    File,
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
from proxy.errors import BadRequest
from proxy.protocols import tool_arguments
from proxy.protocols import unsaid as unsaid_of
from proxy.protocols.base import Quirks, Written
from proxy.protocols.gemini_replies import StreamReader, read_answer, read_reply

__all__ = ["NAME", "path", "read_answer", "read_reply", "reader", "write_request"]

NAME = "gemini"
# Stands in for the signature of a call that no Gemini model made, which Gemini 3 and later would refuse without one:
# https://ai.google.dev/gemini-api/docs/thought-signatures
NO_SIGNATURE = "skip_thought_signature_validator"
# What Google keeps for its callers: files of its Files API, objects of Cloud Storage.
_OWN_URLS = ("gs://", "https://generativelanguage.googleapis.com/")
_GENERATION = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
# Between these there are models that may think as good as not at all, and up to that one some that know penalties:
# https://ai.google.dev/gemini-api/docs/generate-content/thinking#thinking-levels
_FIRST_LEVELS, _LAST_MINIMAL, _NO_PENALTIES, _ONE_CANDIDATE = (3, 0), (3, 6), (2, 5), (4, 0)
_MODES = {"auto": "AUTO", "required": "ANY", "none": "NONE", "tool": "ANY"}
# Effort in tokens of thought, for models before Gemini 3: https://ai.google.dev/gemini-api/docs/openai#thinking
_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576, "xhigh": 24_576, "max": 24_576}
_LEAST_OF_PRO, _MOST, _MOST_OF_PRO = 128, 24_576, 32_768
_LEVELS = {
    "none": "MINIMAL",
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "HIGH",
    "max": "HIGH",
}

# Top-level members of its own that are no other protocol's: what is safe enough to answer is the caller's to say.
_TAKES = frozenset({"safetySettings", "safety_settings"})
_PENALTIES = frozenset({"frequency_penalty", "presence_penalty"})
_SAID = frozenset({"temperature", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty", "reasoning", "modalities"})

_encode = msgspec.json.Encoder().encode
Json = dict[str, Any]


def path(model: str, *, stream: bool) -> str:
    name = quote(model, safe="")
    return f"/models/{name}:streamGenerateContent?alt=sse" if stream else f"/models/{name}:generateContent"


def reader(*, n: int = 1, wants_usage: bool = False, deltas: bool = True) -> StreamReader:
    return StreamReader(n=n)


def write_request(conversation: Conversation, *, model: str, stream: bool, max_tokens: int | None, quirks: Quirks) -> Written:
    """Raises BadRequest for what Gemini cannot be told."""
    if conversation.n > 1 and _generation(model) >= _ONE_CANDIDATE:
        raise BadRequest("n: this model gives one answer per call.", param="n")
    system, contents = _messages(conversation, has_levels=_generation(model) >= _FIRST_LEVELS)
    body: Json = {"contents": contents}
    if system:
        body["systemInstruction"] = {"parts": system}
    if conversation.tools:
        body["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in conversation.tools]}]
    if conversation.tools and conversation.tool_choice:
        body["toolConfig"] = {"functionCallingConfig": _calling(conversation.tool_choice)}
    config = _config(conversation, model=model, max_tokens=max_tokens)
    if config:
        body["generationConfig"] = config
    takes = _TAKES | quirks.takes
    said = _SAID if _takes_penalties(model) else _SAID - _PENALTIES
    return Written(_encode(body | unsaid_of.taken(conversation, takes)), unsaid_of.unsaid(conversation, said=said, takes=takes))


def _generation(model: str) -> tuple[int, int]:
    """Of the model's family; (0, 0) for models that are named otherwise."""
    found = _GENERATION.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def _takes_penalties(model: str) -> bool:
    """`Penalty is not enabled for this model`, all others say."""
    return _generation(model) < _NO_PENALTIES


# --- messages ----------------------------------------------------------------------------------
def _messages(conversation: Conversation, *, has_levels: bool) -> tuple[list[Json], list[Json]]:
    """The system's parts, and contents in which the roles take turns."""
    system: list[Json] = []
    contents: list[Json] = []
    # Providers exist whose ids begin anew with every turn, so a result answers the latest call.
    names: dict[str, str] = {}
    for message in conversation.messages:
        names |= {part.id: part.name for part in message.parts if isinstance(part, ToolUse)}
        if message.role == "system":
            system += [{"text": part.text} for part in message.parts if isinstance(part, Text) and part.text]
            continue
        role = "model" if message.role == "assistant" else "user"
        parts = _parts(message, names)
        if role == "model" and has_levels:  # from then on Gemini wants its signatures back, too
            _sign(parts)
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        elif parts:
            contents.append({"role": role, "parts": parts})
    if not contents:
        # Gemini answers nothing to a system's words alone.
        system, contents = [], [{"role": "user", "parts": system or [{"text": " "}]}]
    return system, contents


def _parts(message: Message, names: dict[str, str]) -> list[Json]:
    """Results of tools come first: Gemini counts them against the calls of the turn before."""
    results: list[Json] = []
    others: list[Json] = []
    for part in message.parts:
        if isinstance(part, Text):
            if part.text:
                others.append({"text": part.text})
        elif isinstance(part, ToolResult):
            results.append(_response(part, names))
            others += [_part(shown) for shown in part.parts if not isinstance(shown, Text)]
        elif not isinstance(part, Thinking):
            others.append(_part(part))
    return results + others


def _part(part: Part) -> Json:
    match part:  # the most frequent first: each pattern is a step
        case ToolUse():
            call = {"id": part.id, "name": part.name, "args": tool_arguments.as_object(part.arguments)}
            return {"functionCall": call} | ({"thoughtSignature": part.signature} if part.signature else {})
        case Text() | Refusal():
            return {"text": part.text}
        case Image():
            # The name is wrong, common, and refused: https://github.com/CherryHQ/cherry-studio/pull/3088
            return _media(part.data, part.url, (part.media_type or "image/png").replace("image/jpg", "image/jpeg"))
        case Audio():
            return _media(part.data, None, f"audio/{part.format}")
        case File(file_id=None):
            return _media(part.data, part.url, part.media_type or "application/pdf")
    raise BadRequest("A file that is named by its id cannot go to this model's provider: send its content.", param="messages")


def _media(data: str | None, url: str | None, media_type: str) -> Json:
    if data is not None:
        return {"inlineData": {"mimeType": media_type, "data": data}}
    if url and url.startswith(_OWN_URLS):
        return {"fileData": {"mimeType": media_type, "fileUri": url}}
    raise BadRequest("This model's provider fetches no addresses: send the content itself, as base64.", param="messages")


def _response(result: ToolResult, names: dict[str, str]) -> Json:
    if result.tool_use_id not in names:
        raise BadRequest("A tool's result answers no tool call of this conversation.", param="messages")
    text = "\n".join([part.text for part in result.parts if isinstance(part, Text)])
    said = {"error" if result.is_error else "output": text}
    return {"functionResponse": {"id": result.tool_use_id, "name": names[result.tool_use_id], "response": said}}


def _sign(parts: list[Json]) -> None:
    """Of calls made together Gemini signs the first, and asks for that signature only."""
    first = next((part for part in parts if "functionCall" in part), None)
    if first is not None:
        first.setdefault("thoughtSignature", NO_SIGNATURE)


# --- tools and settings ------------------------------------------------------------------------
def _declaration(tool: Tool) -> Json:
    given = {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.parameters}
    return _present(given.items())


def _calling(choice: ToolChoice) -> Json:
    return {"mode": _MODES[choice.mode]} | ({"allowedFunctionNames": [choice.name]} if choice.mode == "tool" else {})


def _config(conversation: Conversation, *, model: str, max_tokens: int | None) -> Json:
    penalties = _takes_penalties(model)
    given: Json = {
        "maxOutputTokens": max_tokens or conversation.max_tokens,
        "temperature": conversation.temperature,
        "topP": conversation.top_p,
        "topK": conversation.top_k,
        "stopSequences": list(conversation.stop) or None,
        "seed": conversation.seed,
        "candidateCount": conversation.n if conversation.n > 1 else None,
        "frequencyPenalty": conversation.frequency_penalty if penalties else None,
        "presencePenalty": conversation.presence_penalty if penalties else None,
        "responseLogprobs": conversation.logprobs or None,
        "logprobs": conversation.top_logprobs if conversation.logprobs else None,
        "responseMimeType": "application/json" if conversation.format else None,
        "responseJsonSchema": conversation.format.schema if conversation.format else None,
        "thinkingConfig": _thinking(conversation.reasoning, model) if conversation.reasoning else None,
        "responseModalities": _modalities(conversation) if conversation.modalities else None,
        "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": conversation.voice}}}
        if conversation.voice
        else None,
    }
    return _present(given.items())


def _modalities(conversation: Conversation) -> list[str]:
    """A model that draws writes too; one that speaks does nothing else."""
    wanted = [word.upper() for word in sorted(conversation.modalities)]
    return wanted if wanted == ["AUDIO"] else ["TEXT", *wanted]


def _thinking(reasoning: Reasoning, model: str) -> Json:
    """Levels for Gemini 3 and later, tokens before; some models cannot stop thinking, and then think least."""
    shown = {"includeThoughts": True} if reasoning.visible else {}
    is_pro = "pro" in model
    if _generation(model) >= _FIRST_LEVELS:
        level = _level(reasoning)
        if level is None:
            return shown
        least = "LOW" if is_pro or _generation(model) > _LAST_MINIMAL else "MINIMAL"
        return shown | {"thinkingLevel": least if level == "MINIMAL" else level}
    budget = _BUDGETS[reasoning.effort] if reasoning.effort else reasoning.budget_tokens
    if budget is None:
        return shown
    return shown | {"thinkingBudget": min(max(budget, _LEAST_OF_PRO), _MOST_OF_PRO) if is_pro else min(budget, _MOST)}


def _level(reasoning: Reasoning) -> str | None:
    if reasoning.effort:
        return _LEVELS[reasoning.effort]
    if reasoning.budget_tokens is None:
        return None
    return next(level for level, most in (("LOW", 1024), ("MEDIUM", 8192), ("HIGH", 2**63)) if reasoning.budget_tokens <= most)


def _present(given: Iterable[tuple[str, Any | Raw]]) -> Json:
    return {name: value for name, value in given if value is not None}
