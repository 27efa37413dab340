"""`data:` addresses, in which callers send pictures and files: RFC 2397, base64 only."""


def split(url: str) -> tuple[str | None, str | None]:
    """(media type, base64 data) of a data address, (None, None) of any other."""
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return None, None
    return head[5:-7].partition(";")[0] or None, data


def join(media_type: str, data: str) -> str:
    return f"data:{media_type};base64,{data}"
