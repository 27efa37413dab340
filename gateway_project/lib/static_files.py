"""Static files under ASGI: whitenoise hands out synchronous iterators, which Django can only serve with a warning and a thread.

Our files are small (a megabyte at most), so each is answered as one piece. And a page names some fifty of them, so their URLs
are kept. What files there are is found out when the first is asked for: a process that answers calls only need not know.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django.contrib.staticfiles.storage import ManifestStaticFilesStorage
from django.http import HttpRequest, HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.storage import CompressedManifestStaticFilesStorage


class StaticFilesMiddleware(WhiteNoiseMiddleware):
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._unlisted: list[tuple[str, str]] = []  # folders, each with the beginning of its URLs
        self._listing = threading.Lock()
        super().__init__(get_response)  # type: ignore[no-untyped-call]

    def update_files_dictionary(self, root: str, prefix: str) -> None:
        self._unlisted.append((root, prefix))

    def __call__(self, request: HttpRequest) -> HttpResponse:  # type: ignore[override]
        if any(request.path_info.startswith(prefix) for _, prefix in self._unlisted):
            self._list()
        response: HttpResponse = super().__call__(request)  # type: ignore[no-untyped-call]
        return response

    def _list(self) -> None:
        """Whoever asks for a file meanwhile waits, and finds all of them."""
        with self._listing:
            for root, prefix in self._unlisted:
                super().update_files_dictionary(root, prefix)  # type: ignore[no-untyped-call]
            self._unlisted = []

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
