"""Responses that are kept, so that the next call may go on from them by id: `store: true`, `previous_response_id`.

Guarantees
1. Nothing is kept for an organisation whose `content_retention_hours` is 0, and no turn longer than it says: asked when
   a turn is kept, read and swept, so a lowered number counts for what is there already.
2. History is never dropped silently: a turn of it that is gone makes the call a 400 `previous_response_not_found`.
3. What a key may go on from is its owner's: turns of the same member, else of the same application, else of the key.
4. Each turn is kept once, sealed and bound to its row; a deleted one takes with it what came after it.
5. Keeping never fails a call whose answer is sound, nor holds it up for long.
"""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import msgspec
import structlog
from django.conf import settings
from msgspec import Raw

from billing import ledger
from gateway_project.lib import crypto, database
from gateway_project.lib.database import DatabaseUnavailable
from gateway_project.lib.ending import ending
from orgs.access import Principal
from proxy import background, expiring
from proxy.call import Call
from proxy.errors import BadRequest, GuardrailsUnavailable, PreviousResponseNotFound, RequestTooLarge, ResponseNotFound
from proxy.protocols import responses

log = structlog.get_logger(__name__)

KEEP_SECONDS = 2.0
# Turns of one history; each may hold many calls of tools.
MOST_TURNS = 1000
AWAY = "PostgreSQL cannot be reached, and kept responses stand there."

_ALIVE = "kept.expires_at > now() AND kept.kept_at + make_interval(hours => o.content_retention_hours) > now()"
KEEP_SQL = """
INSERT INTO proxy_keptresponse (call_id, organization_id, owner, response_id, previous_id, sealed, kept_at, expires_at)
SELECT %(call_id)s, o.id, %(owner)s, %(response_id)s, %(previous_id)s, %(sealed)s, now(),
       now() + make_interval(hours => o.content_retention_hours)
FROM orgs_organization o WHERE o.id = %(organization_id)s AND o.content_retention_hours > 0
ON CONFLICT (organization_id, owner, response_id) DO UPDATE
SET call_id = excluded.call_id, previous_id = excluded.previous_id, sealed = excluded.sealed,
    kept_at = excluded.kept_at, expires_at = excluded.expires_at
RETURNING call_id
"""  # a provider that gives an id twice: the later response has it
READ_SQL = f"""
WITH RECURSIVE turn AS (
    SELECT kept.call_id, kept.previous_id, kept.sealed, 1 AS number
    FROM proxy_keptresponse kept JOIN orgs_organization o ON o.id = kept.organization_id
    WHERE kept.organization_id = %(organization_id)s AND kept.response_id = %(response_id)s AND kept.owner = %(owner)s
      AND {_ALIVE}
    UNION ALL
    SELECT kept.call_id, kept.previous_id, kept.sealed, turn.number + 1
    FROM turn JOIN proxy_keptresponse kept ON kept.call_id = turn.previous_id
    JOIN orgs_organization o ON o.id = kept.organization_id
    WHERE {_ALIVE} AND turn.number < %(most)s
)
SELECT call_id, previous_id, sealed FROM turn ORDER BY number DESC
"""  # noqa: S608
DELETE_SQL = """
DELETE FROM proxy_keptresponse
WHERE organization_id = %(organization_id)s AND response_id = %(response_id)s AND owner = %(owner)s RETURNING call_id
"""
# By index, both: what has come to its end, and what is older than its organisation allows by now.
FORGET_SQL = """
WITH over AS (
    (SELECT call_id FROM proxy_keptresponse WHERE expires_at <= now() LIMIT %(batch)s)
    UNION
    (SELECT kept.call_id FROM orgs_organization o CROSS JOIN LATERAL (
        SELECT call_id FROM proxy_keptresponse
        WHERE organization_id = o.id AND kept_at <= now() - make_interval(hours => o.content_retention_hours)
        ORDER BY kept_at LIMIT %(batch)s
    ) kept LIMIT %(batch)s)
)
DELETE FROM proxy_keptresponse WHERE call_id IN (SELECT call_id FROM over)
"""


class Turn(msgspec.Struct, frozen=True):
    """What a call said, without what came before it, and the response as its caller got it."""

    items: list[Raw]
    response: Raw


class _Response(msgspec.Struct):
    id: str
    status: str = ""
    output: list[Raw] = []


_read_turn = msgspec.json.Decoder(Turn).decode
_read_response = msgspec.json.Decoder(_Response).decode


def check(call: Call) -> None:
    """Raises BadRequest where a response shall be kept and may not be."""
    if call.asked.store and not call.principal.content_retention_hours:
        raise BadRequest(
            f"{call.principal.organization_name} keeps no contents of calls, so `store: true` is not possible. A Super Admin can "
            "allow it in the organisation's settings.",
            param="store",
        )


