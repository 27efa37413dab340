"""Why a key may make a call, or may not: every limit and rule on its path, judged for a call that nobody makes.

Guarantees: nothing is held, counted or recorded; the plan is the pipeline's own, rules are judged by the same functions
as calls are, and the figures are those that admission judges by. So in a quiet moment the answer is the one the call
would get. Does not guarantee it for later: other calls go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from gateway_project.lib.database import DatabaseUnavailable
from gateway_project.lib.money import display_usd
from gateway_project.lib.redis import RedisUnavailable
from guardrails import compiling, generations, headroom
from guardrails.admission import Degrade, Refused
from guardrails.headroom import Headroom
from guardrails.limits import Limit, path_subjects
from orgs import access
from orgs.access import KeyRefused
from proxy import (
    attribution,
    deployments,
    errors,
    explained_rules,
    listed,
    names,
    own_keys,
    permits,
    pipeline,
    refusals,
    routing,
    spend,
)
from proxy.call import Call
from proxy.callers import Caller
from proxy.canonical.request import Request
from proxy.deployments import Model
from proxy.errors import GuardrailsUnavailable, ProxyError
from proxy.explained import Explanation, Line, Question, Verdict
from proxy.protocols import chat_completions

MOMENT_MS = 1000


class Judged(NamedTuple):
    """One limit judged on its own: `room` is what it has left, in its unit."""

    entry: Headroom
    room: int
    verdict: Verdict
    text: str

    @property
    def limit(self) -> Limit:
        return self.entry.limit


async def caller_of(key_id: int, *, organization_id: int) -> tuple[Caller, KeyRefused | None]:
    """A key as it is now though nobody shows its text, and why its calls would be refused at the door.

    Raises GuardrailsUnavailable, LookupError.
    """
    try:
        generation = await generations.of(organization_id)
        principal, refused = await access.principal_by_id(key_id)
        pool, now = await spend.funded(organization_id), datetime.now(UTC)
        limits = await compiling.compile_for(principal, generation=generation, pool_nano_usd=pool, now=now)
        keys, given_names = await own_keys.of_path(principal), await names.of(principal)
    except (RedisUnavailable, DatabaseUnavailable) as error:
        raise GuardrailsUnavailable from error
    return Caller("", "", principal, limits, keys, given_names), refused


async def explain(caller: Caller, question: Question, *, refused: KeyRefused | None = None) -> Explanation:
    """`refused`: why the key is turned away before anything is looked at. Raises GuardrailsUnavailable."""
    call = _call(caller, question)
    try:
        left = await headroom.of(caller.limits, source=spend.SOURCE)
        catalogue = await deployments.refreshed()
        found = [*_at_the_door(call, refused), *await _planned(call)]
        # Behind an alias, a preset or `auto`: the rules are about that one.
        model = await listed.find(catalogue, call.model)
        judged = _judged(left, call, may_degrade=True)
        near = next((one for one in judged if one.verdict == "degrades"), None)
        if near is not None:
            await pipeline.degrade(call, Degrade(near.limit))
            judged = _judged(left, call, may_degrade=False)
        if call.plan is not None and call.plan.is_mixed and _is_short(judged):
            await pipeline.without_fallback(call)
            judged = _judged(left, call, may_degrade=False)
    except (RedisUnavailable, DatabaseUnavailable) as error:
        raise GuardrailsUnavailable from error
    refusal = found[0] if found else _refused(judged, call)
    return _explanation(call, question, _lines(call, model, judged, near), judged, refusal, near)


def _call(caller: Caller, question: Question) -> Call:
    call = Call(chat_completions.NAME, caller, question.feature, question.address)
    call.request = Request(
        protocol=chat_completions.NAME,
        model=question.model,
        stream=question.stream,
        include_usage=False,
        max_tokens=question.max_tokens,
        max_tokens_field="max_tokens",
        n=question.n,
        input_tokens_estimate=question.input_tokens,
        reserve_tokens=question.reserve_tokens,
        fields={},
    )
    return call


def _at_the_door(call: Call, refused: KeyRefused | None) -> list[ProxyError]:
    """What refuses the call before anything is planned, in the pipeline's order."""
    found = [] if refused is None else [errors.CODES[refused.code](str(refused))]
    checks: tuple[Callable[[Call], None], ...] = (_attribute, permits.check_caller)
    for check in checks:
        try:
            check(call)
        except ProxyError as error:
            found.append(error)
    return found


