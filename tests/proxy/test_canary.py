"""What people say to a model is nobody's business: unique strings of prompts, answers and errors are kept nowhere.

Every place a byte could stay in is searched: each row of each table, each key of Valkey, each log, each file of
the state folder, where the database keeps its own files in a test run.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from gateway_project.lib import redis
from tests.gateways import Gateway
from tests.house import House, eventually, raw
from tests.upstream import DONE, Upstream, answer, frame, frames, refuse, stream, usage_of

# Every canary begins with this, so one search finds them all.
NEST = "canary" + secrets.token_hex(8)


def canary(of: str) -> str:
    return f"{NEST}-{of}"


HEADERS = {"x-made-up": canary("header"), "user-agent": canary("agent"), "x-request-id": canary("id")}
TOOL = {"type": "function", "function": {"name": "look", "description": canary("tool"), "parameters": {"type": "object"}}}
MESSAGES = [
    {"role": "system", "content": canary("system")},
    {"role": "user", "content": canary("prompt"), "name": canary("name")},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": canary("call"), "type": "function", "function": {"name": "look", "arguments": canary("arguments")}}
        ],
    },
    {"role": "tool", "tool_call_id": canary("call"), "content": canary("result")},
]


def body(model: str = "scripted", **members: Any) -> bytes:
    request = {"model": model, "messages": MESSAGES, "tools": [TOOL], "user": canary("user"), "stop": [canary("stop")]}
    return json.dumps({**request, "metadata": {"note": canary("metadata")}, **members}).encode()


def said(reason: str) -> str:
    return f"Invalid content: {canary(reason)}"


@pytest.fixture(scope="module")
def talkative(start_gateway: Callable[..., Gateway]) -> Gateway:
    """A worker that logs all it can."""
    return start_gateway("talkative", LOG_LEVEL="DEBUG")


@pytest.fixture
def calls(talkative: Gateway, house: House, upstream: Upstream) -> list[int]:
    """One call of every outcome; the statuses answered."""

    def call(content: bytes, key: str | None = house.key_text) -> int:
        return raw(talkative.url, key, content, **HEADERS).status_code

    tool_answer = {"tool_calls": [{"index": 0, "id": "x", "function": {"name": "look", "arguments": canary("made")}}]}
    upstream.then(
        answer(canary("answer"), headers={"content-type": "application/json", "x-theirs": canary("their-header")}),
        stream(frame(tool_answer), *frames(canary("streamed"), canary("more"))),
        refuse(400, said("refused"), code="invalid_value"),
        refuse(500, said("failed")),
        refuse(429, said("busy")),
        stream(frame({"content": canary("begun")}), 0.1, b"data: " + said("not json").encode() + b"\n\n"),
        stream(
            frame({"content": canary("begun")}), 0.1, b'data: {"error": {"message": "%s"}}\n\n' % said("broken").encode(), DONE
        ),
        answer(canary("plain"), headers={"content-type": "text/html"}, usage=None),
        stream(frame({"content": canary("hanging")}), frame(usage=usage_of(3, 1)), 20.0),
    )
    return [
        call(body()),
        call(body(stream=True)),
        call(body()),
        call(body()),
        call(body()),
        call(body(stream=True)),
        call(body(stream=True)),
        call(body()),
        hang_up(talkative, house),
        call(body("no-such-model")),
        call(body("unpriced")),
        call(body("dead")),
        call(body(max_tokens=canary("number"))),
        call(b'{"model": "scripted", "messages": "' + canary("malformed").encode()),
        call(body(), key=None),
        call(body(), key=f"gh_sk_abcdefabcdef_{canary('key').replace('-', '_')}"),
        refused(house, call),
    ]


def hang_up(gateway: Gateway, house: House) -> int:
    content = body(stream=True)
    with closing(socket.create_connection(("127.0.0.1", gateway.port), timeout=10)) as caller:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.key_text}\r\n"
        caller.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(content) + content)
        received = b""
        while canary("hanging").encode() not in received:
            received += caller.recv(65536)
    return int(received.split()[1])


def refused(house: House, call: Callable[[bytes], int]) -> int:
    house.limit("budget", 0)
    return call(body())


def tables_with(text: str) -> list[str]:
    """Every table of which some row holds the text in any column."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
        )
        names = [name for (name,) in cursor.fetchall()]
        found = []
        for name in names:
            cursor.execute(f'SELECT EXISTS (SELECT FROM "{name}" AS t WHERE t::text LIKE %s)', [f"%{text}%"])  # noqa: S608
            found += [name] if cursor.fetchone()[0] else []
    return found


