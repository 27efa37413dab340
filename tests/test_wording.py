"""Texts that people read are in one English: an organisation is spelt with an s, whatever the code calls it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway_project import api_document
from orgs import tokens
from orgs.audit_words import action_words, thing_words

ROOT = Path(__file__).resolve().parents[1]
APPS = ("gateway_project", "orgs", "billing", "guardrails", "proxy", "analytics", "notifications")
WORD = re.compile(r"\b[Oo]rganizations?\b")
# Of a template: what is not shown, as far as it may name an organisation.
UNSEEN = re.compile(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<[^>]*>", re.DOTALL)


def texts(source: str) -> Iterator[str]:
    """String literals with more than one word that are neither docstrings nor statements; of f-strings what is written out."""
    tree = ast.parse(source)
    statements = (node.value for node in ast.walk(tree) if isinstance(node, ast.Expr))
    unread = {id(value) for value in statements if isinstance(value, ast.Constant)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in unread and _is_read(node.value):
            yield node.value


def _is_read(text: str) -> bool:
    return " " in text and not re.search(r"%\(|\bSELECT\b", text)


def american(app: str) -> Iterator[str]:
    for path in (ROOT / app).rglob("*.py"):
        source = path.read_text()
        if "migrations" not in path.parts and WORD.search(source):
            yield from (text for text in texts(source) if WORD.search(text))
    for path in (ROOT / "templates").rglob("*.html"):
        yield from WORD.findall(UNSEEN.sub("", path.read_text()))


def test_it_would_be_found() -> None:
    source = '"""The organization."""\nx = f"{y} is no organization."\nz = "organization"\n'
    assert [text for text in texts(source) if WORD.search(text)] == [" is no organization."]


@pytest.mark.parametrize("app", APPS)
def test_no_text_is_spelt_otherwise(app: str) -> None:
    assert list(american(app)) == []


def dates(app: str) -> Iterator[str]:
    """Days and moments that are not written as `formatting.day_words` writes them; for programs they are ISO 8601."""
    for path in (ROOT / app).rglob("*.py"):
        if path.name != "formatting.py":
            yield from re.findall(r"%[bB] %-?[de]|%B \{|%d %[bB]|%[dm][./]%", path.read_text())


def test_a_day_has_no_nought_before_it_and_stands_after_its_month() -> None:
    assert {app: found for app in APPS if (found := list(dates(app)))} == {"gateway_project": ["%d %B"]}  # a command's progress
    pages = [path.read_text() for path in (ROOT / "templates").rglob("*.html")]
    forms = {form for page in pages for form in re.findall(r'\|date:"([^"]*)"', page)}
    assert not [form for form in forms if not re.fullmatch(r"(D, )?M j(, Y)?(, H:i(:s)?)?( T)?|H:i:s", form)]
    assert len(forms) > 3


def test_what_is_named_by_code_is_shown_in_words() -> None:
    assert action_words("organization.created") == "Organisation created"
    assert thing_words("organization") == "organisation"
    assert [tokens.label(name) for name in ("organizations", "invites", "keys")] == ["Organisations", "Invitations", "Keys"]
    names = [section["name"] for section in api_document.sections()]
    assert "Organisations" in names
    assert not [name for name in names if WORD.search(name)]
