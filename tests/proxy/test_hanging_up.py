"""Callers who leave, at every moment: who pays, and that the provider is stopped and the hold gone."""

import base64
import socket
import struct
import time
from contextlib import closing

import psycopg
import pytest

from gateway_project.lib import database
from tests.gateways import Gateway
from tests.house import House, eventually, raw
from tests.upstream import DONE, Script, Upstream, answer, frame, frames, stream, usage_of

BODY = b'{"model":"scripted","messages":[{"role":"user","content":"Tell me about the gate."}]%s}'
COST = 10 * 1_000 + 2 * 4_000
WHOLE, STREAM = BODY % b"", BODY % b',"stream":true'


def begin(gateway: Gateway, house: House, body: bytes, *, headers: dict[str, str] | None = None) -> socket.socket:
    """Sends a call, and reads nothing."""
    connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {house.key_text}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    return connection


def leave_after(
    gateway: Gateway,
    house: House,
    body: bytes,
    *,
    marker: bytes | Upstream,
    linger: float = 0,
    headers: dict[str, str] | None = None,
) -> bytes:
    """Sends a call, reads until `marker` was seen, or waits until the provider was asked; `linger` seconds later it is gone."""
    asked = len(marker.received) if isinstance(marker, Upstream) else 0
    with closing(begin(gateway, house, body, headers=headers)) as connection:
        received = b""
        if isinstance(marker, Upstream):
            assert eventually(lambda: len(marker.received) > asked, seconds=10)
        while isinstance(marker, bytes) and marker not in received:
            received += connection.recv(65536)
        time.sleep(linger)
        return received


def test_before_a_whole_answer_nothing_is_charged_and_the_provider_is_cancelled(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    upstream.on("scripted", answer(before=20))

    leave_after(gateway, house, WHOLE, marker=upstream)

    assert upstream.received[-1].gone.wait(5)
    assert house.nothing_held()
    (row,) = eventually(house.rows)
    assert (row.status, row.charged_nano_usd) == ("cancelled", 0)


def test_in_the_middle_of_what_the_provider_says_at_once_nothing_is_charged(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    """It has begun its answer, and can still be cancelled."""
    (whole,) = answer().parts
    assert isinstance(whole, bytes)
    upstream.on("scripted", Script(parts=(whole[:40], 20.0, whole[40:])))

    leave_after(gateway, house, WHOLE, marker=upstream, linger=0.2)

    assert upstream.received[-1].gone.wait(5)
    assert house.nothing_held()
    (row,) = eventually(house.rows)
    assert (row.status, row.charged_nano_usd, row.absorbed_nano_usd) == ("cancelled", 0, 0)


WAITS_FOR_A_LOCK = """
SELECT count(*) FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND datname = current_database() AND query LIKE '%INSERT INTO billing_usagerecord%'
"""


def test_after_the_provider_has_given_its_whole_answer_it_is_paid_for_though_nobody_takes_it(
    gateway: Gateway, house: House, upstream: Upstream
) -> None:
    """The provider wants its money. The caller leaves while the row is written: a lock of another session keeps it waiting."""
    raw(gateway.url, house.key_text, WHOLE)  # everything that a call needs is loaded
    (first,) = eventually(house.rows)
    upstream.on("scripted", answer("Hello", usage=(10, 2)))
    with psycopg.connect(database.conninfo()) as locking, psycopg.connect(database.conninfo(), autocommit=True) as watching:
        locking.execute("LOCK TABLE billing_usagerecord IN SHARE MODE")

        def written() -> bool:
            return watching.execute(WAITS_FOR_A_LOCK).fetchone() == (1,)

        with closing(begin(gateway, house, WHOLE)) as connection:
            assert eventually(written)
            assert upstream.received[-1].answered.is_set()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # nobody is there any more
        time.sleep(0.3)  # for the gateway to hear of it
        assert set(house.held()) > {"org", "pool"}
        locking.rollback()

    assert house.nothing_held()
    (row,) = [row for row in eventually(lambda: house.rows()[1:] and house.rows()) if row.call_id != first.call_id]
    assert (row.status, row.finish_reason, row.usage_estimated) == ("ok", "stop", False)
    assert (row.charged_nano_usd, row.absorbed_nano_usd) == (COST, 0)
    assert house.counter("org") == {"spent": first.charged_nano_usd + COST, "held": 0}


def test_before_the_first_byte_of_a_stream_nothing_is_charged(gateway: Gateway, house: House, upstream: Upstream) -> None:
    upstream.on("scripted", stream(*frames("x"), before=20))

    leave_after(gateway, house, STREAM, marker=upstream)

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


@pytest.mark.parametrize(
    ("members", "reserved"),
    [(b',"tools":[{"type":"builtin_function"}]', 25_000), (b',"documents":["%s"]' % (b"word " * 900), 900)],
)
def test_what_was_held_for_but_perhaps_never_read_is_not_charged(
    gateway: Gateway, house: House, upstream: Upstream, members: bytes, reserved: int
) -> None:
    upstream.on("scripted", waiting_stream(frame({"content": "word"})))

    leave_after(gateway, house, BODY % (members + b',"stream":true,"max_tokens":9'), marker=b"word")

    assert upstream.received[-1].gone.wait(5)
    assert house.nothing_held()
    (row,) = eventually(house.rows)
    assert row.reserved_nano_usd > reserved * 1_000
    assert 0 < row.input_tokens < 60
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


def test_what_was_spoken_in_a_chat_is_charged_by_its_length(gateway: Gateway, house: House, upstream: Upstream) -> None:
    """Three seconds of 16 bits at 24 kHz: sixty tokens, and as text what they say."""
    sound = base64.b64encode(bytes(24_000 * 2)).decode()
    upstream.on("scripted", waiting_stream(*(frame({"audio": {"data": sound, "transcript": f"word{n:04}"}}) for n in range(3))))
    members = b',"stream":true,"modalities":["text","audio"],"audio":{"voice":"alloy","format":"pcm16"}'

    leave_after(gateway, house, BODY % members, marker=b"word0002")

    assert house.nothing_held()
    (row,) = eventually(house.rows)
    assert (row.status, row.usage_estimated, row.output_tokens) == ("cancelled", True, 60 + 6)
    assert row.charged_nano_usd == row.input_tokens * 1_000 + row.output_tokens * 4_000
