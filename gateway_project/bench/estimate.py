"""How far the gateway's estimate of input tokens is from what models' own vocabularies make of the same prompts.

What was held for a call and turns out too little is the only way past a budget, so two figures count: how many prompts
are estimated too low, and the missing tokens as a share of all tokens (the slack). How much is held in vain comes second.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from gateway_project.bench import texts, vocabularies
from gateway_project.bench.texts import Prompt
from gateway_project.bench.vocabularies import Counter
from proxy import shipped
from proxy.protocols.chat_completions import parse

EACH = 100
# What models add around a message, and before their answer.
FRAME_TOKENS, ANSWER_TOKENS = 4, 3
# Percent of a plausible day. What is not named here has an equal part of the rest.
MIX = {
    "English": 35,
    "Python": 15,
    "Markdown": 10,
    "JavaScript and HTML": 8,
    "JSON": 8,
    "tools": 6,
    "languages in Latin script": 6,
}


class Sample(NamedTuple):
    """Tokens of one prompt: the gateway's estimate, the simpler one it is compared with, and the real number."""

    kind: str
    estimate: int
    third_of_bytes: int
    actual: int


class Accuracy(NamedTuple):
    """Estimate ÷ actual (5th percentile, median, 95th), the share of prompts estimated too low, and missing ÷ all tokens."""

    low: float
    median: float
    high: float
    below: float
    slack: float


def report() -> str:
    """Markdown: a line for each family, then the shipped models, then kinds of text. Says what cannot be measured, and why."""
    counters, missing = vocabularies.loaded()
    lines = []
    if counters:
        sampled = measured(counters, prompts=list(texts.prompts(each=EACH)))
        lines += [_source(), "", *_by_family(sampled), "", *_by_model(sampled), "", *_by_kind(sampled)]
    if missing:
        packages = ", ".join(sorted({package for family in missing for package in family.packages}))
        names = "; ".join(family.name for family in missing)
        lines += ["", f"Not measured: {names}. They need {packages}: {vocabularies.INSTALL}"]
    return "\n".join(lines).strip()


def measured(counters: dict[str, Counter], *, prompts: list[Prompt]) -> dict[str, list[Sample]]:
    """Family → a sample for every prompt."""
    estimates = [parse(prompt.body).input_tokens_estimate for prompt in prompts]
    thirds = [math.ceil(len(prompt.body) / 3) for prompt in prompts]
    return {
        name: [
            Sample(prompt.kind, estimate, third, actual(prompt, count))
            for prompt, estimate, third in zip(prompts, estimates, thirds, strict=True)
        ]
        for name, count in counters.items()
    }


def actual(prompt: Prompt, count: Counter) -> int:
    return sum(count(text) + FRAME_TOKENS for text in prompt.texts) + ANSWER_TOKENS


def accuracy(pairs: Iterable[tuple[int, int]]) -> Accuracy:
    """`pairs` of estimated and actual tokens; at least one."""
    every = list(pairs)
    ratios = sorted(estimated / real for estimated, real in every)
    missing = sum(max(0, real - estimated) for estimated, real in every)
    return Accuracy(
        low=_percentile(ratios, 0.05),
        median=statistics.median(ratios),
        high=_percentile(ratios, 0.95),
        below=sum(estimated < real for estimated, real in every) / len(every),
        slack=missing / sum(real for _, real in every),
    )


def _percentile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def shares(kinds: Iterable[str]) -> dict[str, float]:
    """Kind → its part of a plausible day; all of them make 1."""
    every = sorted(set(kinds))
    others = [kind for kind in every if kind not in MIX]
    rest = (100 - sum(MIX.values())) / len(others) if others else 0.0
    weights = {kind: MIX.get(kind, rest) for kind in every}
    return {kind: weight / sum(weights.values()) for kind, weight in weights.items()}


def mixed(found: dict[str, Accuracy]) -> Accuracy:
    """The accuracy of a plausible day, from that of each kind."""
    parts = shares(found)
    return Accuracy(*(sum(parts[kind] * value[field] for kind, value in found.items()) for field in range(len(Accuracy._fields))))


