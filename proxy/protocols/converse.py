"""Amazon Bedrock's Converse protocol, for models of every maker. Sans-IO.

Guarantees: schemas (but what `narrow_schemas.py` makes of those to be enforced) and tool arguments reach the provider as
raw JSON; thought goes back with its signature as it came; addresses of pictures and files are refused: nothing is fetched
here. What has no member there (seeds, penalties, users) is named as unsaid; several choices and log probabilities are
refused. Settings of one maker's models go into `additionalModelRequestFields`.
Source: botocore 1.44 service model of bedrock-runtime;
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Raw

from proxy.canonical.conversation import (
    Audio,
    CacheMark,
    Conversation,
    File,
    Format,
    Image,
    Part,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from proxy.errors import BadRequest
from proxy.protocols import cache_marks, claude_models, narrow_schemas, tool_arguments
from proxy.protocols import unsaid as unsaid_of
from proxy.protocols.base import Quirks, Written
from proxy.protocols.converse_makers import Own, of_maker
from proxy.protocols.converse_replies import StreamReader, read_answer, read_reply
from proxy.protocols.messages_writing import GO_ON, OPENING, SCHEMA_ONLY

__all__ = ["NAME", "STREAM_TYPE", "path", "read_answer", "read_reply", "reader", "write_request"]

NAME = "converse"
STREAM_TYPE = "application/vnd.amazon.eventstream"
JSON_ONLY = "Answer with one JSON value and nothing else."
_EMPTY_SCHEMA = Raw(b'{"type":"object","properties":{}}')
_IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_OFFICE = "application/vnd.openxmlformats-officedocument."
_DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    f"{_OFFICE}wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    f"{_OFFICE}spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
# What must be said where a file comes without a word.
ATTACHED = "(A file is attached.)"
_ID_LENGTH, _NAME_LENGTH = 64, 190
_POINT = b'{"cachePoint":'
_NOT_OF_AN_ID = re.compile(r"[^a-zA-Z0-9_.:-]")
_NOT_OF_A_NAME = re.compile(r"[^a-zA-Z0-9\-()\[\]]+")

_encode = msgspec.json.Encoder().encode
Json = dict[str, Any]


def path(model: str, *, stream: bool) -> str:
    """Colons stay: the HTTP client would undo their escape, and what is signed must be what is sent."""
    return f"/model/{quote(model, safe=':')}/{'converse-stream' if stream else 'converse'}"


def reader(*, n: int = 1, wants_usage: bool = False, deltas: bool = True) -> StreamReader:
    return StreamReader(n=n)


def write_request(conversation: Conversation, *, model: str, stream: bool, max_tokens: int | None, quirks: Quirks) -> Written:
    """Raises BadRequest for what Converse cannot be told."""
    if conversation.n > 1:
        raise BadRequest("This model's provider gives one answer at a time.", param="n")
    if conversation.logprobs:
        raise BadRequest("logprobs: this model's provider tells no log probabilities.", param="logprobs")
    if conversation.forces_tools and not claude_models.can_be_made_to_call(model):
        raise BadRequest("tool_choice: this model cannot be made to call a tool.", param="tool_choice")
    system, messages = _messages(conversation, model=model)
    schema = narrow_schemas.narrowed(conversation.format.schema) if conversation.format else None
    if conversation.format and schema is None:
        system.append({"text": _instruction(conversation.format)})
    cap = max_tokens or conversation.max_tokens
    own = of_maker(conversation, model=model, cap=cap)
    output = _present((("textFormat", _text_format(conversation.format, schema)), ("effort", own.effort)))
    body: Json = {
        "system": system or None,
        "messages": messages,
        "inferenceConfig": _inference(conversation, cap, model, sampling=not own.samples_itself) or None,
        "toolConfig": _tools(conversation),
        "outputConfig": output or None,
        "additionalModelRequestFields": own.fields or None,
        "additionalModelResponseFieldPaths": list(own.answers) or None,
    }
    given = _present(body.items())
    written = _encode(given)
    if quirks.auto_cache and len(written) >= cache_marks.LEAST_BYTES and claude_models.caches(model) and _POINT not in written:
        _set_points(given)
        written = _encode(given)
    return Written(written, _unsaid(conversation, own, given))


def _set_points(body: Json) -> None:
    """Automatic cache points, where `cache_marks` sets its own: behind the tools, the system prompt and the last message."""
    for blocks in (body.get("toolConfig", {}).get("tools"), body.get("system"), body["messages"][-1]["content"]):
        if blocks and "reasoningContent" not in blocks[-1]:
            blocks.append(_cache_point(CacheMark()))


def _unsaid(conversation: Conversation, own: Own, given: Json) -> tuple[str, ...]:
    sampled = given.get("inferenceConfig", {})
    said = {*own.says, *(["top_p"] if "topP" in sampled else [])}
    said |= {"temperature"} if sampled.get("temperature") == conversation.temperature else set()
    specifications = [tool["toolSpec"] for tool in given.get("toolConfig", {}).get("tools", ()) if "toolSpec" in tool]
    strict = sum("strict" in one for one in specifications) == sum(bool(tool.strict) for tool in conversation.tools)
    parts = (unsaid_of.CACHE, unsaid_of.CITE, *([unsaid_of.STRICT] if strict else []))
    return unsaid_of.unsaid(conversation, said=said, parts=parts)


# --- messages ----------------------------------------------------------------------------------
def _messages(conversation: Conversation, *, model: str) -> tuple[list[Json], list[Json]]:
    """The system's blocks, and messages in which user and assistant take turns. Raises BadRequest where there are none."""
    system: list[Json] = []
    messages: list[Json] = []
    for message in conversation.messages:
        if message.role == "system":
            system += _blocks(part for part in message.parts if isinstance(part, Text))
            continue
        role = "assistant" if message.role == "assistant" else "user"
        # Results first: a message that answers tool calls must begin with them.
        parts = message.parts
        if len(parts) > 1 and role == "user":
            parts = tuple(sorted(parts, key=lambda part: not isinstance(part, ToolResult)))
        blocks = _blocks(parts)
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += blocks
        elif blocks:
            messages.append({"role": role, "content": blocks})
    if not messages and system:
        system, messages = [], [{"role": "user", "content": system}]
    if not messages:
        raise BadRequest("messages: there must be a message with content.", param="messages")
    if _brings_a_file(conversation):
        _name_apart(messages)
    return system, _from_user_to_user(messages, goes_on=claude_models.goes_on(model))


