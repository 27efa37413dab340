"""A gateway as one writes it at first: look at what was spent, forward the call, write down its cost afterwards.

It stands in the place of the real one where the judge has to show that it can find something. It speaks as much of the same
HTTP as the drive needs, and its rows go to the same table a moment after the answer, in batches.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
from datetime import UTC, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import aiohttp
import psycopg
import uvicorn
from aiohttp import ClientTimeout
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from gateway_project.lib.ids import new_call_id
from gateway_project.lib.money import cost_of, exact_usd

FLUSH_SECONDS = 0.5
KEY_SQL = """
SELECT k.id AS api_key_id, k.organization_id, k.member_id, k.application_id, o.name, o.time_zone, k.disabled_at, k.revoked_at,
       array(SELECT g.id FROM orgs_group g WHERE g.tree_id = h.tree_id AND g.lft <= h.lft AND g.rght >= h.rght ORDER BY g.level)
           AS path
FROM orgs_apikey k JOIN orgs_group h ON h.id = k.group_id JOIN orgs_organization o ON o.id = k.organization_id
WHERE k.public_id = %s
"""
LIMITS_SQL = """
SELECT l.value, l."window", b.group_id, b.member_id, b.api_key_id, b.application_id, p.name
FROM guardrails_binding b JOIN guardrails_policy p ON p.id = b.policy_id JOIN guardrails_limit l ON l.policy_id = p.id
WHERE l.kind = 'budget' AND (b.group_id = ANY(%(path)s) OR b.member_id = %(member_id)s OR b.api_key_id = %(api_key_id)s
                             OR b.application_id = %(application_id)s)
"""
SPENT_SQL = """
SELECT coalesce(sum(charged_nano_usd), 0)::bigint AS spent FROM billing_usagerecord
WHERE organization_id = %(organization_id)s AND recorded_at >= %(since)s
  AND (%(group_id)s::bigint IS NULL OR %(group_id)s IN (group0_id, group1_id, group2_id, group3_id, group4_id))
  AND (%(member_id)s::bigint IS NULL OR member_id = %(member_id)s)
  AND (%(api_key_id)s::bigint IS NULL OR api_key_id = %(api_key_id)s)
  AND (%(application_id)s::bigint IS NULL OR application_id = %(application_id)s)
