"""`Idempotency-Key`: a POST that is sent again changes nothing again; it is answered as the first one was, for 24 hours.

| the same person and token sent this key | then |
|---|---|
| never, or more than a day ago, or it was refused | the request runs |
| with the same request, which was done | the first answer, with `X-Gatehouse-Replayed: true` |
| with the same request, which runs still | 409 `request_in_progress` |
| with another method, path or body | 409 `idempotency_conflict` |

What a request changes and what it was answered are one transaction: no crash leaves the one without the other. A refused
request has changed nothing and leaves nothing. Who may ask is judged anew before a kept answer is given. What is given
once (the text of a key) is not kept: in a repeated answer it is null.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import connection, transaction
from drf_spectacular.utils import OpenApiParameter
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from gateway_project.lib import crypto
from orgs.answered_models import KEPT
from orgs.api.bodies import TooDeep
from orgs.api.errors import IdempotencyConflict, RequestInProgress
from orgs.models import AccessToken, AnsweredRequest, User
from orgs.services.answers import keep_answer, kept_answer

if TYPE_CHECKING:
    from orgs.api.base import ApiView

Answering = Callable[..., Response]

HEADER = "Idempotency-Key"
REPLAYED = "X-Gatehouse-Replayed"
MOST_LENGTH = 255
PARAMETER = OpenApiParameter(
    HEADER,
    {"type": "string", "pattern": f"^[!-~]([ -~]{{0,{MOST_LENGTH - 2}}}[!-~])?$"},
    OpenApiParameter.HEADER,
    description=f"Of your choice, new for each change. Sent again within {KEPT.days * 24} hours it changes nothing again "
    f"and is answered as it was, with `{REPLAYED}: true`; what is given once is null then. A refused one leaves the key free.",
)


class Claim(NamedTuple):
    """Digests of whose key it is, and of what was asked with it."""

    key: bytes
    request: bytes


def repeatable(method: Answering, *, once: str | None) -> Answering:
    """`once` is the field of its answer that is given once."""

    @functools.wraps(method)
    def answered(view: ApiView, request: Request, *args: Any, **kwargs: Any) -> Response:
        key = request.headers.get(HEADER)
        if key is None:
            return method(view, request, *args, **kwargs)
        claim = _claim(view, key)
        with transaction.atomic():
            _hold(claim)
            kept = kept_answer(claim.key)
            return (
                _again(kept, claim) if kept else _keep(method(view, request, *args, **kwargs), claim, by=view.person, once=once)
            )

    return answered


def _claim(view: ApiView, key: str) -> Claim:
    """Keys of one script are not in the way of another's: each token has its own. Raises ValidationError, ParseError."""
    if not 1 <= len(key) <= MOST_LENGTH or not all(" " <= char <= "~" for char in key):
        raise exceptions.ValidationError({HEADER: f"An idempotency key has 1 to {MOST_LENGTH} printable ASCII characters."})
    request, token = view.request, view.request.auth
    by = f"{view.person.pk}.{token.pk if isinstance(token, AccessToken) else 'session'}"
    asked = f"{request.method} {request.get_full_path()} {_canonical(request.data)}"
    return Claim(crypto.digest(f"api request {by} {key}"), crypto.digest(asked))


def _canonical(sent: Any) -> str:
    """The same for the same values: clients write a body anew when they send it again."""
    try:
        return json.dumps(sent, sort_keys=True)
    except RecursionError:
        raise TooDeep from None


def _hold(claim: Claim) -> None:
    """Until the transaction ends. No thread waits for the other's end. Raises RequestInProgress."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [int.from_bytes(claim.key[:8], signed=True)])
        if cursor.fetchone() != (True,):
            raise RequestInProgress


def _again(kept: AnsweredRequest, claim: Claim) -> Response:
    if bytes(kept.request_digest) != claim.request:
        raise IdempotencyConflict
    return Response(json.loads(kept.body), status=kept.status, headers={REPLAYED: "true"})


def _keep(response: Response, claim: Claim, *, by: User, once: str | None) -> Response:
    """After the change: its locks come first, and whoever freezes a person locks the trail before the person."""
    shown = {**response.data, once: None} if once else response.data
    keep_answer(claim.key, request=claim.request, status=response.status_code, body=JSONRenderer().render(shown).decode(), by=by)
    return response
