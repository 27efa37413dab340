"""`GET /api/v1/explain`: why a call with a key would pass, or be refused, or be changed; nothing is admitted.

With an API key as bearer it explains that very key; with the session of the console any key its person may see.
Errors are JSON: `{"error": {"code", "message", "param"}}`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import msgspec
from asgiref.sync import async_to_sync
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from gateway_project.lib.addresses import client_address
from orgs.access import KeyRefused, bearer
from orgs.actor import LINEAGE, Actor
from orgs.api import errors as refusals
from orgs.api.authentication import ConsoleSession
from orgs.doors import Door, with_door
from orgs.models import ApiKey, User
from orgs.permissions import Permission
from orgs.second_factor import keeps_out
from proxy import errors, explained, explaining, permits, pipeline, startup
from proxy.call import Call
from proxy.errors import BadRequest, ProxyError
from proxy.explain_forms import QuestionForm
from proxy.explain_shapes import documented
from proxy.explained import Explanation, Question

if TYPE_CHECKING:
    from rest_framework.views import AsView, GenericView

PUBLIC_ID = re.compile(r"[a-z0-9]{6,16}")


class KeyNotFound(Exception):
    """No such key, or none that this person may see."""


class Explain(APIView):
    """A bearer is an API key and judged by the proxy, so nothing of the framework's looks at it."""

    authentication_classes = (ConsoleSession,)
    permission_classes = ()
    throttle_classes = ()
    renderer_classes = (JSONRenderer,)

    @classmethod
    def as_view(cls, **options: Any) -> AsView[GenericView]:
        return with_door(super().as_view(**options), Door("public"))

    def get_exception_handler(self) -> Any:
        return refusals.answer

    @documented
    def get(self, request: Request) -> HttpResponse:
        return _explained(cast(HttpRequest, request))


def _explained(request: HttpRequest) -> HttpResponse:
    form = QuestionForm(request.GET)
    try:
        authorization, address = request.headers.get("authorization"), address_of(request)
        if authorization is None:
            key = _key_of_session(request)
            explanation = explanation_of(key, _question(form, address=address))
        else:
            _require_key(authorization)
            question = _question(form, address=address)
            explanation = async_to_sync(_of_bearer)(authorization, question, request.GET.get("key", ""), address)
    except KeyNotFound:
        return _error(404, "key_not_found", "There is no such key, or none that you may see.", param="key")
    except ProxyError as error:
        return _error(error.status, error.code, error.message, param=error.param)
    return _json(200, explained.as_json(explanation))


def explanation_of(key: ApiKey, question: Question) -> Explanation:
    """As the proxy of this very process would judge it. Raises GuardrailsUnavailable."""
    return async_to_sync(_of_key)(key.pk, key.organization_id, question)


def address_of(request: HttpRequest) -> str:
    """From where this request comes: the address a call is taken to come from where none is named."""
    peer, forwarded = request.META.get("REMOTE_ADDR", ""), request.META.get("HTTP_X_FORWARDED_FOR", "")
    return client_address(peer, forwarded_for=forwarded, trusted=settings.TRUSTED_PROXIES)


def _require_key(authorization: str) -> None:
    """What cannot be a key, such as an access token, need not be looked for. Raises InvalidApiKey."""
    try:
        bearer(authorization)
    except KeyRefused as refusal:
        raise errors.CODES[refusal.code](str(refusal)) from refusal


async def _of_key(key_id: int, organization_id: int, question: Question) -> Explanation:
    await startup.ensure()
    caller, refused = await explaining.caller_of(key_id, organization_id=organization_id)
    return await explaining.explain(caller, question, refused=refused)


async def _of_bearer(authorization: str, question: Question, public_id: str, address: str) -> Explanation:
    """`address`: from where it is asked; a key that may not be used from there is told nothing."""
    await startup.ensure()
    caller = await pipeline.authenticate_current(authorization)
    permits.check_caller(Call("question", caller, address=address))
    if public_id and bearer(authorization).split("_")[2] != public_id:
        raise KeyNotFound
    return await explaining.explain(caller, question)


def _question(form: QuestionForm, *, address: str) -> Question:
    if form.is_valid():
        return form.question(address=address)
    field, messages = next(iter(form.errors.items()))
    raise BadRequest(f"{field}: {' '.join(str(message) for message in messages)}", param=str(field))


def _key_of_session(request: HttpRequest) -> ApiKey:
    user = request.user
    if not isinstance(user, User):
        raise errors.InvalidApiKey("Send an API key as `Authorization: Bearer gh_sk_…`, or sign in to the console.")
    public_id = request.GET.get("key", "")
    if not PUBLIC_ID.fullmatch(public_id):
        raise BadRequest("key: name a key by its public id, the part after gh_sk_.", param="key")
    key = ApiKey.objects.select_related("organization", LINEAGE).filter(public_id=public_id).first()
    if key is None:
        raise KeyNotFound
    actor = Actor.load(user, organization=key.organization)
    if not actor.belongs or keeps_out(key.organization, user) or not actor.can_with_key(Permission.VIEW_USAGE, key):
        raise KeyNotFound
    return key


def _error(status: int, code: str, message: str, *, param: str | None) -> HttpResponse:
    return _json(status, {"error": {"code": code, "message": message, "param": param}})


def _json(status: int, content: dict[str, Any]) -> HttpResponse:
    answer = HttpResponse(msgspec.json.encode(content), status=status, content_type="application/json")
    answer.headers["cache-control"] = "no-store"
    return answer
