"""What a caller can send wrong to every route but Chat Completions (test_bad_input.py): 400, 404, 405 or 413 in the route's own
shape, never HTML, never a 500; nothing reaches a provider, nothing is held, nothing charged."""

from __future__ import annotations

import gzip
import json
import socket
from typing import Any

import httpx
import pytest

from tests.gateways import Gateway
from tests.house import House
from tests.proxy.test_bad_input import assert_is_error
from tests.upstream import Upstream

MESSAGES = [{"role": "user", "content": "x"}]
# Routes that take JSON → a body that is right but for what a test does to it; the model is one for chat.
JSON: dict[str, dict[str, Any]] = {
    "/v1/responses": {"model": "scripted", "input": "x"},
    "/v1/messages": {"model": "claude-scripted", "max_tokens": 9, "messages": MESSAGES},
    "/v1/messages/count_tokens": {"model": "claude-scripted", "messages": MESSAGES},
    "/v1/embeddings": {"model": "scripted", "input": "x"},
    "/v1/images/generations": {"model": "scripted", "prompt": "x"},
    "/v1/images/edits": {"model": "scripted", "prompt": "x", "images": [{"file_id": "f"}]},
    "/v1/audio/speech": {"model": "scripted", "input": "x", "voice": "alloy"},
    "/v1/videos": {"model": "scripted", "prompt": "x"},
}
# Routes that take forms → their fields, and the name of their file.
FORMS: dict[str, tuple[dict[str, str], str]] = {
    "/v1/images/edits": ({"model": "scripted", "prompt": "x"}, "image"),
    "/v1/audio/transcriptions": ({"model": "scripted"}, "file"),
    "/v1/audio/translations": ({"model": "scripted"}, "file"),
    "/v1/videos": ({"model": "scripted", "prompt": "x"}, "input_reference"),
}
EVERY = sorted({*JSON, *FORMS})
FORM = "multipart/form-data; boundary=b"


def post(gateway: Gateway, house: House, path: str, body: bytes, content_type: str = "application/json") -> httpx.Response:
    sent = {b"authorization": f"Bearer {house.key_text}".encode(), b"content-type": content_type.encode("latin-1")}
    return httpx.post(gateway.url + path, content=body, headers=sent, timeout=30, trust_env=False)


def assert_refused(got: httpx.Response, path: str, status: int, code: str, type: str = "") -> None:
    if not path.startswith("/v1/messages"):
        assert_is_error(got, status, code)
        return
    assert (got.status_code, got.headers["content-type"]) == (status, "application/json"), got.text
    told = got.json()
    assert (told["type"], told["error"]["gatehouse"]["code"]) == ("error", code)
    assert told["error"]["type"] == (type or {404: "not_found_error"}.get(status, "invalid_request_error"))
    assert told["error"]["message"]
    assert told["request_id"] == told["error"]["gatehouse"]["request_id"] == got.headers["request-id"]


def assert_nothing_happened(house: House, upstream: Upstream) -> None:
    assert upstream.received == []
    assert house.held() == {}
    assert all((row.status, row.charged_nano_usd) == ("refused", 0) for row in house.rows())


def written(path: str, **changed: Any) -> bytes:
    return json.dumps({name: value for name, value in (JSON[path] | changed).items() if value != "absent"}).encode()


def part(name: str, content: bytes, *, more: str = "") -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


def form_of(path: str, **changed: bytes | None) -> bytes:
    """The form of a route, with some of its fields another way or, for None, left out."""
    fields, file = FORMS[path]
    contents: dict[str, bytes | None] = {**{name: value.encode() for name, value in fields.items()}, file: b"RIFF", **changed}
    parts = [
        part(name, content, more='; filename="a.bin"' if name == file else "")
        for name, content in contents.items()
        if content is not None
    ]
    return b"".join(parts) + b"--b--\r\n"


@pytest.mark.parametrize("path", sorted(JSON))
def test_a_body_that_is_compressed_is_told_so(gateway: Gateway, house: House, upstream: Upstream, path: str) -> None:
    for body in (gzip.compress(written(path)), b"\x28\xb5\x2f\xfd\x20\x02"):
        got = post(gateway, house, path, body)
        assert_refused(got, path, 400, "invalid_request")
        assert "compressed" in got.json()["error"]["message"]
    assert_nothing_happened(house, upstream)


