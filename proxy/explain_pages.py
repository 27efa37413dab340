"""What the explain page shows of an explanation, put together for its template: nodes, lines, and one sentence on top."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import NamedTuple

from django.db.models import Q
from django.urls import reverse

from gateway_project.lib.formatting import code_words
from gateway_project.lib.money import display_usd
from guardrails import limit_words
from guardrails.models import Policy
from orgs.actor import Actor
from orgs.models import ApiKey
from orgs.permissions import Permission
from orgs.selectors import keys_visible_to
from proxy.explained import Explanation, Line, Verdict
from proxy.own_ways import OwnWay, without_ask

OFFERED_KEYS = 200
# Of those that a name fits: whoever meant another types more of it.
MOST_NAMED = 8
PUBLIC_ID = re.compile(r"(?:gh_sk_)?([a-z0-9]{6,16})(?:_.*|….*)?")
PILLS: dict[Verdict, tuple[str, str]] = {
    "passes": ("passes", "ok"),
    "refuses": ("refuses", "bad"),
    "clamps": ("shortens", "warn"),
    "degrades": ("other model", "warn"),
    "counts": ("only counts", "muted"),
    "unjudged": ("not reached", "muted"),
}


class Shown(NamedTuple):
    """One line: `unit` for its meter, empty where it has no figures to draw; `url` of its policy, where it may be seen."""

    line: Line
    title: str
    pill: str
    tone: str
    unit: str
    url: str


class Node(NamedTuple):
    """One node of the path with its lines; `tone` is that of its strictest line."""

    level: str
    name: str
    lines: list[Shown]
    tone: str


class Summary(NamedTuple):
    """`way`: what its reader may do about a refusal; where there is none, the text says whom to ask."""

    title: str
    text: str
    tone: str
    icon: str
    way: OwnWay | None = None


def nodes_of(explanation: Explanation, *, actor: Actor) -> list[Node]:
    urls = _policy_urls(explanation, actor=actor)
    return [
        Node(limit_words.level(level), name, lines := [_shown(line, urls) for line in found], _strictest(lines))
        for (level, name), found in groupby(explanation.lines, key=lambda line: line.where)
    ]


def summary_of(explanation: Explanation, *, way: OwnWay | None = None) -> Summary:
    """The answer in one sentence, and which line gives it."""
    refusal, plan = explanation.refusal, explanation.plan
    if refusal is not None:
        text = without_ask(refusal) if way else refusal.message
        return Summary(f"Refused: {code_words(refusal.code)}", text, "bad", "circle-x", way)
    held = display_usd(explanation.reserves_nano_usd or 0)
    model = plan.model.name if plan is not None else ""
    if explanation.degraded is not None:
        words = f"It goes to {model} instead of {explanation.question.model}: a budget is near its cap. {held} would be held."
        return Summary("Passes, on another model", words, "warn", "route")
    if explanation.clamped:
        words = f"The budget affords no more than {explanation.max_tokens:,} output tokens. {held} would be held."
        return Summary("Passes, shortened", words, "warn", "adjustments")
    return Summary("Passes", f"{held} would be held until the answer tells what it cost.", "ok", "circle-check")


def key_choices(actor: Actor) -> list[ApiKey]:
    """Newest first; what is older is found by its public id."""
    return list(keys_visible_to(actor).filter(revoked_at=None)[:OFFERED_KEYS])


def keys_named(typed: str, *, actor: Actor) -> list[ApiKey]:
    """One by its public id, alone or in what is shown or copied of the key; else those that are called so, or whose member is;
    else those whose name, or whose member's, has it somewhere. Nothing that the actor may not see; at most `MOST_NAMED`."""
    words, seen = " ".join(typed.split()), keys_visible_to(actor)
    found = PUBLIC_ID.fullmatch(words)
    if found and (key := seen.filter(public_id=found[1]).first()):
        return [key]
    if not words.isprintable() or not words:
        return []
    live = seen.filter(revoked_at=None)
    exactly = live.filter(Q(name__iexact=words) | Q(member__name__iexact=words))[:MOST_NAMED]
    return list(exactly or live.filter(Q(name__icontains=words) | Q(member__name__icontains=words))[:MOST_NAMED])


def _policy_urls(explanation: Explanation, *, actor: Actor) -> dict[str, str]:
    """By name, for whoever may see policies; limits set on an object's own page have none."""
    if not actor.can_anywhere(Permission.VIEW_USAGE):
        return {}
    names = {line.policy for line in explanation.lines if line.policy}
    found = Policy.objects.filter(organization=actor.organization, dedicated=False, name__in=names).values_list("name", "pk")
    slug = actor.organization.slug
    return {name: reverse("policies:policy", kwargs={"org": slug, "policy_id": pk}) for name, pk in found}


def _shown(line: Line, urls: Mapping[str, str]) -> Shown:
    pill, tone = PILLS[line.verdict]
    unit = limit_words.unit(line.kind) if line.used is not None else ""
    title = "No limit here" if line.kind == "none" else limit_words.title(line.kind, line.window)
    return Shown(line, title, pill, tone, unit, urls.get(line.policy, ""))


def _strictest(lines: Iterable[Shown]) -> str:
    tones = {shown.tone for shown in lines}
    return next((tone for tone in ("bad", "warn", "ok") if tone in tones), "muted")