async def go_on(call: Call) -> None:
    """Puts the history that a call goes on from before what it says.

    Raises PreviousResponseNotFound, RequestTooLarge, GuardrailsUnavailable.
    """
    previous = call.asked.previous
    if previous is None:
        return
    rows = await _rows(READ_SQL, {**_whose(call.principal, previous), "most": MOST_TURNS})
    if not rows or rows[0]["previous_id"] is not None:
        raise PreviousResponseNotFound(
            f"The response {previous[:100]!r}, or one that it went on from, is not kept here, or not any longer."
            + _why(call.principal),
            param="previous_response_id",
        )
    call.continues = rows[-1]["call_id"]
    call.said = responses.input_items(call.asked.fields["input"])
    turns = [_opened(row) for row in rows]
    if sum(len(bytes(turn.response)) + sum(len(bytes(item)) for item in turn.items) for turn in turns) > settings.MAX_BODY_BYTES:
        raise RequestTooLarge("The history that this call goes on from has become too large.")
    earlier = [item for turn in turns for item in (*turn.items, *_read_response(turn.response).output)]
    call.request = responses.continued(call.asked, [item for item in map(responses.replayable, earlier) if item is not None])


def _why(principal: Principal) -> str:
    if principal.content_retention_hours:
        return " Only those that were asked for with `store: true` are."
    return (
        f" {principal.organization_name} keeps no contents of calls: send the whole conversation, or have a Super Admin allow it "
        "in the organisation's settings."
    )


async def keep_streamed(call: Call, end: bytes) -> None:
    """Keeps the response that the last events of a stream hold, if its caller asked for that."""
    response = responses.response_in(end) if call.asked.store else None
    if response is not None:
        await keep(call, response)


async def keep(call: Call, response: bytes) -> None:
    """Keeps a whole response, if its caller asked for that; not while PostgreSQL is away, which nobody waits for."""
    if not call.asked.store or ledger.current().away_since is not None:
        return
    try:
        read = _read_response(response)
        said = call.said if call.continues is not None else responses.input_items(call.asked.fields["input"])
        turn = msgspec.json.encode(Turn(said, Raw(response)))
        facts = {
            **_whose(call.principal, read.id),
            "call_id": call.id,
            "previous_id": call.continues,
            "sealed": crypto.seal(turn, bound_to=_row(call.id)),
        }
        await background.waited(database.rows(KEEP_SQL, facts), of="keep a response", seconds=KEEP_SECONDS)
    except asyncio.CancelledError:
        if not ending.is_cut:
            raise
        _go_on()
    except Exception as error:  # whatever it is: the answer itself is sound
        log.warning("response.not_kept", call_id=str(call.id), error=type(error).__name__)


def _go_on() -> None:
    """This process ends, and the answer is recorded and paid for by now: it is given out first."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


async def read(principal: Principal, response_id: str) -> bytes:
    """The response as it was answered. Raises ResponseNotFound, GuardrailsUnavailable."""
    rows = await _rows(READ_SQL, {**_whose(principal, response_id), "most": 1})
    if not rows:
        raise _not_found(response_id)
    try:
        return bytes(_opened(rows[0]).response)
    except PreviousResponseNotFound as error:
        raise _not_found(response_id) from error


async def delete(principal: Principal, response_id: str) -> None:
    """Raises ResponseNotFound, GuardrailsUnavailable."""
    if not await _rows(DELETE_SQL, _whose(principal, response_id)):
        raise _not_found(response_id)


def forget_expired(*, batch: int = expiring.BATCH) -> int:
    """Deletes what may not be kept any longer → how many responses."""
    return expiring.forget(FORGET_SQL, batch=batch)


def owner_of(principal: Principal) -> str:
    """Whose turns a key may go on from."""
    if principal.member_id is not None:
        return f"m{principal.member_id}"
    return f"k{principal.key_id}" if principal.application_id is None else f"a{principal.application_id}"


def _whose(principal: Principal, response_id: str) -> dict[str, Any]:
    wanted = response_id[:200].replace("\x00", "")
    return {"organization_id": principal.organization_id, "owner": owner_of(principal), "response_id": wanted}


def _opened(row: dict[str, Any]) -> Turn:
    """Raises PreviousResponseNotFound where no key of the ring opens it."""
    try:
        return _read_turn(crypto.unseal(bytes(row["sealed"]), bound_to=_row(row["call_id"])))
    except crypto.CannotDecrypt as error:
        log.error("response.cannot_be_opened", call_id=str(row["call_id"]), error=str(error))
        raise PreviousResponseNotFound("This response was kept under a key that is no longer there.") from error


async def _rows(statement: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        return await database.rows(statement, parameters)
    except DatabaseUnavailable as error:
        raise GuardrailsUnavailable(AWAY) from error


def _not_found(response_id: str) -> ResponseNotFound:
    return ResponseNotFound(f"The response {response_id[:100]!r} is not kept here, or not any longer.")


def _row(call_id: UUID) -> str:
    return f"proxy.kept_response:{call_id}"
