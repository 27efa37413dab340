"""Readers of single YAML nodes: each returns a Python value or raises BadValue with what is expected.

They read the text of a node, not what YAML would make of it: `0.25` never becomes a float. Messages
repeat a value only where it cannot be a credential.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import yaml

from gateway_project.lib import decimals
from gateway_project.lib.money import NANO, BadAmount, parse_usd

# Dearer than anything on sale; a price above it is a slip of the decimal point.
MAX_PRICE_USD = 1_000_000
MAX_CREDENTIAL = 8000
MAX_INTEGER = 2**31 - 1
MAX_SMALL_INTEGER = 2**15 - 1
DAY_SECONDS = 86_400
OPTIONS_DEPTH = 3

_TAG = "tag:yaml.org,2002:"
_HOLDS = "may hold text, numbers in decimal digits, true, false, lists and mappings only"


class BadValue(ValueError):
    """What a value must be."""


def is_null(node: yaml.Node) -> bool:
    return bool(node.tag == f"{_TAG}null")


def line_of(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _scalar(node: yaml.Node, *types: str, expected: str) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag.removeprefix(_TAG) not in types:
        raise BadValue(f"must be {expected}")
    return str(node.value)


def text(longest: int) -> Callable[[yaml.Node], str]:
    def read_text(node: yaml.Node) -> str:
        text = _scalar(node, "str", expected="text (put it in quotes)")
        if not text.strip() or text != text.strip() or not text.isprintable():
            raise BadValue("must not be empty, nor hold line breaks or spaces at its ends")
        if len(text) > longest:
            raise BadValue(f"is longer than {longest} characters")
        return text

    return read_text


def credential(node: yaml.Node) -> str:
    """A key, or a key file of JSON in several lines."""
    secret = _scalar(node, "str", expected="text (put it in quotes)").strip()
    if not secret or not secret.replace("\n", "").isprintable():
        raise BadValue("must not be empty, nor hold control characters")
    if len(secret) > MAX_CREDENTIAL:
        raise BadValue(f"is longer than {MAX_CREDENTIAL} characters")
    if "\n" in secret and not secret.startswith("{"):
        raise BadValue("must be one line, unless it is a key file of JSON")
    return secret


def slug(node: yaml.Node) -> str:
    name = text(80)(node)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise BadValue(f"{name!r} may hold letters, digits, - and _ only")
    return name


def one_of(choices: list[str]) -> Callable[[yaml.Node], str]:
    def read_choice(node: yaml.Node) -> str:
        choice = text(40)(node)
        if choice not in choices:
            raise BadValue(f"{choice!r} is none of {', '.join(choices)}")
        return choice

    return read_choice


def words(choices: Collection[str]) -> Callable[[yaml.Node], list[str]]:
    """Some of the choices, each once, in the order of the choices."""

    def read_words(node: yaml.Node) -> list[str]:
        if not isinstance(node, yaml.SequenceNode):
            raise BadValue("must be a list")
        given = [text(40)(entry) for entry in node.value]
        for word in given:
            if word not in choices:
                raise BadValue(f"{word!r} is none of {', '.join(choices)}")
        return [word for word in choices if word in given]

    return read_words


def day(node: yaml.Node) -> date:
    text = _scalar(node, "timestamp", "str", expected="a date such as 2027-01-31")
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise BadValue("must be a date such as 2027-01-31") from error


def url(node: yaml.Node) -> str:
    url = text(500)(node)
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.username or parts.query or parts.fragment:
        raise BadValue("must be a http:// or https:// address without user, query and fragment")
    return url.rstrip("/")


def environment_variable(node: yaml.Node) -> str:
    name = text(120)(node)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise BadValue("must be the name of an environment variable (a key itself goes into api_key)")
    return name


def flag(node: yaml.Node) -> bool:
    return _scalar(node, "bool", expected="true or false").lower() in {"true", "yes", "on"}


def integer(least: int, most: int) -> Callable[[yaml.Node], int]:
    def read_integer(node: yaml.Node) -> int:
        # To YAML 1.1 010 is a number and 09 a text.
        bare = isinstance(node, yaml.ScalarNode) and not node.style
        text = _scalar(node, *(("int", "float", "str") if bare else ("int",)), expected="a whole number")
        try:
            number = decimals.whole(text)
        except decimals.NoNumber:
            number = least - 1
        if not least <= number <= most:
            raise BadValue(f"must be a whole number from {least} to {most}")
        return number

    return read_integer


def seconds(node: yaml.Node) -> float:
    seconds = _decimal(node, expected="a number of seconds")
    if not 0 < seconds <= DAY_SECONDS:
        raise BadValue(f"must be more than 0 and at most {DAY_SECONDS} seconds")
    return float(seconds)


def _decimal(node: yaml.Node, *, expected: str) -> Decimal:
    text = _scalar(node, "int", "float", "str", expected=expected)
    try:
        return decimals.exact(text)
    except decimals.NoNumber:
        raise BadValue(f"must be {expected}") from None


def nano_dollars(node: yaml.Node) -> int:
    """USD → nano-dollars, exactly or not at all."""
    amount = _decimal(node, expected="an amount of US dollars")
    if amount < 0:
        raise BadValue(f"{amount} is negative")
    if amount > MAX_PRICE_USD:
        raise BadValue(f"{amount} is more than {MAX_PRICE_USD:,} US dollars")
    try:
        return parse_usd(amount)
    except BadAmount as error:
        raise BadValue(f"{amount} has more decimals than a nano-dollar ({Decimal(1) / NANO:f})") from error


def json_mapping(node: yaml.Node) -> dict[str, Any]:
    """As PostgreSQL's jsonb holds it."""
    options = _plain(node, OPTIONS_DEPTH)
    if not isinstance(options, dict):
        raise BadValue("must be a mapping")
    return options


def _plain(node: yaml.Node, depth: int) -> Any:
    """What JSON can hold too: text, numbers, flags, null, lists and mappings of them."""
    if depth < 0:
        raise BadValue(f"is nested more than {OPTIONS_DEPTH} levels deep")
    if isinstance(node, yaml.MappingNode):
        return {_stored(_scalar(key, "str", expected="keyed by text")): _plain(value, depth - 1) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(entry, depth - 1) for entry in node.value]
    tag = node.tag.removeprefix(_TAG)
    if tag == "timestamp":
        return str(node.value)
    try:
        if tag == "int":
            return decimals.whole(node.value)
        value = float(decimals.exact(node.value)) if tag == "float" else yaml.SafeLoader("").construct_object(node)
    except decimals.NoNumber as error:
        raise BadValue(_HOLDS) from error
    except (yaml.YAMLError, ValueError, KeyError) as error:  # a tag that is unknown, or is none of its value's
        raise BadValue(f"holds the tag {node.tag}, which says nothing here") from error
    if isinstance(value, str):
        return _stored(value)
    if isinstance(value, bool) or value is None or (isinstance(value, float) and abs(value) < float("inf")):
        return value
    raise BadValue(_HOLDS)


def _stored(text: str) -> str:
    """PostgreSQL holds neither NUL nor half of a character."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise BadValue("may hold no NUL and no half of a character")
    return text