def _from_user_to_user(messages: list[Json], *, goes_on: bool) -> list[Json]:
    """A conversation begins with the user. `goes_on`: the model takes words of its own to go on from, without a blank end."""
    if messages[0]["role"] == "assistant":
        messages = [{"role": "user", "content": [{"text": OPENING}]}, *messages]
    if messages[-1]["role"] == "assistant" and not goes_on:
        return [*messages, {"role": "user", "content": [{"text": GO_ON}]}]
    if messages[-1]["role"] == "assistant":
        end = next(block for block in reversed(messages[-1]["content"]) if "cachePoint" not in block)
        end |= {"text": end["text"].rstrip()} if "text" in end else {}
    return messages


def _brings_a_file(conversation: Conversation) -> bool:
    for message in conversation.messages:
        for part in message.parts:
            if isinstance(part, File) or (isinstance(part, ToolResult) and any(isinstance(shown, File) for shown in part.parts)):
                return True
    return False


def _name_apart(messages: list[Json]) -> None:
    """No two documents of a call may have one name, in whatever case; and beside a document there must be a text."""
    taken: dict[str, int] = {}
    for message in messages:
        content = message["content"]
        within = [shown for block in content if "toolResult" in block for shown in block["toolResult"]["content"]]
        for block in [*within, *content]:
            if "document" in block:
                block["document"]["name"] = _another(block["document"]["name"], taken)
        first = next((at for at, block in enumerate(content) if "document" in block), None)
        if first is not None and not any("text" in block for block in content):
            content.insert(first, {"text": ATTACHED})


def _another(name: str, taken: dict[str, int]) -> str:
    """`taken`: each name in lower case, and the last number that one of it was given. No number is tried twice."""
    candidate, number = name, taken.get(name.lower(), 1)
    while candidate.lower() in taken:
        number += 1
        candidate = f"{name} {number}"
    taken[name.lower()] = number
    taken.setdefault(candidate.lower(), 1)
    return candidate


def _blocks(parts: Iterable[Part]) -> list[Json]:
    """Each part, and the cache point behind it. Blank text is none, and thought that nobody signed would be refused."""
    blocks: list[Json] = []
    for part in parts:
        block = _block(part)
        if block is None:
            continue
        blocks.append(block)
        cache = getattr(part, "cache", None)
        if cache is not None:
            blocks.append(_cache_point(cache))
    return blocks


def _block(part: Part) -> Json | None:
    match part:
        case Text() | Refusal():
            return {"text": part.text} if part.text and not part.text.isspace() else None
        case Thinking(redacted=str(redacted)):
            return {"reasoningContent": {"redactedContent": redacted}}
        case Thinking() if part.is_sealed_by_claude:
            return {"reasoningContent": {"reasoningText": {"text": part.text, "signature": part.signature}}}
        case Image():
            return _image(part)
        case File():
            return _document(part)
        case Audio():
            return {"audio": {"format": part.format, "source": {"bytes": part.data}}}
        case ToolUse():
            return {"toolUse": {"toolUseId": _id(part.id), "name": part.name, "input": tool_arguments.as_object(part.arguments)}}
        case ToolResult():
            content = [block for shown in part.parts if (block := _block(shown)) is not None]
            result: Json = {"toolUseId": _id(part.tool_use_id), "content": content}
            if part.is_error:
                result["status"] = "error"
            return {"toolResult": result}
    return None


