"""Prompts to measure the estimate of input tokens with: text that others wrote, as long as real prompts are.

Everything but the lengths comes with the installed packages (Django's translations, source code, JSON, notes)
or from a seeded generator (what no package holds: keys, identifiers, encoded files). The same machine gives
the same prompts every time.
"""

from __future__ import annotations

import ast
import base64
import csv
import gzip
import json
import random
import re
import sysconfig
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import django

PACKAGES = Path(sysconfig.get_path("purelib"))
LOCALES = Path(django.__file__).parent / "conf" / "locale"
TRACES = Path(__file__).parents[3] / "shared" / "data" / "llm-traces"
# Where the traces are absent: tokens of prompts as chats and code completions have them, from a greeting to a long file.
USUAL_LENGTHS = (20, 60, 150, 300, 600, 1000, 1500, 2500)
CHARACTERS_PER_TOKEN = 4
SHORTEST, LONGEST = 40, 6_000
ENOUGH = 400_000
SEED = 20_23

CYRILLIC_GREEK = "be bg el kk ky mk mn os ru sr tg tt udm uk"
CHINESE_JAPANESE_KOREAN = "ja ko zh_Hans zh_Hant"
OTHER_SCRIPTS = "ar ar_DZ bn ckb fa he hi hy ka km kn ml mr my ne pa ta te th ug ur"
ENGLISH = "en en_AU en_GB"


class Prompt(NamedTuple):
    """One request's body, and the texts that a model would be given of it."""

    kind: str
    body: bytes
    texts: tuple[str, ...]


def prompts(*, each: int, longest: int = LONGEST) -> Iterator[Prompt]:
    """`each` prompts of every kind, of `longest` characters at most."""
    for kind, source in KINDS.items():
        chance = random.Random(f"{SEED} {kind}")  # noqa: S311 - the same prompts every time, no secret
        text = source()
        sizes = chance.choices(lengths(), k=each)
        for number, size in enumerate(min(size, longest) for size in sizes):
            begin = chance.randrange(max(1, len(text) - size))
            yield _prompt(kind, text[begin : begin + size], ascii_only=number % 4 == 3)


def _prompt(kind: str, text: str, *, ascii_only: bool) -> Prompt:
    """A short instruction, then the text. Some clients escape everything beyond ASCII."""
    texts = ("Answer in one sentence.", text)
    messages = [{"role": role, "content": content} for role, content in zip(("system", "user"), texts, strict=True)]
    return Prompt(kind, json.dumps({"model": "m", "messages": messages}, ensure_ascii=ascii_only).encode(), texts)


@cache
def lengths() -> list[int]:
    """Characters of prompts, as often as production traces have them."""
    tokens = [int(row["ContextTokens"]) for path in sorted(TRACES.glob("*.csv.gz")) for row in _rows(path)] or USUAL_LENGTHS
    return [max(count * CHARACTERS_PER_TOKEN, SHORTEST) for count in tokens]


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", newline="") as file:
        yield from csv.DictReader(file)


# --- what packages hold ------------------------------------------------------------------------
def _translations(*codes: str) -> str:
    """What translators wrote, language by language (labels left out: they are no prose)."""
    return "\n".join(line for code in codes for line in translated(code) if len(line) > 20)


@cache
def translated(code: str) -> tuple[str, ...]:
    text = (LOCALES / code / "LC_MESSAGES" / "django.po").read_text()
    entries = re.findall(r'^msgstr(?:\[\d\])? ((?:"(?:[^"\\]|\\.)*"\s*)+)', text, re.MULTILINE)
    return tuple("".join(json.loads(part) for part in re.findall(r'"(?:[^"\\]|\\.)*"', entry)) for entry in entries)


def latin_codes() -> list[str]:
    others = {*CYRILLIC_GREEK.split(), *CHINESE_JAPANESE_KOREAN.split(), *OTHER_SCRIPTS.split(), *ENGLISH.split()}
    return sorted(path.parent.name for path in LOCALES.glob("*/LC_MESSAGES") if path.parent.name not in others)


@cache
def _files(*patterns: str) -> str:
    """Files of the installed packages, small and large ones mixed, until there is enough."""
    found = sorted(path for pattern in patterns for path in PACKAGES.glob(pattern) if path.is_file())
    random.Random(SEED).shuffle(found)  # noqa: S311 - the same order every time, no secret
    texts, length = [], 0
    for path in found:
        texts.append(path.read_text(errors="replace")[:40_000])
        length += len(texts[-1])
        if length > ENOUGH:
            break
    return "\n".join(texts)


