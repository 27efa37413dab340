import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import AttemptFailed
from proxy.providers import http, registry, transport
from proxy.providers.base import Target, Timeouts
from tests.examples import some
from tests.proxy.conftest import Run
from tests.upstream import HANG, HTML, RESET, Script, Upstream, answer, frames, refuse, slowly, stream

KEY = "sk-live-0123456789abcdef"


def target(upstream: Upstream, **changes: Any) -> Target:
    fields: dict[str, Any] = {
        "provider_id": 1,
        "deployment_id": 1,
        "provider_name": "scripted",
        "kind": "openai-compatible",
        "base_url": upstream.url,
        "model": "m",
        "api_key": KEY,
        "timeouts": Timeouts(connect=2, first_byte=2, idle=2, total=10),
    }
    return Target(**fields | changes)


async def fetch(where: Target, *, wanted_stream: bool = False) -> bytes:
    opened = await registry.provider(where.kind).open(
        where, path="/chat/completions", body=b'{"model":"m"}', stream=wanted_stream
    )
    try:
        if wanted_stream:
            return b"".join([chunk async for chunk in opened.chunks()])
        return await opened.body()
    finally:
        await opened.close()


def failure(run: Run, where: Target, *, wanted_stream: bool = False) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as raised:
        run(fetch(where, wanted_stream=wanted_stream))
    return raised.value


def test_it_posts_the_body_with_the_key_and_returns_the_answer(upstream: Upstream, run: Run) -> None:
    upstream.then(answer("Hi"))
    body = run(fetch(target(upstream, base_url=upstream.url + "/", headers={"X-Team": "blue"})))
    assert b'"content": "Hi"' in body
    received = upstream.received[0]
    assert received.path == "/v1/chat/completions"
    assert received.body == b'{"model":"m"}'
    assert received.headers["authorization"] == f"Bearer {KEY}"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["accept-encoding"] == "identity"
    assert received.headers["x-team"] == "blue"


def test_without_a_key_it_sends_no_authorization(upstream: Upstream, run: Run) -> None:
    run(fetch(target(upstream, api_key=None)))
    assert "authorization" not in upstream.received[0].headers


def test_a_stream_passes_byte_for_byte_as_it_comes(upstream: Upstream, run: Run) -> None:
    sent = frames("Hel", "lo")
    upstream.then(stream(sent[0], 0.3, *sent[1:]))

    async def watch() -> tuple[float, bytes]:
        opened = await registry.provider("openai-compatible").open(
            target(upstream), path="/chat/completions", body=b'{"model":"m"}', stream=True
        )
        chunks = opened.chunks()
        first = await anext(chunks)
        came = time.monotonic()
        rest = [chunk async for chunk in chunks]
        await opened.close()
        return time.monotonic() - came, b"".join([first, *rest])

    waited, everything = run(watch())
    assert waited > 0.2
    assert everything == b"".join(sent)


def test_a_connection_is_used_again_after_a_complete_answer(upstream: Upstream, run: Run) -> None:
    async def both() -> int:
        await fetch(target(upstream))
        await fetch(target(upstream))
        return len(transport.shared())

    assert run(both()) == 1


def test_closing_an_unread_stream_makes_the_provider_stop(upstream: Upstream, run: Run) -> None:
    upstream.then(stream(frames("a")[0], ending="hang"))

    async def leave() -> None:
        opened = await registry.provider("openai-compatible").open(target(upstream), path="/x", body=b"{}", stream=True)
        await anext(opened.chunks())
        await opened.close()
        await opened.close()
        assert await asyncio.to_thread(upstream.received[0].gone.wait, 5)

    run(leave())


@pytest.mark.parametrize("script", [HANG, slowly(answer(), 30)], ids=["never", "late"])
def test_cancelling_while_waiting_for_the_answer_makes_the_provider_stop(upstream: Upstream, run: Run, script: Script) -> None:
    upstream.then(script)

    async def give_up() -> None:
        waiting = asyncio.create_task(fetch(target(upstream)))
        while not upstream.received:
            await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await asyncio.to_thread(upstream.received[0].gone.wait, 5)

    run(give_up())


