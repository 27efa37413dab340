"""Everything a caller can send wrong: the right status in OpenAI's shape, never HTML, never a 500, nothing held or charged."""

import json

import httpx
import openai
import pytest

from tests.gateways import Gateway
from tests.house import MESSAGES, House, raw
from tests.upstream import Upstream

GOOD = {"model": "scripted", "messages": MESSAGES}


def assert_is_error(got: httpx.Response, status: int, code: str) -> None:
    assert got.status_code == status, got.text
    assert got.headers["content-type"] == "application/json"
    error = got.json()["error"]
    assert set(error) >= {"message", "type", "code", "param"}
    assert error["message"]
    assert error["gatehouse"]["code"] == code
    assert error["gatehouse"]["request_id"] == got.headers["x-request-id"] == got.headers["request-id"]


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer  x",
        "bearer x",
        "Basic dXNlcjpwYXNz",
        "gh_sk_aaaaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
        "Bearer gh_sk_aaaaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
        "Bearer sk-openai-style-key",
        "Bearer gh_sk_' OR 1=1 --_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "Bearer " + "x" * 5000,
        "Bearer gh_sk_aaaaaaaaaaaa_bbbbbbbbbb bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
        "Bearer \xff\xfe",
        "Bearer Bearer gh_sk_aaaaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    ],
)
@pytest.mark.parametrize("path", ["chat/completions", "models", "key"])
def test_a_missing_or_malformed_key_is_401(gateway: Gateway, house: House, path: str, header: str | None) -> None:
    headers = [] if header is None else [(b"authorization", header.encode("latin-1"))]
    method = "POST" if path == "chat/completions" else "GET"

    got = httpx.request(
        method, f"{gateway.url}/v1/{path}", headers=headers, content=json.dumps(GOOD) if method == "POST" else None
    )

    assert_is_error(got, 401, "invalid_api_key")
    assert got.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"model":"scripted"}',
        b'{"model":"scripted","messages":[]}',
        b'{"model":"scripted","messages":"hello"}',
        b'{"model":"scripted","messages":["hello"]}',
        b'{"model":"scripted","messages":[{"content":"no role"}]}',
        b'{"model":"scripted","messages":[{"role":"king","content":"x"}]}',
        b'{"model":5,"messages":[{"role":"user","content":"x"}]}',
        b'{"model":"","messages":[{"role":"user","content":"x"}]}',
        b'{"messages":[{"role":"user","content":"x"}]}',
        b'{"model":"scripted","messages":[{"role":"user","content":"x"}],"stream":"yes"}',
        b'{"model":"scripted","messages":[{"role":"user","content":"x"}],"max_tokens":"many"}',
        b'{"model":"scripted","messages":[{"role":"user","content":"x"}],"max_tokens":-1}',
        b'{"model":"scripted","messages":[{"role":"user","content":"x"}],"n":0}',
        b'{"model":"scripted","messages":[{"role":"user","content":"x"}],"n":100000}',
        b'{"model":"scripted","messages":[{"role":"user","content":"x"}],"stream_options":7}',
        b"[" * 100_000,
    ],
)
def test_a_malformed_request_is_400(gateway: Gateway, house: House, upstream: Upstream, body: bytes) -> None:
    got = raw(gateway.url, house.key_text, body)

    assert_is_error(got, 400, "invalid_request")
    assert upstream.received == []
    assert house.held() == {}
    assert all(row.charged_nano_usd == 0 for row in house.rows())


def test_an_unknown_model_is_404(gateway: Gateway, house: House) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        house.client(gateway.url).chat.completions.create(model="gpt-99 \x00 ☃", messages=MESSAGES)

    assert caught.value.code == "model_not_found"
    row = house.row_of(caught.value.response.headers["x-request-id"])
    assert (row.status, row.http_status, row.charged_nano_usd) == ("refused", 404, 0)


def test_a_body_of_40_megabytes_is_413(gateway: Gateway, house: House) -> None:
    body = json.dumps({"model": "scripted", "messages": [{"role": "user", "content": "x" * 40_000_000}]}).encode()

    assert_is_error(raw(gateway.url, house.key_text, body), 413, "request_too_large")


def test_a_large_body_within_the_limit_passes(gateway: Gateway, house: House, upstream: Upstream) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 6_000_000}}
    body = json.dumps({"model": "scripted", "messages": [{"role": "user", "content": [picture]}]}).encode()

    assert raw(gateway.url, house.key_text, body).status_code == 200
    assert len(upstream.received[-1].body) > 6_000_000


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_a_wrong_method_is_405_and_says_which_are_right(gateway: Gateway, method: str) -> None:
    got = httpx.request(method, f"{gateway.url}/v1/chat/completions")

    assert_is_error(got, 405, "method_not_allowed")
    assert "POST" in got.headers["allow"]


@pytest.mark.parametrize(
    "path", ["/v1/", "/v1/chat", "/v1/chat/completions/", "/v1/nothing", "/v1/chat/completions/../../x", "/v1/%ff"]
)
def test_an_unknown_path_is_404(gateway: Gateway, path: str) -> None:
    assert_is_error(httpx.post(gateway.url + path, content=b"{}"), 404, "unknown_url")


def test_a_feature_the_key_does_not_declare_is_400(gateway: Gateway, house: House) -> None:
    got = raw(gateway.url, house.key_text, json.dumps(GOOD).encode(), **{"x-gatehouse-feature": "nonsense"})

    assert_is_error(got, 400, "invalid_request")


def test_lone_surrogates_pass_through(gateway: Gateway, house: House, upstream: Upstream) -> None:
    body = b'{"model":"scripted","messages":[{"role":"user","content":"half \\ud83d of a smile"}]}'

    assert raw(gateway.url, house.key_text, body).status_code == 200
    assert b"\\ud83d" in upstream.received[-1].body