# How each kind is read whole; one that is gone by now has nothing to read.
READ: dict[bytes, tuple[str, tuple[Any, ...]]] = {
    b"string": ("GET", ()),
    b"hash": ("HGETALL", ()),
    b"list": ("LRANGE", (0, -1)),
    b"set": ("SMEMBERS", ()),
    b"zset": ("ZRANGE", (0, -1, "WITHSCORES")),
    b"stream": ("XRANGE", ("-", "+")),
    b"none": ("TYPE", ()),
}


def keys_with(text: str) -> list[str]:
    """Every key of Valkey that holds the text in its name or value. Thousands are there: read in two exchanges."""
    client: Any = redis.client()
    keys = list(client.scan_iter(count=1000))
    with client.pipeline(transaction=False) as asked:
        for key in keys:
            asked.type(key)
        kinds = asked.execute()
        for key, kind in zip(keys, kinds, strict=True):
            command, arguments = READ[kind]
            asked.execute_command(command, key, *arguments)
        values = asked.execute()
    found = zip(keys, values, strict=True)
    return [key.decode("utf-8", "replace") for key, value in found if text.encode() in key or text in repr(value)]


def files_with(text: str) -> list[str]:
    """Every file of the state folder that holds the text."""
    paths = [path for path in Path(os.environ["GATEHOUSE_HOME"]).rglob("*") if path.is_file()]
    return [str(path) for path in paths if text.encode() in _content(path)]


def _content(path: Path) -> bytes:
    """Servers remove files of theirs at any time; what is gone holds nothing."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def test_what_was_said_is_kept_nowhere(talkative: Gateway, house: House, calls: list[int]) -> None:
    assert calls == [200, 200, 400, 502, 503, 200, 200, 502, 200, 404, 403, 502, 400, 400, 401, 401, 403]
    # All but those without a key that exists.
    assert eventually(lambda: len(house.rows()) == 15), [
        (row.status, row.requested_model, row.error_code) for row in house.rows()
    ]
    assert house.nothing_held()
    kept_and_found = {
        "tables": (tables_with("no-such-model"), tables_with(NEST)),
        "keys": (keys_with(f"{{{house.organization.pk}}}"), keys_with(NEST)),
        "files": (files_with(house.key.public_id), files_with(NEST)),
    }

    assert NEST not in talkative.logged()
    for place, (kept, found) in kept_and_found.items():
        assert kept, f"the search of {place} finds nothing at all"
        assert found == [], place


def test_where_contents_are_kept_they_can_be_read_nowhere(talkative: Gateway, house: House, upstream: Upstream) -> None:
    house.change(content_retention_hours=24)
    upstream.then(answer(canary("answer")), stream(*frames(canary("streamed"))))

    for key, content in (("whole", body()), ("stream", body(stream=True))):
        first, again = (raw(talkative.url, house.key_text, content, **{"idempotency-key": canary(key)}) for _ in range(2))
        assert first.content == again.content
        assert NEST in first.text

    assert tables_with(NEST) == []
    assert keys_with(NEST) == []
    assert files_with(NEST) == []
    assert NEST not in talkative.logged()


@pytest.mark.parametrize("status", [400, 500])
def test_the_caller_alone_gets_the_providers_words(talkative: Gateway, house: House, upstream: Upstream, status: int) -> None:
    upstream.then(refuse(status, said("reason")))

    assert canary("reason") in raw(talkative.url, house.key_text, body()).text

    assert eventually(house.rows)
    assert tables_with(NEST) == []
    assert NEST not in talkative.logged()
