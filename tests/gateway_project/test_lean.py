import asyncio
import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from django.http import HttpResponse, StreamingHttpResponse

from gateway_project.lib import lean
from gateway_project.lib.lean import LeanHandler
from proxy.answers import error_response
from tests.gateway_project import lean_urls

LIMIT = 1_000_000


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A real server with the lean handler over tests/gateway_project/lean_urls.py."""
    handler = LeanHandler("tests.gateway_project.lean_urls", error_response=error_response, max_body_bytes=LIMIT)
    config = uvicorn.Config(handler, port=0, lifespan="off", log_config=None, log_level="critical", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def client(port: int) -> Iterator[httpx.Client]:
    lean_urls.settled.clear()
    lean_urls.started.clear()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False) as client:
        yield client


def error_of(response: httpx.Response) -> Any:
    assert response.headers["content-type"] == "application/json"
    assert (
        response.headers["x-request-id"] == response.headers["request-id"] == response.json()["error"]["gatehouse"]["request_id"]
    )
    return response.json()["error"]


def raw(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


def eventually_settled(name: str) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if name in lean_urls.settled:
            return True
        time.sleep(0.01)
    return False


def test_a_view_gets_the_body_and_the_query(client: httpx.Client) -> None:
    response = client.post("/v1/echo?q=blue", content=b"\x00\xff" * 1000)
    assert (response.status_code, response.content) == (200, b"\x00\xff" * 1000)
    assert response.headers["x-query"] == "blue"
    assert response.headers["content-length"] == "2000"


def test_paths_that_differ_in_a_parameter_are_told_apart_call_after_call(client: httpx.Client) -> None:
    names = ["one", "two", "one", "echo"]
    assert [client.get(f"/v1/rest/{name}").json() for name in names] == [{"name": name} for name in names]
    assert [client.post("/v1/echo", content=name).text for name in names] == names
    assert [client.get(f"/v1/ech{end}").status_code for end in ("o", "", "o", "o/")] == [200, 404, 200, 404]


def test_a_body_in_pieces_is_joined(client: httpx.Client) -> None:
    assert client.post("/v1/echo", content=iter([b"a" * 70_000, b"b" * 70_000])).content == b"a" * 70_000 + b"b" * 70_000


def test_every_view_runs_on_the_servers_own_thread(client: httpx.Client) -> None:
    for _ in range(3):
        client.get("/v1/echo")
    assert len(lean_urls.threads) == 1


def test_the_console_limit_for_bodies_does_not_apply(client: httpx.Client, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    assert client.post("/v1/echo", content=b"x" * 1000).status_code == 200


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("size", [LIMIT + 1, 40_000_000])
def test_a_body_above_the_limit_is_answered_413(client: httpx.Client, size: int, pieces: bool) -> None:
    block = b"x" * 65_536
    content: Any = (block for _ in range(size // len(block) + 1)) if pieces else b"x" * size
    response = client.post("/v1/echo", content=content)
    assert response.status_code == 413
    assert error_of(response)["code"] == "request_too_large"
    assert response.headers["connection"] == "close"


def test_a_body_of_exactly_the_limit_passes(client: httpx.Client) -> None:
    assert len(client.post("/v1/echo", content=b"x" * LIMIT).content) == LIMIT


def test_a_client_that_asks_first_is_refused_before_it_sends(port: int) -> None:
    head = f"POST /v1/echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {LIMIT + 1}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(head)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", ["/v1/nowhere", "/v1/echo/", "/v1", "/v1/%ff", "/v1/../x", "/v1/rest/"])
def test_an_unknown_path_is_404_in_the_protocols_shape(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert error_of(response)["code"] == "unknown_url"


def test_a_view_that_finds_nothing_is_404_too(client: httpx.Client) -> None:
    assert error_of(client.get("/v1/missing"))["code"] == "unknown_url"


def test_a_failing_view_is_500_without_its_text_and_is_logged(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        response = client.get("/v1/fails")
    assert response.status_code == 500
    assert error_of(response)["code"] == "internal_error"
    assert "secret" not in response.text
    assert "RuntimeError at " in caplog.text
    assert "fails:" in caplog.text
    assert "a secret detail" not in caplog.text
    assert response.headers["x-request-id"] in caplog.text


def test_a_query_that_is_not_text_is_a_bad_request(port: int) -> None:
    answer = raw(port, b"GET /v1/echo?q=\xff HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert b" 400 " in answer.splitlines()[0]
    assert b"<html" not in answer.lower()


def test_an_error_answer_that_cannot_be_made_is_still_json() -> None:
    def broken(path: str, exception: Exception) -> Any:
        raise RuntimeError("broken")

    handler = LeanHandler("tests.gateway_project.lean_urls", error_response=broken, max_body_bytes=LIMIT)
    response = handler._error({"path": "/v1/x"}, RuntimeError())
    assert response.status_code == 500
    assert json.loads(response.content)["error"]["message"]


# --- streams and clients that leave ------------------------------------------------------------
def test_a_stream_is_sent_part_by_part_and_closed(client: httpx.Client) -> None:
    with client.stream("GET", "/v1/stream") as response:
        assert response.headers["content-type"] == "text/event-stream"
        assert b"".join(response.iter_bytes()) == b"one two"
    assert eventually_settled("short stream")


def test_a_stream_that_fails_in_the_middle_is_cut_not_ended(client: httpx.Client) -> None:
    with client.stream("GET", "/v1/breaking") as response:
        assert response.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            response.read()


def test_a_view_is_cancelled_and_settles_when_its_client_leaves(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(httpx.ReadTimeout):
        client.post("/v1/waits", content=b"{}", timeout=0.3)
    assert lean_urls.started.is_set()
    assert eventually_settled("view")
    assert caplog.records == []


def test_a_stream_is_closed_and_settles_when_its_client_leaves(client: httpx.Client) -> None:
    with client.stream("GET", "/v1/endless") as response:
        next(response.iter_raw())
    assert eventually_settled("stream")


def test_a_client_that_never_reads_does_not_keep_the_stream_alive(port: int, client: httpx.Client) -> None:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(b"GET /v1/endless HTTP/1.1\r\nhost: x\r\n\r\n")
    assert lean_urls.started.wait(5)
    connection.close()
    assert eventually_settled("stream")


def test_a_client_that_leaves_while_sending_leaves_nothing_behind(port: int, client: httpx.Client) -> None:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(b"POST /v1/waits HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf")
    connection.close()
    assert client.get("/v1/echo").status_code == 200
    assert not lean_urls.started.is_set()


def test_a_connection_serves_many_calls(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    for number in range(20):
        connection.request("POST", "/v1/echo", body=str(number))
        assert connection.getresponse().read() == str(number).encode()
    connection.close()


# --- methods and the REST framework's views ----------------------------------------------------
def test_a_rest_view_answers_json_and_reads_it(client: httpx.Client) -> None:
    response = client.get("/v1/rest/blue", headers={"accept": "text/html"})
    assert (response.status_code, response.json()) == (200, {"name": "blue"})
    assert response.headers["content-type"] == "application/json"
    assert client.post("/v1/rest/blue", json={"a": [1]}).json() == {"a": [1]}


def test_no_csrf_token_is_asked_for(client: httpx.Client) -> None:
    assert client.post("/v1/rest/blue", json={}, headers={"origin": "https://elsewhere.example"}).status_code == 201


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"])
def test_a_wrong_method_is_405_and_names_the_right_ones(client: httpx.Client, method: str) -> None:
    response = client.request(method, "/v1/rest/blue")
    assert response.status_code == 405
    assert error_of(response)["code"] == "method_not_allowed"
    assert response.headers["allow"] == "GET, POST, HEAD, OPTIONS"


def test_options_names_the_methods(client: httpx.Client) -> None:
    response = client.options("/v1/rest/blue")
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["allow"] == "GET, POST, HEAD, OPTIONS"


def test_head_has_the_headers_of_get_and_no_body(client: httpx.Client) -> None:
    head, get = client.head("/v1/rest/blue"), client.get("/v1/rest/blue")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]


def test_authentication_runs_first_and_its_refusal_is_answered_in_shape(client: httpx.Client) -> None:
    response = client.get("/v1/rest/blue", headers={"x-refuse": "1"})
    assert response.status_code == 500  # an exception nobody foresaw; the proxy's views raise ProxyError
    assert error_of(response)["code"] == "internal_error"


def test_a_view_may_answer_its_own_exceptions(client: httpx.Client) -> None:
    response = client.get("/v1/forgiving")
    assert (response.status_code, response.json()) == (418, {"handled": "KeyError"})


def test_a_client_that_takes_nothing_is_treated_as_one_that_left() -> None:
    """It keeps the connection open and never reads: what its stream holds must not stay held."""
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed.set()

    async def stuck(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def stream() -> None:
        async with asyncio.timeout(5):
            await lean._send_stream(StreamingHttpResponse(endless()), stuck, seconds=0.05)

    asyncio.run(stream())
    assert closed.is_set()


HEADERS = {
    "content-type": "application/json",
    "x-request-id": "7",
    "x-gatehouse-budget": "group R&D; day",
    "cache-control": "no-cache",
}


def test_an_answer_has_the_headers_that_it_was_given_and_no_others() -> None:
    response = lean.answered(b"{}", HEADERS)
    assert dict(response.items()) == HEADERS
    assert (response["X-Request-Id"], response["CONTENT-TYPE"]) == ("7", "application/json")
    assert isinstance(response, HttpResponse)
    assert response.content == b"{}"


def test_a_streams_headers_are_as_true() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"a"

    response = lean.answered(parts(), HEADERS)
    assert isinstance(response, StreamingHttpResponse)
    assert (response.streaming, response["x-gatehouse-budget"], response["content-type"]) == (
        True,
        "group R&D; day",
        "application/json",
    )


@pytest.mark.parametrize("given", [HttpResponse(b"x", headers={"X-One": "1"}), lean.answered(b"x", HEADERS)])
def test_what_is_sent_has_each_header_once_in_lower_case(given: HttpResponse) -> None:
    sent = lean._start(given)["headers"]
    assert sorted(name for name, _ in sent) == sorted(name.lower().encode() for name in given.headers)
    assert all(given[name.decode()] == value.decode("latin-1") for name, value in sent)


# --- a server that stops -----------------------------------------------------------------------
ASKS = {
    "a view that waits": b"POST /v1/waits HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
    "a body that does not end": b"POST /v1/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",
    "a stream": b"GET /v1/endless HTTP/1.1\r\nhost: x\r\n\r\n",
}


def test_a_server_that_stops_has_its_clients_told_or_cut_and_says_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    """Any server: the gateway's own cuts calls before this one would cancel them."""
    handler = LeanHandler("tests.gateway_project.lean_urls", error_response=error_response, max_body_bytes=LIMIT)
    config = uvicorn.Config(handler, port=0, lifespan="off", log_config=None, ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    lean_urls.settled.clear()

    async def run() -> dict[str, bytes]:
        running = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        address = server.servers[0].sockets[0].getsockname()[:2]
        open_connections = {name: await asyncio.open_connection(*address) for name in ASKS}
        for name, (_, writer) in open_connections.items():
            writer.write(ASKS[name])
        stream = open_connections["a stream"][0]
        begun = await stream.readuntil(b"\r\n\r\n")
        server.should_exit = True
        told = {name: await reader.read() for name, (reader, _) in open_connections.items()}
        for _, writer in open_connections.values():
            writer.close()
        await running
        return told | {"a stream": begun + told["a stream"]}

    told = asyncio.run(run())

    for name in ("a view that waits", "a body that does not end"):
        head, _, body = told[name].partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert json.loads(body)["error"]["code"] == "gateway_stopping"
    assert told["a stream"].startswith(b"HTTP/1.1 200 ")
    assert not told["a stream"].endswith(b"0\r\n\r\n")  # nobody takes the beginning for the whole
    assert sorted(lean_urls.settled) == ["stream", "view"]
    assert not any(record.exc_info for record in caplog.records)