@pytest.mark.parametrize(
    ("script", "kind", "wanted_stream"),
    [
        (RESET, "broken", False),
        (HTML, "broken", False),
        (HTML, "broken", True),
        (Script(parts=()), "broken", False),
        (Script(parts=(b"  \n",)), "broken", False),
        (stream(*frames("a"), ending="reset"), "broken", True),
        (Script(parts=(b'{"id":',), ending="reset"), "broken", False),
        (stream(*frames("a")), "broken", False),
        (Script(parts=(b'{"error":{"message":"slow down","type":"rate_limit_error"}}',)), "rate_limited", True),
        (Script(parts=(b'{"error":{"message":"busy","code":503}}',)), "overloaded", True),
        (answer(), "status", True),
        (refuse(302), "status", False),
        (refuse(402), "status", False),
        (refuse(500), "status", False),
        (refuse(503), "overloaded", False),
        (refuse(529), "overloaded", False),
        (refuse(429), "rate_limited", False),
        (refuse(504), "timeout", False),
        (refuse(401), "auth", False),
        (refuse(403), "auth", False),
        (refuse(400), "bad_request", False),
        (refuse(404), "bad_request", False),
        (refuse(413), "bad_request", False),
        (refuse(422), "bad_request", False),
        (Script(status=400, headers={"content-type": "text/html"}, parts=(b"<h1>nginx</h1>",)), "broken", False),
        (Script(status=503, headers={"content-type": "text/html"}, parts=(b"<h1>nginx</h1>",)), "overloaded", False),
        (Script(status=500, parts=(b'{"err',), ending="reset"), "status", False),
    ],
)
def test_each_way_to_fail_has_its_kind(upstream: Upstream, run: Run, script: Script, kind: str, wanted_stream: bool) -> None:
    upstream.then(script)
    failed = failure(run, target(upstream), wanted_stream=wanted_stream)
    assert failed.kind == kind
    assert failed.message
    assert len(upstream.received) == 1  # nothing is retried or followed here


def test_a_redirect_is_not_followed(upstream: Upstream, run: Run) -> None:
    upstream.then(Script(status=307, headers={"location": f"{upstream.url}/elsewhere"}))
    assert failure(run, target(upstream)).status == 307
    assert len(upstream.received) == 1


def test_a_cookie_of_one_call_does_not_ride_on_the_next(upstream: Upstream, run: Run) -> None:
    upstream.then(answer(headers={"content-type": "application/json", "set-cookie": "session=alice"}))

    async def twice() -> None:
        await fetch(target(upstream, base_url=upstream.url.replace("127.0.0.1", "localhost")))
        await fetch(target(upstream, base_url=upstream.url.replace("127.0.0.1", "localhost")))

    run(twice())
    assert "cookie" not in upstream.received[1].headers


def test_a_late_first_byte_times_out(upstream: Upstream, run: Run) -> None:
    upstream.then(slowly(answer(), 30))
    started = time.monotonic()
    failed = failure(run, target(upstream, timeouts=Timeouts(first_byte=0.2)))
    assert (failed.kind, time.monotonic() - started < 3) == ("timeout", True)


@pytest.mark.parametrize("wanted_stream", [True, False])
def test_a_stall_between_bytes_times_out(upstream: Upstream, run: Run, wanted_stream: bool) -> None:
    sent = stream(frames("a")[0], 30.0) if wanted_stream else Script(parts=(b'{"id":', 30.0))
    upstream.then(sent)
    failed = failure(run, target(upstream, timeouts=Timeouts(first_byte=1, idle=0.2)), wanted_stream=wanted_stream)
    assert failed.kind == "timeout"


def test_thinking_after_the_headers_is_allowed_the_first_bytes_time(upstream: Upstream, run: Run) -> None:
    upstream.then(stream(0.5, *frames("a")))
    sent = run(fetch(target(upstream, timeouts=Timeouts(first_byte=5, idle=0.1)), wanted_stream=True))
    assert sent.endswith(b"data: [DONE]\n\n")


def test_nobody_listening_is_a_failure_to_connect(upstream: Upstream, run: Run) -> None:
    assert failure(run, target(upstream, base_url="http://127.0.0.1:9/v1")).kind == "connect"


def test_plain_http_where_tls_is_expected_is_a_failure_to_connect(upstream: Upstream, run: Run) -> None:
    assert failure(run, target(upstream, base_url=upstream.url.replace("http:", "https:"))).kind == "connect"


@pytest.mark.parametrize(
    "base_url",
    ["ftp://127.0.0.1/v1", "ftp://127.0.0.1:80/v1", "http://[::1", "http://:80:80/", "http://h:65536/", "//h/", "nonsense"],
)
def test_a_base_url_that_is_none_is_a_failure_to_connect(upstream: Upstream, run: Run, base_url: str) -> None:
    assert failure(run, target(upstream, base_url=base_url)).kind == "connect"


