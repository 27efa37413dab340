"""Access tokens of Google's service accounts, which Vertex AI is called with.

An assertion signed by the account's key is exchanged for a token (RFC 7523) that is used until shortly before it ends.
Tokens are kept in memory, by the whole credential: who has half of one gets nothing. Keys are signed with off the event
loop, and of several calls that need a new token one asks for it.
https://developers.google.com/identity/protocols/oauth2/service-account
"""

import asyncio
import re
import time
from collections import defaultdict
from urllib.parse import urlencode, urlsplit

import jwt
import msgspec

from gateway_project.lib.loops import PerLoop
from proxy.errors import AttemptFailed
from proxy.providers import http
from proxy.providers.base import PART_OF_ADDRESS, Target

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_SECONDS = 3600
# A token is not used in the last minutes of its life: a call may be under way for that long before it is judged.
SPARE_SECONDS = 300
MAX_TOKENS = 1000
_GOOGLE = re.compile(r"(?:[a-z0-9-]+\.)+googleapis\.com")


class ServiceAccount(msgspec.Struct, frozen=True):
    """The members of a key file that are needed."""

    client_email: str
    private_key: str
    private_key_id: str = ""
    project_id: str = ""
    token_uri: str = TOKEN_URI


class _Answer(msgspec.Struct):
    access_token: str
    expires_in: float = ASSERTION_SECONDS


class _Token(msgspec.Struct, frozen=True):
    text: str
    # Monotonic.
    expires_at: float


_tokens: dict[str, _Token] = {}
_Locks = defaultdict[str, asyncio.Lock]
_locks: PerLoop[_Locks] = PerLoop(lambda: defaultdict(asyncio.Lock))


async def token(target: Target) -> str:
    """For a key file in `target.api_key`; anything else is a token already. Raises AttemptFailed."""
    credential = target.api_key or ""
    if not _is_key_file(credential):
        return credential
    locks = _locks()
    async with locks[credential]:
        known = _tokens.get(credential)
        if known is None or known.expires_at <= time.monotonic():
            known = await _fetch(target, _account(target))
            _keep(credential, known)
    return known.text


def project(target: Target) -> str:
    """The option's, else the key file's own. Raises AttemptFailed where neither names one."""
    named = target.options.get("project")
    if named is None and _is_key_file(target.api_key or ""):
        named = _account(target).project_id
    if not isinstance(named, str) or not PART_OF_ADDRESS.fullmatch(named):
        raise AttemptFailed("auth", "Neither the provider's options nor its key name a project.")
    return named


def forget(target: Target) -> None:
    """After the token was refused: it may have been revoked before its time."""
    _tokens.pop(target.api_key or "", None)


def _is_key_file(credential: str) -> bool:
    return credential.lstrip().startswith("{")


def _keep(credential: str, new: _Token) -> None:
    if len(_tokens) >= MAX_TOKENS:
        _tokens.pop(next(iter(_tokens)))
    _tokens[credential] = new


def _account(target: Target) -> ServiceAccount:
    try:
        return msgspec.json.decode(target.api_key or "", type=ServiceAccount)
    except msgspec.DecodeError as error:
        raise AttemptFailed("auth", "The gateway's credential is no key file of a service account.") from error


def _token_uri(target: Target, account: ServiceAccount) -> str:
    """The operator's `token_uri` option, else the key file's if it is Google's: a key file may be a tenant's own."""
    chosen = target.options.get("token_uri")
    if isinstance(chosen, str):
        return chosen
    parts = urlsplit(account.token_uri)
    if parts.scheme != "https" or not _GOOGLE.fullmatch(parts.netloc):
        raise AttemptFailed("auth", "The key file's token_uri is not an address of Google's.")
    return account.token_uri


async def _fetch(target: Target, account: ServiceAccount) -> _Token:
    uri = _token_uri(target, account)
    assertion = await asyncio.to_thread(_assertion, account, uri)
    body = urlencode({"grant_type": GRANT, "assertion": assertion}).encode()
    headers = {"content-type": "application/x-www-form-urlencoded"}
    asked = time.monotonic()
    try:
        answer = await http.open(target, url=uri, headers=headers, body=body, stream=False)
        try:
            read = msgspec.json.decode(await answer.body(), type=_Answer)
        finally:
            await answer.close()
    except msgspec.DecodeError as error:
        raise AttemptFailed("broken", "Google's answer to a sign-in is not a token.") from error
    except AttemptFailed as error:
        # What Google says of the assertion is not about the caller's request.
        if error.kind == "bad_request":
            raise AttemptFailed("auth", "The provider refused the gateway's credentials.", status=error.status) from error
        raise
    return _Token(read.access_token, asked + max(0.0, read.expires_in - SPARE_SECONDS))


def _assertion(account: ServiceAccount, uri: str) -> str:
    now = int(time.time())
    claims = {"iss": account.client_email, "scope": SCOPE, "aud": uri, "iat": now, "exp": now + ASSERTION_SECONDS}
    try:
        return jwt.encode(claims, account.private_key, algorithm="RS256", headers={"kid": account.private_key_id})
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise AttemptFailed("auth", "The private key of the service account cannot be read.") from error