@pytest.mark.parametrize("path", JSON)
def test_a_body_that_is_no_such_json_is_400(gateway: Gateway, house: House, upstream: Upstream, path: str) -> None:
    whole = written(path)
    bodies = (
        b"", b"{", whole[:-1], whole + b"}", b"[]", b"null", b'"text"', b"7", b"\xff\xfe", b"NaN", whole.replace(b'"x"', b"NaN"),
        whole.replace(b'"x"', b'"\xff"'), b"\xef\xbb\xbf" + whole, gzip.compress(whole), b"a=b&c=d", b"[" * 100_000,
        b'{"model":"scripted","\\ud800":1}', form_of("/v1/videos"), b"<html></html>",
    )  # fmt: skip
    for body in bodies:
        assert_refused(post(gateway, house, path, body), path, 400, "invalid_request")
    assert_nothing_happened(house, upstream)


@pytest.mark.parametrize("path", JSON)
def test_a_member_that_is_missing_or_of_another_type_is_400_and_named(
    gateway: Gateway, house: House, upstream: Upstream, path: str
) -> None:
    needed = [name for name in JSON[path] if name not in ("voice", "images", "max_tokens")]
    values: tuple[Any, ...] = ("absent", None, 5, True, {"a": 1}, [], "")
    for name in needed:
        for value in values:
            got = post(gateway, house, path, written(path, **{name: value}))
            assert_refused(got, path, 400, "invalid_request")
            assert got.json()["error"]["gatehouse" if path.startswith("/v1/messages") else "param"] is not None
            assert name in got.text
    assert_nothing_happened(house, upstream)


WRONG: dict[str, list[dict[str, Any]]] = {
    "/v1/responses": [
        {"stream": "yes"}, {"max_output_tokens": 0}, {"tools": "many"}, {"background": True}, {"prompt": {"id": "pmpt_1"}},
        {"conversation": "conv_1"}, {"store": True}, {"previous_response_id": 5}, {"previous_response_id": "resp_x"},
        {"input": [5]}, {"model": "claude-scripted", "input": [{"type": "alien"}]},
    ],
    "/v1/messages": [
        {"max_tokens": "absent"}, {"max_tokens": -1}, {"max_tokens": "9"}, {"messages": [{"role": "king", "content": "x"}]},
        {"messages": [{"role": "user"}]}, {"system": 5}, {"stop_sequences": "x"}, {"model": "scripted", "tool_choice": "\ud800"},
        {"model": "scripted", "mcp_servers": [{"type": "url"}]},
    ],
    "/v1/messages/count_tokens": [{"messages": [{"role": "king", "content": "x"}]}, {"tools": 5}],
    "/v1/embeddings": [{"input": [[], [], {}]}, {"input": [1.5]}],
    "/v1/images/generations": [{"n": 0}, {"n": 11}, {"stream": 1}],
    "/v1/images/edits": [{"images": "one"}, {"images": []}, {"images": "absent"}],
    "/v1/audio/speech": [{"input": "x" * 100_001}, {"stream_format": "mp4"}],
    "/v1/videos": [{"seconds": "4.5"}, {"seconds": 601}, {"seconds": [4]}],
}  # fmt: skip


@pytest.mark.parametrize("path", WRONG)
def test_what_the_route_can_tell_to_be_wrong_is_400(gateway: Gateway, house: House, upstream: Upstream, path: str) -> None:
    for changed in WRONG[path]:
        code = "previous_response_not_found" if changed.get("previous_response_id") == "resp_x" else "invalid_request"
        assert_refused(post(gateway, house, path, written(path, **changed)), path, 400, code)
    assert house.nothing_held()
    assert upstream.received == []
    assert all(row.charged_nano_usd == 0 for row in house.rows())


@pytest.mark.parametrize("path", FORMS)
def test_a_form_that_is_broken_is_400(gateway: Gateway, house: House, upstream: Upstream, path: str) -> None:
    (fields, file), whole = FORMS[path], form_of(path)
    model = part("model", b"scripted")
    broken = [
        (FORM, b""), (FORM, b"--b"), (FORM, b"--b\r\n"), (FORM, whole[:-6]), (FORM, whole[:60]),
        (FORM, whole.replace(b"\r\n", b"\n")),
        (FORM, model + whole), (FORM, part("", b"x") + whole), (FORM, whole.replace(b'name="model"', b"")),
        (FORM, form_of(path, model=None)), (FORM, form_of(path, model=b"")), (FORM, form_of(path, model=b"\xff")),
        (FORM, form_of(path, model=b"m" * 300_000)),
        (FORM, part("model", b"x", more='; filename="m"') + form_of(path, model=None)),
        ("multipart/form-data", whole), ("multipart/form-data; boundary=", whole), ("multipart/form-data; boundary=\xe9", whole),
        ("multipart/form-data; boundary=other", whole), ("multipart/mixed; boundary=b", whole),
    ]  # fmt: skip
    if file != "input_reference":
        broken += [(FORM, form_of(path, **{file: None})), (FORM, whole.replace(b'; filename="a.bin"', b""))]
    if path not in JSON:
        broken += [("application/json", json.dumps(fields).encode()), ("text/plain", whole), ("", whole)]
    for content_type, body in broken:
        assert_refused(post(gateway, house, path, body, content_type), path, 400, "invalid_request")
    assert_nothing_happened(house, upstream)