TEXT = st.text(max_size=20)


@settings(max_examples=some(40))
@given(st.one_of(TEXT, TEXT.map("http://{}/v1".format), TEXT.map("http://h/{}".format)))
def test_whatever_is_given_as_a_url_leads_to_a_place_or_fails_to_connect(url: str) -> None:
    try:
        place = http._place(url, False)
    except AttemptFailed:
        return
    assert place.path.startswith("/")
    assert all("!" <= character <= "~" for character in place.path)
    assert place.origin.scheme in ("http", "https")
    assert place.origin.host
    assert 0 < place.origin.port < 65_536


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "named"),
    [
        ("http://h", "h", 80, "/", "h"),
        ("https://h?x=1", "h", 443, "/?x=1", "h"),
        ("https://h:8443/v1#part", "h", 8443, "/v1", "h:8443"),
        ("http://[::1]:81/x", "::1", 81, "/x", "[::1]:81"),
        ("https://bücher.example/ü", "xn--bcher-kva.example", 443, "/%C3%BC", "xn--bcher-kva.example"),
        ("https://h/model/a.b-v1:0/invoke", "h", 443, "/model/a.b-v1:0/invoke", "h"),
        ("https://h/model/arn%3Aaws%3Ap%2Fx/invoke", "h", 443, "/model/arn%3Aaws%3Ap%2Fx/invoke", "h"),
        ("https://h/a b?q=c d", "h", 443, "/a%20b?q=c%20d", "h"),
    ],
)
def test_a_url_leads_to_its_place(url: str, host: str, port: int, path: str, named: str) -> None:
    place = http._place(url, True)
    assert (place.origin.host, place.origin.port, place.path, place.host) == (host, port, path, named)
    assert place.origin.public_only


NAME = st.from_regex(r"x-[a-z]{1,8}", fullmatch=True)
VALUE = st.text(st.sampled_from("aZ9 :;,\t\r\n\0\xfc\u20ac"), max_size=6)


@settings(max_examples=some(40))
@given(st.dictionaries(NAME, VALUE, max_size=3), st.sampled_from(["GET", "POST"]))
def test_no_header_ends_before_its_end(headers: dict[str, str], method: str) -> None:
    """What is sent is read as it was meant, or is not sent."""
    if set("\r\n\0\u20ac") & set("".join(headers.values())):
        with pytest.raises(AttemptFailed):
            http._head(method, "/v1", headers, length=0)
        return
    own = {"content-length": "0"} if method == "POST" else {}
    lines = [f"{method} /v1 HTTP/1.1", *(f"{name}: {value}" for name, value in (headers | own).items()), "", ""]
    assert http._head(method, "/v1", headers, length=0) == "\r\n".join(lines).encode("latin-1")


@pytest.mark.parametrize("name", ["x\r\nx-evil", "x: y\nx-evil", "x\0", "x-\u20ac"])
def test_no_name_of_a_header_does_either(upstream: Upstream, run: Run, name: str) -> None:
    assert failure(run, target(upstream, headers={name: "1"})).kind == "broken"
    assert upstream.received == []


def test_a_header_that_is_not_ascii_arrives_byte_for_byte(upstream: Upstream, run: Run) -> None:
    run(fetch(target(upstream, headers={"x-name": "M\xfcller"})))
    assert upstream.received[0].headers["x-name"].encode(errors="surrogateescape") == b"M\xfcller"


def test_a_password_in_the_base_url_signs_in_unless_there_is_a_key(upstream: Upstream, run: Run) -> None:
    place = upstream.url.replace("http://", "http://us%65r:p%40ss@")
    run(fetch(target(upstream, base_url=place, api_key=None)))
    run(fetch(target(upstream, base_url=place)))
    assert [one.headers["authorization"] for one in upstream.received] == ["Basic dXNlcjpwQHNz", f"Bearer {KEY}"]
    assert "@" not in upstream.received[0].headers["host"]


@pytest.mark.parametrize(("method", "length"), [("GET", None), ("DELETE", "0"), ("POST", "0")])
def test_a_request_without_a_body_says_so(upstream: Upstream, run: Run, method: str, length: str | None) -> None:
    async def ask() -> None:
        opened = await http.open(
            target(upstream), method=method, url=f"{upstream.url}/x%2Fy?z=1", headers={}, body=b"", stream=False
        )
        await opened.close()

    upstream.then(answer())
    run(ask())
    received = upstream.received[0]
    assert (received.method, received.target, received.body) == (method, "/v1/x%2Fy?z=1", b"")
    assert received.headers.get("content-length") == length


