"""Callers who leave, at every moment: who pays, and that the provider is stopped and the hold gone."""

import socket
import time
from contextlib import closing

import pytest

from tests.gateways import Gateway
from tests.house import House, eventually
from tests.upstream import DONE, Script, Upstream, answer, frame, frames, stream, usage_of

BODY = b'{"model":"scripted","messages":[{"role":"user","content":"Tell me about the gate."}]%s}'
WHOLE, STREAM = BODY % b"", BODY % b',"stream":true'


def leave_after(
    gateway: Gateway,
    house: House,
    body: bytes,
    *,
    marker: bytes | None,
    linger: float = 0,
    headers: dict[str, str] | None = None,
) -> bytes:
    """Sends a call, reads until `marker` was seen (None: waits a moment), waits `linger` seconds, closes the connection."""
    with closing(socket.create_connection(("127.0.0.1", gateway.port), timeout=10)) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.key_text}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        received = b""
        if marker is None:
            time.sleep(0.3)
        while marker is not None and marker not in received:
            received += connection.recv(65536)
        time.sleep(linger)
        return received


def test_before_a_whole_answer_nothing_is_charged_and_the_provider_is_cancelled(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    upstream.on("scripted", answer(before=20))

    leave_after(gateway, house, WHOLE, marker=None)

    assert upstream.received[-1].gone.wait(5)
    assert house.nothing_held()
    (row,) = eventually(house.rows)
    assert (row.status, row.charged_nano_usd) == ("cancelled", 0)


def test_before_the_first_byte_of_a_stream_nothing_is_charged(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("scripted", stream(*frames("x"), before=20))

    leave_after(gateway, house, STREAM, marker=None)

    assert upstream.received[-1].gone.wait(5)
    assert house.nothing_held()
    (row,) = eventually(house.rows)
    assert (row.status, row.charged_nano_usd) == ("cancelled", 0)


def waiting_stream(*parts: bytes) -> Script:
    return stream(*parts, 20.0, *frames("never"))


@pytest.mark.parametrize("words", [1, 3, 12])
def test_in_the_middle_of_a_stream_input_and_what_was_delivered_are_charged(
    gateway: Gateway, house: House, upstream: Upstream, words: int
) -> None:
    text = [f"word{number:04}" for number in range(words)]
    upstream.on("scripted", waiting_stream(*(frame({"content": word}) for word in text)))

    leave_after(gateway, house, STREAM, marker=text[-1].encode())

    assert upstream.received[-1].gone.wait(5)
    assert house.nothing_held()
    (row,) = eventually(house.rows)
    assert (row.status, row.usage_estimated) == ("cancelled", True)
    assert row.output_tokens == words * 2  # eight characters a word, four a token
    assert row.input_tokens > 0
    assert row.charged_nano_usd == row.input_tokens * 1_000 + row.output_tokens * 4_000


def test_after_the_last_delta_the_figures_of_the_provider_are_charged(gateway: Gateway, house: House, upstream: Upstream) -> None:
    """Finish reason and usage have arrived but are held back; the provider never ends its stream."""
    upstream.on(
        "scripted",
        stream(frame({"content": "Hello"}), frame({}, finish="stop"), frame(usage=usage_of(10, 2)), 20.0, DONE),
    )

    leave_after(gateway, house, STREAM, marker=b"Hello", linger=0.5)

    assert house.nothing_held()
    (row,) = eventually(house.rows)
    assert (row.status, row.charged_nano_usd) == ("cancelled", 10 * 1_000 + 2 * 4_000)


def test_a_hundred_who_leave_at_random_leave_no_hold_and_one_row_each(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("scripted", stream(*(part for number in range(30) for part in (frame({"content": f"w{number:02} "}), 0.005))))
    for number in range(100):
        leave_after(gateway, house, STREAM, marker=b"data:" if number % 3 else b"HTTP")

    assert house.nothing_held(seconds=10)
    rows = eventually(lambda: len(house.rows()) == 100 and house.rows(), seconds=10)
    assert len(rows) == 100
    assert house.counter("org")["spent"] == sum(row.charged_nano_usd for row in rows)
