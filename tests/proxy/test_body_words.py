"""What a caller is told of a body that cannot be read: in the words of JSON, not of the language it is read with."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy import route_asking
from proxy.canonical.request import Request
from proxy.errors import BadRequest
from proxy.protocols import chat_completions, embeddings, images, messages, responses, speech, videos

Parse = Callable[[bytes], Request]
READERS: dict[str, Parse] = {
    "chat": chat_completions.parse,
    "messages": messages.parse,
    "responses": responses.parse,
    "embeddings": embeddings.parse,
    "images": images.parse,
    "speech": speech.parse,
    "videos": videos.parse,
}
PYTHON = ("`", "str ", "str,", "int,", "float", "bool,", "array")


def refusal(parse: Parse, body: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as raised:
        parse(body)
    return raised.value


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("value", [b"1", b"1.5", b"true", b"[]", b"{}"])
def test_a_model_is_a_string_and_nothing_else(name: str, value: bytes) -> None:
    given = {b"1": "integer", b"1.5": "number", b"true": "boolean", b"[]": "list", b"{}": "object"}[value]
    error = refusal(READERS[name], b'{"model":%b}' % value)
    assert (error.message, error.param) == (f"model: Expected string, got {given}.", "model")


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("chat", b'{"model":"m","messages":3}', "messages: Expected list, got integer."),
        ("chat", b'{"model":"m","messages":["x"]}', "messages[0]: Expected object, got string."),
        ("chat", b'{"model":"m","messages":[null]}', "messages[0]: Expected object, got null."),
        ("chat", b'{"model":"m","messages":[],"user":3}', "user: Expected string or null, got integer."),
        ("chat", b'{"model":"m","messages":[],"max_tokens":"9"}', "max_tokens: Expected integer or null, got string."),
        ("embeddings", b'{"model":"m","input":{}}', "input: Expected string or list, got object."),
        ("responses", b'{"model":"m","input":7}', "input: Expected string or list, got integer."),
        ("images", b'{"model":"m","prompt":[]}', "prompt: Expected string, got list."),
        ("chat", b"[]", "The request body: Expected object, got list."),
        ("chat", b'"x"', "The request body: Expected object, got string."),
    ],
)
def test_types_are_called_as_json_calls_them(name: str, body: bytes, message: str) -> None:
    error = refusal(READERS[name], body)
    assert error.message == message
    assert not [word for word in PYTHON if word in error.message]


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("body", [b"", b" ", b"\r\n\t"])
def test_an_empty_body_is_called_empty(name: str, body: bytes) -> None:
    assert refusal(READERS[name], body).message == "The request body is empty: JSON is expected."


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{", "it ends in the middle"),
        (b'{"model":"m"', "it ends in the middle"),
        (b'{"model":"m"}x', "trailing characters (byte 14)"),
        (b"{'model':1}", "object keys must be strings (byte 1)"),
    ],
)
def test_what_is_no_json_says_where(body: bytes, why: str) -> None:
    assert refusal(chat_completions.parse, body).message == f"The request body is not valid JSON: {why}."


def test_a_pasted_request_is_told_the_same() -> None:
    with pytest.raises(BadRequest, match="not valid JSON: it ends in the middle"):
        route_asking.body_of('{"messages": [', model="m")