def test_what_was_left_of_one_answer_is_not_read_with_the_next(upstream: Upstream, run: Run) -> None:
    """A provider's error is read to 64 KB, a stream to its end mark: what follows them is nobody's."""
    upstream.then(refuse(400, "x" * 100_000), stream(*frames("a"), b"data: stray\n\n"), answer("mine"))

    async def calls() -> bytes:
        with pytest.raises(AttemptFailed):
            await fetch(target(upstream))
        opened = await registry.provider("openai-compatible").open(target(upstream), path="/x", body=b"{}", stream=True)
        await anext(opened.chunks())
        await asyncio.to_thread(upstream.received[1].answered.wait, 5)
        await opened.close()
        return await fetch(target(upstream))

    body = run(calls())
    assert body.startswith(b'{"id"')
    assert b"mine" in body


def test_a_key_that_cannot_be_a_header_does_not_reach_the_message(upstream: Upstream, run: Run) -> None:
    failed = failure(run, target(upstream, api_key="sk-live\r\nx-evil: 1"))
    assert "evil" not in failed.message
    assert upstream.received == []


def test_messages_hold_no_credential(upstream: Upstream, run: Run) -> None:
    odd = "plainsecretwithoutprefix"
    upstream.then(refuse(500, f"key {KEY} or {odd} or Bearer abcdefgh.ijk of sk-proj-other123456 failed"))
    failed = failure(run, target(upstream, headers={"x-api-key": odd}))
    assert failed.message == "The provider answered 500: key [redacted] or [redacted] or [redacted] of [redacted] failed"


def test_a_refused_key_is_not_quoted_at_all(upstream: Upstream, run: Run) -> None:
    upstream.then(refuse(401, "Incorrect API key provided: sk-li***cdef. You can find your key at https://example.org"))
    assert failure(run, target(upstream)).message == "The provider refused the gateway's credentials."


def test_the_providers_code_and_retry_after_survive(upstream: Upstream, run: Run) -> None:
    upstream.then(refuse(429, code="rate_limit_exceeded", headers={"retry-after": "7"}))
    failed = failure(run, target(upstream))
    assert (failed.status, failed.code, failed.retry_after, failed.retryable) == (429, "rate_limit_exceeded", 7.0, True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "1e30"}, 86_400.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
    ],
)
def test_retry_after_is_read_in_every_spelling(headers: dict[str, str], seconds: float | None) -> None:
    assert http.retry_after(headers) == seconds


def test_retry_after_may_be_a_date() -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 50 < (http.retry_after({"retry-after": moment}) or 0) <= 60


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP", "deflate", "bare deflate"])
def test_an_answer_compressed_unasked_is_read_all_the_same(upstream: Upstream, run: Run, coding: str) -> None:
    import gzip
    import zlib

    sent = b'{"choices":[]}'
    bare = zlib.compressobj(wbits=-15)
    packed = {"deflate": zlib.compress(sent), "bare deflate": bare.compress(sent) + bare.flush()}.get(coding, gzip.compress(sent))
    headers = {"content-type": "application/json", "content-encoding": coding.removeprefix("bare ")}
    upstream.then(Script(headers=headers, parts=(packed,)))
    assert run(fetch(target(upstream))) == sent


@pytest.mark.parametrize("every", [1, 7, 1000])
def test_an_answer_compressed_in_several_members_is_read_whole(upstream: Upstream, run: Run, every: int) -> None:
    import gzip

    packed = gzip.compress(b'{"cho') + gzip.compress(b"") + gzip.compress(b'ices":') + bytes(3) + gzip.compress(b"[]}") + bytes(5)
    parts = tuple(packed[start : start + every] for start in range(0, len(packed), every))
    upstream.then(Script(headers={"content-type": "application/json", "content-encoding": "gzip"}, parts=parts))
    assert run(fetch(target(upstream))) == b'{"choices":[]}'


@pytest.mark.parametrize("rest", [(bytes(2), bytes(2)), (b"garbage",), (b"\0", b"\x1f", b"garbage"), (b"\x1f",)])
@pytest.mark.parametrize("together", [True, False])
def test_what_follows_a_member_and_is_none_is_forgiven(
    upstream: Upstream, run: Run, rest: tuple[bytes, ...], together: bool
) -> None:
    import gzip

    whole = gzip.compress(b'{"choices":[]}')
    parts = (whole + rest[0], *rest[1:]) if together else (whole, *rest)
    upstream.then(Script(headers={"content-type": "application/json", "content-encoding": "gzip"}, parts=parts))
    assert run(fetch(target(upstream))) == b'{"choices":[]}'


