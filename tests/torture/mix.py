"""What callers ask for, by seed and number: model, sizes, the provider's behaviour, and when the caller hangs up."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.torture.client import STAY, Leave
from tests.torture.provider import Ending, Script

# (weight, streamed, how the provider's answer ends, when the caller leaves)
KINDS: tuple[tuple[int, bool, Ending, str], ...] = (
    (32, False, "ok", "never"),
    (28, True, "ok", "never"),
    (4, False, "ok", "sent"),
    (4, True, "ok", "sent"),
    (4, True, "ok", "headers"),
    (5, True, "ok", "middle"),
    (4, True, "ok", "last"),
    (2, True, "stall", "last"),
    (3, False, "status", "never"),
    (2, True, "status", "never"),
    (2, False, "reset", "never"),
    (2, False, "cut", "never"),
    (3, True, "cut", "never"),
    (2, True, "error", "never"),
    (1, False, "hang", "never"),
    (1, True, "stall", "never"),
    (4, True, "ok", "long"),
)
# A stream that lasts until somebody closes its key, now and then.
LONG_WORDS, LONG_GAP = 24, 0.2
MOST_OUTPUT = 1500


@dataclass(frozen=True, slots=True)
class Asked:
    """`model` 0 charges for output only, 1 for input as well."""

    script: Script
    model: int
    max_tokens: int
    stream: bool
    leave: Leave


def ask(number: int, *, seed: int) -> Asked:
    """The same for the same seed and number."""
    drawn = random.Random(f"{seed}:{number}")  # noqa: S311 - no secret
    _, stream, ending, leaves = drawn.choices(KINDS, [kind[0] for kind in KINDS])[0]
    output = drawn.randint(50, MOST_OUTPUT)
    words = drawn.randint(2, 8)
    script = Script(
        number=number,
        input_tokens=drawn.randint(5, 30),
        output_tokens=output,
        words=LONG_WORDS if leaves == "long" else words,
        # Long enough for a kill to find many under way.
        wait=drawn.uniform(0, 0.8 if drawn.random() < 0.4 else 0.1),
        gap=LONG_GAP if leaves == "long" else drawn.uniform(0, 0.06),
        ending=ending,
    )
    exact = drawn.random() < 0.5
    return Asked(
        script=script,
        model=int(drawn.random() < 0.1),
        max_tokens=output if exact else drawn.randint(output, MOST_OUTPUT),
        stream=stream,
        leave=_leave(leaves, script, drawn),
    )


def _leave(leaves: str, script: Script, drawn: random.Random) -> Leave:
    match leaves:
        case "sent":
            return Leave("sent", seconds=drawn.uniform(0, 0.5))
        case "headers":
            return Leave("headers")
        case "middle":
            return Leave("deltas", deltas=drawn.randint(1, max(1, script.words - 1)))
        case "last":
            return Leave("deltas", deltas=script.words, seconds=drawn.choice((0, 0.05)))
    return STAY
