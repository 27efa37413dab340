"""Forms with files: read where the gateway must, passed on byte for byte."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadRequest
from proxy.protocols.forms import MAX_HEADER_BYTES, Form, without_boundary

names = st.sampled_from(["mask", "n", "language", "file", "image[]"])
contents = st.binary(max_size=60).filter(lambda content: b"--" not in content)


def form(fields: dict[str, str], files: list[tuple[str, bytes]]) -> tuple[bytes, str]:
    """As a real client encodes it."""
    request = httpx.Request(
        "POST", "http://x", data=fields, files=[(name, ("a.bin", content)) for name, content in files] or {"none": b""}
    )
    return request.read(), request.headers["content-type"]


@given(st.lists(st.tuples(names, contents), max_size=4), st.text(max_size=20), st.text(min_size=1, max_size=20))
def test_only_the_model_changes(files: list[tuple[str, bytes]], prompt: str, model: str) -> None:
    body, content_type = form({"model": "asked", "prompt": prompt}, files)
    written = Form(Form(body, content_type).with_text("model", model), content_type)
    assert written.text("model") == model
    assert written.text("prompt") == prompt
    assert Form(written.with_text("model", "asked"), content_type).body == body
    kept = [written.body[field.begin : field.end] for field in written.fields if field.file_name == "a.bin"]
    assert kept == [content for _, content in files]


@given(st.lists(st.tuples(names, contents), max_size=4), st.text(max_size=20), st.text(max_size=20))
def test_a_form_that_is_sent_again_is_the_same_whatever_its_boundary(
    files: list[tuple[str, bytes]], prompt: str, other: str
) -> None:
    first, again = form({"prompt": prompt}, files), form({"prompt": prompt}, files)
    assert first != again
    assert without_boundary(*first) == without_boundary(*again)
    assert (without_boundary(*first) == without_boundary(*form({"prompt": other}, files))) == (prompt == other)
    assert without_boundary(first[0], "application/json") == first[0]


def test_files_are_found_by_their_field() -> None:
    body, content_type = form({"model": "m"}, [("file", b"sound"), ("image[]", b"1"), ("image[]", b"2")])
    read = Form(body, content_type)
    assert (read.file("file"), read.file("mask"), read.count("image[]")) == (b"sound", None, 2)
    assert read.text("prompt") is None
    with pytest.raises(BadRequest):
        read.text("file")


@pytest.mark.parametrize(
    "disposition",
    [
        b"form-data; name=file; filename=a.mp3; filename*=utf-8''a.mp3",  # .NET
        b"form-data; name=\"file\"; filename*=utf-8''%C3%A9t%C3%A9.mp3",  # urllib3 1
        b'form-data; filename="x; name=y.mp3"; name="file"',
        b'form-data; Name="file"; FileName=""',
        b'form-data; name="file"; filename="a.mp3"\r\nContent-Type: audio/x; codecs="name=1"',
        b'form-data; name="file"; filename="a.mp3"\r\nContent-Type: audio/x; name=a.mp3',  # mail clients' libraries
        b'form-data; name="file"; filename="a.mp3"\r\nX-Note: name="other"; filename*=x',
        b'form-data; filename="a.mp3";\r\n\tname="file"\r\nContent-Type: audio/x',
        b'form-data; filename="a.mp3"; name="file"\r\nX-Content-Disposition: form-data; name="other"',
    ],
)
def test_names_may_be_written_in_every_way_that_clients_do(disposition: bytes) -> None:
    body = b"--x\r\nContent-Disposition: " + disposition + b"\r\n\r\nsound\r\n--x--\r\n"
    assert Form(body, "multipart/form-data; boundary=x").file("file") == b"sound"


@pytest.mark.parametrize(
    "headers",
    [
        b'form-data; name="model"; name="other"',
        b"form-data; name=model; name=other",
        b'form-data; name="model"; name=other',
        b"form-data; name=\"model\"; name*=utf-8''other",
        b"form-data; name*=utf-8''model",
        b'form-data; filename="a\\"; name=model; name="other"',
        b'form-data; filename="a"',
        b'form-data; filename="a"\r\nContent-Type: text/plain; name="model"',
        b'form-data; name="model"\r\nContent-Disposition: form-data; name="other"',
        b'form-data; name="model"\nContent-Disposition : form-data; name="other"',
        b'form-data; name="model"\rContent-Disposition: form-data; name="other"',
        b'form-data; name="model";\r\n name="other"',
        b'form-data; name="model"\r\n Content-Disposition: form-data; name="other"',
    ],
)
def test_a_part_has_one_name(headers: bytes) -> None:
    """Of two, a provider may believe the other."""
    body = b"--x\r\ncontent-disposition: " + headers + b"\r\n\r\nm\r\n--x--\r\n"
    with pytest.raises(BadRequest):
        Form(body, "multipart/form-data; boundary=x")


@pytest.mark.parametrize("filler", [b"a", b"; a=b", b"\r\n\t", b"\r\n c", b"\r\nx: y"])
def test_a_part_has_no_more_headers_than_clients_write(filler: bytes) -> None:
    headers = b'\r\ncontent-disposition: form-data; name="n"; x="' + filler * MAX_HEADER_BYTES
    body = b'--x%b"\r\n\r\nm\r\n--x--\r\n'
    assert Form(body % headers[: MAX_HEADER_BYTES - 1], "multipart/form-data; boundary=x").text("n") == "m"
    with pytest.raises(BadRequest, match="16,384 bytes"):
        Form(body % headers[:MAX_HEADER_BYTES], "multipart/form-data; boundary=x")


def test_a_field_that_is_read_stands_there_once() -> None:
    part = b'--x\r\ncontent-disposition: form-data; name="n"\r\n\r\n%d\r\n'
    with pytest.raises(BadRequest) as raised:
        Form(part % 10 + part % 1 + b"--x--\r\n", "multipart/form-data; boundary=x").text("n")
    assert raised.value.param == "n"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "multipart/form-data; boundary=x"),
        (b"{}", "application/json"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\nabc', "multipart/form-data; boundary=x"),
        (b"--x\r\ncontent-disposition: form-data\r\n\r\nabc\r\n--x--", "multipart/form-data; boundary=x"),
        (b"--x--", "multipart/form-data"),
    ],
)
def test_what_is_no_form_is_refused(body: bytes, content_type: str) -> None:
    with pytest.raises(BadRequest):
        Form(body, content_type)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * 300_000])
def test_a_field_that_is_no_text_is_refused(content: bytes) -> None:
    body = b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\n' + content + b"\r\n--x--\r\n"
    with pytest.raises(BadRequest) as raised:
        Form(body, "multipart/form-data; boundary=x").text("model")
    assert raised.value.param == "model"


def test_a_body_cut_anywhere_is_refused_or_misses_parts_and_never_fails_otherwise() -> None:
    body, content_type = form({"model": "m", "prompt": "p"}, [("file", b"sound")])
    for end in range(len(body) - 4):
        try:
            read = Form(body[:end], content_type)
        except BadRequest:
            continue
        assert len(read.fields) < 3
