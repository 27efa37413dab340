"""What stands in the query of a URL, which anybody may bend: what makes no sense is left out, however long or odd it is."""

from __future__ import annotations

from uuid import UUID

LARGEST_ID = 2**63 - 1


def id_in(text: str | None) -> int | None:
    """A number from 0 that a column of ids can hold; None for anything else."""
    if not text or not text.isascii() or not text.isdigit() or len(text) > 19:
        return None
    return number if (number := int(text)) <= LARGEST_ID else None


def ids_in(texts: list[str], *, most: int) -> list[int]:
    """Those among the first `most`."""
    return [number for text in texts[:most] if (number := id_in(text)) is not None]


def text_in(text: str | None, length: int) -> str:
    """PostgreSQL takes no NUL; what is too long names nothing."""
    text = (text or "").strip()
    return text if len(text) <= length and text.isprintable() else ""


def search_in(text: str | None, length: int) -> str:
    """What is searched for: of more the beginning, which then finds nothing, rather than everything."""
    text = (text or "").strip()[:length]
    return text if text.isprintable() else ""


def uuid_in(text: str | None) -> UUID | None:
    try:
        return UUID(text or "")
    except ValueError:
        return None
