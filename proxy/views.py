"""The endpoints of `/v1`: bytes in, one call of the pipeline, bytes out."""

from __future__ import annotations

import functools

import msgspec
from django.conf import settings
from django.http import HttpResponse, HttpResponseBase
from django.http.request import HttpHeaders
from rest_framework.request import Request

from gateway_project.lib import lean
from gateway_project.lib.addresses import client_address
from gateway_project.lib.drf import AsyncAPIView
from proxy import attribution, counting, headers, histories, keycard, offered, permits, pipeline, sessions, startup
from proxy.call import Call
from proxy.callers import Caller
from proxy.errors import BadRequest
from proxy.protocols import chat_completions, messages, model_lists
from proxy.protocols.base import CallerCodec


class ProxyView(AsyncAPIView):
    async def authenticate(self, request: Request) -> None:
        """Keys are read by the pipeline; here a worker's connections are made sure of."""
        await startup.ensure()


class Calls(ProxyView):
    """An endpoint whose POSTs are calls of one protocol."""

    codec: CallerCodec = chat_completions

    async def post(self, request: Request) -> HttpResponseBase:
        return await self.answer(request)

    async def answer(self, request: Request, *, key_id: int | None = None) -> HttpResponseBase:
        """`key_id`: of the key to call with, where the request needs to show none."""
        answer = await pipeline.handle(
            pipeline.Incoming(
                body=request._request.body,
                authorization=authorization_of(request),
                feature=header(request, attribution.HEADER),
                address=address_of(request),
                session=header(request, sessions.HEADER),
                zdr=zdr_of(request),
                headers=headers_of(request, self.codec),
                idempotency_key=request._request.META.get("HTTP_IDEMPOTENCY_KEY"),
                key_id=key_id,
            ),
            codec=self.codec,
        )
        return lean.answered(answer.body, answer.headers)


class CountTokens(ProxyView):
    """How many tokens a Messages prompt has. No call: nothing is reserved, charged or recorded."""

    async def post(self, request: Request) -> HttpResponseBase:
        caller = await asking(request)
        asked = messages.parse_count(request._request.body, headers_of(request, messages))
        tokens = await counting.input_tokens(caller, asked, zdr=permits.asks_zdr(zdr_of(request)))
        return HttpResponse(messages.render_count(tokens), headers=headers.of_a_question())


class PlaygroundCalls(Calls):
    """Behind the console's door only (asgi.py): whoever comes here may call with this key."""

    async def post(self, request: Request, *, org: str, key_id: int) -> HttpResponseBase:  # type: ignore[override]
        return await self.answer(request, key_id=key_id)


def zdr_of(request: Request) -> str | None:
    """An empty one is one, too."""
    said: str | None = request._request.META.get(_meta_name(permits.ZDR_HEADER))
    return said


def header(request: Request, name: str) -> str:
    """'' where there is none. Past the framework's request, which builds all headers anew to answer for one."""
    value: str = request._request.META.get(_meta_name(name), "")
    return value


@functools.cache
def _meta_name(header: str) -> str:
    name: str = HttpHeaders.to_wsgi_name(header)
    return name


def authorization_of(request: Request) -> str | None:
    """`Authorization`, or the header that Anthropic's clients send a key in."""
    key = header(request, "x-api-key")
    return header(request, "authorization") or (f"Bearer {key}" if key else None)


def headers_of(request: Request, codec: CallerCodec) -> dict[str, str]:
    meta = request._request.META
    return {name: meta[_meta_name(name)] for name in codec.HEADERS if _meta_name(name) in meta}


class KeptResponse(ProxyView):
    """A response that its caller asked to be kept."""

    async def get(self, request: Request, response_id: str) -> HttpResponseBase:
        if request.query_params.get("stream", "false") != "false":
            raise BadRequest("A kept response is given whole, not as a stream.", param="stream")
        body = await histories.read((await asking(request)).principal, response_id)
        return HttpResponse(body, headers=headers.of_a_question())

    async def delete(self, request: Request, response_id: str) -> HttpResponseBase:
        await histories.delete((await asking(request)).principal, response_id)
        told = {"id": response_id, "object": "response", "deleted": True}
        return HttpResponse(msgspec.json.encode(told), headers=headers.of_a_question())


def address_of(request: Request) -> str:
    """From where a call comes, as far as it is known."""
    peer: str = request._request.META.get("REMOTE_ADDR", "")
    return client_address(peer, forwarded_for=header(request, "x-forwarded-for"), trusted=settings.TRUSTED_PROXIES)


async def asking(request: Request) -> Caller:
    """Who asks what its key may do: from where the key may not be used, nobody."""
    caller = await pipeline.authenticate_current(authorization_of(request))
    permits.check_caller(Call("question", caller, address=address_of(request)))
    return caller


class Models(ProxyView):
    async def get(self, request: Request, name: str = "") -> HttpResponseBase:
        caller = await asking(request)
        anthropic = "anthropic-version" in request.headers or "x-api-key" in request.headers
        if name:
            body = await offered.one(caller, name, anthropic=anthropic)
        else:
            page = model_lists.page_of(request.query_params.dict()) if anthropic else None
            body = await offered.all_models(caller, anthropic=page)
        return HttpResponse(body, headers=headers.of_a_question())


class Key(ProxyView):
    async def get(self, request: Request) -> HttpResponseBase:
        caller = await asking(request)
        return HttpResponse(msgspec.json.encode(await keycard.describe(caller)), headers=headers.of_a_question())
