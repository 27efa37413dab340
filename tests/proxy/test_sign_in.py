"""Signing in at Google and Amazon: key files exchanged for tokens, requests signed, and what is never sent where."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from proxy import own_keys
from proxy.errors import AttemptFailed
from proxy.protocols import converse, gemini
from proxy.providers import google_tokens, registry
from proxy.providers.base import Target, Timeouts
from tests.proxy.conftest import Run
from tests.upstream import HTML, Script, Upstream, answer, refuse, slowly

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
MODEL = "gemini-2.5-flash"


@pytest.fixture(autouse=True)
def _no_tokens_known() -> Iterator[None]:
    google_tokens._tokens.clear()
    yield
    google_tokens._tokens.clear()


def key_file(**members: Any) -> str:
    file = {"type": "service_account", "client_email": "gate@p.example", "private_key": PEM, "private_key_id": "k1"}
    return json.dumps(file | members)


def token(text: str, *, seconds: float = 3600) -> Script:
    body = {"access_token": text, "expires_in": seconds, "token_type": "Bearer"}
    return Script(parts=(json.dumps(body).encode(),))


def host(upstream: Upstream) -> str:
    return upstream.url.removesuffix("/v1")


def vertex(upstream: Upstream, **changes: Any) -> Target:
    options = {"region": "europe-west4", "project": "p-1", "token_uri": f"{host(upstream)}/token"}
    fields: dict[str, Any] = {"base_url": host(upstream), "api_key": key_file(), "options": options}
    return target("vertex", **fields | changes)


def target(kind: str, **fields: Any) -> Target:
    timeouts = Timeouts(connect=2, first_byte=5, idle=5, total=10)
    return Target(1, 1, kind, kind, model=MODEL, **{"base_url": "", "timeouts": timeouts, **fields})


async def call(where: Target, *, path: str = "/models/m:generateContent") -> bytes:
    opened = await registry.provider(where.kind).open(where, path=path, body=b"{}", stream=False)
    try:
        return await opened.body()
    finally:
        await opened.close()


def failure(run: Run, where: Target) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as raised:
        run(call(where))
    return raised.value


# --- Gemini ------------------------------------------------------------------------------------
def test_a_gemini_key_travels_in_googles_header(upstream: Upstream, run: Run) -> None:
    upstream.then(answer())
    run(call(target("gemini", base_url=f"{host(upstream)}/v1beta", api_key="AIza-key-of-ours")))

    received = upstream.received[-1]
    assert received.target == "/v1beta/models/m:generateContent"
    assert received.headers["x-goog-api-key"] == "AIza-key-of-ours"
    assert "authorization" not in received.headers


# --- Vertex AI ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("region", "address"),
    [
        ("europe-west4", "https://europe-west4-aiplatform.googleapis.com/v1/projects/p-1/locations/europe-west4"),
        ("global", "https://aiplatform.googleapis.com/v1/projects/p-1/locations/global"),
    ],
)
def test_vertex_has_the_address_of_its_region_and_project(region: str, address: str) -> None:
    where = target("vertex", options={"region": region, "project": "p-1"})
    path = gemini.path(MODEL, stream=True)
    assert registry.provider("vertex").address(where, path) == (
        f"{address}/publishers/google/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"project": "p"},
        {"region": "evil.example/"},
        {"region": 5},
        {"region": "x", "project": "p/../q"},
        {"region": "x", "project": None},
    ],
)
def test_a_provider_without_its_options_is_not_used(options: dict[str, object]) -> None:
    with pytest.raises(registry.BadOptions, match="needs the option"):
        registry.provider("vertex").configured(options)


def test_the_project_is_that_of_the_key_file_where_no_other_is_named(upstream: Upstream, run: Run) -> None:
    upstream.then(token("ya29.x"), answer())
    options = {"region": "global", "token_uri": f"{host(upstream)}/token"}
    run(call(vertex(upstream, options=options, api_key=key_file(project_id="theirs"))))
    assert upstream.received[-1].target.startswith("/projects/theirs/locations/global/")


@pytest.mark.parametrize("key", ["ya29.given", key_file(), key_file(project_id="a/b")])
def test_without_a_project_nothing_is_sent(upstream: Upstream, run: Run, key: str) -> None:
    assert failure(run, vertex(upstream, options={"region": "global"}, api_key=key)).kind == "auth"
    assert upstream.received == []


def test_an_organisation_s_own_key_file_is_used_in_its_own_project() -> None:
    where = target("vertex", options={"region": "global", "project": "operators"}, api_key=key_file())
    theirs = own_keys.targeted(where, own_keys.OwnKey(1, "vertex", None, key_file(project_id="theirs")))
    assert "/projects/theirs/" in registry.provider("vertex").address(theirs, "/x")
    assert "/projects/operators/" in registry.provider("vertex").address(where, "/x")


def test_a_key_file_is_exchanged_once_for_a_token_that_serves_many_calls(upstream: Upstream, run: Run) -> None:
    upstream.then(slowly(token("ya29.first"), 0.05), *[answer()] * 6)

    async def several() -> None:
        await asyncio.gather(*(call(vertex(upstream)) for _ in range(4)))
        await call(vertex(upstream))

    run(several())
    run(call(vertex(upstream)))

    asked, *calls = upstream.received
    assert (asked.path, asked.headers["content-type"]) == ("/token", "application/x-www-form-urlencoded")
    form = parse_qs(asked.body.decode())
    assert form["grant_type"] == [google_tokens.GRANT]
    claims = jwt.decode(form["assertion"][0], KEY.public_key(), algorithms=["RS256"], audience=f"{host(upstream)}/token")
    assert (claims["iss"], claims["scope"]) == ("gate@p.example", google_tokens.SCOPE)
    assert claims["exp"] - claims["iat"] == 3600
    assert jwt.get_unverified_header(form["assertion"][0])["kid"] == "k1"
    assert len(calls) == 6
    assert {sent.headers["authorization"] for sent in calls} == {"Bearer ya29.first"}


def test_a_token_near_its_end_is_replaced(upstream: Upstream, run: Run) -> None:
    upstream.then(token("ya29.short", seconds=google_tokens.SPARE_SECONDS), answer(), token("ya29.next"), answer())
    run(call(vertex(upstream)))
    run(call(vertex(upstream)))
    assert [sent.headers.get("authorization") for sent in upstream.received] == [
        None,
        "Bearer ya29.short",
        None,
        "Bearer ya29.next",
    ]


def test_a_refused_token_is_not_used_again(upstream: Upstream, run: Run) -> None:
    upstream.then(token("ya29.revoked"), refuse(401), token("ya29.new"), answer())
    assert failure(run, vertex(upstream)).kind == "auth"
    run(call(vertex(upstream)))
    assert upstream.received[-1].headers["authorization"] == "Bearer ya29.new"


def test_who_has_only_the_name_of_an_account_gets_no_token_of_it(upstream: Upstream, run: Run) -> None:
    upstream.then(token("ya29.ours"), answer(), refuse(400))
    run(call(vertex(upstream)))
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    assert failure(run, vertex(upstream, api_key=key_file(private_key=pem))).kind == "auth"
    assert upstream.received[-1].path == "/token"


def test_an_access_token_is_used_as_it_is(upstream: Upstream, run: Run) -> None:
    upstream.then(answer())
    run(call(vertex(upstream, api_key="ya29.given")))
    assert upstream.received[-1].headers["authorization"] == "Bearer ya29.given"
    assert upstream.received[-1].target == "/projects/p-1/locations/europe-west4/publishers/google/models/m:generateContent"


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (Script(status=400, parts=(b'{"error":"invalid_grant","error_description":"Invalid JWT Signature."}',)), "auth"),
        (refuse(401), "auth"),
        (refuse(503), "overloaded"),
        (HTML, "broken"),
        (Script(parts=(b'{"id_token":"x"}',)), "broken"),
    ],
)
def test_a_sign_in_that_fails_is_never_the_caller_s_fault(upstream: Upstream, run: Run, script: Script, kind: str) -> None:
    upstream.then(script)
    assert failure(run, vertex(upstream)).kind == kind
    assert len(upstream.received) == 1


@pytest.mark.parametrize(
    "file", ["{", '{"type":"service_account"}', key_file(private_key="-----BEGIN nothing"), key_file(private_key="")]
)
def test_a_key_file_that_cannot_be_read_is_ours_to_mend(upstream: Upstream, run: Run, file: str) -> None:
    failed = failure(run, vertex(upstream, api_key=file))
    assert failed.kind == "auth"
    assert "BEGIN" not in failed.message
    assert upstream.received == []


@pytest.mark.parametrize(
    "uri",
    [
        "http://169.254.169.254/token",
        "https://oauth2.googleapis.com.evil.example/token",
        "https://user@evil.example/.googleapis.com",
        "http://oauth2.googleapis.com/token",
        "https://oauth2.googleapis.com:8443/token",
        "file:///etc/passwd",
    ],
)
def test_a_key_file_cannot_send_the_gateway_anywhere_but_to_google(upstream: Upstream, run: Run, uri: str) -> None:
    options = {"region": "global", "project": "p-1"}
    failed = failure(run, vertex(upstream, options=options, api_key=key_file(token_uri=uri)))
    assert (failed.kind, "token_uri" in failed.message) == ("auth", True)


# --- Bedrock -----------------------------------------------------------------------------------
BEDROCK_KEY = "AKIDEXAMPLE00000:secret-key-of-ours/+:session-token-of-ours"
ARN = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-pro-v1:0"


def bedrock(upstream: Upstream, **changes: Any) -> Target:
    fields: dict[str, Any] = {"base_url": host(upstream), "api_key": BEDROCK_KEY, "options": {"region": "us-east-1"}}
    return target("bedrock", **fields | changes)


@pytest.mark.parametrize(
    ("region", "domain"), [("eu-central-1", "eu-central-1.amazonaws.com"), ("cn-north-1", "cn-north-1.amazonaws.com.cn")]
)
def test_bedrock_has_the_address_of_its_region(region: str, domain: str) -> None:
    where = target("bedrock", options={"region": region})
    address = registry.provider("bedrock").address(where, converse.path("a.b-v1:0", stream=False))
    assert address == f"https://bedrock-runtime.{domain}/model/a.b-v1:0/converse"


@pytest.mark.parametrize("model", ["amazon.nova-lite-v1:0", ARN, "a b+ü"])
def test_what_arrives_at_bedrock_carries_the_signature_of_just_that(upstream: Upstream, run: Run, model: str) -> None:
    upstream.then(answer())
    run(call(bedrock(upstream), path=converse.path(model, stream=False)))

    received = upstream.received[-1]
    assert received.target == converse.path(model, stream=False)
    assert received.headers["x-amz-security-token"] == "session-token-of-ours"
    assert "secret-key-of-ours" not in str(received.headers)
    again = AWSRequest(
        method="POST",
        url=f"http://{received.headers['host']}{received.target}",
        data=received.body,
        headers={name: received.headers[name] for name in ("content-type", "host", "x-amz-date", "x-amz-security-token")},
    )
    again.context["timestamp"] = received.headers["x-amz-date"]
    signer = SigV4Auth(Credentials(*BEDROCK_KEY.split(":")), "bedrock", "us-east-1")
    signature = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
    assert received.headers["authorization"].endswith(f"Signature={signature}")
    assert "Credential=AKIDEXAMPLE00000/" in received.headers["authorization"]


def test_a_bedrock_api_key_is_a_bearer_token(upstream: Upstream, run: Run) -> None:
    upstream.then(answer())
    run(call(bedrock(upstream, api_key="ABSKexample")))
    assert upstream.received[-1].headers["authorization"] == "Bearer ABSKexample"


@pytest.mark.parametrize("key", ["", ":", "AKID:", ":secret", "AKID:secret:", None])
def test_half_a_key_is_not_sent(upstream: Upstream, run: Run, key: str | None) -> None:
    assert failure(run, bedrock(upstream, api_key=key)).kind == "auth"
    assert upstream.received == []


def test_every_part_of_a_key_is_kept_out_of_messages(upstream: Upstream, run: Run) -> None:
    upstream.then(refuse(500, "The token session-token-of-ours of AKIDEXAMPLE00000 and secret-key-of-ours/+ is odd."))
    assert (
        failure(run, bedrock(upstream)).message
        == "The provider answered 500: The token [redacted] of [redacted] and [redacted] is odd."
    )


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, b'{"message":"max tokens must be positive"}', "bad_request"),
        (403, b'{"Message":"User is not authorized"}', "auth"),
        (404, b'{"message":"no such model"}', "bad_request"),
        (424, b'{"message":"model failed"}', "status"),
        (429, b'{"message":"Too many requests"}', "rate_limited"),
        (503, b'{"message":"busy"}', "overloaded"),
    ],
)
def test_amazons_errors(upstream: Upstream, run: Run, status: int, body: bytes, kind: str) -> None:
    upstream.then(Script(status=status, parts=(body,)))
    failed = failure(run, bedrock(upstream))
    assert (failed.kind, failed.status) == (kind, status)


@pytest.mark.parametrize(
    ("status", "error", "kind", "wait"),
    [
        (400, {"code": 400, "message": "API key not valid.", "details": [{"reason": "API_KEY_INVALID"}]}, "auth", None),
        (400, {"code": 400, "message": "Wrong.", "status": "INVALID_ARGUMENT", "details": "x"}, "bad_request", None),
        (
            429,
            {"code": 429, "message": "Quota.", "details": [{"@type": "x/RetryInfo", "retryDelay": "34.5s"}]},
            "rate_limited",
            34.5,
        ),
        (429, {"code": 429, "message": "Quota.", "details": [{"retryDelay": "soon"}, 5]}, "rate_limited", None),
        (503, {"code": 503, "message": "Overloaded.", "status": "UNAVAILABLE"}, "overloaded", None),
    ],
)
def test_googles_errors(upstream: Upstream, run: Run, status: int, error: dict[str, Any], kind: str, wait: float | None) -> None:
    upstream.then(Script(status=status, parts=(json.dumps({"error": error}).encode(),)))
    failed = failure(run, vertex(upstream, api_key="ya29.given"))
    assert (failed.kind, failed.retry_after) == (kind, wait)
