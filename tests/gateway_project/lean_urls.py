"""Routes for the lean handler's tests: each view does one thing a real one might."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response

from gateway_project.lib.drf import AsyncAPIView

# What views saw of a client going away; the tests run in the same process.
settled: list[str] = []
started = threading.Event()
threads: set[int] = set()


async def echo(request: HttpRequest) -> HttpResponse:
    threads.add(threading.get_ident())
    return HttpResponse(request.body, content_type="application/octet-stream", headers={"X-Query": request.GET.get("q", "")})


async def fails(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("a secret detail")


async def missing(request: HttpRequest) -> HttpResponse:
    raise Http404("no such thing")


async def waits(request: HttpRequest) -> HttpResponse:
    started.set()
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.05)  # settling takes a moment, and must not be cut short
        settled.append("view")
    return HttpResponse()


async def parts() -> AsyncIterator[bytes]:
    try:
        yield b"one "
        yield b"two"
    finally:
        settled.append("short stream")


async def endless() -> AsyncIterator[bytes]:
    try:
        while True:
            yield b"x" * 1000
            started.set()
            await asyncio.sleep(0.01)
    finally:
        await asyncio.sleep(0.05)
        settled.append("stream")


async def breaking() -> AsyncIterator[bytes]:
    yield b"one "
    raise RuntimeError("in the middle")


def streaming(source: Any) -> Any:
    async def view(request: HttpRequest) -> HttpResponseBase:
        return StreamingHttpResponse(source(), content_type="text/event-stream")

    return view


class Rest(AsyncAPIView):
    async def authenticate(self, request: Request) -> None:
        if request.headers.get("x-refuse"):
            raise PermissionError("refused")

    async def get(self, request: Request, name: str) -> HttpResponseBase:
        return Response({"name": name})

    async def post(self, request: Request, name: str) -> HttpResponseBase:
        return Response(request.data, status=201)


class Forgiving(AsyncAPIView):
    async def get(self, request: Request) -> HttpResponseBase:
        raise KeyError("x")

    def handle_exception(self, exc: Exception) -> Response:
        return Response({"handled": type(exc).__name__}, status=418)


urlpatterns = [
    path("v1/echo", echo),
    path("v1/fails", fails),
    path("v1/missing", missing),
    path("v1/waits", waits),
    path("v1/stream", streaming(parts)),
    path("v1/endless", streaming(endless)),
    path("v1/breaking", streaming(breaking)),
    path("v1/rest/<name>", Rest.as_view()),
    path("v1/forgiving", Forgiving.as_view()),
]
