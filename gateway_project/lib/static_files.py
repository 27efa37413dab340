"""Static files under ASGI: whitenoise hands out synchronous iterators, which Django can only serve with a warning and a thread.

Our files are small (a megabyte at most), so each is answered as one piece. And a page names some fifty of them, so their URLs
are kept.
"""

from __future__ import annotations

from typing import Any

from django.contrib.staticfiles.storage import ManifestStaticFilesStorage
from django.http import HttpRequest, HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.storage import CompressedManifestStaticFilesStorage


class StaticFilesMiddleware(WhiteNoiseMiddleware):
    @staticmethod
    def serve(static_file: Any, request: HttpRequest) -> HttpResponse:  # type: ignore[override]
        streamed = WhiteNoiseMiddleware.serve(static_file, request)  # type: ignore[no-untyped-call]
        whole = HttpResponse(b"".join(streamed.streaming_content), status=streamed.status_code)
        for name, value in streamed.items():
            whole[name] = value
        streamed.close()
        return whole


class PlainStaticFilesStorage(ManifestStaticFilesStorage):
    """The manifest is read once, so the URL of a file does not change while the process runs."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._urls: dict[tuple[str, bool], str] = {}

    def url(self, name: str, force: bool = False) -> str:  # type: ignore[override]
        if (name, force) not in self._urls:
            self._urls[name, force] = super().url(name, force)
        return self._urls[name, force]


class StaticFilesStorage(PlainStaticFilesStorage, CompressedManifestStaticFilesStorage):
    """Compresses what it collects, too."""
