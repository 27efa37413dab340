"""Files of people: what spreadsheets save, and what they do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgs.member_files import MOST_BYTES, MOST_ROWS, Line, Unreadable, read

TABLE = "email,name,group,role\nada@example.com,Ada Łukasz,A / B,Lead\n"
ADA = Line(2, "ada@example.com", "Ada Łukasz", "A / B", "Lead")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_it_reads_what_spreadsheets_save(encoding: str, delimiter: str, ending: str) -> None:
    assert read(TABLE.replace(",", delimiter).replace("\n", ending).encode(encoding)) == [ADA]


def test_older_spreadsheets_write_windows_1252() -> None:
    [line] = read("E-Mail;Name\njos@example.com;José Müller\n".encode("cp1252"))
    assert (line.email, line.name, line.group, line.role) == ("jos@example.com", "José Müller", "", "")


def test_columns_come_in_any_order_and_lines_may_be_short_or_empty() -> None:
    content = b'role,EMAIL\n\nlead,a@example.com\n,,\nmember\n"x, y",b@example.com,too,many\n'
    assert [(line.number, line.email, line.role) for line in read(content)] == [
        (3, "a@example.com", "lead"),
        (5, "", "member"),
        (6, "b@example.com", "x, y"),
    ]


def test_what_cannot_be_seen_is_left_out() -> None:
    [line] = read("email,name\n\u200bada@example.com\u00a0,A\u202eda\x07\n".encode())
    assert (line.email, line.name) == ("ada@example.com", "Ada")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "none called"),
        (b"name,group\nAda,A\n", "none called"),
        (b"email\n", "names nobody"),
        (b"email\n\n\n", "names nobody"),
        (b"PK\x03\x04\x00\x00xlsx", "no text file"),
        (b"email\n" + b"a@example.com\n" * (MOST_ROWS + 1), "more than"),
        (b"x" * (MOST_BYTES + 1), "larger than"),
        (b'email\n"' + b"x" * 200_000 + b'"\n', "no table"),
    ],
)
def test_what_is_no_such_file_is_refused_with_words(content: bytes, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        read(content)


@given(st.binary(max_size=400))
def test_whatever_is_sent_is_read_or_refused(content: bytes) -> None:
    for prefix in (b"", b"email,name\n"):
        try:
            lines = read(prefix + content)
        except Unreadable:
            continue
        assert lines
        assert all(line.number >= 2 for line in lines)
