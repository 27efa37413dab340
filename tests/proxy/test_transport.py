"""The connections to providers, over sockets: what is kept, for whom, how long; and that nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
from collections.abc import Callable
from functools import partial
from ipaddress import ip_network
from typing import Any

import pytest
from pytest_django import Settings

from proxy.errors import AttemptFailed
from proxy.providers import http, transport
from tests.proxy import loopback
from tests.proxy.conftest import Run
from tests.proxy.loopback import HELLO, OK, Client, failure, fetch, hello, serving, target, until


@pytest.fixture(params=loopback.LOOPS)
def run(request: pytest.FixtureRequest, only_new_garbage: None) -> Run:
    """On either loop."""
    return partial(loopback.run_on, request.param)


# What is kept


def test_one_after_another_goes_over_one_connection_and_many_at_once_over_many(run: Run) -> None:
    async def calls() -> tuple[int, int, int]:
        async def echo(client: Client) -> None:
            while True:
                _, body = await client.request()
                await client.say(OK + b"content-length: %d\r\n\r\n" % len(body), body)

        async with serving(echo) as server:
            for number in range(3):
                assert await fetch(server.url, body=b"%d" % number) == b"%d" % number
            one = server.connections
            many = [b"%d" % number * 100 for number in range(40)]
            assert await asyncio.gather(*[fetch(server.url, body=body) for body in many]) == many
            assert await asyncio.gather(*[fetch(server.url, body=body) for body in many]) == many
            return one, server.connections, len(transport.shared())

    one, all_together, still_open = run(calls())
    assert one == 1
    assert all_together == still_open == 40


@pytest.mark.parametrize(
    "told",
    [b"connection: close\r\n", b"keep-alive: timeout=1\r\n", b"Keep-Alive: max=3, timeout=0\r\n"],
    ids=["close", "1s", "0s"],
)
def test_a_connection_is_kept_no_longer_than_the_provider_says(run: Run, told: bytes) -> None:
    async def calls() -> int:
        async def tell(client: Client) -> None:
            while True:
                await client.request()
                await client.say(HELLO.replace(b"\r\n\r\n", b"\r\n" + told + b"\r\n"))

        async with serving(tell) as server:
            await fetch(server.url)
            await fetch(server.url)
            await until(lambda: server.left == 2)
            return server.connections

    assert run(calls()) == 2


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("timeout=5", 4.0), ("timeout=600, max=10", 30.0), ("max=10", 30.0), ("", 30.0), ("timeout=x", 30.0), ("timeout=-1", 30.0)],
)
def test_how_long_one_is_kept(said: str, seconds: float) -> None:
    assert transport._seconds_to_keep({"keep-alive": said}) == seconds


def test_what_nobody_wants_any_more_is_closed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of itself: no other call has to come by."""

    async def calls() -> int:
        async with serving(hello) as server:
            await asyncio.gather(*[fetch(server.url) for _ in range(5)])
            assert len(transport.shared()) == 5
            monkeypatch.setattr(transport, "KEEPALIVE_SECONDS", 0.01)
            await transport.shutdown()
            await asyncio.gather(*[fetch(server.url) for _ in range(5)])
            await until(lambda: len(transport.shared()) == 0)
            await until(lambda: server.left == 10)
            assert transport.shared()._idle == {}
            return server.connections

    assert run(calls()) == 10


def test_one_that_the_provider_closed_meanwhile_is_not_used(run: Run) -> None:
    async def calls() -> int:
        async def once(client: Client) -> None:
            await client.request()
            await client.say(HELLO)
            client.hang_up()

        async with serving(once) as server:
            for _ in range(3):
                await fetch(server.url)
                await until(lambda: len(transport.shared()) == 0)
            return server.connections

    assert run(calls()) == 3