@cache
def _prose() -> str:
    """English sentences: what the authors of Django say about their functions."""
    texts, length = [], 0
    for path in sorted(Path(django.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            said = ast.get_docstring(node) if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) else None
            if said and len(said) > 80:
                texts.append(said)
                length += len(said)
        if length > ENOUGH:
            break
    return "\n\n".join(texts)


def _tool_schemas() -> str:
    """Descriptions of functions in JSON, as callers send them for tools."""
    functions = re.findall(r"def (\w+)\(([^()]*)\)", _files("django/**/*.py"))
    tools = [
        {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": _properties(arguments)}}}
        for name, arguments in functions
    ]
    return "\n".join(json.dumps(tool) for tool in tools)


def _properties(arguments: str) -> dict[str, dict[str, str]]:
    return {name: {"type": "string", "description": f"The {name}"} for name in re.findall(r"[a-z]\w+", arguments)}


# --- what a generator makes --------------------------------------------------------------------
def _made(line: Callable[[random.Random], str]) -> str:
    chance = random.Random(SEED)  # noqa: S311 - the same text every time, no secret
    return "\n".join(line(chance) for _ in range(2000))


def _table_row(chance: random.Random) -> str:
    day = (
        f"2026-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}T{chance.randrange(24):02}:{chance.randrange(60):02}:00Z"
    )
    name = chance.choice(["north", "south", "east", "west"])
    return f"{day},{chance.randrange(10**6)},{name},{chance.random() * 1000:.2f},{chance.random():.6f},{chance.randrange(100)}%"


def _log_line(chance: random.Random) -> str:
    address = ".".join(str(chance.randrange(256)) for _ in range(4))
    path = f"/v1/{chance.choice(['orders', 'users', 'files'])}/{chance.randrange(10**9)}"
    level = chance.choice(["INFO", "WARN", "ERROR"])
    moment = f"2026-11-{chance.randrange(1, 31):02} 12:{chance.randrange(60):02}:07,{chance.randrange(1000):03}"
    return f"{moment} {level} [{address}] GET {path} 200 {chance.randrange(5000)}ms"


def _encoded(chance: random.Random) -> str:
    return base64.b64encode(chance.randbytes(300)).decode()


def _identifier(chance: random.Random) -> str:
    shown = [str(uuid.UUID(bytes=chance.randbytes(16))), chance.randbytes(32).hex(), chance.randbytes(8).hex(":")]
    return " ".join(shown)


def _digits(chance: random.Random) -> str:
    return " ".join(str(chance.randrange(10 ** chance.randrange(1, 16))) for _ in range(12))


def _emoji(chance: random.Random) -> str:
    blocks = (range(0x1F300, 0x1F650), range(0x1F680, 0x1F6D0), range(0x1F900, 0x1FA00), range(0x2600, 0x2700))
    words = ["great", "thanks", "see you", "party", "on my way"]
    return " ".join(
        chance.choice(words) + " " + "".join(chr(chance.choice(chance.choice(blocks))) for _ in range(3)) for _ in range(6)
    )


KINDS: dict[str, Callable[[], str]] = {
    "English": _prose,
    "languages in Latin script": lambda: _translations(*latin_codes()),
    "Cyrillic and Greek": lambda: _translations(*CYRILLIC_GREEK.split()),
    "Chinese, Japanese, Korean": lambda: _translations(*CHINESE_JAPANESE_KOREAN.split()),
    "other scripts": lambda: _translations(*OTHER_SCRIPTS.split()),
    "Markdown": lambda: _files("*.dist-info/METADATA"),
    "Python": lambda: _files("celery/**/*.py", "django/db/**/*.py", "redis/**/*.py"),
    "JavaScript and HTML": lambda: _files("django/**/*.js", "rest_framework/**/*.html", "django/**/*.html"),
    "JSON": lambda: _files("*.dist-info/**/*.json"),
    "tools": _tool_schemas,
    "tables": lambda: _made(_table_row),
    "logs": lambda: _made(_log_line),
    "base64": lambda: _made(_encoded),
    "identifiers": lambda: _made(_identifier),
    "digits": lambda: _made(_digits),
    "emoji": lambda: _made(_emoji),
}
