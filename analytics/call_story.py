"""One call as its page tells it: what happened in which order, and how its cost came about, to the last digit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

from analytics import reasons
from analytics.call_changes import Clamp, Deciding, clamp_of, degrade_of
from billing.models import CallAttempt, UsageRecord
from billing.pricing import BESIDE
from gateway_project.lib import formatting
from gateway_project.lib.money import cost_of, exact_usd, parse_usd
from guardrails import limit_words
from guardrails.limits import WINDOW_WORDS
from orgs.models import Group
from proxy import route_words
from proxy.errors import BadRequest

# Part of a bill → the column that counts its tokens, and what people call it.
KINDS = {
    "input": ("input_tokens", "Input"),
    "cache_read": ("cache_read_tokens", "Cache read"),
    "cache_write_5m": ("cache_write_5m_tokens", "Cache write, 5 min"),
    "cache_write_1h": ("cache_write_1h_tokens", "Cache write, 1 h"),
    "output": ("output_tokens", "Output"),
}
# Why a deployment was passed over, by what its attempt tells (proxy/turns.py).
SKIPS = {
    "quota": "passed over: what its provider grants a minute was used up",
}
# Below so much need of a strong model a request counts as simple (analytics/rollups.py).
SIMPLE = 0.5
# What failed cost nobody anything, and an adjustment is no call.
SAVED_NOTHING = (UsageRecord.Status.FAILED, UsageRecord.Status.ADJUSTMENT)
# Besides the words of limits: a rate looks back over the minute before a refusal.
WINDOWS = WINDOW_WORDS | {"minute": "in the last minute"}
# Why the gateway ended an answer, by the code of its row.
# Parts that are no number of anything.
WITHOUT_UNIT = ("request", BESIDE)
CUTS = {
    "hold_used_up": "The answer grew longer than what was reserved for it, so it ended there, as if it had reached its maximum.",
    "key_revoked": "The key was deleted while the answer was on its way.",
    "key_disabled": "The key was disabled while the answer was on its way.",
    "key_expired": "The key's time ended while the answer was on its way.",
    "account_frozen": "The key's member was suspended while the answer was on its way.",
    "gateway_stopping": "The gateway was stopped or restarted while the answer was on its way.",
}


class Gauge(NamedTuple):
    """A limit as it stood when it was judged, for the limit meter."""

    label: str
    spent: int
    held: int
    limit: int
    unit: str


class Switch(NamedTuple):
    """What was asked for, and what came in its place: a model, or a length of the answer."""

    asked: str
    sent_to: str


class Stop(NamedTuple):
    """A model or deployment that could have served a call, and why it stands where it does."""

    name: str
    why: str


class Step(NamedTuple):
    """One entry of the timeline; `tone` is ok, warn, bad or muted. `gauge`, `switch` and `need` (0 to 1) are pictures.

    `others`: what else was there to choose; `ordered`: they are tried in this order.
    """

    title: str
    text: str
    tone: str = "muted"
    when: str = ""
    gauge: Gauge | None = None
    switch: Switch | None = None
    need: float | None = None
    others: Sequence[Stop] = ()
    ordered: bool = False

    @property
    def need_percent(self) -> int:
        return round(100 * (self.need or 0))


class Part(NamedTuple):
    """One line of the bill. `tokens` may be units of what is no token (images, seconds); it is None where the row does not
    count them apart, or it is a flat fee."""

    kind: str
    tokens: int | None
    unit_nano_usd: int | None
    cost_nano_usd: int


class PromptCache(NamedTuple):
    """Of a call that read or wrote the provider's prompt cache: tokens read from it, of all that went in, and what that saved
    against fresh input (nano-dollars; less than nothing where writing cost more)."""

    read: int
    of: int
    saved: int

    @property
    def hit_rate(self) -> str:
        return formatting.percent(self.read, self.of)

    @property
    def cost(self) -> int:
        return -self.saved


class Story(NamedTuple):
    """`total` is the sum of `parts`, as recorded. `again` asks /explain/ for the same call, of a refused one.

    `routed`: what the baseline would have cost more, less than nothing where it would have been cheaper; None: not compared.
    """

    steps: list[Step]
    parts: list[Part]
    total: int
    path: str
    again: str = ""
    routed: int | None = None
    cache: PromptCache | None = None

    @property
    def dearer(self) -> int:
        return -(self.routed or 0)


def story_of(call: UsageRecord, *, attempts: Sequence[CallAttempt], path: Sequence[Group]) -> Story:
    steps = [Step("Received", _asked(call), "ok"), *_named(call), *_decision(call)]
    if call.route_reason and call.provider:
        steps.append(_routed(call))
    steps += _ignored(call)
    steps += [_attempt(attempt) for attempt in attempts]
    if call.first_token_ms is not None:
        steps.append(Step("First token", "", "ok", f"after {formatting.duration(call.first_token_ms)}"))
    steps.append(_ended(call))
    parts = _bill(call)
    return Story(
        steps,
        parts,
        total=sum(part.cost_nano_usd for part in parts),
        path=" / ".join(group.name for group in path),
        again=_again(call),
        routed=_saved_by_routing(call),
        cache=_prompt_cache(call),
    )


def _again(call: UsageRecord) -> str:
    """The question of an explanation, '' where there is none to ask. Rows of earlier versions know less of the call."""
    if call.status != UsageRecord.Status.REFUSED or not call.requested_model:
        return ""
    judged: dict[str, Any] = call.decision.get("call") or {}
    several = judged.get("n", 1)
    known = {
        "key": call.api_key.public_id,
        "model": call.requested_model,
        "feature": call.feature,
        "input_tokens": judged.get("input_tokens"),
        "reserve_tokens": judged.get("reserve_tokens"),
        "max_tokens": judged.get("max_tokens") or call.decision.get("asked"),
        "n": several if several != 1 else None,
        "address": call.decision.get("address"),
        "stream": "on" if call.streamed else None,
    }
    return urlencode({name: value for name, value in known.items() if value not in (None, "")})


def _saved_by_routing(call: UsageRecord) -> int | None:
    """Where the caller named the model, nobody routed; what failed cost nobody anything: there is nothing to compare."""
    if call.baseline_nano_usd is None or call.status in SAVED_NOTHING or "auto" not in call.decision:
        return None
    return call.baseline_nano_usd - call.list_nano_usd


def _prompt_cache(call: UsageRecord) -> PromptCache | None:
    """What failed cost nobody anything, cached or not."""
    if not call.cache_read_tokens and call.input_total == call.input_tokens:
        return None
    saved = 0 if call.status in SAVED_NOTHING else call.cache_saving_nano_usd
    return PromptCache(call.cache_read_tokens, call.input_total, saved)


def _named(call: UsageRecord) -> list[Step]:
    """From the name that was asked for to a model: a preset, and what `auto` decided."""
    steps = (
        [Step(f"Preset {call.preset}", "Its model, parameters and system prompt were filled in.", "ok")] if call.preset else []
    )
    auto: dict[str, Any] = call.decision.get("auto") or {}
    if not auto:
        return steps
    need = float(auto.get("need") or 0)
    half = "less than most" if need < SIMPLE else "as much as most or more"
    words = f"The request needs a strong model {half}: {need:.2f} on a scale from 0 to 1."
    others = [Stop(str(model), str(why)) for model, why in auto.get("others") or []]
    return [*steps, Step(f"{auto.get('asked', 'auto')} chose {auto.get('model')}", words, "ok", need=need, others=others)]


def _routed(call: UsageRecord) -> Step:
    words = f"{call.provider}: {route_words.ROUTES.get(call.route_reason, call.route_reason)}"
    order: list[list[str]] = call.decision.get("order") or []
    places = [Stop(f"{provider} / {model}", route_words.PLACES.get(reason, reason)) for provider, model, reason in order]
    return Step("Routed", f"{words}. It could go to, in this order:" if places else words, "ok", others=places, ordered=True)


def _ignored(call: UsageRecord) -> list[Step]:
    """What the protocol of the provider has no word for."""
    names = call.decision.get("ignored") or []
    if not names or call.status == UsageRecord.Status.REFUSED:
        return []
    words = f"The provider was not told, because its protocol has no word for it: {', '.join(map(str, names))}."
    return [Step("Translated", words, "warn")]


def _asked(call: UsageRecord) -> str:
    how = "streamed" if call.streamed else "in one piece"
    return f"{call.requested_model or 'no model'} by {call.protocol.replace('_', ' ')}, {how}"


def _decision(call: UsageRecord) -> list[Step]:
    decision: dict[str, Any] = call.decision
    if call.status == UsageRecord.Status.REFUSED:
        return [Step(f"Refused: {formatting.code_words(call.error_code)}", _why(call), "bad", gauge=_gauge(decision))]
    if not decision.keys() - {"order", "auto", "ignored"}:
        return []
    if decision.get("unguarded"):
        words = "Limits could not be checked at that moment, and this organisation lets calls pass then: nothing was held for it."
        return [Step("Let through unchecked", words, "bad"), *_changes(decision)]
    return [Step("Admitted", _limit(decision), "ok", gauge=_gauge(decision)), *_changes(decision)]


def _changes(decision: dict[str, Any]) -> list[Step]:
    """What the guardrails changed of a call that they let through."""
    steps = []
    if (degrade := degrade_of(decision)) is not None:
        words = f"Sent to {degrade.sent_to} instead of {degrade.asked}: {_budget(degrade.by)} is near its cap."
        steps.append(Step("Other model", words, "warn", switch=Switch(degrade.asked, degrade.sent_to)))
    if (clamp := clamp_of(decision)) is not None:
        steps.append(_shortened(clamp))
    elif "observed_cap" in decision:
        words = f"Held for {decision['observed_cap']:,} output tokens, which answers of this key and model seldom exceed."
        steps.append(Step("Held by experience", words, "ok"))
    return steps


def _shortened(clamp: Clamp) -> Step:
    """Only calls that set no maximum are shortened: what they could have had is the model's, or a policy's."""
    allowed = f"{clamp.allowed:,}"
    if clamp.wanted is None:
        return Step("Shortened", f"Answer shortened to {allowed} output tokens: {_budget(clamp.by)} affords no more.", "warn")
    words = f"The call set no maximum, and could have had {clamp.wanted:,} output tokens: {_budget(clamp.by)} affords {allowed}."
    return Step("Shortened", words, "warn", switch=Switch(f"{clamp.wanted:,} output tokens", f"{allowed} output tokens"))


def _budget(deciding: Deciding | None) -> str:
    if deciding is None:
        return "a budget"
    if deciding.is_pool:
        return f"the prepaid credit of {deciding.node}"
    policy = f" in the policy {deciding.policy}" if deciding.policy else ""
    window = WINDOWS.get(deciding.window, "")
    return f"the budget of {_figure(deciding.limit, 'budget')} {window} on the {deciding.level} {deciding.node}{policy}"


def _limit(decision: dict[str, Any]) -> str:
    """Budgets of admitted calls are nano-dollars, of refused ones dollars as text; all other kinds are counts."""
    if "limit" not in decision:
        return _rule(decision)
    kind = _kind(decision)
    figure = {name: _figure(decision[name], kind) for name in ("limit", "left", "spent", "held", "needed") if name in decision}
    window, where = WINDOWS.get(str(decision.get("window")), ""), _where(decision)
    if "left" in figure:
        return f"Tightest limit: {figure['limit']} on the {where}, {figure['left']} left {window} after this call's hold."
    if "spent" not in figure:
        return f"The {where} allows {figure['limit']} {window or 'per call'}."
    if kind != "budget":
        return f"The {where} has used {figure['spent']} of {figure['limit']} {window}."
    used = f"The {where} has used {figure['spent']}, with {figure.get('held')} held, of {figure['limit']} {window}."
    return f"{used} The call could cost up to {figure['needed']}." if "needed" in figure else used


def _why(call: UsageRecord) -> str:
    member, body = reasons.where_invalid(call)
    if call.error_code == BadRequest.code and call.call_count > 1:
        return f"{call.call_count:,} calls of one minute. What was wrong with each of them only its caller was told."
    if member == "model":
        return _wrong_model(call.requested_model)
    if member:
        return f"What is wrong stands in {member}. Its content is not kept: what was wrong with it only the caller was told."
    return body or _limit(call.decision)


def _wrong_model(name: str) -> str:
    """The member's content is known: it is the model's name. What is wrong may as well be what else the request holds."""
    if not name:
        return "The call names no model."
    return f"What {name} stands for cannot do what this call asks for, or is too small for it: which, only its caller was told."


def _rule(decision: dict[str, Any]) -> str:
    """A refusal without figures: a rule, the approval of a model, or what every call must tell."""
    if "missing" in decision:
        return f"The organisation wants to know of every call what it is for. This one lacked: {', '.join(decision['missing'])}."
    if "node" not in decision or "policy" not in decision:
        return ""
    return f"The policy {decision['policy']} on the {_where(decision)} says so."


def _where(decision: dict[str, Any]) -> str:
    return f"{decision.get('level')} {decision.get('node')}"


def _kind(decision: dict[str, Any]) -> str:
    """Rows of earlier versions do not name it: then only requests were counted by the minute."""
    found = decision.get("kind")
    if found is None:
        found = {"minute": "rpm"}.get(str(decision.get("window")), "budget" if "window" in decision else "max_tokens")
    return str(found)


def _gauge(decision: dict[str, Any]) -> Gauge | None:
    """Spent and held of a refusal; of an admitted call all that was used with its own hold, which is drawn as spent."""
    kind = _kind(decision)
    values = {name: _number(decision[name], kind) for name in ("limit", "left", "spent", "held") if name in decision}
    if None in values.values() or not ({"limit", "spent"} <= values.keys() or {"limit", "left"} <= values.keys()):
        return None
    number = {name: value or 0 for name, value in values.items()}
    spent = number["spent"] if "spent" in number else number["limit"] - number["left"]
    label = f"{decision.get('node')} · {limit_words.title(kind, str(decision.get('window'))).lower()}"
    return Gauge(label, max(0, spent), number.get("held", 0), number["limit"], limit_words.unit(kind))


def _number(value: object, kind: str) -> int | None:
    """Nano-dollars, or a count; None for what is neither."""
    if isinstance(value, int):
        return value
    try:
        return parse_usd(str(value)) if kind == "budget" else int(str(value))
    except ValueError:
        return None


def _figure(value: object, kind: str) -> str:
    if kind != "budget":
        number = _number(value, kind)
        return f"{number:,} {limit_words.NOUNS.get(kind, '')}".strip() if number is not None else str(value)
    return _dollars(exact_usd(value) if isinstance(value, int) else str(value))


def _dollars(exact: str) -> str:
    """Every digit, of cents both, with thousands set apart: a refusal is often a matter of the last ones."""
    whole, point, decimals = exact.partition(".")
    return f"${int(whole):,}{point}{decimals.ljust(2, '0') if point else ''}" if whole.isdigit() else f"${exact}"


def _attempt(attempt: CallAttempt) -> Step:
    if attempt.status == "skipped":
        return Step(f"{attempt.provider} / {attempt.model}", SKIPS.get(attempt.error, attempt.error), "warn")
    answer = f"answered {attempt.http_status}" if attempt.http_status else attempt.status
    words = f"{answer}, {attempt.error}" if attempt.error else answer
    tone = "ok" if attempt.status == "ok" else "bad"
    return Step(f"{attempt.provider} / {attempt.model}", words, tone, formatting.duration(attempt.latency_ms))


def _ended(call: UsageRecord) -> Step:
    if call.adjusts is not None:
        return Step(call.get_status_display(), f"Takes back what call {call.adjusts} was charged.", "warn")
    tone = {"ok": "ok", "cancelled": "warn", "cut": "warn"}.get(call.status, "bad")
    why = call.finish_reason and f"finish reason {call.finish_reason}"
    words = ", ".join(part for part in (f"HTTP {call.http_status}", formatting.code_words(call.error_code), why) if part)
    when = f"after {formatting.duration(call.latency_ms)}" if call.latency_ms is not None else ""
    if call.status == UsageRecord.Status.CUT and call.error_code in CUTS:
        charged = "What was delivered is charged, at most what was held." if call.charged_nano_usd else "Nothing is charged."
        words = f"{CUTS[call.error_code]} {charged}"
    return Step(call.get_status_display(), words, tone, when)


def _bill(call: UsageRecord) -> list[Part]:
    parts = []
    for kind, cost in call.cost_parts.items():
        column, label = KINDS.get(kind, ("", kind.replace("_", " ").capitalize()))
        tokens, unit = getattr(call, column) if column else None, call.unit_prices.get(kind)
        # Audio and images are counted among the input: then this column is not what the part was made of.
        if tokens is None or unit is None or cost_of(tokens, unit) != cost:
            tokens = call.units.get("second" if kind == "minute" else kind)
        parts.append(Part(label, tokens, unit if kind not in WITHOUT_UNIT else None, cost))
    return parts
