"""What the guardrails changed of a call that they let through, as its row tells: an answer shortened, another model. Pure.

`proxy/recording.py` writes it into the row's decision; the call's page and the API read it here.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Deciding(NamedTuple):
    """The budget that decided; `limit` in nano-dollars. `level` is "credit pool" where the prepaid credit did."""

    level: str
    node: str
    policy: str
    window: str
    limit: int

    @property
    def is_pool(self) -> bool:
        return self.level == "credit pool"


class Clamp(NamedTuple):
    """Output tokens: what the answer could have had otherwise (None: the row does not know), and what it was allowed."""

    wanted: int | None
    allowed: int
    by: Deciding | None


class Degrade(NamedTuple):
    """The model asked for, and the cheaper one that the budget's policy names."""

    asked: str
    sent_to: str
    by: Deciding | None


def clamp_of(decision: dict[str, Any]) -> Clamp | None:
    allowed = decision.get("clamped_to")
    return None if allowed is None else Clamp(decision.get("clamped_from"), allowed, _deciding(decision))


def degrade_of(decision: dict[str, Any]) -> Degrade | None:
    near = decision.get("degraded")
    return Degrade(str(near.get("from")), str(near.get("to")), _deciding(near)) if isinstance(near, dict) else None


def _deciding(found: dict[str, Any]) -> Deciding | None:
    """None where the row names no budget whole."""
    if not isinstance(found.get("limit"), int):
        return None
    level, node, policy, window = (str(found.get(name) or "") for name in ("level", "node", "policy", "window"))
    return Deciding(level, node, policy, window, found["limit"])
