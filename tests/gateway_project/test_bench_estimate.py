"""The measured error of the estimate of input tokens: its prompts, its arithmetic, and what it says without vocabularies."""

from __future__ import annotations

import json
from collections import Counter as Count
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_project.bench import estimate, texts, vocabularies
from gateway_project.bench.estimate import Sample, accuracy
from gateway_project.bench.texts import KINDS, Prompt
from gateway_project.bench.vocabularies import FAMILIES, Family
from proxy import shipped
from proxy.protocols.chat_completions import parse

pairs = st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 10**6)), min_size=1, max_size=50)


def of_letters(text: str) -> int:
    return len(text) // 4 + 1


def absent() -> vocabularies.Counter:
    raise ImportError("nobody")


def forget() -> None:
    for cached in (texts.translated, texts._files, texts._prose):
        cached.cache_clear()


@pytest.fixture(scope="module", autouse=True)
def little_is_enough() -> Iterator[None]:
    """A tenth of the text to draw from: to read a library's source for its prose is most of what a prompt costs."""
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(texts, "ENOUGH", texts.ENOUGH // 10)
        forget()
        yield
    forget()


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return list(texts.prompts(each=4, longest=300))


# --- prompts -----------------------------------------------------------------------------------
def test_every_kind_has_as_many_prompts_and_each_is_a_request_the_gateway_takes(prompts: list[Prompt]) -> None:
    assert Count(prompt.kind for prompt in prompts) == dict.fromkeys(KINDS, 4)
    for prompt in prompts:
        assert parse(prompt.body).messages == len(prompt.texts) == 2
        assert [message["content"] for message in json.loads(prompt.body)["messages"]] == list(prompt.texts)
        assert 1 <= len(prompt.texts[1]) <= 300


def test_the_prompts_are_the_same_every_time(prompts: list[Prompt]) -> None:
    forget()
    assert list(texts.prompts(each=4, longest=300)) == prompts


def test_one_client_in_four_escapes_what_is_not_ascii(prompts: list[Prompt]) -> None:
    bodies = [prompt.body for prompt in prompts if prompt.kind == "Cyrillic and Greek"]
    assert [body.isascii() for body in bodies] == [False, False, False, True]
    assert b"\\u" in bodies[3]


def test_kinds_are_what_their_names_say(prompts: list[Prompt]) -> None:
    joined = {kind: "".join(prompt.texts[1] for prompt in prompts if prompt.kind == kind) for kind in KINDS}
    assert joined["digits"].replace(" ", "").replace("\n", "").isdecimal()
    assert sum(ord(letter) > 0x1F000 for letter in joined["emoji"]) > 50
    assert sum("\u3040" <= letter <= "\ud7ff" for letter in joined["Chinese, Japanese, Korean"]) > 100
    assert joined["English"].count(" ") > 100


def test_every_language_django_speaks_is_in_one_group() -> None:
    groups = [
        texts.CYRILLIC_GREEK,
        texts.CHINESE_JAPANESE_KOREAN,
        texts.OTHER_SCRIPTS,
        texts.ENGLISH,
        " ".join(texts.latin_codes()),
    ]
    codes = [code for group in groups for code in group.split()]
    assert len(codes) == len(set(codes))
    assert set(codes) == {path.parent.name for path in texts.LOCALES.glob("*/LC_MESSAGES")}
    assert any("ß" in line for line in texts.translated("de"))


def test_lengths_are_the_traces_or_the_usual_ones() -> None:
    found = texts.lengths()
    assert min(found) >= texts.SHORTEST
    assert len(set(found)) >= len(texts.USUAL_LENGTHS)


# --- arithmetic --------------------------------------------------------------------------------
def test_what_a_model_reads_is_every_text_its_frame_and_the_beginning_of_the_answer() -> None:
    assert estimate.actual(Prompt("k", b"", ("four", "eight888")), of_letters) == (2 + 4) + (3 + 4) + 3


def test_accuracy_of_a_few_prompts() -> None:
    found = accuracy([(50, 100), (100, 100), (300, 100), (200, 100)])
    assert (found.low, found.median, found.high) == (0.5, 1.5, 3.0)
    assert (found.below, found.slack) == (0.25, 50 / 400)


@given(pairs)
def test_nothing_is_missing_exactly_where_nothing_is_below(pairs: list[tuple[int, int]]) -> None:
    found = accuracy(pairs)
    assert found.low <= found.median <= found.high or len(pairs) < 20
    assert (found.below == 0) == (found.slack == 0)
    assert 0 <= found.slack <= 1
    assert accuracy([(estimated + real, real) for estimated, real in pairs]).below == 0


@given(st.sets(st.sampled_from(sorted(KINDS)), min_size=1))
def test_the_parts_of_a_day_make_a_whole(kinds: set[str]) -> None:
    parts = estimate.shares(kinds)
    assert set(parts) == kinds
    assert sum(parts.values()) == pytest.approx(1)
    assert all(part > 0 for part in parts.values()) or not kinds - set(estimate.MIX)


def test_a_day_counts_each_kind_by_its_part() -> None:
    found = {"English": accuracy([(100, 100)]), "Python": accuracy([(50, 100)])}
    day = estimate.mixed(found)
    assert day.below == pytest.approx(15 / 50)
    assert day.slack == pytest.approx(0.5 * 15 / 50)


def test_each_family_gets_a_sample_of_each_prompt(prompts: list[Prompt]) -> None:
    found = estimate.measured({"a": of_letters, "b": len}, prompts=prompts)
    assert [len(samples) for samples in found.values()] == [len(prompts)] * 2
    first = found["b"][0]
    assert first == Sample(
        prompts[0].kind,
        parse(prompts[0].body).input_tokens_estimate,
        -(-len(prompts[0].body) // 3),
        sum(len(text) + 4 for text in prompts[0].texts) + 3,
    )
    assert estimate.by_kind(found["b"], thirds=True)["English"].below == 1
    assert set(estimate.by_kind(found["a"])) == set(KINDS)


# --- vocabularies ------------------------------------------------------------------------------
def test_each_family_is_either_measured_or_named_as_missing() -> None:
    found, missing = vocabularies.loaded()
    assert [*found, *(family.name for family in missing)] == sorted(
        (family.name for family in FAMILIES), key=lambda name: (name not in found, [each.name for each in FAMILIES].index(name))
    )
    for count in found.values():
        assert 2 <= count("Hello, world") <= 8


def test_a_table_that_cannot_be_measured_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabularies, "FAMILIES", (Family("Nobody's", ("no-such-package",), absent),))
    said = estimate.report()
    assert said.startswith("Not measured: Nobody's. ")
    assert "no-such-package" in said
    assert said.endswith("--group tokenizers")


def test_the_table_has_a_line_for_each_family_and_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    present = Family("Somebody's", ("here",), lambda: of_letters, models=("gpt-5", "gpt-5-mini"))
    monkeypatch.setattr(vocabularies, "FAMILIES", (present, Family("Nobody's", ("gone",), absent)))
    monkeypatch.setattr(estimate, "EACH", 2)
    lines = estimate.report().splitlines()
    assert [line.split(" | ")[0] for line in lines if line.startswith("| ")] == [
        "| vocabulary",
        "| Somebody's",
        "| model",
        "| gpt-5, gpt-5-mini",
        "| text",
        *(f"| {kind}" for kind in KINDS),
    ]
    assert {line.count("|") for line in lines if line.startswith("| ")} == {6, 7}
    (of_model,) = (line for line in lines if line.startswith("| gpt-5"))
    (of_family,) = (line for line in lines if line.startswith("| Somebody's"))
    assert of_model.split(" | ")[1:4] == ["Somebody's", *of_family.split(" | ")[1:3]]
    (others,) = (line for line in lines if line.startswith("No vocabulary"))
    assert "claude-opus-5-5" in others
    assert "text-embedding-3-large" not in others
    assert "Not measured: Nobody's" in lines[-1]


def test_every_shipped_model_is_measured_by_its_own_vocabulary_an_earlier_one_of_its_maker_or_none() -> None:
    of_makers = {name: vocabularies.of_model(name) for model in shipped.models() if (name := model.name) and model.kind == "chat"}
    known = {name: (found.family.name, found.is_own) for name, found in of_makers.items() if found is not None}
    assert known["gpt-4o-mini"] == known["gpt-5"] == known["o3"] == ("GPT-4o, GPT-4.1, GPT-5 (o200k)", True)
    assert known["gpt-5.4"] == known["gpt-6-sol"] == ("GPT-4o, GPT-4.1, GPT-5 (o200k)", False)
    assert known["claude-opus-5-5"] == ("Claude 2 (the last published)", False)
    assert known["codestral-2508"] == ("Mistral (tekken)", False)
    assert (known["llama-3.3-70b"], known["llama-4-scout"]) == (("Llama 3", True), ("Llama 3", False))
    assert {name.partition("-")[0] for name in of_makers.keys() - known.keys()} == {
        *("gemini", "grok", "kimi", "glm", "minimax", "muse", "nova", "nvidia"),
    }


def test_models_of_one_vocabulary_stand_together() -> None:
    found = estimate.alike(["gpt-5", "gemini-4", "o3", "gpt-5.9", "grok-9"])
    assert [(known is not None and known.is_own, names) for known, names in found.items()] == [
        (True, ["gpt-5", "o3"]),
        (False, ["gemini-4", "grok-9"]),
        (False, ["gpt-5.9"]),
    ]


def test_recorded_prompts_read_back_as_they_were(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(vocabularies, "FAMILIES", (Family("Somebody's", ("here",), lambda: of_letters),))
    estimate.record(tmp_path / "prompts", each=1, longest=100)
    families, *lines = (json.loads(line) for line in (tmp_path / "prompts").read_text().splitlines())
    assert families == ["Somebody's"]
    for prompt, (kind, body, tokens) in zip(texts.prompts(each=1, longest=100), lines, strict=True):
        assert (kind, body.encode(), tokens) == (prompt.kind, prompt.body, [estimate.actual(prompt, of_letters)])
