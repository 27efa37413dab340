"""Members of a request for media, read where another protocol must be told of them: what cannot be said is refused."""

from collections.abc import Collection, Mapping
from typing import Any

from proxy.canonical.request import Request
from proxy.errors import BadRequest
from proxy.protocols.bodies import decoded


def given(request: Request, *, read: Collection[str], as_always: Mapping[str, Collection[Any]]) -> dict[str, Any]:
    """Those in `read`, as their meaning. Any other may only ask for what happens anyway (`as_always`). Raises BadRequest."""
    members = {name: value for name, raw in request.fields.items() if (value := decoded(raw)) is not None}
    for name, value in members.items():
        if name not in read and value not in as_always.get(name, ()):
            raise BadRequest(f"{name[:60]}: this model's provider cannot be told that.", param=name[:60])
    return {name: value for name, value in members.items() if name in read}


def refuse_stream(request: Request, *, param: str) -> None:
    if request.stream:
        raise BadRequest("This model's provider gives whole answers only, no stream.", param=param)
