"""Two applications, one behind the other's door: who gets to answer, and what each of them gets to see."""

import asyncio
from typing import Any

import pytest

from gateway_project.lib.doored import BehindConsole
from gateway_project.lib.lean import Message, Receive, Scope, Send

BODY = b"what was written"


class Application:
    """Answers with a status, and remembers what it read."""

    def __init__(self, status: int, text: bytes = b"") -> None:
        self.status, self.text = status, text
        self.read: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.read.append((await receive())["body"])
        headers = [(b"location", b"/login/")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.text})


def asked(console: Any, served: Any) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(BehindConsole(console, served)({"type": "http", "path": "/"}, receive, send))
    return sent


def test_who_is_let_in_is_served_and_hears_nothing_of_the_verdict() -> None:
    console, served = Application(204), Application(200, b"the answer")
    start, body = asked(console, served)
    assert (start["status"], body["body"]) == (200, b"the answer")


@pytest.mark.parametrize("status", [200, 302, 403, 404, 405, 500])
def test_any_other_answer_goes_out_as_it_is(status: int) -> None:
    console, served = Application(status, b"no"), Application(200)
    start, body = asked(console, served)
    assert (start["status"], start["headers"], body["body"]) == (status, [(b"location", b"/login/")], b"no")
    assert served.read == []


def test_only_the_application_behind_the_door_sees_what_was_written() -> None:
    console, served = Application(204), Application(200)
    asked(console, served)
    assert (console.read, served.read) == ([b""], [BODY])


def test_a_console_that_watches_for_the_clients_leaving_is_not_kept_waiting() -> None:
    async def console(scope: Scope, receive: Receive, send: Send) -> None:
        """As Django does: reads the body, and listens on until it has answered."""
        await receive()
        listening = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        assert not listening.done()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        listening.cancel()

    assert asked(console, Application(200))[0]["status"] == 200