@pytest.mark.parametrize("packed", [b"garbage", b"\x1f\x8bgarbage"])
@pytest.mark.parametrize("begins", [True, False])
def test_what_is_no_member_where_one_stands_is_broken(upstream: Upstream, run: Run, packed: bytes, begins: bool) -> None:
    import gzip

    packed = packed if begins else gzip.compress(b'{"cho') + b"\x1f\x8b" + packed
    upstream.then(Script(headers={"content-type": "application/json", "content-encoding": "gzip"}, parts=(packed,)))
    assert "not compressed as it says" in failure(run, target(upstream)).message


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress"])
def test_one_that_is_packed_in_a_way_nobody_asked_for_is_broken(upstream: Upstream, run: Run, coding: str) -> None:
    """A kilobyte of it may be a gigabyte."""
    upstream.then(Script(headers={"content-type": "application/json", "content-encoding": coding}, parts=(b"\x1f\x8b",)))
    assert failure(run, target(upstream)).kind == "broken"


def test_a_long_answer_is_unpacked_piece_by_piece(upstream: Upstream, run: Run) -> None:
    """However much a few bytes stand for, no more of it than a few megabytes is in memory at a time."""
    import gzip

    packed = gzip.compress(bytes(40 << 20))
    assert len(packed) < 64 * 1024
    upstream.then(Script(headers={"content-type": "application/json", "content-encoding": "gzip"}, parts=(packed,)))

    async def sizes() -> list[int]:
        opened = await registry.provider("openai-compatible").open(target(upstream), path="/x", body=b"{}", stream=False)
        try:
            return [len(chunk) async for chunk in opened.chunks()]
        finally:
            await opened.close()

    pieces = run(sizes())
    assert sum(pieces) == 40 << 20
    assert max(pieces) < 20 << 20


def test_an_answer_without_end_is_cut(upstream: Upstream, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_BODY_BYTES", 1 << 20)
    upstream.then(Script(parts=(b"x" * (1 << 20), b"x" * (1 << 20))))
    failed = failure(run, target(upstream))
    assert (failed.kind, "larger than 1 MB" in failed.message) == ("broken", True)


def test_a_target_does_not_show_its_key(upstream: Upstream) -> None:
    assert KEY not in repr(target(upstream))


@pytest.mark.parametrize("kind", sorted(registry.PROVIDERS))
def test_each_kind_of_provider_can_be_found_by_name(kind: str) -> None:
    provider = registry.provider(kind)
    assert provider.kind == kind
    assert provider.title
    url = provider.base_url()
    assert url is None or url.startswith(("https://", "http://127.0.0.1"))


def test_a_kind_without_a_client_is_refused_by_name() -> None:
    with pytest.raises(registry.UnknownKind, match=r"'skynet' is not a kind .* it knows .*deepseek, .*groq, .*openai"):
        registry.provider("skynet")


def test_the_sandbox_brings_its_own_address_and_key() -> None:
    sandbox = registry.provider("sandbox")
    assert (sandbox.base_url() or "").endswith("/sandbox/v1")
    assert (sandbox.default_key() or "").startswith("sandbox-")


def test_a_provider_opens_through_its_client(upstream: Upstream, run: Run) -> None:
    async def through() -> bytes:
        provider = registry.provider("openai-compatible")
        opened = await provider.open(target(upstream), path="/chat/completions", body=b"{}", stream=False)
        try:
            return await opened.body()
        finally:
            await opened.close()

    assert b"Hello" in run(through())


@pytest.mark.parametrize(
    ("script", "wanted_stream", "says"),
    [
        (answer(), True, "without a stream though one was asked for"),
        (RESET, False, "closed the connection without an answer"),
        (Script(parts=(b'{"id":',), ending="reset"), False, "broke off its answer"),
        (
            Script(headers={"content-type": "application/json", "content-encoding": "gzip"}, parts=(b"{}",)),
            False,
            "not compressed as it says",
        ),
    ],
)
def test_what_was_wrong_is_said(upstream: Upstream, run: Run, script: Script, wanted_stream: bool, says: str) -> None:
    upstream.then(script)
    assert says in failure(run, target(upstream), wanted_stream=wanted_stream).message