@pytest.mark.parametrize(
    ("method", "says", "seconds", "asked"),
    [
        ("GET", b"", 0.0, 2),
        ("DELETE", b"", 0.0, 2),
        ("POST", b"", 0.0, 2),
        # It had begun to answer, or to work: a second time could do harm, but not to what only asks.
        ("POST", b"H", 0.0, 1),
        ("POST", b"HTTP/1.1 100 Continue\r\n\r\n", 0.0, 1),
        ("POST", b"", 0.3, 1),
        ("GET", b"HTTP/1.1 2", 0.3, 2),
    ],
)
def test_one_that_is_closed_as_it_is_used_costs_a_call_only_where_repeating_could_do_harm(
    run: Run, monkeypatch: pytest.MonkeyPatch, method: str, says: bytes, seconds: float, asked: int
) -> None:
    monkeypatch.setattr(http, "CLOSED_MEANWHILE_SECONDS", 0.25 if seconds else 20.0)

    async def calls() -> tuple[str, int]:
        async def only_the_first(client: Client) -> None:
            await client.request()
            await client.say(HELLO)
            if client.number == 0:
                await client.request()
                await client.say(says)
                await asyncio.sleep(seconds)
                client.writer.close()

        async with serving(only_the_first) as server:
            await fetch(server.url)
            try:
                result = (await fetch(server.url, method=method, body=b"")).decode()
            except AttemptFailed as failed:
                result = failed.kind
            return result, server.connections

    assert run(calls()) == ("hello" if asked == 2 else "broken", asked)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_repeated_is_repeated_once(run: Run, method: str) -> None:
    async def calls() -> tuple[str, int]:
        async def only_once(client: Client) -> None:
            await client.request()
            if client.number == 0:
                await client.say(HELLO)
                await client.request()
            client.hang_up()

        async with serving(only_once) as server:
            await fetch(server.url)
            return (await failure(server.url, method=method, body=b"")).kind, server.connections

    assert run(calls()) == ("broken", 2)


def test_a_long_request_of_which_a_part_was_written_is_sent_whole_a_second_time(run: Run) -> None:
    sent = bytes(8 << 20)

    async def calls() -> tuple[bytes, list[int]]:
        got: list[int] = []

        async def at_the_head_of_the_second(client: Client) -> None:
            if client.number == 0:
                await client.request()
                await client.say(HELLO)
                await client.reader.readuntil(b"\r\n\r\n")
                client.hang_up()
                return
            _, body = await client.request()
            got.append(len(body))
            await client.say(HELLO)

        async with serving(at_the_head_of_the_second) as server:
            await fetch(server.url)
            return await fetch(server.url, body=sent), got

    assert run(calls()) == (b"hello", [len(sent)])


def test_a_new_connection_that_is_closed_is_not_tried_again(run: Run) -> None:
    async def calls() -> tuple[str, int]:
        async def mute(client: Client) -> None:
            await client.request()
            client.hang_up()

        async with serving(mute) as server:
            return (await failure(server.url)).kind, server.connections

    assert run(calls()) == ("broken", 1)