def _attribute(call: Call) -> None:
    call.feature = attribution.feature_of(call.principal, call.feature_asked)


async def _planned(call: Call) -> list[ProxyError]:
    try:
        call.plan = await pipeline.plan_of(call)
    except ProxyError as error:
        return [error]
    return []


# --- limits ------------------------------------------------------------------------------------
def _judged(left: Iterable[Headroom], call: Call, *, may_degrade: bool) -> list[Judged]:
    return [_judge(entry, call, may_degrade=may_degrade) for entry in left]


def _judge(entry: Headroom, call: Call, *, may_degrade: bool) -> Judged:
    """By the comparisons of lua/admit.lua, one limit at a time."""
    limit, plan = entry.limit, call.plan
    room = limit.value - entry.used - entry.held
    match limit.kind:
        case "max_tokens":
            return Judged(entry, room, *_longest(limit, call, plan))
        case "rpm" | "rpd" | "parallel":
            return Judged(entry, room, "passes" if room >= 1 else "refuses", "the call counts as one")
    if plan is None:
        return Judged(entry, room, "unjudged", "")
    if limit.kind == "tpm":
        words = f"the call counts {plan.tokens:,} tokens until its answer tells"
        return Judged(entry, room, "passes" if room >= plan.tokens else "refuses", words)
    return Judged(entry, room, *_budget(limit, room, call, plan, may_degrade))


def _budget(limit: Limit, room: int, call: Call, plan: routing.Plan, may_degrade: bool) -> tuple[Verdict, str]:
    if plan.own_only and not limit.counts_byok:
        return "passes", "the call goes to an own provider key, which this does not count"
    if may_degrade and limit.keep is not None and room - plan.worst_case < limit.keep:
        return "degrades", f"near its cap, so calls go to {limit.degrade_model}"
    if room >= plan.worst_case:
        return "passes", f"{display_usd(room - plan.worst_case)} would be left"
    if plan.least is not None and room >= plan.least:
        tokens = min(plan.output_cap, routing.affordable(plan, call.asked, amount=room))
        return "clamps", f"it affords {tokens:,} output tokens, so the answer is bounded by that"
    return "refuses", f"the call could cost {display_usd(plan.worst_case)}, {display_usd(max(0, room))} is left"


def _longest(limit: Limit, call: Call, plan: routing.Plan | None) -> tuple[Verdict, str]:
    asked = call.asked.max_tokens
    if asked is not None:
        return "refuses" if asked > limit.value else "passes", f"the call asks for {asked:,}"
    if plan is None:
        return "passes", "the call asks for no number"
    full = plan.model.max_output_tokens or routing.DEFAULT_MAX_OUTPUT
    if limit.value < full:
        return "clamps", f"the model could answer with {full:,} tokens, so it is told this bound"
    return "passes", f"the model answers with at most {full:,} anyway"


def _decisive(judged: list[Judged], verdict: Verdict) -> Judged | None:
    """The budget with the least room, on a tie the most specific; where there is none, the first of the other kinds.

    Bounds on the length of an answer are settled before: by the plan.
    """
    found = [one for one in judged if one.verdict == verdict and one.limit.kind != "max_tokens"]
    budgets = [one for one in found if one.limit.kind == "budget"]
    return min(budgets, key=lambda one: one.room) if budgets else next(iter(found), None)


def _is_short(judged: list[Judged]) -> bool:
    found = _decisive(judged, "refuses")
    return found is not None and found.limit.kind == "budget"


def _refused(judged: list[Judged], call: Call) -> ProxyError | None:
    """As admission would: the answer is `refusals.error_of`'s, with its figures."""
    found = _decisive(judged, "refuses")
    if found is None:
        return None
    now, ends = _now_ms(), found.limit.ends_ms
    # Of a minute nobody knows here when there is room again: it is over then. A call that runs may end at any moment.
    wait = ends - now if ends else MOMENT_MS if found.limit.kind == "parallel" else refusals.PATIENCE_MS
    outcome = Refused(found.limit, found.entry.used, found.entry.held, now, wait)
    return refusals.told(call, outcome)


