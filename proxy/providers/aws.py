"""Signing in at Amazon Web Services. botocore is loaded by the first call that needs it: other workers pay nothing."""

import asyncio
import sys

from proxy.errors import AttemptFailed

SERVICE = "bedrock"


async def sign_in(credential: str, *, region: str, url: str, body: bytes) -> dict[str, str]:
    """The headers of one POST of JSON. `credential`: `KEY_ID:SECRET[:SESSION_TOKEN]`, or a Bedrock API key.

    Raises AttemptFailed for what is neither.
    """
    parts = credential.split(":", 2)
    if parts == [credential] and credential:
        return {"authorization": f"Bearer {credential}"}
    if not all(parts):
        raise AttemptFailed("auth", "The gateway's credential is neither KEY_ID:SECRET[:SESSION_TOKEN] nor a Bedrock API key.")
    if "botocore.auth" not in sys.modules:
        await asyncio.to_thread(_load)
    return _signature(parts, region=region, url=url, body=body)


def _load() -> None:
    import botocore.auth  # noqa: F401


def _signature(parts: list[str], *, region: str, url: str, body: bytes) -> dict[str, str]:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest(method="POST", url=url, data=body, headers={"content-type": "application/json"})
    SigV4Auth(Credentials(*parts), SERVICE, region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}
