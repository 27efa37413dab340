"""The proxy's view base by itself: order of its steps, and what it leaves behind. Through a server, see test_lean.py."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.test import RequestFactory
from rest_framework.request import Request
from rest_framework.response import Response

from gateway_project.lib import lean
from gateway_project.lib.drf import AsyncAPIView

requests = RequestFactory()


class Refused(Exception):
    """As a route's own authentication raises it."""


class Things(AsyncAPIView):
    async def authenticate(self, request: Request) -> None:
        self.log = ["authenticate"]
        if request.headers.get("authorization") == "Bearer wrong":
            raise Refused

    async def get(self, request: Request, name: str = "") -> HttpResponseBase:
        await asyncio.sleep(0)
        return Response({"name": name, "log": [*self.log, "get"], "q": request.query_params.get("q")})

    async def post(self, request: Request) -> HttpResponseBase:
        return Response(request.data, status=201)

    async def delete(self, request: Request) -> HttpResponseBase:
        async def parts() -> Any:
            yield b"gone"

        return StreamingHttpResponse(parts())

    async def put(self, request: Request) -> HttpResponseBase:
        return HttpResponse("plain", content_type="text/plain")


def answered(request: Any, **route: str) -> Any:
    view: Any = Things.as_view()
    return asyncio.run(view(request, **route))


def test_authentication_comes_before_the_handler_which_gets_the_route_and_the_query() -> None:
    answer = answered(requests.get("/things/x?q=7"), name="x")
    assert answer.status_code == 200
    assert json.loads(answer.render().content) == {"name": "x", "log": ["authenticate", "get"], "q": "7"}


def test_what_authentication_raises_comes_out_as_it_was() -> None:
    with pytest.raises(Refused):
        answered(requests.get("/", headers={"authorization": "Bearer wrong"}))


@pytest.mark.parametrize("method", ["patch", "trace"])
def test_a_method_nobody_wrote_is_refused_with_those_that_are(method: str) -> None:
    with pytest.raises(lean.MethodNotAllowed) as caught:
        answered(requests.generic(method.upper(), "/"))
    assert set(caught.value.allow) >= {"GET", "POST", "PUT", "DELETE"}
    assert "PATCH" not in caught.value.allow


@pytest.mark.parametrize("method", ["__init__", "dispatch", "authenticate", "initialize_request", "_handler", ""])
def test_a_method_is_never_the_name_of_something_else(method: str) -> None:
    with pytest.raises(lean.MethodNotAllowed):
        answered(requests.generic(method, "/"))


def test_a_refused_method_is_refused_before_anybody_is_asked_who_they_are() -> None:
    with pytest.raises(lean.MethodNotAllowed):
        answered(requests.patch("/", headers={"authorization": "Bearer wrong"}))


def test_options_name_the_methods_to_those_who_may_ask() -> None:
    with pytest.raises(Refused):
        answered(requests.options("/", headers={"authorization": "Bearer wrong"}))
    answer = answered(requests.options("/"))
    assert answer.status_code == 204
    assert {"GET", "POST", "DELETE"} <= set(answer["Allow"].split(", "))


def test_answers_that_are_not_rest_framework_s_pass_as_they_are() -> None:
    assert answered(requests.put("/")).content == b"plain"
    assert answered(requests.delete("/")).streaming


def test_concurrent_requests_do_not_share_a_view() -> None:
    view: Any = Things.as_view()

    async def both() -> list[Any]:
        return await asyncio.gather(*(view(requests.get(f"/?q={number}"), name=str(number)) for number in range(20)))

    names = [json.loads(answer.render().content)["name"] for answer in asyncio.run(both())]
    assert names == [str(number) for number in range(20)]
