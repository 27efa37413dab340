"""Files of people to invite, as spreadsheets save them → rows, each with what is wrong with it. Knows no database.

Columns are email, name, group and role, in any order, the first of them needed; separated by commas, semicolons or tabs;
in UTF-8, UTF-16 with its mark, or else Windows-1252, which is what older spreadsheets write.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from typing import NamedTuple

COLUMNS = ("email", "name", "group", "role")
OTHER_NAMES = {"e-mail": "email", "mail": "email", "email address": "email", "group path": "group", "path": "group"}
MOST_BYTES = 1_000_000
MOST_ROWS = 2_000
LONGEST_CELL = 300


class Unreadable(ValueError):
    """The file as a whole cannot be read; the message is for whoever sent it."""


class Line(NamedTuple):
    """`number` is the line in the file, the first one being the names of the columns."""

    number: int
    email: str
    name: str
    group: str
    role: str


def read(content: bytes) -> list[Line]:
    """Empty lines are left out. Raises Unreadable."""
    if len(content) > MOST_BYTES:
        raise Unreadable(f"The file is larger than {MOST_BYTES // 1000:,} kB.")
    text = _text(content)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=None), delimiter=_delimiter(text), strict=False))
    except csv.Error as wrong:
        raise Unreadable(f"This is no table of comma-separated values: {wrong}.") from wrong
    columns = _columns(rows)
    lines = [_line(number, cells, columns) for number, cells in enumerate(rows[1:], start=2) if any(map(str.strip, cells))]
    if not lines:
        raise Unreadable("The file names nobody.")
    if len(lines) > MOST_ROWS:
        raise Unreadable(f"The file has more than {MOST_ROWS:,} people: split it.")
    return lines


def _text(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif b"\0" in content:
        raise Unreadable("This is no text file: save the table as CSV.")
    else:
        encoding = "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
    return text.replace("\0", "")


def _delimiter(text: str) -> str:
    header = text.lstrip().split("\n", 1)[0]
    return max(",;\t", key=header.count)


def _columns(rows: list[list[str]]) -> dict[str, int]:
    """Where each column stands."""
    header = [_cell(cell).lower() for cell in rows[0]] if rows else []
    names = [OTHER_NAMES.get(name, name) for name in header]
    found = {name: names.index(name) for name in COLUMNS if name in names}
    if "email" not in found:
        raise Unreadable("The first line names the columns, and there is none called “email”.")
    return found


def _line(number: int, cells: list[str], columns: dict[str, int]) -> Line:
    values = {name: _cell(cells[place]) if place < len(cells) else "" for name, place in columns.items()}
    return Line(number, *(values.get(name, "") for name in COLUMNS))


def _cell(text: str) -> str:
    """Without what cannot be seen."""
    visible = "".join(character for character in text if unicodedata.category(character)[0] != "C" or character in "\t\n")
    return " ".join(visible.split())[:LONGEST_CELL]
