"""Bodies of `multipart/form-data`, in which files come: read where the gateway needs them, else passed on byte for byte.

Format: RFC 7578. A form is cut at its boundary once, so a large file costs one search.
"""

import re
from collections.abc import Iterator

import msgspec

from proxy.errors import BadRequest

_BOUNDARY = re.compile(r'multipart/form-data\s*;.*?boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE | re.DOTALL)
# With the lines that go on with it. Who reads line ends more kindly than RFC 7578 finds no other one.
_DISPOSITION = re.compile(rb"(?:^|[\r\n])[ \t]*content-disposition[ \t]*:([^\r\n]*(?:[\r\n]+[ \t][^\r\n]*)*)", re.IGNORECASE)
# Quoted, as most clients write them, or not, as .NET's does; `filename*` is one that is not ASCII (RFC 5987).
_PARAMETER = re.compile(rb'[;\s]([\w-]+\*?)\s*=\s*(?:"([^"\r\n]*)"|([^\s;"]+))')
MAX_FIELD_BYTES = 256 * 1024
# Of a part. Clients write some hundred bytes.
MAX_HEADER_BYTES = 16 * 1024


class Field(msgspec.Struct, frozen=True):
    """One part: `begin` and `end` are where its content stands in the body."""

    name: str
    begin: int
    end: int
    file_name: str | None = None


class Form:
    def __init__(self, body: bytes, content_type: str) -> None:
        """Raises BadRequest for what is no form."""
        found = _BOUNDARY.match(content_type)
        if found is None:
            raise BadRequest("The body must be a form: `content-type: multipart/form-data` with a boundary.")
        self.body = body
        self._delimiter = b"--" + (found[1] or found[2]).encode()
        self.fields = list(_fields(body, self._delimiter))
        self._named: dict[str, list[Field]] = {}
        for one in self.fields:
            self._named.setdefault(one.name, []).append(one)

    def file(self, name: str) -> bytes | None:
        return next((self.body[one.begin : one.end] for one in self._named.get(name, ()) if one.file_name is not None), None)

    def count(self, name: str) -> int:
        return len(self._named.get(name, ()))

    def text(self, name: str) -> str | None:
        """The value of a field that is no file. Raises BadRequest where it is one, or stands there twice."""
        given = self._named.get(name)
        if not given:
            return None
        if len(given) > 1 or given[0].file_name is not None:
            raise BadRequest(f"{name}: must be given once, as text.", param=name)
        field = given[0]
        if field.end - field.begin > MAX_FIELD_BYTES:
            raise BadRequest(f"{name}: the field is too long.", param=name)
        try:
            return self.body[field.begin : field.end].decode()
        except UnicodeDecodeError as error:
            raise BadRequest(f"{name}: not valid UTF-8.", param=name) from error

    def with_text(self, name: str, value: str) -> bytes:
        """The body with another value in every field of that name; with such a field where there is none."""
        written, at = bytearray(), 0
        if self.text(name) is None:
            header = f'\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
            return self._delimiter + header.encode() + value.encode() + b"\r\n" + self.body[self.body.find(self._delimiter) :]
        for field in self.fields:
            if field.name == name and field.file_name is None:
                written += self.body[at : field.begin] + value.encode()
                at = field.end
        return bytes(written + self.body[at:])


def without_boundary(body: bytes, content_type: str) -> bytes:
    """What a form says, whatever boundary its client drew; other bodies as they are. To compare, not to read."""
    found = _BOUNDARY.match(content_type)
    return body if found is None else body.replace(b"--" + (found[1] or found[2]).encode(), b"--")


def _fields(body: bytes, delimiter: bytes) -> Iterator[Field]:
    """Raises BadRequest where the form does not end, or a part has no name or more headers than any client writes."""
    at = body.find(delimiter)
    if at < 0:
        raise BadRequest("The form's boundary stands nowhere in the body.")
    while True:
        begin = at + len(delimiter)
        if body.startswith(b"--", begin):
            return
        headers_end = body.find(b"\r\n\r\n", begin)
        at = body.find(b"\r\n" + delimiter, begin)
        if headers_end < 0 or at < headers_end + 2:
            raise BadRequest("The form breaks off.")
        if headers_end - begin > MAX_HEADER_BYTES:
            raise BadRequest(f"The headers of a part of the form must not be longer than {MAX_HEADER_BYTES:,} bytes.")
        name, file_name = _names(body[begin:headers_end])
        yield Field(name, headers_end + 4, at, file_name)
        at += 2


def _names(headers: bytes) -> tuple[str, str | None]:
    """Of a part's field and file. Raises BadRequest where the field has none, or two: a provider may believe the other."""
    said = b"\n".join(_DISPOSITION.findall(headers))
    found = [(word.lower(), _text(quoted or plain)) for word, quoted, plain in _PARAMETER.findall(said)]
    names = [(word, value) for word, value in found if word in (b"name", b"name*")]
    if len(names) != 1 or names[0][0] != b"name":
        raise BadRequest("A part of the form must have one name.")
    return names[0][1], next((value for word, value in found if word in (b"filename", b"filename*")), None)


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
