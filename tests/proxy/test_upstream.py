"""The scripted provider by itself."""

import gc
import json
import socket

import pytest

from tests.upstream import Script, Upstream


@pytest.mark.parametrize("ending", ["end", "hang", "reset"])
def test_it_ends_whoever_has_not_read_its_answer(ending: str) -> None:
    """A connection that it forgot would be a warning, and so an error, in whichever test comes to collect it."""
    upstream = Upstream().start()
    upstream.on("long", Script(parts=(b"x" * 30_000_000,), ending=ending))
    body = json.dumps({"model": "long"}).encode()
    with socket.create_connection(("127.0.0.1", upstream.port)) as caller:
        caller.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        assert caller.recv(9) == b"HTTP/1.1 "
        upstream.stop()
        del upstream
        gc.collect()
