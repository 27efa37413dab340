"""OpenAI's Translations: `POST /v1/audio/translations`, sound into English text. See `transcriptions.py`."""

from collections.abc import Mapping

from proxy.canonical.request import Request
from proxy.protocols import transcriptions
from proxy.protocols.openai_errors import render_error, render_stream_error
from proxy.protocols.transcriptions import pass_through, read_reply, reader

__all__ = ["HEADERS", "NAME", "parse", "pass_through", "path", "read_reply", "reader", "render_error", "render_stream_error"]

NAME = "translations"
HEADERS: tuple[str, ...] = ("content-type",)


def parse(body: bytes, headers: Mapping[str, str] | None = None) -> Request:
    """Raises BadRequest, with the name of the offending field as `param`."""
    return transcriptions.request_for(NAME, body, (headers or {}).get("content-type", ""))


def path(model: str, *, stream: bool) -> str:
    return "/audio/translations"
