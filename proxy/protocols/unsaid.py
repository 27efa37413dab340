"""What of a call its provider is not told, because its protocol has no word for it.

Nothing is dropped without a word: what only shapes an answer, or what it costs, is left out and named to the caller; what
would change the question, or is missed in the answer, is refused with 400 by the writer. Names are those of
`canonical.conversation` until the caller's protocol spells them.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from operator import attrgetter

from msgspec import Raw

from proxy.canonical.conversation import Conversation, File, Image, Text, ToolResult, ToolUse
from proxy.errors import BadRequest
from proxy.protocols.bodies import NULL

# Settings that a writer may leave out, if it says so.
SETTINGS = (
    "temperature", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty", "logit_bias",
    "reasoning", "verbosity", "user", "prompt_cache_key",
)  # fmt: skip
# Of parts and tools.
CACHE, DETAIL, STRICT, CITE = "cache_control", "detail", "strict", "citations"
# What asks for what happens anyway.
_AS_ALWAYS = {
    "service_tier": (b'"auto"', b'"default"', b'"standard_only"'),
    "store": (b"false",),
    "truncation": (b'"disabled"',),
    "moderation": (b"false",),
    "speed": (b'"standard"',),
    "inference_geo": (b'"global"',),
}
_MARKABLE = frozenset({Text, Image, File, ToolUse, ToolResult})
_settings = attrgetter(*SETTINGS)
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,64}")
MOST_NAMED = 24


def offered(fields: Mapping[str, Raw], read: Container[str]) -> dict[str, Raw]:
    """The members of a request that its codec does not read and that ask for something."""
    return {
        name: raw
        for name, raw in fields.items()
        if name not in read and raw != NULL and bytes(raw) not in _AS_ALWAYS.get(name, ())
    }


def unsaid(
    conversation: Conversation, *, said: Container[str], takes: Container[str] = (), parts: Container[str] = ()
) -> tuple[str, ...]:
    """What a request leaves out that says the settings in `said`, takes the extras in `takes`, and says of parts and
    tools those of CACHE, DETAIL, STRICT and CITE that are in `parts`. Raises BadRequest where the answer shall hold what none of
    the protocol's can."""
    if conversation.modalities and "modalities" not in said:
        beside = " and no ".join(sorted(conversation.modalities))
        raise BadRequest(f"This model's provider answers with text only: no {beside}.", param="modalities")
    values = zip(SETTINGS, _settings(conversation), strict=True)
    found = [name for name, value in values if value is not None and name not in said]
    if conversation.parallel_tools is False and conversation.tools and "parallel_tools" not in said:
        found.append("parallel_tools")
    found += sorted(name for name in _of_parts(conversation) if name not in parts)
    return (*conversation.unsaid, *found, *(name for name in conversation.extras if name not in takes))


def taken(conversation: Conversation, takes: Container[str]) -> dict[str, Raw]:
    """The extras that a provider takes, to be written as they came."""
    return {name: raw for name, raw in conversation.extras.items() if name in takes}


def of_tools(tools: Iterable[object], names: tuple[str, ...]) -> tuple[str, ...]:
    """Which of these members some tool has: those that no other protocol's tools have."""
    read = attrgetter(*names)
    given = [values for tool in tools if any(values := read(tool))]
    return tuple(f"tools.{name}" for at, name in enumerate(names) if any(values[at] for values in given))


def told(names: tuple[str, ...], spelled: Mapping[str, str]) -> tuple[str, ...]:
    """In the caller's words, each once. Names that are no plain words (anything can be one) are counted as `other`."""
    words = (spelled.get(name, name) for name in names)
    shown = dict.fromkeys(word if _PLAIN.fullmatch(word) else "other" for word in words)
    return tuple(shown)[:MOST_NAMED]


def _of_parts(conversation: Conversation) -> set[str]:
    found = set()
    for message in conversation.messages:
        for part in message.parts:
            if type(part) in _MARKABLE and part.cache is not None:  # type: ignore[union-attr]
                found.add(CACHE)
            if type(part) is Image and part.detail is not None:
                found.add(DETAIL)
            elif type(part) is File and part.cite:
                found.add(CITE)
    for tool in conversation.tools:
        if tool.cache is not None:
            found.add(CACHE)
        if tool.strict:
            found.add(STRICT)
    return found