@pytest.mark.parametrize("surplus", [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison", b"garbage"])
def test_one_that_speaks_without_being_asked_is_not_used(run: Run, surplus: bytes) -> None:
    """What it says would be the answer to somebody else."""

    async def calls() -> int:
        async def talk(client: Client) -> None:
            await client.request()
            await client.say(HELLO)
            await asyncio.sleep(0)
            await client.say(surplus)

        async with serving(talk) as server:
            assert await fetch(server.url) == b"hello"
            await until(lambda: len(transport.shared()) == 0)
            assert await fetch(server.url) == b"hello"
            return server.connections

    assert run(calls()) == 2


def test_an_answer_given_up_takes_its_connection_with_it(run: Run) -> None:
    async def calls() -> int:
        async def half(client: Client) -> None:
            while True:
                await client.request()
                await client.say(OK + b"content-length: 10\r\n\r\nhello")

        async with serving(half) as server:
            opened = await http.open(target(), url=server.url, headers={}, body=b"{}", stream=False)
            assert await anext(opened.chunks()) == b"hello"
            await opened.close()
            await opened.close()
            await until(lambda: server.left == 1)
            return len(transport.shared())

    assert run(calls()) == 0


def test_what_is_closed_is_not_read_again(run: Run) -> None:
    """By then its connection may bring somebody else's answer."""

    async def calls() -> None:
        async with serving(hello) as server:
            opened = await http.open(target(), url=server.url, headers={}, body=b"{}", stream=False)
            await opened.close()
            other = await http.open(target(), url=server.url, headers={}, body=b"{}", stream=False)
            with pytest.raises(AttemptFailed):
                await opened.body()
            assert await other.body() == b"hello"
            await other.close()
            assert server.connections == 1

    run(calls())


def test_closing_after_the_pool_has_closed_makes_no_new_one(run: Run) -> None:
    async def calls() -> bool:
        async with serving(hello) as server:
            opened = await http.open(target(), url=server.url, headers={}, body=b"{}", stream=False)
            await transport.shutdown()
            await opened.close()
            return asyncio.get_running_loop() in transport._shared

    assert not run(calls())


# What is sent and read


def test_forty_megabytes_go_there_and_come_back(run: Run) -> None:
    size = 40 * 1024 * 1024

    async def calls() -> bool:
        async def echo(client: Client) -> None:
            _, body = await client.request()
            await client.say(OK + b"content-length: %d\r\n\r\n" % len(body), body)

        async with serving(echo) as server:
            sent = bytes(1000) + b"x" * (size - 1000)
            return await fetch(server.url, body=sent) == sent

    assert run(calls())


def test_an_answer_before_all_was_sent_is_the_answer(run: Run) -> None:
    async def calls() -> tuple[str, int | None]:
        async def too_large(client: Client) -> None:
            await client.reader.readuntil(b"\r\n\r\n")
            body = b'{"error":{"message":"Too large."}}'
            await client.say(b"HTTP/1.1 413 Too Large\r\ncontent-length: %d\r\n\r\n" % len(body), body)

        async with serving(too_large) as server:
            failed = await failure(server.url, body=b"x" * 30_000_000)
            await until(lambda: len(transport.shared()) == 0)  # the rest of the body is still on its way there
            return failed.kind, failed.status

    assert run(calls()) == ("bad_request", 413)


def test_a_provider_waits_for_whoever_does_not_read(run: Run) -> None:
    async def calls() -> None:
        sent = 0

        async def endless(client: Client) -> None:
            nonlocal sent
            await client.request()
            await client.say(OK + b"\r\n")
            while True:
                await client.say(b"x" * 65_536)
                sent += 65_536

        async with serving(endless) as server:
            opened = await http.open(target(), url=server.url, headers={}, body=b"{}", stream=False)
            await until(lambda: opened._connection._is_paused)
            before = -1
            while before != sent:  # until the sockets between are full
                before = sent
                for _ in range(50):
                    await asyncio.sleep(0)
            assert sent < 32_000_000
            chunks = opened.chunks()
            while sent == before:
                assert await anext(chunks)
            await opened.close()

    run(calls())


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4, 6, 8, 12, 20, 50, 120, 300])
def test_a_call_cancelled_at_any_moment_leaves_nothing(run: Run, turns: int) -> None:
    async def calls() -> tuple[int, bytes]:
        async def slowly(client: Client) -> None:
            await client.request()
            for byte in HELLO:
                await client.say(bytes([byte]))
                await asyncio.sleep(0)

        async with serving(slowly) as server:
            url = server.url.replace("127.0.0.1", "localhost")
            calling = asyncio.create_task(fetch(url))
            for _ in range(turns):
                await asyncio.sleep(0)
            calling.cancel()
            await asyncio.wait([calling])
            if calling.cancelled():
                await until(lambda: len(transport.shared()) == 0)
            return len(transport.shared()), await fetch(server.url)

    assert run(calls())[1] == b"hello"


def test_a_call_leaves_no_garbage(run: Run) -> None:
    """That only the collector of cycles finds: it would stop the process more often."""

    async def calls() -> int:
        async with serving(hello) as server:
            await fetch(server.url)
            gc.collect()
            gc.disable()
            try:
                for _ in range(20):
                    await fetch(server.url)
                return gc.collect()
            finally:
                gc.enable()

    assert run(calls()) < 20


# Where it goes


class Names:
    """Answers of a resolver, in place of the loop's. `asked` counts."""

    def __init__(self, *found: str) -> None:
        self.found = found
        self.asked = 0

    async def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked += 1
        await asyncio.sleep(0)
        if not self.found:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in self.found]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Names]:
    """For asyncio's own loop, whose methods can be replaced."""

    def install(*found: str) -> Names:
        made = Names(*found)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", made.getaddrinfo)
        return made

    return install


only_asyncio = pytest.mark.parametrize("run", ["asyncio"], indirect=True)


@only_asyncio
def test_a_name_is_asked_for_once_for_all_who_want_to_know(run: Run, names: Callable[..., Names]) -> None:
    async def calls() -> int:
        async with serving(hello) as server:
            known = names("127.0.0.1")
            await asyncio.gather(*[fetch(f"http://provider.example:{server.port}/") for _ in range(5)])
            return known.asked

    assert run(calls()) == 1


