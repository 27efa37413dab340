"""Where an answer's words come from, in each protocol's words.

Chat Completions and Responses cite pages by stretches of the text (characters); Messages cites by whole text blocks, pages
and documents of the request alike; Converse as Messages does; Gemini by stretches in bytes. A citation that cannot be read
costs itself, never the answer. What has no address is told where documents can be cited (Messages) only.
Source: openai-python 3.52, anthropic 2.14 and google-genai 3.6 types; botocore 1.44 service model of bedrock-runtime
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from proxy.canonical.answer import Citation, CitationDelta, Place, TextDelta, Unit

Members = dict[str, Any]
# Messages names the ends of each kind of place by its own words.
_ENDS: dict[str, tuple[Unit, str, str]] = {
    "char_location": ("char", "start_char_index", "end_char_index"),
    "page_location": ("page", "start_page_number", "end_page_number"),
    "content_block_location": ("block", "start_block_index", "end_block_index"),
}
_PLACES: dict[Unit, tuple[str, str, str]] = {unit: (kind, start, end) for kind, (unit, start, end) in _ENDS.items()}
_CONVERSE_UNITS: dict[str, Unit] = {"documentChar": "char", "documentPage": "page", "documentChunk": "block"}


# --- OpenAI's annotations ----------------------------------------------------------------------
def of_annotations(given: Any, *, base: int = 0) -> list[Citation]:
    """Of Chat Completions or Responses. `base`: how many characters stand before the text that they count from."""
    found = []
    for annotation in _objects(given):
        page = annotation.get("url_citation", annotation)
        if annotation.get("type") == "url_citation" and isinstance(page, dict) and isinstance(page.get("url"), str):
            start, end = _number(page.get("start_index")), _number(page.get("end_index"))
            found.append(Citation(base + start, base + max(start, end), page["url"], _text(page.get("title"))))
    return found


def of_sources(results: Any, urls: Any, *, length: int) -> list[Citation]:
    """Of Perplexity, which names what it read beside the answer: of its whole text."""
    pages = [(page["url"], _text(page.get("title"))) for page in _objects(results) if isinstance(page.get("url"), str)]
    pages = pages or [(url, None) for url in _list(urls) if isinstance(url, str)]
    return [Citation(0, length, url, title) for url, title in pages]


def chat_annotations(citations: Iterable[Citation]) -> list[Members]:
    return [{"type": "url_citation", "url_citation": _page(one, 0)} for one in citations if one.url]


def response_annotations(citations: Iterable[Citation], *, base: int) -> list[Members]:
    """`base`: how many characters of the choice stand before this part."""
    return [{"type": "url_citation", **_page(one, base)} for one in citations if one.url]


def _page(citation: Citation, base: int) -> Members:
    start, end = max(0, citation.start - base), max(0, citation.end - base)
    return {"start_index": start, "end_index": end, "url": citation.url, "title": citation.title or ""}


# --- Messages ----------------------------------------------------------------------------------
def of_block(given: Any, *, start: int, end: int) -> list[Citation]:
    """Of a text block that stands from `start` to `end` in its choice."""
    return [found for one in _objects(given) if (found := _of_message(one, start, end)) is not None]


def _of_message(one: Members, start: int, end: int) -> Citation | None:
    quote, kind = _text(one.get("cited_text")) or "", _text(one.get("type")) or ""
    url = one.get("source") if kind == "search_result_location" else one.get("url")
    if isinstance(url, str):
        return Citation(start, end, url, _text(one.get("title")), quote)
    if kind not in _ENDS:
        return None
    unit, first, last = _ENDS[kind]
    place = Place(_number(one.get("document_index")), unit, _number(one.get(first)), _number(one.get(last)))
    return Citation(start, end, None, _text(one.get("document_title")), quote, place)


def message_citation(citation: Citation) -> Members:
    """Pages are told as results of Anthropic's search; without its seal they are not sent back to it (`messages_history`)."""
    if citation.place is None:
        kind = "web_search_result_location"
        page = {"url": citation.url or "", "title": citation.title, "encrypted_index": ""}
        return {"type": kind, "cited_text": citation.quote, **page}
    kind, first, last = _PLACES[citation.place.unit]
    return {
        "type": kind,
        "cited_text": citation.quote,
        "document_index": citation.place.document,
        "document_title": citation.title,
        "file_id": None,
        first: citation.place.start,
        last: citation.place.end,
    }