"""
# Columns that it does not know take the defaults that the table has for them.
INSERT_SQL = "INSERT INTO billing_usagerecord ({0}) SELECT {0} FROM json_populate_record(NULL::billing_usagerecord, %s::json)"


class Naive:
    def __init__(self) -> None:
        self.upstream = os.environ["NAIVE_UPSTREAM"]
        self.rates: dict[str, list[int]] = json.loads(os.environ["NAIVE_RATES"])
        self.pool: AsyncConnectionPool[Any] | None = None
        self.session: aiohttp.ClientSession | None = None
        self.unwritten: list[dict[str, Any]] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await self._live(receive, send)
        if scope["path"] == "/livez":
            return await _reply(send, 200, {})
        if scope["path"] == "/v1/key":
            return await _reply(send, 200, {"limits": []})
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        try:
            await self._call(scope, json.loads(body), send)
        except psycopg.Error:
            await _reply(send, 503, {"error": {"code": "guardrails_unavailable"}})

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        self.pool = AsyncConnectionPool(os.environ["DATABASE_URL"], max_size=8, open=False, kwargs={"row_factory": dict_row})
        await self.pool.open()
        self.session = aiohttp.ClientSession(timeout=ClientTimeout(total=5))
        writing = asyncio.create_task(self._write())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        writing.cancel()

    async def _call(self, scope: dict[str, Any], asked: dict[str, Any], send: Any) -> None:
        bearer = dict(scope["headers"])[b"authorization"].decode()
        key = (await self._rows(KEY_SQL, (bearer.split("_")[2],)))[0]
        if key["disabled_at"] or key["revoked_at"]:
            return await _reply(send, 401, {"error": {"code": "key_disabled"}})
        for limit in await self._rows(LIMITS_SQL, key):
            spent = await self._spent(limit, key)
            if spent >= limit["value"]:
                node = limit["name"].rpartition(" ")[0]
                told = {"node": node, "window": limit["window"], "limit": exact_usd(limit["value"]), "spent": exact_usd(spent)}
                return await _reply(send, 403, {"error": {"code": "budget_exceeded", "gatehouse": told}})
        await self._forward(key, asked, send)

    async def _spent(self, limit: dict[str, Any], key: dict[str, Any]) -> int:
        today = datetime.now(ZoneInfo(key["time_zone"])).replace(hour=0, minute=0, second=0, microsecond=0)
        since = {"day": today, "month": today.replace(day=1), "total": datetime(2000, 1, 1, tzinfo=UTC)}[limit["window"]]
        found = await self._rows(SPENT_SQL, {**limit, "organization_id": key["organization_id"], "since": since})
        return int(found[0]["spent"])

    async def _forward(self, key: dict[str, Any], asked: dict[str, Any], send: Any) -> None:
        call_id, received = new_call_id(), b""
        assert self.session is not None
        if asked.get("stream"):
            asked["stream_options"] = {"include_usage": True}
        try:
            async with self.session.post(f"{self.upstream}/chat/completions", json=asked) as answer:
                await _start(send, answer.status, answer.content_type, call_id)
                async for chunk in answer.content.iter_any():
                    received += chunk
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None if received else await _reply(send, 502, {"error": {"code": "provider_error"}})
        if answer.status == 200:
            self.unwritten.append(self._row(call_id, key, asked, received))
        return None

    def _row(self, call_id: UUID, key: dict[str, Any], asked: dict[str, Any], received: bytes) -> dict[str, Any]:
        usage = _usage(received)
        price_in, price_out = self.rates[asked["model"]]
        charged = cost_of(usage["prompt_tokens"], price_in) + cost_of(usage["completion_tokens"], price_out)
        columns = ("organization_id", "api_key_id", "member_id", "application_id")
        return {
            **dict.fromkeys(ZEROES, 0),
            **dict.fromkeys(TEXTS, ""),
            **{name: {} for name in OBJECTS},
            **{name: key[name] for name in columns},
            **{f"group{level}_id": group for level, group in enumerate(key["path"])},
            "call_id": str(call_id),
            "admitted_at": datetime.now(UTC).isoformat(),
            "protocol": "chat_completions",
            "requested_model": asked["model"],
            "status": "ok",
            "http_status": 200,
            "streamed": bool(asked.get("stream")),
            "usage_estimated": False,
            "call_count": 1,
            "charged_nano_usd": charged,
            "reserved_nano_usd": charged,
        }

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            rows, self.unwritten = self.unwritten, []
            for row in rows:
                row |= {"recorded_at": datetime.now(UTC).isoformat(), "transaction_id": 1}
                await self._rows(INSERT_SQL.format(", ".join(row)), (json.dumps(row),))

    async def _rows(self, statement: str, parameters: Any) -> list[dict[str, Any]]:
        assert self.pool is not None
        async with self.pool.connection() as connection:
            cursor = await connection.execute(statement.encode(), parameters)
            return await cursor.fetchall() if cursor.description else []


ZEROES = (
    "input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens", "reasoning_tokens",
    "list_nano_usd", "absorbed_nano_usd", "attempt_count",
)  # fmt: skip
TEXTS = ("feature", "environment", "served_model", "provider", "route_reason", "error_code", "finish_reason")
OBJECTS = ("unit_prices", "cost_parts", "decision")


def _usage(received: bytes) -> dict[str, int]:
    for line in reversed(received.replace(b"data: ", b"").splitlines()):
        if b'"usage"' in line:
            usage: dict[str, int] = json.loads(line)["usage"]
            return usage
    return {"prompt_tokens": 0, "completion_tokens": 0}


async def _start(send: Any, status: int, content_type: str, call_id: UUID) -> None:
    headers = [
        (b"content-type", content_type.encode()),
        (b"x-request-id", str(call_id).encode()),
        (b"transfer-encoding", b"chunked"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _reply(send: Any, status: int, content: dict[str, Any]) -> None:
    body = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="file descriptor of the listening socket")
    listening = socket.socket(fileno=parser.parse_args().fd)
    uvicorn.Server(uvicorn.Config(Naive(), lifespan="on", log_level="error", access_log=False)).run(sockets=[listening])


if __name__ == "__main__":
    main()
