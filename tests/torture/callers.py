"""Concurrent callers: they ask what the mix says, and write down what they saw."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random
import time
from collections import Counter
from dataclasses import replace

from tests.torture import client, mix
from tests.torture.client import STAY, Seen
from tests.torture.company import MODELS, Company, Key, cost, worst
from tests.torture.history import Call, Outcome, Refusal
from tests.torture.mix import Asked

NAMES = tuple(MODELS)
POOL_NODE = "credit pool"
# What an error frame says where the gateway itself ended a stream that the caller pays for as far as it went.
CUT = ("key_disabled", "key_revoked", "key_expired", "account_frozen")


class Callers:
    """At least `calls`, at most `concurrency` at once and `per_second` on average."""

    def __init__(self, company: Company, *, ports: list[int], seed: int, calls: int, concurrency: int, per_second: float) -> None:
        self.company, self.ports, self.seed, self.calls = company, ports, seed, calls
        self.concurrency, self.per_second = concurrency, per_second
        self.made: list[Call] = []
        self.issued = 0
        self._numbers = itertools.count()
        self.charged: Counter[str] = Counter()  # by subject, of complete answers: what tightens budgets, not what judges
        self.refused: Counter[tuple[str, str]] = Counter()  # by node and window, until somebody asks
        self._random = random.Random(seed)  # noqa: S311 - no secret

    @property
    def progress(self) -> float:
        return self.issued / self.calls

    async def run(self, *, meanwhile: list[asyncio.Task[None]]) -> None:
        """Until all have been made, and all that was to happen meanwhile has."""
        self._began, self._meanwhile = time.monotonic(), meanwhile
        async with asyncio.TaskGroup() as group:
            for _ in range(self.concurrency):
                group.create_task(self._one_after_the_other())

    async def _one_after_the_other(self) -> None:
        while self.issued < self.calls or not all(task.done() for task in self._meanwhile):
            self.issued += 1
            await asyncio.sleep(self._began + self.issued / self.per_second - time.monotonic())
            key, number = self._random.choice(list(self.company.keys.values())), next(self._numbers)
            made = await self.make(number, key, mix.ask(number, seed=self.seed))
            if made.status == 503:
                await asyncio.sleep(0.2)

    async def make(self, number: int, key: Key, asked: Asked, *, worker: int | None = None) -> Call:
        """One call, written down."""
        worker = self._random.randrange(len(self.ports)) if worker is None else worker
        model = NAMES[asked.model]
        body = asked.script.request(model=model, max_tokens=asked.max_tokens, stream=asked.stream)
        began = time.time()
        seen = await client.call(self.ports[worker], key=key.text, body=body, leave=asked.leave)
        made = seen_as_call(
            seen,
            asked,
            number=number,
            key=key.name,
            subjects=key.subjects,
            worker=worker,
            began=began,
            ended=time.time(),
            body=body,
        )
        self.made.append(made)
        self._count(made)
        return made

    async def make_plain(self, key: Key, *, worker: int) -> Call:
        """One small whole answer: nothing but the key and its limits can be a reason against it."""
        number = next(self._numbers)
        asked = mix.ask(number, seed=self.seed)
        script = replace(asked.script, ending="ok", output_tokens=10, wait=0.0)
        plain = replace(asked, script=script, model=0, max_tokens=10, stream=False, leave=STAY)
        return await self.make(number, key, plain, worker=worker)

    def _count(self, made: Call) -> None:
        if made.outcome == "complete":
            self.charged.update(dict.fromkeys(made.subjects, made.full))
        if made.refusal is not None:
            self.refused[made.refusal.node, made.refusal.window] += 1

    def room_wanted(self) -> Counter[tuple[str, str]]:
        """Refusals by budget since this was last asked."""
        refused, self.refused = self.refused, Counter()
        return refused


def seen_as_call(
    seen: Seen,
    asked: Asked,
    *,
    number: int,
    key: str,
    subjects: tuple[str, ...],
    worker: int,
    began: float,
    ended: float,
    body: bytes,
) -> Call:
    model, script = NAMES[asked.model], asked.script
    full = cost(model, input_tokens=script.input_tokens, output_tokens=script.output_tokens)
    # Where nothing is reported, four characters are a token, and the whole prompt may have been counted.
    delivered = cost(model, input_tokens=len(body), output_tokens=-(-len(script.text) // 4))
    outcome = outcome_of(seen)
    code, refusal = reason(seen) if outcome in ("refused", "failed", "cut") else ("", None)
    return Call(
        number=number,
        key=key,
        subjects=subjects,
        worker=worker,
        began=began,
        ended=ended,
        worst=worst(model, max_tokens=asked.max_tokens, bytes_sent=len(body)),
        full=full,
        partial=max(full, delivered),
        outcome=outcome,
        call_id=seen.request_id,
        status=seen.status,
        code=code,
        refusal=refusal if outcome == "refused" else None,
        streamed=asked.stream,
        whole_at=seen.said_last if script.ending == "ok" and seen.words >= script.words else math.inf,
    )


def outcome_of(seen: Seen) -> Outcome:
    if seen.complete:
        return "complete"
    if seen.left:
        return "left"
    if not seen.ended:
        return "broken"
    if seen.status >= 400:
        return "failed" if seen.status >= 500 else "refused"
    if b'"error"' not in seen.body:
        return "broken"
    return "cut" if reason(seen)[0] in CUT else "failed"


def reason(seen: Seen) -> tuple[str, Refusal | None]:
    """The code of an error answer, and the budget it names."""
    try:
        error = json.loads(seen.body.rpartition(b"data: ")[2])["error"]  # of a stream, its last frame
        code, told = error.get("code") or error.get("type") or "", error.get("gatehouse") or {}
    except (ValueError, KeyError, AttributeError):
        return "unreadable", None
    if code == "insufficient_credits":
        return code, Refusal(POOL_NODE, "total")
    return code, Refusal(told.get("node", "?"), told.get("window", "?")) if code == "budget_exceeded" else None
