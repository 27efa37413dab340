"""What a Claude model takes, by its name: each generation refuses something that the one before wanted.

Names as Anthropic, Bedrock and Vertex write them (`claude-3-5-haiku-latest`, `anthropic.claude-opus-4-1-20250805-v1:0`,
`claude-sonnet-4-5@20250929`). A name without a version is taken for the newest. Whatever is no Claude but speaks
Messages is taken at its word: it gets what it is asked for.
Source: https://platform.claude.com/docs/en/build-with-claude/thinking-troubleshooting
"""

import re
from functools import lru_cache
from typing import Literal

_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_NEWEST = (99, 0)
Thinking = Literal["none", "budget", "adaptive"]


@lru_cache(1000)  # asked several times a call, of names of the catalogue
def version(model: str) -> tuple[int, int] | None:
    """(major, minor); None for what is no Claude."""
    if "claude" not in model:
        return None
    found = _VERSION.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else _NEWEST


def takes_sampling(model: str) -> bool:
    """`temperature`, `top_p`, `top_k`: refused from 4.7 on."""
    known = version(model)
    return known is None or known < (4, 7)


def thinking(model: str) -> Thinking:
    """How thought is asked for: not at all before 3.7, by a number of tokens before 4.6, then by effort."""
    known = version(model)
    if known is None:
        return "budget"
    if known < (3, 7):
        return "none"
    return "budget" if known < (4, 6) else "adaptive"


def interleaves(model: str) -> bool:
    """Whether it thinks between calls of tools if a beta asks for it. To all others Amazon refuses the beta.

    https://platform.claude.com/docs/en/build-with-claude/extended-thinking#interleaved-thinking
    """
    known = version(model)
    return known is not None and (4, 0) <= known < (4, 6) and ("opus" in model or "sonnet" in model)


def goes_on(model: str) -> bool:
    """Whether a conversation may end with words of the assistant: refused from 4.6 on."""
    known = version(model)
    return known is None or known < (4, 6)


def caches(model: str) -> bool:
    """Whether it takes cache breakpoints on every service: from 3.7 on, and Haiku 3.5."""
    known = version(model)
    return known is not None and (known >= (3, 7) or (known == (3, 5) and "haiku" in model))


def always_thinks(model: str) -> bool:
    """Those that refuse to be told not to."""
    return "fable" in model or "mythos" in model or ("opus" in model and _is_from(model, (5, 5)))


def no_thought(model: str) -> dict[str, str] | None:
    """What tells it not to think before it answers; None where nothing does, or nothing has to.

    https://platform.claude.com/docs/en/models/sonnet-5-5/whats-new-sonnet-5-5#turn-off-up-front-thinking
    """
    if always_thinks(model) or not _is_from(model, (5, 0)):
        return None
    return {"type": "between_tools" if "sonnet" in model and _is_from(model, (5, 5)) else "disabled"}


def can_be_made_to_call(model: str) -> bool:
    """Whether it may be told to call a tool, or which: Fable and Mythos from 5.1 on and Opus and Sonnet from 5.5 on refuse.

    https://platform.claude.com/docs/en/models/opus-5-5/whats-new-opus-5-5#forced-tool-use-is-not-supported
    """
    if "fable" in model or "mythos" in model:
        return not _is_from(model, (5, 1))
    return not (("opus" in model or "sonnet" in model) and _is_from(model, (5, 5)))


def thinks_when_made_to_call(model: str) -> bool:
    """Whether it takes thought together with a tool that it must call: refused of a number of tokens, and of effort before
    4.8, on Anthropic's service and on Amazon's. What is no Claude is taken to refuse it, too.

    https://platform.claude.com/docs/en/build-with-claude/thinking#thinking-with-tool-use,
    https://github.com/langchain-ai/langchain-aws/pull/1151, https://github.com/pydantic/pydantic-ai/pull/4216
    """
    return _is_from(model, (4, 8))


def _is_from(model: str, first: tuple[int, int]) -> bool:
    known = version(model)
    return known is not None and known >= first


def efforts(model: str) -> tuple[str, ...]:
    """The levels there are, from the least."""
    known = version(model)
    return ("low", "medium", "high") if known is not None and known < (4, 7) else ("low", "medium", "high", "xhigh", "max")


def takes_strict_tools(model: str) -> bool:
    known = version(model)
    return known is not None and known >= (4, 5)