@pytest.mark.parametrize("path", EVERY)
def test_a_model_that_is_not_there_is_404_and_one_of_another_kind_400(
    gateway: Gateway, house: House, upstream: Upstream, path: str
) -> None:
    for model in ("gpt-99", "gpt \x00 \u2603", "preset:none", "nowhere/gpt-5", "x" * 5000, "../v1", "%00"):
        if path in JSON:
            assert_refused(post(gateway, house, path, written(path, model=model)), path, 404, "model_not_found")
        if path in FORMS:
            got = post(gateway, house, path, form_of(path, model=model.encode()), FORM)
            assert_refused(got, path, 404, "model_not_found")
    if path in FORMS:
        assert_refused(post(gateway, house, path, form_of(path), FORM), path, 400, "invalid_request")
    elif not path.startswith(("/v1/messages", "/v1/responses")):
        assert_refused(post(gateway, house, path, written(path)), path, 400, "invalid_request")
    assert_nothing_happened(house, upstream)


def test_a_body_that_is_too_large_is_413_whatever_its_route(gateway: Gateway, house: House) -> None:
    """By what its sender announces: nobody sends 900 megabytes here."""
    for path in (*EVERY, "/v1/chat/completions"):
        announced = "Content-Length: 900000000\r\nExpect: 100-continue"
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as wire:
            wire.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{announced}\r\n\r\n".encode())
            answer = b"".join(iter(lambda: wire.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        error = json.loads(body)["error"]
        assert head.startswith(b"HTTP/1.1 413 ")
        assert error["gatehouse"]["code"] == "request_too_large"
        assert (error["type"] == "request_too_large") == path.startswith("/v1/messages")


def test_a_method_that_the_route_has_not_is_405_and_says_which_it_has(gateway: Gateway, house: House) -> None:
    has = {path: {"POST"} for path in EVERY} | {"/v1/videos": {"GET", "POST"}, "/v1/videos/video_x": {"GET", "DELETE"}}
    has |= {"/v1/responses/resp_x": {"GET", "DELETE"}}
    has |= {path: {"GET"} for path in ("/v1/videos/video_x/content", "/v1/models", "/v1/models/x", "/v1/key")}
    for path, allowed in has.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - allowed:
            got = httpx.request(method, gateway.url + path, headers={"x-api-key": house.key_text}, trust_env=False)
            assert_refused(got, path, 405, "method_not_allowed")
            assert set(got.headers["allow"].split(", ")) - {"HEAD", "OPTIONS"} == allowed


def test_what_is_not_there_is_404(gateway: Gateway, house: House) -> None:
    video = "video_01a1f9ea-0000-7184-97ad-1a1e75ffc990"
    not_there = {
        "response_not_found": ["GET /v1/responses/resp_x", "DELETE /v1/responses/resp_01a1f9ea 7ad", "GET /v1/responses/%00"],
        "video_not_found": [
            "GET /v1/videos/video_x", f"GET /v1/videos/{video}", "DELETE /v1/videos/%00", f"GET /v1/videos/{video}/content",
        ],
        "model_not_found": ["GET /v1/models/gpt-99", "GET /v1/models/%00", "GET /v1/models/a/b/c"],
        "unknown_url": [f"POST {path}/x/y" for path in EVERY],
    }  # fmt: skip
    for code, questions in not_there.items():
        for question in questions:
            method, _, path = question.partition(" ")
            got = httpx.request(
                method, gateway.url + path, headers={"authorization": f"Bearer {house.key_text}"}, trust_env=False
            )
            assert_refused(got, path, 404, code)


def test_a_question_that_makes_no_sense_is_400(gateway: Gateway, house: House) -> None:
    for question in (
        "videos?limit=0", "videos?limit=101", "videos?limit=x", "videos?limit=%D9%A4", "videos?order=up", "videos?after=x",
        "videos?after=%00", "videos/video_x/content?variant=x", "responses/resp_x?stream=true",
    ):  # fmt: skip
        got = httpx.get(f"{gateway.url}/v1/{question}", headers={"authorization": f"Bearer {house.key_text}"}, trust_env=False)
        assert_is_error(got, 400, "invalid_request")


def test_without_a_key_no_body_is_looked_at(gateway: Gateway) -> None:
    for path in EVERY:
        for body in (b"", b"{", b'{"model":"scripted"}'):
            got = httpx.post(gateway.url + path, content=body, trust_env=False)
            assert_refused(got, path, 401, "invalid_api_key", "authentication_error")