def _now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


# --- what comes of it --------------------------------------------------------------------------
def _explanation(
    call: Call,
    question: Question,
    lines: list[Line],
    judged: list[Judged],
    refusal: ProxyError | None,
    near: Judged | None,
) -> Explanation:
    plan = call.plan
    clamp = _decisive(judged, "clamps") if refusal is None else None
    reserves, longest = (None, None) if plan is None else (plan.worst_case, plan.max_tokens)
    if plan is not None and clamp is not None:
        reserves, longest = clamp.room, min(plan.output_cap, routing.affordable(plan, call.asked, amount=clamp.room))
    changing = clamp or (near if call.degraded is not None else None)
    return Explanation(
        question=question,
        caller=call.caller,
        lines=_with_decision(lines, refusal, changing),
        refusal=refusal,
        plan=plan,
        reserves_nano_usd=reserves,
        max_tokens=longest,
        clamped=clamp is not None,
        degraded=call.degraded,
    )


def _lines(call: Call, model: Model | None, judged: list[Judged], near: Judged | None) -> list[Line]:
    """By node: what admits or refuses it there at all, then limits; a node with neither says that calls count on it."""
    rules = explained_rules.lines_of(call, model)
    found: list[Line] = []
    for position, subject in enumerate(path_subjects(call.principal)):
        here = [line for line in rules if line.where == (subject.level, subject.node)]
        here += [_limit_line(_told(one, call, near)) for one in judged if one.limit.subject == position]
        found += here or [
            Line(level=subject.level, node=subject.node, kind="none", verdict="counts", text="no limit is set here")
        ]
    return found


def _told(one: Judged, call: Call, near: Judged | None) -> Judged:
    """The budget near its cap says what came of that, unless it refuses even so."""
    if near is None or one.limit is not near.limit or one.verdict == "refuses":
        return one
    if call.degraded is None:
        return one._replace(text=f"near its cap, but this call cannot go to {one.limit.degrade_model}; {one.text}")
    return one._replace(verdict="degrades", text=near.text)


def _limit_line(one: Judged) -> Line:
    limit = one.limit
    return Line(
        level=limit.level,
        node=limit.node,
        policy=limit.policy,
        kind=limit.kind,
        window=limit.window,
        used=one.entry,
        verdict=one.verdict,
        code=_code(limit) if one.verdict == "refuses" else "",
        text=one.text,
    )


def _code(limit: Limit) -> str:
    if limit.kind == "max_tokens":
        return errors.MaxTokensExceeded.code
    if limit.kind == "budget":
        return errors.InsufficientCredits.code if limit.is_pool else errors.BudgetExceeded.code
    return refusals.RATES[limit.kind].error.code


# --- which one decides -------------------------------------------------------------------------
def _with_decision(lines: list[Line], refusal: ProxyError | None, decisive: Judged | None) -> tuple[Line, ...]:
    """Marks the line that decides: of a refusal the one it names, else the limit that changes the call."""
    if refusal is not None:
        index = next((at for at, line in enumerate(lines) if _named_by(refusal, line)), None)
        if index is None and isinstance(refusal, errors.KeyRefused):
            lines = [_door(lines[0], refusal), *lines]
            index = 0
    elif decisive is not None:
        index = next((at for at, line in enumerate(lines) if line.limit is decisive.limit), None)
    else:
        index = None
    return tuple(msgspec.structs.replace(line, decides=True) if at == index else line for at, line in enumerate(lines))


def _named_by(refusal: ProxyError, line: Line) -> bool:
    if line.verdict != "refuses" or line.code != type(refusal).code:
        return False
    detail = refusal.detail or {}
    named = {name: detail[name] for name in ("level", "node", "policy", "kind", "window") if name in detail}
    return all(getattr(line, name) == wanted for name, wanted in named.items())


def _door(first: Line, refusal: ProxyError) -> Line:
    """A key that is turned away at the door has no limit to blame."""
    return Line(level=first.level, node=first.node, kind="key", verdict="refuses", code=type(refusal).code, text=refusal.message)
