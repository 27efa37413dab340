"""Members of a request for media, read where another protocol must be told of them: what cannot be said is refused."""

from collections.abc import Collection, Mapping
from typing import Any

from proxy.canonical.request import Request
from proxy.errors import BadRequest
from proxy.protocols.bodies import decoded
from proxy.protocols.forms import Form


def given(
    request: Request, *, read: Collection[str], as_always: Mapping[str, Collection[Any]], files: Collection[str] = ()
) -> dict[str, Any]:
    """Those in `read`, as their meaning; of a form as text. Any other may only ask for what happens anyway (`as_always`).

    `files`: names under which a form may hold files. Raises BadRequest.
    """
    members = _of_form(request, files) if request.form else _of_json(request)
    for name, value in members.items():
        if name not in read and not _is_one_of(value, as_always.get(name, ())):
            raise _cannot_be_told(name)
    return {name: value for name, value in members.items() if name in read}


def _of_json(request: Request) -> dict[str, Any]:
    return {name: value for name, raw in request.fields.items() if (value := decoded(raw)) is not None}


def _of_form(request: Request, files: Collection[str]) -> dict[str, Any]:
    form = Form(request.form, request.headers["content-type"])
    for field in form.fields:
        if field.file_name is not None and field.name not in files:
            raise _cannot_be_told(field.name)
    return {field.name: form.text(field.name) for field in form.fields if field.file_name is None}


def _is_one_of(value: Any, values: Collection[Any]) -> bool:
    """A form says `1` and `false` as text."""
    return value in values or str(value).lower() in [str(one).lower() for one in values]


def _cannot_be_told(name: str) -> BadRequest:
    return BadRequest(f"{name[:60]}: this model's provider cannot be told that.", param=name[:60])


def refuse_stream(request: Request, *, param: str) -> None:
    if request.stream:
        raise BadRequest("This model's provider gives whole answers only, no stream.", param=param)