@only_asyncio
def test_a_name_that_is_unknown_may_be_known_a_moment_later(run: Run, names: Callable[..., Names]) -> None:
    async def calls() -> tuple[set[str], int]:
        async with serving(hello) as server:
            known = names()
            failed = await asyncio.gather(*[failure(f"http://provider.example:{server.port}/") for _ in range(3)])
            asked = known.asked
            known.found = ("127.0.0.1",)
            assert await fetch(f"http://provider.example:{server.port}/") == b"hello"
            return {one.kind for one in failed}, asked

    assert run(calls()) == ({"connect"}, 1)


@only_asyncio
def test_a_name_that_fails_after_its_caller_has_gone_troubles_nobody(run: Run, names: Callable[..., Names]) -> None:
    async def calls() -> str:
        names()
        calling = asyncio.create_task(fetch("http://provider.example/"))
        await asyncio.sleep(0)
        calling.cancel()
        await asyncio.wait([calling])
        return (await failure("http://provider.example/")).kind

    assert run(calls()) == "connect"


@only_asyncio
@pytest.mark.parametrize("dead", ["127.0.0.2", "::1", "2001:db8::1"])
def test_the_next_address_is_tried_where_the_first_is_dead(run: Run, names: Callable[..., Names], dead: str) -> None:
    async def calls() -> bytes:
        async with serving(hello) as server:
            names(dead, "127.0.0.1")
            return await fetch(f"http://provider.example:{server.port}/")

    assert run(calls()) == b"hello"


@only_asyncio
def test_several_addresses_share_the_connections(run: Run, names: Callable[..., Names]) -> None:
    async def calls() -> set[str]:
        seen: list[str] = []

        async def once(client: Client) -> None:
            seen.append(client.writer.get_extra_info("sockname")[0])
            await hello(client)

        port = 0
        async with serving(once) as server:
            port = server.port
            other = await asyncio.start_server(server.serve, "127.0.0.2", port)
            names("127.0.0.1", "127.0.0.2")
            await asyncio.gather(*[fetch(f"http://provider.example:{port}/") for _ in range(4)])
            await transport.shutdown()
            other.close()
        return {place for place in seen if seen.count(place) == 2}

    assert run(calls()) == {"127.0.0.1", "127.0.0.2"}


@pytest.mark.parametrize(
    "url",
    [
        "http://a..b/",
        f"http://{'a' * 64}.example/",
        "http://no-such-name.invalid/",
        "http://127.0.0.1:1/",
        "http://[::ffff:127.0.0.1]:1/",
    ],
)
def test_what_leads_nowhere_is_a_failure_to_connect(run: Run, url: str) -> None:
    assert run(failure(url)).kind == "connect"


def test_a_literal_ipv6_address_is_one(run: Run) -> None:
    async def calls() -> bytes:
        heads: list[bytes] = []

        async def tell(client: Client) -> None:
            heads.append((await client.request())[0])
            await client.say(HELLO)

        async with serving(tell, host="::1") as server:
            await fetch(f"http://[::1]:{server.port}/x")
            return heads[0].replace(str(server.port).encode(), b"PORT")

    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:  # no IPv6 here
        assert run(failure("http://[::1]:80/x")).kind == "connect"
    else:
        assert run(calls()).startswith(b"POST /x HTTP/1.1\r\nhost: [::1]:PORT\r\n")


def test_tenants_and_the_operator_never_share_a_connection(run: Run, settings: Settings) -> None:
    async def calls() -> tuple[str, int, int]:
        async with serving(hello) as server:
            await fetch(server.url)
            refused = await failure(server.url, is_tenants=True)  # though one to that very place lies there
            settings.OUTBOUND_ALLOWED_NETWORKS = (ip_network("127.0.0.0/8"),)
            await fetch(server.url, is_tenants=True)
            await fetch(server.url)
            two = server.connections
            await fetch(server.url, is_tenants=True)
            return refused.kind, two, server.connections

    settings.OUTBOUND_ALLOWED_NETWORKS = ()
    assert run(calls()) == ("connect", 2, 2)


def test_without_a_file_left_to_open_the_idle_ones_make_room(run: Run) -> None:
    async def calls() -> tuple[str, bytes]:
        async with serving(hello) as server, serving(hello) as other:
            await asyncio.gather(*[fetch(server.url) for _ in range(3)])
            await fetch(other.url)
            kept = transport.shared().kept(http._place(other.url, False).origin)
            assert kept is not None
            kept.close()  # so that another is needed, to a place that is known
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            free = os.dup(0)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
            try:
                failed = await failure(other.url)
                await until(lambda: len(transport.shared()) == 0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            return failed.kind, await fetch(other.url)

    assert run(calls()) == ("connect", b"hello")