# --- Converse ----------------------------------------------------------------------------------
def of_converse(given: Any, *, start: int, end: int) -> list[Citation]:
    """Of a block that stands from `start` to `end`."""
    return [found for one in _objects(given) if (found := _of_converse(one, start, end)) is not None]


def _of_converse(one: Members, start: int, end: int) -> Citation | None:
    location = one.get("location")
    location = location if isinstance(location, dict) else {}
    title = _text(one.get("title"))
    quote = "".join(_text(piece.get("text")) or "" for piece in _objects(one.get("sourceContent")))
    for name, unit in _CONVERSE_UNITS.items():
        if isinstance(place := location.get(name), dict):
            document, first, last = (_number(place.get(member)) for member in ("documentIndex", "start", "end"))
            return Citation(start, end, None, title, quote, Place(document, unit, first, last))
    web = location.get("web")
    url = _text(web.get("url")) if isinstance(web, dict) else _text(one.get("source"))
    return Citation(start, end, url, title, quote) if url else None


# --- Gemini ------------------------------------------------------------------------------------
def of_grounding(grounding: Any, recited: Any, text: str) -> Iterator[Citation]:
    """What `groundingMetadata` and `citationMetadata` say of a candidate's `text`. Stretches are counted in bytes there."""
    encoded = text.encode(errors="replace")
    grounding, recited = (value if isinstance(value, dict) else {} for value in (grounding, recited))
    pages = [_chunk(chunk) for chunk in _objects(grounding.get("groundingChunks"))]
    supports = _objects(grounding.get("groundingSupports"))
    for support in supports:
        segment = support.get("segment")
        start, end = _stretch(segment if isinstance(segment, dict) else {}, encoded)
        for index in _list(support.get("groundingChunkIndices")):
            if type(index) is int and 0 <= index < len(pages) and pages[index][0]:
                yield Citation(start, end, *pages[index])
    if not supports:
        yield from (Citation(0, len(text), url, title) for url, title in pages if url)
    for source in _objects(recited.get("citations") or recited.get("citationSources")):
        if isinstance(source.get("uri"), str):
            yield Citation(*_stretch(source, encoded), source["uri"], _text(source.get("title")))


def _chunk(chunk: Members) -> tuple[str | None, str | None]:
    page = chunk.get("web") or chunk.get("retrievedContext") or chunk.get("maps")
    return (_text(page.get("uri")), _text(page.get("title"))) if isinstance(page, dict) else (None, None)


def _stretch(segment: Members, encoded: bytes) -> tuple[int, int]:
    first, last = _number(segment.get("startIndex")), _number(segment.get("endIndex"))
    start = len(encoded[:first].decode(errors="ignore"))
    return start, max(start, len(encoded[:last].decode(errors="ignore")))


# --- streams of blocks -------------------------------------------------------------------------
class OfBlocks:
    """For streams whose blocks are cited as a whole: from where to where is known when a block ends. `read` as `of_block`."""

    def __init__(self, read: Callable[..., list[Citation]]) -> None:
        self._read = read
        self._length = self._began = 0
        self._given: list[Any] = []

    def begin(self, given: Any = None) -> None:
        self._began = self._length
        self._given = list(given) if isinstance(given, list) else []

    def said(self, text: str) -> TextDelta:
        self._length += len(text)
        return TextDelta(text)

    def add(self, given: Any) -> None:
        self._given.append(given)

    def ended(self) -> tuple[CitationDelta, ...]:
        """What the block that ends cites. The next may begin without a word."""
        found = self._read(self._given, start=self._began, end=self._length) if self._given else []
        self.begin()
        return tuple(CitationDelta(citation) for citation in found)


# --- reading -----------------------------------------------------------------------------------
def _objects(given: Any) -> list[Members]:
    return [one for one in _list(given) if isinstance(one, dict)]


def _list(given: Any) -> list[Any]:
    return given if isinstance(given, list) else []


def _number(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
