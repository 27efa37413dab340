"""What Converse says to the models of one maker only: how much to think, and settings that not all have.

Claude up to 4.5 is told a number of tokens (at least 1,024, fewer than the answer's bound), takes its sampling as it is
meanwhile, and thinks neither where it must call a tool (nor does 4.6 and 4.7) nor within a turn whose thought the caller
has lost. Claude from 4.6 on is told an effort, from 4.7 on takes no sampling, from 5 on must be told not to think: https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-adaptive-thinking.html
"""

import re
from typing import Any

import msgspec

from proxy.canonical.conversation import Conversation, Reasoning, Thinking, ToolUse
from proxy.protocols import claude_models

_CLAUDE = re.compile(r"anthropic\.claude-(?:[a-z]+-)?(\d+)(?:-(\d{1,2})(?!\d))?")
_ADAPTIVE = (4, 6)
INTERLEAVED = "interleaved-thinking-2025-05-14"
_LEAST_BUDGET = 1024
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 16_384, "xhigh": 24_576, "max": 32_000}
# The least tokens of thought that count as so much effort.
_EFFORTS = ((16_384, "high"), (4_096, "medium"), (1, "low"))
_THREE = {"none": "low", "minimal": "low", "low": "low", "medium": "medium"}


class Own(msgspec.Struct, frozen=True):
    """`fields` of the maker's own protocol; `answers`: members of its answers that are wanted. `effort` as Converse has it.

    `samples_itself`: it takes no temperature now. `says`: which settings of the conversation are said so.
    """

    fields: dict[str, Any] = {}
    answers: tuple[str, ...] = ()
    effort: str | None = None
    samples_itself: bool = False
    says: tuple[str, ...] = ()


def of_maker(conversation: Conversation, *, model: str, cap: int | None) -> Own:
    """`model`: Amazon's id, which names the maker; one that is an ARN may not, and then nothing is said."""
    if claude := _CLAUDE.search(model):
        version = int(claude[1]), int(claude[2] or 0)
        return _of_claude(conversation, model, adaptive=version >= _ADAPTIVE, cap=cap)
    effort = _effort(conversation.reasoning)
    if effort and "openai." in model:
        return Own({"reasoning_effort": _THREE.get(effort, "high")}, says=("reasoning",))
    if effort and "amazon.nova-2" in model:
        thinks = {"type": "enabled", "maxReasoningEffort": _THREE.get(effort, "high")}
        return Own({"reasoningConfig": {"type": "disabled"} if effort == "none" else thinks}, says=("reasoning",))
    return Own()


def _of_claude(conversation: Conversation, model: str, *, adaptive: bool, cap: int | None) -> Own:
    answers = ("/stop_sequence",) if conversation.stop else ()
    samples = claude_models.takes_sampling(model)
    fields = {"top_k": conversation.top_k} if samples and conversation.top_k is not None else {}
    plain = Own(fields, answers, samples_itself=not samples, says=("top_k",) if samples else ())
    reasoning = conversation.reasoning
    if reasoning is None:
        return plain
    if reasoning.effort == "none":
        return _without_thought(plain, model)
    if _must_not_think(conversation, model, adaptive=adaptive):
        return plain
    if adaptive:
        shown = {"display": "summarized"} if reasoning.visible else {}
        return Own(
            {"thinking": {"type": "adaptive", **shown}},
            answers,
            _level(reasoning, model),
            samples_itself=True,
            says=("reasoning",),
        )
    budget = _budget(reasoning, cap)
    if budget < _LEAST_BUDGET:
        return plain
    thinks = {"type": "enabled", "budget_tokens": budget}
    betas = {"anthropic_beta": [INTERLEAVED]} if reasoning.interleaved and claude_models.interleaves(model) else {}
    return Own({"thinking": thinks, **betas}, answers, samples_itself=True, says=("reasoning",))


def _level(reasoning: Reasoning, model: str) -> str | None:
    """The effort asked for, or the nearest there is."""
    effort, levels = _effort(reasoning), claude_models.efforts(model)
    if effort is None or effort in levels:
        return effort
    return levels[0] if effort == "minimal" else levels[-1]


def _without_thought(plain: Own, model: str) -> Own:
    """Said where it would think otherwise; what cannot be told not to is told to think least."""
    said = msgspec.structs.replace(plain, says=(*plain.says, "reasoning"))
    if claude_models.always_thinks(model):
        return msgspec.structs.replace(said, effort="low")
    off = claude_models.no_thought(model)
    return said if off is None else msgspec.structs.replace(said, fields={**plain.fields, "thinking": off})


def _budget(reasoning: Reasoning, cap: int | None) -> int:
    wanted = reasoning.budget_tokens or _BUDGETS[reasoning.effort or "medium"]
    return wanted if cap is None else min(wanted, cap - 1)


def _must_not_think(conversation: Conversation, model: str, *, adaptive: bool) -> bool:
    is_barred = conversation.forces_tools and not claude_models.thinks_when_made_to_call(model)
    return is_barred or (not adaptive and _has_lost_thought(conversation))


def _has_lost_thought(conversation: Conversation) -> bool:
    """Whether the turn that goes on began with a tool call without its thought."""
    for message in reversed(conversation.messages):
        if message.role == "user":
            return False
        if message.role == "assistant" and any(isinstance(part, ToolUse) for part in message.parts):
            return not any(isinstance(part, Thinking) and part.is_sealed_by_claude for part in message.parts)
    return False


def _effort(reasoning: Reasoning | None) -> str | None:
    if reasoning is None or reasoning.effort is not None:
        return reasoning.effort if reasoning else None
    budget = reasoning.budget_tokens or 0
    return next((effort for least, effort in _EFFORTS if budget >= least), None)
