"""The errors of every route of OpenAI's but none of its streams'."""

import msgspec

from proxy.errors import ProxyError


def render_error(error: ProxyError, *, request_id: str) -> bytes:
    """`error.gatehouse.code` is always the gateway's own code, even where `error.code` keeps a provider's."""
    gatehouse = {"code": type(error).code, **(error.detail or {}), "request_id": request_id}
    shown = {
        "message": error.message.encode(errors="replace").decode(),
        "type": error.type,
        "param": error.param,
        "code": error.code,
        "gatehouse": gatehouse,
    }
    return msgspec.json.encode({"error": shown})


def render_stream_error(error: ProxyError, *, request_id: str, first: bytes = b"", last: bytes = b"") -> bytes:
    """The last frame of a stream that failed: the SDKs raise on it, and `[DONE]` must never follow."""
    return b"data: " + render_error(error, request_id=request_id) + b"\n\n"
