"""How a caller would have its provider ask other models than the one it names: what is held and billed, and what the rules
allow, is of one model.

Members by which the provider would answer with another where the one asked for does not are left out, and named to the caller.
Tools by which the one asked for would consult others are refused: an answer without them would be another one; but for the
one that agents send along with every call (`advisor`).
Source: https://openrouter.ai/docs/guides/routing/model-fallbacks, https://openrouter.ai/docs/guides/features/server-tools,
https://platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool
"""

import re
from collections.abc import Iterable
from typing import Any

from msgspec import Raw

from proxy.errors import BadRequest
from proxy.protocols.bodies import NULL, decoded

# OpenRouter's name, Anthropic's (OpenRouter's, too) and other vendors'.
MEMBERS = ("models", "fallbacks", "fallback_models")
_CONSULTING = re.compile(r"(?:openrouter:)?(advisor|fusion|subagent)(?:_\d+)?|openrouter:(image_generation)")


def without(fields: dict[str, Raw]) -> tuple[dict[str, Raw], tuple[str, ...]]:
    """The members of a request that may go to a provider as they are, and the names of those that may not."""
    named = tuple(name for name in MEMBERS if fields.get(name, NULL) != NULL)
    if _has_fusion(fields.get("plugins", NULL)):
        named = (*named, "plugins")
    return {name: raw for name, raw in fields.items() if name not in named} if named else fields, named


def refuse_tools(types: Iterable[Any]) -> None:
    """`types` of tools, as the caller wrote them. Raises BadRequest."""
    for kind in types:
        if isinstance(kind, str) and (found := _CONSULTING.fullmatch(kind)):
            name = found[1] or found[2]
            raise BadRequest(
                f"tools: `{name}` asks other models, which have prices and rules of their own; it is not offered here.",
                param="tools",
            )


def _has_fusion(plugins: Raw) -> bool:
    """OpenRouter's tool of that name, said as a plugin."""
    given = decoded(plugins) if plugins != NULL else None
    return isinstance(given, list) and any(isinstance(one, dict) and one.get("id") == "fusion" for one in given)
