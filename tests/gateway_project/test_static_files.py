"""Static files through a real web process."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from django.conf import settings
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from whitenoise import WhiteNoise

from gateway_project.lib.static_files import PlainStaticFilesStorage, StaticFilesMiddleware, StaticFilesStorage
from tests.gateways import Gateway


@pytest.fixture
def stylesheet(gateway: Gateway) -> str:
    """The address of the console's own style sheet, hash included, as the sign-in page names it."""
    page = httpx.get(f"{gateway.url}/accounts/login/").text
    found = re.search(r'href="(/static/css/app\.[0-9a-f]+\.css)"', page)
    assert found is not None
    return gateway.url + found.group(1)


def test_a_file_named_by_its_content_may_be_kept_for_ever(stylesheet: str) -> None:
    got = httpx.get(stylesheet)

    assert got.status_code == 200
    assert got.headers["content-type"].startswith("text/css")
    assert "immutable" in got.headers["cache-control"]
    assert int(got.headers["content-length"]) == len(got.content) > 100


def test_a_part_of_a_file_is_answered_as_such(stylesheet: str) -> None:
    got = httpx.get(stylesheet, headers={"range": "bytes=0-9"})

    assert (got.status_code, len(got.content)) == (206, 10)


def test_a_file_that_has_not_changed_is_not_sent_again(stylesheet: str) -> None:
    first = httpx.get(stylesheet)

    again = httpx.get(stylesheet, headers={"if-modified-since": first.headers["last-modified"]})

    assert (again.status_code, again.content) == (304, b"")


def test_serving_files_warns_nobody(gateway: Gateway, stylesheet: str) -> None:
    httpx.get(stylesheet)

    assert "StreamingHttpResponse" not in gateway.logged()


def test_files_are_listed_when_the_first_is_asked_for_and_whoever_asks_meanwhile_waits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a.css").write_text("body {}")
    listed: list[str] = []

    def list_slowly(self: WhiteNoise, root: str, prefix: str) -> None:
        listed.append(prefix)
        time.sleep(0.2)
        update(self, root, prefix)  # type: ignore[no-untyped-call]

    update = WhiteNoise.update_files_dictionary
    monkeypatch.setattr(WhiteNoise, "update_files_dictionary", list_slowly)
    with override_settings(STATIC_ROOT=tmp_path):
        middleware = StaticFilesMiddleware(lambda _: HttpResponse(status=404))
    asked = RequestFactory()
    assert middleware(asked.get("/v1/models")).status_code == 404
    assert listed == []

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: middleware(asked.get("/static/a.css")), range(8)))

    assert {(answer.status_code, answer.content) for answer in answers} == {(200, b"body {}")}
    assert middleware(asked.get("/static/b.css")).status_code == 404
    assert listed == ["/static/"]


@pytest.mark.parametrize("storage", [StaticFilesStorage, PlainStaticFilesStorage])
def test_the_address_of_a_file_is_looked_up_once(tmp_path: Path, storage: type[PlainStaticFilesStorage]) -> None:
    (tmp_path / "staticfiles.json").write_text('{"version": "1.1", "paths": {"a.css": "a.1.css"}, "hash": ""}')
    ours, djangos = (made(location=str(tmp_path), base_url="/files/") for made in (storage, ManifestStaticFilesStorage))

    assert ours.url("a.css") == djangos.url("a.css", force=True) == "/files/a.1.css"
    ours.hashed_files.clear()
    assert ours.url("a.css") == "/files/a.1.css"
    with pytest.raises(ValueError, match="Missing staticfiles manifest entry"):
        ours.url("b.css")


def test_what_a_class_looks_like_is_said_in_one_style_sheet() -> None:
    """Of two parts of pages that take one name, the later would look like the earlier as well."""
    said: dict[str, list[str]] = {}
    for sheet in sorted((settings.BASE_DIR / "static" / "css").glob("*.css")):
        for name in sorted(set(re.findall(r"^(\.gh-[\w-]+) \{", sheet.read_text(), re.MULTILINE))):
            said.setdefault(name, []).append(sheet.name)
    assert len(said) > 100
    assert {name: sheets for name, sheets in said.items() if len(sheets) > 1} == {}