def by_kind(samples: Iterable[Sample], *, thirds: bool = False) -> dict[str, Accuracy]:
    """`thirds` judges a third of the bytes instead of the gateway's estimate."""
    pairs = defaultdict(list)
    for sample in samples:
        pairs[sample.kind].append((sample.third_of_bytes if thirds else sample.estimate, sample.actual))
    return {kind: accuracy(found) for kind, found in pairs.items()}


def record(path: Path, *, each: int, longest: int) -> None:
    """Writes prompts with their real numbers: what tests check the estimate with where no vocabulary is installed.

    JSON lines: the families' names, then `[kind, body, tokens by family]` for each prompt.
    """
    counters, _ = vocabularies.loaded()
    with path.open("w") as file:
        file.write(json.dumps(list(counters)) + "\n")
        for prompt in texts.prompts(each=each, longest=longest):
            tokens = [actual(prompt, count) for count in counters.values()]
            file.write(json.dumps([prompt.kind, prompt.body.decode(), tokens], ensure_ascii=False) + "\n")


# --- tables ------------------------------------------------------------------------------------
def _source() -> str:
    found = "as in the traces" if any(texts.TRACES.glob("*.csv.gz")) else "usual ones (the traces are not here)"
    return f"Input estimate: {EACH} prompts of each of {len(texts.KINDS)} kinds, lengths {found}; goal: below < 1 %, slack < 1 %."


def _by_family(sampled: dict[str, list[Sample]]) -> list[str]:
    lines = [
        "| vocabulary | estimate ÷ actual: 5 %, median, 95 % | below | slack | a third of the bytes: below | slack |",
        "|---|---|---|---|---|---|",
    ]
    for name, samples in sampled.items():
        ours, third = mixed(by_kind(samples)), mixed(by_kind(samples, thirds=True))
        span = f"{ours.low:.2f}, {ours.median:.2f}, {ours.high:.2f}"
        lines.append(f"| {name} | {span} | {ours.below:.2%} | {ours.slack:.3%} | {third.below:.1%} | {third.slack:.2%} |")
    return lines


def _by_model(sampled: dict[str, list[Sample]]) -> list[str]:
    """Every shipped chat model. Those whose tokens are counted alike have one line, since the estimate knows no model."""
    lines = ["| model | by the vocabulary of | estimate ÷ actual: 5 %, median, 95 % | below | slack |", "|---|---|---|---|---|"]
    unknown = []
    for known, names in alike([model.name for model in shipped.models() if model.kind == "chat"]).items():
        if known is None or known.family.name not in sampled:
            unknown += names
            continue
        found = mixed(by_kind(sampled[known.family.name]))
        whose = known.family.name if known.is_own else f"{known.family.name}, an earlier one by the same maker"
        span = f"{found.low:.2f}, {found.median:.2f}, {found.high:.2f}"
        lines.append(f"| {', '.join(names)} | {whose} | {span} | {found.below:.2%} | {found.slack:.3%} |")
    return [*lines, "", f"No vocabulary to measure by: {', '.join(unknown)}."] if unknown else lines


def alike(models: Iterable[str]) -> dict[vocabularies.Known | None, list[str]]:
    """Models by what is known of their vocabulary."""
    found: dict[vocabularies.Known | None, list[str]] = {}
    for name in models:
        found.setdefault(vocabularies.of_model(name), []).append(name)
    return found


def _by_kind(sampled: dict[str, list[Sample]]) -> list[str]:
    """The most and the least demanding vocabulary for each kind of text."""
    found = {name: (by_kind(samples), by_kind(samples, thirds=True)) for name, samples in sampled.items()}
    lines = [
        "| text | estimate ÷ actual, median | below, at worst | slack, at worst | a third of the bytes | below, at worst |",
        "|---|---|---|---|---|---|",
    ]
    for kind in texts.KINDS:
        ours, thirds = [pair[0][kind] for pair in found.values()], [pair[1][kind] for pair in found.values()]
        cells = (
            _span(ours),
            f"{_worst(ours):.0%}",
            f"{max(each.slack for each in ours):.2%}",
            _span(thirds),
            f"{_worst(thirds):.0%}",
        )
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return lines


def _span(found: list[Accuracy]) -> str:
    medians = [each.median for each in found]
    return f"{min(medians):.2f} to {max(medians):.2f}"


def _worst(found: list[Accuracy]) -> float:
    return max(each.below for each in found)
