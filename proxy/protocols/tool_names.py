"""Names of tools that are longer than a provider takes them, or hold letters that it does not: told by an alias, and what the
model calls is told to the caller by its own name again.

Agents name the tools of their plug-ins by server and tool: https://github.com/agentgateway/agentgateway/pull/2384
"""

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256

import msgspec

from proxy.canonical.answer import Answer, Delta, ToolStarted
from proxy.canonical.conversation import Conversation, Part, ToolUse

# By the provider's protocol. Any letter may stand in a name where its servers differ.
_TAKES = {
    "chat_completions": re.compile(r".{1,64}", re.DOTALL),
    "gemini": re.compile(r".{1,64}", re.DOTALL),
    "responses": re.compile(r"[a-zA-Z0-9_-]{1,128}"),
    "messages": re.compile(r"[a-zA-Z0-9_-]{1,128}"),
    "converse": re.compile(r"[a-zA-Z0-9_-]{1,64}"),
}
_WRONG = re.compile(r"[^a-zA-Z0-9_-]")
_HEAD, _DIGEST = 55, 8
Names = Mapping[str, str]


def fitted(conversation: Conversation, protocol: str) -> tuple[Conversation, Names]:
    """With names that a provider of this protocol takes, and the caller's own by those that were changed."""
    chosen = conversation.tool_choice.name if conversation.tool_choice is not None else None
    names = [tool.name for tool in conversation.tools] + ([chosen] if chosen else [])
    names += [part.name for message in conversation.messages for part in message.parts if isinstance(part, ToolUse)]
    aliases = {name: _alias(name) for name in names if name and not _TAKES[protocol].fullmatch(name)}
    if not aliases:  # nearly always
        return conversation, {}
    changed = msgspec.structs.replace(
        conversation,
        tools=tuple(msgspec.structs.replace(tool, name=aliases.get(tool.name, tool.name)) for tool in conversation.tools),
        tool_choice=msgspec.structs.replace(conversation.tool_choice, name=aliases.get(chosen, chosen))
        if conversation.tool_choice is not None and chosen
        else conversation.tool_choice,
        messages=tuple(
            msgspec.structs.replace(message, parts=tuple(_renamed(part, aliases) for part in message.parts))
            for message in conversation.messages
        ),
    )
    return changed, {alias: name for name, alias in aliases.items()}


def _alias(name: str) -> str:
    """The same in every turn."""
    return f"{_WRONG.sub('_', name)[:_HEAD]}_{sha256(name.encode(errors='replace')).hexdigest()[:_DIGEST]}"


def _renamed(part: Part, names: Names) -> Part:
    return msgspec.structs.replace(part, name=names[part.name]) if isinstance(part, ToolUse) and part.name in names else part


def answer_of(answer: Answer, names: Names) -> Answer:
    """In the caller's names."""
    if not names:
        return answer
    choices = (
        msgspec.structs.replace(choice, parts=tuple(_renamed(part, names) for part in choice.parts)) for choice in answer.choices
    )
    return msgspec.structs.replace(answer, choices=tuple(choices))


def deltas_of(deltas: Iterable[Delta], names: Names) -> tuple[Delta, ...]:
    """In the caller's names."""
    return tuple(
        msgspec.structs.replace(delta, name=names[delta.name])
        if isinstance(delta, ToolStarted) and delta.name in names
        else delta
        for delta in deltas
    )
