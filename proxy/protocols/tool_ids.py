"""Ids of tool calls, for OpenAI, which bounds their length (`Quirks.bounds_ids`): one that another provider made may be longer.

Kimi wants its own back unchanged, wherever it is served (`functions.NAME:NUMBER`), so these stay for all but OpenAI's models:
https://github.com/MoonshotAI/Kimi-K2/blob/main/docs/tool_call_guidance.md
"""

from hashlib import sha256

from proxy.protocols import openai_models

# https://github.com/langmanus/langmanus/issues/119, https://github.com/decolua/9router/issues/393
MOST_IN_CHAT, MOST_IN_RESPONSES = 40, 64


def bounded(given: str, *, most: int, model: str) -> str:
    """The same for a call and its result, in every turn."""
    if len(given) <= most or (given.startswith("functions.") and not openai_models.is_openais(model)):
        return given
    return f"call_{sha256(given.encode(errors='replace')).hexdigest()[:32]}"
