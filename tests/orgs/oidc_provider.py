"""A real OpenID Connect provider on this machine: oauthlib's server behind http.server. `person` is signed in there at once.

What a test wants to be wrong it changes: `claims` go into every ID token last, `signed_by` signs them.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from oauthlib.common import Request
from oauthlib.oauth2.rfc6749.errors import OAuth2Error
from oauthlib.openid import RequestValidator, Server

CLIENT_ID = "gatehouse at acme"
SECRET = "s3cret / with + signs"


class OidcProvider(RequestValidator):  # type: ignore[misc]
    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.person: dict[str, Any] = {}
        self.redirect_uri = ""
        self.key = self.signed_by = ec.generate_private_key(ec.SECP256R1())
        self.kid = "one"
        self.claims: dict[str, Any] = {}
        self.document: dict[str, Any] = {}
        self.email_in_userinfo_only = False
        self.asked: list[str] = []
        self.codes: dict[str, Request] = {}
        self.tokens: set[str] = set()
        self.server = Server(self)

    # --- what it publishes ---
    def described(self) -> dict[str, Any]:
        ends = {"authorization_endpoint": "authorize", "token_endpoint": "token", "userinfo_endpoint": "me", "jwks_uri": "keys"}
        return {"issuer": self.url, **{name: f"{self.url}/{path}" for name, path in ends.items()}, **self.document}

    def published(self) -> dict[str, Any]:
        key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [{**key, "kid": self.kid, "use": "sig", "alg": "ES256"}, {"kty": "oct", "k": "AAAA", "kid": "shared"}]}

    # --- the client ---
    def validate_client_id(self, client_id: str, request: Request, *args: Any, **kwargs: Any) -> bool:
        return client_id == CLIENT_ID

    def authenticate_client(self, request: Request, *args: Any, **kwargs: Any) -> bool:
        request.client = type("Client", (), {"client_id": CLIENT_ID})
        pair = jwt.utils.base64url_decode(request.headers.get("Authorization", "Basic ").split()[1]).decode()
        return pair == "gatehouse+at+acme:s3cret+%2F+with+%2B+signs"

    def validate_redirect_uri(self, client_id: str, redirect_uri: str, request: Request, *args: Any, **kwargs: Any) -> bool:
        return redirect_uri == self.redirect_uri

    def validate_response_type(self, client_id: str, response_type: str, client: Any, request: Request, *args: Any) -> bool:
        return response_type == "code"

    def validate_scopes(self, client_id: str, scopes: list[str], client: Any, request: Request, *args: Any) -> bool:
        return set(scopes) == {"openid", "email", "profile"}

    def validate_grant_type(self, client_id: str, grant_type: str, client: Any, request: Request, *args: Any) -> bool:
        return grant_type == "authorization_code"

    def validate_user_match(self, id_token_hint: str, scopes: list[str], claims: Any, request: Request) -> bool:
        return True

    def is_pkce_required(self, client_id: str, request: Request) -> bool:
        return True

    # --- codes and tokens ---
    def save_authorization_code(self, client_id: str, code: dict[str, str], request: Request, *args: Any, **kwargs: Any) -> None:
        self.codes[code["code"]] = request

    def validate_code(self, client_id: str, code: str, client: Any, request: Request, *args: Any, **kwargs: Any) -> bool:
        asked = self.codes.get(code)
        if asked is None:
            return False
        request.scopes, request.nonce, request.user = asked.scopes, asked.nonce, asked.user
        return True

    def confirm_redirect_uri(self, client_id: str, code: str, redirect_uri: str, client: Any, *args: Any, **kwargs: Any) -> bool:
        return bool(self.codes[code].redirect_uri == redirect_uri)

    def get_code_challenge(self, code: str, request: Request) -> str:
        return str(self.codes[code].code_challenge)

    def get_code_challenge_method(self, code: str, request: Request) -> str:
        return str(self.codes[code].code_challenge_method)

    def get_authorization_code_scopes(self, client_id: str, code: str, redirect_uri: str, request: Request) -> list[str]:
        return cast(list[str], self.codes[code].scopes)

    def get_authorization_code_nonce(self, client_id: str, code: str, redirect_uri: str, request: Request) -> str:
        return str(self.codes[code].nonce)

    def invalidate_authorization_code(self, client_id: str, code: str, request: Request, *args: Any, **kwargs: Any) -> None:
        del self.codes[code]

    def save_bearer_token(self, token: dict[str, Any], request: Request, *args: Any, **kwargs: Any) -> None:
        self.tokens.add(token["access_token"])

    def validate_bearer_token(self, token: str, scopes: list[str], request: Request) -> bool:
        return token in self.tokens

    def get_id_token(self, token: dict[str, Any], token_handler: Any, request: Request) -> None:
        """None: the server makes it, and has it finished below."""

    def finalize_id_token(self, id_token: dict[str, Any], token: Any, token_handler: Any, request: Request) -> str:
        person = {"sub": self.person["sub"]} if self.email_in_userinfo_only else self.person
        claims = {**id_token, "iss": self.url, "exp": int(time.time()) + 300, **person, **self.claims}
        return jwt.encode(claims, self.signed_by, algorithm="ES256", headers={"kid": self.kid})

    def get_userinfo_claims(self, request: Request) -> dict[str, Any]:
        return self.person

    # --- over HTTP ---
    def answer(self, method: str, path: str, headers: dict[str, str], body: str) -> tuple[int, dict[str, str], str]:
        here, uri = urlsplit(path).path, self.url + path
        self.asked.append(here)
        if here == "/.well-known/openid-configuration":
            return 200, {}, json.dumps(self.described())
        if here == "/keys":
            return 200, {}, json.dumps(self.published())
        if here == "/authorize":
            return self._authorized(uri, method, body, headers)
        asked = {"/token": self.server.create_token_response, "/me": self.server.create_userinfo_response}.get(here)
        if asked is None:
            return 404, {}, ""
        found, text, status = asked(uri, method, body, headers)
        return status, found, text

    def _authorized(self, uri: str, method: str, body: str, headers: dict[str, str]) -> tuple[int, dict[str, str], str]:
        try:
            scopes, credentials = self.server.validate_authorization_request(uri, method, body, headers)
        except OAuth2Error as error:
            return 400, {}, str(error)
        found, text, status = self.server.create_authorization_response(
            uri, method, body, headers, scopes=scopes, credentials={**credentials, "user": self.person.get("sub")}
        )
        return status, found, text or ""


class Handler(BaseHTTPRequestHandler):
    provider: OidcProvider

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        status, headers, text = self.provider.answer(self.command, self.path, dict(self.headers), body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    do_POST = do_GET

    def log_message(self, *args: Any) -> None:
        """Nothing: the tests' output is theirs."""


@contextmanager
def running_provider() -> Iterator[OidcProvider]:
    """At an address of its own, from a thread."""
    handler = type("OwnHandler", (Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.provider = OidcProvider(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield handler.provider  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def somebody(email: str, **facts: Any) -> dict[str, Any]:
    return {"sub": secrets.token_hex(8), "email": email, "name": "Mia Moss", **facts}