def _image(part: Image) -> Json:
    form = _IMAGES.get(part.media_type or "image/png")
    if part.data is None:
        raise BadRequest("This model's provider fetches no addresses: send the picture itself, as base64.", param="messages")
    if form is None:
        raise BadRequest(f"This model's provider takes no pictures of type {part.media_type!r}.", param="messages")
    return {"image": {"format": form, "source": {"bytes": part.data}}}


def _document(part: File) -> Json:
    form = _DOCUMENTS.get((part.media_type or "application/pdf").partition(";")[0])
    if part.data is None:
        raise BadRequest("This model's provider fetches no files: send the content itself, as base64.", param="messages")
    if form is None:
        raise BadRequest(f"This model's provider takes no files of type {part.media_type!r}.", param="messages")
    name = _NOT_OF_A_NAME.sub(" ", (part.name or "").rpartition(".")[0] or part.name or "").strip()[:_NAME_LENGTH].strip()
    document: Json = {"format": form, "name": name or "Document", "source": {"bytes": part.data}}
    return {"document": document | ({"citations": {"enabled": True}} if part.cite else {})}


def _id(given: str) -> str:
    """The same for a call and its result; ids of other protocols may be longer, or hold what Converse refuses."""
    return _NOT_OF_AN_ID.sub("_", given)[-_ID_LENGTH:] or "_"


def _cache_point(mark: CacheMark) -> Json:
    return {"cachePoint": {"type": "default"} | ({"ttl": mark.ttl} if mark.ttl != "5m" else {})}


# --- tools and settings ------------------------------------------------------------------------
def _tools(conversation: Conversation) -> Json | None:
    """A history that holds tool calls needs its tools declared. There is no choice of none: then none are offered, if so."""
    offered = conversation.tools
    if conversation.tool_choice and conversation.tool_choice.mode == "none" and not _used(conversation):
        offered = ()
    tools = [entry for tool in offered for entry in _specification(tool)]
    if not tools:
        tools = [entry for name in _used(conversation) for entry in _specification(Tool(name))]
    if not tools:
        return None
    return {"tools": tools} | ({"toolChoice": _choice(conversation.tool_choice)} if offered and conversation.tool_choice else {})


def _used(conversation: Conversation) -> dict[str, None]:
    """Names of the tools that were called, each once."""
    return dict.fromkeys(part.name for message in conversation.messages for part in message.parts if isinstance(part, ToolUse))


def _specification(tool: Tool) -> Iterator[Json]:
    schema = tool.parameters or _EMPTY_SCHEMA
    enforced = narrow_schemas.narrowed(schema) if tool.strict else None
    given = {
        "name": tool.name,
        "description": tool.description or None,
        "inputSchema": {"json": schema if enforced is None else enforced},
        "strict": True if enforced is not None else None,
    }
    yield {"toolSpec": _present(given.items())}
    if tool.cache is not None:
        yield _cache_point(tool.cache)


def _choice(choice: ToolChoice) -> Json:
    if choice.mode == "tool":
        return {"tool": {"name": choice.name}}
    return {"any": {}} if choice.mode == "required" else {"auto": {}}


def _inference(conversation: Conversation, cap: int | None, model: str, *, sampling: bool) -> Json:
    """Temperatures end at 1; Claude takes one of the two."""
    temperature, top_p = (conversation.temperature, conversation.top_p) if sampling else (None, None)
    given = {
        "maxTokens": cap,
        "temperature": None if temperature is None else min(1.0, temperature),
        "topP": None if temperature is not None and claude_models.version(model) else top_p,
        "stopSequences": list(conversation.stop) or None,
    }
    return _present(given.items())


def _instruction(form: Format) -> str:
    """What holds no answer to a form is told the model."""
    return JSON_ONLY if form.schema is None else f"{JSON_ONLY} {SCHEMA_ONLY}{bytes(form.schema).decode()}"


def _text_format(form: Format | None, enforced: Raw | None) -> Json | None:
    if form is None or enforced is None:
        return None
    schema = {"schema": bytes(enforced).decode(), "name": form.name, "description": form.description}
    return {"type": "json_schema", "structure": {"jsonSchema": _present(schema.items())}}


def _present(given: Iterable[tuple[str, Any]]) -> Json:
    return {name: value for name, value in given if value is not None}
